/* hebb.h - the part that layers with a memory of outer products share:
 *
 *     S = a_t S + b_t v_t k_t';   o_t = S q_t          S[dv,dk], one a head
 *
 * (linear attention arXiv 2006.16236, mLSTM 2405.04517, Mamba-2 2405.21060).  The
 * layer says where q, k, v, a, b come from and what becomes of o; this file walks the
 * rows in chunks on the stream's own grid, keeps S at their first rows for backward,
 * and cuts the work into tasks of some heads of one segment.  A column of ones in v
 * makes a row of S the decayed sum of the keys, which normalises o.
 *
 * All functions are static: each plugin compiles its own copy.                   */
#ifndef HEBB_H
#define HEBB_H

#include <chimera/plugin.h>
#include "floats.h"

enum { HEBB_CHUNK = 32 };                       /* rows between two kept states   */
enum { HEBB_TASK = 1 << 14 };                   /* state values read by a task    */

struct hebb_chunk;
struct hebb_ops {
    /* q, k, v, a, b of the chunk                                                 */
    void (*prepare)(struct hebb_chunk *);
    /* o to what the layer makes of it; backward calls it again                   */
    void (*finish)(struct hebb_chunk *);
    /* dout, from what the layer's arrays say and from o                          */
    void (*finish_back)(struct hebb_chunk *);
    /* dq, dk, dv, dlog_a, db to the layer's arrays; chunks come in falling order */
    void (*prepare_back)(struct hebb_chunk *);
    /* Once a head, before the first chunk of either pass and after the last; or NULL */
    void (*begin)(struct hebb_chunk *, bool back);
    void (*end)(struct hebb_chunk *, bool back);
};

struct hebb {
    const struct hebb_ops *ops;
    int64_t heads, dk, dv, own;                 /* own: floats of the layer's scratch */
    int64_t S;                                  /* state [H,dv,dk]                */
    int64_t o, start;                           /* arrays, kept in training       */
};

/* One chunk of one head, in a task's scratch                                     */
struct hebb_chunk {
    const struct hebb *s;
    const void *layer;                          /* the layer's self               */
    struct chi_run *r;
    const struct chi_segment *g;
    int64_t seg, head, row, n;                  /* first row in the segment, rows */
    bool   last;                                /* of the segment                 */
    float *q, *k, *v, *o, *a, *b;               /* [n][dk], [n][dv], [n]          */
    float *dq, *dk, *dv, *dout, *dlog_a, *db;   /* backward                       */
    float *dS, *work;                           /* [dv][dk], the kernel's         */
    float *own;                                 /* the layer's                    */
};

/* A value per (row, head), or the head's n channels of a row of [rows, H n]       */
static inline float *hebb_at(const struct hebb_chunk *c, int64_t array, int64_t t, int64_t n)
{
    return CHI_ARRAY(c->r, array, float) + ((c->g->first + c->row + t) * c->s->heads + c->head) * n;
}

static inline void hebb_open(struct hebb *s, const struct chi_plan_ops *ops, struct chi_plan *plan,
                             bool training)
{
    int64_t each = HEBB_CHUNK * (s->dk + s->dv), size = s->dk * s->dv;
    int64_t n = 2 * each + 2 * HEBB_CHUNK + s->own;

    s->S = ops->state(plan, "S", CHI_F32, s->heads * size);
    if (training) {
        s->o     = ops->array(plan, "o", CHI_F32, s->heads * s->dv, CHI_PER_ROW, CHI_ARRAY_KEEP);
        s->start = ops->array(plan, "start", CHI_F32, s->heads * size, HEBB_CHUNK, CHI_ARRAY_KEEP);
        n += 2 * each + 2 * HEBB_CHUNK + 2 * size + 4 * HEBB_CHUNK * s->dk;
    }
    ops->scratch(plan, n * (int64_t)sizeof(float) + 20 * 64);
}

static inline struct hebb_chunk hebb_take(const struct hebb *s, const void *layer, struct chi_run *r,
                                          int64_t seg, struct chi_scratch *scratch, bool back)
{
    int64_t keys = HEBB_CHUNK * s->dk, values = HEBB_CHUNK * s->dv;
    struct hebb_chunk c = { .s = s, .layer = layer, .r = r, .g = &r->seg[seg], .seg = seg };
    c.q = take(scratch, keys);
    c.k = take(scratch, keys);
    c.v = take(scratch, values);
    c.o = take(scratch, values);
    c.a = take(scratch, HEBB_CHUNK);
    c.b = take(scratch, HEBB_CHUNK);
    c.own = take(scratch, s->own);
    if (!back) return c;
    c.dq = take(scratch, keys);
    c.dk = take(scratch, keys);
    c.dv = take(scratch, values);
    c.dout = take(scratch, values);
    c.dlog_a = take(scratch, HEBB_CHUNK);
    c.db = take(scratch, HEBB_CHUNK);
    c.dS = take(scratch, s->dk * s->dv);
    c.work = take(scratch, (s->dv + 4 * HEBB_CHUNK) * s->dk);
    return c;
}

static inline void hebb_move(struct hebb_chunk *c, int64_t row)
{
    c->row  = row;
    c->n    = rows_to_grid(c->g, row, HEBB_CHUNK);
    c->last = row + c->n == c->g->rows;
}

/* ---- forward -------------------------------------------------------------------- */

static inline void hebb_forward_head(struct hebb_chunk *c, int64_t head, int64_t chunk)
{
    const struct hebb *s = c->s;
    int64_t size = s->dk * s->dv;
    float *S = CHI_STATE(c->g, s->S, float) + head * size;

    c->head = head;
    if (s->ops->begin) s->ops->begin(c, false);
    for (int64_t row = 0; row < c->g->rows; row += c->n, chunk++) {
        hebb_move(c, row);
        s->ops->prepare(c);
        if (c->r->keep)
            copy(CHI_ARRAY(c->r, s->start, float) + (chunk * s->heads + head) * size, S, size);
        c->r->h->k->hebb_rule(S, c->q, c->k, s->dk, c->v, s->dv, c->a, c->b, 1, c->o, c->n, s->dk, s->dv);
        for (int64_t t = 0; c->r->keep && t < c->n; t++)
            copy(hebb_at(c, s->o, t, s->dv), c->o + t * s->dv, s->dv);
        s->ops->finish(c);
    }
    if (s->ops->end) s->ops->end(c, false);
}

struct hebb_job {
    const struct hebb *s;
    const void *layer;
    struct chi_run *r;
    int64_t group, groups;                      /* heads of a task, tasks of a segment */
};

/* Short calls put several heads into a task.  A head's numbers do not depend on it */
static inline struct hebb_job hebb_job(const struct hebb *s, const void *layer, struct chi_run *r)
{
    int64_t rows = (r->rows + r->n_seg - 1) / r->n_seg;
    int64_t group = HEBB_TASK / (rows * s->dk * s->dv);
    if (group < 1) group = 1;
    if (group > s->heads) group = s->heads;
    return (struct hebb_job){ s, layer, r, group, (s->heads + group - 1) / group };
}

static inline void hebb_forward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct hebb_job *j = arg;
    int64_t seg = i / j->groups, head = i % j->groups * j->group, end = head + j->group;
    int64_t chunk = j->r->keep ? chi_first_chunk(j->r, seg, HEBB_CHUNK) : 0;
    struct hebb_chunk c = hebb_take(j->s, j->layer, j->r, seg, scratch, false);
    for (; head < end && head < j->s->heads; head++) hebb_forward_head(&c, head, chunk);
}

static inline void hebb_forward(const struct hebb *s, const void *layer, struct chi_run *r)
{
    struct hebb_job j = hebb_job(s, layer, r);
    r->h->parallel(r->h, r->n_seg * j.groups, hebb_forward_task, &j);
}

/* ---- backward ------------------------------------------------------------------- */

static inline void hebb_load_o(struct hebb_chunk *c)
{
    int64_t dv = c->s->dv;
    for (int64_t t = 0; t < c->n; t++) copy(c->o + t * dv, hebb_at(c, c->s->o, t, dv), dv);
}

static inline void hebb_finish_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct hebb_job *j = arg;
    int64_t seg = i / j->groups, head = i % j->groups * j->group, end = head + j->group;
    struct hebb_chunk c = hebb_take(j->s, j->layer, j->r, seg, scratch, false);
    for (; head < end && head < j->s->heads; head++)
        for (int64_t row = 0; row < c.g->rows; row += c.n) {
            c.head = head;
            hebb_move(&c, row);
            hebb_load_o(&c);
            j->s->ops->finish(&c);
        }
}

/* What finish() made, from the kept o                                              */
static inline void hebb_finish_again(const struct hebb *s, const void *layer, struct chi_run *r)
{
    struct hebb_job j = hebb_job(s, layer, r);
    r->h->parallel(r->h, r->n_seg * j.groups, hebb_finish_task, &j);
}

static inline void hebb_backward_head(struct hebb_chunk *c, int64_t head, int64_t chunk)
{
    const struct hebb *s = c->s;
    int64_t size = s->dk * s->dv, first = c->g->pos / HEBB_CHUNK;
    float *dS = c->g->dstate ? CHI_DSTATE(c->g, s->S, float) + head * size : NULL;

    c->head = head;
    if (dS) copy(c->dS, dS, size);
    else zero(c->dS, size);
    if (s->ops->begin) s->ops->begin(c, true);
    for (int64_t i = chi_chunks(c->g, HEBB_CHUNK) - 1; i >= 0; i--) {
        int64_t row = (first + i) * HEBB_CHUNK - c->g->pos;
        hebb_move(c, row > 0 ? row : 0);
        s->ops->prepare(c);
        hebb_load_o(c);
        s->ops->finish_back(c);
        c->r->h->k->hebb_rule_back(CHI_ARRAY(c->r, s->start, float) + ((chunk + i) * s->heads + head) * size,
                                   c->dS, c->q, c->k, s->dk, c->v, s->dv, c->a, c->b, 1, c->dout, c->dq,
                                   c->dk, c->dv, c->dlog_a, c->db, c->n, s->dk, s->dv, c->work);
        s->ops->prepare_back(c);
    }
    if (dS) copy(dS, c->dS, size);
    if (s->ops->end) s->ops->end(c, true);
}

static inline void hebb_backward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct hebb_job *j = arg;
    int64_t seg = i / j->groups, head = i % j->groups * j->group, end = head + j->group;
    int64_t chunk = chi_first_chunk(j->r, seg, HEBB_CHUNK);
    struct hebb_chunk c = hebb_take(j->s, j->layer, j->r, seg, scratch, true);
    for (; head < end && head < j->s->heads; head++) hebb_backward_head(&c, head, chunk);
}

static inline void hebb_backward(const struct hebb *s, const void *layer, struct chi_run *r)
{
    struct hebb_job j = hebb_job(s, layer, r);
    r->h->parallel(r->h, r->n_seg * j.groups, hebb_backward_task, &j);
}

#endif
