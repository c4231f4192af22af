/* healthy.h - a small layer without sin, for mocks that commit one by a macro.
 *
 *     s_t = a * s_{t-1} + x_t,   y_t = s_t,   elementwise; a is a parameter, s the state.
 *
 * A mock defines NAME and what it wants to be different, then includes this file:
 * OPEN, READY, FORWARD and BACKWARD are statements at the start of the operation, OPTIONS are
 * further rows of the table, MORE are members of the component.                            */
#include <chimera/plugin.h>
#include <string.h>

#ifndef OPEN
#define OPEN
#endif
#ifndef FORWARD
#define FORWARD
#endif
#ifndef BACKWARD
#define BACKWARD
#endif
#ifndef OPTIONS
#define OPTIONS
#endif
#ifndef MORE
#define MORE .summary = "a leaky sum of the past"
#endif
#ifndef SUMMARY
#define SUMMARY "a mock"
#endif

struct conf { int64_t width; double rate; bool flag; int32_t kind; struct chi_list list; };
struct leaky { int64_t d, a, s, sum, part; struct conf conf; };

static const struct chi_option options[] = {
    CHI_BOOL(struct conf, flag, "no", "a switch without meaning", 0),
    OPTIONS
    CHI_OPTIONS_END
};

static chi_status leaky_open(const struct chi_host *h, void *self, const void *conf, const struct chi_shape *shape,
                             const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    struct leaky *l = self;
    l->conf = *(const struct conf *)conf;
    l->d = shape->d_in;
    (void)h;
    OPEN
    l->a = ops->param(plan, "a", (int64_t[]){ l->d, 0 }, CHI_INIT_CONST, 0.5, 0, 0);
    l->s = ops->state(plan, "s", CHI_F32, l->d);
    l->sum = ops->array(plan, "sum", CHI_F32, l->d, CHI_PER_ROW, CHI_ARRAY_KEEP);
    l->part = ops->array(plan, "part", CHI_F32, l->d, CHI_PER_SEG, 0);
    return CHI_OK;
}

static chi_status leaky_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct leaky *l = self;
    const float *a = CHI_PARAM(r, l->a, float);
    FORWARD
    for (int64_t i = 0; i < r->n_seg; i++) {
        float *s = CHI_STATE(&r->seg[i], l->s, float);
        for (int64_t t = r->seg[i].first; t < r->seg[i].first + r->seg[i].rows; t++)
            for (int64_t c = 0; c < l->d; c++) {
                s[c] = a[c] * s[c] + x[t * l->d + c];
                CHI_ARRAY(r, l->sum, float)[t * l->d + c] = y[t * l->d + c] = s[c];
            }
    }
    return CHI_OK;
}

/* ds is d loss/d s_t; s before the segment's first row is the state                       */
static chi_status leaky_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct leaky *l = self;
    const float *a = CHI_PARAM(r, l->a, float), *sum = CHI_ARRAY(r, l->sum, float);
    (void)x;
    BACKWARD
    for (int64_t i = 0; i < r->n_seg; i++) {
        const struct chi_segment *g = &r->seg[i];
        float *da = CHI_ARRAY(r, l->part, float) + i * l->d;
        for (int64_t c = 0; c < l->d; c++) {
            float ds = g->dstate ? CHI_DSTATE(g, l->s, float)[c] : 0;
            da[c] = 0;
            for (int64_t t = g->first + g->rows - 1; t >= g->first; t--) {
                float before = t > g->first ? sum[(t - 1) * l->d + c] : CHI_STATE(g, l->s, float)[c];
                ds += dy[t * l->d + c];
                dx[t * l->d + c] += ds;
                da[c] += ds * before;
                ds *= a[c];
            }
            if (g->dstate) CHI_DSTATE(g, l->s, float)[c] = ds;
        }
    }
    if (r->grads) r->h->reduce(r->h, CHI_GRAD(r, l->a, float), CHI_ARRAY(r, l->part, float), r->n_seg, l->d);
    return CHI_OK;
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct leaky), .open = leaky_open, .forward = leaky_forward,
    .backward = leaky_backward,
};

static const struct chi_component layer = {
    .struct_size = sizeof layer, .kind = CHI_LAYER, .name = "leaky", .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE, .options = options, .conf_size = sizeof(struct conf),
    .ops = &ops, MORE,
};

/* One more macro, so that NAME is replaced before it becomes text                         */
#define HEALTHY(n) CHI_PLUGIN(n, .version = "1.0", .license = "MIT", .summary = SUMMARY, .components = CHI_COMPONENTS(&layer))
HEALTHY(NAME);
