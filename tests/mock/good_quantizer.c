/* good_quantizer.c - no sin: a quantizer. */
#include "mock.h"

static int64_t group(const void *conf, int64_t cols)
{
    (void)conf;
    return cols;
}

static chi_status quantize(const void *conf, const float *w, int64_t rows, int64_t cols, int8_t *q, float *scale)
{
    (void)conf, (void)w, (void)rows, (void)cols, (void)q, (void)scale;
    return CHI_OK;
}

static const struct chi_quantizer_ops ops = {
    .struct_size = sizeof ops, .values = "int8", .group = group, .quantize = quantize,
};
static const struct chi_component quantizer = {
    .struct_size = sizeof quantizer, .kind = CHI_QUANTIZER, .name = "good_quantizer", .revision = 1,
    .summary = "a mock quantizer", .ops = &ops,
};
MOCK_NAMED("good_quantizer", &quantizer);
