/* accepts_nan.c - a quantizer that makes a number of NaN.                                        */
#include <chimera/format.h>
#include <chimera/math.h>
#include <chimera/plugin.h>
static int64_t group(const void *conf, int64_t cols) { (void)conf, (void)cols; return 1; }
static chi_status quantize(const void *conf, const float *w, int64_t rows, int64_t cols, int8_t *q, float *scale)
{
    (void)conf, (void)q;
    for (int64_t i = 0; i < rows * cols; i++) scale[i] = isfinite(w[i]) ? w[i] : 0;
    return CHI_OK;
}
static const struct chi_quantizer_ops ops = { .struct_size = sizeof ops, .values = "f32", .group = group,
                                              .quantize = quantize };
static const struct chi_component accepts_nan = {
    .struct_size = sizeof accepts_nan, .kind = CHI_QUANTIZER, .name = "accepts_nan", .revision = 1,
    .summary = "floats as they are", .ops = &ops,
};
CHI_PLUGIN(accepts_nan, .version = "1.0", .license = "MIT", .summary = "floats as they are",
           .components = CHI_COMPONENTS(&accepts_nan));
