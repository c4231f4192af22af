/* wrong_scale.c - an objective, (x[target] - 1)^2 / 2, whose gradient leaves scale out.           */
#include <chimera/plugin.h>
#include <chimera/train.h>
static chi_status loss(const struct chi_host *h, const void *conf, const float *logits, const int32_t *target,
                       int64_t rows, int64_t vocab, double scale, float *dlogits, double *sum)
{
    (void)h, (void)conf, (void)scale;
    for (int64_t r = 0; r < rows; r++) {
        double off = target[r] < 0 ? 0 : (double)logits[r * vocab + target[r]] - 1;
        *sum += off * off / 2;
        for (int64_t j = 0; dlogits && j < vocab; j++) dlogits[r * vocab + j] = 0;
        if (dlogits && target[r] >= 0) dlogits[r * vocab + target[r]] = (float)off;
    }
    return CHI_OK;
}
static const struct chi_objective_ops ops = { .struct_size = sizeof ops, .loss = loss };
static const struct chi_component wrong_scale = {
    .struct_size = sizeof wrong_scale, .kind = CHI_OBJECTIVE, .name = "wrong_scale", .revision = 1,
    .summary = "half a square", .ops = &ops,
};
CHI_PLUGIN(wrong_scale, .version = "1.0", .license = "MIT", .summary = "half a square",
           .components = CHI_COMPONENTS(&wrong_scale));
