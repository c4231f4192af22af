/* rowwise.h - a healthy encoding of class int8, row after row: the scale, then cols bytes, padded to 64.
 * A mock defines NAME and some of the macros below before it includes this file.              */
#include <chimera/format.h>
#include <chimera/plugin.h>
#include <string.h>

#ifndef ENCODED                         /* what becomes of a weight v                          */
# define ENCODED(v) (v)
#endif
#ifndef ENCODED_SCALE                   /* and of a scale                                      */
# define ENCODED_SCALE(s) (s)
#endif
#ifndef AFTER_ENCODE                    /* out, rows, cols, r0, r1                             */
# define AFTER_ENCODE
#endif
#ifndef PAD                             /* bytes of a row from which on zeros are written      */
# define PAD(cols) (4 + (cols))
#endif
#ifndef VALUES
# define VALUES "int8"
#endif
#ifndef HOLDS                           /* a function holds()                                  */
# define HOLDS NULL
#endif
#ifndef PRODUCT                         /* of the sum over all of the row and a step           */
# define PRODUCT(scale, p) (0.0f + (scale) * (p))   /* 0 + -0 is 0: y starts at 0         */
#endif

static int64_t row_bytes(int64_t cols)
{
    return (4 + cols + 63) / 64 * 64;
}

static int64_t bytes(int64_t rows, int64_t cols, int64_t group)
{
    return group >= cols ? rows * row_bytes(cols) : 0;
}

static void encode(void *out, const int8_t *q, const float *scale, int64_t rows, int64_t cols, int64_t group,
                   int64_t r0, int64_t r1)
{
    (void)group, (void)rows;
    for (int64_t r = r0; r < r1; r++) {
        unsigned char *row = (unsigned char *)out + r * row_bytes(cols);
        float s = ENCODED_SCALE(scale[r - r0]);
        memset(row + PAD(cols), 0, (size_t)(row_bytes(cols) - PAD(cols)));
        memcpy(row, &s, 4);
        for (int64_t k = 0; k < cols; k++) row[4 + k] = (unsigned char)ENCODED(q[(r - r0) * cols + k]);
    }
    AFTER_ENCODE
}

static void decode(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols, int64_t group, int64_t r0,
                   int64_t r1)
{
    (void)rows, (void)group;
    for (int64_t r = r0; r < r1; r++) {
        const unsigned char *row = (const unsigned char *)in + r * row_bytes(cols);
        memcpy(scale + r - r0, row, 4);
        memcpy(q + (r - r0) * cols, row + 4, (size_t)cols);
    }
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0, int64_t o1,
                void *scratch)
{
    (void)scratch;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t o = o0; o < o1; o++) {
            const unsigned char *row = (const unsigned char *)m->bytes + o * row_bytes(m->d_in);
            const int8_t *w = (const int8_t *)row + 4;
            float scale, p = 0;
            memcpy(&scale, row, 4);
            for (int64_t k0 = 0; k0 < m->d_in; k0 += CHI_ACT_BLOCK) {
                int32_t sum = 0;
                for (int64_t k = k0; k < k0 + CHI_ACT_BLOCK && k < m->d_in; k++) sum += w[k] * a->q[r * a->ldq + k];
                p += (float)sum * a->step[r * (a->ldq / CHI_ACT_BLOCK) + k0 / CHI_ACT_BLOCK];
            }
            y[r * ldy + o - o0] = PRODUCT(scale, p);
        }
}

static const struct chi_linear_kernel kernel = {
    .struct_size = sizeof kernel, .encoding = NAME, .integer = true, .run = run,
};
static const struct chi_encoding_ops ops = {
    .struct_size = sizeof ops, .values = VALUES, .bytes = bytes, .encode = encode, .decode = decode,
        .portable = &kernel,
    .holds = HOLDS,
};
static const struct chi_component encoding = {
    .struct_size = sizeof encoding, .kind = CHI_ENCODING, .name = NAME, .revision = 1,
        .summary = "bytes row after row",
    .ops = &ops,
};
CHI_EXPORT const struct chi_plugin chimera_plugin = {
    .magic = CHI_MAGIC, .abi_major = CHI_ABI_MAJOR, .abi_minor = CHI_ABI_MINOR, .struct_size = sizeof chimera_plugin,
    .layout = CHI_LAYOUT, .name = NAME, .version = "1.0", .license = "MIT", .summary = "bytes row after row",
    .components = CHI_COMPONENTS(&encoding),
};
