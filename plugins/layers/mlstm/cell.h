/* cell.h - the mLSTM cell (arXiv 2405.04517) on the memory of shared/hebb.h.
 *
 *     i = cap tanh((w_i x + b_i) / cap),  f likewise,  lf = log sigmoid(f)
 *     m' = max(lf + m, i);  fa = exp(lf + m - m');  ia = exp(i - m')
 *     C = fa C + ia v k';   n = fa n + ia k
 *     r = s <n, q>;  h = s C q / (max(|r|, exp(-m')) + cell_eps),  s = dk^-1/2
 *     y = (h - mean h) / sqrt(var h + norm_eps) * multihead_norm
 *
 * (C, n, m) and (C e^c, n e^c, m - c) are the same state: m only keeps exponents small
 * and is a constant in backward.  k lies raw in the state.  A head has dk channels of
 * q and k, dim of v: C is [dim,dk].                                              */
#ifndef MLSTM_CELL_H
#define MLSTM_CELL_H

#include "mlstm.h"

static float *cell_in(const struct hebb_chunk *c, const int64_t *array, int i, int64_t t)
{
    const struct mlstm *s = c->layer;
    return CHI_ARRAY(c->r, array[i], float) + (c->g->first + c->row + t) * s->stride[i] + s->offset[i]
           + c->head * width(s, i);
}

static float soft_cap(float x, float cap)       /* slope: 1 - (result / cap)^2    */
{
    float e = chi_exp(-2 * fabsf(x) / cap), y = cap * (1 - e) / (1 + e);
    return x < 0 ? -y : y;
}

/* m before row t of the chunk                                                    */
static float cell_m(const struct hebb_chunk *c, int64_t t)
{
    const struct mlstm *s = c->layer;
    return c->row + t == 0 ? CHI_STATE(c->g, s->m, float)[c->head]
                           : *hebb_at(c, s->stabiliser, t - 1, 1);
}

struct gates { float i, f, lf; };

static struct gates cell_gates(const struct hebb_chunk *c, int64_t t)
{
    const struct mlstm *s = c->layer;
    float i = *hebb_at(c, s->ipre, t, 1) + CHI_PARAM(c->r, s->igate_bias, float)[c->head];
    float f = *hebb_at(c, s->fpre, t, 1) + CHI_PARAM(c->r, s->fgate_bias, float)[c->head];
    f = soft_cap(f, s->cap);
    return (struct gates){ soft_cap(i, s->cap), f, -chi_softplus(-f) };
}

static void cell_prepare(struct hebb_chunk *c)
{
    const struct mlstm *s = c->layer;
    int64_t D = s->dim, dk = s->dk;

    for (int64_t t = 0; t < c->n; t++) {
        struct gates g = cell_gates(c, t);
        float kept = g.lf + cell_m(c, t), m = kept > g.i ? kept : g.i;
        c->a[t] = chi_exp(kept - m);
        c->b[t] = chi_exp(g.i - m);
        *hebb_at(c, s->stabiliser, t, 1) = m;
        copy(c->q + t * dk, cell_in(c, s->qkv, Q, t), dk);
        copy(c->k + t * dk, cell_in(c, s->qkv, K, t), dk);
        copy(c->v + t * (D + 1), cell_in(c, s->qkv, V, t), D);
        c->v[t * (D + 1) + D] = 1;
    }
}

/* What a row of o becomes before the gain: x[D]                                  */
struct normal { float factor, r, floor, rstd; };

static struct normal cell_normal(const struct hebb_chunk *c, int64_t t, float *x)
{
    const struct mlstm *s = c->layer;
    const struct chi_kernels *k = c->r->h->k;
    const float *o = c->o + t * (s->dim + 1);
    int64_t D = s->dim;
    struct normal w = { .r = s->scale * o[D], .floor = chi_exp(-*hebb_at(c, s->stabiliser, t, 1)) };

    float den = (fabsf(w.r) >= w.floor ? fabsf(w.r) : w.floor) + s->cell_eps;
    w.factor = s->scale / den;
    for (int64_t j = 0; j < D; j++) x[j] = o[j] * w.factor;
    float mean = k->dot(x, own_row(c, OWN_ONES), D) / (float)D;
    for (int64_t j = 0; j < D; j++) x[j] -= mean;
    w.rstd = 1 / sqrtf(k->dot(x, x, D) / (float)D + s->norm_eps);
    for (int64_t j = 0; j < D; j++) x[j] *= w.rstd;
    return w;
}

static void ones(const struct hebb_chunk *c)
{
    float *x = own_row(c, OWN_ONES);
    for (int64_t j = 0; j < c->s->dv - 1; j++) x[j] = 1;
}

static void cell_begin(struct hebb_chunk *c, bool back)
{
    ones(c);
    if (!back) return;
    zero(own_row(c, OWN_DNORM), c->s->dv - 1);
    zero(c->own, 16);
}

/* From the gradient of y / gain (x = y / gain) to dout: through the norm, then
 *     dhn = dh / den;  dr = -<dh, h> / den * sign(r) where |r| is the larger     */
static void cell_out_back(const struct hebb_chunk *c, int64_t t, const float *x, struct normal w, float *d)
{
    const struct mlstm *s = c->layer;
    const struct chi_kernels *k = c->r->h->k;
    const float *o = c->o + t * (s->dim + 1);
    float *dout = c->dout + t * (s->dim + 1);
    int64_t D = s->dim;
    float mean = k->dot(d, own_row(c, OWN_ONES), D) / (float)D, along = k->dot(d, x, D) / (float)D;

    for (int64_t j = 0; j < D; j++) dout[j] = w.factor * (w.rstd * (d[j] - mean - x[j] * along));
    float dr = -k->dot(dout, o, D) * w.factor;
    dout[D] = fabsf(w.r) >= w.floor ? (w.r < 0 ? -dr : dr) : 0;
}

/* The state's m after the call has a gradient of its own: dm, less what moving m
 * does to C and n of the same memory.  It goes to what m came from.              */
static float cell_dm(const struct hebb_chunk *c)
{
    const struct mlstm *s = c->layer;
    int64_t t = c->n - 1, D = s->dk;
    float along = c->dlog_a[t] + c->b[t] * c->db[t] - c->r->h->k->dot(c->q + t * D, c->dq + t * D, D);
    return CHI_DSTATE(c->g, s->m, float)[c->head] - along;
}

static void cell_prepare_back(struct hebb_chunk *c)
{
    const struct mlstm *s = c->layer;
    int64_t D = s->dim, dk = s->dk;

    if (c->last && c->g->dstate) c->own[DM] = cell_dm(c);
    for (int64_t t = c->n - 1; t >= 0; t--) {
        struct gates g = cell_gates(c, t);
        float di = c->b[t] * c->db[t], df = c->dlog_a[t];
        if (g.lf + cell_m(c, t) > g.i) df += c->own[DM];
        else {
            di += c->own[DM];
            c->own[DM] = 0;
        }
        di *= 1 - (g.i / s->cap) * (g.i / s->cap);
        df *= chi_sigmoid(-g.f) * (1 - (g.f / s->cap) * (g.f / s->cap));
        *hebb_at(c, s->dipre, t, 1) = di;
        *hebb_at(c, s->dfpre, t, 1) = df;
        c->own[DIBIAS] += di;
        c->own[DFBIAS] += df;
        copy(cell_in(c, s->dqkv, Q, t), c->dq + t * dk, dk);
        copy(cell_in(c, s->dqkv, K, t), c->dk + t * dk, dk);
        copy(cell_in(c, s->dqkv, V, t), c->dv + t * (D + 1), D);
    }
}

static void cell_end(struct hebb_chunk *c, bool back)
{
    const struct mlstm *s = c->layer;
    if (!back) {
        CHI_STATE(c->g, s->m, float)[c->head] = *hebb_at(c, s->stabiliser, c->n - 1, 1);
        return;
    }
    float *gate = CHI_ARRAY(c->r, s->part_gate, float) + c->seg * 2 * s->heads + c->head;
    gate[0] = c->own[DIBIAS];
    gate[s->heads] = c->own[DFBIAS];
    copy(CHI_ARRAY(c->r, s->part_norm, float) + (c->seg * s->heads + c->head) * s->dim,
         own_row(c, OWN_DNORM), s->dim);
    if (c->g->dstate) CHI_DSTATE(c->g, s->m, float)[c->head] = c->dlog_a[0] + c->own[DM];
}

#endif
