/* unwritten_array.c - y takes part of an array that nobody wrote, in the hope that it is zero. */
#define NAME "unwritten_array"
#define IN_FORWARD if (r->rows) y[0] += 0 * CHI_ARRAY(r, ((const struct leaky *)self)->dh, float)[0];
#include "leaky.h"
