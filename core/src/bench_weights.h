/* bench_weights.h - weights for benchmarks: of the usual size, made fast.            */
#ifndef BENCH_WEIGHTS_H
#define BENCH_WEIGHTS_H

#include "linear.h"
#include "model.h"

/* w[n] between -range and range from a generator that is fast                        */
void bench_fill(float *w, int64_t n, double range);
/* Bytes of a linear without a master: of new values, or those of one of its size      */
chi_status bench_bind_new(struct chi_linear *, double range) CHI_MUST_CHECK;
chi_status bench_bind_like(struct chi_linear *, const struct chi_linear *from) CHI_MUST_CHECK;
/* A whole model for inference: quantising a matrix takes longer than copying one, so linears
 * of one size and encoding get the same weights                                        */
chi_status bench_model_weights(struct model *) CHI_MUST_CHECK;

#endif
