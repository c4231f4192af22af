/* chunk_memory.c - a layer that asks of the ABI what little else does: Titans' memory
 * as a mixer (arXiv 2501.00663), one matrix M a head that learns while it reads.
 *
 *     q, k, v = silu(conv(W x)),  q, k over sqrt(|.|^2 + 1e-6)
 *     alpha, eta = sigmoid(w x + b);  theta = theta_max sigmoid(w x + b) (1 - eta)
 *     e_t = M' k_t - v_t                    M' = M at the start of the chunk
 *     S_t = eta_t S_{t-1} - theta_t e_t k_t';   M_t = (1 - alpha_t) M_{t-1} + S_t
 *     o_t = M_t q_t + sum over s of softmax_s(q_t K_s D^-1/2) V_s
 *     y   = W_o (rmsnorm(o; o_norm) * silu(W_g x))
 *
 * Its stream starts from a parameter (memory.w1) instead of zero, its chunks lie on a
 * grid counted from the stream's position 0, so that a call may begin inside one, and
 * gradients pass through the inner gradient e k'.  A task is one head of one segment;
 * plain loops, for what is tested with it is the interface.                     */
#include <chimera/math.h>
#include <chimera/plugin.h>

struct conf {
    int64_t num_heads, head_dim, memory_depth, chunk, persistent_memory_slots, conv_size;
    double  theta_max;
    int32_t core;
};

static const struct chi_option options[] = {
    CHI_INT(struct conf, num_heads, "4", 1, 64, "number of heads", CHI_OPT_SHAPE),
    CHI_INT(struct conf, head_dim, "64", 1, 256, "channels of a head", CHI_OPT_SHAPE),
    CHI_INT(struct conf, memory_depth, "1", 1, 1, "matrices of a memory", CHI_OPT_SHAPE),
    CHI_INT(struct conf, chunk, "16", 1, 256, "tokens whose errors share the old weights", CHI_OPT_SHAPE),
    CHI_INT(struct conf, persistent_memory_slots, "64", 1, 1024, "learned pairs of key and value",
            CHI_OPT_SHAPE),
    CHI_INT(struct conf, conv_size, "4", 1, 16, "taps of the short convolution", CHI_OPT_SHAPE),
    CHI_FLOAT(struct conf, theta_max, "0.3", 0, 10, "largest inner step", CHI_OPT_SHAPE),
    CHI_ENUM(struct conf, core, "gated", "gated", "what surrounds the memory", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

enum { Q, K, V, G, AL, ET, TH, N_IN };          /* linears of the layer's input  */

struct memory {
    int64_t H, D, P, W, chunk, inner;
    float   eps, theta_max, scale;
    const struct chi_linear *in[N_IN], *out;
    int64_t conv[3], bias[3], w1, pk, pv, o_norm;       /* parameters            */
    int64_t M, M1, S, tail;                     /* state: M, M' and S, all [H,D,D]; tail
                                                   [3][W-1][inner]               */
    int64_t pre[N_IN], dpre[N_IN];              /* arrays [rows, inner or H]     */
    int64_t c[3], y[3], len[2];                 /* convolved; q, k, v; 1 / lengths of q, k */
    int64_t o, h, dh, start;                    /* start: M and S at the chunk's first row */
    int64_t part_conv[3], part_bias[3], part_w1, part_pk, part_pv, part_norm;
};

static void plan_arrays(struct memory *s, const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    static const char *const in[] = { "q", "k", "v", "g", "alpha", "eta", "theta" };
    int64_t n = s->inner, H = s->H;
    for (int i = 0; i < N_IN; i++) {
        s->pre[i]  = ops->array(plan, in[i], CHI_F32, i < AL ? n : H, CHI_PER_ROW, CHI_ARRAY_KEEP);
        s->dpre[i] = ops->array(plan, "d", CHI_F32, i < AL ? n : H, CHI_PER_ROW, 0);
    }
    for (int i = 0; i < 3; i++) {
        s->c[i] = ops->array(plan, "c", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
        s->y[i] = ops->array(plan, "y", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
        s->part_conv[i] = ops->array(plan, "part_conv", CHI_F32, n * s->W, CHI_PER_SEG, 0);
        s->part_bias[i] = ops->array(plan, "part_bias", CHI_F32, H, CHI_PER_SEG, 0);
    }
    for (int i = 0; i < 2; i++)
        s->len[i] = ops->array(plan, "len", CHI_F32, H, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->o     = ops->array(plan, "o", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->h     = ops->array(plan, "h", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->dh    = ops->array(plan, "dh", CHI_F32, n, CHI_PER_ROW, 0);
    s->start = ops->array(plan, "start", CHI_F32, 2 * n * s->D, s->chunk, CHI_ARRAY_KEEP);
    s->part_w1   = ops->array(plan, "part_w1", CHI_F32, n * s->D, CHI_PER_SEG, 0);
    s->part_pk   = ops->array(plan, "part_pk", CHI_F32, n * s->P, CHI_PER_SEG, 0);
    s->part_pv   = ops->array(plan, "part_pv", CHI_F32, n * s->P, CHI_PER_SEG, 0);
    s->part_norm = ops->array(plan, "part_norm", CHI_F32, n, CHI_PER_SEG, 0);
}

static void plan_params(struct memory *s, const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    static const char *const conv[] = { "q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight" };
    static const char *const bias[] = { "alpha_proj.bias", "eta_proj.bias", "theta_proj.bias" };
    int64_t H = s->H, D = s->D;
    double sd = 1 / sqrt((double)D), tap = 1 / sqrt((double)s->W);
    for (int i = 0; i < 3; i++) {
        s->conv[i] = ops->param(plan, conv[i], (int64_t[]){ s->inner, s->W, 0 }, CHI_INIT_UNIFORM, -tap, tap, 0);
        s->bias[i] = ops->param(plan, bias[i], (int64_t[]){ H, 0 }, CHI_INIT_LINEAR, i ? 0 : -9, i ? 0 : -4, 0);
    }
    s->w1 = ops->param(plan, "memory.w1", (int64_t[]){ H, D, D, 0 }, CHI_INIT_NORMAL, sd, 0, 0);
    s->pk = ops->param(plan, "persistent.k", (int64_t[]){ H, s->P, D, 0 }, CHI_INIT_NORMAL, sd, 0, 0);
    s->pv = ops->param(plan, "persistent.v", (int64_t[]){ H, s->P, D, 0 }, CHI_INIT_NORMAL, sd, 0, 0);
    s->o_norm = ops->param(plan, "o_norm.weight", (int64_t[]){ D, 0 }, CHI_INIT_CONST, 1, 0, 0);
}

static chi_status memory_open(const struct chi_host *host, void *self, const void *conf,
                              const struct chi_shape *shape, const struct chi_plan_ops *ops,
                              struct chi_plan *plan)
{
    static const char *const in[] = { "q_proj", "k_proj", "v_proj", "g_proj", "alpha_proj", "eta_proj",
                                      "theta_proj" };
    const struct conf *c = conf;
    struct memory *s = self;
    if (shape->d_in != shape->d_out)
        return host->fail(host, CHI_ESHAPE, "d_in %lld is not d_out %lld", (long long)shape->d_in,
                          (long long)shape->d_out);
    if (c->theta_max * (double)c->chunk > 100)
        return host->fail(host, CHI_ECONF, "theta_max = %g with chunk = %lld diverges: their product must not "
                          "exceed 100", c->theta_max, (long long)c->chunk);
    *s = (struct memory){ .H = c->num_heads, .D = c->head_dim, .P = c->persistent_memory_slots,
                          .W = c->conv_size, .chunk = c->chunk, .inner = c->num_heads * c->head_dim,
                          .eps = (float)shape->rms_norm_eps, .theta_max = (float)c->theta_max,
                          .scale = (float)(1 / sqrt((double)c->head_dim)) };
    for (int i = 0; i < N_IN; i++)
        s->in[i] = ops->linear(plan, in[i], i < AL ? s->inner : s->H, shape->d_in, i < AL ? 0 : CHI_LINEAR_F32);
    s->out = ops->linear(plan, "o_proj", shape->d_out, s->inner, 0);
    plan_params(s, ops, plan);
    s->M  = ops->state(plan, "M", CHI_F32, s->inner * s->D);
    s->M1 = ops->state(plan, "chunk_start", CHI_F32, s->inner * s->D);
    s->S  = ops->state(plan, "S", CHI_F32, s->inner * s->D);
    if (s->W > 1) s->tail = ops->state(plan, "tail", CHI_F32, 3 * (s->W - 1) * s->inner);
    plan_arrays(s, ops, plan);
    ops->scratch(plan, ((2 * s->chunk + 5) * s->D * s->D + 2 * s->P + (s->W + 4) * s->D)
                       * (int64_t)sizeof(float) + 1024);
    return CHI_OK;
}

/* ---- one head of one segment ---------------------------------------------------- */

struct head {
    const struct memory *s;
    struct chi_run *r;
    const struct chi_segment *g;
    struct chi_scratch *scratch;
    int64_t seg, h;
};

static float *floats(struct chi_scratch *scratch, int64_t n)
{
    return chi_take(scratch, (size_t)n * sizeof(float));
}

static void copy(float *to, const float *from, int64_t n)
{
    memcpy(to, from, (size_t)n * sizeof(float));
}

static void zero(float *x, int64_t n)
{
    memset(x, 0, (size_t)n * sizeof(float));
}

/* This head's part of a row: [D] of [rows, inner], or one number of [rows, H]   */
static float *row_of(const struct head *a, int64_t array, int64_t t)
{
    return CHI_ARRAY(a->r, array, float) + (a->g->first + t) * a->s->inner + a->h * a->s->D;
}

static float *gate_of(const struct head *a, int64_t array, int64_t t)
{
    return CHI_ARRAY(a->r, array, float) + (a->g->first + t) * a->s->H + a->h;
}

static float *tail_of(const struct head *a, unsigned char *state, int i, int64_t j)
{
    return (float *)(void *)(state + a->s->tail) + (i * (a->s->W - 1) + j) * a->s->inner + a->h * a->s->D;
}

/* The matrix of this head in a block of state or parameters                     */
static float *matrix(const struct head *a, unsigned char *block, int64_t offset)
{
    return (float *)(void *)(block + offset) + a->h * a->s->D * a->s->D;
}

static const float *pieces(const struct head *a, int64_t param, int64_t n)
{
    return CHI_PARAM(a->r, param, float) + a->h * n;
}

/* Raw input of row t, which may lie before the call                             */
static const float *raw(const struct head *a, int i, int64_t t)
{
    return t < 0 ? tail_of(a, a->g->state, i, t + a->s->W - 1) : row_of(a, a->s->pre[i], t);
}

static void prepare_row(const struct head *a, int64_t t)
{
    const struct memory *s = a->s;
    for (int i = 0; i < 3; i++) {
        const float *w = pieces(a, s->conv[i], s->D * s->W);
        float *c = row_of(a, s->c[i], t), *y = row_of(a, s->y[i], t);
        for (int64_t d = 0; d < s->D; d++) {
            c[d] = 0;
            for (int64_t j = 0; j < s->W; j++) c[d] += w[d * s->W + j] * raw(a, i, t - s->W + 1 + j)[d];
            y[d] = chi_silu(c[d]);
        }
        if (i == V) continue;
        float f = 1 / sqrtf(a->r->h->k->dot(y, y, s->D) + 1e-6f);
        for (int64_t d = 0; d < s->D; d++) y[d] *= f;
        *gate_of(a, s->len[i], t) = f;
    }
}

struct gates { float alpha, eta, theta, open; };        /* open = sigmoid of theta's map */

static struct gates gates(const struct head *a, int64_t t)
{
    const struct memory *s = a->s;
    float z[3];
    for (int i = 0; i < 3; i++)
        z[i] = chi_sigmoid(*gate_of(a, s->pre[AL + i], t) + CHI_PARAM(a->r, s->bias[i], float)[a->h]);
    return (struct gates){ z[0], z[1], s->theta_max * z[2] * (1 - z[1]), z[2] };
}

/* Error of the old weights, then momentum and memory in place                   */
static void write_memory(const struct head *a, int64_t t, float *M, const float *M1, float *S)
{
    const struct memory *s = a->s;
    const float *k = row_of(a, s->y[K], t), *v = row_of(a, s->y[V], t);
    struct gates z = gates(a, t);
    for (int64_t i = 0; i < s->D; i++) {
        float e = a->r->h->k->dot(M1 + i * s->D, k, s->D) - v[i];
        for (int64_t j = 0; j < s->D; j++) {
            float *m = &M[i * s->D + j], *p = &S[i * s->D + j];
            *p = z.eta * *p - z.theta * e * k[j];
            *m = (1 - z.alpha) * *m + *p;
        }
    }
}

/* p[s] = softmax_s(q . K_s D^-1/2)                                              */
static void slot_weights(const struct head *a, const float *q, float *p)
{
    const struct memory *s = a->s;
    const float *pk = pieces(a, s->pk, s->P * s->D);
    for (int64_t i = 0; i < s->P; i++) p[i] = a->r->h->k->dot(pk + i * s->D, q, s->D) * s->scale;
    a->r->h->k->softmax(p, p, s->P);
}

static void read_memory(const struct head *a, int64_t t, const float *M, float *p)
{
    const struct memory *s = a->s;
    const float *q = row_of(a, s->y[Q], t), *pv = pieces(a, s->pv, s->P * s->D);
    float *o = row_of(a, s->o, t), *h = row_of(a, s->h, t);
    for (int64_t i = 0; i < s->D; i++) o[i] = a->r->h->k->dot(M + i * s->D, q, s->D);
    slot_weights(a, q, p);
    for (int64_t i = 0; i < s->P; i++) a->r->h->k->axpy(o, p[i], pv + i * s->D, s->D);
    a->r->h->k->rmsnorm(h, o, CHI_PARAM(a->r, s->o_norm, float), s->D, s->eps);
    a->r->h->k->silu_mul(h, row_of(a, s->pre[G], t), h, s->D);
}

/* The last W - 1 raw inputs, in rising order: an old row is read before it is
 * written over                                                                  */
static void move_tail(const struct head *a)
{
    int64_t T = a->s->W - 1;
    for (int i = 0; i < 3; i++)
        for (int64_t j = 0; j < T; j++)
            memmove(tail_of(a, a->g->state, i, j), raw(a, i, a->g->rows - T + j), (size_t)a->s->D * sizeof(float));
}

static float *start_of(const struct head *a, int64_t chunk)
{
    return CHI_ARRAY(a->r, a->s->start, float) + (2 * chunk * a->s->H + 2 * a->h) * a->s->D * a->s->D;
}

static void forward_head(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct memory *s = ((struct head *)arg)->s;
    struct chi_run *r = ((struct head *)arg)->r;
    struct head a = { s, r, &r->seg[i / s->H], scratch, i / s->H, i % s->H };
    int64_t n = s->D * s->D, chunk = chi_first_chunk(r, a.seg, s->chunk);
    float *M = matrix(&a, a.g->state, s->M), *M1 = matrix(&a, a.g->state, s->M1);
    float *S = matrix(&a, a.g->state, s->S), *p = floats(scratch, s->P);

    if (a.g->fresh) {
        copy(M, pieces(&a, s->w1, n), n);
        copy(M1, M, n);
    }
    for (int64_t t = 0; t < a.g->rows; t++) {
        bool begins = (a.g->pos + t) % s->chunk == 0;
        if (begins) copy(M1, M, n);
        if (begins || t == 0) {
            copy(start_of(&a, chunk), M, n);
            copy(start_of(&a, chunk++) + n, S, n);
        }
        prepare_row(&a, t);
        write_memory(&a, t, M, M1, S);
        read_memory(&a, t, M, p);
    }
    move_tail(&a);
}

static chi_status memory_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct memory *s = self;
    struct head arg = { .s = s, .r = r };
    float *pre[N_IN];
    if (r->rows == 0) return CHI_OK;
    for (int i = 0; i < N_IN; i++) pre[i] = CHI_ARRAY(r, s->pre[i], float);
    chi_status e = r->h->linears(s->in, N_IN, r, x, r->rows, pre);
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, r->n_seg * s->H, forward_head, &arg);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

/* ---- backward --------------------------------------------------------------------- */

struct back {
    struct head a;
    float *M, *S;                   /* [chunk + 1][D][D]: before each row of the chunk, and after */
    const float *M1;
    float *dM, *dM1, *dS;           /* [D][D]                                    */
    float *p, *dp;                  /* [P]                                       */
    float *dout, *e;                /* [D]                                       */
};

static float *part(const struct head *a, int64_t array, int64_t n)
{
    return CHI_ARRAY(a->r, array, float) + (a->seg * a->s->H + a->h) * n;
}

/* h = n silu(g), n = xh w, xh = o r: as any gated rmsnorm; leaves d loss/d o     */
static void gate_back(struct back *b, int64_t t)
{
    const struct head *a = &b->a;
    const struct memory *s = a->s;
    const float *g = row_of(a, s->pre[G], t), *dh = row_of(a, s->dh, t), *w = CHI_PARAM(a->r, s->o_norm, float);
    float *dg = row_of(a, s->dpre[G], t), *dw = part(a, s->part_norm, s->D), *xh = b->e;
    float r = a->r->h->k->rmsnorm(xh, row_of(a, s->o, t), NULL, s->D, s->eps), mean = 0;
    for (int64_t i = 0; i < s->D; i++) {
        float dn = dh[i] * chi_silu(g[i]);
        dg[i] = dh[i] * xh[i] * w[i] * chi_silu_slope(g[i]);
        dw[i] += dn * xh[i];
        b->dout[i] = dn * w[i];
        mean += b->dout[i] * xh[i] / (float)s->D;
    }
    for (int64_t i = 0; i < s->D; i++) b->dout[i] = r * (b->dout[i] - xh[i] * mean);
}

/* Through both reads, with M as it was after row t; dq is written               */
static void read_back(struct back *b, int64_t t, const float *M)
{
    const struct head *a = &b->a;
    const struct memory *s = a->s;
    const struct chi_kernels *k = a->r->h->k;
    const float *q = row_of(a, s->y[Q], t), *pk = pieces(a, s->pk, s->P * s->D), *pv = pieces(a, s->pv, s->P * s->D);
    float *dq = row_of(a, s->dpre[Q], t), *dpk = part(a, s->part_pk, s->P * s->D), *dpv = part(a, s->part_pv, s->P * s->D);

    zero(dq, s->D);
    for (int64_t i = 0; i < s->D; i++) {
        k->axpy(dq, b->dout[i], M + i * s->D, s->D);
        k->axpy(b->dM + i * s->D, b->dout[i], q, s->D);
    }
    slot_weights(a, q, b->p);
    for (int64_t i = 0; i < s->P; i++) {
        b->dp[i] = k->dot(pv + i * s->D, b->dout, s->D);
        k->axpy(dpv + i * s->D, b->p[i], b->dout, s->D);
    }
    float mean = k->dot(b->p, b->dp, s->P);
    for (int64_t i = 0; i < s->P; i++) {
        float dz = b->p[i] * (b->dp[i] - mean) * s->scale;
        k->axpy(dq, dz, pk + i * s->D, s->D);
        k->axpy(dpk + i * s->D, dz, q, s->D);
    }
}

/* d alpha, d eta, d theta (of the gates) to the maps before the sigmoids         */
static void gates_back(const struct head *a, int64_t t, const struct gates *z, float dalpha, float deta,
                       float dtheta)
{
    const struct memory *s = a->s;
    float dopen = dtheta * s->theta_max * (1 - z->eta), d[3];
    d[0] = dalpha * z->alpha * (1 - z->alpha);
    d[1] = (deta - dtheta * s->theta_max * z->open) * z->eta * (1 - z->eta);
    d[2] = dopen * z->open * (1 - z->open);
    for (int i = 0; i < 3; i++) {
        *gate_of(a, s->dpre[AL + i], t) = d[i];
        *part(a, s->part_bias[i], 1) += d[i];
    }
}

/* Through one write: M, S before row t.  The inner gradient is e k', e = M' k - v:
 *     dS += dM;  de = -theta dS k;  dk = M'^T de - theta dS^T e;  dM' += de k'    */
static void write_back(struct back *b, int64_t t, const float *M, const float *S)
{
    const struct head *a = &b->a;
    const struct memory *s = a->s;
    const struct chi_kernels *kern = a->r->h->k;
    const float *k = row_of(a, s->y[K], t), *v = row_of(a, s->y[V], t);
    float *dk = row_of(a, s->dpre[K], t), *dv = row_of(a, s->dpre[V], t);
    struct gates z = gates(a, t);
    float dalpha = 0, deta = 0, dtheta = 0;

    zero(dk, s->D);
    for (int64_t i = 0; i < s->D; i++) {
        int64_t at = i * s->D;
        float e = kern->dot(b->M1 + at, k, s->D) - v[i];
        dalpha -= kern->dot(b->dM + at, M + at, s->D);
        kern->axpy(b->dS + at, 1, b->dM + at, s->D);
        deta += kern->dot(b->dS + at, S + at, s->D);
        float dSk = kern->dot(b->dS + at, k, s->D), de = -z.theta * dSk;
        dtheta -= dSk * e;
        kern->axpy(dk, -z.theta * e, b->dS + at, s->D);
        kern->axpy(dk, de, b->M1 + at, s->D);
        kern->axpy(b->dM1 + at, de, k, s->D);
        dv[i] = -de;
        for (int64_t j = at; j < at + s->D; j++) {
            b->dM[j] *= 1 - z.alpha;
            b->dS[j] *= z.eta;
        }
    }
    gates_back(a, t, &z, dalpha, deta, dtheta);
}

/* Rows from..to-1 of one chunk, whose memory is made again first                */
static void chunk_back(struct back *b, int64_t from, int64_t to, int64_t chunk)
{
    const struct head *a = &b->a;
    const struct memory *s = a->s;
    int64_t n = s->D * s->D;
    bool begins = (a->g->pos + from) % s->chunk == 0;

    copy(b->M, start_of(a, chunk), n);
    copy(b->S, start_of(a, chunk) + n, n);
    b->M1 = begins || a->g->fresh ? start_of(a, chunk) : matrix(a, a->g->state, s->M1);
    for (int64_t t = from; t < to; t++) {
        float *M = b->M + (t - from + 1) * n, *S = b->S + (t - from + 1) * n;
        copy(M, M - n, n);
        copy(S, S - n, n);
        write_memory(a, t, M, b->M1, S);
    }
    for (int64_t t = to - 1; t >= from; t--) {
        gate_back(b, t);
        read_back(b, t, b->M + (t - from + 1) * n);
        write_back(b, t, b->M + (t - from) * n, b->S + (t - from) * n);
    }
    if (!begins) return;
    a->r->h->k->axpy(b->dM, 1, b->dM1, n);
    zero(b->dM1, n);
}

/* dpre holds the gradients of q, k, v; they become those of the convolutions' outputs */
static void shape_back(const struct head *a, int64_t t)
{
    const struct memory *s = a->s;
    for (int i = 0; i < 3; i++) {
        float *d = row_of(a, s->dpre[i], t);
        if (i != V) {
            const float *y = row_of(a, s->y[i], t);
            float m = a->r->h->k->dot(y, d, s->D), f = *gate_of(a, s->len[i], t);
            for (int64_t c = 0; c < s->D; c++) d[c] = f * (d[c] - y[c] * m);
        }
        a->r->h->k->silu_back(d, row_of(a, s->c[i], t), d, s->D);
    }
}

/* d loss/d raw input of row t, which may lie in the old tail: through the convolutions
 * that saw it and, if it is in the new tail, through that                       */
static void raw_back(const struct head *a, int i, int64_t t, float *dx)
{
    const struct memory *s = a->s;
    const float *w = pieces(a, s->conv[i], s->D * s->W);
    int64_t T = s->W - 1, rows = a->g->rows;

    if (a->g->dstate && t >= rows - T) copy(dx, tail_of(a, a->g->dstate, i, t - rows + T), s->D);
    else zero(dx, s->D);
    for (int64_t j = 0; j < s->W; j++) {
        int64_t u = t + T - j;
        if (u < 0 || u >= rows) continue;
        for (int64_t c = 0; c < s->D; c++) dx[c] += w[c * s->W + j] * row_of(a, s->dpre[i], u)[c];
    }
}

/* Row t of dpre is spent once rows up to t are done, so they may replace it in rising
 * order; the old tail needs all of them and is what the new tail was in place of */
static void conv_back(const struct head *a, int i)
{
    const struct memory *s = a->s;
    int64_t T = s->W - 1, rows = a->g->rows;
    float *dw = part(a, s->part_conv[i], s->D * s->W), *dx = floats(a->scratch, s->D);
    float *tail = floats(a->scratch, T * s->D);

    for (int64_t t = 0; t < rows; t++)
        for (int64_t c = 0; c < s->D; c++)
            for (int64_t j = 0; j < s->W; j++)
                dw[c * s->W + j] += row_of(a, s->dpre[i], t)[c] * raw(a, i, t - T + j)[c];
    for (int64_t j = 0; j < T && a->g->dstate; j++) raw_back(a, i, j - T, tail + j * s->D);
    for (int64_t t = 0; t < rows; t++) {
        raw_back(a, i, t, dx);
        copy(row_of(a, s->dpre[i], t), dx, s->D);
    }
    for (int64_t j = 0; j < T && a->g->dstate; j++)
        copy(tail_of(a, a->g->dstate, i, j), tail + j * s->D, s->D);
}

static struct back begin_back(const struct head *a)
{
    int64_t n = a->s->D * a->s->D, P = a->s->P;
    struct chi_scratch *s = a->scratch;
    struct back b = { .a = *a, .M = floats(s, (a->s->chunk + 1) * n), .S = floats(s, (a->s->chunk + 1) * n),
                      .dM = floats(s, n), .dM1 = floats(s, n), .dS = floats(s, n), .p = floats(s, P),
                      .dp = floats(s, P), .dout = floats(s, a->s->D), .e = floats(s, a->s->D) };
    if (a->g->dstate) {
        copy(b.dM, matrix(a, a->g->dstate, a->s->M), n);
        copy(b.dM1, matrix(a, a->g->dstate, a->s->M1), n);
        copy(b.dS, matrix(a, a->g->dstate, a->s->S), n);
    } else {
        zero(b.dM, n);
        zero(b.dM1, n);
        zero(b.dS, n);
    }
    for (int i = 0; i < 3; i++) {
        zero(part(a, a->s->part_conv[i], a->s->D * a->s->W), a->s->D * a->s->W);
        zero(part(a, a->s->part_bias[i], 1), 1);
    }
    zero(part(a, a->s->part_pk, P * a->s->D), P * a->s->D);
    zero(part(a, a->s->part_pv, P * a->s->D), P * a->s->D);
    zero(part(a, a->s->part_norm, a->s->D), a->s->D);
    return b;
}

/* What is left of dM and dM' at a fresh start belongs to memory.w1; there S and the
 * tail came from nothing                                                        */
static void end_back(const struct back *b)
{
    const struct head *a = &b->a;
    int64_t n = a->s->D * a->s->D;
    float *dw = part(a, a->s->part_w1, n);

    zero(dw, n);
    if (a->g->fresh)
        for (int64_t i = 0; i < n; i++) dw[i] = b->dM[i] + b->dM1[i];
    if (!a->g->dstate) return;
    copy(matrix(a, a->g->dstate, a->s->M), b->dM, n);
    copy(matrix(a, a->g->dstate, a->s->M1), b->dM1, n);
    copy(matrix(a, a->g->dstate, a->s->S), b->dS, n);
}

static void backward_head(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct memory *s = ((struct head *)arg)->s;
    struct chi_run *r = ((struct head *)arg)->r;
    struct head a = { s, r, &r->seg[i / s->H], scratch, i / s->H, i % s->H };
    int64_t first = chi_first_chunk(r, a.seg, s->chunk), chunk = chi_chunks(a.g, s->chunk);
    struct back b = begin_back(&a);
    size_t used = scratch->used;

    for (int64_t end = a.g->rows, from; end > 0; end = from) {
        from = (a.g->pos / s->chunk + --chunk) * s->chunk - a.g->pos;
        if (from < 0) from = 0;
        chunk_back(&b, from, end, first + chunk);
    }
    end_back(&b);
    for (int64_t t = 0; t < a.g->rows; t++) shape_back(&a, t);
    for (int j = 0; j < 3; j++, scratch->used = used) conv_back(&a, j);
}

static void reduce_parts(const struct memory *s, struct chi_run *r)
{
    const struct { int64_t grad, part, n; bool shared; } sum[] = {
        { s->conv[0], s->part_conv[0], s->inner * s->W, false }, { s->conv[1], s->part_conv[1], s->inner * s->W, false },
        { s->conv[2], s->part_conv[2], s->inner * s->W, false }, { s->bias[0], s->part_bias[0], s->H, false },
        { s->bias[1], s->part_bias[1], s->H, false }, { s->bias[2], s->part_bias[2], s->H, false },
        { s->w1, s->part_w1, s->inner * s->D, false }, { s->pk, s->part_pk, s->inner * s->P, false },
        { s->pv, s->part_pv, s->inner * s->P, false }, { s->o_norm, s->part_norm, s->D, true },
    };
    for (size_t i = 0; i < sizeof sum / sizeof *sum; i++)
        r->h->reduce(r->h, CHI_GRAD(r, sum[i].grad, float), CHI_ARRAY(r, sum[i].part, float),
                     sum[i].shared ? r->n_seg * s->H : r->n_seg, sum[i].n);
}

static chi_status memory_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct memory *s = self;
    struct head arg = { .s = s, .r = r };
    float *dh = CHI_ARRAY(r, s->dh, float);
    const float *dpre[N_IN];
    if (r->rows == 0) return CHI_OK;
    zero(dh, r->rows * s->inner);
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &dy, dh);
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, r->n_seg * s->H, backward_head, &arg);
    for (int i = 0; i < N_IN; i++) dpre[i] = CHI_ARRAY(r, s->dpre[i], float);
    e = r->h->linears_back(s->in, N_IN, r, x, r->rows, dpre, dx);
    if (e == CHI_OK && r->grads) reduce_parts(s, r);
    return e;
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct memory), .open = memory_open,
    .forward = memory_forward, .backward = memory_backward,
};

static const struct chi_component chunk_memory = {
    .struct_size = sizeof chunk_memory,
    .kind = CHI_LAYER,
    .name = "chunk_memory",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "a memory that learns while it reads, one matrix a head",
    .papers = "2501.00663",
    .options = options,
    .conf_size = sizeof(struct conf),
    .ops = &ops,
};

/* The same without a way back                                                   */
static const struct chi_layer_ops frozen_ops = {
    .struct_size = sizeof frozen_ops, .self_size = sizeof(struct memory), .open = memory_open,
    .forward = memory_forward,
};

static const struct chi_component frozen_memory = {
    .struct_size = sizeof frozen_memory,
    .kind = CHI_LAYER,
    .name = "frozen_memory",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_NO_GRAD,
    .summary = "chunk_memory without a backward pass",
    .options = options,
    .conf_size = sizeof(struct conf),
    .ops = &frozen_ops,
};

CHI_PLUGIN(chunk_memory, .version = "1.0", .license = "MIT", .summary = "a layer for tests of the interface",
           .components = CHI_COMPONENTS(&chunk_memory, &frozen_memory));
