/* @name@.c - what is added to a linear, in formulas; why; the source.
 *
 * This one adds a bias, which the linears of Chimera have not:
 *
 *     y += s b          b[d_out], zero at the start; s a number
 *
 * Source: (paper, arXiv number, equation).  Gradients, with D = d loss / d y:
 *
 *     db += s (sum over rows of D)
 *
 * The linear's own product is there when forward() comes; its gradients are the core's.     */
#include <chimera/format.h>
#include <chimera/plugin.h>

struct conf {                               /* what [adapter.@name@] says               */
    double size;
};

static const struct chi_option options[] = {
    CHI_FLOAT(struct conf, size, "1", 0, 1e6, "what the bias is multiplied with", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

struct adapter {                            /* written in open, const afterwards        */
    int64_t d_out, b;                       /* b: parameter [d_out]                     */
    float   s;
};

static chi_status open_adapter(const struct chi_host *host, void *self, const void *conf, int64_t d_out, int64_t d_in,
                               const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    struct adapter *a = self;
    (void)host;                             /* host->fail() explains what is refused    */
    (void)d_in;
    a->d_out = d_out;
    a->s = (float)((const struct conf *)conf)->size;
    a->b = ops->param(plan, "b", (int64_t[]){ d_out, 0 }, CHI_INIT_ZERO, 0, 0, 0);
    return CHI_OK;
}

/* y is added to.  A row's bits depend on that row alone: k->dot and k->axpy promise that too */
static chi_status forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct adapter *a = self;
    (void)x;
    for (int64_t i = 0; i < r->rows; i++) r->h->k->axpy(y + i * a->d_out, a->s, CHI_PARAM(r, a->b, float), a->d_out);
    return CHI_OK;
}

/* dx, if there is one, and gradients are added to, rows in order                            */
static chi_status backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct adapter *a = self;
    (void)x;
    (void)dx;                               /* b does not depend on x                   */
    if (!r->grads) return CHI_OK;
    for (int64_t i = 0; i < r->rows; i++) r->h->k->axpy(CHI_GRAD(r, a->b, float), a->s, dy + i * a->d_out, a->d_out);
    return CHI_OK;
}

static const struct chi_adapter_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct adapter),
    .open = open_adapter,
    .forward = forward,
    .backward = backward,
};

static const struct chi_component component = {
    .struct_size = sizeof component,
    .kind = CHI_ADAPTER,
    .name = "@name@",
    .revision = 1,                          /* raise it when parameters change meaning  */
    .summary = "a bias beside a linear",
    .options = options,
    .conf_size = sizeof(struct conf),
    .ops = &ops,
};

CHI_PLUGIN(@name@, .version = "0.1", .license = "MIT", .summary = "a bias beside a linear",
           .components = CHI_COMPONENTS(&component));
