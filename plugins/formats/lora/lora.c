/* lora.c - a trainable matrix of low rank beside a linear (LoRA, arXiv 2106.09685):
 *
 *     y = W x + (alpha / rank) B A x          A[rank, d_in], B[d_out, rank]
 *
 * A starts normal with variance 1 / d_in, B at zero, so a model begins as the one without.
 * With freeze_base = yes the linear's own weights stay as they are and only A and B learn.   */
#include <chimera/plugin.h>
#include <chimera/format.h>
#include <chimera/math.h>

#include "../shared/lowrank.h"

struct conf {
    int64_t rank;
    double  alpha;
    bool    freeze_base;
};

struct lora { struct lowrank l; float s; };

static chi_status lora_open(const struct chi_host *h, void *self, const void *conf, int64_t d_out, int64_t d_in,
                            const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    const struct conf *c = conf;
    struct lora *a = self;
    (void)h;
    a->s = (float)(c->alpha / (double)c->rank);
    lowrank_plan(&a->l, d_out, d_in, c->rank, ops, plan);
    return CHI_OK;
}

static chi_status lora_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct lora *a = self;
    lowrank_forward(&a->l, r, a->s, x, y);
    return CHI_OK;
}

static chi_status lora_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct lora *a = self;
    lowrank_backward(&a->l, r, a->s, x, dy, dx);
    return CHI_OK;
}

static bool lora_freezes(const void *conf)
{
    return ((const struct conf *)conf)->freeze_base;
}

static const struct chi_adapter_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct lora), .open = lora_open, .forward = lora_forward,
    .backward = lora_backward, .freezes = lora_freezes,
};
static const struct chi_option options[] = {
    CHI_INT(struct conf, rank, "8", 1, 4096, "rows of A and columns of B", CHI_OPT_SHAPE),
    CHI_FLOAT(struct conf, alpha, "16", 0, 1e6, "what B A x is multiplied with, times the rank", CHI_OPT_SHAPE),
    CHI_BOOL(struct conf, freeze_base, "no", "the linear's own weights do not learn", 0),
    CHI_OPTIONS_END
};
static const struct chi_component adapter = {
    .struct_size = sizeof adapter, .kind = CHI_ADAPTER, .name = "lora", .revision = 1,
    .summary = "a matrix of low rank beside a linear", .papers = "2106.09685", .options = options,
    .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(lora, .version = "1.0", .license = "MIT", .summary = "low-rank adaptation of linears",
           .components = CHI_COMPONENTS(&adapter));
