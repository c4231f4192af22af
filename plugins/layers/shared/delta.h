/* delta.h - the layers whose memory corrects itself: gated_deltanet, deltanet and
 * span_knot.  Per head, with q of length 1, and k too unless efla:
 *
 *     q, k, v = silu(conv(W x)),  q, k over sqrt(|.|^2 + 1e-6)
 *     beta    = sigmoid(w_b x)                      (times 2: allow_neg_eigval)
 *     efla:     beta = (1 - exp(-beta |k|^2)) / |k|^2             (arXiv 2512.12602)
 *     g       = -exp(A_log) softplus(w_a x + dt_bias), without decay 0
 *     S       = e^g S;  S += beta (v - S k) k'      forget, then correct what k reads
 *     y       = W_o (rmsnorm(S q D^-1/2; o_norm) * silu(W_g x)), the last if gate
 *
 * A head's q and k have D = dk channels, v, o and the gate dv of them: S is [dv,dk].
 * There may be several heads to a q and k: head h reads and writes by those of number
 * h / share, whose gradients are sums over their heads.
 * Rows of a chunk have one stride for all of them, the larger of the two.
 *
 * A task is some heads of one segment.  It walks the rows in chunks on the stream's
 * own grid, so that everything between the linears stays in the cache, and backward
 * (delta_back.h) starts each chunk from a state that forward kept at the chunk's first
 * row.  The recurrence itself is the same in training and inference.
 *
 * All functions are static: each plugin compiles its own copy.                  */
#ifndef DELTA_H
#define DELTA_H

#include <chimera/math.h>
#include <chimera/plugin.h>
#include "floats.h"

enum { Q, K, V, G, A, B, N_ROLES };             /* linears of the layer's input  */
enum { CHUNK = 16 };                            /* rows between two kept states  */
enum { TASK_WORK = 1 << 14 };                   /* state values read by a task   */

struct delta_conf {                             /* options; a layer shows some   */
    int64_t num_heads, num_v_heads, head_dim, head_v_dim, conv_size;    /* _v_: 0: as without */
    bool    allow_neg_eigval, efla, sketch, use_gate;
};

struct delta_parts { bool decay, gate, efla; };

struct delta {
    struct delta_parts has;
    int64_t heads, share, dk, dv, stride, taps; /* stride: of rows in a chunk    */
    float   eps, beta_max, scale;
    int     n_in, role[N_ROLES];                /* which in[] are there          */
    const struct chi_linear *in[N_ROLES], *out;
    int64_t A_log, dt_bias, conv[3], o_norm;    /* parameters                    */
    int64_t S, tail;                            /* state: [H,dv,dk], [taps-1][H/share dk] twice, [taps-1][H dv] */
    int64_t pre[N_ROLES];                       /* arrays by role: outputs of in[], kept */
    int64_t o, start, h;                        /* S q kept, S at chunks kept, input of out */
    int64_t dh, dpre[N_ROLES];                  /* training                      */
    int64_t part_conv[3], part_gate, part_norm; /* gradients by (segment, head)  */
};

/* ---- one chunk of one head --------------------------------------------------- */

/* What a task works on, in its scratch.  Row r of in[i] is row r - (taps-1) of the
 * chunk: the convolution's history stands before the chunk itself.             */
struct bench {
    const struct delta *s;
    struct chi_run *r;
    const struct chi_segment *g;
    int64_t seg, head;
    int64_t row, n;                 /* the chunk: its first row in the segment, rows */
    float *in[3], *c[3], *y[3];     /* raw input, convolved, after silu and norm */
    float *w[3];                    /* taps of this head, [taps][stride]         */
    float *o, *t;                   /* [CHUNK][stride]                           */
    float *alpha, *beta, *log_a, *qr, *kr;  /* [CHUNK]; qr, kr: 1 / lengths      */
    float *raw, *lambda;            /* efla: beta before it is replaced (else beta), |k|^2 */
    /* backward                                                                  */
    float *dc[3], *dw[3];           /* [CHUNK + taps][stride], [taps][stride]    */
    float *dy[3], *dout, *xh;       /* [CHUNK][stride]                           */
    float *dS, *work;               /* [dv][dk], [CHUNK][dv][dk]                 */
    float *dlog_a, *dbeta, *dnorm, *gain;
    float  dA_log, ddt_bias;
};

struct job {
    const struct delta *s;
    struct chi_run *r;
    int64_t group, groups;          /* heads of a task, a multiple of share; tasks of a segment */
};

/* Channels of a head in role i: q and k; v and the gate                         */
static inline int64_t width(const struct delta *s, int i)
{
    return i < V ? s->dk : s->dv;
}

/* Values of a row in the linear of role i                                       */
static inline int64_t outputs(const struct delta *s, int i)
{
    return i < V ? s->heads / s->share * s->dk : i < A ? s->heads * s->dv : s->heads;
}

/* Where this head's channels begin in such a row                                */
static inline int64_t channel(const struct bench *b, int i)
{
    return i < V ? b->head / b->s->share * b->s->dk : b->head * b->s->dv;
}

static inline float *tail_row(const struct bench *b, unsigned char *state, int i, int64_t j)
{
    const struct delta *s = b->s;
    float *tail = (float *)(void *)(state + s->tail);
    return tail + i * (s->taps - 1) * outputs(s, Q) + j * outputs(s, i) + channel(b, i);
}

/* This head's channels of a row of the segment in an array of role i            */
static inline float *head_row(const struct bench *b, int64_t array, int64_t row, int i)
{
    return CHI_ARRAY(b->r, array, float) + (b->g->first + row) * outputs(b->s, i) + channel(b, i);
}

/* Is role i this head's own, or the head the first, the last of those that share it? */
static inline bool first_of(const struct bench *b, int i)
{
    return i >= V || b->head % b->s->share == 0;
}

static inline bool last_of(const struct bench *b, int i)
{
    return i >= V || (b->head + 1) % b->s->share == 0;
}

/* The state that forward kept for this head at chunk number i of the segment   */
static inline float *kept_state(const struct bench *b, int64_t i)
{
    int64_t size = b->s->dk * b->s->dv;
    return CHI_ARRAY(b->r, b->s->start, float) + (i * b->s->heads + b->head) * size;
}

/* ---- planning ------------------------------------------------------------------ */

static const float L2_EPS = 1e-6f;

static void plan_arrays(struct delta *s, const struct chi_plan_ops *ops,
                        struct chi_plan *plan, bool training)
{
    static const char *const name[] = { "q", "k", "v", "g", "a", "b" };
    static const char *const dname[] = { "dq", "dk", "dv", "dg", "da", "db" };
    static const char *const cname[] = { "part_conv_q", "part_conv_k", "part_conv_v" };
    int64_t inner = s->heads * s->dv, H = s->heads;

    for (int i = 0; i < s->n_in; i++)
        s->pre[s->role[i]] = ops->array(plan, name[s->role[i]], CHI_F32, outputs(s, s->role[i]),
                                        CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->h = ops->array(plan, "h", CHI_F32, inner, CHI_PER_ROW, 0);
    if (!training) return;
    s->o     = ops->array(plan, "o", CHI_F32, inner, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->start = ops->array(plan, "start", CHI_F32, inner * s->dk, CHUNK, CHI_ARRAY_KEEP);
    s->dh    = ops->array(plan, "dh", CHI_F32, inner, CHI_PER_ROW, 0);
    for (int i = 0; i < s->n_in; i++)
        s->dpre[s->role[i]] = ops->array(plan, dname[s->role[i]], CHI_F32, outputs(s, s->role[i]),
                                         CHI_PER_ROW, 0);
    for (int i = 0; i < 3; i++)
        s->part_conv[i] = ops->array(plan, cname[i], CHI_F32, outputs(s, i) * s->taps, CHI_PER_SEG, 0);
    if (s->has.decay) s->part_gate = ops->array(plan, "part_gate", CHI_F32, 2 * H, CHI_PER_SEG, 0);
    s->part_norm = ops->array(plan, "part_norm", CHI_F32, inner, CHI_PER_SEG, 0);
}

/* Floats that a task takes: see struct bench                                   */
static int64_t scratch_bytes(const struct delta *s, bool training)
{
    int64_t rows = CHUNK * s->stride, history = (CHUNK + s->taps) * s->stride, tap = s->taps * s->stride;
    int64_t n = 3 * (history + 2 * rows + tap) + 2 * rows + 10 * CHUNK;
    if (training)
        n += 3 * (history + tap) + 5 * rows + s->dk * s->dv * (CHUNK + 1) + 4 * s->stride;
    return n * (int64_t)sizeof(float) + 64 * 64;
}

static void plan_params(struct delta *s, const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    static const char *const name[] = { "q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight" };
    double bound = 1 / sqrt((double)s->taps);

    if (s->has.decay) {
        s->A_log   = ops->param(plan, "A_log", (int64_t[]){ s->heads, 0 },
                                CHI_INIT_LOG_UNIFORM, 1e-3, 16, 0);
        s->dt_bias = ops->param(plan, "dt_bias", (int64_t[]){ s->heads, 0 },
                                CHI_INIT_INV_SOFTPLUS, 1e-3, 1e-1, 0);
    }
    for (int i = 0; i < 3; i++)
        s->conv[i] = ops->param(plan, name[i], (int64_t[]){ outputs(s, i), s->taps, 0 },
                                CHI_INIT_UNIFORM, -bound, bound, 0);
    s->o_norm  = ops->param(plan, "o_norm.weight", (int64_t[]){ s->dv, 0 },
                            CHI_INIT_CONST, 1, 0, 0);
}

static void plan_linears(struct delta *s, const struct chi_shape *shape, const struct chi_plan_ops *ops,
                         struct chi_plan *plan)
{
    static const char *const name[] = { "q_proj", "k_proj", "v_proj", "g_proj", "a_proj", "b_proj" };
    for (int i = 0; i < N_ROLES; i++) {
        if ((i == G && !s->has.gate) || (i == A && !s->has.decay)) continue;
        s->in[s->n_in] = ops->linear(plan, name[i], outputs(s, i), shape->d_in,
                                     i < A ? 0 : CHI_LINEAR_F32);
        s->role[s->n_in++] = i;
    }
    s->out = ops->linear(plan, "o_proj", shape->d_out, s->heads * s->dv, 0);
}

static chi_status delta_plan(struct delta *s, const struct delta_conf *c, struct delta_parts has,
                             const struct chi_shape *shape, const struct chi_plan_ops *ops,
                             struct chi_plan *plan)
{
    s->has      = has;
    s->heads    = c->num_v_heads ? c->num_v_heads : c->num_heads;
    s->share    = s->heads / c->num_heads;
    s->dk       = c->head_dim;
    s->dv       = c->head_v_dim ? c->head_v_dim : c->head_dim;
    s->stride   = s->dk > s->dv ? s->dk : s->dv;
    s->taps     = c->conv_size;
    s->eps      = (float)shape->rms_norm_eps;
    s->beta_max = c->allow_neg_eigval ? 2.0f : 1.0f;
    s->scale    = (float)(1 / sqrt((double)s->dk));
    plan_linears(s, shape, ops, plan);
    plan_params(s, ops, plan);
    s->S = ops->state(plan, "S", CHI_F32, s->heads * s->dv * s->dk);
    if (s->taps > 1) s->tail = ops->state(plan, "tail", CHI_F32, (s->taps - 1) * (2 * outputs(s, Q) + outputs(s, V)));
    plan_arrays(s, ops, plan, shape->training);
    ops->scratch(plan, scratch_bytes(s, shape->training));
    return CHI_OK;
}

/* ---- preparing a chunk ----------------------------------------------------------- */

static struct bench delta_bench(const struct delta *s, struct chi_run *r, int64_t seg,
                               struct chi_scratch *scratch)
{
    int64_t rows = CHUNK * s->stride;
    struct bench b = { .s = s, .r = r, .g = &r->seg[seg], .seg = seg };

    for (int i = 0; i < 3; i++) {
        b.in[i] = take(scratch, (CHUNK + s->taps) * s->stride);
        b.c[i]  = take(scratch, rows);
        b.y[i]  = take(scratch, rows);
        b.w[i]  = take(scratch, s->taps * s->stride);
        if (width(s, i) < s->stride) zero(b.c[i], rows);        /* what lies behind the channels    */
    }
    b.o = take(scratch, rows);
    b.t = take(scratch, rows);
    b.alpha = take(scratch, CHUNK);
    b.beta  = take(scratch, CHUNK);
    b.log_a = take(scratch, CHUNK);
    b.qr    = take(scratch, CHUNK);
    b.kr    = take(scratch, CHUNK);
    b.raw   = s->has.efla ? take(scratch, CHUNK) : b.beta;
    b.lambda = s->has.efla ? take(scratch, CHUNK) : NULL;
    return b;
}

/* Weights as [taps][stride], so that the inner loop runs along channels        */
static void delta_begin_head(struct bench *b, int64_t head)
{
    int64_t W = b->s->taps;
    b->head = head;
    for (int i = 0; i < 3; i++) {
        int64_t D = width(b->s, i);
        taps_by_row(b->w[i], b->s->stride, CHI_PARAM(b->r, b->s->conv[i], float) + channel(b, i) * W, D, W);
    }
}

/* What a head reads besides S, whose next rows delta_rule() asks for itself     */
static void fetch_head(const struct bench *b, int64_t head)
{
    const struct delta *s = b->s;
    struct bench at = { .s = s, .r = b->r, .g = b->g, .head = head };
    for (int i = 0; i < 3; i++) {
        int64_t D = width(s, i);
        fetch(CHI_PARAM(b->r, s->conv[i], float) + channel(&at, i) * s->taps, D * s->taps);
        for (int64_t j = 0; j < s->taps - 1; j++) fetch(tail_row(&at, b->g->state, i, j), D);
    }
}

/* The raw input of role i, row j of the chunk with its history                  */
static inline const float *input_row(const struct bench *b, int i, int64_t j)
{
    int64_t row = b->row - (b->s->taps - 1) + j;
    return row < 0 ? tail_row(b, b->g->state, i, row + b->s->taps - 1) : head_row(b, b->s->pre[i], row, i);
}

/* c_t = sum over j of w_j x_{t - taps + 1 + j}, j = 0 first, one sum a channel.  Rows that serve
 * several sums, or backward, are copied close together                          */
static void convolve(struct bench *b, int i)
{
    int64_t D = width(b->s, i), L = b->s->stride, W = b->s->taps;
    bool near = b->n > 1 || b->dw[i];
    float *in = b->in[i];

    for (int64_t j = 0; near && j < b->n + W - 1; j++) copy(in + j * L, input_row(b, i, j), D);
    for (int64_t t = 0; t < b->n; t++) {
        const float *x[TAPS_MAX];
        for (int64_t j = 0; j < W; j++) x[j] = near ? in + (t + j) * L : input_row(b, i, t + j);
        tap_sum(b->c[i] + t * L, b->w[i], L, x, W, D);
    }
}

/* y = x times / sqrt(|x|^2 + eps) of q or k; r keeps the factor                */
static void normalise(struct bench *b, float *y, float *r, float times)
{
    int64_t D = b->s->dk;
    for (int64_t t = 0; t < b->n; t++, y += b->s->stride) {
        float factor = times / sqrtf(b->r->h->k->dot(y, y, D) + L2_EPS);
        for (int64_t c = 0; c < D; c++) y[c] *= factor;
        r[t] = factor;
    }
}

/* (1 - e^-x) / x; the series below 1/2, where the difference would lose digits   */
static float efla_share(float x)
{
    if (x >= 0.5f) return (1 - chi_exp(-x)) / x;
    return 1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5 * (1 - x / 6 * (1 - x / 7 * (1 - x / 8))))));
}

/* d/d lambda of (1 - e^(-beta lambda)) / lambda over beta^2: (e^-x (1 + x) - 1) / x^2 */
static float efla_slope(float x)
{
    static const float series[] = { -1.0f / 2, 1.0f / 3, -1.0f / 8, 1.0f / 30, -1.0f / 144, 1.0f / 840,
                                    -1.0f / 5760, 1.0f / 45360 };
    if (x >= 0.5f) return (chi_exp(-x) * (1 + x) - 1) / (x * x);
    float sum = 0;
    for (int i = 7; i >= 0; i--) sum = sum * x + series[i];
    return sum;
}

/* The exact step of dS/dt = (v - S k) k' over a time beta                       */
static void efla(struct bench *b)
{
    int64_t L = b->s->stride;
    for (int64_t t = 0; t < b->n; t++) {
        b->raw[t]    = b->beta[t];
        b->lambda[t] = b->r->h->k->dot(b->y[K] + t * L, b->y[K] + t * L, b->s->dk);
        b->beta[t]   = b->raw[t] * efla_share(b->raw[t] * b->lambda[t]);
    }
}

/* alpha = e^g of the chunk                                                       */
static void decay(struct bench *b)
{
    const struct delta *s = b->s;
    int64_t H = s->heads;
    const float *a = CHI_ARRAY(b->r, s->pre[A], float) + (b->g->first + b->row) * H + b->head;
    float rate = chi_exp(CHI_PARAM(b->r, s->A_log, float)[b->head]);
    float bias = CHI_PARAM(b->r, s->dt_bias, float)[b->head];

    for (int64_t t = 0; t < b->n; t++) {
        b->log_a[t] = -rate * chi_softplus(a[t * H] + bias);
        b->alpha[t] = chi_exp(b->log_a[t]);
    }
}

/* q, k, v, decay and beta of the chunk from the kept outputs of the linears    */
static void delta_prepare_chunk(struct bench *b)
{
    const struct delta *s = b->s;
    int64_t H = s->heads;
    const float *p = CHI_ARRAY(b->r, s->pre[B], float) + (b->g->first + b->row) * H + b->head;

    for (int i = 0; i < 3; i++) {
        convolve(b, i);
        b->r->h->k->silu(b->y[i], b->c[i], b->n * s->stride);
    }
    normalise(b, b->y[Q], b->qr, s->scale);
    if (!s->has.efla) normalise(b, b->y[K], b->kr, 1);
    for (int64_t t = 0; t < b->n; t++) {
        b->alpha[t] = 1;
        b->beta[t]  = s->beta_max * chi_sigmoid(p[t * H]);
    }
    if (s->has.decay) decay(b);
    if (s->has.efla) efla(b);
}

/* h = rmsnorm(o; o_norm) * silu(g) of a row of the segment; t is room for a row  */
static void delta_gate_output(const struct bench *b, int64_t row, const float *o, float *t)
{
    const struct delta *s = b->s;
    const struct chi_kernels *k = b->r->h->k;
    const float *gain = CHI_PARAM(b->r, s->o_norm, float);
    float *h = head_row(b, s->h, row, V);

    if (!s->has.gate) {
        k->rmsnorm(h, o, gain, s->dv, s->eps);
        return;
    }
    k->rmsnorm(t, o, gain, s->dv, s->eps);
    k->silu_mul(h, head_row(b, s->pre[G], row, G), t, s->dv);
}

/* ---- forward ------------------------------------------------------------------ */

/* The last taps - 1 raw inputs become the tail, once all heads that share it have read
 * the old one; in rising order, so that a row of it is read before it is written */
static void move_tail(struct bench *b)
{
    int64_t T = b->s->taps - 1, rows = b->g->rows;
    for (int i = 0; i < 3; i++)
        for (int64_t j = 0, D = width(b->s, i); last_of(b, i) && j < T; j++)
            memmove(tail_row(b, b->g->state, i, j),
                    rows - T + j < 0 ? tail_row(b, b->g->state, i, rows + j)
                                     : head_row(b, b->s->pre[i], rows - T + j, i),
                    (size_t)D * sizeof(float));
}

static void forward_head(struct bench *b, int64_t head, int64_t chunk)
{
    const struct delta *s = b->s;
    int64_t size = s->dk * s->dv, L = s->stride;
    float *S = CHI_STATE(b->g, s->S, float) + head * size;

    delta_begin_head(b, head);
    for (b->row = 0; b->row < b->g->rows; b->row += b->n) {
        b->n = rows_to_grid(b->g, b->row, CHUNK);
        delta_prepare_chunk(b);
        if (b->r->keep) copy(kept_state(b, chunk++), S, size);
        b->r->h->k->delta_rule(S, b->y[Q], b->y[K], b->y[V], L, b->alpha, b->beta, 1,
                               b->o, b->n, s->dk, s->dv);
        for (int64_t t = 0; t < b->n; t++) {
            if (b->r->keep) copy(head_row(b, s->o, b->row + t, V), b->o + t * L, s->dv);
            delta_gate_output(b, b->row + t, b->o + t * L, b->t);
        }
    }
    move_tail(b);
}

/* Short calls put several heads into a task: a head of one row is microseconds.  A
 * head's numbers do not depend on the grouping.  Heads that share q and k share a task. */
static struct job delta_job(const struct delta *s, struct chi_run *r)
{
    int64_t rows = (r->rows + r->n_seg - 1) / r->n_seg;
    int64_t group = TASK_WORK / (rows * s->dk * s->dv);
    if (group < 1) group = 1;
    group = (group + s->share - 1) / s->share * s->share;
    if (group > s->heads) group = s->heads;
    return (struct job){ s, r, group, (s->heads + group - 1) / group };
}

static void forward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t seg = i / j->groups, head = i % j->groups * j->group, end = head + j->group;
    struct bench b = delta_bench(j->s, j->r, seg, scratch);
    int64_t chunk = j->r->keep ? chi_first_chunk(j->r, seg, CHUNK) : 0;

    if (end > j->s->heads) end = j->s->heads;
    for (; head < end; head++) {
        if (head + 1 < j->s->heads) fetch_head(&b, head + 1);   /* the next task is likely ours, too */
        forward_head(&b, head, chunk);
    }
}

static chi_status delta_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct delta *s = self;
    float *pre[N_ROLES];
    if (r->rows == 0) return CHI_OK;

    for (int i = 0; i < s->n_in; i++) pre[i] = CHI_ARRAY(r, s->pre[s->role[i]], float);
    chi_status e = r->h->linears(s->in, s->n_in, r, x, r->rows, pre);
    if (e != CHI_OK) return e;
    struct job j = delta_job(s, r);
    r->h->parallel(r->h, r->n_seg * j.groups, forward_task, &j);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

#endif
