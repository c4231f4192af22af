/* test_parcae.c - the loop component alone: what it injects, whatever its parameters are.     */
#include <chimera/loop.h>
#include <chimera/plugin.h>
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "fake_host.h"

extern const struct chi_plugin chimera_plugin_parcae;

enum { D = 96, ROWS = 3 };
struct conf { int32_t zoh, depth, truncation; struct chi_list range; };

/* A plan that lays parameters one behind the other and remembers their names                */
static float params[8 * D], grads[8 * D];
static int64_t used, a_log_at, dt_bias_at;

static int64_t plan_param(struct chi_plan *p, const char *name, const int64_t *shape, int init, double a, double b,
                          uint32_t flags)
{
    int64_t at = used;
    (void)p, (void)init, (void)a, (void)b, (void)flags;
    if (!strcmp(name, "A_log")) a_log_at = at / 4;
    if (!strcmp(name, "dt_bias")) dt_bias_at = at / 4;
    used += shape[0] * 4;
    return at;
}
static int64_t plan_array(struct chi_plan *p, const char *name, int dtype, int64_t n, int64_t every, uint32_t flags)
{
    (void)p, (void)name, (void)dtype, (void)n, (void)every, (void)flags;
    return 0;
}
static void plan_scratch(struct chi_plan *p, int64_t n) { (void)p, (void)n; }
static const struct chi_linear *plan_linear(struct chi_plan *p, const char *name, int64_t o, int64_t i,
                                            uint32_t flags)
{
    (void)p, (void)name, (void)o, (void)i, (void)flags;
    return NULL;
}

static const struct chi_loop_ops *ops;
static _Alignas(64) unsigned char self[1024];
static struct chi_host host;
static struct chi_run run;

static void open_parcae(int zoh)
{
    static double range[] = { 1, 6 };
    static const struct chi_plan_ops plan = { .struct_size = sizeof plan, .param = plan_param, .array = plan_array,
                                              .scratch = plan_scratch, .linear = plan_linear };
    struct conf conf = { .zoh = zoh, .range = { range, 2 } };
    struct chi_shape shape = { .struct_size = sizeof shape, .d_in = D, .d_out = D, .max_rows = ROWS, .max_segs = 1,
                               .rms_norm_eps = 1e-6, .training = true };
    ops = chimera_plugin_parcae.components[0]->ops;
    cr_assert_leq(ops->self_size, sizeof self);
    host = fake_host();
    used = 0;
    memset(params, 0, sizeof params);
    cr_assert_eq(ops->open(&host, self, &conf, &shape, &plan, NULL), CHI_OK);
    run = (struct chi_run){ .h = &host, .params = (unsigned char *)params, .grads = (unsigned char *)grads,
                            .rows = ROWS };
}

static float extreme(uint64_t i)
{
    static const float worst[] = { 0, -0.0f, 1e38f, -1e38f, 1e-38f, 88, -88, 104, -104, 30, -30, 1, -1, 17, -17 };
    uint64_t n = sizeof worst / sizeof *worst;
    return i % 3 ? worst[(i / 3) % n] : (float)(fake_number(i) * pow(10, 3 * fake_number(i + 1)));
}

/* h = 1, no injection: y is Abar.  In [0, 1) for any parameters, as any optimizer may leave them          */
Test(parcae, the_spectral_radius_stays_below_one)
{
    float e[ROWS * D] = { 0 }, h[ROWS * D], y[ROWS * D];
    int64_t near_one = 0, near_zero = 0;
    open_parcae(0);
    for (int i = 0; i < ROWS * D; i++) h[i] = 1;
    for (uint64_t step = 0; step < 400; step++) {
        for (int c = 0; c < D; c++) {
            params[a_log_at + c] = extreme(step * D + (uint64_t)c);
            params[dt_bias_at + c] = extreme(step * 7 * D + 31 * (uint64_t)c + 5);
        }
        cr_assert_eq(ops->inject(self, &run, e, h, y), CHI_OK);
        for (int i = 0; i < ROWS * D; i++) {
            cr_assert(y[i] >= 0 && y[i] < 1, "Abar = %.9g at A_log %g, dt_bias %g", (double)y[i],
                      (double)params[a_log_at + i % D], (double)params[dt_bias_at + i % D]);
            near_one += y[i] > 0.999999f;
            near_zero += y[i] < 1e-30f;
        }
    }
    cr_assert(near_one > 100 && near_zero > 100, "the parameters are not extreme");
}

/* After random steps of descent on A_log and dt_bias along gradients of any size                           */
Test(parcae, steps_of_an_optimizer_keep_it_stable)
{
    float e[ROWS * D] = { 0 }, h[ROWS * D], y[ROWS * D], dy[ROWS * D], de[ROWS * D], dh[ROWS * D];
    open_parcae(1);
    for (int i = 0; i < ROWS * D; i++) h[i] = 1;
    for (uint64_t step = 0; step < 300; step++) {
        memset(grads, 0, sizeof grads);
        memset(de, 0, sizeof de);
        memset(dh, 0, sizeof dh);
        /* push Abar up */
        for (int i = 0; i < ROWS * D; i++) dy[i] = (float)(-1e3 * (1 + fake_number(step + (uint64_t)i)));
        cr_assert_eq(ops->inject_back(self, &run, e, h, dy, de, dh), CHI_OK);
        for (int64_t c = 0; c < D; c++) {
            params[a_log_at + c] -= 0.05f * grads[a_log_at + c];
            params[dt_bias_at + c] -= 0.05f * grads[dt_bias_at + c];
        }
        cr_assert_eq(ops->inject(self, &run, e, h, y), CHI_OK);
        for (int i = 0; i < ROWS * D; i++) cr_assert(y[i] >= 0 && y[i] < 1, "step %d: %.9g", (int)step, (double)y[i]);
    }
    cr_assert_gt(y[0], 0.99f, "the steps did not move it");
}

/* The state stays bounded over many turns of an injection, close to its fixed point G e / (1 - Abar)       */
Test(parcae, sixty_four_turns_stay_bounded)
{
    float e[ROWS * D], h[ROWS * D] = { 0 }, y[ROWS * D];
    double delta = log1p(exp(0.2119)), abar = exp(-delta);
    open_parcae(0);
    for (int i = 0; i < ROWS * D; i++) e[i] = (float)fake_number((uint64_t)i);
    for (int c = 0; c < D; c++) params[dt_bias_at + c] = 0.2119f;
    for (int turn = 0; turn < 64; turn++) {
        cr_assert_eq(ops->inject(self, &run, e, h, y), CHI_OK);
        memcpy(h, y, sizeof h);
    }
    for (int i = 0; i < ROWS * D; i++)
        cr_assert_lt(fabs((double)h[i] - (double)e[i] / (1 - abar)), 1e-5, "%g, wanted %g", (double)h[i],
                     (double)e[i] / (1 - abar));
}

/* 0 / 0 is no move; NaN is not settled by accident                                                           */
Test(parcae, change_is_relative)
{
    float a[D] = { 0 }, b[D] = { 0 };
    open_parcae(0);
    cr_assert_eq(ops->change(self, &host, a, b, D), 0);
    b[3] = 4;
    cr_assert_eq(ops->change(self, &host, a, b, D), 1);
    a[3] = 3;
    cr_assert_eq(ops->change(self, &host, a, b, D), 0.25);
    b[3] = 0;
    cr_assert(isinf(ops->change(self, &host, a, b, D)));
}
