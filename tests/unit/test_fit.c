/* test_fit.c - the numbers of a matrix that another encoding nearly holds: least squares by hand, the error of all
 * rows, the same for any number of threads.                                                              */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "core.h"
#include "fit.h"
#include "pool.h"

static struct registry *registry;

static void setup(void)
{
    cr_assert_eq(registry_open(&registry, NULL), CHI_OK, "%s", fail_text());
}

static void teardown(void)
{
    registry_close(registry);
}

TestSuite(fit, .init = setup, .fini = teardown);

/* One scale for two groups: sum n s / sum n with n the trits that are not 0, and the error that it makes          */
Test(fit, least_squares)
{
    const struct chi_component *tq, *quantizer;
    struct weights w, out;
    double error;
    cr_assert_eq(registry_find(registry, CHI_ENCODING, "tq2_0", &tq), CHI_OK, "%s", fail_text());
    cr_assert_eq(registry_find(registry, CHI_QUANTIZER, "ternary", &quantizer), CHI_OK, "%s", fail_text());
    int64_t group = 128;
    const struct part usual = { .component = quantizer, .conf = &group };
    cr_assert_eq(weights_take(&w, true, 1, 512, 128, "w"), CHI_OK);
    for (int k = 0; k < 512; k++) w.q[k] = (int8_t)(k < 128 ? (k % 2 ? 1 : -1) : k < 160 ? 1 : k < 256 ? 0 : -1);
    w.scale[0] = 1, w.scale[1] = 2, w.scale[2] = w.scale[3] = 0.5f;
    cr_assert_eq(fit_nearly(&w, &usual, registry, tq, "w", &out, &error), CHI_OK, "%s", fail_text());
    double s = 0x1.334p0;                               /* (128 * 1 + 32 * 2) / 160 = 1.2 in 11 bits              */
    double lost = 128 * (s - 1) * (s - 1) + 32 * (2 - s) * (2 - s), all = 128 + 32 * 4 + 256 * 0.25;
    cr_expect_eq((double)out.scale[0], s, "%a", (double)out.scale[0]);
    cr_expect(out.group == 128 && out.scale[1] == out.scale[0] && out.scale[2] == 0.5f && out.scale[3] == 0.5f);
    cr_expect_eq(memcmp(out.q, w.q, 512), 0);
    cr_expect_float_eq(error, sqrt(lost / all), 1e-12, "%g", error);
    weights_drop(&w);
    weights_drop(&out);
}

/* Many rows, on any number of threads: the same numbers, and the error of all of them                             */
Test(fit, nearly_on_any_number_of_threads)
{
    enum { R = 40, C = 640, G = 5 };
    static const int threads[] = { 1, 2, 3, 8 };
    const struct chi_component *sherry, *quantizer;
    struct weights w, first = { .rows = 0 }, out;
    double error = 0, before = 0;
    int64_t group = 128;
    cr_assert_eq(registry_find(registry, CHI_ENCODING, "sherry125", &sherry), CHI_OK, "%s", fail_text());
    cr_assert_eq(registry_find(registry, CHI_QUANTIZER, "ternary", &quantizer), CHI_OK, "%s", fail_text());
    const struct part usual = { .component = quantizer, .conf = &group };
    cr_assert_eq(weights_take(&w, true, R, C, group, "w"), CHI_OK);
    for (int i = 0; i < R * C; i++) w.q[i] = (int8_t)(i * 7919 % 1009 % 3 - 1);
    for (int i = 0; i < R * G; i++) w.scale[i] = 0.5f + (float)(i % 17);
    for (int64_t i = 0; i < COUNT(threads); i++) {
        pool_threads(threads[i]);
        cr_assert_eq(fit_nearly(&w, &usual, registry, sherry, "w", &out, &error), CHI_OK, "%s", fail_text());
        if (i == 0) first = out, before = error;
        else {
            cr_expect(!memcmp(out.q, first.q, R * C) && error == before, "%d threads", threads[i]);
            cr_expect(!memcmp(out.scale, first.scale, (size_t)(R * out.groups) * sizeof(float)), "%d threads", threads[i]);
            weights_drop(&out);
        }
    }
    double d = 0, all = 0;
    for (int64_t r = 0; r < R; r++) {
        float is[C], was[C];
        weights_row(&first, r, is);
        weights_row(&w, r, was);
        for (int k = 0; k < C; k++) {
            double x = (double)was[k], y = (double)is[k] - x;
            cr_assert_eq(was[k], w.scale[r * G + k / 128] * (float)w.q[r * C + k]);
            d += y * y;
            all += x * x;
        }
    }
    cr_expect_float_eq(before, sqrt(d / all), 1e-12, "%g, not %g", before, sqrt(d / all));
    pool_threads(1);
    weights_drop(&w);
    weights_drop(&first);
}
