/* floats.c - matrices of float: quantizers f32 and bf16, encodings f32 and bf16.
 *
 * f32 keeps the master as it is; bf16 keeps its upper 16 bits, rounded to the
 * nearest even.  Both classes have one "scale" per weight and no integers.
 *
 * In memory 16 rows lie side by side: tile t holds rows 16t .. 16t+15, and in it
 * the 16 values of column k are neighbours.  A vector unit so adds 8 or 16 outputs
 * at once, each along its own chain over k, and reads the bytes in order.        */
#include <chimera/plugin.h>
#include <chimera/kernel.h>
#include <chimera/format.h>
#include <chimera/math.h>

static int64_t tiles(int64_t rows)
{
    return (rows + CHI_TILE - 1) / CHI_TILE;
}

/* ---- bf16: sign, 8 bits of exponent, 7 of mantissa ---------------------------- */

static uint16_t bf16_from(float f)
{
    uint32_t u = chi_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);  /* NaN */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static float bf16_to(uint16_t h)
{
    return chi_float((uint32_t)h << 16);
}

static bool finite_bits(float f)
{
    return (chi_bits(f) & 0x7f800000u) != 0x7f800000u;
}

/* ---- quantizers ---------------------------------------------------------------- */

static int64_t group_one(const void *conf, int64_t cols)
{
    (void)conf, (void)cols;
    return 1;
}

static chi_status quantize_f32(const void *conf, const float *w, int64_t rows, int64_t cols,
                               int8_t *q, float *scale)
{
    (void)conf, (void)q;
    bool ok = true;
    for (int64_t i = 0; i < rows * cols; i++) {
        ok &= finite_bits(w[i]);
        scale[i] = w[i];
    }
    return ok ? CHI_OK : CHI_ENUMERIC;
}

/* A finite weight above the largest bf16 (3.39e38) rounds to infinity: refused.   */
static chi_status quantize_bf16(const void *conf, const float *w, int64_t rows, int64_t cols,
                                int8_t *q, float *scale)
{
    (void)conf, (void)q;
    bool ok = true;
    for (int64_t i = 0; i < rows * cols; i++) {
        scale[i] = bf16_to(bf16_from(w[i]));
        ok &= finite_bits(scale[i]);
    }
    return ok ? CHI_OK : CHI_ENUMERIC;
}

/* ---- encodings: [tile][k][16], padded rows are 0 -------------------------------- */

static int64_t bytes_f32(int64_t rows, int64_t cols, int64_t group)
{
    return group == 1 ? tiles(rows) * cols * CHI_TILE * 4 : 0;
}

static int64_t bytes_bf16(int64_t rows, int64_t cols, int64_t group)
{
    return group == 1 ? (tiles(rows) * cols * CHI_TILE * 2 + 63) / 64 * 64 : 0;
}

/* Where the value of (row r, column k) lies                                       */
static int64_t place(int64_t r, int64_t k, int64_t cols)
{
    return (r / CHI_TILE * cols + k) * CHI_TILE + r % CHI_TILE;
}

static int64_t padded_end(int64_t r1, int64_t rows)
{
    return r1 == rows ? tiles(rows) * CHI_TILE : r1;
}

static void encode_f32(void *out, const int8_t *q, const float *scale, int64_t rows,
                       int64_t cols, int64_t group, int64_t r0, int64_t r1)
{
    (void)q, (void)group;
    float *w = out;
    for (int64_t r = r0; r < padded_end(r1, rows); r++)
        for (int64_t k = 0; k < cols; k++)
            w[place(r, k, cols)] = r < r1 ? scale[(r - r0) * cols + k] : 0;
}

static void decode_f32(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols,
                       int64_t group, int64_t r0, int64_t r1)
{
    (void)q, (void)rows, (void)group;
    const float *w = in;
    for (int64_t r = r0; r < r1; r++)
        for (int64_t k = 0; k < cols; k++) scale[(r - r0) * cols + k] = w[place(r, k, cols)];
}

static void encode_bf16(void *out, const int8_t *q, const float *scale, int64_t rows,
                        int64_t cols, int64_t group, int64_t r0, int64_t r1)
{
    (void)q, (void)group;
    uint16_t *w = out;
    int64_t end = padded_end(r1, rows);
    for (int64_t r = r0; r < end; r++)
        for (int64_t k = 0; k < cols; k++)
            w[place(r, k, cols)] = r < r1 ? bf16_from(scale[(r - r0) * cols + k]) : 0;
    if (r1 == rows)                             /* up to the multiple of 64 bytes  */
        for (int64_t i = end * cols; i < bytes_bf16(rows, cols, 1) / 2; i++) w[i] = 0;
}

static void decode_bf16(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols,
                        int64_t group, int64_t r0, int64_t r1)
{
    (void)q, (void)rows, (void)group;
    const uint16_t *w = in;
    for (int64_t r = r0; r < r1; r++)
        for (int64_t k = 0; k < cols; k++)
            scale[(r - r0) * cols + k] = bf16_to(w[place(r, k, cols)]);
}

/* ---- y[r,o] = sum over k of W[o,k] x[r,k]: one chain per output ------------------ */

static void run_f32(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                    int64_t o0, int64_t o1, void *scratch)
{
    (void)scratch;
    const float *w = m->bytes;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t o = o0; o < o1; o += CHI_TILE) {
            float sum[CHI_TILE] = { 0 };
            for (int64_t k = 0; k < m->d_in; k++)
                for (int64_t i = 0; i < CHI_TILE; i++)
                    sum[i] += w[place(o, k, m->d_in) + i] * a->x[r * a->ldx + k];
            for (int64_t i = 0; i < CHI_TILE && o + i < o1; i++) y[r * ldy + o - o0 + i] = sum[i];
        }
}

static void run_bf16(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                     int64_t o0, int64_t o1, void *scratch)
{
    (void)scratch;
    const uint16_t *w = m->bytes;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t o = o0; o < o1; o += CHI_TILE) {
            float sum[CHI_TILE] = { 0 };
            for (int64_t k = 0; k < m->d_in; k++)
                for (int64_t i = 0; i < CHI_TILE; i++)
                    sum[i] += bf16_to(w[place(o, k, m->d_in) + i]) * a->x[r * a->ldx + k];
            for (int64_t i = 0; i < CHI_TILE && o + i < o1; i++) y[r * ldy + o - o0 + i] = sum[i];
        }
}

/* ---- tables ---------------------------------------------------------------------- */

static const struct chi_linear_kernel kernel_f32 = {
    .struct_size = sizeof kernel_f32, .encoding = "f32", .group = 1, .run = run_f32,
};
static const struct chi_linear_kernel kernel_bf16 = {
    .struct_size = sizeof kernel_bf16, .encoding = "bf16", .group = 1, .run = run_bf16,
};
static const struct chi_encoding_ops encoding_f32 = {
    .struct_size = sizeof encoding_f32, .values = "f32", .bytes = bytes_f32,
    .encode = encode_f32, .decode = decode_f32, .portable = &kernel_f32,
};
static const struct chi_encoding_ops encoding_bf16 = {
    .struct_size = sizeof encoding_bf16, .values = "bf16", .bytes = bytes_bf16,
    .encode = encode_bf16, .decode = decode_bf16, .portable = &kernel_bf16,
};
static const struct chi_quantizer_ops quantizer_f32 = {
    .struct_size = sizeof quantizer_f32, .values = "f32", .group = group_one,
    .quantize = quantize_f32,
};
static const struct chi_quantizer_ops quantizer_bf16 = {
    .struct_size = sizeof quantizer_bf16, .values = "bf16", .group = group_one,
    .quantize = quantize_bf16,
};

static const struct chi_component
    f32_values = { .struct_size = sizeof f32_values, .kind = CHI_QUANTIZER, .name = "f32",
                   .revision = 1, .summary = "weights as they were trained",
                   .ops = &quantizer_f32 },
    bf16_values = { .struct_size = sizeof bf16_values, .kind = CHI_QUANTIZER, .name = "bf16",
                    .revision = 1, .summary = "weights rounded to 8 bits of mantissa",
                    .ops = &quantizer_bf16 },
    f32_bytes = { .struct_size = sizeof f32_bytes, .kind = CHI_ENCODING, .name = "f32",
                  .revision = 1, .summary = "4 bytes a weight", .ops = &encoding_f32 },
    bf16_bytes = { .struct_size = sizeof bf16_bytes, .kind = CHI_ENCODING, .name = "bf16",
                   .revision = 1, .summary = "2 bytes a weight", .ops = &encoding_bf16 };

CHI_PLUGIN(floats, .version = "1.0", .license = "MIT",
           .summary = "float weights, 32 or 16 bits",
           .components = CHI_COMPONENTS(&f32_values, &bf16_values, &f32_bytes, &bf16_bytes));
