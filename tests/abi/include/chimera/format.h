/* chimera/format.h - what weights mean, apart from who multiplies them.
 *
 *   quantizer   f32 master  -> small integers and scales, and its gradient rule
 *   encoding    integers    <-> bytes in memory or a file, exactly invertible
 *   backend     bytes       -> fast products on one CPU (kernel.h)
 *
 * Another encoding or backend never changes a result; another quantizer is
 * another model.  Ablations rely on that line.                                 */
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

    /* How many weights along a row of cols share a scale (1 for float classes) */
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

#endif
