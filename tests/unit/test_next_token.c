/* next_token against softmax cross-entropy in double, with its gradient.             */
#include <chimera/plugin.h>
#include <chimera/train.h>
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include "fake_host.h"

extern const struct chi_plugin chimera_plugin_next_token;

static chi_status loss(const float *x, const int32_t *t, int64_t rows, int64_t v, double scale,
                       float *d, double *sum)
{
    struct chi_host h = fake_host();
    const struct chi_objective_ops *ops = chimera_plugin_next_token.components[0]->ops;
    return ops->loss(&h, NULL, x, t, rows, v, scale, d, sum);
}

static double reference(const float *x, int32_t t, int64_t v, double scale, double *d)
{
    double most = x[0], sum = 0;
    for (int64_t j = 0; j < v; j++) most = fmax(most, x[j]);
    for (int64_t j = 0; j < v; j++) sum += exp(x[j] - most);
    for (int64_t j = 0; j < v; j++) d[j] = t < 0 ? 0 : scale * (exp(x[j] - most) / sum - (j == t));
    return t < 0 ? 0 : most + log(sum) - x[t];
}

static float *logits(int64_t n)
{
    float *x = calloc((size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(8 * fake_number((uint64_t)i));
    return x;
}

static void compare(int64_t rows, int64_t v, bool in_place)
{
    float *x = logits(rows * v), *copy = logits(rows * v), *d = in_place ? x : logits(rows * v);
    int32_t *t = calloc((size_t)rows, sizeof *t);
    double *want = calloc((size_t)v, sizeof *want), sum = 0, alone = 0, total = 0;
    for (int64_t r = 0; r < rows; r++) t[r] = r % 5 == 3 ? -1 : (int32_t)((r * 7919 + 3) % v);
    cr_assert_eq(loss(x, t, rows, v, 0, NULL, &alone), CHI_OK);
    cr_assert_eq(loss(x, t, rows, v, 0.125, d, &sum), CHI_OK);
    for (int64_t r = 0; r < rows; r++) {
        total += reference(copy + r * v, t[r], v, 0.125, want);
        for (int64_t j = 0; j < v; j++)
            cr_assert_leq(fabs(d[r * v + j] - want[j]), 1e-7 + 2e-6 * fabs(want[j]), "row %d, id %d: %g, not %g",
                          (int)r, (int)j, d[r * v + j], want[j]);
    }
    cr_assert_leq(fabs(sum - total), 1e-6 * total, "%.9g, not %.9g", sum, total);
    cr_assert_eq(memcmp(&sum, &alone, sizeof sum), 0, "the gradient changed the loss");
}

Test(next_token, small_vocabulary) { compare(37, 11, false); }
Test(next_token, bytes_in_place)   { compare(1100, 257, true); }
Test(next_token, many_chunks)      { compare(3, 9001, false); }
Test(next_token, chunks_in_place)  { compare(3, 8192, true); }

/* Finite differences of the loss itself                                              */
Test(next_token, gradient_is_the_slope)
{
    float x[5] = { 0.5f, -1, 2, 0.25f, 1 }, d[5];
    int32_t t = 3;
    double s = 0;
    loss(x, &t, 1, 5, 1, d, &s);
    for (int j = 0; j < 5; j++) {
        double hi = 0, lo = 0;
        float was = x[j];
        x[j] = was + 0.01f;
        loss(x, &t, 1, 5, 1, NULL, &hi);
        x[j] = was - 0.01f;
        loss(x, &t, 1, 5, 1, NULL, &lo);
        x[j] = was;
        cr_assert_leq(fabs((hi - lo) / 0.02 - d[j]), 1e-4);
    }
}

/* A sum goes on from where it was: blocks of rows add up to the bits of one call       */
Test(next_token, blocks_and_threads_change_no_bit)
{
    enum { ROWS = 1500, V = 50 };
    float *x = logits(ROWS * V);
    int32_t t[ROWS];
    double whole = 0, parts = 0, one = 0;
    for (int i = 0; i < ROWS; i++) t[i] = i % V;
    pool_threads(3);
    loss(x, t, ROWS, V, 1, NULL, &whole);
    for (int i = 0; i < ROWS; i += 7)
        loss(x + i * V, t + i, ROWS - i < 7 ? ROWS - i : 7, V, 1, NULL, &parts);
    pool_threads(1);
    loss(x, t, ROWS, V, 1, NULL, &one);
    cr_assert_eq(memcmp(&whole, &parts, sizeof whole), 0);
    cr_assert_eq(memcmp(&whole, &one, sizeof whole), 0);
}

Test(next_token, nan_is_not_hidden)
{
    for (int64_t v = 300; v < 10000; v += 9000) {
        float *x = logits(2 * v);
        int32_t t[2] = { 1, 2 };
        double s = 0;
        x[v + v - 1] = NAN;
        cr_assert_eq(loss(x, t, 2, v, 1, NULL, &s), CHI_OK);
        cr_assert(isnan(s));
        s = 0;
        cr_assert_eq(loss(x, t, 2, v, 1, x, &s), CHI_OK);
        cr_assert(isnan(s));
    }
}

/* Ids that cannot come have logit -inf: no part in the loss, no gradient.  In a large vocabulary
 * they may fill a whole chunk, the first one or a later one.                          */
Test(next_token, impossible_ids_have_no_part)
{
    const int64_t v = 9001, ranges[][2] = { { 0, 1 }, { 5, 9 }, { 0, 4096 }, { 4096, 8192 }, { 4096, 9001 },
                                            { 0, 9000 } };
    double *want = calloc((size_t)v, sizeof *want);
    for (int k = 0; k < 6; k++) {
        float *x = logits(v), *d = logits(v);
        int32_t t = k == 4 ? 17 : 9000;
        double sum = 0, alone = 0;
        for (int64_t j = ranges[k][0]; j < ranges[k][1]; j++) x[j] = -INFINITY;
        double total = reference(x, t, v, 1, want);
        cr_assert_eq(loss(x, &t, 1, v, 1, NULL, &alone), CHI_OK);
        cr_assert_eq(loss(x, &t, 1, v, 1, d, &sum), CHI_OK);
        cr_assert_leq(fabs(sum - total), 1e-6 * total + 1e-6, "case %d: %g, not %g", k, sum, total);
        cr_assert_eq(memcmp(&sum, &alone, sizeof sum), 0);
        for (int64_t j = 0; j < v; j++)
            cr_assert_leq(fabs(d[j] - want[j]), 1e-7 + 2e-6 * fabs(want[j]), "case %d, id %d: %g, not %g", k, (int)j,
                          d[j], want[j]);
        free(x);
        free(d);
    }
    free(want);
}

Test(next_token, an_impossible_target_costs_infinitely)
{
    for (int64_t v = 10; v < 10000; v += 9000) {
        float *x = logits(v);
        int32_t t = (int32_t)v - 1;
        double s = 0;
        x[t] = -INFINITY;
        cr_assert_eq(loss(x, &t, 1, v, 1, NULL, &s), CHI_OK);
        cr_assert(isinf(s) && s > 0, "%g", s);
        for (int64_t j = 0; j < v; j++) x[j] = -INFINITY;
        s = 0;
        cr_assert_eq(loss(x, &t, 1, v, 1, x, &s), CHI_OK);
        cr_assert(isnan(s) && isnan(x[0]), "nothing can come: %g", s);
        free(x);
    }
}

Test(next_token, refuses_targets_outside_the_vocabulary)
{
    float x[4] = { 0 };
    int32_t t = 4;
    double s = 0;
    cr_assert_eq(loss(x, &t, 1, 4, 1, NULL, &s), CHI_EDATA);
    cr_assert(strstr(fake_failure, "target 4"));
}
