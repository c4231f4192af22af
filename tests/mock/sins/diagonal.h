/* diagonal.h - a healthy adapter: y[o] += w[o] x[o mod d_in].  A mock defines NAME and, for a sin, what
 * forward does to y with a row's product, what backward takes for the slope, or where it looks.          */
#include <chimera/format.h>
#include <chimera/plugin.h>
#ifndef ADD
# define ADD(y, v) ((y) += (v))
#endif
#ifndef ADD_DX
# define ADD_DX(dx, v) ((dx) += (v))
#endif
#ifndef SLOPE
# define SLOPE(x) (x)
#endif
#ifndef ROW                             /* which row of x is read for row r of n                         */
# define ROW(r, n) (r)
#endif
#ifndef HELD
# define HELD 0
#endif

struct self { int64_t d_out, d_in, w, copy; };

static chi_status open(const struct chi_host *h, void *self, const void *conf, int64_t d_out, int64_t d_in,
                       const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    struct self *s = self;
    (void)h, (void)conf;
    *s = (struct self){ .d_out = d_out, .d_in = d_in };
    s->w = ops->param(plan, "w", (int64_t[]){ d_out, 0 }, CHI_INIT_ZERO, 0, 0, 0);
    s->copy = ops->array(plan, "copy", CHI_F32, d_out, CHI_PER_ROW, 0);
    return CHI_OK;
}

static chi_status forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct self *s = self;
    const float *w = CHI_PARAM(r, s->w, float);
    float *copy = CHI_ARRAY(r, s->copy, float);
    for (int64_t i = 0; i < r->rows; i++)
        for (int64_t o = 0; o < s->d_out; o++) {
            copy[i * s->d_out + o] = w[o] * x[(ROW(i, r->rows)) * s->d_in + o % s->d_in];
            ADD(y[i * s->d_out + o], copy[i * s->d_out + o]);
        }
#ifdef AFTER
    AFTER(copy, r->rows * s->d_out);
#endif
    return CHI_OK;
}

static chi_status backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct self *s = self;
    const float *w = CHI_PARAM(r, s->w, float);
    for (int64_t i = 0; i < r->rows; i++)
        for (int64_t o = 0; o < s->d_out; o++) {
            int64_t k = i * s->d_in + o % s->d_in;
            if (r->grads) CHI_GRAD(r, s->w, float)[o] += SLOPE(x[k]) * dy[i * s->d_out + o];
            if (dx) ADD_DX(dx[k], w[o] * dy[i * s->d_out + o]);
        }
    return CHI_OK;
}

static uint32_t steer(const void *self, double progress, const unsigned char *params, unsigned char *grads)
{
    (void)self, (void)params, (void)grads;
    return progress > 0.5 ? HELD : 0;
}

static const struct chi_adapter_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct self), .open = open, .forward = forward,
        .backward = backward,
    .steer = steer,
};
static const struct chi_component adapter = {
    .struct_size = sizeof adapter, .kind = CHI_ADAPTER, .name = NAME, .revision = 1,
        .summary = "a diagonal beside a linear",
    .ops = &ops,
};
CHI_EXPORT const struct chi_plugin chimera_plugin = {
    .magic = CHI_MAGIC, .abi_major = CHI_ABI_MAJOR, .abi_minor = CHI_ABI_MINOR, .struct_size = sizeof chimera_plugin,
    .layout = CHI_LAYOUT, .name = NAME, .version = "1.0", .license = "MIT", .summary = "a diagonal beside a linear",
    .components = CHI_COMPONENTS(&adapter),
};
