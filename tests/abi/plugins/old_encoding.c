/* old_encoding.c - where the numbers of a matrix lie in memory, in formulas; why; the source.
 *
 * This one holds ternary weights, five to a byte (3^5 = 243 <= 256), 1.6 bits each:
 *
 *     byte_i = sum over j = 0..4 of (q[5 i + j] + 1) 3^j         a missing weight counts as 0
 *
 * A row is its scales (floats, one per group) and then its bytes, up to a multiple of 4; rows
 * follow each other, and the matrix is filled up with zeros to a multiple of 64 bytes.
 *
 * Source: (paper or specification).  decode(encode(q)) gives q back bit for bit, so that an
 * encoding never changes a result.                                                          */
#include <chimera/format.h>
#include <chimera/plugin.h>

#include <string.h>

enum { PER_BYTE = 5 };

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t row_bytes(int64_t cols, int64_t group)
{
    return ceil_div(cols, group) * 4 + ceil_div(ceil_div(cols, PER_BYTE), 4) * 4;
}

/* Blocks of activations must not straddle groups                                            */
static int64_t bytes(int64_t rows, int64_t cols, int64_t group)
{
    if (group <= 0 || (group % CHI_ACT_BLOCK && group < cols)) return 0;
    return ceil_div(rows * row_bytes(cols, group), 64) * 64;
}

static void encode_row(unsigned char *out, const int8_t *q, const float *scale, int64_t cols, int64_t groups,
                       int64_t size)
{
    memset(out, 0, (size_t)size);
    memcpy(out, scale, (size_t)groups * 4);
    for (int64_t k = cols - 1; k >= 0; k--) {
        unsigned char *byte = out + groups * 4 + k / PER_BYTE;
        *byte = (unsigned char)(*byte * 3 + q[k] + 1);
    }
}

static void encode(void *out, const int8_t *q, const float *scale, int64_t rows, int64_t cols, int64_t group,
                   int64_t r0, int64_t r1)
{
    int64_t groups = ceil_div(cols, group), size = row_bytes(cols, group);
    unsigned char *base = out;
    for (int64_t r = r0; r < r1; r++)
        encode_row(base + r * size, q + (r - r0) * cols, scale + (r - r0) * groups, cols, groups, size);
    if (r1 == rows) memset(base + rows * size, 0, (size_t)(bytes(rows, cols, group) - rows * size));
}

static void decode_row(const unsigned char *in, int8_t *q, int64_t cols)
{
    for (int64_t k = 0; k < cols; in++) {
        int byte = *in;
        for (int j = 0; j < PER_BYTE && k < cols; j++, byte /= 3) q[k++] = (int8_t)(byte % 3 - 1);
    }
}

static void decode(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols, int64_t group,
                   int64_t r0, int64_t r1)
{
    int64_t groups = ceil_div(cols, group), size = row_bytes(cols, group);
    (void)rows;
    for (int64_t r = r0; r < r1; r++) {
        const unsigned char *row = (const unsigned char *)in + r * size;
        memcpy(scale + (r - r0) * groups, row, (size_t)groups * 4);
        decode_row(row + groups * 4, q + (r - r0) * cols, cols);
    }
}

/* ---- the plain product, which defines what is correct ----------------------------------------
 * For each group in order: p = sum over its blocks of float(integer sum) * step; y += scale p.   */

static float product(const unsigned char *row, const int8_t *x, const float *step, int64_t cols, int64_t group)
{
    static const uint8_t power[PER_BYTE] = { 1, 3, 9, 27, 81 };
    const unsigned char *code = row + ceil_div(cols, group) * 4;
    float y = 0;
    for (int64_t first = 0; first < cols; first += group) {
        int64_t end = cols - first < group ? cols : first + group;
        float p = 0, scale;
        for (int64_t k = first; k < end;) {
            int64_t block = k / CHI_ACT_BLOCK, stop = (block + 1) * CHI_ACT_BLOCK;
            int32_t sum = 0;
            for (; k < end && k < stop; k++) sum += (code[k / PER_BYTE] / power[k % PER_BYTE] % 3 - 1) * x[k];
            p += (float)sum * step[block];
        }
        memcpy(&scale, row + first / group * 4, 4);
        y += scale * p;
    }
    return y;
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0, int64_t o1,
                void *scratch)
{
    (void)scratch;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t o = o0; o < o1; o++)
            y[r * ldy + o - o0] =
                product((const unsigned char *)m->bytes + o * row_bytes(m->d_in, m->group), a->q + r * a->ldq,
                        a->step + r * (a->ldq / CHI_ACT_BLOCK), m->d_in, m->group);
}

/* ---- what the core reads -------------------------------------------------------------------- */

static const struct chi_linear_kernel kernel = {
    .struct_size = sizeof kernel, .encoding = "old_encoding", .integer = true, .run = run,
};

static const struct chi_encoding_ops ops = {
    .struct_size = sizeof ops, .values = "ternary", .bytes = bytes, .encode = encode, .decode = decode,
    .portable = &kernel,
};

static const struct chi_component component = {
    .struct_size = sizeof component, .kind = CHI_ENCODING, .name = "old_encoding", .revision = 1,
    .summary = "ternary weights, five to a byte", .ops = &ops,
};

CHI_PLUGIN(old_encoding, .version = "0.1", .license = "MIT", .summary = "ternary weights, five to a byte",
           .components = CHI_COMPONENTS(&component));
