/* delta_back.h - the gradients of delta.h.  A task is some heads of one segment;
 * it walks the chunks backward, each from the state that forward kept.  The plugin
 * defines delta_open().                                                          */
#ifndef DELTA_BACK_H
#define DELTA_BACK_H

#include "delta.h"

static chi_status delta_open(const struct chi_host *, void *self, const void *conf,
                             const struct chi_shape *, const struct chi_plan_ops *, struct chi_plan *);

static void add_backward(struct bench *b, struct chi_scratch *scratch)
{
    const struct delta *s = b->s;
    int64_t L = s->stride, rows = CHUNK * L;

    for (int i = 0; i < 3; i++) {
        b->dc[i] = take(scratch, (CHUNK + s->taps) * L);
        b->dw[i] = take(scratch, s->taps * L);
        b->dy[i] = take(scratch, rows);
        if (width(s, i) < L) zero(b->dy[i], rows);              /* what lies behind the channels    */
    }
    b->dout   = take(scratch, rows);
    b->xh     = take(scratch, rows);
    b->dS     = take(scratch, s->dk * s->dv);
    b->work   = take(scratch, CHUNK * s->dk * s->dv);
    b->dlog_a = take(scratch, CHUNK);
    b->dbeta  = take(scratch, CHUNK);
    b->dnorm  = take(scratch, L);
    b->gain   = take(scratch, L);
}

/* h = n * silu(g), n = xh * w, xh = o r (no gate: h = n):
 *     dg = dh n silu'(g);  dn = dh silu(g);  dw += dn xh;
 *     do = r (a - xh mean(a xh)),  a = dn w                                    */
static void gate_back(struct bench *b)
{
    const struct delta *s = b->s;
    const struct chi_kernels *k = b->r->h->k;
    const float *w = CHI_PARAM(b->r, s->o_norm, float);
    int64_t D = s->dv;

    for (int64_t t = 0; t < b->n; t++) {
        const float *dh = head_row(b, s->dh, b->row + t, V);
        float *dout = b->dout + t * s->stride, *xh = b->xh;
        float r = k->rmsnorm(xh, head_row(b, s->o, b->row + t, V), NULL, D, s->eps);

        if (s->has.gate) {
            const float *g = head_row(b, s->pre[G], b->row + t, G);
            float *dg = head_row(b, s->dpre[G], b->row + t, G);
            for (int64_t c = 0; c < D; c++) dg[c] = dh[c] * (xh[c] * w[c]);
            k->silu_back(dg, g, dg, D);
            k->silu_mul(dout, g, dh, D);
        } else
            copy(dout, dh, D);
        for (int64_t c = 0; c < D; c++) b->dnorm[c] += dout[c] * xh[c];
        for (int64_t c = 0; c < D; c++) dout[c] *= w[c];
        float m = k->dot(dout, xh, D) / (float)D;
        for (int64_t c = 0; c < D; c++) dout[c] = r * (dout[c] - xh[c] * m);
    }
}

/* beta' = (1 - e^-x) / lambda, x = beta lambda, lambda = |k|^2:
 *     dbeta = dbeta' e^-x;  dlambda = dbeta' beta^2 slope(x);  dk += 2 k dlambda */
static void efla_back(struct bench *b)
{
    int64_t L = b->s->stride;
    for (int64_t t = 0; t < b->n; t++) {
        float x = b->raw[t] * b->lambda[t];
        float dlambda = b->dbeta[t] * (b->raw[t] * b->raw[t] * efla_slope(x));
        b->r->h->k->axpy(b->dy[K] + t * L, 2 * dlambda, b->y[K] + t * L, b->s->dk);
        b->dbeta[t] *= chi_exp(-x);
    }
}

/* log a = -e^A_log softplus(m), m = a + dt_bias                                */
static void decay_back(struct bench *b)
{
    const struct delta *s = b->s;
    int64_t H = s->heads, at = (b->g->first + b->row) * H + b->head;
    const float *a = CHI_ARRAY(b->r, s->pre[A], float) + at;
    float *da = CHI_ARRAY(b->r, s->dpre[A], float) + at;
    float rate = chi_exp(CHI_PARAM(b->r, s->A_log, float)[b->head]);
    float bias = CHI_PARAM(b->r, s->dt_bias, float)[b->head];

    for (int64_t t = b->n - 1; t >= 0; t--) {
        float dm = b->dlog_a[t] * -rate * chi_sigmoid(a[t * H] + bias);
        da[t * H] = dm;
        b->ddt_bias += dm;
        b->dA_log   += b->dlog_a[t] * b->log_a[t];
    }
}

/* beta = max sigmoid(p)                                                        */
static void gates_back(struct bench *b)
{
    const struct delta *s = b->s;
    int64_t H = s->heads;
    float *db = CHI_ARRAY(b->r, s->dpre[B], float) + (b->g->first + b->row) * H + b->head;

    if (s->has.decay) decay_back(b);
    if (s->has.efla) efla_back(b);
    for (int64_t t = 0; t < b->n; t++)
        db[t * H] = b->dbeta[t] * b->raw[t] * (1 - b->raw[t] / s->beta_max);
}

/* y = x f, f = times / sqrt(|x|^2 + eps):  dx = f (dy - y <y, dy> / times^2)   */
static void normalise_back(struct bench *b, float *dy, const float *y, const float *f, float times)
{
    int64_t D = b->s->dk, L = b->s->stride;
    for (int64_t t = 0; t < b->n; t++, dy += L, y += L) {
        float m = b->r->h->k->dot(y, dy, D) / (times * times);
        for (int64_t c = 0; c < D; c++) dy[c] = f[t] * (dy[c] - y[c] * m);
    }
}

/* dx_s = sum over j of w_j dc_{s + taps - 1 - j}.  Rows behind the chunk hold the
 * next chunk's dc.                                                             */
static void convolve_back_row(const struct bench *b, int i, int64_t s, float *dx)
{
    int64_t D = width(b->s, i), L = b->s->stride, W = b->s->taps;
    for (int64_t j = 0; j < W; j++) {
        if (s + W - 1 - j < 0) break;
        const float *dc = b->dc[i] + (s + W - 1 - j) * L, *w = b->w[i] + j * L;
        for (int64_t c = 0; c < D; c++) dx[c] += w[c] * dc[c];
    }
}

/* Of channel group i: dy is the gradient of silu(c)                            */
static void convolve_back(struct bench *b, int i)
{
    int64_t D = width(b->s, i), L = b->s->stride, W = b->s->taps, T = W - 1;
    float *dc = b->dc[i];

    memmove(dc + b->n * L, dc, (size_t)(T * L) * sizeof(float));
    b->r->h->k->silu_back(dc, b->c[i], b->dy[i], b->n * L);
    for (int64_t j = 0; j < W; j++)
        for (int64_t t = 0; t < b->n * L; t += L)
            for (int64_t c = 0; c < D; c++)
                b->dw[i][j * L + c] += dc[t + c] * b->in[i][j * L + t + c];
    for (int64_t t = 0; t < b->n; t++) {
        float *dx = head_row(b, b->s->dpre[i], b->row + t, i);
        int64_t tail = b->row + t - (b->g->rows - T);       /* its place in the new tail */
        if (!first_of(b, i)) { /* adds to what the first head that shares it began with */ }
        else if (tail >= 0 && b->g->dstate) copy(dx, tail_row(b, b->g->dstate, i, tail), D);
        else zero(dx, D);
        convolve_back_row(b, i, t, dx);
    }
}

/* What is left for the tail before the call: through the convolution and, if the
 * call was shorter than the tail, through the rows that only moved up.  Row j came
 * from row j + rows; dc begins with the segment's first rows.                  */
static void tail_back(struct bench *b)
{
    int64_t T = b->s->taps - 1, rows = b->g->rows;
    for (int i = 0; i < 3; i++)
        for (int64_t j = T - 1, D = width(b->s, i); j >= 0; j--) {
            float *d = tail_row(b, b->g->dstate, i, j);
            if (!first_of(b, i)) { /* adds */ }
            else if (j >= rows) copy(d, tail_row(b, b->g->dstate, i, j - rows), D);
            else zero(d, D);
            convolve_back_row(b, i, j - T, d);
        }
}

static void chunk_back(struct bench *b, int64_t chunk)
{
    const struct delta *s = b->s;

    delta_prepare_chunk(b);
    gate_back(b);
    b->r->h->k->delta_rule_back(kept_state(b, chunk), b->dS, b->y[Q], b->y[K], b->y[V], s->stride,
                                b->alpha, b->beta, 1, b->dout, b->dy[Q], b->dy[K], b->dy[V],
                                b->dlog_a, b->dbeta, b->n, s->dk, s->dv, b->work);
    gates_back(b);
    normalise_back(b, b->dy[Q], b->y[Q], b->qr, s->scale);
    if (!s->has.efla) normalise_back(b, b->dy[K], b->y[K], b->kr, 1);
    for (int i = 0; i < 3; i++) convolve_back(b, i);
}

/* The head's share of the parameter gradients, for reduce()                    */
static void put_partials(const struct bench *b)
{
    const struct delta *s = b->s;
    int64_t W = s->taps, at = b->seg * s->heads + b->head;

    for (int i = 0; i < 3; i++) {
        int64_t D = width(s, i);
        float *part = CHI_ARRAY(b->r, s->part_conv[i], float) + (b->seg * outputs(s, i) + channel(b, i)) * W;
        if (first_of(b, i)) zero(part, D * W);
        for (int64_t c = 0; c < D; c++)
            for (int64_t j = 0; j < W; j++) part[c * W + j] += b->dw[i][j * s->stride + c];
    }
    copy(CHI_ARRAY(b->r, s->part_norm, float) + at * s->dv, b->dnorm, s->dv);
    if (!s->has.decay) return;
    float *gate = CHI_ARRAY(b->r, s->part_gate, float) + b->seg * 2 * s->heads + b->head;
    gate[0] = b->dA_log;
    gate[s->heads] = b->ddt_bias;
}

static void backward_head(struct bench *b, int64_t head, int64_t chunk)
{
    const struct delta *s = b->s;
    int64_t size = s->dk * s->dv, last = chi_chunks(b->g, CHUNK) - 1;
    float *dS = b->g->dstate ? CHI_DSTATE(b->g, s->S, float) + head * size : NULL;

    delta_begin_head(b, head);
    for (int i = 0; i < 3; i++) {
        zero(b->dc[i], (CHUNK + s->taps) * s->stride);
        zero(b->dw[i], s->taps * s->stride);
    }
    zero(b->dnorm, s->dv);
    b->dA_log = b->ddt_bias = 0;
    if (dS) copy(b->dS, dS, size);
    else zero(b->dS, size);
    for (int64_t i = last, end = b->g->rows; i >= 0; i--, end = b->row) {
        int64_t row = (b->g->pos / CHUNK + i) * CHUNK - b->g->pos;
        b->row = row > 0 ? row : 0;
        b->n = end - b->row;
        chunk_back(b, chunk + i);
    }
    if (dS) {
        copy(dS, b->dS, size);
        tail_back(b);
    }
    put_partials(b);
}

static void backward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t seg = i / j->groups, head = i % j->groups * j->group, end = head + j->group;
    struct bench b = delta_bench(j->s, j->r, seg, scratch);
    int64_t chunk = chi_first_chunk(j->r, seg, CHUNK);

    add_backward(&b, scratch);
    for (; head < end && head < j->s->heads; head++) backward_head(&b, head, chunk);
}

/* The input of o_proj again, and an empty dh                                   */
static void remake_h(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct delta *s = j->s;
    struct bench b = { .s = s, .r = j->r, .g = &(struct chi_segment){ .first = 0 } };
    float *t = take(scratch, s->stride);
    int64_t end = (i + 1) * CHUNK < j->r->rows ? (i + 1) * CHUNK : j->r->rows;

    for (int64_t row = i * CHUNK; row < end; row++) {
        for (b.head = 0; b.head < s->heads; b.head++)
            delta_gate_output(&b, row, head_row(&b, s->o, row, V), t);
        zero(CHI_ARRAY(j->r, s->dh, float) + row * s->heads * s->dv, s->heads * s->dv);
    }
}

static void reduce_partials(const struct delta *s, struct chi_run *r)
{
    const struct chi_host *h = r->h;

    for (int i = 0; i < 3; i++)
        h->reduce(h, CHI_GRAD(r, s->conv[i], float), CHI_ARRAY(r, s->part_conv[i], float),
                  r->n_seg, outputs(s, i) * s->taps);
    h->reduce(h, CHI_GRAD(r, s->o_norm, float), CHI_ARRAY(r, s->part_norm, float),
              r->n_seg * s->heads, s->dv);
    if (!s->has.decay) return;
    const float *gate = CHI_ARRAY(r, s->part_gate, float);
    float *dA_log = CHI_GRAD(r, s->A_log, float), *ddt = CHI_GRAD(r, s->dt_bias, float);
    for (int64_t i = 0; i < r->n_seg; i++, gate += 2 * s->heads)
        for (int64_t c = 0; c < s->heads; c++) {
            dA_log[c] += gate[c];
            ddt[c]    += gate[s->heads + c];
        }
}

static chi_status delta_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct delta *s = self;
    const float *dpre[N_ROLES];
    if (r->rows == 0) return CHI_OK;

    struct job j = delta_job(s, r);
    r->h->parallel(r->h, (r->rows + CHUNK - 1) / CHUNK, remake_h, &j);
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &dy,
                                      CHI_ARRAY(r, s->dh, float));
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, r->n_seg * j.groups, backward_task, &j);
    for (int i = 0; i < s->n_in; i++) dpre[i] = CHI_ARRAY(r, s->dpre[s->role[i]], float);
    e = r->h->linears_back(s->in, s->n_in, r, x, r->rows, dpre, dx);
    if (e == CHI_OK && r->grads) reduce_partials(s, r);
    return e;
}

static const struct chi_layer_ops delta_ops = {
    .struct_size = sizeof delta_ops,
    .self_size = sizeof(struct delta),
    .open = delta_open,
    .forward = delta_forward,
    .backward = delta_backward,
};

#endif
