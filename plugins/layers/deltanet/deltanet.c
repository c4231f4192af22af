/* deltanet.c - DeltaNet (arXiv 2406.06484), the control for gated_deltanet's decay: the
 * same memory of shared/delta.h, which corrects itself but never forgets.        */
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
    CHI_BOOL(struct delta_conf, use_gate, "no",
             "multiply the normed output by silu(W_g x), as gated_deltanet does", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

static chi_status delta_open(const struct chi_host *host, void *self, const void *conf,
                             const struct chi_shape *shape, const struct chi_plan_ops *ops,
                             struct chi_plan *plan)
{
    const struct delta_conf *c = conf;
    (void)host;
    return delta_plan(self, c, (struct delta_parts){ .gate = c->use_gate }, shape, ops, plan);
}

static const struct chi_component deltanet = {
    .struct_size = sizeof deltanet,
    .kind = CHI_LAYER,
    .name = "deltanet",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "delta rule without decay: a matrix memory that only corrects itself",
    .papers = "2406.06484 2411.12537",
    .options = options,
    .conf_size = sizeof(struct delta_conf),
    .ops = &delta_ops,
};

CHI_PLUGIN(deltanet, .version = "1.0", .license = "MIT",
           .summary = "delta rule mixer without decay",
           .components = CHI_COMPONENTS(&deltanet));
