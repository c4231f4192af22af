/* chimera/train.h - objectives and optimizers.                                 */
#ifndef CHIMERA_TRAIN_H
#define CHIMERA_TRAIN_H

#include "host.h"

struct chi_objective_ops {          /* kind CHI_OBJECTIVE                       */
    uint32_t struct_size;
    /* *sum += loss in nats over the rows with target >= 0 (-1: not scored), added
     * in row order in double; dlogits[rows,vocab] '=' scale * gradient, zero for
     * rows that are not scored, in place with logits; or NULL.  The core calls it
     * for row blocks in order; scale is 1 / (scored targets of the whole step).
     * [run]                                                                    */
    chi_status (*loss)(const struct chi_host *, const void *conf,
                       const float *logits, const int32_t *target, int64_t rows,
                       int64_t vocab, double scale, float *dlogits, double *sum);
};

struct chi_slice {                  /* one named run of parameters              */
    const char  *name;
    float       *w;
    const float *g;
    float       *m;                 /* moment k of value i is m[k * stride + i];
                                       0 before the first step                  */
    int64_t      n, stride;
    bool         decay;             /* weight decay applies                     */
};

struct chi_optimizer_ops {          /* kind CHI_OPTIMIZER                       */
    uint32_t struct_size;
    int32_t  moments;               /* f32 values kept per parameter: 0, 1, 2   */
    const char *const *moment_names;/* "m", "v": prefixes in checkpoints        */
    /* One step for n_slices slices, a tensor each: w moves, m is kept, g is the
     * gradient of the step's mean loss; cut big ones (host->parallel).  lr is what
     * [train] schedule gives for this step; clip multiplies every gradient (1: not
     * clipped); step counts from 1.  [run]                                     */
    chi_status (*update)(const struct chi_host *, const void *conf,
                         const struct chi_slice *, int64_t n_slices,
                         int64_t step, double lr, double clip);
};

#endif
