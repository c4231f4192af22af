/* zero_over_zero.c - a row of zeros is divided by its length.                             */
#define NAME "zero_over_zero"
#define ZERO for (int64_t t = 0; t < r->rows; t++) if (x[t * s->d] == 0) y[t * s->d] = 0 * (1 / x[t * s->d]);
#define IN_FORWARD const struct leaky *s = self; ZERO
#define IN_STEP IN_FORWARD
#include "leaky.h"
