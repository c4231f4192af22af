/* test_sherry.c - the 3:4 sparse quantizer against a plain search, and the course of its residual. */
#include "kernels.h"

#include <math.h>

struct conf { int64_t group_size; double arenas, arenas_warmup; };

static const struct chi_quantizer_ops *sherry(void)
{
    return component(CHI_QUANTIZER, "sherry")->ops;
}

static chi_status quantize(int64_t group, const float *w, int64_t rows, int64_t cols, int8_t *q, float *scale)
{
    struct conf conf = { group, 0, 0.1 };
    return sherry()->quantize(&conf, w, rows, cols, q, scale);
}

/* The nearest half: the scale of every pattern is checked through neighbours of the value          */
static bool is_fp16(double x)
{
    int e;
    double m = frexp(x, &e);
    double ulps = e < -13 ? ldexp(x, 24) : ldexp(m, 11);
    return ulps == floor(ulps);
}

/* Of all vectors with one zero in every quad and signs, times any scale, the one that is nearest to w
 * (by trying every place of the zero and every sign in each quad) has the same trits               */
static void nearest(const float *w, int64_t n, int8_t *t)
{
    for (int64_t k = 0; k + 4 <= n; k += 4) {
        double best = -1;
        for (int p = 0; p < 4; p++)
            for (int signs = 0; signs < 16; signs++) {
                double along = 0;                   /* to be large: <w, t>, as all t have one length */
                int8_t quad[4];
                for (int j = 0; j < 4; j++) {
                    quad[j] = (int8_t)(j == p ? 0 : signs >> j & 1 ? -1 : 1);
                    along += (double)w[k + j] * quad[j];
                }
                if (along > best) memcpy(t + k, quad, 4), best = along;
            }
    }
}

Test(sherry, no_other_pattern_is_nearer)
{
    enum { ROWS = 20, COLS = 256 };
    static float w[ROWS * COLS], scale[ROWS * 2];
    static int8_t q[ROWS * COLS], want[ROWS * COLS];
    fill(w, ROWS * COLS);
    cr_assert_eq(quantize(128, w, ROWS, COLS, q, scale), CHI_OK);
    nearest(w, ROWS * COLS, want);
    cr_expect(same(q, want, sizeof q));
    for (int g = 0; g < ROWS * 2; g++) {
        double sum = 0;
        for (int k = 0; k < 128; k++) sum += q[g * 128 + k] ? fabs((double)w[g * 128 + k]) : 0;
        cr_expect(is_fp16((double)scale[g]));
        cr_expect_float_eq((double)scale[g], sum / 96, sum / 96 * 0x1p-11, "group %d", g);
    }
}

Test(sherry, by_hand)
{
    const float w[20] = { 1, -2, 3, -4,  0, 0, 0, 0,  -0.0f, 5, -0.0f, 5,  7, 7, -7, 7,  -1, 2, 2, 2 };
    const int8_t want[20] = { 0, -1, 1, -1,  1, 1, 1, 0,  1, 1, 0, 1,  1, 1, -1, 0,  0, 1, 1, 1 };
    float scale[1];
    int8_t q[20];
    cr_assert_eq(quantize(64, w, 1, 20, q, scale), CHI_OK);
    for (int i = 0; i < 20; i++) cr_expect_eq(q[i], want[i], "%d: %d", i, q[i]);
    cr_expect_eq(scale[0], 0x1.888p1f, "46 / 15 in fp16, not %a", (double)scale[0]);
}

/* What does not fill a quad is kept, and the mean is over what is kept                              */
Test(sherry, tails)
{
    for (int64_t tail = 1; tail < 9; tail++) {
        float w[64 + 9] = { 0 }, scale[2];
        int8_t q[64 + 8];
        for (int64_t i = 0; i < tail; i++) w[64 + i] = i % 2 ? -1.0f : 1.0f;
        w[64 + tail / 4 * 4] = 3;                           /* of the incomplete quad, if there is one */
        cr_assert_eq(quantize(64, w, 1, 64 + tail, q, scale), CHI_OK);
        int64_t kept = 0;
        double sum = 0;
        for (int64_t i = 0; i < tail; i++) kept += q[64 + i] != 0, sum += q[64 + i] ? fabs((double)w[64 + i]) : 0;
        cr_expect_eq(kept, tail - tail / 4, "%ld: %ld kept", tail, kept);
        cr_expect_float_eq((double)scale[1], sum / (double)kept, 1e-3, "%ld", tail);
        cr_expect_eq(scale[0], 0, "zeros have the scale 0");
    }
}

Test(sherry, halves_of_all_sizes)
{
    static const struct { float w, scale; } at[] = {
        { 1, 1 }, { 0x1.002p0f, 0x1p0f }, { 0x1.006p0f, 0x1.008p0f }, { 0x1.ffep0f, 0x1p1f }, { 65504, 65504 },
        { 65519, 65504 }, { 0x1p-24f, 0x1p-24f }, { 0x1.8p-24f, 0x1p-23f }, { 0x1p-25f, 0 }, { 0x1.4p-24f, 0x1p-24f },
        { 0x1.ff8p-15f, 0x1.ff8p-15f }, { 0x1.ffcp-15f, 0x1p-14f }, { 0x1p-14f, 0x1p-14f }, { 0x1p-40f, 0 },
    };
    for (int i = 0; i < COUNT(at); i++) {
        float w[64], scale[1];
        int8_t q[64];
        for (int k = 0; k < 64; k++) w[k] = k % 4 ? at[i].w : 0;
        cr_assert_eq(quantize(64, w, 1, 64, q, scale), CHI_OK);
        cr_expect_eq(scale[0], at[i].scale, "%a: %a, wanted %a", (double)at[i].w, (double)scale[0],
                     (double)at[i].scale);
    }
    float big[4] = { 65520, 65520, 65520, 65520 }, scale[1];
    int8_t q[4];
    cr_expect_eq(quantize(64, big, 1, 4, q, scale), CHI_ENUMERIC, "beyond fp16");
}

/* Even the weight that would be dropped                                                             */
Test(sherry, not_finite_is_refused)
{
    const float bad[3] = { NAN, INFINITY, -INFINITY };
    float w[2 * 130], scale[6];
    int8_t q[2 * 130];
    for (int at = 0; at < 2 * 130; at++) {
        fill(w, 2 * 130);
        w[at] = bad[at % 3];
        cr_expect_eq(quantize(64, w, 2, 130, q, scale), CHI_ENUMERIC, "%d", at);
    }
}

/* Up in a line to the peak, down along half a cosine, 0 at the end and behind it                    */
Test(sherry, the_residual_fades)
{
    struct conf conf = { 128, 0.5, 0.2 };
    cr_expect_eq(sherry()->residual(&conf, 0), 0);
    cr_expect_float_eq(sherry()->residual(&conf, 0.05), 0.125, 1e-12);
    cr_expect_eq(sherry()->residual(&conf, 0.2), 0.5);
    cr_expect_float_eq(sherry()->residual(&conf, 0.4), 0.5 * (1 + sqrt(0.5)) / 2, 1e-12);
    cr_expect_float_eq(sherry()->residual(&conf, 0.6), 0.25, 1e-12);
    cr_expect_eq(sherry()->residual(&conf, 1), 0);
    cr_expect_eq(sherry()->residual(&conf, 1.5), 0);
    conf = (struct conf){ 128, 0.5, 0 };
    cr_expect_eq(sherry()->residual(&conf, 0), 0.5, "without a rise it begins at the peak");
    conf = (struct conf){ 128, 0, 0.1 };
    for (int i = 0; i <= 10; i++) cr_expect_eq(sherry()->residual(&conf, i / 10.0), 0);
}
