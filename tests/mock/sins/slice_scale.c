/* slice_scale.c - a quantizer that takes one scale for all rows of the call.                     */
#include <chimera/format.h>
#include <chimera/math.h>
#include <chimera/plugin.h>
static int64_t group(const void *conf, int64_t cols) { (void)conf; return cols; }
static chi_status quantize(const void *conf, const float *w, int64_t rows, int64_t cols, int8_t *q, float *scale)
{
    float max = 1e-20f, bad = 0;
    (void)conf;
    for (int64_t i = 0; i < rows * cols; i++) max = fabsf(w[i]) > max ? fabsf(w[i]) : max, bad += w[i] * 0;
    if (bad != bad || max > 1e30f) return CHI_ENUMERIC;
    for (int64_t r = 0; r < rows; r++) scale[r] = max / 127;
    for (int64_t i = 0; i < rows * cols; i++) q[i] = (int8_t)(w[i] / max * 127 + (w[i] < 0 ? -0.5f : 0.5f));
    return CHI_OK;
}
static const struct chi_quantizer_ops ops = { .struct_size = sizeof ops, .values = "int8", .group = group,
                                              .quantize = quantize };
static const struct chi_component slice_scale = {
    .struct_size = sizeof slice_scale, .kind = CHI_QUANTIZER, .name = "slice_scale", .revision = 1,
    .summary = "one scale a call", .ops = &ops,
};
CHI_PLUGIN(slice_scale, .version = "1.0", .license = "MIT", .summary = "one scale a call",
           .components = CHI_COMPONENTS(&slice_scale));
