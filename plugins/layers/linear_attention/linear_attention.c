/* linear_attention.c - linear attention (Katharopoulos et al., arXiv 2006.16236): the
 * control without delta rule, decay, convolution and gate.
 *
 *     phi(x) = elu(x) + 1
 *     S = S + v phi(k)';  z = z + phi(k)
 *     y = W_o (S phi(q) / (<z, phi(q)> + 1e-6))
 *
 * normalised by the sum of the weights, as in that paper.  The memory is in
 * shared/hebb.h; z is its last row.                                              */
#include <chimera/math.h>
#include "../shared/hebb.h"

enum { Q, K, V, N_IN };

struct linear_attention {
    struct hebb memory;
    int64_t heads, dim, inner;
    const struct chi_linear *in[N_IN], *out;
    int64_t pre[N_IN], dpre[N_IN], h, dh;       /* arrays                         */
};

struct linear_attention_conf { int64_t num_heads, head_dim; };

static const struct chi_option options[] = {
    CHI_INT(struct linear_attention_conf, num_heads, "4", 1, 1024, "number of heads", CHI_OPT_SHAPE),
    CHI_INT(struct linear_attention_conf, head_dim, "64", 1, 1024,
            "channels of a head: keys, values and one side of its state", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

static const float SUM_EPS = 1e-6f;

static void feature(float *y, const float *x, int64_t n)
{
    for (int64_t j = 0; j < n; j++) y[j] = x[j] > 0 ? x[j] + 1 : chi_exp(x[j]);
}

/* phi' is 1 above 0, and phi itself below                                        */
static void feature_back(float *dx, const float *dy, const float *x, const float *y, int64_t n)
{
    for (int64_t j = 0; j < n; j++) dx[j] = x[j] > 0 ? dy[j] : dy[j] * y[j];
}

static void prepare(struct hebb_chunk *c)
{
    const struct linear_attention *s = c->layer;
    int64_t D = s->dim;
    for (int64_t t = 0; t < c->n; t++) {
        feature(c->q + t * D, hebb_at(c, s->pre[Q], t, D), D);
        feature(c->k + t * D, hebb_at(c, s->pre[K], t, D), D);
        copy(c->v + t * (D + 1), hebb_at(c, s->pre[V], t, D), D);
        c->v[t * (D + 1) + D] = 1;
        c->a[t] = c->b[t] = 1;
    }
}

static void finish(struct hebb_chunk *c)
{
    const struct linear_attention *s = c->layer;
    int64_t D = s->dim;
    for (int64_t t = 0; t < c->n; t++) {
        const float *o = c->o + t * (D + 1);
        float *h = hebb_at(c, s->h, t, D), factor = 1 / (o[D] + SUM_EPS);
        for (int64_t j = 0; j < D; j++) h[j] = o[j] * factor;
    }
}

/* h = o / (r + eps):  do = dh / (r + eps);  dr = -<do, h>                        */
static void finish_back(struct hebb_chunk *c)
{
    const struct linear_attention *s = c->layer;
    int64_t D = s->dim;
    for (int64_t t = 0; t < c->n; t++) {
        const float *o = c->o + t * (D + 1), *dh = hebb_at(c, s->dh, t, D);
        float *dout = c->dout + t * (D + 1), factor = 1 / (o[D] + SUM_EPS);
        for (int64_t j = 0; j < D; j++) dout[j] = dh[j] * factor;
        dout[D] = -c->r->h->k->dot(dout, o, D) * factor;
    }
}

static void prepare_back(struct hebb_chunk *c)
{
    const struct linear_attention *s = c->layer;
    int64_t D = s->dim;
    for (int64_t t = 0; t < c->n; t++) {
        feature_back(hebb_at(c, s->dpre[Q], t, D), c->dq + t * D, hebb_at(c, s->pre[Q], t, D), c->q + t * D, D);
        feature_back(hebb_at(c, s->dpre[K], t, D), c->dk + t * D, hebb_at(c, s->pre[K], t, D), c->k + t * D, D);
        copy(hebb_at(c, s->dpre[V], t, D), c->dv + t * (D + 1), D);
    }
}

static const struct hebb_ops memory_ops = {
    .prepare = prepare, .finish = finish, .finish_back = finish_back, .prepare_back = prepare_back,
};

static chi_status la_open(const struct chi_host *host, void *self, const void *conf,
                          const struct chi_shape *shape, const struct chi_plan_ops *ops,
                          struct chi_plan *plan)
{
    static const char *const linear[] = { "q_proj", "k_proj", "v_proj" };
    static const char *const name[] = { "q", "k", "v" }, *const dname[] = { "dq", "dk", "dv" };
    const struct linear_attention_conf *c = conf;
    struct linear_attention *s = self;
    (void)host;

    s->heads  = c->num_heads;
    s->dim    = c->head_dim;
    s->inner  = s->heads * s->dim;
    s->memory = (struct hebb){ .ops = &memory_ops, .heads = s->heads, .dk = s->dim, .dv = s->dim + 1 };
    for (int i = 0; i < N_IN; i++) {
        s->in[i]  = ops->linear(plan, linear[i], s->inner, shape->d_in, 0);
        s->pre[i] = ops->array(plan, name[i], CHI_F32, s->inner, CHI_PER_ROW, CHI_ARRAY_KEEP);
        if (shape->training) s->dpre[i] = ops->array(plan, dname[i], CHI_F32, s->inner, CHI_PER_ROW, 0);
    }
    s->out = ops->linear(plan, "o_proj", shape->d_out, s->inner, 0);
    s->h   = ops->array(plan, "h", CHI_F32, s->inner, CHI_PER_ROW, 0);
    if (shape->training) s->dh = ops->array(plan, "dh", CHI_F32, s->inner, CHI_PER_ROW, 0);
    hebb_open(&s->memory, ops, plan, shape->training);
    return CHI_OK;
}

static chi_status la_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct linear_attention *s = self;
    float *pre[N_IN];
    if (r->rows == 0) return CHI_OK;

    for (int i = 0; i < N_IN; i++) pre[i] = CHI_ARRAY(r, s->pre[i], float);
    chi_status e = r->h->linears(s->in, N_IN, r, x, r->rows, pre);
    if (e != CHI_OK) return e;
    hebb_forward(&s->memory, s, r);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

static chi_status la_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct linear_attention *s = self;
    const float *dpre[N_IN];
    if (r->rows == 0) return CHI_OK;

    hebb_finish_again(&s->memory, s, r);
    zero(CHI_ARRAY(r, s->dh, float), r->rows * s->inner);
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &dy,
                                      CHI_ARRAY(r, s->dh, float));
    if (e != CHI_OK) return e;
    hebb_backward(&s->memory, s, r);
    for (int i = 0; i < N_IN; i++) dpre[i] = CHI_ARRAY(r, s->dpre[i], float);
    return r->h->linears_back(s->in, N_IN, r, x, r->rows, dpre, dx);
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct linear_attention),
    .open = la_open,
    .forward = la_forward,
    .backward = la_backward,
};

static const struct chi_component linear_attention = {
    .struct_size = sizeof linear_attention,
    .kind = CHI_LAYER,
    .name = "linear_attention",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "linear attention with elu + 1, normalised by the sum of its weights",
    .papers = "2006.16236",
    .options = options,
    .conf_size = sizeof(struct linear_attention_conf),
    .ops = &ops,
};

CHI_PLUGIN(linear_attention, .version = "1.0", .license = "MIT",
           .summary = "linear attention mixer",
           .components = CHI_COMPONENTS(&linear_attention));
