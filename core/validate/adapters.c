/* adapters.c - checks of adapters, beside the down projection of a swiglu layer with f32 weights:
 * they add, their gradients are those of differences, rows are alike to them, and neither memory
 * nor threads show.                                                                            */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter.h"
#include "core.h"
#include "kinds.h"
#include "pool.h"
#include "rig.h"

enum { CASES = 4, ROWS = 6, DIRECTIONS = 3 };
static const int64_t widths[CASES][2] = { { 24, 40 }, { 7, 65 }, { 130, 3 }, { 1, 17 } };   /* out, in */

struct bench {
    struct trial *t;
    struct bench_part drawn;
    struct spec *spec;
    struct solo *solo;
    struct instance *in;
    struct chi_linear *l;
    struct adapter *a;
    float *x, *dy, *start;                  /* [ROWS, in], [ROWS, out], what y holds before    */
    float *y, *dx;
    char   with[256];
    int64_t d_out, d_in;
    bool   back;                            /* the next call is a backward one                 */
    int64_t from, rows;                     /* its rows                                        */
    chi_status s;
};

/* ---- an adapter that is open --------------------------------------------------------------- */

static chi_status open_spec(struct bench *b, struct spec **out)
{
    const char *name = b->t->component->name, *value;
    char *text = xprintf("[model]\nhidden_size = %lld\nnum_hidden_layers = 1\nvocab_size = 97\nlayer_pattern = X\n"
                         "ffn_pattern = X\n[run]\nthreads = 1\n[layer.X]\nuse = swiglu\nintermediate_size = %lld\n"
                         "[linear]\nquantizer = f32\nadapter = %s\n[adapter.%s]\n", (long long)b->d_out,
                         (long long)b->d_in, name, name);
    for (const struct chi_option *o = b->t->component->options; o && o->name; o++) {
        if (!(value = config_get(b->drawn.config, "it", o->name))) continue;
        char *more = xprintf("%s%s = %s\n", text, o->name, value);
        free(text);
        text = more;
    }
    struct config *config;
    chi_status s = config_load_text(&config, "drawn options", text, NULL, 0);
    free(text);
    return s == CHI_OK ? spec_open(out, config, SPEC_MODEL) : s;
}

static void random_values(struct trial *t, float *x, int64_t n, float scale)
{
    for (int64_t i = 0; i < n; i++) x[i] = scale * trial_uniform(t);
}

static bool find_adapter(struct bench *b)
{
    for (int64_t i = 0; i < b->in->n_param; i++) {
        struct chi_linear *l = b->in->param[i].linear;
        if (l && l->d_out == b->d_out && l->d_in == b->d_in && !strcmp(l->name, "down_proj")) b->l = l;
    }
    b->a = b->l && b->l->n_adapter ? &b->l->adapter[0] : NULL;
    if (!b->a) trial_fail(b->t, "down_proj of swiglu has no adapter");
    return b->a;
}

static bool bench_open(struct bench *b, struct trial *t, int64_t i)
{
    *b = (struct bench){ .t = t, .d_out = widths[i][0], .d_in = widths[i][1], .rows = ROWS };
    if (!part_bench_open(&b->drawn, t, i, NULL)) return false;
    snprintf(b->with, sizeof b->with, "%lld from %lld, %.180s", (long long)b->d_out, (long long)b->d_in,
             b->drawn.options);
    if (!trial_must(t, open_spec(b, &b->spec), "a model of one swiglu layer with this adapter")) return false;
    if (!trial_must(t, solo_open(&b->solo, b->spec, &b->spec->ffn[0], true, ROWS, ROWS), "open")) return false;
    b->in = solo_instance(b->solo);
    if (!find_adapter(b)) return false;
    b->x = xcalloc((size_t)(ROWS * b->d_in), sizeof *b->x);
    b->dx = xcalloc((size_t)(ROWS * b->d_in), sizeof *b->dx);
    b->y = xcalloc((size_t)(ROWS * b->d_out), sizeof *b->y);
    b->dy = xcalloc((size_t)(ROWS * b->d_out), sizeof *b->dy);
    b->start = xcalloc((size_t)(ROWS * b->d_out), sizeof *b->start);
    random_values(t, b->x, ROWS * b->d_in, 1);
    random_values(t, b->dy, ROWS * b->d_out, 1);
    random_values(t, b->start, ROWS * b->d_out, 1);
    const struct model_tensor *w;
    for (int64_t k = 0; (w = solo_tensor(b->solo, k)); k++)     /* away from its start           */
        for (int64_t j = 0; b->in->param[k].adapter && j < w->n; j++) w->w[j] += 0.5f * trial_uniform(t);
    return true;
}

static void bench_close(struct bench *b)
{
    solo_close(b->solo);
    spec_close(b->spec);
    if (b->drawn.host) part_bench_close(&b->drawn);
    free(b->x);
    free(b->dx);
    free(b->y);
    free(b->dy);
    free(b->start);
}

static void each_bench(struct trial *t, void (*check)(struct bench *))
{
    for (int64_t i = 0; i < CASES && t->outcome < TRIAL_FAILED; i++) {
        struct bench b;
        if (bench_open(&b, t, i)) check(&b);
        bench_close(&b);
    }
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* y = start + adapter(x), or from zero gradients dx and those of the parameters.  keep: as training calls it */
static bool pass(struct bench *b, bool back, bool keep, int64_t from, int64_t rows)
{
    const struct chi_linear *lin[] = { b->l };
    const float *x = b->x + from * b->d_in, *dy[] = { b->dy + from * b->d_out };
    float *y[] = { b->y + from * b->d_out }, *dx = b->dx + from * b->d_in;
    struct chi_run r = { .h = b->in->host, .params = b->in->params, .grads = b->in->grads, .rows = rows,
                         .keep = keep };
    if (!back) {
        memcpy(y[0], b->start + from * b->d_out, (size_t)(rows * b->d_out) * sizeof(float));
        return trial_must(b->t, adapters_forward(lin, 1, &r, x, rows, y), "forward");
    }
    memset(b->in->grads, 0, (size_t)b->in->param_bytes);
    memset(dx, 0, (size_t)(rows * b->d_in) * sizeof *dx);
    return trial_must(b->t, adapters_back(lin, 1, &r, x, rows, dy, dx, NULL), "backward");
}

/* ---- adding ---------------------------------------------------------------------------------- */

static void compare_sum(struct bench *b, const char *what, const float *sum, const float *start, const float *own,
                        int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float want = start[i] + own[i];
        if (fabsf(sum[i] - want) <= 1e-4f * (fabsf(start[i]) + fabsf(own[i]) + 1e-3f)) continue;
        trial_fail(b->t, "%s[%lld] is %g, wanted is what was there, %g, plus what comes from nothing, %g (%s)", what,
                   (long long)i, (double)sum[i], (double)start[i], (double)own[i], b->with);
        return;
    }
}

/* y += and dx +=, gradients +=                                                                   */
static void adds(struct bench *b)
{
    int64_t n = ROWS * b->d_out, nx = ROWS * b->d_in, ng = b->in->param_bytes / (int64_t)sizeof(float);
    float *own = xcalloc((size_t)n, sizeof *own), *ownx = xcalloc((size_t)nx, sizeof *ownx);
    float *start = xcalloc((size_t)nx, sizeof *start), *g = (float *)(void *)b->in->grads;
    float *own_g = xcalloc((size_t)ng, sizeof *own_g), *start_g = xcalloc((size_t)ng, sizeof *start_g);
    memset(b->start, 0, (size_t)n * sizeof *own);
    bool ok = pass(b, false, false, 0, ROWS) && pass(b, true, true, 0, ROWS);
    memcpy(own, b->y, (size_t)n * sizeof *own);
    memcpy(ownx, b->dx, (size_t)nx * sizeof *ownx);
    memcpy(own_g, g, (size_t)ng * sizeof *own_g);
    random_values(b->t, b->start, n, 1);
    random_values(b->t, start, nx, 1);
    random_values(b->t, start_g, ng, 1);
    memcpy(b->dx, start, (size_t)nx * sizeof *start);
    memcpy(g, start_g, (size_t)ng * sizeof *start_g);
    if (ok && pass(b, false, false, 0, ROWS)) {
        const struct chi_linear *lin[] = { b->l };
        const float *dy[] = { b->dy };
        struct chi_run r = { .h = b->in->host, .params = b->in->params, .grads = b->in->grads, .rows = ROWS,
                             .keep = true };
        ok = trial_must(b->t, adapters_back(lin, 1, &r, b->x, ROWS, dy, b->dx, NULL), "backward");
        if (ok) compare_sum(b, "y of forward", b->y, b->start, own, n);
        if (ok) compare_sum(b, "dx of backward", b->dx, start, ownx, nx);
        if (ok) compare_sum(b, "gradients of backward", g, start_g, own_g, ng);
    }
    free(own);
    free(ownx);
    free(start);
    free(own_g);
    free(start_g);
}

/* ---- gradients --------------------------------------------------------------------------------- */

static double loss_at(struct bench *b, float *w, const float *was, const float *way, int64_t n, double by)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) w[i] = (float)((double)was[i] + by * (double)way[i]);
    if (!pass(b, false, false, 0, ROWS)) return NAN;
    for (int64_t i = 0; i < ROWS * b->d_out; i++) sum += (double)b->dy[i] * (double)b->y[i];
    return sum;
}

/* d loss / d w along random directions, by differences of two step sizes                         */
static void compare(struct bench *b, const char *what, float *w, const float *g, int64_t n)
{
    float *was = xcalloc((size_t)n, sizeof *was), *way = xcalloc((size_t)n, sizeof *way);
    memcpy(was, w, (size_t)n * sizeof *w);
    for (int k = 0; k < DIRECTIONS && b->t->outcome < TRIAL_FAILED; k++) {
        double got = 0, size = 0, slope[2];
        for (int64_t i = 0; i < n; i++) {
            way[i] = trial_uniform(b->t);
            got += (double)way[i] * (double)g[i];
            size += fabs((double)way[i] * (double)g[i]);
        }
        for (int s = 0; s < 2; s++) {
            double h = s ? 0.01 : 0.02;
            slope[s] = (loss_at(b, w, was, way, n, h) - loss_at(b, w, was, way, n, -h)) / (2 * h);
        }
        double want = (4 * slope[1] - slope[0]) / 3, error = fabs(got - want) / (fmax(size, fabs(want)) + 1e-2);
        if (!(error <= 2e-3))
            trial_fail(b->t, "the gradient of %s along a random direction is %.6g, differences give %.6g (%s)", what,
                       got, want, b->with);
    }
    memcpy(w, was, (size_t)n * sizeof *w);
    free(was);
    free(way);
}

static void gradients(struct bench *b)
{
    const struct model_tensor *w;
    if (!pass(b, true, true, 0, ROWS)) return;
    float *dx = xcalloc((size_t)(ROWS * b->d_in), sizeof *dx);
    memcpy(dx, b->dx, (size_t)(ROWS * b->d_in) * sizeof *dx);
    compare(b, "x", b->x, dx, ROWS * b->d_in);
    free(dx);
    for (int64_t k = b->a->first; k < b->a->first + b->a->n_param && (w = solo_tensor(b->solo, k)); k++)
        compare(b, w->name, w->w, w->g, w->n);
}

/* ---- bits ---------------------------------------------------------------------------------------- */

static void rows_alone(struct bench *b)
{
    size_t bytes = (size_t)(ROWS * b->d_out) * sizeof(float);
    float *all = xcalloc(1, bytes);
    bool ok = pass(b, false, false, 0, ROWS);
    memcpy(all, b->y, bytes);
    for (int64_t size = 1; ok && size < ROWS; size++) {
        for (int64_t r = 0; ok && r < ROWS; r += size) ok = pass(b, false, false, r, min_i64(size, ROWS - r));
        for (int64_t r = 0; ok && r < ROWS; r++)
            if (memcmp(all + r * b->d_out, b->y + r * b->d_out, (size_t)b->d_out * sizeof(float))) {
                trial_fail(b->t, "y of row %lld has other bits when %lld rows come in a call instead of %d (%s)",
                           (long long)r, (long long)size, ROWS, b->with);
                ok = false;
            }
    }
    free(all);
}

static void threads(struct bench *b)
{
    size_t y_bytes = (size_t)(ROWS * b->d_out) * sizeof(float), x_bytes = (size_t)(ROWS * b->d_in) * sizeof(float);
    size_t g_bytes = (size_t)b->in->param_bytes;
    float *y = xcalloc(1, y_bytes), *dx = xcalloc(1, x_bytes);
    unsigned char *g = xcalloc(1, g_bytes);
    bool ok = pass(b, false, false, 0, ROWS) && pass(b, true, true, 0, ROWS);
    memcpy(y, b->y, y_bytes);
    memcpy(dx, b->dx, x_bytes);
    memcpy(g, b->in->grads, g_bytes);
    for (int n = 2; ok && n <= 8; n += n == 3 ? 5 : 1) {
        pool_threads(n);
        ok = pass(b, false, false, 0, ROWS) && pass(b, true, true, 0, ROWS);
        const char *what = memcmp(y, b->y, y_bytes) ? "y" : memcmp(dx, b->dx, x_bytes) ? "dx"
                         : memcmp(g, b->in->grads, g_bytes) ? "a gradient" : NULL;
        if (ok && what) trial_fail(b->t, "%s has other bits on %d threads (%s)", what, n, b->with);
    }
    pool_threads(1);
    free(y);
    free(dx);
    free(g);
}

/* ---- memory --------------------------------------------------------------------------------------- */

/* One call with every block guarded and full of nonsense where nothing was promised                 */
static void guarded_call(void *arg)
{
    struct bench *b = arg;
    struct chi_run r = { .h = b->a->host, .params = b->in->params, .grads = b->back ? b->in->grads : NULL,
                         .array = b->a->at, .rows = ROWS, .keep = b->back };
    b->s = b->back ? b->a->ops->backward(b->a->self, &r, b->x, b->dy, b->dx)
        : b->a->ops->forward(b->a->self, &r, b->x, b->y);
}

static bool inside_blocks(struct bench *b, bool at_end)
{
    struct pile p = { .n = 0 };
    struct bench g = *b;
    int64_t nx = ROWS * b->d_in * 4, ny = ROWS * b->d_out * 4;
    float *x = (float *)(uintptr_t)pile_copy(&p, b->x, nx, 4, at_end, "x");
    float *dy = (float *)(uintptr_t)pile_copy(&p, b->dy, ny, 4, at_end, "dy");
    g.x = x, g.dy = dy;
    g.y = pile_take(&p, ny, 4, at_end, "y");
    g.dx = pile_take(&p, nx, 4, at_end, "dx");
    memcpy(g.y, b->start, (size_t)ny);
    memset(g.dx, 0, (size_t)nx);
    for (int64_t i = 0; i < b->a->n_array; i++) {
        const struct planned_array *a = &b->a->array[i];
        b->a->at[i] = pile_take(&p, max_i64(1, (a->every == CHI_PER_ROW ? ROWS : 1) * a->bytes), 64, at_end,
                                "an array");
    }
    bool ok = true;
    memset(b->in->grads, 0, (size_t)b->in->param_bytes);
    for (int back = 0; ok && back < 2; back++) {
        g.back = back;
        ok = call_guarded(b->t, back ? "backward" : "forward", b->with, guarded_call, &g)
          && trial_must(b->t, g.s, back ? "backward" : "forward");
    }
    if (ok && memcmp(g.y, b->y, (size_t)ny))
        trial_fail(b->t, "y of forward depends on what its memory held before (%s)", b->with);
    if (ok && memcmp(g.dx, b->dx, (size_t)nx))
        trial_fail(b->t, "dx of backward depends on what its memory held before (%s)", b->with);
    pile_drop(&p);
    return ok;
}

static void memory(struct bench *b)
{
    size_t size = b->a->ops->self_size;
    unsigned char *self = xcalloc(1, size + 1);
    memcpy(self, b->a->self, size);
    if (pass(b, false, true, 0, ROWS) && pass(b, true, true, 0, ROWS) && inside_blocks(b, true))
        inside_blocks(b, false);
    if (memcmp(self, b->a->self, size)) trial_fail(b->t, "a call writes to self, which is const after open (%s)",
                                                   b->with);
    free(self);
}

/* ---- steering ---------------------------------------------------------------------------------------- */

static void steering(struct bench *b)
{
    const struct adapter *a = b->a;
    float *g = (float *)(void *)b->in->grads;
    for (int k = 0; k <= 20 && b->t->outcome < TRIAL_FAILED; k++) {
        memset(g, 0, (size_t)b->in->param_bytes);
        uint32_t held = a->ops->steer(a->self, k / 20.0, b->in->params, b->in->grads);
        if (a->n_param < 32 && held >> a->n_param)
            trial_fail(b->t, "steer(%g) holds parameters %#x, it planned %lld (%s)", k / 20.0, held,
                       (long long)a->n_param, b->with);
        for (int64_t i = 0; i < b->in->n_param; i++) {
            const struct planned_param *p = &b->in->param[i];
            bool own = i >= a->first && i < a->first + a->n_param, zero = true, finite = true;
            for (int64_t j = 0; j < p->n; j++) {
                float v = g[p->offset / (int64_t)sizeof *g + j];
                zero = zero && v == 0;
                finite = finite && isfinite(v);
            }
            if (!finite || (!own && !zero))
                trial_fail(b->t, "steer(%g) makes the gradient of %s %s (%s)", k / 20.0, p->name,
                           finite ? "other than 0, which is not its own" : "not finite", b->with);
        }
    }
}

static void check_adds(struct trial *t) { each_bench(t, adds); }
static void check_gradients(struct trial *t) { each_bench(t, gradients); }
static void check_rows(struct trial *t) { each_bench(t, rows_alone); }
static void check_threads(struct trial *t) { each_bench(t, threads); }
static void check_memory(struct trial *t) { each_bench(t, memory); }

static void check_steer(struct trial *t)
{
    const struct chi_adapter_ops *ops = t->component->ops;
    if (CHI_HAS(struct chi_adapter_ops, ops, steer)) each_bench(t, steering);
    else trial_skip(t, "it has no steer(): all parameters learn all the time");
}

const struct check checks_adapters[] = {
    { "adapter.adds", CHI_ADAPTER, 20, "y, dx and gradients are added to, whatever they held", check_adds },
    { "adapter.grad", CHI_ADAPTER, 30, "gradients of x and every parameter equal those of differences",
      check_gradients },
    { "adapter.rows", CHI_ADAPTER, 20, "in inference a row has the same bits alone and among others", check_rows },
    { "adapter.threads", CHI_ADAPTER, 20, "the same bits on 1, 2, 3 and 8 threads", check_threads },
    { "adapter.memory", CHI_ADAPTER, 20,
      "it stays inside its blocks, trusts none that it did not fill, and leaves self alone", check_memory },
    { "adapter.steer", CHI_ADAPTER, 20, "steer() holds and adds to parameters of its own, with finite numbers",
      check_steer },
    { 0 }
};
