/* chimera/loop.h - turns over a range of layers: kind CHI_LOOP.
 *
 *     e = enter(x);  h = 0;
 *     for each turn:  h = layers(inject(e, h));
 *     y = leave(h)
 *
 * The core runs the turns, since it alone knows states and memory: each (layer,
 * turn) has a state of its own, so decoding equals training; segments that have
 * had their turns drop out, and the rows of the others are packed anew; turns
 * without gradient keep nothing.  What a token does not take part in, it does not
 * touch: the states of the turns that it skips stay as they are, and for a layer
 * pos and fresh count the tokens that this turn of it has seen.
 *
 * A loop component is only the mathematics, row by row: no row's result may depend
 * on other rows or segments.  It plans parameters, linears, arrays and scratch as a
 * layer does, but no state; no array outlives a call, so the _back functions make
 * again what they need.                                                         */
#ifndef CHIMERA_LOOP_H
#define CHIMERA_LOOP_H

#include "layer.h"

struct chi_depth {
    int32_t turns;                  /* of one sequence in training, >= 1        */
    int32_t graded;                 /* so many of the last have a gradient, >= 1 */
};

struct chi_loop_ops {               /* kind CHI_LOOP                            */
    uint32_t struct_size;
    uint32_t self_size;             /* the core allocates and zeroes self       */

    /* Check conf against shape (d_in = d_out), then plan.  [setup]             */
    chi_status (*open)(const struct chi_host *, void *self, const void *conf,
                       const struct chi_shape *, const struct chi_plan_ops *,
                       struct chi_plan *) CHI_MUST_CHECK;

    /* [rows,d] each, written with '='.  e is whatever inject() wants to see again
     * at every turn; h is all zeros before the first.  Inference (r->keep is
     * false): the same bits however a stream is cut and packed.  [run]         */
    chi_status (*enter)(const void *self, struct chi_run *r, const float *x, float *e);
    chi_status (*inject)(const void *self, struct chi_run *r, const float *e,
                         const float *h, float *y);
    chi_status (*leave)(const void *self, struct chi_run *r, const float *h, float *y);

    /* Their gradients, added to dx, de, dh and r->grads as in layers.  inject_back
     * comes once for each differentiated turn, the last first; enter_back gets
     * the sum of what they left in de.  [run]                                  */
    chi_status (*enter_back)(const void *self, struct chi_run *r, const float *x,
                             const float *de, float *dx);
    chi_status (*inject_back)(const void *self, struct chi_run *r, const float *e,
                              const float *h, const float *dy, float *de, float *dh);
    chi_status (*leave_back)(const void *self, struct chi_run *r, const float *h,
                             const float *dy, float *dh);

    /* Optional, both or none: the depth of a sequence in training, a function of
     * h->random(sequence, step) only, and the largest depth that can come.  sequence
     * counts within the step's batch, usual is loop_default.  Absent: usual turns,
     * all of them differentiated.                                              */
    struct chi_depth (*depth)(const void *self, const struct chi_host *h, int64_t usual,
                              uint64_t sequence, int64_t step);
    struct chi_depth (*deepest)(const void *self, int64_t usual);

    /* Optional: how far a turn moved one token, against [loop] adaptive_exit: the
     * token has no further turns when it is below.  before and after [d] are h on
     * entry to and exit from the turn.                                         */
    double (*change)(const void *self, const struct chi_host *h, const float *before,
                     const float *after, int64_t d);
};

#endif
