/* span_knot.c - the recurrent half of the span knot: the memory of shared/delta.h, with
 * the delta rule's step taken exactly (EFLA, arXiv 2512.12602) if efla = yes.  The
 * discrete half, which would come in through sketch, is not built.               */
#include "../shared/delta_back.h"

static const struct chi_option options[] = {
    CHI_INT(struct delta_conf, num_heads, "4", 1, 1024, "number of heads", CHI_OPT_SHAPE),
    CHI_INT(struct delta_conf, head_dim, "64", 1, 1024,
            "channels of a head: keys, values and one side of its state", CHI_OPT_SHAPE),
    CHI_INT(struct delta_conf, conv_size, "4", 1, 16,
            "taps of the short causal convolution of q, k and v", CHI_OPT_SHAPE),
    CHI_BOOL(struct delta_conf, allow_neg_eigval, "no",
             "let beta reach 2, so that a write can flip the sign of what it meets "
             "(arXiv 2411.12537)", CHI_OPT_SHAPE),
    CHI_BOOL(struct delta_conf, efla, "no",
             "keys keep their length and beta becomes (1 - exp(-beta |k|^2)) / |k|^2 "
             "(arXiv 2512.12602)", CHI_OPT_SHAPE),
    CHI_BOOL(struct delta_conf, sketch, "no",
             "add the sketch of the span knot to the output; needs the knot, so only no works",
             CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

static chi_status delta_open(const struct chi_host *host, void *self, const void *conf,
                             const struct chi_shape *shape, const struct chi_plan_ops *ops,
                             struct chi_plan *plan)
{
    const struct delta_conf *c = conf;
    if (c->sketch)
        return host->fail(host, CHI_ECONF, "sketch = yes needs the span knot's sketch of the stream, which this "
                          "version does not have - leave sketch = no");
    return delta_plan(self, c, (struct delta_parts){ .decay = true, .gate = true, .efla = c->efla }, shape, ops,
                      plan);
}

static const struct chi_component span_knot = {
    .struct_size = sizeof span_knot,
    .kind = CHI_LAYER,
    .name = "span_knot",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "gated delta rule or its exact step (EFLA), the input of the knot",
    .papers = "2412.06464 2512.12602",
    .options = options,
    .conf_size = sizeof(struct delta_conf),
    .ops = &delta_ops,
};

CHI_PLUGIN(span_knot, .version = "1.0", .license = "MIT",
           .summary = "gated delta rule with EFLA",
           .components = CHI_COMPONENTS(&span_knot));
