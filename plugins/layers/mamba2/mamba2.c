/* mamba2.c - Mamba-2 (arXiv 2405.21060): a memory that forgets by one number a head and
 * is written without correction.  With u = silu(conv(W_in x)) split into x, B, C, and
 * B, C shared by the heads:
 *
 *     dt = softplus(w_dt x + dt_bias);   A = -exp(A_log)
 *     S  = e^(dt A) S + dt x B';   o = S C + D x
 *     y  = W_out rmsnorm(o * silu(z); norm)          over all heads together
 *
 * The memory is in shared/hebb.h (k = B, q = C, v = x), the convolution in
 * shared/causal.h.  Rows of in_proj stand in the reference's order z, x, B, C; dt has a
 * matrix of its own, which is never quantised.                                   */
#include <chimera/math.h>
#include "../shared/causal.h"
#include "../shared/hebb.h"

enum { ROWS_A_TASK = 16 };
enum { IN, DT, N_IN };

struct mamba2 {
    struct hebb   memory;
    struct causal conv;                         /* of the columns x, B, C         */
    int64_t heads, dim, inner, states;          /* inner = heads dim              */
    int64_t wide;                               /* columns of zxbc: z, x, B, C    */
    float   eps;
    const struct chi_linear *in[N_IN], *out;
    int64_t A_log, D, dt_bias, norm;            /* parameters                     */
    int64_t zxbc, dt, c, y, h;                  /* arrays; c: convolved, before silu */
    int64_t dzxbc, ddt, dc, dy, dh;
    int64_t dB, dC;                             /* by head [H, states]            */
    int64_t part_head, part_norm;               /* gradients by segment, by rows  */
};

struct mamba2_conf { int64_t num_heads, head_dim, state_dim, conv_size; };

static const struct chi_option options[] = {
    CHI_INT(struct mamba2_conf, num_heads, "8", 1, 1024, "number of heads", CHI_OPT_SHAPE),
    CHI_INT(struct mamba2_conf, head_dim, "64", 1, 1024, "channels of a head", CHI_OPT_SHAPE),
    CHI_INT(struct mamba2_conf, state_dim, "64", 1, 1024, "width of B and C: the state of a channel", CHI_OPT_SHAPE),
    CHI_INT(struct mamba2_conf, conv_size, "4", 1, 16, "taps of the short causal convolution of x, B and C",
            CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

/* ---- the memory ------------------------------------------------------------------- */

/* Row t of an array of all columns of x, B, C, from column                       */
static float *column(const struct hebb_chunk *c, int64_t array, int64_t t, int64_t column)
{
    const struct mamba2 *s = c->layer;
    return CHI_ARRAY(c->r, array, float) + (c->g->first + c->row + t) * s->conv.channels + column;
}

/* own[]: x of the chunk before silu is read again, so only sums lie there        */
enum { DA_LOG, DD, DDT_BIAS, SUMS };

static void prepare(struct hebb_chunk *c)
{
    const struct mamba2 *s = c->layer;
    const struct chi_kernels *k = c->r->h->k;
    int64_t P = s->dim, N = s->states;
    float A = -chi_exp(CHI_PARAM(c->r, s->A_log, float)[c->head]);
    float bias = CHI_PARAM(c->r, s->dt_bias, float)[c->head];

    for (int64_t t = 0; t < c->n; t++) {
        k->silu(c->v + t * P, column(c, s->c, t, c->head * P), P);
        k->silu(c->k + t * N, column(c, s->c, t, s->inner), N);
        k->silu(c->q + t * N, column(c, s->c, t, s->inner + N), N);
        c->b[t] = chi_softplus(*hebb_at(c, s->dt, t, 1) + bias);
        c->a[t] = chi_exp(A * c->b[t]);
    }
}

/* y = o + D x; prepare() made x, but in backward's second look at o it must be made again */
static void finish(struct hebb_chunk *c)
{
    const struct mamba2 *s = c->layer;
    float D = CHI_PARAM(c->r, s->D, float)[c->head];
    for (int64_t t = 0; t < c->n; t++) {
        float *y = hebb_at(c, s->y, t, s->dim), *x = c->v + t * s->dim;
        c->r->h->k->silu(x, column(c, s->c, t, c->head * s->dim), s->dim);
        for (int64_t j = 0; j < s->dim; j++) y[j] = c->o[t * s->dim + j] + D * x[j];
    }
}

static void begin(struct hebb_chunk *c, bool back)
{
    if (back) zero(c->own, SUMS);
}

static void finish_back(struct hebb_chunk *c)
{
    const struct mamba2 *s = c->layer;
    for (int64_t t = 0; t < c->n; t++) {
        copy(c->dout + t * s->dim, hebb_at(c, s->dy, t, s->dim), s->dim);
        c->own[DD] += c->r->h->k->dot(c->dout + t * s->dim, c->v + t * s->dim, s->dim);
    }
}

/* log a = dt A:  dA_log = dlog_a log a;  ddt = db + dlog_a A                      */
static void prepare_back(struct hebb_chunk *c)
{
    const struct mamba2 *s = c->layer;
    int64_t P = s->dim, N = s->states;
    float A = -chi_exp(CHI_PARAM(c->r, s->A_log, float)[c->head]);
    float bias = CHI_PARAM(c->r, s->dt_bias, float)[c->head], D = CHI_PARAM(c->r, s->D, float)[c->head];

    for (int64_t t = 0; t < c->n; t++) {
        float *dx = c->dv + t * P;
        c->r->h->k->axpy(dx, D, c->dout + t * P, P);
        c->r->h->k->silu_back(column(c, s->dc, t, c->head * P), column(c, s->c, t, c->head * P), dx, P);
        copy(hebb_at(c, s->dB, t, N), c->dk + t * N, N);
        copy(hebb_at(c, s->dC, t, N), c->dq + t * N, N);
        float ddt = (c->db[t] + c->dlog_a[t] * A) * chi_sigmoid(*hebb_at(c, s->dt, t, 1) + bias);
        *hebb_at(c, s->ddt, t, 1) = ddt;
        c->own[DDT_BIAS] += ddt;
        c->own[DA_LOG]   += c->dlog_a[t] * (A * c->b[t]);
    }
}

static void end(struct hebb_chunk *c, bool back)
{
    const struct mamba2 *s = c->layer;
    if (!back) return;
    float *part = CHI_ARRAY(c->r, s->part_head, float) + c->seg * SUMS * s->heads + c->head;
    for (int64_t i = 0; i < SUMS; i++) part[i * s->heads] = c->own[i];
}

static const struct hebb_ops memory_ops = {
    .prepare = prepare, .finish = finish, .finish_back = finish_back, .prepare_back = prepare_back,
    .begin = begin, .end = end,
};

/* ---- what works row by row ------------------------------------------------------------ */

struct rows { const struct mamba2 *s; struct chi_run *r; int64_t from, to; };

static struct rows rows_of_task(void *arg, int64_t i)
{
    struct rows j = *(struct rows *)arg;
    j.from = i * ROWS_A_TASK;
    j.to   = j.from + ROWS_A_TASK < j.r->rows ? j.from + ROWS_A_TASK : j.r->rows;
    return j;
}

static void each_row_block(const struct mamba2 *s, struct chi_run *r, chi_task *task)
{
    struct rows j = { .s = s, .r = r };
    r->h->parallel(r->h, (r->rows + ROWS_A_TASK - 1) / ROWS_A_TASK, task, &j);
}

/* h = rmsnorm(y silu(z); norm)                                                    */
static void norm_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct rows j = rows_of_task(arg, i);
    const struct mamba2 *s = j.s;
    const struct chi_kernels *k = j.r->h->k;
    (void)scratch;
    for (int64_t row = j.from; row < j.to; row++) {
        float *h = CHI_ARRAY(j.r, s->h, float) + row * s->inner;
        k->silu_mul(h, CHI_ARRAY(j.r, s->zxbc, float) + row * s->wide,
                    CHI_ARRAY(j.r, s->y, float) + row * s->inner, s->inner);
        k->rmsnorm(h, h, CHI_PARAM(j.r, s->norm, float), s->inner, s->eps);
    }
}

/* u = y silu(z), h = u r w, xh = u r:  a = dh w;  du = r (a - xh mean(a xh));
 * dy = du silu(z);  dz = du y silu'(z);  dw += dh xh                              */
static void norm_back_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct rows j = rows_of_task(arg, i);
    const struct mamba2 *s = j.s;
    const struct chi_kernels *k = j.r->h->k;
    const float *w = CHI_PARAM(j.r, s->norm, float);
    float *xh = take(scratch, s->inner), *dw = CHI_ARRAY(j.r, s->part_norm, float) + i * s->inner;
    int64_t n = s->inner;

    zero(dw, n);
    for (int64_t row = j.from; row < j.to; row++) {
        const float *z = CHI_ARRAY(j.r, s->zxbc, float) + row * s->wide, *y = CHI_ARRAY(j.r, s->y, float) + row * n;
        float *dz = CHI_ARRAY(j.r, s->dzxbc, float) + row * s->wide, *dy = CHI_ARRAY(j.r, s->dy, float) + row * n;
        float *du = CHI_ARRAY(j.r, s->dh, float) + row * n;
        k->silu_mul(xh, z, y, n);
        float r = k->rmsnorm(xh, xh, NULL, n, s->eps);
        for (int64_t c = 0; c < n; c++) dw[c] += du[c] * xh[c];
        for (int64_t c = 0; c < n; c++) du[c] *= w[c];
        float mean = k->dot(du, xh, n) / (float)n;
        for (int64_t c = 0; c < n; c++) du[c] = r * (du[c] - xh[c] * mean);
        k->silu_mul(dy, z, du, n);
        for (int64_t c = 0; c < n; c++) dz[c] = du[c] * y[c];
        k->silu_back(dz, z, dz, n);
    }
}

/* B and C are read by all heads: their gradients are summed, then go through silu  */
static void shared_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct rows j = rows_of_task(arg, i);
    const struct mamba2 *s = j.s;
    int64_t N = s->states;
    (void)scratch;
    for (int64_t row = j.from; row < j.to; row++)
        for (int which = 0; which < 2; which++) {
            const float *from = CHI_ARRAY(j.r, which ? s->dC : s->dB, float) + row * s->heads * N;
            int64_t at = row * s->conv.channels + s->inner + which * N;
            float *to = CHI_ARRAY(j.r, s->dc, float) + at;
            copy(to, from, N);
            for (int64_t head = 1; head < s->heads; head++)
                for (int64_t c = 0; c < N; c++) to[c] += from[head * N + c];
            j.r->h->k->silu_back(to, CHI_ARRAY(j.r, s->c, float) + at, to, N);
        }
}

/* ---- planning ----------------------------------------------------------------------------- */

static void plan_params(struct mamba2 *s, const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    int64_t shape[] = { s->heads, 0 };
    s->A_log   = ops->param(plan, "A_log", shape, CHI_INIT_LOG_UNIFORM, 1, 16, 0);
    s->D       = ops->param(plan, "D", shape, CHI_INIT_CONST, 1, 0, 0);
    s->dt_bias = ops->param(plan, "dt_bias", shape, CHI_INIT_INV_SOFTPLUS, 1e-3, 1e-1, 0);
    s->norm    = ops->param(plan, "norm.weight", (int64_t[]){ s->inner, 0 }, CHI_INIT_CONST, 1, 0, 0);
}

static void plan_arrays(struct mamba2 *s, const struct chi_plan_ops *ops, struct chi_plan *plan, bool training)
{
    s->zxbc = ops->array(plan, "zxbc", CHI_F32, s->wide, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->dt   = ops->array(plan, "dt", CHI_F32, s->heads, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->c    = ops->array(plan, "c", CHI_F32, s->conv.channels, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->y    = ops->array(plan, "y", CHI_F32, s->inner, CHI_PER_ROW, 0);
    s->h    = ops->array(plan, "h", CHI_F32, s->inner, CHI_PER_ROW, 0);
    if (!training) return;
    s->dzxbc = ops->array(plan, "dzxbc", CHI_F32, s->wide, CHI_PER_ROW, 0);
    s->ddt   = ops->array(plan, "ddt", CHI_F32, s->heads, CHI_PER_ROW, 0);
    s->dc    = ops->array(plan, "dc", CHI_F32, s->conv.channels, CHI_PER_ROW, 0);
    s->dy    = ops->array(plan, "dy", CHI_F32, s->inner, CHI_PER_ROW, 0);
    s->dh    = ops->array(plan, "dh", CHI_F32, s->inner, CHI_PER_ROW, 0);
    s->dB    = ops->array(plan, "dB", CHI_F32, s->heads * s->states, CHI_PER_ROW, 0);
    s->dC    = ops->array(plan, "dC", CHI_F32, s->heads * s->states, CHI_PER_ROW, 0);
    s->part_head = ops->array(plan, "part_head", CHI_F32, SUMS * s->heads, CHI_PER_SEG, 0);
    s->part_norm = ops->array(plan, "part_norm", CHI_F32, s->inner, ROWS_A_TASK, 0);
}

static chi_status mamba2_open(const struct chi_host *host, void *self, const void *conf,
                              const struct chi_shape *shape, const struct chi_plan_ops *ops,
                              struct chi_plan *plan)
{
    const struct mamba2_conf *c = conf;
    struct mamba2 *s = self;
    (void)host;

    s->heads  = c->num_heads;
    s->dim    = c->head_dim;
    s->inner  = s->heads * s->dim;
    s->states = c->state_dim;
    s->wide   = 2 * (s->inner + s->states);
    s->eps    = (float)shape->rms_norm_eps;
    s->memory = (struct hebb){ .ops = &memory_ops, .heads = s->heads, .dk = s->states, .dv = s->dim, .own = SUMS };
    s->conv   = (struct causal){ .channels = s->inner + 2 * s->states, .taps = c->conv_size };
    s->in[IN] = ops->linear(plan, "in_proj", s->wide, shape->d_in, 0);
    s->in[DT] = ops->linear(plan, "dt_proj", s->heads, shape->d_in, CHI_LINEAR_F32);
    s->out    = ops->linear(plan, "out_proj", shape->d_out, s->inner, 0);
    plan_params(s, ops, plan);
    causal_open(&s->conv, "conv1d.weight", "conv1d.bias", ops, plan, shape->training);
    hebb_open(&s->memory, ops, plan, shape->training);
    plan_arrays(s, ops, plan, shape->training);
    ops->scratch(plan, s->inner * (int64_t)sizeof(float) + 64);
    return CHI_OK;
}

/* ---- the layer ---------------------------------------------------------------------------- */

static chi_status mamba2_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct mamba2 *s = self;
    float *zxbc = CHI_ARRAY(r, s->zxbc, float), *pre[N_IN] = { zxbc, CHI_ARRAY(r, s->dt, float) };
    if (r->rows == 0) return CHI_OK;

    chi_status e = r->h->linears(s->in, N_IN, r, x, r->rows, pre);
    if (e != CHI_OK) return e;
    causal_forward(&s->conv, r, zxbc + s->inner, s->wide, CHI_ARRAY(r, s->c, float), s->conv.channels);
    hebb_forward(&s->memory, s, r);
    each_row_block(s, r, norm_task);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

static void reduce_partials(const struct mamba2 *s, struct chi_run *r)
{
    float *grad[SUMS] = { CHI_GRAD(r, s->A_log, float), CHI_GRAD(r, s->D, float), CHI_GRAD(r, s->dt_bias, float) };
    const float *part = CHI_ARRAY(r, s->part_head, float);

    for (int64_t i = 0; i < r->n_seg; i++)
        for (int k = 0; k < SUMS; k++, part += s->heads)
            for (int64_t c = 0; c < s->heads; c++) grad[k][c] += part[c];
    r->h->reduce(r->h, CHI_GRAD(r, s->norm, float), CHI_ARRAY(r, s->part_norm, float),
                 (r->rows + ROWS_A_TASK - 1) / ROWS_A_TASK, s->inner);
}

static chi_status mamba2_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct mamba2 *s = self;
    float *zxbc = CHI_ARRAY(r, s->zxbc, float), *dzxbc = CHI_ARRAY(r, s->dzxbc, float);
    const float *dpre[N_IN] = { dzxbc, CHI_ARRAY(r, s->ddt, float) };
    if (r->rows == 0) return CHI_OK;

    hebb_finish_again(&s->memory, s, r);
    each_row_block(s, r, norm_task);
    zero(CHI_ARRAY(r, s->dh, float), r->rows * s->inner);
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &dy,
                                      CHI_ARRAY(r, s->dh, float));
    if (e != CHI_OK) return e;
    each_row_block(s, r, norm_back_task);
    hebb_backward(&s->memory, s, r);
    each_row_block(s, r, shared_task);
    causal_backward(&s->conv, r, zxbc + s->inner, dzxbc + s->inner, s->wide, CHI_ARRAY(r, s->dc, float),
                    s->conv.channels);
    e = r->h->linears_back(s->in, N_IN, r, x, r->rows, dpre, dx);
    if (e == CHI_OK && r->grads) reduce_partials(s, r);
    return e;
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct mamba2),
    .open = mamba2_open,
    .forward = mamba2_forward,
    .backward = mamba2_backward,
};

static const struct chi_component mamba2 = {
    .struct_size = sizeof mamba2,
    .kind = CHI_LAYER,
    .name = "mamba2",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "Mamba-2: one decay a head, written without correction",
    .papers = "2405.21060",
    .options = options,
    .conf_size = sizeof(struct mamba2_conf),
    .ops = &ops,
};

CHI_PLUGIN(mamba2, .version = "1.0", .license = "MIT",
           .summary = "Mamba-2 mixer",
           .components = CHI_COMPONENTS(&mamba2));
