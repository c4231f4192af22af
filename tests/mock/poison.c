/* poison.c - an objective that goes bad: cross-entropy, but NaN where the token that
 * follows is a '~'.  So the data decide which steps are not finite, in every repetition
 * the same.  tests/e2e/resume.sh trains with it.                                  */
#include <chimera/math.h>
#include <chimera/plugin.h>
#include <chimera/train.h>

static double row_loss(const float *x, int32_t target, int64_t vocab, double scale, float *d)
{
    double sum = 0, at = x[target];
    for (int64_t j = 0; j < vocab; j++) sum += (double)chi_exp(x[j]);
    double lse = (double)chi_log((float)sum);
    for (int64_t j = 0; d && j < vocab; j++)
        d[j] = (float)(scale * ((double)chi_exp((float)(x[j] - lse)) - (j == target)));
    return target == '~' ? (double)NAN : lse - at;
}

static chi_status loss(const struct chi_host *h, const void *conf, const float *logits,
                       const int32_t *target, int64_t rows, int64_t vocab, double scale,
                       float *dlogits, double *sum)
{
    (void)h, (void)conf;
    for (int64_t r = 0; r < rows; r++) {
        float *d = dlogits ? dlogits + r * vocab : NULL;
        if (target[r] >= 0) *sum += row_loss(logits + r * vocab, target[r], vocab, scale, d);
        else for (int64_t j = 0; d && j < vocab; j++) d[j] = 0;
    }
    return CHI_OK;
}

static const struct chi_objective_ops ops = { .struct_size = sizeof ops, .loss = loss };
static const struct chi_component poison = {
    .struct_size = sizeof poison, .kind = CHI_OBJECTIVE, .name = "poison", .revision = 1,
    .summary = "cross-entropy that is NaN at a '~'", .ops = &ops,
};
CHI_PLUGIN(poison, .version = "1.0", .license = "MIT", .summary = "a mock",
           .components = CHI_COMPONENTS(&poison));
