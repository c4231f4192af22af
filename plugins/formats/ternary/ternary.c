/* ternary.c - weights -1, 0, 1 times a scale per group of d_in (arXiv 2402.17764).
 *
 *     alpha_g = fp16(max(mean |W_g|, 1e-5))      t = clamp(rne(W / alpha_g), +-1)
 *
 * rne rounds half to even, so |W| = alpha/2 gives 0.  A last shorter group has the
 * mean of its own weights.  alpha is rounded to fp16 before it divides: training
 * and inference then see the same trits.  Kernels are fast in groups of 128: of a
 * group_size that is a multiple these are several with equal scales.
 *
 * Encoding ternary2: u = t + 1 in 2 bits.  Tiles of 16 rows; in a tile, a piece of
 * 64 bytes holds 16 k: bits 2j+1:2j of byte 4r + c are u[row r][k = 16 piece + 4j + c].
 * After d_in/16 pieces (d_in padded to 64 with zero trits) come the scales,
 * [group][16] fp16; the tile is padded to 64 bytes.  Field j of a piece is so a
 * 16 x 4 matrix of bytes whose dwords belong to the four activations q[4j..4j+3].  */
#include <chimera/plugin.h>
#include <chimera/kernel.h>
#include <chimera/format.h>
#include <chimera/math.h>

enum { PIECE = 16 };

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t code_bytes(int64_t cols)                 /* of a tile               */
{
    return ceil_div(cols, CHI_ACT_BLOCK) * CHI_ACT_BLOCK * 4;
}

static int64_t tile_bytes(int64_t cols, int64_t group)
{
    return (code_bytes(cols) + ceil_div(cols, group) * CHI_TILE * 2 + 63) / 64 * 64;
}

/* ---- fp16: sign, 5 bits of exponent (bias 15), 10 of mantissa ----------------------- */

static double two_to(int e)                              /* -1022 <= e <= 1023       */
{
    uint64_t u = (uint64_t)(e + 1023) << 52;
    double d;
    memcpy(&d, &u, sizeof d);
    return d;
}

/* x >= 0, rounded to nearest even.  A unit in the last place of x is 2^(e - 10) with
 * e = max(floor(log2 x), -14); dividing by it is exact.  Adding 1.5 * 2^52 rounds to
 * an integer, and a carry into the exponent comes out right by itself.               */
static uint16_t fp16_from(double x)
{
    if (!(x < 65520)) return 0x7c00;                    /* beyond 65504: infinity  */
    int e = -14;
    while (x >= 2 * two_to(e)) e++;
    double ulps = (x * two_to(10 - e) + 6755399441055744.0) - 6755399441055744.0;
    return (uint16_t)((int64_t)ulps + ((int64_t)(e + 14) << 10));
}

static float fp16_to(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    float x = e == 31 ? (m ? NAN : INFINITY)
            : (float)((e ? m + 1024 : m) * two_to((e ? e : 1) - 25));
    return h & 0x8000 ? -x : x;
}

/* ---- quantizer ------------------------------------------------------------------------ */

struct conf { int64_t group_size; };

static int64_t group_of(const void *conf, int64_t cols)
{
    int64_t size = ((const struct conf *)conf)->group_size;
    (void)cols;
    return size % CHI_GROUP ? size : CHI_GROUP;
}

static chi_status check(const struct chi_host *h, const void *conf)
{
    int64_t g = ((const struct conf *)conf)->group_size;
    if (g % CHI_ACT_BLOCK == 0) return CHI_OK;
    return h->fail(h, CHI_ECONF, "group_size = %lld is not a multiple of %d", (long long)g,
                   CHI_ACT_BLOCK);
}

/* Sum of |w| in double: 8 partial sums in fixed places; not finite if a weight is not */
static double sum_abs(const float *w, int64_t n)
{
    double lane[8] = { 0 };
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) lane[j] += (double)fabsf(w[i + j]);
    for (int j = 0; i + j < n; j++) lane[j] += (double)fabsf(w[i + j]);
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static chi_status quantize(const void *conf, const float *w, int64_t rows, int64_t cols,
                           int8_t *q, float *scale)
{
    int64_t size = ((const struct conf *)conf)->group_size, group = group_of(conf, cols);
    int64_t groups = ceil_div(cols, group);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k0 = 0; k0 < cols; k0 += size) {
            int64_t n = cols - k0 < size ? cols - k0 : size;
            const float *wg = w + r * cols + k0;
            int8_t *qg = q + r * cols + k0;
            double mean = sum_abs(wg, n) / (double)n;
            if (!isfinite(mean)) return CHI_ENUMERIC;
            float alpha = fp16_to(fp16_from(mean > 1e-5 ? mean : 1e-5));
            if (isinf(alpha)) return CHI_ENUMERIC;
            for (int64_t k = k0; k < k0 + n; k += group) scale[r * groups + k / group] = alpha;
            for (int64_t k = 0; k < n; k++) {           /* rne(x) >= 1 is x > 1/2   */
                float x = wg[k] / alpha;
                qg[k] = (int8_t)((x > 0.5f) - (x < -0.5f));
            }
        }
    return CHI_OK;
}

/* ---- encoding -------------------------------------------------------------------------- */

static int64_t bytes(int64_t rows, int64_t cols, int64_t group)
{
    if (group <= 0 || (group % CHI_ACT_BLOCK && group < cols)) return 0;
    return ceil_div(rows, CHI_TILE) * tile_bytes(cols, group);
}

static bool holds(const int8_t *q, const float *scale, int64_t rows, int64_t cols, int64_t group)
{
    for (int64_t i = 0; i < rows * cols; i++)
        if (q[i] < -1 || q[i] > 1) return false;
    for (int64_t i = 0; i < rows * ceil_div(cols, group); i++) {
        uint16_t h = fp16_from((double)fabsf(scale[i]));
        if (h >= 0x7c00 || chi_bits(fp16_to(h)) != chi_bits(fabsf(scale[i]))) return false;
    }
    return true;
}

static uint8_t code(const int8_t *q, int64_t k, int64_t cols)
{
    return q && k < cols ? (uint8_t)(q[k] + 1) : 1;
}

/* One row of a tile: q NULL is a padded row                                            */
static void encode_row(uint8_t *tile, int64_t lane, const int8_t *q, const float *scale,
                       int64_t cols, int64_t group)
{
    for (int64_t piece = 0; piece * 64 < code_bytes(cols); piece++)
        for (int64_t c = 0; c < 4; c++) {
            int64_t k = piece * PIECE + c;
            tile[piece * 64 + lane * 4 + c] =
                (uint8_t)(code(q, k, cols) | code(q, k + 4, cols) << 2
                          | code(q, k + 8, cols) << 4 | code(q, k + 12, cols) << 6);
        }
    for (int64_t g = 0; g < ceil_div(cols, group); g++) {
        float s = q ? scale[g] : 0;
        uint16_t h = (uint16_t)(fp16_from((double)fabsf(s)) | (signbit(s) ? 0x8000 : 0));
        memcpy(tile + code_bytes(cols) + (g * CHI_TILE + lane) * 2, &h, 2);
    }
}

static void encode(void *out, const int8_t *q, const float *scale, int64_t rows, int64_t cols,
                   int64_t group, int64_t r0, int64_t r1)
{
    int64_t size = tile_bytes(cols, group), groups = ceil_div(cols, group);
    int64_t end = r1 == rows ? ceil_div(rows, CHI_TILE) * CHI_TILE : r1;
    int64_t used = code_bytes(cols) + groups * CHI_TILE * 2;
    for (int64_t r = r0; r < end; r++) {
        uint8_t *tile = (uint8_t *)out + r / CHI_TILE * size;
        if (r % CHI_TILE == 0) memset(tile + used, 0, (size_t)(size - used));
        if (r < r1)
            encode_row(tile, r % CHI_TILE, q + (r - r0) * cols, scale + (r - r0) * groups, cols,
                       group);
        else
            encode_row(tile, r % CHI_TILE, NULL, NULL, cols, group);
    }
}

static int trit(const uint8_t *tile, int64_t lane, int64_t k)
{
    int byte = tile[k / PIECE * 64 + lane * 4 + k % 4];
    return (byte >> (k % PIECE / 4 * 2) & 3) - 1;
}

static float tile_scale(const uint8_t *tile, int64_t lane, int64_t g, int64_t cols)
{
    uint16_t h;
    memcpy(&h, tile + code_bytes(cols) + (g * CHI_TILE + lane) * 2, 2);
    return fp16_to(h);
}

/* Code 3, which encode() never makes, comes out as 2: whoever reads strange bytes
 * can refuse them.                                                                     */
static void decode(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols,
                   int64_t group, int64_t r0, int64_t r1)
{
    (void)rows;
    int64_t groups = ceil_div(cols, group);
    for (int64_t r = r0; r < r1; r++) {
        const uint8_t *tile = (const uint8_t *)in + r / CHI_TILE * tile_bytes(cols, group);
        int64_t lane = r % CHI_TILE;
        for (int64_t k = 0; k < cols; k++) q[(r - r0) * cols + k] = (int8_t)trit(tile, lane, k);
        for (int64_t g = 0; g < groups; g++)
            scale[(r - r0) * groups + g] = tile_scale(tile, lane, g, cols);
    }
}

/* ---- y = sum over groups of alpha * sum over blocks of (sum of t q) step --------------- */

static float product(const uint8_t *tile, int64_t lane, const int8_t *q, const float *step,
                     int64_t cols, int64_t group)
{
    float y = 0;
    for (int64_t g = 0; g * group < cols; g++) {
        float p = 0;
        int64_t end = (g + 1) * group < cols ? (g + 1) * group : cols;
        for (int64_t k0 = g * group; k0 < end; k0 += CHI_ACT_BLOCK) {
            int32_t sum = 0;
            for (int64_t k = k0; k < k0 + CHI_ACT_BLOCK; k++) sum += trit(tile, lane, k) * q[k];
            p += (float)sum * step[k0 / CHI_ACT_BLOCK];
        }
        y += tile_scale(tile, lane, g, cols) * p;
    }
    return y;
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                int64_t o0, int64_t o1, void *scratch)
{
    (void)scratch;
    int64_t size = tile_bytes(m->d_in, m->group);
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t o = o0; o < o1; o++)
            y[r * ldy + o - o0] =
                product((const uint8_t *)m->bytes + o / CHI_TILE * size, o % CHI_TILE,
                        a->q + r * a->ldq, a->step + r * (a->ldq / CHI_ACT_BLOCK), m->d_in,
                        m->group);
}

/* ---- tables -------------------------------------------------------------------------------- */

static const struct chi_linear_kernel kernel = {
    .struct_size = sizeof kernel, .encoding = "ternary2", .integer = true, .run = run,
};
static const struct chi_encoding_ops encoding_ops = {
    .struct_size = sizeof encoding_ops, .values = "ternary", .bytes = bytes, .encode = encode,
    .decode = decode, .portable = &kernel, .holds = holds,
};
static const struct chi_quantizer_ops quantizer_ops = {
    .struct_size = sizeof quantizer_ops, .values = "ternary", .group = group_of,
    .quantize = quantize,
};

static const struct chi_option options[] = {
    CHI_INT(struct conf, group_size, "128", 64, 65536,
            "weights along a row that share a scale, a multiple of 64; of 128 to be fast",
            CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};
static const struct chi_component
    quantizer = { .struct_size = sizeof quantizer, .kind = CHI_QUANTIZER, .name = "ternary",
                  .revision = 1, .summary = "weights -1, 0, 1 times a scale per group",
                  .papers = "2402.17764", .options = options,
                  .conf_size = sizeof(struct conf), .check = check, .ops = &quantizer_ops },
    encoding = { .struct_size = sizeof encoding, .kind = CHI_ENCODING, .name = "ternary2",
                 .revision = 1, .summary = "2 bits a weight, 16 rows side by side",
                 .ops = &encoding_ops };

CHI_PLUGIN(ternary, .version = "1.0", .license = "MIT", .summary = "ternary weights",
           .components = CHI_COMPONENTS(&quantizer, &encoding));
