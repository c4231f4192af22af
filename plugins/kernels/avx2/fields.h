/* fields.h - ternary2 times a few rows of activations, which share the codes' fields in registers.    */
#ifndef AVX2_FIELDS_H
#define AVX2_FIELDS_H

#include "panel.h"

enum { FIELDS_MOST = 11 };                              /* rows up to which it beats panel.c           */

int64_t fields_scratch(int64_t rows, int64_t d_in);
void    fields_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                   int64_t o1, void *scratch, const struct ternary *e);

#endif
