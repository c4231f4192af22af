/* gated_deltanet.c - Gated DeltaNet (arXiv 2412.06464), a linear-time mixer whose
 * memory is one matrix a head.  Per head, with q, k of length 1:
 *
 *     q, k, v = silu(conv(W x)),  q, k over sqrt(|.|^2 + 1e-6)
 *     beta    = sigmoid(w_b x)                      (times 2: allow_neg_eigval)
 *     g       = -exp(A_log) softplus(w_a x + dt_bias)
 *     S       = e^g S;  S += beta (v - S k) k'      forget, then correct what k reads
 *     y       = W_o (rmsnorm(S q D^-1/2; o_norm) * silu(W_g x))
 *
 * A task is some heads of one segment.  It walks the rows in chunks on the stream's
 * own grid, so that everything between the linears stays in the cache, and backward
 * starts each chunk from a state that forward kept at the chunk's first row.  The
 * recurrence itself is the same in training and inference.                      */
#include "gated_deltanet.h"

struct gdn_conf {
    int64_t num_heads, head_dim, conv_size;
    bool    allow_neg_eigval;
};

static const struct chi_option options[] = {
    CHI_INT(struct gdn_conf, num_heads, "4", 1, 1024, "number of heads", CHI_OPT_SHAPE),
    CHI_INT(struct gdn_conf, head_dim, "64", 1, 1024,
            "channels of a head: keys, values and one side of its state", CHI_OPT_SHAPE),
    CHI_INT(struct gdn_conf, conv_size, "4", 1, 16,
            "taps of the short causal convolution of q, k and v", CHI_OPT_SHAPE),
    CHI_BOOL(struct gdn_conf, allow_neg_eigval, "no",
             "let beta reach 2, so that a write can flip the sign of what it meets "
             "(arXiv 2411.12537)", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

static const float L2_EPS = 1e-6f;

static void plan_arrays(struct gdn *s, const struct chi_plan_ops *ops,
                        struct chi_plan *plan, bool training)
{
    static const char *const name[] = { "q", "k", "v", "g", "a", "b" };
    static const char *const dname[] = { "dq", "dk", "dv", "dg", "da", "db" };
    static const char *const cname[] = { "part_conv_q", "part_conv_k", "part_conv_v" };
    int64_t inner = s->inner, H = s->heads, D = s->dim;

    for (int i = 0; i < N_IN; i++)
        s->pre[i] = ops->array(plan, name[i], CHI_F32, i < A ? inner : H, CHI_PER_ROW,
                               CHI_ARRAY_KEEP);
    s->h = ops->array(plan, "h", CHI_F32, inner, CHI_PER_ROW, 0);
    if (!training) return;
    s->o     = ops->array(plan, "o", CHI_F32, inner, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->start = ops->array(plan, "start", CHI_F32, inner * D, CHUNK, CHI_ARRAY_KEEP);
    s->dh    = ops->array(plan, "dh", CHI_F32, inner, CHI_PER_ROW, 0);
    for (int i = 0; i < N_IN; i++)
        s->dpre[i] = ops->array(plan, dname[i], CHI_F32, i < A ? inner : H, CHI_PER_ROW, 0);
    for (int i = 0; i < 3; i++)
        s->part_conv[i] = ops->array(plan, cname[i], CHI_F32, inner * s->taps, CHI_PER_SEG, 0);
    s->part_gate = ops->array(plan, "part_gate", CHI_F32, 2 * H, CHI_PER_SEG, 0);
    s->part_norm = ops->array(plan, "part_norm", CHI_F32, inner, CHI_PER_SEG, 0);
}

/* Floats that a task takes: see struct bench                                   */
static int64_t scratch_bytes(const struct gdn *s, bool training)
{
    int64_t rows = CHUNK * s->dim, history = (CHUNK + s->taps) * s->dim, tap = s->taps * s->dim;
    int64_t n = 3 * (history + 2 * rows + tap) + 2 * rows + 8 * CHUNK;
    if (training)
        n += 3 * (history + tap) + 5 * rows + s->dim * s->dim * (CHUNK + 1) + 4 * s->dim;
    return n * (int64_t)sizeof(float) + 64 * 64;
}

static void plan_params(struct gdn *s, const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    static const char *const name[] = { "q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight" };
    double bound = 1 / sqrt((double)s->taps);

    s->A_log   = ops->param(plan, "A_log", (int64_t[]){ s->heads, 0 },
                            CHI_INIT_LOG_UNIFORM, 1e-3, 16, 0);
    s->dt_bias = ops->param(plan, "dt_bias", (int64_t[]){ s->heads, 0 },
                            CHI_INIT_INV_SOFTPLUS, 1e-3, 1e-1, 0);
    for (int i = 0; i < 3; i++)
        s->conv[i] = ops->param(plan, name[i], (int64_t[]){ s->inner, s->taps, 0 },
                                CHI_INIT_UNIFORM, -bound, bound, 0);
    s->o_norm  = ops->param(plan, "o_norm.weight", (int64_t[]){ s->dim, 0 },
                            CHI_INIT_CONST, 1, 0, 0);
}

static chi_status gdn_open(const struct chi_host *host, void *self, const void *conf,
                           const struct chi_shape *shape, const struct chi_plan_ops *ops,
                           struct chi_plan *plan)
{
    static const char *const name[] = { "q_proj", "k_proj", "v_proj", "g_proj", "a_proj", "b_proj" };
    const struct gdn_conf *c = conf;
    struct gdn *s = self;
    (void)host;

    s->heads    = c->num_heads;
    s->dim      = c->head_dim;
    s->inner    = s->heads * s->dim;
    s->taps     = c->conv_size;
    s->eps      = (float)shape->rms_norm_eps;
    s->beta_max = c->allow_neg_eigval ? 2.0f : 1.0f;
    s->scale    = (float)(1 / sqrt((double)s->dim));
    for (int i = 0; i < N_IN; i++)
        s->in[i] = ops->linear(plan, name[i], i < A ? s->inner : s->heads, shape->d_in,
                               i < A ? 0 : CHI_LINEAR_F32);
    s->out = ops->linear(plan, "o_proj", shape->d_out, s->inner, 0);
    plan_params(s, ops, plan);
    s->S    = ops->state(plan, "S", CHI_F32, s->inner * s->dim);
    if (s->taps > 1) s->tail = ops->state(plan, "tail", CHI_F32, 3 * (s->taps - 1) * s->inner);
    plan_arrays(s, ops, plan, shape->training);
    ops->scratch(plan, scratch_bytes(s, shape->training));
    return CHI_OK;
}

/* ---- one chunk of one head --------------------------------------------------- */

struct bench gdn_bench(const struct gdn *s, struct chi_run *r, int64_t seg,
                               struct chi_scratch *scratch)
{
    int64_t rows = CHUNK * s->dim;
    struct bench b = { .s = s, .r = r, .g = &r->seg[seg], .seg = seg };

    for (int i = 0; i < 3; i++) {
        b.in[i] = take(scratch, (CHUNK + s->taps) * s->dim);
        b.c[i]  = take(scratch, rows);
        b.y[i]  = take(scratch, rows);
        b.w[i]  = take(scratch, s->taps * s->dim);
    }
    b.o = take(scratch, rows);
    b.t = take(scratch, rows);
    b.alpha = take(scratch, CHUNK);
    b.beta  = take(scratch, CHUNK);
    b.log_a = take(scratch, CHUNK);
    b.qr    = take(scratch, CHUNK);
    b.kr    = take(scratch, CHUNK);
    return b;
}

/* Weights as [taps][D], so that the inner loop runs along channels             */
void gdn_begin_head(struct bench *b, int64_t head)
{
    int64_t D = b->s->dim, W = b->s->taps;
    b->head = head;
    for (int i = 0; i < 3; i++) {
        const float *w = CHI_PARAM(b->r, b->s->conv[i], float) + head * D * W;
        for (int64_t j = 0; j < W; j++)
            for (int64_t c = 0; c < D; c++) b->w[i][j * D + c] = w[c * W + j];
    }
}

/* c_t = sum over j of w_j x_{t - taps + 1 + j}, j = 0 first, one sum a channel */
static void convolve(struct bench *b, int i)
{
    int64_t D = b->s->dim, W = b->s->taps, first = b->row - (W - 1);
    float *in = b->in[i], *c = b->c[i];
    const float *w = b->w[i];

    for (int64_t j = 0; j < b->n + W - 1; j++)
        copy(in + j * D, first + j < 0 ? tail_row(b, b->g->state, i, first + j + W - 1)
                                       : head_row(b, b->s->pre[i], first + j), D);
    for (int64_t t = 0; t < b->n; t++)
        for (int64_t ch = 0; ch < D; ch++) c[t * D + ch] = w[ch] * in[t * D + ch];
    for (int64_t j = 1; j < W; j++)
        for (int64_t t = 0; t < b->n * D; t += D)
            for (int64_t ch = 0; ch < D; ch++)
                c[t + ch] += w[j * D + ch] * in[j * D + t + ch];
}

/* y = x times / sqrt(|x|^2 + eps); r keeps the factor                          */
static void normalise(struct bench *b, float *y, float *r, float times)
{
    int64_t D = b->s->dim;
    for (int64_t t = 0; t < b->n; t++, y += D) {
        float factor = times / sqrtf(b->r->h->k->dot(y, y, D) + L2_EPS);
        for (int64_t c = 0; c < D; c++) y[c] *= factor;
        r[t] = factor;
    }
}

/* q, k, v, decay and beta of the chunk from the kept outputs of the linears    */
void gdn_prepare_chunk(struct bench *b)
{
    const struct gdn *s = b->s;
    int64_t D = s->dim, H = s->heads, at = (b->g->first + b->row) * H + b->head;
    const float *a = CHI_ARRAY(b->r, s->pre[A], float) + at;
    const float *p = CHI_ARRAY(b->r, s->pre[B], float) + at;
    float rate = chi_exp(CHI_PARAM(b->r, s->A_log, float)[b->head]);
    float bias = CHI_PARAM(b->r, s->dt_bias, float)[b->head];

    for (int i = 0; i < 3; i++) {
        convolve(b, i);
        b->r->h->k->silu(b->y[i], b->c[i], b->n * D);
    }
    normalise(b, b->y[Q], b->qr, s->scale);
    normalise(b, b->y[K], b->kr, 1);
    for (int64_t t = 0; t < b->n; t++) {
        b->log_a[t] = -rate * chi_softplus(a[t * H] + bias);
        b->alpha[t] = chi_exp(b->log_a[t]);
        b->beta[t]  = s->beta_max * chi_sigmoid(p[t * H]);
    }
}

/* h = rmsnorm(o; o_norm) * silu(g) of one row; t is room for a row             */
void gdn_gate_output(const struct bench *b, float *h, const float *o, const float *g, float *t)
{
    const struct chi_kernels *k = b->r->h->k;
    k->rmsnorm(t, o, CHI_PARAM(b->r, b->s->o_norm, float), b->s->dim, b->s->eps);
    k->silu_mul(h, g, t, b->s->dim);
}

/* ---- forward ------------------------------------------------------------------ */

/* The last taps - 1 raw inputs become the tail; in rising order, so that a row of
 * the old tail is read before it is written                                    */
static void move_tail(struct bench *b)
{
    int64_t D = b->s->dim, T = b->s->taps - 1, rows = b->g->rows;
    for (int i = 0; i < 3; i++)
        for (int64_t j = 0; j < T; j++)
            memmove(tail_row(b, b->g->state, i, j),
                    rows - T + j < 0 ? tail_row(b, b->g->state, i, rows + j)
                                     : head_row(b, b->s->pre[i], rows - T + j),
                    (size_t)D * sizeof(float));
}

static void forward_head(struct bench *b, int64_t head, int64_t chunk)
{
    const struct gdn *s = b->s;
    int64_t D = s->dim;
    float *S = CHI_STATE(b->g, s->S, float) + head * D * D;

    gdn_begin_head(b, head);
    for (b->row = 0; b->row < b->g->rows; b->row += b->n) {
        b->n = chunk_rows(b->g, b->row);
        gdn_prepare_chunk(b);
        if (b->r->keep) copy(kept_state(b, chunk++), S, D * D);
        b->r->h->k->delta_rule(S, b->y[Q], b->y[K], b->y[V], D, b->alpha, b->beta, 1,
                               b->o, b->n, D, D);
        for (int64_t t = 0; t < b->n; t++) {
            if (b->r->keep) copy(head_row(b, s->o, b->row + t), b->o + t * D, D);
            gdn_gate_output(b, head_row(b, s->h, b->row + t), b->o + t * D,
                        head_row(b, s->pre[G], b->row + t), b->t);
        }
    }
    move_tail(b);
}

/* Short calls put several heads into a task: a head of one row is microseconds.  A
 * head's numbers do not depend on the grouping.                                */
struct job gdn_job(const struct gdn *s, struct chi_run *r)
{
    int64_t rows = (r->rows + r->n_seg - 1) / r->n_seg;
    int64_t group = TASK_WORK / (rows * s->dim * s->dim);
    if (group < 1) group = 1;
    if (group > s->heads) group = s->heads;
    return (struct job){ s, r, group, (s->heads + group - 1) / group };
}

static void forward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t seg = i / j->groups, head = i % j->groups * j->group, end = head + j->group;
    struct bench b = gdn_bench(j->s, j->r, seg, scratch);
    int64_t chunk = j->r->keep ? chi_first_chunk(j->r, seg, CHUNK) : 0;

    for (; head < end && head < j->s->heads; head++) forward_head(&b, head, chunk);
}

static chi_status gdn_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct gdn *s = self;
    float *pre[N_IN];
    if (r->rows == 0) return CHI_OK;

    for (int i = 0; i < N_IN; i++) pre[i] = CHI_ARRAY(r, s->pre[i], float);
    chi_status e = r->h->linears(s->in, N_IN, r, x, r->rows, pre);
    if (e != CHI_OK) return e;
    struct job j = gdn_job(s, r);
    r->h->parallel(r->h, r->n_seg * j.groups, forward_task, &j);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct gdn),
    .open = gdn_open,
    .forward = gdn_forward,
    .backward = gdn_backward,
};

static const struct chi_component gated_deltanet = {
    .struct_size = sizeof gated_deltanet,
    .kind = CHI_LAYER,
    .name = "gated_deltanet",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "gated delta rule: a matrix memory that forgets and corrects itself",
    .papers = "2412.06464 2411.12537",
    .options = options,
    .conf_size = sizeof(struct gdn_conf),
    .ops = &ops,
};

CHI_PLUGIN(gated_deltanet, .version = "1.0", .license = "MIT",
           .summary = "gated delta rule mixer",
           .components = CHI_COMPONENTS(&gated_deltanet));
