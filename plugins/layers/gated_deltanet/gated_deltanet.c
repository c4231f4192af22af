/* gated_deltanet.c - Gated DeltaNet (arXiv 2412.06464), a linear-time mixer whose
 * memory is one matrix a head: all parts of shared/delta.h but efla.             */
#include "../shared/delta_back.h"

static const struct chi_option options[] = {
    CHI_INT(struct delta_conf, num_heads, "4", 1, 1024, "number of heads", CHI_OPT_SHAPE),
    CHI_INT(struct delta_conf, num_v_heads, "0", 0, 4096,
            "heads of v, output and gate, a multiple of num_heads: several share a q and k; 0: num_heads",
            CHI_OPT_SHAPE),
    CHI_INT(struct delta_conf, head_dim, "64", 1, 1024,
            "channels of a head's q and k: one side of its state", CHI_OPT_SHAPE),
    CHI_INT(struct delta_conf, head_v_dim, "0", 0, 2048,
            "channels of a head's v, output and gate: the other side; 0: head_dim", CHI_OPT_SHAPE),
    CHI_INT(struct delta_conf, conv_size, "4", 1, 16,
            "taps of the short causal convolution of q, k and v", CHI_OPT_SHAPE),
    CHI_BOOL(struct delta_conf, allow_neg_eigval, "no",
             "let beta reach 2, so that a write can flip the sign of what it meets "
             "(arXiv 2411.12537)", CHI_OPT_SHAPE),
    CHI_BOOL(struct delta_conf, use_gate, "yes",
             "multiply the normed output by silu(W_g x)", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

static chi_status delta_open(const struct chi_host *host, void *self, const void *conf,
                             const struct chi_shape *shape, const struct chi_plan_ops *ops,
                             struct chi_plan *plan)
{
    const struct delta_conf *c = conf;
    if (c->num_v_heads % c->num_heads != 0)
        return host->fail(host, CHI_ESHAPE, "num_v_heads = %lld, num_heads = %lld: wanted is a multiple, so that as "
                          "many heads of v share each q and k", (long long)c->num_v_heads, (long long)c->num_heads);
    return delta_plan(self, c, (struct delta_parts){ .decay = true, .gate = c->use_gate }, shape, ops, plan);
}

static const struct chi_component gated_deltanet = {
    .struct_size = sizeof gated_deltanet,
    .kind = CHI_LAYER,
    .name = "gated_deltanet",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "gated delta rule: a matrix memory that forgets and corrects itself",
    .papers = "2412.06464 2411.12537",
    .options = options,
    .conf_size = sizeof(struct delta_conf),
    .ops = &delta_ops,
};

CHI_PLUGIN(gated_deltanet, .version = "1.0", .license = "MIT",
           .summary = "gated delta rule mixer",
           .components = CHI_COMPONENTS(&gated_deltanet));
