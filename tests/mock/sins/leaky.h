/* leaky.h - a healthy small layer, in which the mocks of this folder that include it commit a sin:
 *
 *     h_t = a h_(t-1) + x_t,  a = sigmoid(decay)        y_t = W h_t
 *
 * A mock defines some of the macros below before it includes this file; each stands at the place
 * that its name tells and does nothing by default.                                        */
#ifndef LEAKY_H
#define LEAKY_H

#include <chimera/math.h>
#include <chimera/plugin.h>

#ifndef NAME
# define NAME "leaky"
#endif
#ifndef IN_FORWARD                      /* self, r, x, y; after the results are there      */
# define IN_FORWARD
#endif
#ifndef IN_STEP                         /* the same for step                               */
# define IN_STEP
#endif
#ifndef IN_BACKWARD                     /* self, r, x, dy, dx                              */
# define IN_BACKWARD
#endif
#ifndef IN_TASK                         /* j, i, s: a task of forward, before it works     */
# define IN_TASK
#endif
#ifndef BACK_TASK_END                   /* j, i, part: a task of backward, when it is done */
# define BACK_TASK_END
#endif
#ifndef ON_VALUE                        /* v: a value of h that is about to be kept        */
# define ON_VALUE(v)
#endif
#ifndef SCRATCH                         /* bytes that open() announces                     */
# define SCRATCH(d) ((d) * 4 + 64)
#endif
#ifndef H_FLAGS                         /* of the array h                                  */
# define H_FLAGS CHI_ARRAY_KEEP
#endif
#ifndef LINEAR_SCALE                    /* y = W (h scale) / scale, with scale a power of 2 */
# define LINEAR_SCALE 1.0f
#endif
#ifndef DECAY                           /* a                                               */
# define DECAY(p) chi_sigmoid(p)
#endif

struct leaky {
    int64_t d, decay, state, h, u, dh, du, part, calls;
    const struct chi_linear *out;
};

struct job { const struct leaky *s; struct chi_run *r; float *dx; };

static chi_status leaky_open(const struct chi_host *host, void *self, const void *conf, const struct chi_shape *shape,
                             const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    struct leaky *s = self;
    int64_t d = s->d = shape->d_in;
    (void)host, (void)conf;
    s->decay = ops->param(plan, "decay", (int64_t[]){ d, 0 }, CHI_INIT_CONST, 1, 0, 0);
    s->state = ops->state(plan, "h", CHI_F32, d);
    s->h     = ops->array(plan, "h", CHI_F32, d, CHI_PER_ROW, H_FLAGS);
    s->u     = ops->array(plan, "u", CHI_F32, d, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->du    = ops->array(plan, "du", CHI_F32, d, CHI_PER_ROW, 0);
    s->dh    = ops->array(plan, "dh", CHI_F32, d, CHI_PER_ROW, 0);
    s->part  = ops->array(plan, "part", CHI_F32, d, CHI_PER_SEG, 0);
    s->out   = ops->linear(plan, "out", shape->d_out, d, 0);
    ops->scratch(plan, SCRATCH(d));
    return CHI_OK;
}

/* A segment; the scratch holds a                                                          */
static void forward_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct job *j = arg;
    const struct chi_segment *g = &j->r->seg[i];
    int64_t d = j->s->d;
    const float *p = CHI_PARAM(j->r, j->s->decay, float), *x = j->dx;
    float *u = CHI_ARRAY(j->r, j->s->u, float);
    float *h = CHI_ARRAY(j->r, j->s->h, float), *state = CHI_STATE(g, j->s->state, float);
    float *a = chi_take(s, (size_t)d * sizeof *a);
    for (int64_t c = 0; c < d; c++) a[c] = DECAY(p[c]);
    IN_TASK
    for (int64_t t = g->first; t < g->first + g->rows; t++)
        for (int64_t c = 0; c < d; c++) {
            float v = a[c] * state[c] + x[t * d + c];
            ON_VALUE(v)
            h[t * d + c] = state[c] = v;
            u[t * d + c] = v * LINEAR_SCALE;
        }
}

static chi_status leaky_run(const struct leaky *s, struct chi_run *r, const float *x, float *y)
{
    struct job j = { s, r, (float *)(uintptr_t)x };
    r->h->parallel(r->h, r->n_seg, forward_task, &j);
    chi_status e = r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->u, float), r->rows, &y);
    for (int64_t i = 0; i < r->rows * s->d; i++) y[i] /= LINEAR_SCALE;
    return e;
}

static chi_status leaky_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    chi_status e = leaky_run(self, r, x, y);
    IN_FORWARD
    return e;
}

static chi_status leaky_step(const void *self, struct chi_run *r, const float *x, float *y)
{
    chi_status e = leaky_run(self, r, x, y);
    IN_STEP
    return e;
}

static void backward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct chi_segment *g = &j->r->seg[i];
    int64_t d = j->s->d;
    const float *p = CHI_PARAM(j->r, j->s->decay, float), *h = CHI_ARRAY(j->r, j->s->h, float);
    float *dh = CHI_ARRAY(j->r, j->s->dh, float), *part = CHI_ARRAY(j->r, j->s->part, float) + i * d;
    float *ds = g->dstate ? CHI_DSTATE(g, j->s->state, float) : NULL;
    (void)scratch;
    for (int64_t c = 0; c < d; c++) {
        float a = DECAY(p[c]), back = ds ? ds[c] : 0, sum = 0;
        for (int64_t t = g->first + g->rows - 1; t >= g->first; t--) {
            float was = t > g->first ? h[(t - 1) * d + c] : CHI_STATE(g, j->s->state, float)[c];
            back += dh[t * d + c];
            j->dx[t * d + c] += back;
            sum += back * was;
            back *= a;
        }
        if (ds) ds[c] = back;
        part[c] = sum * a * (1 - a);
    }
    BACK_TASK_END
}

static chi_status leaky_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct leaky *s = self;
    struct job j = { s, r, dx };
    float *dh = CHI_ARRAY(r, s->dh, float), *du = CHI_ARRAY(r, s->du, float);
    const float *out = du;
    (void)x;
    for (int64_t i = 0; i < r->rows * s->d; i++) dh[i] = 0, du[i] = dy[i] / LINEAR_SCALE;
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->u, float), r->rows, &out, dh);
    for (int64_t i = 0; i < r->rows * s->d; i++) dh[i] *= LINEAR_SCALE;
    r->h->parallel(r->h, r->n_seg, backward_task, &j);
#ifndef NO_REDUCE
    if (r->grads) r->h->reduce(r->h, CHI_GRAD(r, s->decay, float), CHI_ARRAY(r, s->part, float), r->n_seg, s->d);
#endif
    IN_BACKWARD
    return e;
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct leaky), .open = leaky_open, .forward = leaky_forward,
    .step = leaky_step, .backward = leaky_backward,
};
static const struct chi_component layer = {
    .struct_size = sizeof layer, .kind = CHI_LAYER, .name = NAME, .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE, .summary = "a sum that leaks", .ops = &ops,
};
CHI_EXPORT const struct chi_plugin chimera_plugin = {
    .magic = CHI_MAGIC, .abi_major = CHI_ABI_MAJOR, .abi_minor = CHI_ABI_MINOR, .struct_size = sizeof chimera_plugin,
    .layout = CHI_LAYOUT, .name = NAME, .version = "1.0", .license = "MIT", .summary = "a sum that leaks",
    .components = CHI_COMPONENTS(&layer),
};

#endif
