/* past_array.c - forward writes a float behind the array part.                             */
#define NAME "past_array"
#define IN_FORWARD if (r->rows) CHI_ARRAY(r, ((const struct leaky *)self)->part, float)[r->n_seg * ((const struct leaky *)self)->d] = 1;
#include "leaky.h"
