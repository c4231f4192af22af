/* perf.c - how long a layer takes; nothing is judged.
 *
 * Defaults, width 256, f32 weights, one thread: forward and backward on 64 rows of one
 * stream, step on one row, each as the best of several, which a busy machine disturbs least. */
#include "rig.h"

#include <math.h>
#include <string.h>

#include "core.h"

enum { WIDTH = 256, ROWS = 64, TIMES = 7 };

struct bench_row { struct rig r; struct chi_segment g; float *x, *y, *dy, *dx; };

static double best_forward(struct bench_row *b, bool keep)
{
    double best = 1e9;
    for (int i = 0; i < TIMES; i++) {
        double t = now_s();
        if (!rig_forward(&b->r, &b->g, 1, keep, b->x, b->y)) return 0;
        t = now_s() - t;
        if (t < best) best = t;
    }
    return best / ROWS * 1e9;
}

static double best_step(struct bench_row *b)
{
    double best = 1e9;
    struct chi_segment g = b->g;
    g.rows = 1;
    for (int i = 0; i < TIMES; i++) {
        double t = now_s();
        for (int k = 0; k < ROWS; k++, g.pos++, g.fresh = false)
            if (!rig_step(&b->r, &g, 1, b->x, b->y)) return 0;
        t = now_s() - t;
        if (t < best) best = t;
    }
    return best / ROWS * 1e9;
}

static double best_backward(struct bench_row *b)
{
    double best = 1e9;
    b->g.state = rig_block(&b->r, b->r.state_bytes);
    for (int i = 0; i < TIMES; i++) {
        memset(b->g.state, 0, (size_t)b->r.state_bytes);
        if (!rig_forward(&b->r, &b->g, 1, true, b->x, b->y)) return 0;
        memset(b->g.state, 0, (size_t)b->r.state_bytes);
        double t = now_s();
        if (!rig_backward(&b->r, &b->g, 1, b->x, b->dy, b->dx)) return 0;
        t = now_s() - t;
        if (t < best) best = t;
    }
    return best / ROWS * 1e9;
}

static bool prepare(struct bench_row *b, struct trial *t, const struct layer_case *c, bool training)
{
    *b = (struct bench_row){ .g = { .rows = 0 } };
    if (!rig_open(&b->r, t, c, training, ROWS, 1)) return false;
    b->g = rig_segment(0, ROWS, 0, 1, rig_block(&b->r, b->r.state_bytes));
    b->x = rig_random_rows(&b->r, ROWS, 1);
    b->dy = rig_random_rows(&b->r, ROWS, 1);
    b->y = rig_rows(&b->r, ROWS);
    b->dx = rig_rows(&b->r, ROWS);
    return true;
}

/* What has no default is as wide as the layer                                               */
static void required_options(const struct chi_component *component, char text[CASE_TEXT])
{
    size_t used = 0;
    for (const struct chi_option *o = component->options; o && o->name && used + 100 < CASE_TEXT; o++)
        if (!o->fallback && o->type == CHI_OPT_INT)
            used += (size_t)snprintf(text + used, 100, "%s = %.0f\n", o->name, fmin(fmax(WIDTH, o->min), o->max));
}

static void perf(struct trial *t)
{
    struct layer_case c = { .d = WIDTH, .linear = "quantizer = f32\n" };
    required_options(t->component, c.options);
    struct bench_row b;
    double backward = 0;
    bool train = ((const struct chi_layer_ops *)t->component->ops)->backward != NULL;
    if (train && prepare(&b, t, &c, true)) {
        backward = best_backward(&b);
        rig_close(&b.r);
    }
    if (t->outcome >= TRIAL_FAILED || !prepare(&b, t, &c, false)) return;
    double forward = best_forward(&b, false), step = best_step(&b);
    long long state = solo_state_bytes(b.r.solo);
    rig_close(&b.r);
    trial_note(t, "width %d, defaults, f32: forward %.0f ns a row, step %.0f ns, backward %.0f ns; %lld bytes of state",
               WIDTH, forward, step, backward, state);
    trial_note(t, "{\"component\": \"%s\", \"hidden_size\": %d, \"forward_ns\": %.0f, \"step_ns\": %.0f, "
               "\"backward_ns\": %.0f, \"state_bytes\": %lld}", t->component->name, WIDTH, forward, step, backward,
               state);
}

const struct check checks_perf[] = {
    { "perf", CHI_LAYER, 120, "time per row and bytes of state; only with --perf", perf },
    { 0 }
};
