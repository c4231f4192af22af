/* bench_kernels.h - the kernels against the limits of this machine, in one run.   */
#ifndef BENCH_KERNELS_H
#define BENCH_KERNELS_H

#include <chimera/format.h>
#include <stdio.h>

/* Multiply-adds per second of all threads on registers alone; 0: unknown here      */
double bench_fma_peak(void);
double bench_int8_peak(void);
enum { BENCH_LINEARS = 8 };

/* A ternary encoding and the kernel to measure, which reads the encoding's own bytes */
struct bench_linear {
    const char                     *name;
    const struct chi_encoding_ops  *encoding;
    const struct chi_linear_kernel *kernel;
};

struct bench_kernels {
    const struct chi_kernels *k;                /* e.g. merged: kernels_merge()     */
    struct bench_linear linear[BENCH_LINEARS];  /* others are compared with the first */
    int   n_linears;
    int   threads;                              /* measured at 1 and at this many   */
    bool  json;                                 /* an object a line, else a table   */
    FILE *out;
};

/* Measures reading, the int8 and float peaks, the linears with 1 and 128 rows, and gemm.
 * Takes about two minutes and 256 MB.  Rates are medians of alternating windows where
 * memory decides, the best window where arithmetic does.  Sets pool_threads() back
 * to b->threads.                                                                  */
chi_status bench_kernels(const struct bench_kernels *b) CHI_MUST_CHECK;

#endif
