/* adamw against the formula in double, 100 steps; cuts and threads.                  */
#include <chimera/plugin.h>
#include <chimera/train.h>
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include "fake_host.h"

extern const struct chi_plugin chimera_plugin_adamw;
struct conf { double beta1, beta2, eps, weight_decay; };
static const struct conf usual = { 0.9, 0.95, 1e-8, 0.1 };
enum { N = 300, STEPS = 100 };

static const struct chi_optimizer_ops *ops(void)
{
    return chimera_plugin_adamw.components[0]->ops;
}

static double lr_at(int t)
{
    return 1e-3 * (1 + 0.5 * sin(t));
}

/* Gradients of very different sizes; never tiny weights, so that relative errors mean
 * something                                                                          */
static float gradient(int t, int i)
{
    return (float)(fake_number((uint64_t)(t * N + i)) * pow(10, i % 7 - 4));
}

struct rule { bool bias_correction, decay; };

static void reference(double *w, struct rule rule)
{
    double m[N] = { 0 }, v[N] = { 0 };
    for (int t = 1; t <= STEPS; t++)
        for (int i = 0; i < N; i++) {
            double g = 0.75 * gradient(t, i);
            m[i] = usual.beta1 * m[i] + (1 - usual.beta1) * g;
            v[i] = usual.beta2 * v[i] + (1 - usual.beta2) * g * g;
            double a = rule.bias_correction ? 1 - pow(usual.beta1, t) : 1;
            double b = rule.bias_correction ? 1 - pow(usual.beta2, t) : 1;
            double decay = rule.decay && i < N / 2 ? usual.weight_decay : 0;
            w[i] -= lr_at(t) * (m[i] / a / (sqrt(v[i] / b) + usual.eps) + decay * w[i]);
        }
}

static void run_plugin(float *w)
{
    struct chi_host h = fake_host();
    float m[2][N] = { { 0 } }, g[N];
    for (int t = 1; t <= STEPS; t++) {
        for (int i = 0; i < N; i++) g[i] = gradient(t, i);
        struct chi_slice s[2] = {
            { .name = "a", .w = w, .g = g, .m = m[0], .n = N / 2, .stride = N, .decay = true },
            { .name = "b", .w = w + N / 2, .g = g + N / 2, .m = m[0] + N / 2, .n = N - N / 2, .stride = N },
        };
        cr_assert_eq(ops()->update(&h, &usual, s, 2, t, lr_at(t), 0.75), CHI_OK);
    }
}

static double largest_difference(struct rule rule)
{
    float w[N];
    double want[N], worst = 0;
    for (int i = 0; i < N; i++) w[i] = (float)(1.5 + fake_number((uint64_t)i)), want[i] = w[i];
    run_plugin(w);
    reference(want, rule);
    for (int i = 0; i < N; i++) worst = fmax(worst, fabs(w[i] - want[i]) / fabs(want[i]));
    return worst;
}

Test(adamw, follows_the_formula_for_100_steps)
{
    double d = largest_difference((struct rule){ true, true });
    cr_assert_leq(d, 1e-6, "relative difference %g", d);
}

/* The same check must notice an optimizer without either                              */
Test(adamw, bias_correction_and_decay_matter)
{
    cr_assert_gt(largest_difference((struct rule){ false, true }), 1e-4);
    cr_assert_gt(largest_difference((struct rule){ true, false }), 1e-4);
}

/* Many slices of many sizes, whole against cut in two, and threads                    */
enum { SLICES = 600, MOST = 40000 };

static void many(float *w, float *m, int64_t total, int threads, bool cut)
{
    struct chi_host h = fake_host();
    struct chi_slice *s = calloc(2 * SLICES, sizeof *s);
    float *g = calloc((size_t)total, sizeof *g);
    int64_t n = 0, at = 0;
    pool_threads(threads);
    for (int64_t i = 0; i < total; i++) g[i] = (float)fake_number((uint64_t)i);
    for (int i = 0; i < SLICES; i++) {
        int64_t size = i == 5 ? MOST : 1 + i % 50, first = cut ? size / 3 : 0;
        if (first) s[n++] = (struct chi_slice){ "x", w + at, g + at, m + at, first, total, i % 2 };
        s[n++] = (struct chi_slice){ "x", w + at + first, g + at + first, m + at + first, size - first,
                                     total, i % 2 };
        at += size;
    }
    cr_assert_eq(at, total);
    for (int t = 1; t <= 3; t++) cr_assert_eq(ops()->update(&h, &usual, s, n, t, 1e-2, 1), CHI_OK);
    free(g);
    free(s);
}

Test(adamw, cuts_and_threads_change_no_bit)
{
    int64_t total = MOST;
    for (int i = 0; i < SLICES; i++) total += i == 5 ? 0 : 1 + i % 50;
    size_t bytes = (size_t)total * sizeof(float);
    float *w[4], *m[4];
    for (int k = 0; k < 4; k++) {
        w[k] = calloc(1, bytes);
        m[k] = calloc(2, bytes);
        for (int64_t i = 0; i < total; i++) w[k][i] = 1;
        many(w[k], m[k], total, k < 3 ? k + 1 : 2, k == 3);
        cr_assert_eq(memcmp(w[0], w[k], bytes), 0, "variant %d", k);
        cr_assert_eq(memcmp(m[0], m[k], 2 * bytes), 0, "variant %d", k);
    }
    cr_assert_neq(w[0][0], 1);
    cr_assert_neq(w[0][total - 1], 1);
}

Test(adamw, refuses_step_0)
{
    struct chi_host h = fake_host();
    cr_assert_eq(ops()->update(&h, &usual, NULL, 0, 0, 1e-3, 1), CHI_EBUG);
}
