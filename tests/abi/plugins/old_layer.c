/* old_layer.c - what the layer computes, in formulas; why; where it comes from.
 *
 * This one is an exponential moving average of each channel, then a matrix (of a row x_t):
 *
 *     h_t = a h_{t-1} + (1 - a) x_t,  a = sigmoid(decay)        h before the first row is 0
 *     y_t = W h_t
 *
 * Source: (paper, arXiv number, equation).  Gradients, with D_t = d loss / d h_t in all:
 *
 *     D_t = W' dy_t + a D_{t+1};   dx_t = (1 - a) D_t;   d decay = a (1 - a) sum_t D_t (h_{t-1} - x_t)
 *
 * A task is one segment, since rows of one stream depend on each other and streams do not.  */
#include <chimera/math.h>
#include <chimera/plugin.h>

struct conf {                               /* what [layer.X] says; the core fills it   */
    double horizon;
};

static const struct chi_option options[] = {
    CHI_FLOAT(struct conf, horizon, "32", 2, 1e6, "tokens after which the start has faded to 1/e, before training",
              0),
    CHI_OPTIONS_END
};

struct layer {                              /* written in open, const afterwards        */
    int64_t width;
    const struct chi_linear *out;           /* W [d_out, width]                         */
    int64_t decay;                          /* parameter [width]                        */
    int64_t state;                          /* h of the last row [width]                */
    int64_t h;                              /* array [rows][width], kept for backward   */
    int64_t dh, part;                       /* training: [rows][width], [seg][width]    */
};

static chi_status open_layer(const struct chi_host *host, void *self, const void *conf,
                             const struct chi_shape *shape, const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    const struct conf *c = conf;
    struct layer *s = self;
    int64_t n = s->width = shape->d_in;
    (void)host;                             /* host->fail() explains what is refused    */

    s->out   = ops->linear(plan, "o_proj", shape->d_out, n, 0);
    s->decay = ops->param(plan, "decay", (int64_t[]){ n, 0 }, CHI_INIT_CONST, log(c->horizon - 1), 0, 0);
    s->state = ops->state(plan, "h", CHI_F32, n);
    s->h     = ops->array(plan, "h", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    if (!shape->training) return CHI_OK;
    s->dh    = ops->array(plan, "dh", CHI_F32, n, CHI_PER_ROW, 0);
    s->part  = ops->array(plan, "part", CHI_F32, n, CHI_PER_SEG, 0);
    return CHI_OK;
}

struct job {                                /* what all tasks of a call share           */
    const struct layer *s;
    struct chi_run *r;
    const float *x;
    float *dx;
};

/* ---- forward -------------------------------------------------------------------------- */

static void forward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct chi_segment *g = &j->r->seg[i];
    int64_t n = j->s->width;
    const float *decay = CHI_PARAM(j->r, j->s->decay, float), *x = j->x + g->first * n;
    float *state = CHI_STATE(g, j->s->state, float), *h = CHI_ARRAY(j->r, j->s->h, float) + g->first * n;
    (void)scratch;

    for (int64_t c = 0; c < n; c++) {
        float a = chi_sigmoid(decay[c]), last = state[c];
        for (int64_t t = 0; t < g->rows; t++) h[t * n + c] = last = a * last + (1 - a) * x[t * n + c];
        state[c] = last;
    }
}

static chi_status forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct layer *s = self;
    struct job j = { .s = s, .r = r, .x = x };
    r->h->parallel(r->h, r->n_seg, forward_task, &j);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

/* ---- backward: everything is added to, except dstate, which goes from after to before ---- */

static void backward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct chi_segment *g = &j->r->seg[i];
    int64_t n = j->s->width, at = g->first * n;
    const float *decay = CHI_PARAM(j->r, j->s->decay, float), *x = j->x + at;
    const float *before = CHI_STATE(g, j->s->state, float), *h = CHI_ARRAY(j->r, j->s->h, float) + at;
    const float *dh = CHI_ARRAY(j->r, j->s->dh, float) + at;
    float *dstate = g->dstate ? CHI_DSTATE(g, j->s->state, float) : NULL;
    float *part = CHI_ARRAY(j->r, j->s->part, float) + i * n, *dx = j->dx + at;
    (void)scratch;

    for (int64_t c = 0; c < n; c++) {
        float a = chi_sigmoid(decay[c]), d = dstate ? dstate[c] : 0, da = 0;
        for (int64_t t = g->rows - 1; t >= 0; t--) {
            float last = t ? h[(t - 1) * n + c] : before[c];
            d += dh[t * n + c];
            dx[t * n + c] += (1 - a) * d;
            da += d * (last - x[t * n + c]);
            d *= a;
        }
        part[c] = da * a * (1 - a);
        if (dstate) dstate[c] = d;
    }
}

static chi_status backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct layer *s = self;
    struct job j = { .s = s, .r = r, .x = x, .dx = dx };
    float *dh = CHI_ARRAY(r, s->dh, float);

    memset(dh, 0, (size_t)(r->rows * s->width) * sizeof(float));    /* linears_back() adds to it */
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &dy, dh);
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, r->n_seg, backward_task, &j);
    /* Sums over segments in a fixed order: the same bits for any number of threads             */
    if (r->grads)
        r->h->reduce(r->h, CHI_GRAD(r, s->decay, float), CHI_ARRAY(r, s->part, float), r->n_seg, s->width);
    return CHI_OK;
}

/* ---- what the core reads ------------------------------------------------------------------ */

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct layer),
    .open = open_layer,
    .forward = forward,
    .backward = backward,
};

static const struct chi_component component = {
    .struct_size = sizeof component,
    .kind = CHI_LAYER,
    .name = "old_layer",
    .revision = 1,                          /* raise it when parameters or state change meaning */
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "moving average of each channel, then a matrix",
    .options = options,
    .conf_size = sizeof(struct conf),
    .ops = &ops,
};

CHI_PLUGIN(old_layer, .version = "0.1", .license = "MIT",
           .summary = "moving average of each channel, then a matrix",
           .components = CHI_COMPONENTS(&component));
