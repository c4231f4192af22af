/* lowrank.h - the product of two thin matrices around a linear, for adapters:
 *
 *     z = A x,  y += s B' z           A[rank, d_in], B[rank, d_out], s a number
 *
 * B is stored by its columns of the usual [d_out, rank], so that both loops run along rows.
 * Forward adds s z_j B_j to y for j = 0, 1, ..., each product and sum rounded by itself, and z
 * are canonical dot products: a row's bits depend on that row alone.  Backward, with u = B dy:
 *
 *     dx += s A' u,  dA += s u x',  dB += s z dy',  ds = z . u
 *
 * over all rows, by gemm; dA and dB are cut by columns, so sums have one order.              */
#ifndef LOWRANK_H
#define LOWRANK_H

#include <chimera/format.h>

struct lowrank {
    int64_t d_out, d_in, rank;
    int64_t a, b;                           /* parameters                                */
    int64_t z, u;                           /* arrays [rows, rank] of backward           */
};

/* A normal with variance 1 / d_in, B zero: it adds nothing at the start                     */
static inline void lowrank_plan(struct lowrank *l, int64_t d_out, int64_t d_in, int64_t rank,
                                const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    l->d_out = d_out;
    l->d_in = d_in;
    l->rank = rank;
    l->a = ops->param(plan, "a", (int64_t[]){ rank, d_in, 0 }, CHI_INIT_NORMAL, 1 / sqrt((double)d_in), 0,
                      CHI_PARAM_DECAY);
    l->b = ops->param(plan, "b", (int64_t[]){ rank, d_out, 0 }, CHI_INIT_ZERO, 0, 0, CHI_PARAM_DECAY);
    l->z = ops->array(plan, "z", CHI_F32, rank, CHI_PER_ROW, 0);
    l->u = ops->array(plan, "u", CHI_F32, rank, CHI_PER_ROW, 0);
}

struct lowrank_job {
    const struct lowrank *l;
    const struct chi_kernels *k;
    const float *a, *b, *x, *dy;
    float *y, *dx, *da, *db, *z, *u;
    float s;
    int64_t rows, block;                    /* rows of a task                            */
};

static inline struct lowrank_job lowrank_job(const struct lowrank *l, const struct chi_run *r, float s,
                                             const float *x)
{
    int64_t work = l->rank * (l->d_in + l->d_out);
    return (struct lowrank_job){
        .l = l, .k = r->h->k, .a = CHI_PARAM(r, l->a, float), .b = CHI_PARAM(r, l->b, float), .x = x, .s = s,
        .z = CHI_ARRAY(r, l->z, float), .u = CHI_ARRAY(r, l->u, float), .rows = r->rows,
        .block = (1 << 18) / work > 1 ? (1 << 18) / work : 1,
    };
}

/* ---- forward ------------------------------------------------------------------------ */

static inline void lowrank_rows(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct lowrank_job *j = arg;
    const struct lowrank *l = j->l;
    int64_t end = (i + 1) * j->block < j->rows ? (i + 1) * j->block : j->rows;
    (void)scratch;
    for (int64_t r = i * j->block; r < end; r++)
        for (int64_t c = 0; c < l->rank; c++) {
            float z = j->k->dot(j->a + c * l->d_in, j->x + r * l->d_in, l->d_in);
            j->k->axpy(j->y + r * l->d_out, j->s * z, j->b + c * l->d_out, l->d_out);
        }
}

static inline void lowrank_forward(const struct lowrank *l, const struct chi_run *r, float s, const float *x,
                                   float *y)
{
    struct lowrank_job j = lowrank_job(l, r, s, x);
    j.y = y;
    r->h->parallel(r->h, (j.rows + j.block - 1) / j.block, lowrank_rows, &j);
}

/* ---- backward ----------------------------------------------------------------------- */

/* z, s u and dx of a block of rows; u itself goes to *ds                                     */
static inline void lowrank_rows_back(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct lowrank_job *j = arg;
    const struct lowrank *l = j->l;
    int64_t from = i * j->block, n = j->rows - from < j->block ? j->rows - from : j->block;
    float *z = j->z + from * l->rank, *u = j->u + from * l->rank;
    (void)scratch;
    j->k->gemm(false, true, n, l->rank, l->d_in, j->x + from * l->d_in, l->d_in, j->a, l->d_in, 0, z, l->rank);
    j->k->gemm(false, true, n, l->rank, l->d_out, j->dy + from * l->d_out, l->d_out, j->b, l->d_out, 0, u, l->rank);
    if (!j->dx) return;
    float *dx = j->dx + from * l->d_in;
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < l->rank; c++)
            j->k->axpy(dx + r * l->d_in, j->s * u[r * l->rank + c], j->a + c * l->d_in, l->d_in);
}

enum { LOWRANK_COLUMNS = 256 };

/* Columns of dA, and behind them those of dB; z and u hold s z and s u by now                */
static inline void lowrank_columns(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct lowrank_job *j = arg;
    const struct lowrank *l = j->l;
    int64_t n_a = (l->d_in + LOWRANK_COLUMNS - 1) / LOWRANK_COLUMNS;
    bool of_a = i < n_a;
    int64_t d = of_a ? l->d_in : l->d_out, from = (of_a ? i : i - n_a) * LOWRANK_COLUMNS;
    int64_t n = d - from < LOWRANK_COLUMNS ? d - from : LOWRANK_COLUMNS;
    (void)scratch;
    j->k->gemm(true, false, l->rank, n, j->rows, of_a ? j->u : j->z, l->rank, (of_a ? j->x : j->dy) + from, d, 1,
               (of_a ? j->da : j->db) + from, d);
}

/* Returns ds; 0 when nobody wants gradients of the parameters                                */
static inline double lowrank_backward(const struct lowrank *l, const struct chi_run *r, float s, const float *x,
                                      const float *dy, float *dx)
{
    struct lowrank_job j = lowrank_job(l, r, s, x);
    double ds = 0;
    j.dy = dy;
    j.dx = dx;
    r->h->parallel(r->h, (j.rows + j.block - 1) / j.block, lowrank_rows_back, &j);
    if (!r->grads) return 0;
    for (int64_t i = 0; i < j.rows * l->rank; i++) {
        ds += (double)j.z[i] * (double)j.u[i];
        j.z[i] *= s;
        j.u[i] *= s;
    }
    j.da = CHI_GRAD(r, l->a, float);
    j.db = CHI_GRAD(r, l->b, float);
    int64_t tasks = (l->d_in + LOWRANK_COLUMNS - 1) / LOWRANK_COLUMNS + (l->d_out + LOWRANK_COLUMNS - 1) / LOWRANK_COLUMNS;
    r->h->parallel(r->h, tasks, lowrank_columns, &j);
    return ds;
}

#endif
