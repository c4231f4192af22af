/* sums.h - ternary2 times up to 16 rows of activations, by tables of sums.                              */
#ifndef AVX2_SUMS_H
#define AVX2_SUMS_H

#include "panel.h"

enum { SUMS_ROWS = 16, SUMS_LEAST = 13, SUMS_OUTPUTS = 256 };  /* most; from where on it beats panel.c      */

int64_t sums_scratch(void);
void    sums_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                 int64_t o1, void *scratch, const struct ternary *e);

#endif
