/* turns.c - the layers of a loop, run several times (loop.h):
 *
 *     e = enter(x);  h = 0;  for each turn: h = layers(inject(e, h));  y = leave(h)
 *
 * A turn takes the rows that still have one: e and h of all rows lie in place, those of
 * the rows that take part are packed, run, and put back.
 *
 * Inference.  Turn t of a stream's layers has states of its own, in which it has seen every
 * token, or with adaptive_exit those that got as far; how many did not is counted beside
 * the states, so that positions have no gaps.  With adaptive_exit a text goes through the
 * loop token by token: whether a token has another turn must not depend on what came later
 * than it, nor on what else is in the call.
 *
 * Training.  The turns of a segment that are not differentiated come first, the others
 * second, each kind for all segments together: the i-th differentiated turn of all that
 * have one is slot i, whose inputs stay for backward.  Every segment is in slot 0.       */
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "crumb.h"
#include "hosting.h"
#include "network.h"
#include "profile.h"

/* ---- the component ------------------------------------------------------------------- */

enum { ENTER, INJECT, LEAVE, ENTER_BACK, INJECT_BACK, LEAVE_BACK };
static const char *const op_name[] = { "enter", "inject", "leave", "enter_back", "inject_back", "leave_back" };

/* The vectors of an operation in the order of its arguments                                */
struct operands { const float *in[3]; float *out[2]; };

static chi_status call_op(const struct instance *in, int op, struct chi_run *r, const struct operands *v)
{
    const struct chi_loop_ops *o = in->loop;
    switch (op) {
    case ENTER:      return o->enter(in->self, r, v->in[0], v->out[0]);
    case INJECT:     return o->inject(in->self, r, v->in[0], v->in[1], v->out[0]);
    case LEAVE:      return o->leave(in->self, r, v->in[0], v->out[0]);
    case ENTER_BACK: return o->enter_back(in->self, r, v->in[0], v->in[1], v->out[0]);
    case LEAVE_BACK: return o->leave_back(in->self, r, v->in[0], v->in[1], v->out[0]);
    default:         return o->inject_back(in->self, r, v->in[0], v->in[1], v->in[2], v->out[0], v->out[1]);
    }
}

static chi_status run_op(struct model *m, int op, const struct call *c, const struct operands *v)
{
    struct instance *in = &m->loop.in;
    struct chi_scratch scratch;
    TRY(instance_arrays(in, c->seg, c->n, c->rows, KEPT_NOT, &m->loop.ws));
    struct chi_run r = run_of(m, in, &scratch, c);
    struct crumb crumb = { in->name, in->part->component->name, op_name[op] };
    const struct crumb *was = crumb_set(&crumb);
    struct work w = profile_on ? instance_work(in, m->d, c, op >= ENTER_BACK) : (struct work){ 0, 0 };
    span(crumb.instance, crumb.component, crumb.op);
    span_work(w.bytes, w.flops);
    chi_status st = call_op(in, op, &r, v);
    span_end();
    crumb_set(was);
    TRY(st);
    return check_finite(m, in, op_name[op], op < ENTER_BACK ? "y" : "dx", v->out[0], c->rows);
}

/* ---- rows that take part ------------------------------------------------------------- */

/* part[i]'s rows of from, packed                                                           */
static void gather(const struct model *m, const struct call *c, const float *from, float *to)
{
    for (int64_t i = 0; i < c->n; i++)
        memcpy(to + c->seg[i].first * m->d, from + m->loop.part[i].first * m->d,
               (size_t)(c->seg[i].rows * m->d) * sizeof *to);
}

static void put_back(const struct model *m, const struct call *c, const float *from, float *to)
{
    for (int64_t i = 0; i < c->n; i++)
        memcpy(to + m->loop.part[i].first * m->d, from + c->seg[i].first * m->d,
               (size_t)(c->seg[i].rows * m->d) * sizeof *to);
}

static void add_back(const struct model *m, const struct call *c, const float *from, float *to)
{
    for (int64_t i = 0; i < c->n; i++) {
        float *y = to + m->loop.part[i].first * m->d;
        const float *x = from + c->seg[i].first * m->d;
        for (int64_t j = 0; j < c->seg[i].rows * m->d; j++) y[j] += x[j];
    }
}

static int64_t *skipped(const struct model *m, unsigned char *stream)
{
    return (int64_t *)(void *)(stream + m->loop.skipped);
}

/* The segments of n stretches                                                              */
static struct call pack(struct model *m, const struct call *all, int64_t n, int64_t turn)
{
    struct turning *t = &m->loop;
    struct call c = { .seg = t->seg, .n = n, .turn = turn, .keep = all->keep };
    if (!all->keep) c.stream = t->stream;
    for (int64_t i = 0; i < n; i++) {
        const struct stretch *p = &t->part[i];
        struct chi_segment s = all->seg[p->seg];
        int64_t at = p->first - s.first;
        s.first = c.rows;
        s.rows = p->rows;
        s.pos += at;
        s.fresh = s.fresh && !at;
        if (!all->keep) {
            t->stream[i] = all->stream[p->seg];
            s.pos -= skipped(m, t->stream[i])[turn];
            s.fresh = s.fresh || !s.pos;
        }
        t->seg[i] = s;
        c.rows += p->rows;
    }
    return c;
}

/* ---- inference ------------------------------------------------------------------------- */

/* Stretches of one token that are as good as settled leave; the others move up              */
static int64_t leave_settled(struct model *m, const struct call *c)
{
    struct turning *t = &m->loop;
    int64_t left = 0;
    for (int64_t i = 0; i < c->n; i++) {
        double by = t->in.loop->change(t->in.self, t->in.host, t->ph + i * m->d, m->x + i * m->d, m->d);
        if (by < m->spec->loop.o.adaptive_exit)
            for (int64_t later = c->turn + 1; later < t->turns; later++) skipped(m, c->stream[i])[later]++;
        else t->part[left++] = t->part[i];
    }
    return left;
}

static chi_status all_turns(struct model *m, const struct call *all, int64_t n)
{
    struct turning *t = &m->loop;
    bool may_leave = m->spec->loop.o.adaptive_exit > 0;
    for (int64_t turn = 0; turn < t->turns && n; turn++) {
        struct call c = pack(m, all, n, turn);
        gather(m, &c, t->e, t->pe);
        gather(m, &c, t->h, t->ph);
        TRY(run_op(m, INJECT, &c, &(struct operands){ { t->pe, t->ph }, { m->x } }));
        TRY(blocks_forward(m, t->prelude, t->prelude + t->length, &c));
        put_back(m, &c, m->x, t->h);
        if (may_leave && turn + 1 < t->turns) n = leave_settled(m, &c);
    }
    return CHI_OK;
}

chi_status turns_forward(struct model *m, const struct call *all)
{
    struct turning *t = &m->loop;
    int64_t longest = 0;
    TRY(run_op(m, ENTER, all, &(struct operands){ { m->x }, { t->e } }));
    memset(t->h, 0, (size_t)(all->rows * m->d) * sizeof *t->h);
    for (int64_t s = 0; s < all->n; s++) longest = max_i64(longest, all->seg[s].rows);
    int64_t step = m->spec->loop.o.adaptive_exit > 0 ? 1 : longest;
    for (int64_t at = 0; at < longest; at += step) {
        int64_t n = 0;
        for (int64_t s = 0; s < all->n; s++)
            if (at < all->seg[s].rows)
                t->part[n++] = (struct stretch){ s, all->seg[s].first + at, min_i64(step, all->seg[s].rows - at) };
        TRY(all_turns(m, all, n));
    }
    return run_op(m, LEAVE, all, &(struct operands){ { t->h }, { m->x } });
}

/* ---- training ---------------------------------------------------------------------------- */

static struct chi_depth depth_of(const struct model *m, const struct model_segment *seg)
{
    int64_t usual = m->loop.usual;
    if (seg->depth.turns) return seg->depth;
    return (struct chi_depth){ (int32_t)usual, (int32_t)min_i64(usual, m->loop.slots) };
}

/* The segments that have a slot i, or (graded is false) an i-th turn before slot 0           */
static struct call taking_part(struct model *m, const struct model_segment *seg, const struct call *all, int64_t i,
                               bool graded)
{
    int64_t n = 0;
    for (int64_t s = 0; s < all->n; s++) {
        struct chi_depth d = depth_of(m, &seg[s]);
        if (i < (graded ? d.graded : d.turns - d.graded))
            m->loop.part[n++] = (struct stretch){ s, all->seg[s].first, all->seg[s].rows };
    }
    struct call c = pack(m, all, n, graded ? i : 0);
    c.own = graded && all->own;
    return c;
}

/* One turn from h (in place for all rows), whose packed copy stays in turn_h()               */
static chi_status train_turn(struct model *m, const struct call *c, float *h)
{
    struct turning *t = &m->loop;
    gather(m, c, t->e, t->pe);
    gather(m, c, h, turn_h(m, c->turn));
    float *x = block_x(m, t->prelude, c->turn);
    TRY(run_op(m, INJECT, c, &(struct operands){ { t->pe, turn_h(m, c->turn) }, { x } }));
    TRY(blocks_forward(m, t->prelude, t->prelude + t->length, c));
    put_back(m, c, x + t->length * m->max_rows * m->d, h);
    return CHI_OK;
}

static chi_status check_depths(const struct model *m, const struct model_segment *seg, int64_t n)
{
    for (int64_t s = 0; s < n; s++) {
        struct chi_depth d = depth_of(m, &seg[s]);
        if (d.turns < 1 || d.graded < 1 || d.graded > d.turns || d.graded > m->loop.slots)
            return fail(CHI_EBUG,
                        "loop (%s): %d turns, %d of them differentiated: wanted 1 <= differentiated <= turns, and "
                        "at most %lld of them", m->loop.in.part->component->name, d.turns, d.graded,
                        (long long)m->loop.slots);
    }
    return CHI_OK;
}

chi_status turns_train(struct model *m, const struct model_segment *seg, const struct call *all)
{
    struct turning *t = &m->loop;
    size_t bytes = (size_t)(all->rows * m->d) * sizeof(float);
    TRY(check_depths(m, seg, all->n));
    TRY(run_op(m, ENTER, all, &(struct operands){ { rows_at(m, m->x, t->prelude) }, { t->e } }));
    memset(t->h0, 0, bytes);
    for (int64_t i = 0;; i++) {
        struct call c = taking_part(m, seg, all, i, false);
        if (!c.n) break;
        TRY(train_turn(m, &c, t->h0));
    }
    memcpy(t->h, t->h0, bytes);
    for (int64_t i = 0; i < t->slots; i++) {
        struct call c = taking_part(m, seg, all, i, true);
        if (c.n) TRY(train_turn(m, &c, t->h));
    }
    return run_op(m, LEAVE, all, &(struct operands){ { t->h }, { block_x(m, t->prelude + t->length, 0) } });
}

/* Slots backwards: dh of all rows goes through the block and on to the turn before; what a slot
 * says of e is added up.  Before a segment's slot 0 lies a constant.                           */
chi_status turns_backward(struct model *m, const struct model_segment *seg, const struct call *all)
{
    struct turning *t = &m->loop;
    size_t bytes = (size_t)(all->rows * m->d) * sizeof(float);
    memset(t->dh, 0, bytes);
    memset(t->de, 0, bytes);
    TRY(run_op(m, LEAVE_BACK, all, &(struct operands){ { t->h, m->dx }, { t->dh } }));
    for (int64_t i = t->slots - 1; i >= 0; i--) {
        struct call c = taking_part(m, seg, all, i, true);
        if (!c.n) continue;
        size_t some = (size_t)(c.rows * m->d) * sizeof(float);
        gather(m, &c, t->dh, m->dx);
        TRY(blocks_backward(m, t->prelude, t->prelude + t->length, &c));
        gather(m, &c, t->e, t->pe);
        memset(m->y, 0, some);
        memset(t->ph, 0, some);
        TRY(run_op(m, INJECT_BACK, &c, &(struct operands){ { t->pe, turn_h(m, i), m->dx }, { m->y, t->ph } }));
        add_back(m, &c, m->y, t->de);
        put_back(m, &c, t->ph, t->dh);
    }
    memset(m->dx, 0, bytes);
    return run_op(m, ENTER_BACK, all, &(struct operands){ { rows_at(m, m->x, t->prelude), t->de },
                                                          { m->dx } });
}

struct chi_depth model_depth(const struct model *m, uint64_t sequence, int64_t step)
{
    const struct turning *t = &m->loop;
    struct crumb crumb = { t->in.name, t->length ? t->in.part->component->name : "", "depth" };
    if (!t->length) return (struct chi_depth){ 0 };
    if (!CHI_HAS(struct chi_loop_ops, t->in.loop, depth))
        return (struct chi_depth){ (int32_t)t->usual, (int32_t)t->usual };
    const struct crumb *was = crumb_set(&crumb);
    struct chi_depth d = t->in.loop->depth(t->in.self, t->in.host, t->usual, sequence, step);
    crumb_set(was);
    return d;
}

/* ---- memory -------------------------------------------------------------------------------- */

chi_status turns_open(struct model *m)
{
    struct turning *t = &m->loop;
    const struct loop_spec *l = &m->spec->loop;
    t->prelude = l->prelude;
    t->length = l->length;
    t->coda = l->coda;
    if (!t->length) return CHI_OK;
    TRY(instance_open(&t->in, m->spec, "loop", &l->part, m->mode, m->max_rows, m->max_segs));
    if (t->in.state_bytes)
        return fail(CHI_EPLUGIN, "loop (%s): a loop has no state of its own", l->part.component->name);
    t->turns = l->turns;
    t->usual = t->slots = l->o.loop_default;
    if (CHI_HAS(struct chi_loop_ops, t->in.loop, deepest))
        t->slots = t->in.loop->deepest(t->in.self, t->usual).graded;
    if (t->slots < 1)
        return fail(CHI_EPLUGIN, "loop (%s): deepest says that %lld turns are differentiated",
                    l->part.component->name, (long long)t->slots);
    return CHI_OK;
}

int64_t turns_rows(const struct model *m)
{
    if (!m->loop.length) return 0;
    return m->mode == MODEL_INFER ? 4 : 7;
}

chi_status turns_take(struct model *m)
{
    struct turning *t = &m->loop;
    float **rows[] = { &t->e, &t->h, &t->pe, &t->ph, &t->h0, &t->de, &t->dh };
    if (!t->length) return CHI_OK;
    for (int64_t i = 0; i < turns_rows(m); i++) {
        *rows[i] = mem_take((size_t)(m->max_rows * m->d) * sizeof(float), "rows of a loop");
        if (!*rows[i]) return CHI_ENOMEM;
    }
    t->part = mem_take((size_t)m->max_segs * sizeof *t->part, "segments");
    t->seg = mem_take((size_t)m->max_segs * sizeof *t->seg, "segments");
    t->stream = mem_take((size_t)m->max_segs * sizeof *t->stream, "segments");
    return t->part && t->seg && t->stream ? CHI_OK : CHI_ENOMEM;
}

void turns_close(struct model *m)
{
    struct turning *t = &m->loop;
    void *block[] = { t->e, t->h, t->pe, t->ph, t->h0, t->de, t->dh, t->part, t->seg, t->stream };
    for (int64_t i = 0; i < COUNT(block); i++) mem_free(block[i]);
    workspace_drop(&t->ws);
    instance_close(&t->in);
}
