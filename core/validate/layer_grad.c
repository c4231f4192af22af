/* layer_grad.c - backward against differences of forward.
 *
 *     L = sum dy y,   y = forward(x; params),   dy random, summed in double
 *
 * The slope of L along a unit vector u is g u.  It is measured by central differences at steps
 * h, h/2, h/4, ... and extrapolated to h = 0 (Ridders 1982, Adv. Eng. Software 4, 75): the columns of
 * the tableau cancel h^2, h^4, ..., and where neighbours agree best the error is least; how far they
 * are apart says how far the slope can be trusted.  Large steps drown the rounding of float, small ones
 * avoid kinks; one or the other suits every tensor.
 *
 * A tensor is tried along its own gradient, where a factor of 1.01 shows, along random vectors, which see
 * any entry that is far off, and along single entries.                                         */
#include "layer_checks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

enum { ROWS = 33, SEGS = 4, LEVELS = 6, ENTRIES = 24, VECTORS = 3 };
static const double ALONG = 3e-3;       /* allowed along the gradient, relative to it           */
static const double ENTRY = 4e-3;       /* allowed in an entry, relative to the largest one     */

/* ---- the loss ---------------------------------------------------------------------------------- */

/* A call over a fresh stream, a carried one that crosses row 32, one that is fresh at position 7, and
 * a short carried one; every fourth row is large, for what only saturates there                 */
struct probe {
    struct rig *r;
    struct chi_segment g[SEGS];
    unsigned char *before[SEGS];        /* states before the call                                */
    float *x, *y, *dy, *dx;             /* [ROWS, d]                                             */
    double floor;                       /* of what differs: rounding of the largest gradient     */
};

static bool probe_new(struct rig *r, struct probe *p)
{
    static const struct { int64_t first, rows, pos; } plan[SEGS] = {
        { 0, 19, 0 }, { 19, 9, 27 }, { 28, 3, 7 }, { 31, 2, 2 },
    };
    *p = (struct probe){ .r = r, .x = rig_random_rows(r, ROWS, 1), .y = rig_rows(r, ROWS),
                         .dy = rig_random_rows(r, ROWS, 1), .dx = rig_rows(r, ROWS) };
    for (int64_t i = 0; i < ROWS * r->d; i++) p->x[i] *= i / r->d % 4 == 3 ? 4 : 1;
    for (int64_t i = 0; i < SEGS; i++) {
        struct stream s = stream_new(r, (uint64_t)i, 0, max_i64(plan[i].pos, 1));
        bool fresh = i % 2 == 0;
        if (!fresh && !stream_run(r, &s, 0, plan[i].pos, FORWARD)) return false;
        p->g[i] = (struct chi_segment){ .first = plan[i].first, .rows = plan[i].rows, .pos = plan[i].pos,
                                        .stream = (uint64_t)i, .fresh = fresh, .state = s.state };
        p->before[i] = kept_copy(r, s.state, r->state_bytes);
    }
    return true;
}

static void restore(const struct probe *p)
{
    for (int64_t i = 0; i < SEGS; i++) memcpy(p->g[i].state, p->before[i], (size_t)p->r->state_bytes);
}

static double largest(const float *v, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs((double)v[i]));
    return most;
}

/* Forward and backward; the gradients are in the tensors, dx in p                              */
static bool probe_backward(struct probe *p)
{
    const struct model_tensor *w;
    rig_zero_grads(p->r);
    memset(p->dx, 0, (size_t)row_bytes(p->r, ROWS));
    restore(p);
    if (!rig_forward(p->r, p->g, SEGS, true, p->x, p->y)) return false;
    restore(p);
    if (!rig_backward(p->r, p->g, SEGS, p->x, p->dy, p->dx)) return false;
    p->floor = 1e-5 * largest(p->dx, ROWS * p->r->d);
    for (int64_t i = 0; (w = solo_tensor(p->r->solo, i)); i++) p->floor = fmax(p->floor, 1e-5 * largest(w->g, w->n));
    return true;
}

/* NaN if the call fails, which shows as a slope that cannot be trusted                          */
static double loss(const struct probe *p)
{
    double sum = 0;
    restore(p);
    if (solo_forward(p->r->solo, p->g, SEGS, false, p->x, p->y) != CHI_OK) return NAN;
    for (int64_t i = 0; i < ROWS * p->r->d; i++) sum += (double)p->y[i] * (double)p->dy[i];
    return sum;
}

/* Rounding of float in the loss: of each term by itself                                         */
static double noise(const struct probe *p)
{
    double sum = 0;
    for (int64_t i = 0; i < ROWS * p->r->d; i++) {
        double term = (double)p->y[i] * (double)p->dy[i];
        sum += term * term;
    }
    return 1.2e-7 * sqrt(sum);
}

/* ---- slopes ------------------------------------------------------------------------------------- */

/* What is varied: n values, a parameter's if bind                                               */
struct target { const char *name; float *v; const float *g; int64_t n; bool bind; };

struct slope { double value, error; };

/* The loss with v = base + s u                                                                  */
static double loss_at(const struct probe *p, const struct target *t, const float *base, const double *u, double s)
{
    for (int64_t i = 0; i < t->n; i++) t->v[i] = (float)((double)base[i] + s * u[i]);
    if (t->bind && solo_bind(p->r->solo) != CHI_OK) return NAN;
    return loss(p);
}

static struct slope ridders(const struct probe *p, const struct target *t, const float *base, const double *u,
                            double h)
{
    double a[LEVELS][LEVELS], floor = noise(p);
    struct slope best = { NAN, INFINITY };
    for (int i = 0; i < LEVELS; i++, h /= 2) {
        a[i][0] = (loss_at(p, t, base, u, h) - loss_at(p, t, base, u, -h)) / (2 * h);
        double scale = 1;
        for (int j = 1; j <= i; j++) {
            scale *= 4;
            a[i][j] = (scale * a[i][j - 1] - a[i - 1][j - 1]) / (scale - 1);
            double error = fmax(fabs(a[i][j] - a[i][j - 1]), fabs(a[i][j] - a[i - 1][j - 1])) + 2 * floor / h;
            if (error < best.error) best = (struct slope){ a[i][j], error };
        }
    }
    return best;
}

static struct slope slope_along(const struct probe *p, const struct target *t, const double *u, double h)
{
    float *base = xcalloc((size_t)t->n, sizeof *base);
    memcpy(base, t->v, (size_t)t->n * sizeof *base);
    struct slope s = ridders(p, t, base, u, h);
    memcpy(t->v, base, (size_t)t->n * sizeof *base);
    free(base);
    return s;
}

/* ---- a tensor ----------------------------------------------------------------------------------- */

/* Of one tensor over all cases of a check                                                      */
struct verdict { char name[64]; int64_t tried, unsure; };
enum { TENSORS = 64 };
static struct verdict verdicts[TENSORS];

static struct verdict *verdict_of(const char *name)
{
    int64_t i = 0;
    while (i < TENSORS - 1 && *verdicts[i].name && strcmp(verdicts[i].name, name)) i++;
    snprintf(verdicts[i].name, sizeof verdicts[i].name, "%s", name);
    return &verdicts[i];
}

/* Warns of tensors that no case could judge well                                               */
static void tell_verdicts(struct trial *t)
{
    for (int64_t i = 0; i < TENSORS && *verdicts[i].name; i++)
        if (2 * verdicts[i].unsure > verdicts[i].tried && t->outcome < TRIAL_FAILED)
            trial_warn(t, "the gradient of %s could be judged at %lld of %lld places only: the layer is too bent "
                       "elsewhere",
                       verdicts[i].name, (long long)(verdicts[i].tried - verdicts[i].unsure),
                       (long long)verdicts[i].tried);
    memset(verdicts, 0, sizeof verdicts);
}

static double length(const float *v, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    return sqrt(sum);
}

/* Is the claim the slope along u?  One ladder of steps that is sure of it suffices.  A claim is wrong if all
 * three agree on another slope: what a kink, a jump or a narrow spike spoils in one, the others do not
 * repeat.  True if the claim holds, or cannot be judged.                                           */
static bool judge(const struct probe *p, const struct target *t, struct verdict *v, const char *where,
                  const double *u, double claimed, double allowed)
{
    static const double step[] = { 0.25, 0.02, 0.002 };
    struct slope s[COUNT(step)];
    v->tried++;
    for (int64_t i = 0; i < COUNT(step); i++) {
        double h = step[i];                 /* the last: as short as rounding lets a steep claim show */
        if (i == 2) h = fmin(h, 4000 * noise(p) / (fabs(s[1].value - claimed) + 1e-30));
        s[i] = slope_along(p, t, u, h);
        if (s[i].error <= allowed && fabs(s[i].value - claimed) <= allowed) return true;
    }
    struct slope best = s[0].error < s[1].error ? s[0] : s[1];
    best.error = fmax(best.error, fabs(s[0].value - s[1].value) / 2);
    double e = fabs(best.value - claimed);
    bool sure = best.error <= fmax(allowed, 0.02 * e)           /* false for NaN                 */
                && fabs(s[2].value - best.value) <= 0.25 * e;
    v->unsure += !sure;
    if (!sure || e <= allowed + 2 * best.error) return true;
    trial_fail(p->r->trial, "the gradient of %s is wrong %s: backward says %.6g, differences say %.6g +- %.1g (%s)",
               t->name, where, claimed, best.value, best.error, case_words(p->r->is));
    return false;
}

/* u = g / |g| and random unit vectors                                                            */
static bool try_vectors(const struct probe *p, const struct target *t, struct verdict *v)
{
    double size = length(t->g, t->n), *u = xcalloc((size_t)t->n, sizeof *u);
    bool ok = true;
    for (int k = 0; ok && k <= VECTORS; k++) {
        double claimed = 0, norm = 0;
        if (k == 0 && size == 0) continue;
        for (int64_t i = 0; i < t->n; i++) {
            u[i] = k == 0 ? (double)t->g[i] : (double)trial_uniform(p->r->trial);
            norm += u[i] * u[i];
        }
        for (int64_t i = 0; i < t->n; i++) {
            u[i] /= sqrt(norm);
            claimed += u[i] * (double)t->g[i];
        }
        ok = judge(p, t, v, k ? "along a random vector" : "along itself", u, claimed,
                   ALONG * size + 100 * noise(p) + p->floor);
    }
    free(u);
    return ok;
}

/* Every entry of a small tensor, some of a large one                                             */
static void try_entries(const struct probe *p, const struct target *t, struct verdict *v)
{
    double *u = xcalloc((size_t)t->n, sizeof *u), most = largest(t->g, t->n);
    bool ok = true;
    int64_t n = min_i64(t->n, ENTRIES);
    for (int64_t k = 0; ok && k < n; k++) {
        char where[48];
        int64_t i = t->n <= ENTRIES ? k : trial_between(p->r->trial, k * t->n / n, (k + 1) * t->n / n - 1);
        snprintf(where, sizeof where, "at [%lld]", (long long)i);
        u[i] = 1;
        ok = judge(p, t, v, where, u, (double)t->g[i], ENTRY * most + 100 * noise(p) + p->floor);
        u[i] = 0;
    }
    free(u);
}

static void try_tensor(const struct probe *p, const struct target *t)
{
    struct verdict *v = verdict_of(t->name);
    if (try_vectors(p, t, v)) try_entries(p, t, v);
    if (t->bind) trial_must(p->r->trial, solo_bind(p->r->solo), "binding weights");
}

/* ---- the checks ---------------------------------------------------------------------------------- */

static void grad_x(struct rig *r)
{
    struct probe p;
    if (!probe_new(r, &p) || !probe_backward(&p)) return;
    try_tensor(&p, &(struct target){ "x", p.x, p.dx, ROWS * r->d, false });
}

void check_grad_x(struct trial *t)
{
    each_case(t, TRAINING, ROWS, SEGS, grad_x);
    tell_verdicts(t);
}

static void grad_params(struct rig *r)
{
    const struct model_tensor *w;
    struct probe p;
    if (!probe_new(r, &p) || !probe_backward(&p)) return;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++)
        if (!w->manual) try_tensor(&p, &(struct target){ w->name, w->w, w->g, w->n, true });
}

void check_grad_params(struct trial *t)
{
    each_case(t, TRAINING, ROWS, SEGS, grad_params);
    tell_verdicts(t);
}

/* Gradients that are there already stay: got = given + new, up to the rounding of that sum          */
static void grad_adds(struct rig *r)
{
    const struct model_tensor *w;
    struct probe p;
    if (!probe_new(r, &p)) return;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++) {
        if (!probe_backward(&p)) return;
        double size = length(w->g, w->n) / sqrt((double)w->n) + 1e-3, worst = 0;
        float *alone = kept_copy(r, w->g, w->n * (int64_t)sizeof(float)),
            *given = rig_block(r, w->n * (int64_t)sizeof(float));
        for (int64_t j = 0; j < w->n; j++) w->g[j] = given[j] = (float)(size * (1.5 + (double)trial_uniform(r->trial)));
        restore(&p);
        if (!rig_backward(r, p.g, SEGS, p.x, p.dy, rig_rows(r, ROWS))) return;
        for (int64_t j = 0; j < w->n; j++) {
            double e = fabs((double)w->g[j] - (double)given[j] - (double)alone[j]) / (size + fabs((double)alone[j]));
            if (!(e <= worst)) worst = e;
        }
        if (!(worst <= 1e-4))
            trial_fail(r->trial, "backward does not add to the gradient of %s that is there already: off by %.2g of "
                       "its size; gradients are written with += (%s)", w->name, worst, case_words(r->is));
    }
}

void check_grad_adds(struct trial *t)
{
    each_case(t, TRAINING, ROWS, SEGS, grad_adds);
}

/* grads is NULL: nothing is written there, and dx and dstate are what they are with it              */
static void grad_frozen(struct rig *r)
{
    struct probe p;
    unsigned char *dstate[2][SEGS];
    for (int64_t i = 0; i < SEGS; i++)
        for (int k = 0; k < 2; k++) dstate[k][i] = rig_block(r, r->state_bytes);
    if (!probe_new(r, &p) || !probe_backward(&p)) return;
    float *dx[2] = { rig_rows(r, ROWS), rig_rows(r, ROWS) };
    for (int k = 0; k < 2; k++) {
        struct chi_segment g[SEGS];
        memcpy(g, p.g, sizeof g);
        for (int64_t i = 0; i < SEGS; i++) g[i].dstate = dstate[k][i];
        solo_freeze(r->solo, k == 1);
        restore(&p);
        if (!rig_forward(r, p.g, SEGS, true, p.x, p.y)) return;
        restore(&p);
        if (!rig_backward(r, g, SEGS, p.x, p.dy, dx[k])) return;
    }
    solo_freeze(r->solo, false);
    if (!rig_same(r, "dx with grads = NULL, against dx with gradients", dx[1], dx[0], ROWS, r->d)) return;
    for (int64_t i = 0; i < SEGS; i++)
        if (!rig_same_bytes(r, "dstate with grads = NULL, against dstate with gradients", dstate[1][i], dstate[0][i],
                            r->state_bytes))
            return;
}

void check_grad_frozen(struct trial *t)
{
    each_case(t, TRAINING, ROWS, SEGS, grad_frozen);
}

/* ---- through the state ----------------------------------------------------------------------------- */

enum { STREAM = 40, CALLS = 8 };

/* Gradients of a stream whose loss looks at its last rows                                          */
struct joined { float *dx, *g[TENSORS]; };

static struct joined take_gradients(struct rig *r, float *dx)
{
    const struct model_tensor *w;
    struct joined j = { .dx = dx };
    for (int64_t i = 0; i < TENSORS && (w = solo_tensor(r->solo, i)); i++) j.g[i] = kept_copy(r, w->g,
            w->n * (int64_t)sizeof(float));
    return j;
}

/* In calls of rows cut[k]..cut[k+1]-1, from the last to the first; d loss/d state joins them          */
static bool join_calls(struct rig *r, const struct stream *s, const float *dy, const int64_t *cut, int64_t n,
                       struct joined *out)
{
    unsigned char *before[CALLS], *dstate = rig_block(r, r->state_bytes);
    float *dx = rig_rows(r, s->rows);
    rig_zero_grads(r);
    stream_rewind(r, s);
    for (int64_t k = 0; k < n; k++) {
        before[k] = kept_copy(r, s->state, r->state_bytes);
        if (!stream_run(r, s, cut[k], cut[k + 1], KEEP)) return false;
    }
    for (int64_t k = n - 1; k >= 0; k--) {
        struct chi_segment g = stream_segment(s, cut[k], cut[k + 1], 0);
        int64_t at = cut[k] * r->d;
        memcpy(s->state, before[k], (size_t)r->state_bytes);
        if (!rig_forward(r, &g, 1, true, s->x + at, s->y + at)) return false;
        memcpy(s->state, before[k], (size_t)r->state_bytes);
        g.dstate = n > 1 ? dstate : NULL;
        if (!rig_backward(r, &g, 1, s->x + at, dy + at, dx + at)) return false;
    }
    *out = take_gradients(r, dx);
    return true;
}

static bool same_gradients(struct rig *r, const struct joined *got, const struct joined *want, int64_t rows,
                           int64_t cut)
{
    const struct model_tensor *w;
    double e = rig_distance(got->dx, want->dx, rows * r->d), size = length(want->dx, rows * r->d);
    if (!(e <= 1e-3)) {
        trial_fail(r->trial, "the state's gradient: dx of a stream in calls cut at row %lld and joined by dstate is "
                   "off by %.2g from dx of one call (%s)", (long long)cut, e, case_words(r->is));
        return false;
    }
    for (int64_t i = 0; i < TENSORS && (w = solo_tensor(r->solo, i)); i++) {
        e = rig_distance(got->g[i], want->g[i], w->n);
        if (w->manual || e <= 1e-3 || length(want->g[i], w->n) <= 1e-5 * size) continue;
        trial_fail(r->trial, "the state's gradient: that of %s from calls cut at row %lld and joined by dstate is "
                   "off by %.2g from that of one call (%s)", w->name, (long long)cut, e, case_words(r->is));
        return false;
    }
    return true;
}

/* dstate is measured by what it does: the loss looks at the last rows alone, so what the first rows
 * and their parameters get comes through it.  Numbers of a state that mean nothing by themselves (a
 * running maximum that cancels) are so judged together with their partners.                         */
static void grad_state(struct rig *r)
{
    static const int64_t cuts[][5] = { { 0, 33, STREAM }, { 0, 38, STREAM }, { 0, 32, STREAM }, { 0, 1, STREAM },
                                       { 0, 20, 31, 34, STREAM } };
    struct stream s = stream_new(r, 8, 0, STREAM);
    float *dy = rig_random_rows(r, STREAM, 1);
    struct joined want, got;
    if (!solo_state_bytes(r->solo)) {
        trial_skip(r->trial, "it keeps no state");
        return;
    }
    for (int64_t c = 0; c < COUNT(cuts); c++) {
        int64_t n = cuts[c][2] == STREAM ? 2 : 4, whole[] = { 0, STREAM };
        memset(dy, 0, (size_t)row_bytes(r, STREAM));
        for (int64_t i = cuts[c][n - 1] * r->d; i < STREAM * r->d; i++) dy[i] = trial_uniform(r->trial);
        if (!join_calls(r, &s, dy, whole, 1, &want) || !join_calls(r, &s, dy, cuts[c], n, &got)) return;
        if (!same_gradients(r, &got, &want, STREAM, cuts[c][1])) return;
    }
}

void check_grad_state(struct trial *t)
{
    each_case(t, TRAINING, STREAM, SEGS, grad_state);
}

/* One long call against short ones, whose gradients were measured above                              */
static void grad_long(struct rig *r)
{
    static const int64_t cut[CALLS + 1] = { 0, 20, 53, 64, 97, 127, 149, 170, LONG }, whole[] = { 0, LONG };
    struct joined want, got;
    if (!takes_long(r)) return;
    struct stream s = stream_new(r, 8, 0, LONG);
    float *dy = rig_random_rows(r, LONG, 1);
    if (join_calls(r, &s, dy, whole, 1, &got) && join_calls(r, &s, dy, cut, CALLS, &want))
        same_gradients(r, &got, &want, LONG, cut[1]);
}

void check_grad_long(struct trial *t)
{
    each_case(t, TRAINING, LONG, SEGS, grad_long);
}
