/* coarse.h - a healthy quantizer of class int8 that uses 4 bits: q = -7..7 times a scale a row.  A mock
 * defines NAME and, for a sin, what becomes of x = w / scale.                                        */
#include <chimera/format.h>
#include <chimera/math.h>
#include <chimera/plugin.h>
#ifndef ROUND                           /* x in -7..7                                                */
# define ROUND(x) ((x) < 0 ? (x) - 0.5f : (x) + 0.5f)
#endif

static int64_t group(const void *conf, int64_t cols) { (void)conf; return cols; }

static chi_status quantize(const void *conf, const float *w, int64_t rows, int64_t cols, int8_t *q, float *scale)
{
    (void)conf;
    for (int64_t r = 0; r < rows; r++, w += cols, q += cols) {
        float max = 0;
        for (int64_t k = 0; k < cols; k++) {
            if (!isfinite(w[k])) return CHI_ENUMERIC;
            max = fabsf(w[k]) > max ? fabsf(w[k]) : max;
        }
        scale[r] = max / 7;
        for (int64_t k = 0; k < cols; k++) {
            float x = max > 0 ? w[k] / max * 7 : 0;
            q[k] = (int8_t)(int)ROUND(x);
        }
    }
    return CHI_OK;
}

static const struct chi_quantizer_ops ops = { .struct_size = sizeof ops, .values = "int8", .group = group,
                                              .quantize = quantize };
static const struct chi_component quantizer = {
    .struct_size = sizeof quantizer, .kind = CHI_QUANTIZER, .name = NAME, .revision = 1, .summary = "4 bits a weight",
    .ops = &ops,
};
CHI_EXPORT const struct chi_plugin chimera_plugin = {
    .magic = CHI_MAGIC, .abi_major = CHI_ABI_MAJOR, .abi_minor = CHI_ABI_MINOR, .struct_size = sizeof chimera_plugin,
    .layout = CHI_LAYOUT, .name = NAME, .version = "1.0", .license = "MIT", .summary = "4 bits a weight",
    .components = CHI_COMPONENTS(&quantizer),
};
