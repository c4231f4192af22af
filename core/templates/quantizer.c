/* @name@.c - which numbers a weight may be, in formulas; why; the source.
 *
 * This one keeps 8 bits a weight and one scale a row, a power of two (as in arXiv 1903.08066), so
 * that scaling only shifts:
 *
 *     scale_o = 2^ceil(log2(max_k |w[o,k]| / 127));   q[o,k] = clamp(rne(w[o,k] / scale_o), -127, 127)
 *
 * rne rounds half to even.  There is no grad(): the gradient of the quantised weight is passed
 * straight through to the master.                                                           */
#include <chimera/format.h>
#include <chimera/math.h>
#include <chimera/plugin.h>

struct conf {                               /* what [linear.X] says; the core fills it   */
    bool power_of_two;
};

static const struct chi_option options[] = {
    CHI_BOOL(struct conf, power_of_two, "yes", "round scales up to a power of two", CHI_OPT_SHAPE),
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

/* The exponent of a float stands above its 23 bits of mantissa                              */
static float round_up(float x)
{
    return chi_float((chi_bits(x) + 0x7fffffu) & 0x7f800000u);
}

static bool quantize_row(const struct conf *conf, const float *w, int64_t cols, int8_t *q, float *scale)
{
    bool finite = true;
    float max = 0;
    for (int64_t k = 0; k < cols; k++) {
        finite &= (chi_bits(w[k]) & 0x7f800000u) != 0x7f800000u;
        max = fabsf(w[k]) > max ? fabsf(w[k]) : max;
    }
    float s = *scale = conf->power_of_two ? round_up(max / 127) : max / 127;
    for (int64_t k = 0; k < cols; k++) {
        float x = s > 0 ? w[k] / s : 0;
        q[k] = (int8_t)rne(x > 127 ? 127 : x > -127 ? x : -127);
    }
    return finite;
}

/* Rows are independent: the core calls it for slices of them                                */
static chi_status quantize(const void *conf, const float *w, int64_t rows, int64_t cols, int8_t *q, float *scale)
{
    bool finite = true;
    for (int64_t r = 0; r < rows; r++) finite &= quantize_row(conf, w + r * cols, cols, q + r * cols, scale + r);
    return finite ? CHI_OK : CHI_ENUMERIC;
}

static const struct chi_quantizer_ops ops = {
    .struct_size = sizeof ops, .values = "int8", .group = group, .quantize = quantize,
};

static const struct chi_component component = {
    .struct_size = sizeof component, .kind = CHI_QUANTIZER, .name = "@name@", .revision = 1, .papers = "1903.08066",
    .summary = "8-bit weights, a power of two a row",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(@name@, .version = "0.1", .license = "MIT", .summary = "8-bit weights, a power of two a row",
           .components = CHI_COMPONENTS(&component));
