/* causal_conv.c - a mixer without memory beyond its taps: a gated causal convolution.
 *
 *     y = W_o (conv(W_v x) * silu(W_g x))
 *
 * The control that tells how much of a recurrent layer is its short convolution.  The
 * convolution is depthwise (one filter a channel, as WaveNet's are causal, arXiv
 * 1609.03499), the gate is that of gated_deltanet's output.                      */
#include "../shared/causal.h"

enum { V, G, N_IN };
enum { ROWS_A_TASK = 16 };

struct causal_conv {
    struct causal conv;
    int64_t channels;
    const struct chi_linear *in[N_IN], *out;
    int64_t pre[N_IN], dpre[N_IN], c, dc, h, dh;    /* arrays                     */
};

struct causal_conv_conf { int64_t channels, conv_size; };

static const struct chi_option options[] = {
    CHI_INT(struct causal_conv_conf, channels, "0", 0, 1048576,
            "channels of the convolution; 0: as many as its input", CHI_OPT_SHAPE),
    CHI_INT(struct causal_conv_conf, conv_size, "4", 1, 256, "taps, the current token included", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

static chi_status conv_open(const struct chi_host *host, void *self, const void *conf,
                            const struct chi_shape *shape, const struct chi_plan_ops *ops,
                            struct chi_plan *plan)
{
    static const char *const linear[] = { "v_proj", "g_proj" };
    static const char *const name[] = { "v", "g" }, *const dname[] = { "dv", "dg" };
    const struct causal_conv_conf *c = conf;
    struct causal_conv *s = self;
    (void)host;

    s->channels = c->channels ? c->channels : shape->d_in;
    s->conv = (struct causal){ .channels = s->channels, .taps = c->conv_size };
    for (int i = 0; i < N_IN; i++) {
        s->in[i]  = ops->linear(plan, linear[i], s->channels, shape->d_in, 0);
        s->pre[i] = ops->array(plan, name[i], CHI_F32, s->channels, CHI_PER_ROW, CHI_ARRAY_KEEP);
        if (shape->training) s->dpre[i] = ops->array(plan, dname[i], CHI_F32, s->channels, CHI_PER_ROW, 0);
    }
    s->out = ops->linear(plan, "o_proj", shape->d_out, s->channels, 0);
    causal_open(&s->conv, "conv1d.weight", NULL, ops, plan, shape->training);
    s->c = ops->array(plan, "c", CHI_F32, s->channels, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->h = ops->array(plan, "h", CHI_F32, s->channels, CHI_PER_ROW, 0);
    if (!shape->training) return CHI_OK;
    s->dc = ops->array(plan, "dc", CHI_F32, s->channels, CHI_PER_ROW, 0);
    s->dh = ops->array(plan, "dh", CHI_F32, s->channels, CHI_PER_ROW, 0);
    return CHI_OK;
}

struct gate_job { const struct causal_conv *s; struct chi_run *r; };

static int64_t values_of_task(const struct gate_job *j, int64_t i)
{
    int64_t left = j->r->rows - i * ROWS_A_TASK;
    return (left < ROWS_A_TASK ? left : ROWS_A_TASK) * j->s->channels;
}

/* h = c silu(g)                                                                  */
static void gate_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct gate_job *j = arg;
    int64_t at = i * ROWS_A_TASK * j->s->channels;
    (void)scratch;
    j->r->h->k->silu_mul(CHI_ARRAY(j->r, j->s->h, float) + at, CHI_ARRAY(j->r, j->s->pre[G], float) + at,
                         CHI_ARRAY(j->r, j->s->c, float) + at, values_of_task(j, i));
}

/* dc = dh silu(g);  dg = dh c silu'(g)                                           */
static void gate_back_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct gate_job *j = arg;
    int64_t n = values_of_task(j, i), at = i * ROWS_A_TASK * j->s->channels;
    const float *g = CHI_ARRAY(j->r, j->s->pre[G], float) + at, *c = CHI_ARRAY(j->r, j->s->c, float) + at;
    const float *dh = CHI_ARRAY(j->r, j->s->dh, float) + at;
    float *dg = CHI_ARRAY(j->r, j->s->dpre[G], float) + at;
    (void)scratch;
    j->r->h->k->silu_mul(CHI_ARRAY(j->r, j->s->dc, float) + at, g, dh, n);
    for (int64_t k = 0; k < n; k++) dg[k] = dh[k] * c[k];
    j->r->h->k->silu_back(dg, g, dg, n);
}

static void each_row_block(const struct causal_conv *s, struct chi_run *r, chi_task *task)
{
    struct gate_job j = { s, r };
    r->h->parallel(r->h, (r->rows + ROWS_A_TASK - 1) / ROWS_A_TASK, task, &j);
}

static chi_status conv_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct causal_conv *s = self;
    float *pre[N_IN] = { CHI_ARRAY(r, s->pre[V], float), CHI_ARRAY(r, s->pre[G], float) };
    if (r->rows == 0) return CHI_OK;

    chi_status e = r->h->linears(s->in, N_IN, r, x, r->rows, pre);
    if (e != CHI_OK) return e;
    causal_forward(&s->conv, r, pre[V], s->channels, CHI_ARRAY(r, s->c, float), s->channels);
    each_row_block(s, r, gate_task);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

static chi_status conv_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct causal_conv *s = self;
    const float *dpre[N_IN] = { CHI_ARRAY(r, s->dpre[V], float), CHI_ARRAY(r, s->dpre[G], float) };
    if (r->rows == 0) return CHI_OK;

    each_row_block(s, r, gate_task);
    zero(CHI_ARRAY(r, s->dh, float), r->rows * s->channels);
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &dy,
                                      CHI_ARRAY(r, s->dh, float));
    if (e != CHI_OK) return e;
    each_row_block(s, r, gate_back_task);
    causal_backward(&s->conv, r, CHI_ARRAY(r, s->pre[V], float), CHI_ARRAY(r, s->dpre[V], float), s->channels,
                    CHI_ARRAY(r, s->dc, float), s->channels);
    return r->h->linears_back(s->in, N_IN, r, x, r->rows, dpre, dx);
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct causal_conv),
    .open = conv_open,
    .forward = conv_forward,
    .backward = conv_backward,
};

static const struct chi_component causal_conv = {
    .struct_size = sizeof causal_conv,
    .kind = CHI_LAYER,
    .name = "causal_conv",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "gated causal convolution: no memory beyond its taps",
    .papers = "1609.03499",
    .options = options,
    .conf_size = sizeof(struct causal_conv_conf),
    .ops = &ops,
};

CHI_PLUGIN(causal_conv, .version = "1.0", .license = "MIT",
           .summary = "gated causal convolution mixer",
           .components = CHI_COMPONENTS(&causal_conv));
