/* layer_numbers.c - checks of a layer with unusual numbers.
 *
 * finite   zeros, tiny, moderate and denormal inputs give finite results, NaN is not swallowed, and no
 *          input makes the layer crawl
 * formats  with bfloat, int8 and ternary weights inside: finite, step = forward bit for bit, and
 *          results and gradients like those with f32 weights of the same values, since only the
 *          activations are coarser then                                                     */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "instance.h"
#include "play.h"

enum { CASES = 3, ROWS = 32 };

/* Nobody feeds a layer so much, but a warning tells how far it is from overflowing             */
static const char large[] = "inputs about 1e4";

static bool all_finite(struct rig *r, const char *what, const char *input, const float *v, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows * cols; i++) {
        if (isfinite(v[i])) continue;
        void (*say)(struct trial *, const char *, ...) CHI_PRINTF(2, 3) = input == large ? trial_warn : trial_fail;
        say(r->trial, "%s: row %lld, column %lld is %g for %s (%s)", what, (long long)(i / cols),
            (long long)(i % cols), (double)v[i], input, case_words(r->is));
        return false;
    }
    return true;
}

/* ---- inputs ------------------------------------------------------------------------------- */

struct input { const char *words; float scale; int every; };   /* every: other rows are zero     */
static const struct input moderate[] = {
    { "zeros", 0, 1 }, { "inputs about 1", 1, 1 }, { "inputs about 100", 100, 1 }, { "inputs about 1e-6", 1e-6f, 1 },
    { "one row of eight that is not zero", 1, 8 }, { "inputs about 1e-20", 1e-20f, 1 },
    { "denormal inputs", 1e-39f, 1 }, { large, 1e4f, 1 },
};
static const struct input immense[] = { { "inputs about 1e9", 1e9f, 1 }, { "inputs about 1e18", 1e18f, 1 },
                                        { "inputs about 1e38", 1e38f, 1 } };

static float *draw_input(struct rig *r, const struct input *in)
{
    float *x = rig_random_rows(r, ROWS, in->scale);
    for (int64_t t = 0; t < ROWS; t++)
        if (t % in->every) memset(x + t * r->d, 0, (size_t)r->d * sizeof *x);
    return x;
}

static struct chi_segment stream(struct rig *r, int64_t rows, int64_t pos)
{
    return rig_segment(0, rows, pos, 31, rig_block(r, r->state_bytes));
}

/* Forward and, if it trains, back                                                              */
static void moderate_input(struct rig *r, bool training, const struct input *in)
{
    const struct model_tensor *w;
    struct chi_segment g = stream(r, ROWS, 0);
    const float *x = draw_input(r, in);
    float *y = rig_rows(r, ROWS), *dx = rig_rows(r, ROWS);
    if (!rig_forward(r, &g, 1, training, x, y) || !all_finite(r, "y of forward", in->words, y, ROWS, r->d)) return;
    if (!training) {
        struct chi_segment next = rig_segment(0, 1, ROWS, 31, g.state);
        if (rig_step(r, &next, 1, x, y)) all_finite(r, "y of step", in->words, y, 1, r->d);
        return;
    }
    struct chi_segment before = stream(r, ROWS, 0);
    const float *dy = rig_random_rows(r, ROWS, 1);
    rig_zero_grads(r);
    if (!rig_backward(r, &before, 1, x, dy, dx) || !all_finite(r, "dx", in->words, dx, ROWS, r->d)) return;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++)
        if (!all_finite(r, w->name, in->words, w->g, 1, w->n)) return;
}

static void with_cases(struct trial *t, bool training, void (*check)(struct rig *, bool))
{
    if (training && !has_backward(t)) {
        trial_skip(t, "it has no backward pass");
        return;
    }
    for (int64_t i = 0; i < CASES && t->outcome < TRIAL_FAILED; i++) {
        struct layer_case c;
        struct rig r;
        if (!layer_case(t, i, &c) || !rig_open(&r, t, &c, training, ROWS, 2)) return;
        check(&r, training);
        rig_close(&r);
    }
}

static void moderate_inputs(struct rig *r, bool training)
{
    for (int64_t i = 0; i < COUNT(moderate); i++) moderate_input(r, training, &moderate[i]);
}

static void finite_forward(struct trial *t) { with_cases(t, false, moderate_inputs); }
static void finite_backward(struct trial *t) { with_cases(t, true, moderate_inputs); }

/* What overflows may become infinite or NaN, or be refused, in its own segment only            */
static void immense_inputs(struct rig *r, bool training)
{
    (void)training;
    for (int64_t i = 0; i < COUNT(immense); i++) {
        struct chi_segment alone = stream(r, 4, 0), g[2] = { stream(r, ROWS - 4, 0), stream(r, 4, 0) };
        float *x = draw_input(r, &immense[i]), *y = rig_rows(r, ROWS), *want = rig_rows(r, 4);
        const float *calm = rig_random_rows(r, 4, 1);
        memcpy(x + (ROWS - 4) * r->d, calm, (size_t)(4 * r->d) * sizeof *x);
        g[1].first = ROWS - 4;
        if (!rig_forward(r, &alone, 1, false, calm, want)) return;
        chi_status s = solo_forward(r->solo, g, 2, false, x, y);
        if (s == CHI_ENUMERIC) continue;
        if (s != CHI_OK) trial_fail(r->trial, "forward of %s: %s", immense[i].words, fail_text());
        else rig_same(r, "y of a calm segment beside one of immense inputs", y + (ROWS - 4) * r->d, want, 4, r->d);
    }
}

static void finite_immense(struct trial *t) { with_cases(t, false, immense_inputs); }

/* A row of NaN: refused, or seen in what comes out of its segment from that row on             */
static void nan_inputs(struct rig *r, bool training)
{
    (void)training;
    for (int64_t at = 0; at < ROWS; at += 5) {
        struct chi_segment g = stream(r, ROWS, 0);
        float *x = rig_random_rows(r, ROWS, 1), *y = rig_rows(r, ROWS);
        bool seen = false;
        for (int64_t c = 0; c < r->d; c++) x[at * r->d + c] = NAN;
        chi_status s = solo_forward(r->solo, &g, 1, false, x, y);
        if (s == CHI_ENUMERIC) continue;
        if (s != CHI_OK) {
            trial_fail(r->trial, "forward of a row of NaN: %s", fail_text());
            return;
        }
        for (int64_t i = at * r->d; i < ROWS * r->d; i++) seen = seen || !isfinite(y[i]);
        if (seen) continue;
        trial_fail(r->trial, "a row of NaN at row %lld leaves no NaN in y: it is swallowed, and a broken model would "
                   "go unnoticed (%s)", (long long)at, case_words(r->is));
        return;
    }
}

static void finite_nan(struct trial *t) { with_cases(t, false, nan_inputs); }

/* ---- time --------------------------------------------------------------------------------- */

enum { TIMES = 7, SLOW = 50 };

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of several calls                                                                  */
static double seconds_of(struct rig *r, const float *x)
{
    double took[TIMES];
    float *y = rig_rows(r, ROWS);
    struct chi_segment g = stream(r, ROWS, 0);
    for (int i = 0; i < TIMES; i++) {
        memset(g.state, 0, (size_t)r->state_bytes);
        double from = now_s();
        if (solo_forward(r->solo, &g, 1, false, x, y) != CHI_OK) return 0;
        took[i] = now_s() - from;
    }
    qsort(took, TIMES, sizeof *took, by_size);
    return took[TIMES / 2];
}

static void finite_denormal_time(struct trial *t)
{
    static const float scale[] = { 1e-39f, 1e-36f, 1e-30f, 1e-20f };
    struct layer_case c;
    struct rig r;
    if (!usual_case(t, 64, &c) && !layer_case(t, 0, &c)) return;
    if (!rig_open(&r, t, &c, false, ROWS, 1)) return;
    double plain = seconds_of(&r, rig_random_rows(&r, ROWS, 1));
    for (int64_t i = 0; i < COUNT(scale); i++) {
        double tiny = seconds_of(&r, rig_random_rows(&r, ROWS, scale[i]));
        if (tiny > SLOW * plain && plain > 0)
            trial_warn(t, "forward takes %.0f times as long on inputs about %g: it works on denormal numbers (%s)",
                       tiny / plain, (double)scale[i], case_words(&c));
    }
    rig_close(&r);
}

/* ---- formats ------------------------------------------------------------------------------ */

/* A class of weights and the least cosine between its results and those of the same values in f32 */
struct format { const char *linear, *words; double y, gradient; };
static const struct format formats[] = {
    { "quantizer = bf16\n", "bf16 weights", 0.999, 0.99 },
    { "quantizer = int8\n", "int8 weights", 0.9, 0.7 },
    { "quantizer = ternary\n", "ternary weights", 0.9, 0.7 },
};

static double cosine(const float *a, const float *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    if (aa == 0 && bb == 0) return 1;
    return ab / sqrt(aa * bb + 1e-300);
}

static bool has_linear(const struct rig *r)
{
    const struct model_tensor *w;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++)
        if (w->linear) return true;
    return false;
}

/* Forward of all rows and step by step: the same bits                                          */
static bool steps_agree(struct rig *r, const struct format *f, const float *x, float *y)
{
    struct chi_segment g = stream(r, ROWS, 0), one = stream(r, 1, 0);
    float *want = rig_rows(r, 1);
    char what[64];
    snprintf(what, sizeof what, "y of step with %s", f->words);
    if (!rig_forward(r, &g, 1, false, x, y) || !all_finite(r, "y of forward", f->words, y, ROWS, r->d)) return false;
    for (int64_t t = 0; t < ROWS; t++) {
        one.pos = t;
        one.fresh = t == 0;
        if (!rig_step(r, &one, 1, x + t * r->d, want)) return false;
        if (!rig_same(r, what, want, y + t * r->d, 1, r->d)) return false;
    }
    return true;
}

/* What the linears of a class stand for, tensor by tensor; caller frees                        */
static float *true_weights(const struct rig *r)
{
    const struct instance *in = solo_instance(r->solo);
    const struct model_tensor *w;
    int64_t n = 0, room = 4096, at = 0;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++) {
        n += w->n;
        if (in->param[i].linear) room = max_i64(room, linear_scratch(in->param[i].linear, 1));
    }
    float *out = xcalloc((size_t)n, sizeof *out);
    struct chi_scratch s = { xcalloc(1, (size_t)room), 0, (size_t)room };
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); at += w->n, i++) {
        const struct chi_linear *l = in->param[i].linear;
        if (!l) memcpy(out + at, w->w, (size_t)w->n * sizeof *out);
        for (int64_t o = 0; l && o < l->d_out; o++) linear_row(l, o, false, out + at + o * l->d_in, &s);
    }
    free(s.base);
    return out;
}

static bool set_weights(struct rig *r, const float *from)
{
    const struct model_tensor *w;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); from += w->n, i++)
        memcpy(w->w, from, (size_t)w->n * sizeof *w->w);
    return trial_must(r->trial, solo_bind(r->solo), "binding weights");
}

struct result { float *y, *dx, *dw; int64_t n_dw; };

static void result_drop(struct result *o)
{
    free(o->y);
    free(o->dx);
    free(o->dw);
}

static void collect_grads(const struct rig *r, struct result *o)
{
    const struct model_tensor *w;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++) {
        o->dw = xrealloc(o->dw, (size_t)(o->n_dw + w->n) * sizeof *o->dw);
        memcpy(o->dw + o->n_dw, w->g, (size_t)w->n * sizeof *w->g);
        o->n_dw += w->n;
    }
}

static bool there_and_back(struct rig *r, const struct format *f, const float *x, const float *dy, struct result *o)
{
    struct chi_segment g = stream(r, ROWS, 0), before = stream(r, ROWS, 0);
    rig_zero_grads(r);
    bool ok = rig_forward(r, &g, 1, true, x, o->y) && rig_backward(r, &before, 1, x, dy, o->dx)
              && all_finite(r, "dx", f->words, o->dx, ROWS, r->d);
    collect_grads(r, o);
    return ok;
}

/* Weights from *weights, or to it if it is NULL                                                */
static bool run_format(struct trial *t, const struct layer_case *c, const struct format *f, bool training,
                       float **weights, struct result *o)
{
    struct rig r;
    if (!rig_open(&r, t, c, training, ROWS, 1)) return false;
    uint64_t kept = t->draw;
    t->draw = t->seed + 9;
    const float *x = rig_random_rows(&r, ROWS, 1), *dy = rig_random_rows(&r, ROWS, 1);
    t->draw = kept;
    o->y = xcalloc((size_t)(ROWS * r.d), sizeof *o->y);
    o->dx = xcalloc((size_t)(ROWS * r.d), sizeof *o->dx);
    bool ok = !*weights || set_weights(&r, *weights);
    if (!*weights) *weights = true_weights(&r);
    ok = ok && (training ? there_and_back(&r, f, x, dy, o) : steps_agree(&r, f, x, o->y));
    rig_close(&r);
    return ok;
}

/* The best cosine of some cases: one of them may sit beside a pole, where a little more noise changes
 * everything, but not all                                                                       */
struct likeness { double y, dx, dw; };

static bool compare(struct trial *t, const struct layer_case *c, const struct format *f, bool training,
                    struct likeness *best)
{
    struct result want = { 0 }, got = { 0 };
    struct layer_case with = *c;
    float *weights = NULL;
    with.linear = f->linear;
    bool ok = run_format(t, &with, f, training, &weights, &got) && run_format(t, c, f, training, &weights, &want);
    if (ok) {
        best->y = fmax(best->y, cosine(got.y, want.y, ROWS * c->d));
        best->dx = fmax(best->dx, cosine(got.dx, want.dx, ROWS * c->d));
        best->dw = fmax(best->dw, cosine(got.dw, want.dw, min_i64(got.n_dw, want.n_dw)));
    }
    result_drop(&want);
    result_drop(&got);
    free(weights);
    return ok;
}

static bool plans_linear(struct trial *t, const struct layer_case *c)
{
    struct rig r;
    if (!rig_open(&r, t, c, false, 1, 1)) return false;
    bool any = has_linear(&r);
    rig_close(&r);
    if (!any) trial_skip(t, "it plans no linear");
    return any;
}

static void one_format(struct trial *t, const struct format *f, bool training)
{
    struct likeness best = { -1, -1, -1 };
    for (int64_t i = 0; i < CASES; i++) {
        struct layer_case c;
        if (!(i == CASES - 1 && usual_case(t, 64, &c)) && !layer_case(t, i, &c)) return;
        if ((!i && !plans_linear(t, &c)) || !compare(t, &c, f, training, &best)) return;
    }
    if (best.y < f->y)
        trial_fail(t, "with %s the cosine of y and the y of the same weights in f32 is %.3f at best, wanted is %g",
                   f->words, best.y, f->y);
    if (training && fmin(best.dx, best.dw) < f->gradient)
        trial_fail(t, "with %s the cosines of dx and of the gradients with those of the same weights in f32 are %.3f "
                   "and %.3f at best, wanted is %g", f->words, best.dx, best.dw, f->gradient);
}

static void formats_of(struct trial *t, bool training)
{
    if (training && !has_backward(t)) {
        trial_skip(t, "it has no backward pass");
        return;
    }
    for (int64_t f = 0; f < COUNT(formats) && t->outcome == TRIAL_OK; f++) one_format(t, &formats[f], training);
}

static void formats_inference(struct trial *t) { formats_of(t, false); }
static void formats_training(struct trial *t) { formats_of(t, true); }

const struct check checks_layer_numbers[] = {
    { "finite.forward", CHI_LAYER, 30, "zeros, tiny, denormal and moderate inputs give finite y", finite_forward },
    { "finite.backward", CHI_LAYER, 30, "the same for gradients", finite_backward },
    { "finite.immense", CHI_LAYER, 30, "what overflows stays in its segment", finite_immense },
    { "finite.nan", CHI_LAYER, 30, "NaN in is refused or seen in y", finite_nan },
    { "finite.denormal_time", CHI_LAYER, 60, "denormal inputs take no more than 50 times as long (a warning)",
      finite_denormal_time },
    { "formats.inference", CHI_LAYER, 60,
      "bf16, int8 and ternary weights inside: step = forward, and y like that of f32", formats_inference },
    { "formats.training", CHI_LAYER, 60, "the same classes in training: gradients flow", formats_training },
    { 0 }
};
