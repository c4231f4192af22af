/* long_example.c - a task with more rows than it promised.                                          */
#include "examples.h"
static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *x, int32_t *y,
                       int32_t *s)
{
    (void)self, (void)h;
    for (int r = 0; r < 17; r++) x[r] = y[r] = (int32_t)(((i * 2 + split) >> r) & 1), s[r] = 0;
    return 16;
}
EXAMPLES(long_example)
