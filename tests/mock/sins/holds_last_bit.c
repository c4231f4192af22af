/* holds_last_bit.c - an encoding of trits that rounds a scale to 12 bits and says that it holds any.    */
#include <chimera/format.h>
#include <chimera/math.h>

static float rounded(float s)
{
    return chi_float(chi_bits(s) & 0xfffff000u);
}

static bool any(const int8_t *q, const float *scale, int64_t rows, int64_t cols, int64_t group)
{
    (void)q, (void)scale, (void)rows, (void)group;
    return cols > 0;
}

#define NAME "holds_last_bit"
#define VALUES "ternary"
#define PRODUCT(scale, p) (0 + (scale) * (p))
#define HOLDS any
#define ENCODED_SCALE(s) rounded(s)
#include "rowwise.h"
