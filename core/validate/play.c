/* play.c - see play.h.                                                                        */
#include "play.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"

const struct way plain_way = { rig_forward, rig_step, rig_backward };

/* No stream is longer than the 48 rows that every case takes                                  */
const struct score short_score = { 3, { 7, 1, 20 }, { 3, 9, 1 } };
const struct score long_score = { 4, { 30, 2, 25, 40 }, { 5, 9, 12, 2 } };

static int64_t sum(const int64_t *rows, int64_t n)
{
    int64_t all = 0;
    for (int64_t i = 0; i < n; i++) all += rows[i];
    return all;
}

int64_t score_rows(const struct score *s)
{
    return max_i64(sum(s->first, s->n), sum(s->then, s->n));
}

void play_drop(struct play *p)
{
    for (int i = 0; i < p->n; i++) free(p->part[i].v);
    p->n = 0;
}

static void record(struct play *p, const char *call, const char *what, const float *v, int64_t rows, int64_t cols)
{
    if (p->n == PLAYED || !rows || !cols) return;
    size_t bytes = (size_t)(rows * cols) * sizeof *v;
    p->part[p->n].rows = rows;
    p->part[p->n].cols = cols;
    p->part[p->n].v = xcalloc(1, bytes);
    snprintf(p->part[p->n].what, sizeof p->part->what, "%s of %s", what, call);
    memcpy(p->part[p->n++].v, v, bytes);
}

bool play_same(struct rig *r, const char *how, const struct play *got, const struct play *want)
{
    for (int i = 0; i < want->n && i < got->n; i++) {
        char what[128];
        snprintf(what, sizeof what, "%s %s", want->part[i].what, how);
        if (!rig_same(r, what, got->part[i].v, want->part[i].v, want->part[i].rows, want->part[i].cols)) return false;
    }
    return true;
}

/* ---- streams ------------------------------------------------------------------------------ */

struct streams {
    struct rig *r;
    const struct way *way;
    struct play *out;
    int64_t n, pos[4];
    unsigned char *state[4], *dstate[4], *before[4];
};

static struct streams start(struct rig *r, const struct way *way, const struct score *s, struct play *out)
{
    struct streams a = { .r = r, .way = way, .out = out, .n = s->n };
    for (int64_t i = 0; i < s->n; i++) {
        a.state[i] = rig_block(r, r->state_bytes);
        a.before[i] = rig_block(r, r->state_bytes);
        a.dstate[i] = rig_block(r, r->state_bytes);
    }
    return a;
}

/* Segments of one call on the states, or on those before it                                 */
static void segments(const struct streams *a, const int64_t *rows, unsigned char *const *state, struct chi_segment *g)
{
    for (int64_t i = 0, at = 0; i < a->n; at += rows[i++])
        g[i] = rig_segment(at, rows[i], a->pos[i], 11 + (uint64_t)i, state[i]);
}

static void record_states(const struct streams *a, const char *call, const char *what, unsigned char *const *state)
{
    for (int64_t i = 0; i < a->n; i++)
        record(a->out, call, what, (const float *)(const void *)state[i], 1, a->r->state_bytes / 4);
}

static bool forward(struct streams *a, const char *call, const int64_t *rows, bool keep, bool step, const float *x)
{
    struct chi_segment g[4];
    int64_t n = sum(rows, a->n);
    float *y = rig_rows(a->r, n);
    segments(a, rows, a->state, g);
    for (int64_t i = 0; i < a->n; i++) memcpy(a->before[i], a->state[i], (size_t)a->r->state_bytes);
    bool ok = step ? a->way->step(a->r, g, a->n, x, y) : a->way->forward(a->r, g, a->n, keep, x, y);
    record(a->out, call, "y", y, n, a->r->d);
    record_states(a, call, "state", a->state);
    return ok;
}

static void advance(struct streams *a, const int64_t *rows)
{
    for (int64_t i = 0; i < a->n; i++) a->pos[i] += rows[i];
}

bool play_inference(struct rig *r, const struct way *way, const struct score *s, struct play *out)
{
    static const int64_t one[4] = { 1, 1, 1, 1 };
    uint64_t kept = r->trial->draw;
    r->trial->draw = r->trial->seed + 5;
    struct streams a = start(r, way, s, out);
    bool ok = forward(&a, "forward", s->first, false, false, rig_random_rows(r, score_rows(s), 1));
    advance(&a, s->first);
    ok = ok && forward(&a, "step", one, false, true, rig_random_rows(r, a.n, 1));
    advance(&a, one);
    ok = ok && forward(&a, "a later forward", s->then, false, false, rig_random_rows(r, score_rows(s), 1));
    r->trial->draw = kept;
    return ok;
}

/* One call forward and back.  dstate NULL where with_dstate is false                          */
static bool there_and_back(struct streams *a, const char *call, const int64_t *rows, bool with_dstate)
{
    struct rig *r = a->r;
    const struct model_tensor *w;
    struct chi_segment g[4];
    int64_t n = sum(rows, a->n);
    const float *x = rig_random_rows(r, n, 1), *dy = rig_random_rows(r, n, 1);
    float *dx = rig_rows(r, n);
    if (!forward(a, call, rows, true, false, x)) return false;
    segments(a, rows, a->before, g);
    for (int64_t i = 0; i < a->n; i++) {
        float *d = (float *)(void *)a->dstate[i];
        for (int64_t j = 0; j < r->state_bytes / 4; j++) d[j] = 0.1f * trial_uniform(r->trial);
        if (with_dstate) g[i].dstate = a->dstate[i];
    }
    rig_zero_grads(r);
    bool ok = a->way->backward(r, g, a->n, x, dy, dx);
    record(a->out, call, "dx", dx, n, r->d);
    if (with_dstate) record_states(a, call, "dstate", a->dstate);
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++) {
        char what[32];
        snprintf(what, sizeof what, "d %.28s", w->name);
        record(a->out, call, what, w->g, 1, w->n);
    }
    advance(a, rows);
    return ok;
}

bool play_training(struct rig *r, const struct way *way, const struct score *s, struct play *out)
{
    uint64_t kept = r->trial->draw;
    r->trial->draw = r->trial->seed + 6;
    struct streams a = start(r, way, s, out);
    bool ok = there_and_back(&a, "training", s->first, true) && there_and_back(&a, "later training", s->then, false);
    r->trial->draw = kept;
    return ok;
}

/* ---- cases -------------------------------------------------------------------------------- */

bool has_backward(const struct trial *t)
{
    const struct chi_layer_ops *ops = t->component->ops;
    return !(t->component->caps & CHI_LAYER_NO_GRAD) && CHI_HAS(struct chi_layer_ops, ops, backward);
}

bool usual_case(struct trial *t, int64_t d, struct layer_case *c)
{
    size_t used = 0;
    *c = (struct layer_case){ .d = d, .linear = "quantizer = f32\n" };
    for (const struct chi_option *o = t->component->options; o && o->name; o++) {
        int64_t v = min_i64(max_i64(2 * d, (int64_t)o->min), (int64_t)o->max);
        if (!(o->flags & CHI_OPT_REQUIRED)) continue;
        if (o->type != CHI_OPT_INT || used + 80 > sizeof c->options) return false;
        used += (size_t)snprintf(c->options + used, sizeof c->options - used, "%.60s = %lld\n", o->name,
                                 (long long)v);
    }
    struct rig r;
    enum outcome was = t->outcome;
    struct trial alone = *t;                    /* a refusal is no failure                     */
    alone.text = NULL;
    alone.lines = 0;
    bool ok = rig_open(&r, &alone, c, false, 1, 1);
    if (ok) rig_close(&r);
    free(alone.text);
    t->outcome = was;
    return ok;
}
