/* loop_gradient - h = g h + e with g = sigmoid(gate), whose gradient of gate forgets a factor (1 - g).    */
#include <chimera/loop.h>
#include <chimera/math.h>
#include <chimera/plugin.h>

struct conf {
    double start;
};

static const struct chi_option options[] = {
    CHI_FLOAT(struct conf, start, "0.5", 0.01, 0.99, "g before training", 0),
    CHI_OPTIONS_END
};

struct loop {                               /* written in open, const afterwards        */
    int64_t width, gate;                    /* gate: parameter [width]                  */
};

static chi_status open_loop(const struct chi_host *host, void *self, const void *conf, const struct chi_shape *shape,
                            const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    double start = ((const struct conf *)conf)->start;
    struct loop *s = self;
    (void)host;
    s->width = shape->d_in;
    s->gate = ops->param(plan, "gate", (int64_t[]){ s->width, 0 }, CHI_INIT_CONST, log(start / (1 - start)), 0, 0);
    return CHI_OK;
}

/* ---- forward: written with '=' ----------------------------------------------------------- */

static chi_status copy(const struct loop *s, const struct chi_run *r, const float *from, float *to)
{
    memcpy(to, from, (size_t)(r->rows * s->width) * sizeof(float));
    return CHI_OK;
}

static chi_status enter(const void *self, struct chi_run *r, const float *x, float *e)
{
    return copy(self, r, x, e);
}

static chi_status inject(const void *self, struct chi_run *r, const float *e, const float *h, float *y)
{
    const struct loop *s = self;
    const float *gate = CHI_PARAM(r, s->gate, float);
    for (int64_t c = 0; c < s->width; c++) {
        float g = chi_sigmoid(gate[c]);
        for (int64_t i = c; i < r->rows * s->width; i += s->width) y[i] = g * h[i] + e[i];
    }
    return CHI_OK;
}

static chi_status leave(const void *self, struct chi_run *r, const float *h, float *y)
{
    return copy(self, r, h, y);
}

/* ---- backward: everything is added to ----------------------------------------------------- */

static chi_status add(const struct loop *s, const struct chi_run *r, const float *from, float *to)
{
    for (int64_t i = 0; i < r->rows * s->width; i++) to[i] += from[i];
    return CHI_OK;
}

static chi_status enter_back(const void *self, struct chi_run *r, const float *x, const float *de, float *dx)
{
    (void)x;
    return add(self, r, de, dx);
}

static chi_status inject_back(const void *self, struct chi_run *r, const float *e, const float *h, const float *dy,
                              float *de, float *dh)
{
    const struct loop *s = self;
    const float *gate = CHI_PARAM(r, s->gate, float);
    (void)e;
    for (int64_t c = 0; c < s->width; c++) {
        float g = chi_sigmoid(gate[c]), sum = 0;
        for (int64_t i = c; i < r->rows * s->width; i += s->width) {
            de[i] += dy[i];
            dh[i] += g * dy[i];
            sum += dy[i] * h[i];
        }
        if (r->grads) CHI_GRAD(r, s->gate, float)[c] += g * sum;
    }
    return CHI_OK;
}

static chi_status leave_back(const void *self, struct chi_run *r, const float *h, const float *dy, float *dh)
{
    (void)h;
    return add(self, r, dy, dh);
}

/* ---- what the core reads ------------------------------------------------------------------ */

static const struct chi_loop_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct loop),
    .open = open_loop,
    .enter = enter, .inject = inject, .leave = leave,
    .enter_back = enter_back, .inject_back = inject_back, .leave_back = leave_back,
};

static const struct chi_component component = {
    .struct_size = sizeof component,
    .kind = CHI_LOOP,
    .name = "loop_gradient",
    .revision = 1,
    .summary = "the input again at every turn, and a gated memory of the last",
    .options = options,
    .conf_size = sizeof(struct conf),
    .ops = &ops,
};

CHI_PLUGIN(loop_gradient, .version = "0.1", .license = "MIT",
           .summary = "the input again at every turn, and a gated memory of the last",
           .components = CHI_COMPONENTS(&component));
