/* int8.c - weights in 8 bits with one scale per row.
 *
 *     scale_o = max_k |w[o,k]| / 127       q[o,k] = clamp(rne(w[o,k] / scale_o), +-127)
 *
 * rne rounds half to even.  -128 never occurs, so that |q| fits 7 bits, which is
 * what an unsigned x signed byte product (vpmaddubsw) of |q| and a signed
 * activation needs: 2 * 127 * 127 < 2^15.
 *
 * In memory (K = d_in rounded up to 64): tiles of 16 rows; a tile has K/4 pieces of
 * 64 bytes, byte 4r + c of piece s is q[row r][k = 4s + c], then 16 float scales.  */
#include <chimera/plugin.h>
#include <chimera/kernel.h>
#include <chimera/format.h>
#include <chimera/math.h>

static int64_t tiles(int64_t rows)
{
    return (rows + CHI_TILE - 1) / CHI_TILE;
}

static int64_t padded(int64_t cols)
{
    return (cols + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK * CHI_ACT_BLOCK;
}

static int64_t tile_bytes(int64_t cols)
{
    return (padded(cols) + 4) * CHI_TILE;
}

/* Half to even without libm: |x| < 2^22, so x + 1.5 * 2^23 has no bits below 1     */
static float rne(float x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

/* ---- quantizer -------------------------------------------------------------------- */

static int64_t whole_row(const void *conf, int64_t cols)
{
    (void)conf;
    return cols;
}

static chi_status quantize(const void *conf, const float *w, int64_t rows, int64_t cols,
                           int8_t *q, float *scale)
{
    (void)conf;
    bool finite = true;
    for (int64_t r = 0; r < rows; r++) {
        const float *row = w + r * cols;
        float max = 0;
        for (int64_t k = 0; k < cols; k++) {
            finite &= (chi_bits(row[k]) & 0x7f800000u) != 0x7f800000u;
            max = fabsf(row[k]) > max ? fabsf(row[k]) : max;
        }
        float s = scale[r] = max / 127.0f;
        for (int64_t k = 0; k < cols; k++) {
            float x = s > 0 ? row[k] / s : 0;
            q[r * cols + k] = (int8_t)rne(x > 127 ? 127 : x > -127 ? x : -127);
        }
    }
    return finite ? CHI_OK : CHI_ENUMERIC;
}

/* ---- encoding ----------------------------------------------------------------------- */

static int64_t bytes(int64_t rows, int64_t cols, int64_t group)
{
    return group >= cols ? tiles(rows) * tile_bytes(cols) : 0;
}

static int64_t place(int64_t r, int64_t k)              /* inside the tile of row r    */
{
    return k / 4 * 64 + r % CHI_TILE * 4 + k % 4;
}

static void encode(void *out, const int8_t *q, const float *scale, int64_t rows, int64_t cols,
                   int64_t group, int64_t r0, int64_t r1)
{
    (void)group;
    int64_t end = r1 == rows ? tiles(rows) * CHI_TILE : r1;
    for (int64_t r = r0; r < end; r++) {
        int8_t *tile = (int8_t *)out + r / CHI_TILE * tile_bytes(cols);
        for (int64_t k = 0; k < padded(cols); k++)
            tile[place(r, k)] = r < r1 && k < cols ? q[(r - r0) * cols + k] : 0;
        float s = r < r1 ? scale[r - r0] : 0;
        memcpy(tile + (padded(cols) + r % CHI_TILE / 4) * CHI_TILE + r % 4 * 4, &s, 4);
    }
}

static float row_scale(const int8_t *tile, int64_t r, int64_t cols)
{
    float s;
    memcpy(&s, tile + padded(cols) * CHI_TILE + r % CHI_TILE * 4, 4);
    return s;
}

static void decode(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols,
                   int64_t group, int64_t r0, int64_t r1)
{
    (void)rows, (void)group;
    for (int64_t r = r0; r < r1; r++) {
        const int8_t *tile = (const int8_t *)in + r / CHI_TILE * tile_bytes(cols);
        for (int64_t k = 0; k < cols; k++) q[(r - r0) * cols + k] = tile[place(r, k)];
        scale[r - r0] = row_scale(tile, r, cols);
    }
}

/* ---- y[r,o] = scale_o * sum over blocks of (sum of q_w q_x in the block) step --------- */

static float product(const int8_t *tile, int64_t o, const int8_t *q, const float *step,
                     int64_t cols)
{
    float p = 0;
    for (int64_t b = 0; b * CHI_ACT_BLOCK < cols; b++) {
        int32_t sum = 0;
        for (int64_t k = b * CHI_ACT_BLOCK; k < (b + 1) * CHI_ACT_BLOCK; k++)
            sum += tile[place(o, k)] * q[k];
        p += (float)sum * step[b];
    }
    return 0 + row_scale(tile, o, cols) * p;
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                int64_t o0, int64_t o1, void *scratch)
{
    (void)scratch;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t o = o0; o < o1; o++)
            y[r * ldy + o - o0] =
                product((const int8_t *)m->bytes + o / CHI_TILE * tile_bytes(m->d_in), o,
                        a->q + r * a->ldq, a->step + r * (a->ldq / CHI_ACT_BLOCK), m->d_in);
}

/* ---- tables ------------------------------------------------------------------------------ */

static const struct chi_linear_kernel kernel = {
    .struct_size = sizeof kernel, .encoding = "int8", .integer = true, .run = run,
};
static const struct chi_encoding_ops encoding_ops = {
    .struct_size = sizeof encoding_ops, .values = "int8", .bytes = bytes, .encode = encode,
    .decode = decode, .portable = &kernel,
};
static const struct chi_quantizer_ops quantizer_ops = {
    .struct_size = sizeof quantizer_ops, .values = "int8", .group = whole_row,
    .quantize = quantize,
};

static const struct chi_component
    quantizer = { .struct_size = sizeof quantizer, .kind = CHI_QUANTIZER, .name = "int8",
                  .revision = 1, .summary = "8-bit weights, a scale per row",
                  .ops = &quantizer_ops },
    encoding = { .struct_size = sizeof encoding, .kind = CHI_ENCODING, .name = "int8",
                 .revision = 1, .summary = "1 byte a weight, 16 rows side by side",
                 .ops = &encoding_ops };

CHI_PLUGIN(int8, .version = "1.0", .license = "MIT", .summary = "8-bit weights",
           .components = CHI_COMPONENTS(&quantizer, &encoding));
