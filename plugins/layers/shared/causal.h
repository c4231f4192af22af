/* causal.h - a causal depthwise convolution along each stream, of channels that lie in
 * rows of ld floats:
 *
 *     c_t = bias + sum over j of w_j x_{t - taps + 1 + j}     the last tap meets x_t
 *
 * The state keeps the last taps - 1 rows of x.  A task is a block of channels of one
 * segment.  All functions are static: each plugin compiles its own copy.         */
#ifndef CAUSAL_H
#define CAUSAL_H

#include <chimera/plugin.h>
#include <math.h>
#include "floats.h"

enum { CAUSAL_BLOCK = 64 };                     /* channels of a task             */

struct causal {
    int64_t channels, taps;
    bool    biased;
    int64_t weight, bias;                       /* parameters [channels, taps], [channels] */
    int64_t tail;                               /* state [taps - 1, channels]     */
    int64_t part;                               /* gradients by segment: [channels, taps], bias */
};

static inline void causal_open(struct causal *s, const char *weight, const char *bias,
                               const struct chi_plan_ops *ops, struct chi_plan *plan, bool training)
{
    double bound = 1 / sqrt((double)s->taps);
    s->biased = bias != NULL;
    s->weight = ops->param(plan, weight, (int64_t[]){ s->channels, s->taps, 0 }, CHI_INIT_UNIFORM, -bound, bound, 0);
    if (bias) s->bias = ops->param(plan, bias, (int64_t[]){ s->channels, 0 }, CHI_INIT_UNIFORM, -bound, bound, 0);
    if (s->taps > 1) s->tail = ops->state(plan, "tail", CHI_F32, (s->taps - 1) * s->channels);
    if (training) s->part = ops->array(plan, "part_conv", CHI_F32, s->channels * (s->taps + 1), CHI_PER_SEG, 0);
    ops->scratch(plan, (2 * s->taps + 2) * CAUSAL_BLOCK * (int64_t)sizeof(float) + 4 * 64);
}

struct causal_job {
    const struct causal *s;
    struct chi_run *r;
    const float *x;
    float *c;                                   /* backward: dc, only read        */
    float *dx;
    int64_t ld, ldc, blocks;
};

/* n channels from first of one segment                                           */
struct causal_task {
    const struct causal_job *j;
    const struct chi_segment *g;
    int64_t seg, first, n;
    float *w;                                   /* [taps][n]                      */
};

static inline struct causal_task causal_task(const struct causal_job *j, int64_t i, struct chi_scratch *scratch)
{
    const struct causal *s = j->s;
    struct causal_task c = { .j = j, .seg = i / j->blocks, .first = i % j->blocks * CAUSAL_BLOCK };
    const float *w = CHI_PARAM(j->r, s->weight, float) + c.first * s->taps;
    c.g = &j->r->seg[c.seg];
    c.n = s->channels - c.first < CAUSAL_BLOCK ? s->channels - c.first : CAUSAL_BLOCK;
    c.w = take(scratch, s->taps * CAUSAL_BLOCK);
    for (int64_t ch = 0; ch < c.n; ch++)
        for (int64_t t = 0; t < s->taps; t++) c.w[t * c.n + ch] = w[ch * s->taps + t];
    return c;
}

static inline float *causal_tail(const struct causal_task *c, unsigned char *state, int64_t row)
{
    return (float *)(void *)(state + c->j->s->tail) + row * c->j->s->channels + c->first;
}

/* Row t of x; negative rows are the tail's                                       */
static inline const float *causal_x(const struct causal_task *c, int64_t t)
{
    if (t < 0) return causal_tail(c, c->g->state, t + c->j->s->taps - 1);
    return c->j->x + (c->g->first + t) * c->j->ld + c->first;
}

static inline void causal_forward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct causal_job *j = arg;
    struct causal_task c = causal_task(j, i, scratch);
    int64_t T = j->s->taps - 1, rows = c.g->rows;

    for (int64_t t = 0; t < rows; t++) {
        float *out = j->c + (c.g->first + t) * j->ldc + c.first;
        if (j->s->biased) copy(out, CHI_PARAM(j->r, j->s->bias, float) + c.first, c.n);
        else zero(out, c.n);
        for (int64_t tap = 0; tap <= T; tap++) {
            const float *x = causal_x(&c, t - T + tap), *w = c.w + tap * c.n;
            for (int64_t ch = 0; ch < c.n; ch++) out[ch] += w[ch] * x[ch];
        }
    }
    for (int64_t row = 0; row < T; row++)       /* rising: old rows are read before written */
        memmove(causal_tail(&c, c.g->state, row), causal_x(&c, rows - T + row), (size_t)c.n * sizeof(float));
}

static inline void causal_forward(const struct causal *s, struct chi_run *r, const float *x, int64_t ld, float *y,
                                  int64_t ldy)
{
    struct causal_job j = { .s = s, .r = r, .x = x, .c = y, .ld = ld, .ldc = ldy,
                            .blocks = (s->channels + CAUSAL_BLOCK - 1) / CAUSAL_BLOCK };
    r->h->parallel(r->h, r->n_seg * j.blocks, causal_forward_task, &j);
}

/* dx_t = sum over j of w_j dc_{t + taps - 1 - j}, and what the new tail says, where row
 * t is in it.  Falling, since the old tail's gradient takes the new one's place.  */
static inline void causal_dx(const struct causal_task *c, const float *dc)
{
    const struct causal_job *j = c->j;
    int64_t T = j->s->taps - 1, rows = c->g->rows;
    for (int64_t t = rows - 1; t >= (c->g->dstate ? -T : 0); t--) {
        float *dx = t < 0 ? causal_tail(c, c->g->dstate, t + T) : j->dx + (c->g->first + t) * j->ld + c->first;
        if (t - rows + T >= 0 && c->g->dstate) copy(dx, causal_tail(c, c->g->dstate, t - rows + T), c->n);
        else zero(dx, c->n);
        for (int64_t tap = 0; tap <= T; tap++) {
            int64_t to = t + T - tap;
            const float *d = dc + to * j->ldc, *w = c->w + tap * c->n;
            for (int64_t ch = 0; to >= 0 && to < rows && ch < c->n; ch++) dx[ch] += w[ch] * d[ch];
        }
    }
}

static inline void causal_backward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct causal_job *j = arg;
    struct causal_task c = causal_task(j, i, scratch);
    int64_t W = j->s->taps, all = j->s->channels;
    float *dw = take(scratch, W * CAUSAL_BLOCK), *db = take(scratch, CAUSAL_BLOCK);
    float *part = CHI_ARRAY(j->r, j->s->part, float) + c.seg * all * (W + 1);
    const float *dc = j->c + c.g->first * j->ldc + c.first;

    zero(dw, W * c.n);
    zero(db, c.n);
    for (int64_t t = 0; t < c.g->rows; t++) {
        const float *d = dc + t * j->ldc;
        for (int64_t tap = 0; tap < W; tap++) {
            const float *x = causal_x(&c, t - W + 1 + tap);
            for (int64_t ch = 0; ch < c.n; ch++) dw[tap * c.n + ch] += d[ch] * x[ch];
        }
        for (int64_t ch = 0; ch < c.n; ch++) db[ch] += d[ch];
    }
    for (int64_t ch = 0; ch < c.n; ch++)
        for (int64_t tap = 0; tap < W; tap++) part[(c.first + ch) * W + tap] = dw[tap * c.n + ch];
    copy(part + all * W + c.first, db, c.n);
    causal_dx(&c, dc);
}

/* dx = ..., and the parameters' gradients                                        */
static inline void causal_backward(const struct causal *s, struct chi_run *r, const float *x, float *dx,
                                   int64_t ld, float *dc, int64_t ldc)
{
    struct causal_job j = { .s = s, .r = r, .x = x, .c = dc, .dx = dx, .ld = ld, .ldc = ldc,
                            .blocks = (s->channels + CAUSAL_BLOCK - 1) / CAUSAL_BLOCK };
    int64_t n = s->channels * s->taps;
    const float *part = CHI_ARRAY(r, s->part, float);

    r->h->parallel(r->h, r->n_seg * j.blocks, causal_backward_task, &j);
    for (int64_t i = 0; r->grads && i < r->n_seg; i++, part += n + s->channels) {
        r->h->reduce(r->h, CHI_GRAD(r, s->weight, float), part, 1, n);
        if (s->biased) r->h->reduce(r->h, CHI_GRAD(r, s->bias, float), part + n, 1, s->channels);
    }
}

#endif
