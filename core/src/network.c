/* network.c - running a network forward and backward (layers.md, "Block i"):
 *
 *     x = x + mixer(rmsnorm(x; norm1));  x = x + ffn(rmsnorm(x; norm2))
 *     logits = rmsnorm(x; final_norm) embed'        or with weights of its own, lm_head'
 *     and with logit_soft_cap = c > 0 (arXiv 2408.00118)   c tanh(logits / c)
 *
 * All rows of a call go through a layer together; segments say which rows belong to
 * which stream.                                                                          */
#include "network.h"

#include <chimera/math.h>
#include <math.h>
#include <string.h>

#include "core.h"
#include "crumb.h"
#include "hosting.h"
#include "pool.h"
#include "profile.h"

/* ---- rows in parallel -------------------------------------------------------------------- */

struct rows {
    const struct chi_kernels *k;
    const float *x, *gain, *add;
    float *y, *partial;
    const float *dy;
    int64_t n, d, block;
    float eps;
};

static void norm_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct rows *a = arg;
    (void)s;
    for (int64_t r = i * a->block; r < min_i64((i + 1) * a->block, a->n); r++)
        a->k->rmsnorm(a->y + r * a->d, a->x + r * a->d, a->gain, a->d, a->eps);
}

/* A row takes less than a microsecond: few of them are not worth handing out                  */
static int64_t forward_block(const struct model *m)
{
    return max_i64(1, 24576 / m->d);
}

static void norm_rows(const struct model *m, float *y, const float *x, const float *gain, int64_t rows)
{
    struct rows a = { .k = m->spec->kernels, .x = x, .gain = gain, .y = y, .n = rows, .d = m->d,
                      .block = forward_block(m), .eps = (float)m->spec->model.rms_norm_eps };
    pool_run(ceil_div(rows, a.block), norm_task, &a);
}

static void add_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct rows *a = arg;
    (void)s;
    int64_t from = i * a->block * a->d, to = min_i64((i + 1) * a->block, a->n) * a->d;
    for (int64_t j = from; j < to; j++) a->y[j] = a->x[j] + a->add[j];
}

/* y = x + add; y may be x                                                                     */
static void add_rows(const struct model *m, float *y, const float *x, const float *add, int64_t rows)
{
    struct rows a = { .x = x, .add = add, .y = y, .n = rows, .d = m->d, .block = forward_block(m) };
    pool_run(ceil_div(rows, a.block), add_task, &a);
}

/* y = xh g with xh = x r:  dg += sum of dy xh over rows;  with a = dy g,
 * dx += r (a - xh mean(a xh)).  Blocks of rows leave partial sums of dg.                      */
static void norm_back_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct rows *a = arg;
    float *xh = chi_take(s, (size_t)a->d * sizeof *xh), *g = chi_take(s, (size_t)a->d * sizeof *g);
    float *dg = a->partial + i * a->d;
    memset(dg, 0, (size_t)a->d * sizeof *dg);
    for (int64_t row = i * a->block; row < min_i64((i + 1) * a->block, a->n); row++) {
        const float *dy = a->dy + row * a->d;
        float *dx = a->y + row * a->d, r = a->k->rmsnorm(xh, a->x + row * a->d, NULL, a->d, a->eps);
        for (int64_t j = 0; j < a->d; j++) {
            dg[j] += dy[j] * xh[j];
            g[j] = dy[j] * a->gain[j];
        }
        float mean = a->k->dot(g, xh, a->d) / (float)a->d;
        for (int64_t j = 0; j < a->d; j++) dx[j] += r * (g[j] - xh[j] * mean);
    }
}

static chi_status norm_back(struct model *m, float *dx, const float *x, const float *gain, float *dgain,
                            const float *dy, int64_t rows)
{
    struct rows a = { .k = m->spec->kernels, .x = x, .gain = gain, .dy = dy, .y = dx, .n = rows, .d = m->d,
                      .block = norm_block(m->d), .eps = (float)m->spec->model.rms_norm_eps };
    int64_t blocks = ceil_div(rows, a.block), need = blocks * m->d * (int64_t)sizeof(float);
    if (need > m->partial.bytes) {
        workspace_drop(&m->partial);
        m->partial.base = mem_take((size_t)need, "gradients of norms");
        if (!m->partial.base) return CHI_ENOMEM;
        m->partial.bytes = need;
    }
    a.partial = (float *)(void *)m->partial.base;
    pool_run(blocks, norm_back_task, &a);
    pool_reduce(dgain, a.partial, blocks, m->d);
    return CHI_OK;
}

/* ---- embedding ------------------------------------------------------------------------------ */

struct lookup { const struct model *m; const struct model_segment *seg; float *x; bool keep; };

static void lookup_task(void *arg, int64_t s, struct chi_scratch *scratch)
{
    const struct lookup *a = arg;
    for (int64_t i = 0; i < a->seg[s].rows; i++)
        linear_row(a->m->embed, a->seg[s].tokens[i], a->keep, a->x + (a->m->seg[s].first + i) * a->m->d, scratch);
}

struct scatter { const struct model *m; const struct model_segment *seg; int64_t n; const float *dx; };
enum { COLUMNS = 64 };

/* Rows in order, a slice of columns a task: a fixed order for each element                    */
static void scatter_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct scatter *a = arg;
    int64_t d = a->m->d, from = i * COLUMNS, to = min_i64(from + COLUMNS, d), row = 0;
    (void)s;
    for (int64_t g = 0; g < a->n; g++)
        for (int64_t t = 0; t < a->seg[g].rows; t++, row++) {
            float *dw = a->m->embed->g + a->seg[g].tokens[t] * d;
            for (int64_t j = from; j < to; j++) dw[j] += a->dx[row * d + j];
        }
}

/* ---- segments --------------------------------------------------------------------------------- */

static chi_status take_segments(struct model *m, const struct model_segment *seg, int64_t n, int64_t *rows)
{
    *rows = 0;
    m->found[0] = 0;
    if (n > m->max_segs)
        return fail(CHI_EBUG, "%lld segments in one call, planned for %lld", (long long)n, (long long)m->max_segs);
    for (int64_t s = 0; s < n; s++) {
        m->seg[s] = (struct chi_segment){ .first = *rows, .rows = seg[s].rows, .pos = seg[s].pos,
                                          .stream = seg[s].stream, .fresh = seg[s].fresh };
        m->stream[s] = seg[s].state;
        *rows += seg[s].rows;
        if (seg[s].rows < 1 || *rows > m->max_rows)
            return fail(CHI_EBUG, "%lld rows in one call, planned for %lld", (long long)*rows,
                        (long long)m->max_rows);
        for (int64_t i = 0; i < seg[s].rows; i++)
            if (seg[s].tokens[i] < 0 || seg[s].tokens[i] >= m->vocab)
                return fail(CHI_EDATA, "token %ld lies outside the vocabulary of %lld", (long)seg[s].tokens[i],
                            (long long)m->vocab);
    }
    return CHI_OK;
}

/* Training: fresh states of one layer for every segment, unless it does without                   */
static chi_status fresh_states(struct model *m, const struct instance *in, const struct call *c)
{
    bool none = in->part->component->caps & CHI_LAYER_NO_TRAIL;
    int64_t bytes = in->state_bytes, need = none ? 0 : c->n * bytes;
    if (need > m->states.bytes) {
        workspace_drop(&m->states);
        m->states.base = mem_take((size_t)need, "states of a layer");
        if (!m->states.base) return CHI_ENOMEM;
        m->states.bytes = need;
    } else if (need)
        memset(m->states.base, 0, (size_t)need);
    for (int64_t s = 0; s < c->n; s++) c->seg[s].state = none ? NULL : m->states.base + s * bytes;
    return CHI_OK;
}

/* The states of layer l, which lie at this offset of a turn's                                     */
static chi_status find_states(struct model *m, int64_t l, const struct instance *in, int64_t offset,
                              const struct call *c)
{
    if (c->keep) return fresh_states(m, in, c);
    if (looped(m, l)) offset += c->turn * m->loop.state_bytes;
    for (int64_t s = 0; s < c->n; s++) c->seg[s].state = c->stream[s] + offset;
    return CHI_OK;
}

struct chi_run run_of(struct model *m, const struct instance *in, struct chi_scratch *scratch, const struct call *c)
{
    *scratch = (struct chi_scratch){ m->call_scratch, 0, (size_t)m->scratch_bytes };
    return (struct chi_run){ .h = in->host, .params = in->params, .grads = c->keep ? in->grads : NULL,
                             .array = in->at,
                             .scratch = scratch, .seg = c->seg, .n_seg = c->n, .rows = c->rows, .keep = c->keep };
}

/* Memory for its arrays, which backward finds again                                                */
static chi_status find_arrays(struct model *m, int64_t l, struct instance *in, int64_t slot, const struct call *c)
{
    int64_t turn = !c->own ? KEPT_NOT : looped(m, l) ? c->turn : 0;
    return instance_arrays(in, c->seg, c->n, c->rows, turn, &m->ws[slot]);
}

/* A profile's span of a call of a layer, with what it is counted to do                              */
static void span_layer(const struct model *m, const struct instance *in, const struct crumb *c,
                       const struct call *call, bool back)
{
    if (!profile_on) return;
    struct work w = instance_work(in, m->d, call, back);
    profile_begin(c->instance, c->component, c->op);
    profile_add(w.bytes, w.flops);
}

/* A block's own work is norms and sums of the residual stream: so many bytes and FLOPs a value       */
static void span_block(const struct model *m, int64_t l, const char *op, const struct call *c, int bytes, int flops)
{
    double values = (double)c->rows * (double)m->d;
    span(m->block[l].norms.name, "norms", op);
    span_work(bytes * values, flops * values);
}

static void span_rows(const struct model *m, const char *name, const char *op, int64_t rows, int bytes, int flops)
{
    double values = (double)rows * (double)m->d;
    span(name, "core", op);
    span_work(bytes * values, flops * values);
}

/* Products with the embedding, each of which reads it; train: both ways, with gradients              */
static void span_head(const struct model *m, const char *op, int64_t rows, bool train)
{
    double n = (double)m->vocab * (double)m->d, logits = 4.0 * (double)m->vocab * (double)rows;
    double calls = (double)ceil_div(rows, HEAD_ROWS), weights = (double)linear_bytes(m->head);
    span("head", m->head->rule->quantizer.component->name, op);
    span_work(train ? calls * 16 * n + 2 * logits : calls * weights + logits, (train ? 6 : 2) * n * (double)rows);
}

static chi_status layer_forward(struct model *m, int64_t l, struct instance *in, int slot, const struct call *c,
                                const float *x, float *y)
{
    struct chi_scratch scratch;
    TRY(find_arrays(m, l, in, slot, c));
    struct chi_run r = run_of(m, in, &scratch, c);
    bool step = !c->keep && c->n == c->rows && CHI_HAS(struct chi_layer_ops, in->ops, step);
    struct crumb crumb = { in->name, in->part->component->name, step ? "step" : "forward" };
    const struct crumb *was = crumb_set(&crumb);
    span_layer(m, in, &crumb, c, false);
    chi_status st = (step ? in->ops->step : in->ops->forward)(in->self, &r, x, y);
    span_end();
    crumb_set(was);
    TRY(st);
    return check_finite(m, in, crumb.op, "y", y, c->rows);
}

/* dx is zeroed first                                                                                */
static chi_status layer_backward(struct model *m, int64_t l, struct instance *in, int slot, const struct call *c,
                                 const float *x, const float *dy, float *dx)
{
    struct chi_scratch scratch;
    memset(dx, 0, (size_t)(c->rows * m->d) * sizeof *dx);
    TRY(find_arrays(m, l, in, slot, c));
    struct chi_run r = run_of(m, in, &scratch, c);
    struct crumb crumb = { in->name, in->part->component->name, "backward" };
    const struct crumb *was = crumb_set(&crumb);
    span_layer(m, in, &crumb, c, true);
    chi_status st = in->ops->backward(in->self, &r, x, dy, dx);
    span_end();
    crumb_set(was);
    TRY(st);
    return check_finite(m, in, crumb.op, "dx", dx, c->rows);
}

/* ---- forward ------------------------------------------------------------------------------------ */

chi_status block_forward(struct model *m, int64_t l, const struct call *c, const float *x, float *mid, float *out)
{
    struct block *b = &m->block[l];
    span_block(m, l, "forward", c, 40, 10);
    TRY(find_states(m, l, &b->mixer, b->mixer_state, c));
    norm_rows(m, m->h, x, GAIN(&b->norms, b->norm1), c->rows);
    TRY(layer_forward(m, l, &b->mixer, 0, c, m->h, m->y));
    add_rows(m, mid, x, m->y, c->rows);
    TRY(find_states(m, l, &b->ffn, b->ffn_state, c));
    norm_rows(m, m->h, mid, GAIN(&b->norms, b->norm2), c->rows);
    TRY(layer_forward(m, l, &b->ffn, 1, c, m->h, m->y));
    add_rows(m, out, mid, m->y, c->rows);
    span_end();
    return CHI_OK;
}

chi_status blocks_forward(struct model *m, int64_t from, int64_t to, const struct call *c)
{
    for (int64_t l = from; l < to; l++) {
        float *x = c->keep ? block_x(m, l, c->turn) : m->x, *out = c->keep ? x + m->max_rows * m->d : x;
        TRY(block_forward(m, l, c, x, c->keep ? block_mid(m, l, c->turn) : m->mid, out));
    }
    return CHI_OK;
}

static void embed_rows(struct model *m, const struct model_segment *seg, int64_t n, bool keep, float *x)
{
    struct lookup a = { m, seg, x, keep };
    int64_t rows = 0;
    for (int64_t i = 0; i < n; i++) rows += seg[i].rows;
    span_rows(m, "embed", "forward", rows, 8, 0);
    pool_run(n, lookup_task, &a);
    span_end();
}

/* Plain linears have no bytes for inference while they train: made when wanted.                     */
chi_status model_refresh(struct model *m)
{
    if (!m->stale) return CHI_OK;
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) {
            struct chi_linear *l = m->all[i]->param[j].linear;
            if (l && l->plain) TRY(linear_bind(l, l->w, l->lambda));
        }
    m->stale = false;
    return CHI_OK;
}

/* A pass through the blocks: hundreds of small loops, for which the threads stay at hand           */
struct pass {
    struct model *m;
    const struct model_segment *seg;
    int64_t n;
    float *hidden;                      /* out, of a pass forward alone                            */
    const int32_t *target;              /* of a pass there and back                                */
    double scale, *loss;
    chi_status status;
};

static chi_status forward(struct model *m, const struct model_segment *seg, int64_t n, float *hidden)
{
    const struct turning *t = &m->loop;
    struct call c = { .seg = m->seg, .stream = m->stream, .n = n };
    TRY(take_segments(m, seg, n, &c.rows));
    TRY(model_refresh(m));
    embed_rows(m, seg, n, false, m->x);
    TRY(blocks_forward(m, 0, t->prelude, &c));
    if (t->length) TRY(turns_forward(m, &c));
    TRY(blocks_forward(m, t->prelude + t->length, m->layers, &c));
    span_rows(m, "final_norm", "forward", c.rows, 8, 4);
    norm_rows(m, hidden, m->x, GAIN(&m->bottom, m->bottom.param[0].offset), c.rows);
    span_end();
    return CHI_OK;
}

static void forward_pass(void *arg)
{
    struct pass *p = arg;
    p->status = forward(p->m, p->seg, p->n, p->hidden);
}

chi_status model_forward(struct model *m, const struct model_segment *seg, int64_t n, float *hidden)
{
    struct pass p = { .m = m, .seg = seg, .n = n, .hidden = hidden };
    pool_hold(forward_pass, &p);
    return p.status;
}

/* ---- the head -------------------------------------------------------------------------------------- */

struct cap { const float *x; float *y; int64_t n; float cap; };
enum { CAP_SLICE = 1 << 14 };

/* tanh(a) = (1 - e^-2a) / (1 + e^-2a) for a >= 0, by the exponential that is the same everywhere         */
static float soft_cap(float x, float cap)
{
    float e = chi_exp(-2 * fabsf(x) / cap), y = cap * (1 - e) / (1 + e);
    return x < 0 ? -y : y;
}

static void cap_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct cap *c = arg;
    (void)s;
    for (int64_t j = i * CAP_SLICE; j < min_i64((i + 1) * CAP_SLICE, c->n); j++) c->y[j] = soft_cap(c->x[j], c->cap);
}

void logits_cap(const struct model *m, const float *x, float *y, int64_t n)
{
    struct cap c = { x, y, n, (float)m->spec->model.logit_soft_cap };
    if (c.cap > 0) pool_run(ceil_div(n, CAP_SLICE), cap_task, &c);
}

/* y holds d loss/d capped and becomes d loss/d x: times 1 - tanh^2                                       */
static void cap_back_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct cap *c = arg;
    (void)s;
    for (int64_t j = i * CAP_SLICE; j < min_i64((i + 1) * CAP_SLICE, c->n); j++) {
        float t = soft_cap(c->x[j], c->cap) / c->cap;
        c->y[j] *= 1 - t * t;
    }
}

chi_status model_logits(struct model *m, const float *hidden, int64_t rows, float *logits)
{
    const struct chi_linear *head[] = { m->head };
    struct chi_scratch scratch = { m->call_scratch, 0, (size_t)m->scratch_bytes };
    struct chi_run r = { .h = m->head_host, .scratch = &scratch, .rows = rows };
    TRY(model_refresh(m));
    span_head(m, "forward", rows, false);
    for (int64_t at = 0; at < rows; at += HEAD_ROWS) {
        float *y = logits + at * m->vocab;
        TRY(linears(head, 1, &r, hidden + at * m->d, min_i64(HEAD_ROWS, rows - at), &y));
    }
    logits_cap(m, logits, logits, rows * m->vocab);
    span_end();
    return CHI_OK;
}

/* ---- training -------------------------------------------------------------------------------------- */

void model_zero_grads(struct model *m)
{
    memset(m->grads, 0, (size_t)m->n_floats * sizeof *m->grads);
}

/* Blocks of rows: hidden, logits, loss, and the way back; dx becomes the gradient of x_L.            */
static chi_status head_train(struct model *m, int64_t rows, const int32_t *target, double scale, double *loss)
{
    const struct part *objective = &m->spec->objective;
    const struct chi_objective_ops *ops = objective->component->ops;
    const struct chi_linear *head[] = { m->head };
    float *y = m->capped ? m->capped : m->logits;        /* what the loss sees, then its gradient         */
    const float *gain = GAIN(&m->bottom, m->bottom.param[0].offset), *x = block_x(m, m->layers, 0);
    struct chi_scratch scratch;
    struct chi_run r = run_of(m, &m->top, &scratch, &(struct call){ .keep = true });
    struct crumb crumb = { m->loss_host->instance, objective->component->name, "loss" };
    r.h = m->head_host;

    span_head(m, "both ways", rows, true);
    norm_rows(m, m->h, x, gain, rows);
    memset(m->dh, 0, (size_t)(rows * m->d) * sizeof *m->dh);
    for (int64_t at = 0; at < rows; at += HEAD_ROWS) {
        int64_t some = min_i64(HEAD_ROWS, rows - at);
        const float *back[] = { y };
        struct cap cap = { m->logits, y, some * m->vocab, (float)m->spec->model.logit_soft_cap };
        TRY(linears(head, 1, &r, m->h + at * m->d, some, &m->logits));
        logits_cap(m, m->logits, y, some * m->vocab);
        const struct crumb *was = crumb_set(&crumb);
        span(crumb.instance, crumb.component, crumb.op);
        span_work(8.0 * (double)some * (double)m->vocab, 5.0 * (double)some * (double)m->vocab);
        chi_status st = ops->loss(m->loss_host, objective->conf, y, target + at, some, m->vocab, scale, y, loss);
        span_end();
        crumb_set(was);
        TRY(st);
        if (m->capped) pool_run(ceil_div(cap.n, CAP_SLICE), cap_back_task, &cap);
        TRY(linears_back(head, 1, &r, m->h + at * m->d, some, back, m->dh + at * m->d));
    }
    memset(m->dx, 0, (size_t)(rows * m->d) * sizeof *m->dx);
    TRY(norm_back(m, m->dx, x, gain, GGAIN(&m->bottom, m->bottom.param[0].offset), m->dh, rows));
    span_end();
    return CHI_OK;
}

/* dx: gradient of the block's output -> of its input                                                   */
static chi_status block_backward(struct model *m, int64_t l, const struct call *c)
{
    struct block *b = &m->block[l];
    const float *x = block_x(m, l, c->turn);
    float *mid = block_mid(m, l, c->turn);
    span_block(m, l, "backward", c, 56, 24);
    if (!c->own) TRY(block_forward(m, l, c, x, mid, m->y));

    TRY(find_states(m, l, &b->ffn, 0, c));
    norm_rows(m, m->h, mid, GAIN(&b->norms, b->norm2), c->rows);
    TRY(layer_backward(m, l, &b->ffn, 1, c, m->h, m->dx, m->dh));
    TRY(norm_back(m, m->dx, mid, GAIN(&b->norms, b->norm2), GGAIN(&b->norms, b->norm2), m->dh, c->rows));

    TRY(find_states(m, l, &b->mixer, 0, c));
    norm_rows(m, m->h, x, GAIN(&b->norms, b->norm1), c->rows);
    TRY(layer_backward(m, l, &b->mixer, 0, c, m->h, m->dx, m->dh));
    TRY(norm_back(m, m->dx, x, GAIN(&b->norms, b->norm1), GGAIN(&b->norms, b->norm1), m->dh, c->rows));
    span_end();
    return CHI_OK;
}

chi_status blocks_backward(struct model *m, int64_t from, int64_t to, const struct call *c)
{
    for (int64_t l = to - 1; l >= from; l--) TRY(block_backward(m, l, c));
    return CHI_OK;
}

static chi_status there_and_back(struct model *m, const struct model_segment *seg, int64_t n, const int32_t *target,
                                 double scale, double *loss)
{
    const struct turning *t = &m->loop;
    int64_t behind = t->prelude + t->length;
    struct call c = { .seg = m->seg, .n = n, .keep = true, .own = m->spec->train.recompute == RECOMPUTE_NONE };
    if (m->mode != MODEL_TRAIN) return fail(CHI_EBUG, "the model was opened for inference");
    if (!m->spec->objective.component) return fail(CHI_EBUG, "model_train wants a spec with an objective");
    TRY(take_segments(m, seg, n, &c.rows));
    for (int64_t s = 0; s < n; s++) m->seg[s].fresh = true;
    m->rows_trained = c.rows;
    embed_rows(m, seg, n, true, m->x);
    TRY(blocks_forward(m, 0, t->prelude, &c));
    if (t->length) TRY(turns_train(m, seg, &c));
    TRY(blocks_forward(m, behind, m->layers, &c));
    TRY(head_train(m, c.rows, target, scale, loss));
    TRY(blocks_backward(m, behind, m->layers, &c));
    if (t->length) TRY(turns_backward(m, seg, &c));
    TRY(blocks_backward(m, 0, t->prelude, &c));
    struct scatter a = { m, seg, n, m->dx };
    span_rows(m, "embed", "backward", c.rows, 12, 1);
    pool_run(ceil_div(m->d, COLUMNS), scatter_task, &a);
    span_end();
    return CHI_OK;
}

static void train_pass(void *arg)
{
    struct pass *p = arg;
    p->status = there_and_back(p->m, p->seg, p->n, p->target, p->scale, p->loss);
}

chi_status model_train(struct model *m, const struct model_segment *seg, int64_t n, const int32_t *target,
                       double scale, double *loss)
{
    struct pass p = { .m = m, .seg = seg, .n = n, .target = target, .scale = scale, .loss = loss };
    pool_hold(train_pass, &p);
    return p.status;
}

/* ---- finding what is not finite ------------------------------------------------------------------------ */

static bool all_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* A layer writes to gradients of its own only, so what is not finite there came from this call.     */
chi_status check_finite(struct model *m, const struct instance *in, const char *op, const char *what, const float *x,
                        int64_t rows)
{
    const char *name = in->part->component->name;
    if (!m->spec->run.paranoid) return CHI_OK;
    bool bad = !all_finite(x, rows * m->d);
    if (bad) snprintf(m->found, sizeof m->found, "%s of %s (%s) %s", what, in->name, name, op);
    for (int64_t i = 0; !bad && *what == 'd' && i < in->n_param; i++) {
        const struct planned_param *p = &in->param[i];
        if (p->absent || all_finite((const float *)(const void *)(in->grads + p->offset), p->n)) continue;
        snprintf(m->found, sizeof m->found, "the gradient of %s of %s (%s) %s", p->name, in->name, name, op);
        bad = true;
    }
    return bad ? fail(CHI_ENUMERIC, "not finite: %s", m->found) : CHI_OK;
}

/* With run.paranoid the first that a layer made; else the first block whose output is not finite in
 * the last training call; else the first tensor.                                                     */
const char *model_find_nonfinite(const struct model *m, bool gradients)
{
    static char text[160];
    if (*m->found) return m->found;
    int64_t n = m->rows_trained * m->d;
    for (int64_t l = 0; m->mode == MODEL_TRAIN && l < m->layers; l++) {
        const float *x = block_x(m, l, 0);           /* all rows are there in slot 0        */
        bool in = all_finite(x, n);
        if (in && all_finite(x + m->max_rows * m->d, n)) continue;
        if (in) snprintf(text, sizeof text, "the output of layers.%lld", (long long)l);
        else if (l) snprintf(text, sizeof text, "what the loop gives to layers.%lld", (long long)l);
        else snprintf(text, sizeof text, "the embedding of a token");
        return text;
    }
    for (int64_t t = 0; t < m->n_tensor; t++) {
        const float *v = gradients ? m->tensor[t].g : m->tensor[t].w;
        if (!v || all_finite(v, m->tensor[t].n)) continue;
        snprintf(text, sizeof text, "%s%s", gradients ? "the gradient of " : "", m->tensor[t].name);
        return text;
    }
    return NULL;
}
