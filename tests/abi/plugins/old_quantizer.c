/* old_quantizer.c - which numbers a weight may be, in formulas; why; the source.
 *
 * This one keeps `bits` bits a weight and one scale a row:
 *
 *     L = 2^(bits-1) - 1;   scale_o = max_k |w[o,k]| / L;   q[o,k] = clamp(rne(w[o,k] / scale_o), -L, L)
 *
 * rne rounds half to even.  Source: (paper, arXiv number, equation).  There is no grad(): the
 * gradient of the quantised weight is passed straight through to the master.                */
#include <chimera/format.h>
#include <chimera/math.h>
#include <chimera/plugin.h>

struct conf {                               /* what [linear.X] says; the core fills it   */
    int64_t bits;
};

static const struct chi_option options[] = {
    CHI_INT(struct conf, bits, "4", 2, 8, "bits of a weight", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

static int64_t group(const void *conf, int64_t cols)
{
    (void)conf;
    return cols;
}

/* |x| < 2^22: so x + 1.5 * 2^23 has no bits below 1                                         */
static float rne(float x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

static bool quantize_row(const float *w, int64_t cols, float limit, int8_t *q, float *scale)
{
    bool finite = true;
    float max = 0;
    for (int64_t k = 0; k < cols; k++) {
        finite &= (chi_bits(w[k]) & 0x7f800000u) != 0x7f800000u;
        max = fabsf(w[k]) > max ? fabsf(w[k]) : max;
    }
    float s = *scale = max / limit;
    for (int64_t k = 0; k < cols; k++) {
        float x = s > 0 ? w[k] / s : 0;
        q[k] = (int8_t)rne(x > limit ? limit : x > -limit ? x : -limit);
    }
    return finite;
}

/* Rows are independent: the core calls it for slices of them                                */
static chi_status quantize(const void *conf, const float *w, int64_t rows, int64_t cols, int8_t *q, float *scale)
{
    float limit = (float)((1 << (((const struct conf *)conf)->bits - 1)) - 1);
    bool finite = true;
    for (int64_t r = 0; r < rows; r++) finite &= quantize_row(w + r * cols, cols, limit, q + r * cols, scale + r);
    return finite ? CHI_OK : CHI_ENUMERIC;
}

static const struct chi_quantizer_ops ops = {
    .struct_size = sizeof ops, .values = "int8", .group = group, .quantize = quantize,
};

static const struct chi_component component = {
    .struct_size = sizeof component, .kind = CHI_QUANTIZER, .name = "old_quantizer", .revision = 1,
    .summary = "weights of a few bits, a scale a row",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(old_quantizer, .version = "0.1", .license = "MIT", .summary = "weights of a few bits, a scale a row",
           .components = CHI_COMPONENTS(&component));
