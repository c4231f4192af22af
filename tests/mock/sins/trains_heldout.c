/* trains_heldout.c - a task that holds out what it trains on.                                      */
#include "examples.h"
static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *x, int32_t *y,
                       int32_t *s)
{
    (void)self, (void)split;
    for (int r = 0; r < 16; r++) x[r] = y[r] = (int32_t)(h->random(h, (uint64_t)i, (uint64_t)r) % 2), s[r] = 0;
    return 16;
}
EXAMPLES(trains_heldout)
