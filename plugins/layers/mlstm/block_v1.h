/* block_v1.h - the block of the first xLSTM paper (arXiv 2405.04517, figure 11) around the
 * same cell.  Headwise maps are block-diagonal, of blocks of qkv_proj_blocksize:
 *
 *     x', z = W_up x;   u = silu(conv(x') + bias)
 *     q, k  = W_q u, W_k u;   v = W_v x'                    W block-diagonal
 *     i, f  = cap(W_i [q k v] + b_i), cap(W_f [q k v] + b_f)
 *     y     = W_down ((norm(cell(q, k, v, i, f)) + skip * u) * silu(z))              */
#ifndef MLSTM_BLOCK_V1_H
#define MLSTM_BLOCK_V1_H

#include "cell.h"

enum { ROWS_A_TASK = 32 };

/* ---- after the cell ------------------------------------------------------------------ */

/* This head's channels of row t of x' and z; u before silu                            */
static float *up_row(const struct hebb_chunk *c, int64_t array, bool z, int64_t t)
{
    const struct mlstm *s = c->layer;
    return CHI_ARRAY(c->r, array, float) + ((c->g->first + c->row + t) * 2 + z) * s->inner + c->head * s->dim;
}

static void skip_finish(struct hebb_chunk *c)
{
    const struct mlstm *s = c->layer;
    const struct chi_kernels *k = c->r->h->k;
    const float *gain = CHI_PARAM(c->r, s->norm, float) + c->head * s->dim;
    const float *skip = CHI_PARAM(c->r, s->skip, float) + c->head * s->dim;
    float *x = own_row(c, OWN_NORMAL), *u = own_row(c, OWN_T);

    ones(c);
    for (int64_t t = 0; t < c->n; t++) {
        float *h = hebb_at(c, s->h, t, s->dim);
        cell_normal(c, t, x);
        k->silu(u, hebb_at(c, s->c, t, s->dim), s->dim);
        for (int64_t j = 0; j < s->dim; j++) x[j] = x[j] * gain[j] + skip[j] * u[j];
        k->silu_mul(h, up_row(c, s->up, true, t), x, s->dim);
    }
}

/* With p = x gain + skip u and h = p silu(z):
 *     dz = dh p silu'(z);  dp = dh silu(z);  dgain += dp x;  dskip += dp u;  du = dp skip */
static void skip_finish_back(struct hebb_chunk *c)
{
    const struct mlstm *s = c->layer;
    const struct chi_kernels *k = c->r->h->k;
    const float *gain = CHI_PARAM(c->r, s->norm, float) + c->head * s->dim;
    const float *skip = CHI_PARAM(c->r, s->skip, float) + c->head * s->dim;
    float *x = own_row(c, OWN_NORMAL), *u = own_row(c, OWN_T), *dp = own_row(c, OWN_T2);
    float *dgain = own_row(c, OWN_DNORM), *dskip = own_row(c, OWN_DSKIP);

    for (int64_t t = 0; t < c->n; t++) {
        const float *dh = hebb_at(c, s->dh, t, s->dim), *z = up_row(c, s->up, true, t);
        float *dz = up_row(c, s->dup, true, t), *du = hebb_at(c, s->du, t, s->dim);
        struct normal w = cell_normal(c, t, x);
        k->silu(u, hebb_at(c, s->c, t, s->dim), s->dim);
        for (int64_t j = 0; j < s->dim; j++) dz[j] = dh[j] * (x[j] * gain[j] + skip[j] * u[j]);
        k->silu_back(dz, z, dz, s->dim);
        k->silu_mul(dp, z, dh, s->dim);
        for (int64_t j = 0; j < s->dim; j++) {
            dgain[j] += dp[j] * x[j];
            dskip[j] += dp[j] * u[j];
            du[j]     = dp[j] * skip[j];
            dp[j]    *= gain[j];
        }
        cell_out_back(c, t, x, w, dp);
    }
}

static void skip_begin(struct hebb_chunk *c, bool back)
{
    cell_begin(c, back);
    if (back) zero(own_row(c, OWN_DSKIP), c->s->dk);
}

static void skip_end(struct hebb_chunk *c, bool back)
{
    const struct mlstm *s = c->layer;
    cell_end(c, back);
    if (back)
        copy(CHI_ARRAY(c->r, s->part_skip, float) + (c->seg * s->heads + c->head) * s->dim,
             own_row(c, OWN_DSKIP), s->dim);
}

static const struct hebb_ops block_v1 = {
    .prepare = cell_prepare, .finish = skip_finish, .finish_back = skip_finish_back,
    .prepare_back = cell_prepare_back, .begin = skip_begin, .end = skip_end,
};

/* ---- before the cell: rows alike ------------------------------------------------------- */

struct rows { const struct mlstm *s; struct chi_run *r; int64_t from, to; };

static struct rows rows_of_task(void *arg, int64_t i)
{
    struct rows j = *(struct rows *)arg;
    j.from = i * ROWS_A_TASK;
    j.to   = j.from + ROWS_A_TASK < j.r->rows ? j.from + ROWS_A_TASK : j.r->rows;
    return j;
}

static void each_row_block(const struct mlstm *s, struct chi_run *r, chi_task *task)
{
    struct rows j = { .s = s, .r = r };
    r->h->parallel(r->h, (r->rows + ROWS_A_TASK - 1) / ROWS_A_TASK, task, &j);
}

/* y[o] = sum over i of w[block][o][i] x[i], blocks of b                                */
static void headwise(float *y, const float *w, const float *x, int64_t n, int64_t b)
{
    for (int64_t at = 0; at < n; at += b, w += b * b)
        for (int64_t o = 0; o < b; o++) {
            float sum = 0;
            for (int64_t i = 0; i < b; i++) sum += w[o * b + i] * x[at + i];
            y[at + o] = sum;
        }
}

/* dx += w' dy                                                                           */
static void headwise_dx(float *dx, const float *w, const float *dy, int64_t n, int64_t b)
{
    for (int64_t at = 0; at < n; at += b, w += b * b)
        for (int64_t o = 0; o < b; o++)
            for (int64_t i = 0; i < b; i++) dx[at + i] += w[o * b + i] * dy[at + o];
}

static void headwise_dw(float *dw, const float *dy, const float *x, int64_t n, int64_t b)
{
    for (int64_t at = 0; at < n; at += b, dw += b * b)
        for (int64_t o = 0; o < b; o++)
            for (int64_t i = 0; i < b; i++) dw[o * b + i] += dy[at + o] * x[at + i];
}

static void qkv_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct rows j = rows_of_task(arg, i);
    const struct mlstm *s = j.s;
    float *u = take(scratch, s->inner);
    for (int64_t row = j.from; row < j.to; row++) {
        float *qkv = CHI_ARRAY(j.r, s->qkv[Q], float) + row * s->stride[Q];
        j.r->h->k->silu(u, CHI_ARRAY(j.r, s->c, float) + row * s->inner, s->inner);
        for (int w = Q; w <= V; w++)
            headwise(qkv + s->offset[w], CHI_PARAM(j.r, s->headwise[w], float),
                     w == V ? CHI_ARRAY(j.r, s->up, float) + row * 2 * s->inner : u, s->inner, s->block);
    }
}

/* The maps' gradients, and that of u through silu                                       */
static void qkv_back_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct rows j = rows_of_task(arg, i);
    const struct mlstm *s = j.s;
    int64_t n = s->inner, size = n * s->block;
    float *u = take(scratch, n), *dw = CHI_ARRAY(j.r, s->part_headwise, float) + i * 3 * size;

    zero(dw, 3 * size);
    for (int64_t row = j.from; row < j.to; row++) {
        const float *c = CHI_ARRAY(j.r, s->c, float) + row * n, *x = CHI_ARRAY(j.r, s->up, float) + row * 2 * n;
        const float *d = CHI_ARRAY(j.r, s->dqkv[Q], float) + row * s->stride[Q];
        float *du = CHI_ARRAY(j.r, s->du, float) + row * n;
        j.r->h->k->silu(u, c, n);
        for (int w = Q; w <= V; w++) headwise_dw(dw + w * size, d + s->offset[w], w == V ? x : u, n, s->block);
        for (int w = Q; w <= K; w++)
            headwise_dx(du, CHI_PARAM(j.r, s->headwise[w], float), d + s->offset[w], n, s->block);
        j.r->h->k->silu_back(du, c, du, n);
    }
}

/* x' has a second way to the loss: v                                                     */
static void v_back_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct rows j = rows_of_task(arg, i);
    const struct mlstm *s = j.s;
    (void)scratch;
    for (int64_t row = j.from; row < j.to; row++)
        headwise_dx(CHI_ARRAY(j.r, s->dup, float) + row * 2 * s->inner, CHI_PARAM(j.r, s->headwise[V], float),
                    CHI_ARRAY(j.r, s->dqkv[V], float) + row * s->stride[V] + s->offset[V], s->inner, s->block);
}

/* ---- the block ------------------------------------------------------------------------- */

static void plan_block_v1(struct mlstm *s, const struct chi_shape *shape, const struct chi_plan_ops *ops,
                          struct chi_plan *plan)
{
    static const char *const name[] = { "q_proj.weight", "k_proj.weight", "v_proj.weight" };
    double bound = 1 / sqrt((double)s->block);
    int64_t n = s->inner;

    s->in[0] = ops->linear(plan, "proj_up", 2 * n, shape->d_in, 0);
    s->in[1] = ops->linear(plan, "igate_preact", s->heads, 3 * n, CHI_LINEAR_F32);
    s->in[2] = ops->linear(plan, "fgate_preact", s->heads, 3 * n, CHI_LINEAR_F32);
    s->out   = ops->linear(plan, "proj_down", shape->d_out, n, 0);
    s->skip  = ops->param(plan, "learnable_skip", (int64_t[]){ n, 0 }, CHI_INIT_CONST, 1, 0, 0);
    causal_open(&s->conv, "conv1d.weight", "conv1d.bias", ops, plan, shape->training);
    s->up   = ops->array(plan, "up", CHI_F32, 2 * n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->c    = ops->array(plan, "c", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->ipre = ops->array(plan, "igate", CHI_F32, s->heads, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->fpre = ops->array(plan, "fgate", CHI_F32, s->heads, CHI_PER_ROW, CHI_ARRAY_KEEP);
    int64_t qkv = ops->array(plan, "qkv", CHI_F32, 3 * n, CHI_PER_ROW, CHI_ARRAY_KEEP), dqkv = 0;
    if (shape->training) {
        dqkv          = ops->array(plan, "dqkv", CHI_F32, 3 * n, CHI_PER_ROW, 0);
        s->dup        = ops->array(plan, "dup", CHI_F32, 2 * n, CHI_PER_ROW, 0);
        s->du         = ops->array(plan, "du", CHI_F32, n, CHI_PER_ROW, 0);
        s->dipre      = ops->array(plan, "digate", CHI_F32, s->heads, CHI_PER_ROW, 0);
        s->dfpre      = ops->array(plan, "dfgate", CHI_F32, s->heads, CHI_PER_ROW, 0);
        s->part_skip  = ops->array(plan, "part_skip", CHI_F32, n, CHI_PER_SEG, 0);
        s->part_headwise = ops->array(plan, "part_headwise", CHI_F32, 3 * n * s->block, ROWS_A_TASK, 0);
    }
    for (int i = Q; i <= V; i++) {
        s->headwise[i] = ops->param(plan, name[i], (int64_t[]){ n / s->block, s->block, s->block },
                                    CHI_INIT_UNIFORM, -bound, bound, 0);
        s->qkv[i]    = qkv;
        s->dqkv[i]   = dqkv;
        s->offset[i] = i * n;
    }
    for (int i = Q; i <= V; i++) s->stride[i] = 3 * n;
    ops->scratch(plan, n * (int64_t)sizeof(float) + 64);
}

static chi_status v1_in(const struct mlstm *s, struct chi_run *r, const float *x)
{
    float *up = CHI_ARRAY(r, s->up, float);
    float *gate[] = { CHI_ARRAY(r, s->ipre, float), CHI_ARRAY(r, s->fpre, float) };
    chi_status e = r->h->linears(s->in, 1, r, x, r->rows, &up);
    if (e != CHI_OK) return e;
    causal_forward(&s->conv, r, up, 2 * s->inner, CHI_ARRAY(r, s->c, float), s->inner);
    each_row_block(s, r, qkv_task);
    return r->h->linears(s->in + 1, 2, r, CHI_ARRAY(r, s->qkv[Q], float), r->rows, gate);
}

static void v1_reduce(const struct mlstm *s, struct chi_run *r)
{
    int64_t size = s->inner * s->block, blocks = (r->rows + ROWS_A_TASK - 1) / ROWS_A_TASK;
    const float *part = CHI_ARRAY(r, s->part_headwise, float);
    r->h->reduce(r->h, CHI_GRAD(r, s->skip, float), CHI_ARRAY(r, s->part_skip, float), r->n_seg, s->inner);
    for (int64_t i = 0; i < blocks; i++)
        for (int w = Q; w <= V; w++, part += size)
            r->h->reduce(r->h, CHI_GRAD(r, s->headwise[w], float), part, 1, size);
}

static chi_status v1_in_back(const struct mlstm *s, struct chi_run *r, const float *x, float *dx)
{
    float *dup = CHI_ARRAY(r, s->dup, float);
    const float *dgate[] = { CHI_ARRAY(r, s->dipre, float), CHI_ARRAY(r, s->dfpre, float) }, *dnew = dup;
    chi_status e = r->h->linears_back(s->in + 1, 2, r, CHI_ARRAY(r, s->qkv[Q], float), r->rows, dgate,
                                      CHI_ARRAY(r, s->dqkv[Q], float));
    if (e != CHI_OK) return e;
    each_row_block(s, r, qkv_back_task);
    causal_backward(&s->conv, r, CHI_ARRAY(r, s->up, float), dup, 2 * s->inner, CHI_ARRAY(r, s->du, float), s->inner);
    each_row_block(s, r, v_back_task);
    if (r->grads) v1_reduce(s, r);
    return r->h->linears_back(s->in, 1, r, x, r->rows, &dnew, dx);
}

#endif
