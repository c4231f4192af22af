/* layer_segments.c - several streams in one call.
 *
 * Rule 4 of chimera/layer.h: a row's result does not depend on the other segments of the call.
 * So whatever a call of several streams gives must have the bits of calls of one stream each;
 * only the gradients of parameters are sums over all of them.                                */
#include "layer_checks.h"

#include <math.h>
#include <string.h>

#include "core.h"

enum { STREAMS = 9, LONGEST = 24, ROWS = STREAMS * LONGEST };

/* Streams side by side in the rows of a call                                                */
struct pack {
    struct chi_segment g[STREAMS];
    const struct stream *of[STREAMS];
    int64_t n, rows;
    float  *x, *y;                      /* [ROWS, d]                                           */
};

static struct pack pack_new(struct rig *r)
{
    return (struct pack){ .x = rig_rows(r, ROWS), .y = rig_rows(r, ROWS) };
}

static void pack_add(const struct rig *r, struct pack *p, const struct stream *s, int64_t from, int64_t to)
{
    memcpy(p->x + p->rows * r->d, s->x + from * r->d, (size_t)row_bytes(r, to - from));
    p->g[p->n] = stream_segment(s, from, to, p->rows);
    p->of[p->n++] = s;
    p->rows += to - from;
}

/* Half of the streams have read rows before the call: 0..cut-1                               */
struct set { struct stream s[STREAMS]; int64_t cut[STREAMS]; };

static struct set set_new(struct rig *r)
{
    struct set set;
    for (int64_t i = 0; i < STREAMS; i++) {
        int64_t rows = trial_between(r->trial, 2, LONGEST);
        set.s[i] = stream_new(r, (uint64_t)(11 * i + 2), 0, rows);
        set.cut[i] = i % 2 ? trial_between(r->trial, 1, rows - 1) : 0;
    }
    return set;
}

/* Every stream is where it was before the call                                               */
static bool set_start(struct rig *r, const struct set *set)
{
    for (int64_t i = 0; i < STREAMS; i++) {
        stream_rewind(r, &set->s[i]);
        if (!stream_run(r, &set->s[i], 0, set->cut[i], FORWARD)) return false;
    }
    return true;
}

/* A random order of the streams                                                              */
static void shuffle(struct rig *r, int64_t *order)
{
    for (int64_t i = 0; i < STREAMS; i++) order[i] = i;
    for (int64_t i = STREAMS - 1; i > 0; i--) {
        int64_t j = trial_between(r->trial, 0, i), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

/* ---- inference --------------------------------------------------------------------------------- */

/* What each stream alone gives for rows cut..end-1: y, and the state                         */
struct alone { float *y; unsigned char *state; };

static bool run_alone(struct rig *r, const struct set *set, const int64_t *end, enum how how, struct alone *a)
{
    if (!set_start(r, set)) return false;
    for (int64_t i = 0; i < STREAMS; i++) {
        const struct stream *s = &set->s[i];
        if (!stream_run(r, s, set->cut[i], end[i], how)) return false;
        a[i].y = kept_copy(r, s->y + set->cut[i] * r->d, row_bytes(r, end[i] - set->cut[i]));
        a[i].state = kept_copy(r, s->state, r->state_bytes);
    }
    return set_start(r, set);
}

static bool equals_alone(struct rig *r, const struct pack *p, int64_t k, const struct alone *a, const char *call)
{
    char what[160];
    const struct chi_segment *g = &p->g[k];
    snprintf(what, sizeof what,
             "%s: a stream of %lld rows from position %lld at row %lld of the call, against it alone",
             call, (long long)g->rows, (long long)g->pos, (long long)g->first);
    if (!rig_same(r, what, p->y + g->first * r->d, a->y, g->rows, r->d)) return false;
    snprintf(what, sizeof what, "%s: the state of the stream at row %lld of the call, against it alone", call,
             (long long)g->first);
    return rig_same_bytes(r, what, g->state, a->state, r->state_bytes);
}

static bool run_packed(struct rig *r, const struct set *set, const int64_t *end, enum how how, const struct alone *a)
{
    int64_t order[STREAMS], n = trial_between(r->trial, 2, STREAMS);
    struct pack p = pack_new(r);
    shuffle(r, order);
    for (int64_t k = 0; k < n; k++) pack_add(r, &p, &set->s[order[k]], set->cut[order[k]], end[order[k]]);
    bool ok = how == STEP ? rig_step(r, p.g, n, p.x, p.y) : rig_forward(r, p.g, n, how == KEEP, p.x, p.y);
    for (int64_t k = 0; ok && k < n; k++)
        ok = equals_alone(r, &p, k, &a[order[k]], how == STEP ? "packed steps" : "packed rows");
    return ok;
}

static void try_packings(struct rig *r, enum how how)
{
    struct alone a[STREAMS];
    for (int draw = 0; draw < 6; draw++) {
        struct set set = set_new(r);
        int64_t end[STREAMS];
        for (int64_t i = 0; i < STREAMS; i++) end[i] = how == STEP ? set.cut[i] + 1 : set.s[i].rows;
        if (!run_alone(r, &set, end, how, a) || !run_packed(r, &set, end, how, a)) return;
    }
}

static void packed_forward(struct rig *r) { try_packings(r, FORWARD); }
static void packed_step(struct rig *r) { try_packings(r, STEP); }

void check_segments_forward(struct trial *t)
{
    each_case(t, INFERENCE, ROWS, STREAMS, packed_forward);
}

void check_segments_step(struct trial *t)
{
    each_case(t, INFERENCE, ROWS, STREAMS, packed_step);
}

/* ---- training ------------------------------------------------------------------------------------ */

struct gradients { float *dx, *dstate[STREAMS], *params; };

static int64_t params_floats(const struct rig *r)
{
    const struct model_tensor *w;
    int64_t n = 0;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++) n += w->n;
    return n;
}

static float *copy_gradients(struct rig *r)
{
    const struct model_tensor *w;
    float *all = rig_block(r, params_floats(r) * (int64_t)sizeof(float)), *at = all;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); at += w->n, i++) memcpy(at, w->g, (size_t)w->n * sizeof *at);
    return all;
}

/* forward, then backward from the same states; dstate comes in with small numbers            */
static bool train(struct rig *r, struct pack *p, const float *dy, float *const *dstate, float *dx)
{
    unsigned char *before[STREAMS];
    for (int64_t k = 0; k < p->n; k++) before[k] = kept_copy(r, p->g[k].state, r->state_bytes);
    rig_zero_grads(r);
    if (!rig_forward(r, p->g, p->n, true, p->x, p->y)) return false;
    for (int64_t k = 0; k < p->n; k++) {
        memcpy(p->g[k].state, before[k], (size_t)r->state_bytes);
        p->g[k].dstate = (unsigned char *)dstate[k];
    }
    return rig_backward(r, p->g, p->n, p->x, dy, dx);
}

/* d loss/d state of a stream, as later rows of its own leave it: no number is invented that the
 * layer would not have made itself                                                           */
static bool later_rows(struct rig *r, const struct stream *s, int64_t from, int64_t to, float *dstate)
{
    struct chi_segment g = stream_segment(s, from, to, 0);
    float *dy = rig_random_rows(r, to - from, 1), *dx = rig_rows(r, to - from);
    unsigned char *before = kept_copy(r, s->state, r->state_bytes);
    if (!rig_forward(r, &g, 1, true, s->x + from * r->d, s->y + from * r->d)) return false;
    memcpy(s->state, before, (size_t)r->state_bytes);
    g.dstate = (unsigned char *)dstate;
    return rig_backward(r, &g, 1, s->x + from * r->d, dy, dx);
}

/* Each stream alone: gradients of its rows, and their sum                                    */
static bool train_alone(struct rig *r, const struct set *set, const int64_t *end, const float *dy,
                        float *const *after, struct gradients *sum)
{
    int64_t n = params_floats(r), row = 0;
    double *total = rig_block(r, n * (int64_t)sizeof *total);
    for (int64_t i = 0; i < STREAMS; i++) {
        struct pack one = pack_new(r);
        pack_add(r, &one, &set->s[i], set->cut[i], end[i]);
        sum->dstate[i] = after[i] ? kept_copy(r, after[i], r->state_bytes) : NULL;
        if (!train(r, &one, dy + row * r->d, &sum->dstate[i], sum->dx + row * r->d)) return false;
        const float *g = copy_gradients(r);
        for (int64_t j = 0; j < n; j++) total[j] += (double)g[j];
        row += one.rows;
    }
    sum->params = rig_block(r, n * (int64_t)sizeof(float));
    for (int64_t j = 0; j < n; j++) sum->params[j] = (float)total[j];
    return true;
}

static void compare_sum(struct rig *r, const float *want)
{
    const struct model_tensor *w;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); want += w->n, i++) {
        double e = rig_distance(w->g, want, w->n), size = 0;
        for (int64_t j = 0; j < w->n; j++) size = fmax(size, fabs((double)want[j]));
        if (size > 1e-5 && !(e <= 1e-4))
            trial_fail(r->trial, "packed backward: the gradient of %s is off by %.2g from the sum over streams "
                       "alone (%s)", w->name, e, case_words(r->is));
    }
}

static void compare_packed(struct rig *r, const struct set *set, const int64_t *end, const struct gradients *want,
                           const float *dx, float *const *dstate)
{
    char what[160];
    for (int64_t i = 0, row = 0; i < STREAMS; row += end[i] - set->cut[i], i++) {
        int64_t rows = end[i] - set->cut[i];
        snprintf(what, sizeof what,
                 "packed backward: dx of a stream of %lld rows at row %lld of the call, against it "
                 "alone", (long long)rows, (long long)row);
        if (!rig_same(r, what, dx + row * r->d, want->dx + row * r->d, rows, r->d)) return;
        snprintf(what, sizeof what, "packed backward: dstate of the stream at row %lld of the call, against it alone",
                 (long long)row);
        if (dstate[i] && !rig_same_bytes(r, what, dstate[i], want->dstate[i], r->state_bytes)) return;
    }
    compare_sum(r, want->params);
}

/* Every stream ends two rows before its last, which make its dstate; or without one; or every second  */
enum joined { NONE, ALL, SOME };
static void backward_of_pack(struct rig *r, enum joined joined)
{
    struct set set = set_new(r);
    struct pack p = pack_new(r);
    int64_t end[STREAMS];
    float *after[STREAMS] = { 0 }, *dstate[STREAMS] = { 0 };
    float *dy = rig_random_rows(r, ROWS, 1), *dx = rig_rows(r, ROWS);
    struct gradients want = { .dx = rig_rows(r, ROWS) };
    if (!set_start(r, &set)) return;
    for (int64_t i = 0; i < STREAMS; i++) {
        end[i] = max_i64(set.cut[i] + 1, set.s[i].rows - 2);
        if (joined == NONE || (joined == SOME && i % 2 == 0)) continue;
        after[i] = rig_block(r, r->state_bytes);
        if (!stream_run(r, &set.s[i], set.cut[i], end[i], KEEP)) return;
        if (end[i] < set.s[i].rows && !later_rows(r, &set.s[i], end[i], set.s[i].rows, after[i])) return;
        dstate[i] = kept_copy(r, after[i], r->state_bytes);
    }
    if (!set_start(r, &set) || !train_alone(r, &set, end, dy, after, &want) || !set_start(r, &set)) return;
    for (int64_t i = 0; i < STREAMS; i++) pack_add(r, &p, &set.s[i], set.cut[i], end[i]);
    if (train(r, &p, dy, dstate, dx)) compare_packed(r, &set, end, &want, dx, dstate);
}

static void packed_backward(struct rig *r)
{
    for (int joined = NONE; joined <= SOME && r->trial->outcome < TRIAL_FAILED; joined++)
        backward_of_pack(r, (enum joined)joined);
}

void check_segments_backward(struct trial *t)
{
    each_case(t, TRAINING, ROWS, STREAMS, packed_backward);
}

/* ---- neighbours ------------------------------------------------------------------------------------ */

/* Stream 1 is nothing but NaN; the others must not notice.  A layer may refuse the call.      */
static void poisoned(struct rig *r, bool keep)
{
    struct set set = set_new(r);
    struct pack p = pack_new(r);
    float *y = NULL, *dy = rig_random_rows(r, ROWS, 1), *dx[2] = { rig_rows(r, ROWS), rig_rows(r, ROWS) };
    unsigned char *before[STREAMS];
    if (!set_start(r, &set)) return;
    for (int64_t i = 0; i < STREAMS; i++) {
        pack_add(r, &p, &set.s[i], set.cut[i], set.s[i].rows);
        before[i] = kept_copy(r, set.s[i].state, r->state_bytes);
    }
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = p.g[1].first * r->d; pass && i < p.g[2].first * r->d; i++) p.x[i] = NAN;
        chi_status e = solo_forward(r->solo, p.g, p.n, keep, p.x, p.y);
        if (pass && e == CHI_ENUMERIC) return;
        if (!trial_must(r->trial, e, "forward")) return;
        for (int64_t i = 0; i < STREAMS; i++) memcpy(set.s[i].state, before[i], (size_t)r->state_bytes);
        if (keep) e = solo_backward(r->solo, p.g, p.n, p.x, dy, dx[pass]);
        if (pass && e == CHI_ENUMERIC) return;
        if (!trial_must(r->trial, e, "backward")) return;
        if (!pass) y = kept_copy(r, p.y, row_bytes(r, p.rows));
    }
    for (int64_t k = 0; k < p.n; k++) {
        int64_t at = p.g[k].first * r->d;
        if (k == 1) continue;
        if (!rig_same(r, "beside a stream of NaNs: y, against the same call with numbers", p.y + at, y + at,
                      p.g[k].rows, r->d))
            return;
        if (!rig_same(r, "beside a stream of NaNs: dx, against the same call with numbers", dx[1] + at, dx[0] + at,
                      p.g[k].rows, r->d))
            return;
    }
}

static void poisoned_forward(struct rig *r) { poisoned(r, false); }
static void poisoned_backward(struct rig *r) { poisoned(r, true); }

void check_segments_poison(struct trial *t)
{
    const struct chi_layer_ops *ops = t->component->ops;
    each_case(t, INFERENCE, ROWS, STREAMS, poisoned_forward);
    if (t->outcome < TRIAL_FAILED && ops->backward) each_case(t, TRAINING, ROWS, STREAMS, poisoned_backward);
}

/* ---- fresh ------------------------------------------------------------------------------------------- */

enum { FRESH_ROWS = 36 };

/* How far y of a fresh stream moves when tensor w does                                        */
static bool influence(struct rig *r, const struct stream *s, const struct model_tensor *w, double *moved)
{
    float *kept = kept_copy(r, w->w, w->n * (int64_t)sizeof(float));
    if (!stream_run(r, s, 0, FRESH_ROWS, FORWARD)) return false;
    float *y = kept_copy(r, s->y, row_bytes(r, FRESH_ROWS));
    for (int64_t j = 0; j < w->n; j++) w->w[j] += 0.25f * trial_uniform(r->trial);
    if (!trial_must(r->trial, solo_bind(r->solo), "binding weights")
        || !stream_run(r, s, 0, FRESH_ROWS, FORWARD)) return false;
    *moved = rig_distance(s->y, y, FRESH_ROWS * r->d);
    memcpy(w->w, kept, (size_t)w->n * sizeof(float));
    return trial_must(r->trial, solo_bind(r->solo), "binding weights");
}

/* A stream that is fresh at position 7 must begin as one at position 0 does: from the same parameters,
 * and in any pieces                                                                            */
static void fresh_anywhere(struct rig *r)
{
    const struct model_tensor *w;
    struct stream zero = stream_new(r, 4, 0, FRESH_ROWS), later = stream_new(r, 4, 7, FRESH_ROWS);
    if (!stream_run(r, &later, 0, FRESH_ROWS, FORWARD)) return;
    float *y = kept_copy(r, later.y, row_bytes(r, FRESH_ROWS));
    if (!stream_run(r, &later, 0, 3, FORWARD) || !stream_run(r, &later, 3, FRESH_ROWS, FORWARD)) return;
    if (!rig_same(r, "a stream that is fresh at position 7, in two calls against one", later.y, y, FRESH_ROWS,
                  r->d)) return;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++) {
        double at_zero, at_later;
        if (w->linear || w->manual) continue;
        if (!influence(r, &zero, w, &at_zero) || !influence(r, &later, w, &at_later)) return;
        if (at_zero > 1e-6 && at_later == 0)
            trial_fail(r->trial, "a fresh stream at position 0 depends on %s, one that is fresh at position 7 does "
                       "not: `fresh` says where a stream begins, not pos (%s)", w->name, case_words(r->is));
    }
}

void check_segments_fresh(struct trial *t)
{
    each_case(t, INFERENCE, ROWS, STREAMS, fresh_anywhere);
}

/* Rows in one segment, each in its own, and at other positions                                 */
static void any_segments(struct rig *r)
{
    struct stream s = stream_new(r, 1, 0, STREAMS);
    struct pack p = pack_new(r);
    if (solo_state_bytes(r->solo) != 0) {
        trial_fail(r->trial, "it claims CHI_LAYER_STATELESS but plans %lld bytes of state",
                   (long long)solo_state_bytes(r->solo));
        return;
    }
    if (!stream_run(r, &s, 0, STREAMS, FORWARD)) return;
    for (int64_t i = 0; i < STREAMS; i++) {
        pack_add(r, &p, &s, i, i + 1);
        p.g[i].pos = 7 * i;
        p.g[i].stream = (uint64_t)i;
        p.g[i].fresh = i % 2;
    }
    if (rig_forward(r, p.g, p.n, false, p.x, p.y))
        rig_same(r, "STATELESS: rows in segments of their own, against one segment", p.y, s.y, STREAMS, r->d);
}

void check_segments_stateless(struct trial *t)
{
    if (t->component->caps & CHI_LAYER_STATELESS) each_case(t, INFERENCE, ROWS, STREAMS, any_segments);
    else trial_skip(t, "it does not claim CHI_LAYER_STATELESS");
}
