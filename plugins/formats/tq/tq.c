/* tq.c - the blocks TQ1_0 and TQ2_0 of llama.cpp (github.com/ggml-org/llama.cpp, ggml-common.h), byte by byte.
 *
 * A block is 256 k of one row with one scale d in fp16 at its end; u = t + 1.  Row follows row.
 *
 *   TQ2_0, 66 bytes    byte 32h + m has k = 128h + m + 32n in bits 2n+1:2n, n = 0..3
 *   TQ1_0, 54 bytes    byte m < 32 has u of k = m + 32n, byte 32 + m (m < 16) of k = 160 + m + 16n, n = 0..4,
 *                      byte 48 + m (m < 4) of k = 240 + m + 4n, n = 0..3, as the digits of
 *                      v = sum u_n 3^(4-n), stored as ceil(256 v / 243)
 *
 * The top of the fraction b/256 is then digit 0: digit n is floor(3 ((b 3^n) mod 256) / 256), exact for all
 * 243 values.  One scale a block means that the encodings hold a matrix only if d_in is a multiple of 256 and
 * all groups that lie in a block have the same scale.                                                */
#include <chimera/plugin.h>

#include "../shared/trits.h"

enum { BLOCK = 256, TQ1_CODES = 52, TQ2_CODES = 64 };

static int64_t row_bytes(int64_t cols, int64_t codes)
{
    return cols / BLOCK * (codes + 2);
}

static int64_t bytes(int64_t rows, int64_t cols, int64_t group, int64_t codes)
{
    if (cols % BLOCK || group <= 0 || (group % CHI_ACT_BLOCK && group < cols)) return 0;
    return round_up(rows * row_bytes(cols, codes), 64);
}

/* Groups of different size overlap a block each in their own way: compare with the first group in it  */
static bool one_scale(const float *scale, int64_t cols, int64_t group)
{
    for (int64_t k = 0; k < cols; k += BLOCK)
        for (int64_t g = k / group; g * group < k + BLOCK && g * group < cols; g++)
            if (chi_bits(scale[g]) != chi_bits(scale[k / group])) return false;
    return true;
}

static bool holds(const int8_t *q, const float *scale, int64_t rows, int64_t cols, int64_t group)
{
    int64_t groups = ceil_div(cols, group);
    for (int64_t i = 0; i < rows * cols; i++)
        if (q[i] < -1 || q[i] > 1) return false;
    for (int64_t i = 0; i < rows * groups; i++)
        if (!half_holds(scale[i])) return false;
    for (int64_t r = 0; r < rows; r++)
        if (!one_scale(scale + r * groups, cols, group)) return false;
    return true;
}

/* ---- the codes of a block ------------------------------------------------------------------------------ */

static const uint16_t power[5] = { 1, 3, 9, 27, 81 };

/* k of digit n of code byte m; -1: there is none                                                      */
static int tq1_k(int m, int n)
{
    if (m < 32) return m + 32 * n;
    if (m < 48) return 160 + (m - 32) + 16 * n;
    return n < 4 ? 240 + (m - 48) + 4 * n : -1;
}

static void tq1_pack(uint8_t *to, const int8_t *t)
{
    for (int m = 0; m < TQ1_CODES; m++) {
        int v = 0;
        for (int n = 0; n < 5; n++) v = 3 * v + (tq1_k(m, n) >= 0 ? t[tq1_k(m, n)] + 1 : 0);
        to[m] = (uint8_t)((256 * v + 242) / 243);
    }
}

static void tq1_unpack(const uint8_t *from, int8_t *t)
{
    for (int m = 0; m < TQ1_CODES; m++)
        for (int n = 0; n < 5; n++) {
            int top = from[m] * power[n] & 255, k = tq1_k(m, n);
            if (k >= 0) t[k] = (int8_t)((3 * top >> 8) - 1);
        }
}

static void tq2_pack(uint8_t *to, const int8_t *t)
{
    for (int m = 0; m < TQ2_CODES; m++) {
        const int8_t *first = t + m / 32 * 128 + m % 32;
        int code = 0;
        for (int n = 0; n < 4; n++) code |= (first[32 * n] + 1) << 2 * n;
        to[m] = (uint8_t)code;
    }
}

/* Code 3, which nobody writes, comes out as 2: whoever reads strange bytes can refuse them             */
static void tq2_unpack(const uint8_t *from, int8_t *t)
{
    for (int m = 0; m < TQ2_CODES; m++)
        for (int n = 0; n < 4; n++)
            t[m / 32 * 128 + m % 32 + 32 * n] = (int8_t)((from[m] >> 2 * n & 3) - 1);
}

/* ---- rows -------------------------------------------------------------------------------------------- */

static void encode(void *out, const int8_t *q, const float *scale, int64_t rows, int64_t cols, int64_t group,
                   int64_t r0, int64_t r1, int64_t codes, void (*pack)(uint8_t *, const int8_t *))
{
    int64_t groups = ceil_div(cols, group), size = row_bytes(cols, codes);
    for (int64_t r = r0; r < r1; r++)
        for (int64_t b = 0; b < cols / BLOCK; b++) {
            uint8_t *block = (uint8_t *)out + r * size + b * (codes + 2);
            uint16_t d = half_from(scale[(r - r0) * groups + b * BLOCK / group]);
            pack(block, q + (r - r0) * cols + b * BLOCK);
            memcpy(block + codes, &d, 2);
        }
    if (r1 == rows)
        memset((uint8_t *)out + rows * size, 0, (size_t)(bytes(rows, cols, group, codes) - rows * size));
}

static void decode(const void *in, int8_t *q, float *scale, int64_t cols, int64_t group, int64_t r0,
                   int64_t r1, int64_t codes, void (*unpack)(const uint8_t *, int8_t *))
{
    int64_t groups = ceil_div(cols, group), size = row_bytes(cols, codes);
    for (int64_t r = r0; r < r1; r++) {
        const uint8_t *row = (const uint8_t *)in + r * size;
        for (int64_t b = 0; b < cols / BLOCK; b++)
            unpack(row + b * (codes + 2), q + (r - r0) * cols + b * BLOCK);
        for (int64_t g = 0; g < groups; g++) {
            uint16_t d;
            memcpy(&d, row + g * group / BLOCK * (codes + 2) + codes, 2);
            scale[(r - r0) * groups + g] = half_to(d);
        }
    }
}

/* ---- tq1_0 --------------------------------------------------------------------------------------------- */

static int64_t bytes_tq1(int64_t rows, int64_t cols, int64_t group)
{
    return bytes(rows, cols, group, TQ1_CODES);
}

static void encode_tq1(void *out, const int8_t *q, const float *scale, int64_t rows, int64_t cols,
                       int64_t group, int64_t r0, int64_t r1)
{
    encode(out, q, scale, rows, cols, group, r0, r1, TQ1_CODES, tq1_pack);
}

static void decode_tq1(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols, int64_t group,
                       int64_t r0, int64_t r1)
{
    (void)rows;
    decode(in, q, scale, cols, group, r0, r1, TQ1_CODES, tq1_unpack);
}

static void run_tq1(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                    int64_t o1, void *scratch)
{
    trits_run(y, ldy, a, m, o0, o1, scratch, decode_tq1);
}

/* ---- tq2_0 --------------------------------------------------------------------------------------------- */

static int64_t bytes_tq2(int64_t rows, int64_t cols, int64_t group)
{
    return bytes(rows, cols, group, TQ2_CODES);
}

static void encode_tq2(void *out, const int8_t *q, const float *scale, int64_t rows, int64_t cols,
                       int64_t group, int64_t r0, int64_t r1)
{
    encode(out, q, scale, rows, cols, group, r0, r1, TQ2_CODES, tq2_pack);
}

static void decode_tq2(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols, int64_t group,
                       int64_t r0, int64_t r1)
{
    (void)rows;
    decode(in, q, scale, cols, group, r0, r1, TQ2_CODES, tq2_unpack);
}

static void run_tq2(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                    int64_t o1, void *scratch)
{
    trits_run(y, ldy, a, m, o0, o1, scratch, decode_tq2);
}

/* ---- tables -------------------------------------------------------------------------------------------- */

static const struct chi_linear_kernel
    kernel_tq1 = { .struct_size = sizeof kernel_tq1, .encoding = "tq1_0", .integer = true, .run = run_tq1,
                   .scratch_bytes = trits_scratch },
    kernel_tq2 = { .struct_size = sizeof kernel_tq2, .encoding = "tq2_0", .integer = true, .run = run_tq2,
                   .scratch_bytes = trits_scratch };
static const struct chi_encoding_ops
    ops_tq1 = { .struct_size = sizeof ops_tq1, .values = "ternary", .bytes = bytes_tq1, .encode = encode_tq1,
                .decode = decode_tq1, .portable = &kernel_tq1, .holds = holds },
    ops_tq2 = { .struct_size = sizeof ops_tq2, .values = "ternary", .bytes = bytes_tq2, .encode = encode_tq2,
                .decode = decode_tq2, .portable = &kernel_tq2, .holds = holds };
static const struct chi_component
    tq1_0 = { .struct_size = sizeof tq1_0, .kind = CHI_ENCODING, .name = "tq1_0", .revision = 1,
              .summary = "blocks TQ1_0 of llama.cpp: 256 weights and a scale in 54 bytes", .ops = &ops_tq1 },
    tq2_0 = { .struct_size = sizeof tq2_0, .kind = CHI_ENCODING, .name = "tq2_0", .revision = 1,
              .summary = "blocks TQ2_0 of llama.cpp: 256 weights and a scale in 66 bytes", .ops = &ops_tq2 };

CHI_PLUGIN(tq, .version = "1.0", .license = "MIT", .summary = "ternary weights in the blocks of llama.cpp",
           .components = CHI_COMPONENTS(&tq1_0, &tq2_0));
