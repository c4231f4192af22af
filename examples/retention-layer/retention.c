/* retention.c - the retention of RetNet (arXiv 2307.08621), recurrent form: linear attention
 * whose memory turns and fades.  Per head h of H, with q, k, v of D channels (equations 3-8):
 *
 *     q, k, v, g = W x
 *     S_n = gamma e^(-i theta) S_{n-1} + k_n v_n'        gamma = 1 - 2^(-5-h), theta_j = base^(-2j/D)
 *     o_n = D^-1/2 q_n' S_n
 *     y_n = W_o (silu(g_n) * groupnorm(o_n))             mean and variance of each head
 *
 * The rotation makes the reading of what is m tokens old depend on m, as rotary positions do;
 * turned in the state, it needs no position.  A complex number is a pair of channels (j, j + D/2).
 *
 * A task is one head of one segment.  Backward needs no kept states: dq is found while the
 * recurrence runs once more, dk and dv on the way back.                                     */
#include <chimera/math.h>
#include <chimera/plugin.h>

struct retention_conf {
    int64_t num_heads, head_dim;
    double  rope_theta;
};

static const struct chi_option options[] = {
    CHI_INT(struct retention_conf, num_heads, "4", 1, 64, "number of heads; each forgets half as fast "
            "as the one before", CHI_OPT_SHAPE),
    CHI_INT(struct retention_conf, head_dim, "64", 2, 1024, "channels of a head; even", CHI_OPT_SHAPE),
    CHI_FLOAT(struct retention_conf, rope_theta, "10000", 1, 1e12, "base of the wavelengths of the rotation",
              CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

enum { Q, K, V, G, N_IN };

struct retention {
    int64_t heads, dim, inner;
    float   eps, scale;
    float  *cosine, *sine;                  /* [H][D/2] gamma cos(theta), gamma sin(theta) */
    const struct chi_linear *in[N_IN], *out;
    int64_t weight, bias;                   /* parameters of the group norm [inner]        */
    int64_t S;                              /* state [H][D][D]: key channel, value channel */
    int64_t pre[N_IN], o, h;                /* arrays [rows][inner], kept; h: input of out */
    int64_t dpre[N_IN], dh;                 /* training                                    */
    int64_t part;                           /* [seg][2][inner] gradients of weight, bias   */
};

/* ---- setting up ------------------------------------------------------------------------- */

static chi_status check_conf(const struct chi_host *host, const void *conf)
{
    const struct retention_conf *c = conf;
    if (c->head_dim % 2)
        return host->fail(host, CHI_ECONF, "head_dim = %lld: pairs of channels turn; choose an even number",
                          (long long)c->head_dim);
    return CHI_OK;
}

static chi_status make_tables(const struct chi_host *host, struct retention *s, double base)
{
    int64_t half = s->dim / 2;
    s->cosine = host->alloc(host, (size_t)(s->heads * half) * sizeof(float));
    s->sine   = host->alloc(host, (size_t)(s->heads * half) * sizeof(float));
    if (!s->cosine || !s->sine) return CHI_ENOMEM;
    for (int64_t i = 0; i < s->heads * half; i++) {
        double gamma = 1 - exp2(-5 - (double)(i / half));
        double theta = pow(base, -2 * (double)(i % half) / (double)s->dim);
        s->cosine[i] = (float)(gamma * cos(theta));
        s->sine[i]   = (float)(gamma * sin(theta));
    }
    return CHI_OK;
}

static void plan_arrays(struct retention *s, const struct chi_plan_ops *ops, struct chi_plan *plan, bool training)
{
    static const char *const name[] = { "q", "k", "v", "g" }, *const dname[] = { "dq", "dk", "dv", "dg" };
    for (int i = 0; i < N_IN; i++)
        s->pre[i] = ops->array(plan, name[i], CHI_F32, s->inner, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->o = ops->array(plan, "o", CHI_F32, s->inner, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->h = ops->array(plan, "h", CHI_F32, s->inner, CHI_PER_ROW, CHI_ARRAY_KEEP);
    if (!training) return;
    for (int i = 0; i < N_IN; i++)
        s->dpre[i] = ops->array(plan, dname[i], CHI_F32, s->inner, CHI_PER_ROW, 0);
    s->dh   = ops->array(plan, "dh", CHI_F32, s->inner, CHI_PER_ROW, 0);
    s->part = ops->array(plan, "part", CHI_F32, 2 * s->inner, CHI_PER_SEG, 0);
    ops->scratch(plan, (2 * s->dim + 1) * s->dim * (int64_t)sizeof(float) + 3 * 64);
}

static chi_status retention_open(const struct chi_host *host, void *self, const void *conf,
                                 const struct chi_shape *shape, const struct chi_plan_ops *ops,
                                 struct chi_plan *plan)
{
    static const char *const name[] = { "q_proj", "k_proj", "v_proj", "g_proj" };
    const struct retention_conf *c = conf;
    struct retention *s = self;

    s->heads = c->num_heads;
    s->dim   = c->head_dim;
    s->inner = s->heads * s->dim;
    s->eps   = (float)shape->rms_norm_eps;
    s->scale = (float)(1 / sqrt((double)s->dim));
    for (int i = 0; i < N_IN; i++) s->in[i] = ops->linear(plan, name[i], s->inner, shape->d_in, 0);
    s->out    = ops->linear(plan, "o_proj", shape->d_out, s->inner, 0);
    s->weight = ops->param(plan, "group_norm.weight", (int64_t[]){ s->inner, 0 }, CHI_INIT_CONST, 1, 0, 0);
    s->bias   = ops->param(plan, "group_norm.bias", (int64_t[]){ s->inner, 0 }, CHI_INIT_ZERO, 0, 0, 0);
    s->S      = ops->state(plan, "S", CHI_F32, s->inner * s->dim);
    plan_arrays(s, ops, plan, shape->training);
    return make_tables(host, s, c->rope_theta);
}

/* ---- one row of one head ------------------------------------------------------------------ */

struct job { const struct retention *s; struct chi_run *r; };

/* What a task works on; its head's channels begin at `at` in every row                        */
struct bench {
    const struct retention *s;
    struct chi_run *r;
    const struct chi_segment *g;
    int64_t head, at;
    float  *n;                              /* backward: room for a row of the head           */
};

static struct bench make_bench(const struct job *j, int64_t task)
{
    int64_t head = task % j->s->heads;
    return (struct bench){ .s = j->s, .r = j->r, .g = &j->r->seg[task / j->s->heads], .head = head,
                           .at = head * j->s->dim };
}

static float *row_of(const struct bench *b, int64_t array, int64_t row)
{
    return CHI_ARRAY(b->r, array, float) + (b->g->first + row) * b->s->inner + b->at;
}

/* S = gamma e^(-i theta) S + k v'                                                             */
static void absorb(const struct bench *b, float *S, const float *k, const float *v)
{
    int64_t D = b->s->dim, half = D / 2;
    const float *cosine = b->s->cosine + b->head * half, *sine = b->s->sine + b->head * half;

    for (int64_t j = 0; j < half; j++) {
        float *p = S + j * D, *q = S + (j + half) * D;
        for (int64_t c = 0; c < D; c++) {
            float real = p[c], imag = q[c];
            p[c] = (real * cosine[j] + imag * sine[j]) + k[j] * v[c];
            q[c] = (imag * cosine[j] - real * sine[j]) + k[j + half] * v[c];
        }
    }
}

/* Through the recurrence to the token before: the other way round                             */
static void turn_back(const struct bench *b, float *dS)
{
    int64_t D = b->s->dim, half = D / 2;
    const float *cosine = b->s->cosine + b->head * half, *sine = b->s->sine + b->head * half;

    for (int64_t j = 0; j < half; j++) {
        float *p = dS + j * D, *q = dS + (j + half) * D;
        for (int64_t c = 0; c < D; c++) {
            float real = p[c], imag = q[c];
            p[c] = real * cosine[j] - imag * sine[j];
            q[c] = imag * cosine[j] + real * sine[j];
        }
    }
}

/* n = (o - mean) rate of a head; returns rate = 1 / sqrt(variance + eps)                      */
static float standardise(const struct bench *b, float *n, const float *o)
{
    int64_t D = b->s->dim;
    float mean = 0, square = 0;
    for (int64_t c = 0; c < D; c++) mean += o[c];
    mean /= (float)D;
    for (int64_t c = 0; c < D; c++) {
        n[c] = o[c] - mean;
        square += n[c] * n[c];
    }
    float rate = 1 / sqrtf(square / (float)D + b->s->eps);
    for (int64_t c = 0; c < D; c++) n[c] *= rate;
    return rate;
}

/* ---- forward ---------------------------------------------------------------------------- */

static void forward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct bench b = make_bench(arg, i);
    int64_t D = b.s->dim;
    const struct chi_kernels *k = b.r->h->k;
    const float *w = CHI_PARAM(b.r, b.s->weight, float) + b.at, *bias = CHI_PARAM(b.r, b.s->bias, float) + b.at;
    float *S = CHI_STATE(b.g, b.s->S, float) + b.head * D * D;
    (void)scratch;

    for (int64_t t = 0; t < b.g->rows; t++) {
        const float *q = row_of(&b, b.s->pre[Q], t);
        float *o = row_of(&b, b.s->o, t), *h = row_of(&b, b.s->h, t);
        absorb(&b, S, row_of(&b, b.s->pre[K], t), row_of(&b, b.s->pre[V], t));
        memset(o, 0, (size_t)D * sizeof(float));
        for (int64_t j = 0; j < D; j++) k->axpy(o, q[j] * b.s->scale, S + j * D, D);
        standardise(&b, h, o);
        for (int64_t c = 0; c < D; c++) h[c] = h[c] * w[c] + bias[c];
        k->silu_mul(h, row_of(&b, b.s->pre[G], t), h, D);
    }
}

static chi_status retention_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct retention *s = self;
    struct job j = { s, r };
    float *pre[N_IN];
    if (r->rows == 0) return CHI_OK;

    for (int i = 0; i < N_IN; i++) pre[i] = CHI_ARRAY(r, s->pre[i], float);
    chi_status e = r->h->linears(s->in, N_IN, r, x, r->rows, pre);
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, r->n_seg * s->heads, forward_task, &j);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

/* ---- backward ----------------------------------------------------------------------------- */

/* h = silu(g) z, z = n w + b, n = (o - mean) rate:
 *     dg = dh z silu'(g);  dz = dh silu(g);  dw += dz n;  db += dz;
 *     do = rate (a - mean(a) - n mean(a n)),  a = dz w
 * dh becomes do.                                                                              */
static void norm_back(const struct bench *b, int64_t t, float *dw, float *db)
{
    const struct retention *s = b->s;
    const struct chi_kernels *k = b->r->h->k;
    const float *w = CHI_PARAM(b->r, s->weight, float) + b->at, *bias = CHI_PARAM(b->r, s->bias, float) + b->at;
    const float *g = row_of(b, s->pre[G], t);
    float *n = b->n, *d = row_of(b, s->dh, t), *dg = row_of(b, s->dpre[G], t);
    float rate = standardise(b, n, row_of(b, s->o, t)), mean = 0, slope = 0;
    int64_t D = s->dim;

    for (int64_t c = 0; c < D; c++) dg[c] = d[c] * (n[c] * w[c] + bias[c]);
    k->silu_back(dg, g, dg, D);
    k->silu_mul(d, g, d, D);
    for (int64_t c = 0; c < D; c++) {
        dw[c] += d[c] * n[c];
        db[c] += d[c];
        d[c] *= w[c];
        mean += d[c];
        slope += d[c] * n[c];
    }
    mean /= (float)D;
    slope /= (float)D;
    for (int64_t c = 0; c < D; c++) d[c] = rate * (d[c] - mean - n[c] * slope);
}

/* Forward once more: o = scale q' S, so dq = scale S do                                       */
static void queries_back(const struct bench *b, float *S, float *dw, float *db)
{
    const struct retention *s = b->s;
    int64_t D = s->dim;

    for (int64_t t = 0; t < b->g->rows; t++) {
        const float *dout = row_of(b, s->dh, t);
        float *dq = row_of(b, s->dpre[Q], t);
        absorb(b, S, row_of(b, s->pre[K], t), row_of(b, s->pre[V], t));
        norm_back(b, t, dw, db);
        for (int64_t j = 0; j < D; j++) dq[j] = b->r->h->k->dot(S + j * D, dout, D) * s->scale;
    }
}

/* And back: dS += scale q do';  dk = dS v;  dv = dS' k;  then dS turns to the token before     */
static void memory_back(const struct bench *b, float *dS)
{
    const struct retention *s = b->s;
    const struct chi_kernels *kern = b->r->h->k;
    int64_t D = s->dim;

    for (int64_t t = b->g->rows - 1; t >= 0; t--) {
        const float *q = row_of(b, s->pre[Q], t), *k = row_of(b, s->pre[K], t), *v = row_of(b, s->pre[V], t);
        float *dk = row_of(b, s->dpre[K], t), *dv = row_of(b, s->dpre[V], t);
        memset(dv, 0, (size_t)D * sizeof(float));
        for (int64_t j = 0; j < D; j++) {
            kern->axpy(dS + j * D, q[j] * s->scale, row_of(b, s->dh, t), D);
            dk[j] = kern->dot(dS + j * D, v, D);
            kern->axpy(dv, k[j], dS + j * D, D);
        }
        turn_back(b, dS);
    }
}

static void backward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct bench b = make_bench(arg, i);
    const struct retention *s = b.s;
    size_t size = (size_t)(s->dim * s->dim) * sizeof(float);
    float *S = chi_take(scratch, size), *dS = chi_take(scratch, size);
    float *after = b.g->dstate ? CHI_DSTATE(b.g, s->S, float) + b.head * s->dim * s->dim : NULL;
    float *dw = CHI_ARRAY(b.r, s->part, float) + i / s->heads * 2 * s->inner + b.at, *db = dw + s->inner;

    b.n = chi_take(scratch, (size_t)s->dim * sizeof(float));
    memset(dw, 0, (size_t)s->dim * sizeof(float));
    memset(db, 0, (size_t)s->dim * sizeof(float));
    memcpy(S, CHI_STATE(b.g, s->S, float) + b.head * s->dim * s->dim, size);
    queries_back(&b, S, dw, db);
    if (after) memcpy(dS, after, size);
    else memset(dS, 0, size);
    memory_back(&b, dS);
    if (after) memcpy(after, dS, size);
}

static chi_status retention_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct retention *s = self;
    struct job j = { s, r };
    float *dh = CHI_ARRAY(r, s->dh, float);
    const float *dpre[N_IN];
    if (r->rows == 0) return CHI_OK;

    memset(dh, 0, (size_t)(r->rows * s->inner) * sizeof(float));
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &dy, dh);
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, r->n_seg * s->heads, backward_task, &j);
    for (int i = 0; i < N_IN; i++) dpre[i] = CHI_ARRAY(r, s->dpre[i], float);
    e = r->h->linears_back(s->in, N_IN, r, x, r->rows, dpre, dx);
    if (e != CHI_OK || !r->grads) return e;
    for (int64_t g = 0; g < r->n_seg; g++) {        /* in order, so that the sum is always the same */
        const float *part = CHI_ARRAY(r, s->part, float) + g * 2 * s->inner;
        r->h->k->axpy(CHI_GRAD(r, s->weight, float), 1, part, s->inner);
        r->h->k->axpy(CHI_GRAD(r, s->bias, float), 1, part + s->inner, s->inner);
    }
    return CHI_OK;
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct retention),
    .open = retention_open,
    .forward = retention_forward,
    .backward = retention_backward,
};

static const struct chi_component retention = {
    .struct_size = sizeof retention,
    .kind = CHI_LAYER,
    .name = "retention",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "linear attention whose memory turns and fades (RetNet)",
    .papers = "2307.08621",
    .options = options,
    .conf_size = sizeof(struct retention_conf),
    .check = check_conf,
    .ops = &ops,
};

CHI_PLUGIN(retention, .version = "1.0", .license = "MIT",
           .summary = "the retention mixer of RetNet",
           .components = CHI_COMPONENTS(&retention));
