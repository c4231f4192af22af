/* chimera/format.h - what weights mean, apart from who multiplies them.
 *
 *   quantizer   f32 master  -> small integers and scales, and its gradient rule
 *   encoding    integers    <-> bytes in memory or a file, exactly invertible
 *   backend     bytes       -> fast products on one CPU (kernel.h)
 *   adapter     adds parameters of its own around a linear
 *
 * Another encoding or backend never changes a result; another quantizer or adapter
 * is another model.  Ablations rely on that line.                              */
#ifndef CHIMERA_FORMAT_H
#define CHIMERA_FORMAT_H

#include "layer.h"

/* Value classes.  A class says which numbers a matrix can hold:
 *   "f32", "bf16"   any such float; values come in scale, group is 1, q is NULL
 *   "int8"          -127..127 times a scale per row (group = d_in)
 *   "ternary"       -1, 0, 1 times a scale per group of d_in                   */

struct chi_quantizer_ops {          /* kind CHI_QUANTIZER                       */
    uint32_t    struct_size;
    const char *values;             /* the class that it makes                  */

    /* How many weights along a row of cols share a scale (1 for float classes).
     * Trits are fast in groups of CHI_GROUP (kernel.h): who scales 2, 4, ... such
     * groups alike answers CHI_GROUP, and quantize() writes the scale to each   */
    int64_t    (*group)(const void *conf, int64_t cols);
    /* q[rows,cols] and scale[rows, ceil(cols/group)] from the master w[rows,cols].
     * Rows are independent: the core calls it for slices of rows.  A weight that
     * is not finite: CHI_ENUMERIC, no message needed.  [task]                  */
    chi_status (*quantize)(const void *conf, const float *w, int64_t rows,
                           int64_t cols, int8_t *q, float *scale);
    /* Optional: dw[n] += rule(dq[n]) from the gradient of the dequantised weights
     * of a slice; absent: passed straight through.  [task]                     */
    void (*grad)(const void *conf, const float *w, const float *dq, int64_t n,
                 float *dw);
    /* Optional: how much of the master is added to the quantised weights while the
     * model trains, W^ + e W, when this share of its steps is done (0 at the first
     * step).  It must be 0 at 1.  Where it is 0, training multiplies with the kernel
     * of inference, which never sees a residual; elsewhere in f32.  [run]         */
    double (*residual)(const void *conf, double progress);
};

struct chi_encoding_ops {           /* kind CHI_ENCODING                        */
    uint32_t    struct_size;
    const char *values;             /* the class that it holds                  */

    /* Size of a matrix, a multiple of 64; 0: it cannot hold this shape         */
    int64_t    (*bytes)(int64_t rows, int64_t cols, int64_t group);
    /* All of out is written; rows r0..r1 of q and scale (q and scale point at row
     * r0), r0 a multiple of CHI_TILE.  Calls for different rows may run at the
     * same time.  [task]                                                       */
    void       (*encode)(void *out, const int8_t *q, const float *scale,
                         int64_t rows, int64_t cols, int64_t group,
                         int64_t r0, int64_t r1);
    /* The inverse for rows r0..r1 (any numbers)                                */
    void       (*decode)(const void *in, int8_t *q, float *scale, int64_t rows,
                         int64_t cols, int64_t group, int64_t r0, int64_t r1);
    /* The plain kernel: it defines "correct" for this encoding.  Required      */
    const struct chi_linear_kernel *portable;
    /* Optional, for an encoding that holds a part of its class only (a sparsity, one
     * scale for several groups): do these rows of q and scale survive encode() and
     * decode() exactly?  Rows are independent, and encode() never sees one that got
     * a no.  NULL: all that bytes() has a size for do.  [task]                    */
    bool       (*holds)(const int8_t *q, const float *scale, int64_t rows,
                        int64_t cols, int64_t group);
};

/* y = linear(x) + adapter(x).  An adapter has an instance for each linear that a
 * [linear...] section gives it to; several stand in a row and add one after the
 * other.  Its parameters are f32 whatever the linear's class is.  Rows are alike:
 * struct chi_run holds rows, params, grads and arrays, but no segments and no
 * scratch (tasks get theirs), and rows need not be those of the layer's call.  In
 * inference a row's bits depend on its own x and y alone, so use k->dot and
 * k->axpy, not k->gemm.                                                        */
struct chi_adapter_ops {            /* kind CHI_ADAPTER                         */
    uint32_t struct_size;
    uint32_t self_size;             /* the core allocates and zeroes self       */

    /* As for a layer; the plan takes param(), array() per row or per call and
     * not to be kept, and scratch().  conf lives as long as self.  [setup]     */
    chi_status (*open)(const struct chi_host *, void *self, const void *conf,
                       int64_t d_out, int64_t d_in, const struct chi_plan_ops *,
                       struct chi_plan *) CHI_MUST_CHECK;
    /* y[rows,d_out] holds the linear's result: add to it.  x[rows,d_in] is the
     * linear's input in float, normalised if the linear normalises.  [run]     */
    chi_status (*forward)(const void *self, struct chi_run *r, const float *x,
                          float *y);
    /* Adds to dx[rows,d_in] (NULL: not wanted) and to r->grads (NULL: frozen).
     * Nothing is left from forward but x: compute it again.  [run]             */
    chi_status (*backward)(const void *self, struct chi_run *r, const float *x,
                           const float *dy, float *dx);
    /* Optional: the linear's own weights stay as they are                      */
    bool       (*freezes)(const void *conf);
    /* Optional, once a step between its gradient and the optimizer, when progress
     * (0..1) of the steps is done: add the gradients of penalties, and return
     * which parameters do not move in this step, bit i for the i-th that open()
     * planned.  [run]                                                          */
    uint32_t   (*steer)(const void *self, double progress,
                        const unsigned char *params, unsigned char *grads);
};

#endif
