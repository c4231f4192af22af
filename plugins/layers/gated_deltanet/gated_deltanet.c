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
#include <chimera/math.h>
#include <chimera/plugin.h>

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

enum { Q, K, V, G, A, B, N_IN };                /* linears of the layer's input  */
enum { CHUNK = 32 };                            /* rows between two kept states  */
enum { TASK_WORK = 1 << 15 };                   /* state values read by a task   */
static const float L2_EPS = 1e-6f;

struct gdn {
    int64_t heads, dim, inner, taps;
    float   eps, beta_max, scale;
    const struct chi_linear *in[N_IN], *out;
    int64_t A_log, dt_bias, conv[3], o_norm;    /* parameters                    */
    int64_t S, tail;                            /* state: [H,D,D], [3][taps-1][inner] */
    int64_t pre[N_IN];                          /* arrays: outputs of in[], kept */
    int64_t o, start, h;                        /* S q kept, S at chunks kept, input of out */
    int64_t dh, dpre[N_IN];                     /* training                      */
    int64_t part_conv[3], part_gate, part_norm; /* gradients by (segment, head)  */
};

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

/* What a task works on, in its scratch.  Row r of in[i] is row r - (taps-1) of the
 * chunk: the convolution's history stands before the chunk itself.             */
struct bench {
    const struct gdn *s;
    struct chi_run *r;
    const struct chi_segment *g;
    int64_t seg, head;
    int64_t row, n;                 /* the chunk: its first row in the segment, rows */
    float *in[3], *c[3], *y[3];     /* raw input, convolved, after silu and norm */
    float *w[3];                    /* taps of this head, [taps][D]              */
    float *o, *t;                   /* [CHUNK][D]                                */
    float *alpha, *beta, *log_a, *qr, *kr;  /* [CHUNK]; qr, kr: 1 / lengths      */
    /* backward                                                                  */
    float *dc[3], *dw[3];           /* [CHUNK + taps][D], [taps][D]              */
    float *dy[3], *dout, *xh;       /* [CHUNK][D]                                */
    float *dS, *work;               /* [D][D], [CHUNK][D][D]                     */
    float *dlog_a, *dbeta, *dnorm, *gain;
    float  dA_log, ddt_bias;
};

static float *take(struct chi_scratch *scratch, int64_t n)
{
    return chi_take(scratch, (size_t)n * sizeof(float));
}

static struct bench make_bench(const struct gdn *s, struct chi_run *r, int64_t seg,
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
static void begin_head(struct bench *b, int64_t head)
{
    int64_t D = b->s->dim, W = b->s->taps;
    b->head = head;
    for (int i = 0; i < 3; i++) {
        const float *w = CHI_PARAM(b->r, b->s->conv[i], float) + head * D * W;
        for (int64_t j = 0; j < W; j++)
            for (int64_t c = 0; c < D; c++) b->w[i][j * D + c] = w[c * W + j];
    }
}

static float *tail_row(const struct bench *b, unsigned char *state, int i, int64_t j)
{
    const struct gdn *s = b->s;
    float *tail = (float *)(void *)(state + s->tail);
    return tail + ((int64_t)i * (s->taps - 1) + j) * s->inner + b->head * s->dim;
}

/* This head's channels of a row of the segment in an array [rows, inner]       */
static float *head_row(const struct bench *b, int64_t array, int64_t row)
{
    return CHI_ARRAY(b->r, array, float) + (b->g->first + row) * b->s->inner
           + b->head * b->s->dim;
}

static void copy(float *to, const float *from, int64_t n)
{
    memcpy(to, from, (size_t)n * sizeof(float));
}

static void zero(float *x, int64_t n)
{
    memset(x, 0, (size_t)n * sizeof(float));
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
static void prepare_chunk(struct bench *b)
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
static void gate_output(const struct bench *b, float *h, const float *o, const float *g, float *t)
{
    const struct chi_kernels *k = b->r->h->k;
    k->rmsnorm(t, o, CHI_PARAM(b->r, b->s->o_norm, float), b->s->dim, b->s->eps);
    k->silu_mul(h, g, t, b->s->dim);
}

/* The state that forward kept for this head at chunk number i of the segment   */
static float *kept_state(const struct bench *b, int64_t i)
{
    int64_t size = b->s->dim * b->s->dim;
    return CHI_ARRAY(b->r, b->s->start, float) + (i * b->s->heads + b->head) * size;
}

/* Rows of the chunk that begins at row: up to the next multiple of CHUNK in the
 * stream                                                                       */
static int64_t chunk_rows(const struct chi_segment *g, int64_t row)
{
    int64_t n = CHUNK - (g->pos + row) % CHUNK, left = g->rows - row;
    return n < left ? n : left;
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

    begin_head(b, head);
    for (b->row = 0; b->row < b->g->rows; b->row += b->n) {
        b->n = chunk_rows(b->g, b->row);
        prepare_chunk(b);
        if (b->r->keep) copy(kept_state(b, chunk++), S, D * D);
        b->r->h->k->delta_rule(S, b->y[Q], b->y[K], b->y[V], D, b->alpha, b->beta, 1,
                               b->o, b->n, D, D);
        for (int64_t t = 0; t < b->n; t++) {
            if (b->r->keep) copy(head_row(b, s->o, b->row + t), b->o + t * D, D);
            gate_output(b, head_row(b, s->h, b->row + t), b->o + t * D,
                        head_row(b, s->pre[G], b->row + t), b->t);
        }
    }
    move_tail(b);
}

struct job {
    const struct gdn *s;
    struct chi_run *r;
    int64_t group, groups;          /* heads of a task, tasks of a segment       */
};

/* Short calls put several heads into a task: a head of one row is microseconds.  A
 * head's numbers do not depend on the grouping.                                */
static struct job make_job(const struct gdn *s, struct chi_run *r)
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
    struct bench b = make_bench(j->s, j->r, seg, scratch);
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
    struct job j = make_job(s, r);
    r->h->parallel(r->h, r->n_seg * j.groups, forward_task, &j);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

/* ---- backward ----------------------------------------------------------------- */

static void add_backward(struct bench *b, struct chi_scratch *scratch)
{
    const struct gdn *s = b->s;
    int64_t D = s->dim, rows = CHUNK * D;

    for (int i = 0; i < 3; i++) {
        b->dc[i] = take(scratch, (CHUNK + s->taps) * D);
        b->dw[i] = take(scratch, s->taps * D);
        b->dy[i] = take(scratch, rows);
    }
    b->dout   = take(scratch, rows);
    b->xh     = take(scratch, rows);
    b->dS     = take(scratch, D * D);
    b->work   = take(scratch, rows * D);
    b->dlog_a = take(scratch, CHUNK);
    b->dbeta  = take(scratch, CHUNK);
    b->dnorm  = take(scratch, D);
    b->gain   = take(scratch, D);
}

/* h = n * silu(g), n = xh * w, xh = o r:
 *     dg = dh n silu'(g);  dn = dh silu(g);  dw += dn xh;
 *     do = r (a - xh mean(a xh)),  a = dn w                                    */
static void gate_back(struct bench *b)
{
    const struct gdn *s = b->s;
    const struct chi_kernels *k = b->r->h->k;
    const float *w = CHI_PARAM(b->r, s->o_norm, float);
    int64_t D = s->dim;

    for (int64_t t = 0; t < b->n; t++) {
        const float *g = head_row(b, s->pre[G], b->row + t), *dh = head_row(b, s->dh, b->row + t);
        float *dg = head_row(b, s->dpre[G], b->row + t), *dout = b->dout + t * D, *xh = b->xh;
        float r = k->rmsnorm(xh, head_row(b, s->o, b->row + t), NULL, D, s->eps);

        for (int64_t c = 0; c < D; c++) dg[c] = dh[c] * (xh[c] * w[c]);
        k->silu_back(dg, g, dg, D);
        k->silu_mul(dout, g, dh, D);
        for (int64_t c = 0; c < D; c++) b->dnorm[c] += dout[c] * xh[c];
        for (int64_t c = 0; c < D; c++) dout[c] *= w[c];
        float m = k->dot(dout, xh, D) / (float)D;
        for (int64_t c = 0; c < D; c++) dout[c] = r * (dout[c] - xh[c] * m);
    }
}

/* log a = -e^A_log softplus(m), m = a + dt_bias;  beta = max sigmoid(p)        */
static void gates_back(struct bench *b)
{
    const struct gdn *s = b->s;
    int64_t H = s->heads, at = (b->g->first + b->row) * H + b->head;
    const float *a = CHI_ARRAY(b->r, s->pre[A], float) + at;
    float *da = CHI_ARRAY(b->r, s->dpre[A], float) + at;
    float *db = CHI_ARRAY(b->r, s->dpre[B], float) + at;
    float rate = chi_exp(CHI_PARAM(b->r, s->A_log, float)[b->head]);
    float bias = CHI_PARAM(b->r, s->dt_bias, float)[b->head];

    for (int64_t t = b->n - 1; t >= 0; t--) {
        float dm = b->dlog_a[t] * -rate * chi_sigmoid(a[t * H] + bias);
        da[t * H] = dm;
        db[t * H] = b->dbeta[t] * b->beta[t] * (1 - b->beta[t] / s->beta_max);
        b->ddt_bias += dm;
        b->dA_log   += b->dlog_a[t] * b->log_a[t];
    }
}

/* y = x f, f = times / sqrt(|x|^2 + eps):  dx = f (dy - y <y, dy> / times^2)   */
static void normalise_back(struct bench *b, float *dy, const float *y, const float *f, float times)
{
    int64_t D = b->s->dim;
    for (int64_t t = 0; t < b->n; t++, dy += D, y += D) {
        float m = b->r->h->k->dot(y, dy, D) / (times * times);
        for (int64_t c = 0; c < D; c++) dy[c] = f[t] * (dy[c] - y[c] * m);
    }
}

/* dx_s = sum over j of w_j dc_{s + taps - 1 - j}.  Rows behind the chunk hold the
 * next chunk's dc.                                                             */
static void convolve_back_row(const struct bench *b, int i, int64_t s, float *dx)
{
    int64_t D = b->s->dim, W = b->s->taps;
    for (int64_t j = 0; j < W; j++) {
        if (s + W - 1 - j < 0) break;
        const float *dc = b->dc[i] + (s + W - 1 - j) * D, *w = b->w[i] + j * D;
        for (int64_t c = 0; c < D; c++) dx[c] += w[c] * dc[c];
    }
}

/* Of channel group i: dy is the gradient of silu(c)                            */
static void convolve_back(struct bench *b, int i)
{
    int64_t D = b->s->dim, W = b->s->taps, T = W - 1;
    float *dc = b->dc[i];

    memmove(dc + b->n * D, dc, (size_t)(T * D) * sizeof(float));
    b->r->h->k->silu_back(dc, b->c[i], b->dy[i], b->n * D);
    for (int64_t j = 0; j < W; j++)
        for (int64_t t = 0; t < b->n * D; t += D)
            for (int64_t c = 0; c < D; c++)
                b->dw[i][j * D + c] += dc[t + c] * b->in[i][j * D + t + c];
    for (int64_t t = 0; t < b->n; t++) {
        float *dx = head_row(b, b->s->dpre[i], b->row + t);
        int64_t tail = b->row + t - (b->g->rows - T);       /* its place in the new tail */
        if (tail >= 0 && b->g->dstate) copy(dx, tail_row(b, b->g->dstate, i, tail), D);
        else zero(dx, D);
        convolve_back_row(b, i, t, dx);
    }
}

/* What is left for the tail before the call: through the convolution and, if the
 * call was shorter than the tail, through the rows that only moved up.  Row j came
 * from row j + rows; dc begins with the segment's first rows.                  */
static void tail_back(struct bench *b)
{
    int64_t D = b->s->dim, T = b->s->taps - 1, rows = b->g->rows;
    for (int i = 0; i < 3; i++)
        for (int64_t j = T - 1; j >= 0; j--) {
            float *d = tail_row(b, b->g->dstate, i, j);
            if (j >= rows) copy(d, tail_row(b, b->g->dstate, i, j - rows), D);
            else zero(d, D);
            convolve_back_row(b, i, j - T, d);
        }
}

static void chunk_back(struct bench *b, int64_t chunk)
{
    const struct gdn *s = b->s;
    int64_t D = s->dim;

    prepare_chunk(b);
    gate_back(b);
    b->r->h->k->delta_rule_back(kept_state(b, chunk), b->dS, b->y[Q], b->y[K], b->y[V], D,
                                b->alpha, b->beta, 1, b->dout, b->dy[Q], b->dy[K], b->dy[V],
                                b->dlog_a, b->dbeta, b->n, D, D, b->work);
    gates_back(b);
    normalise_back(b, b->dy[Q], b->y[Q], b->qr, s->scale);
    normalise_back(b, b->dy[K], b->y[K], b->kr, 1);
    for (int i = 0; i < 3; i++) convolve_back(b, i);
}

/* The head's share of the parameter gradients, for reduce()                    */
static void put_partials(const struct bench *b)
{
    const struct gdn *s = b->s;
    int64_t D = s->dim, W = s->taps, at = b->seg * s->heads + b->head;
    float *gate = CHI_ARRAY(b->r, s->part_gate, float) + b->seg * 2 * s->heads + b->head;

    for (int i = 0; i < 3; i++) {
        float *part = CHI_ARRAY(b->r, s->part_conv[i], float) + at * D * W;
        for (int64_t c = 0; c < D; c++)
            for (int64_t j = 0; j < W; j++) part[c * W + j] = b->dw[i][j * D + c];
    }
    copy(CHI_ARRAY(b->r, s->part_norm, float) + at * D, b->dnorm, D);
    gate[0] = b->dA_log;
    gate[s->heads] = b->ddt_bias;
}

static void backward_head(struct bench *b, int64_t head, int64_t chunk)
{
    const struct gdn *s = b->s;
    int64_t D = s->dim, last = chi_chunks(b->g, CHUNK) - 1;
    float *dS = b->g->dstate ? CHI_DSTATE(b->g, s->S, float) + head * D * D : NULL;

    begin_head(b, head);
    for (int i = 0; i < 3; i++) {
        zero(b->dc[i], (CHUNK + s->taps) * D);
        zero(b->dw[i], s->taps * D);
    }
    zero(b->dnorm, D);
    b->dA_log = b->ddt_bias = 0;
    if (dS) copy(b->dS, dS, D * D);
    else zero(b->dS, D * D);
    for (int64_t i = last, end = b->g->rows; i >= 0; i--, end = b->row) {
        int64_t row = (b->g->pos / CHUNK + i) * CHUNK - b->g->pos;
        b->row = row > 0 ? row : 0;
        b->n = end - b->row;
        chunk_back(b, chunk + i);
    }
    if (dS) {
        copy(dS, b->dS, D * D);
        tail_back(b);
    }
    put_partials(b);
}

static void backward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t seg = i / j->groups, head = i % j->groups * j->group, end = head + j->group;
    struct bench b = make_bench(j->s, j->r, seg, scratch);
    int64_t chunk = chi_first_chunk(j->r, seg, CHUNK);

    add_backward(&b, scratch);
    for (; head < end && head < j->s->heads; head++) backward_head(&b, head, chunk);
}

/* The input of o_proj again, and an empty dh                                   */
static void remake_h(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct gdn *s = j->s;
    struct bench b = { .s = s, .r = j->r, .g = &(struct chi_segment){ .first = 0 } };
    float *t = take(scratch, s->dim);
    int64_t end = (i + 1) * CHUNK < j->r->rows ? (i + 1) * CHUNK : j->r->rows;

    for (int64_t row = i * CHUNK; row < end; row++) {
        for (b.head = 0; b.head < s->heads; b.head++)
            gate_output(&b, head_row(&b, s->h, row), head_row(&b, s->o, row),
                        head_row(&b, s->pre[G], row), t);
        zero(CHI_ARRAY(j->r, s->dh, float) + row * s->inner, s->inner);
    }
}

static void reduce_partials(const struct gdn *s, struct chi_run *r)
{
    const struct chi_host *h = r->h;
    const float *gate = CHI_ARRAY(r, s->part_gate, float);
    float *dA_log = CHI_GRAD(r, s->A_log, float), *ddt = CHI_GRAD(r, s->dt_bias, float);

    for (int i = 0; i < 3; i++)
        h->reduce(h, CHI_GRAD(r, s->conv[i], float), CHI_ARRAY(r, s->part_conv[i], float),
                  r->n_seg, s->inner * s->taps);
    h->reduce(h, CHI_GRAD(r, s->o_norm, float), CHI_ARRAY(r, s->part_norm, float),
              r->n_seg * s->heads, s->dim);
    for (int64_t i = 0; i < r->n_seg; i++, gate += 2 * s->heads)
        for (int64_t c = 0; c < s->heads; c++) {
            dA_log[c] += gate[c];
            ddt[c]    += gate[s->heads + c];
        }
}

static chi_status gdn_backward(const void *self, struct chi_run *r, const float *x,
                               const float *dy, float *dx)
{
    const struct gdn *s = self;
    const float *dpre[N_IN];
    if (r->rows == 0) return CHI_OK;

    struct job j = make_job(s, r);
    r->h->parallel(r->h, (r->rows + CHUNK - 1) / CHUNK, remake_h, &j);
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &dy,
                                      CHI_ARRAY(r, s->dh, float));
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, r->n_seg * j.groups, backward_task, &j);
    for (int i = 0; i < N_IN; i++) dpre[i] = CHI_ARRAY(r, s->dpre[i], float);
    e = r->h->linears_back(s->in, N_IN, r, x, r->rows, dpre, dx);
    if (e == CHI_OK && r->grads) reduce_partials(s, r);
    return e;
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
