/* residual_stays.c - a quantizer whose trained models need the master at their side.              */
#include <chimera/format.h>
#include <chimera/math.h>
#include <chimera/plugin.h>
static int64_t group(const void *conf, int64_t cols) { (void)conf, (void)cols; return 1; }
static chi_status quantize(const void *conf, const float *w, int64_t rows, int64_t cols, int8_t *q, float *scale)
{
    (void)conf, (void)q;
    for (int64_t i = 0; i < rows * cols; i++) {
        if (!isfinite(w[i])) return CHI_ENUMERIC;
        scale[i] = w[i];
    }
    return CHI_OK;
}
static double residual(const void *conf, double progress) { (void)conf; return progress > 0.25 ? 0.25 : progress; }
static const struct chi_quantizer_ops ops = {
    .struct_size = sizeof ops, .values = "f32", .group = group, .quantize = quantize, .residual = residual,
};
static const struct chi_component residual_stays = {
    .struct_size = sizeof residual_stays, .kind = CHI_QUANTIZER, .name = "residual_stays", .revision = 1,
    .summary = "floats as they are", .ops = &ops,
};
CHI_PLUGIN(residual_stays, .version = "1.0", .license = "MIT", .summary = "floats as they are",
           .components = CHI_COMPONENTS(&residual_stays));
