/* chimera/layer.h - things that map x[rows, d_in] to y[rows, d_out] in order.
 *
 * Mixers (gated_deltanet, attention, ...) and channel mixers (swiglu, ...) are
 * layers.  The rows of a call are packed: segment after segment, each a stretch
 * of one stream.  What treats rows alike (linears, norms, FFN) works on all rows
 * at once; what remembers loops over the segments.  Batched training, packed
 * documents, prefill of many prompts and batched decoding are all this one call.
 *
 * Life:  open -> ready -> { forward | backward | step | tree }* -> close
 *
 * Four rules buy everything else:
 *   1. self is written in open and ready, and const afterwards.
 *   2. Everything mutable lies in blocks that the core owns (struct chi_run) and
 *      that open() announced.  State holds no pointers, so saving, restoring and
 *      forking a stream is a memcpy that the plugin never sees.
 *   3. forward writes with '=', backward with '+=': dx is zero and the gradients are
 *      what the step has collected so far.  Arrays are not zeroed: fill those that
 *      host->linears_back() is to add to.
 *   4. A row's result does not depend on the other segments of the call; nor, in
 *      inference (keep is false), on how its stream is cut into calls: forward of
 *      any length, step and tree agree bit for bit.  A chunked form that sums in
 *      another order is for training.                                          */
#ifndef CHIMERA_LAYER_H
#define CHIMERA_LAYER_H

#include "host.h"

struct chi_shape {
    uint32_t struct_size;
    int64_t  d_in, d_out;           /* refuse what you cannot do                */
    int64_t  max_rows, max_segs;    /* of one call, all segments together       */
    double   rms_norm_eps;          /* of the model                             */
    bool     training;              /* backward() will come                     */
};

/* open() describes the layer by calling these.  Offsets are in bytes, 64-byte
 * aligned and valid at once.  Errors stick: check none, the core looks after
 * open().  Names are ASCII, unique in the layer, and part of the checkpoints.  */
enum {                              /* a, b are the distribution's numbers      */
    CHI_INIT_ZERO,
    CHI_INIT_CONST,                 /* a                                        */
    CHI_INIT_NORMAL,                /* mean 0, standard deviation a; a = 0: the
                                       model's initializer_range                */
    CHI_INIT_UNIFORM,               /* in [a, b)                                */
    CHI_INIT_LOG_UNIFORM,           /* log of a uniform number in [a, b)        */
    CHI_INIT_INV_SOFTPLUS,          /* softplus^-1(e^u), u uniform in [log a, log b) */
    CHI_INIT_LINEAR,                /* evenly from a (the first number) to b (the last) */
    CHI_INIT_EYE                    /* 1 on the diagonal of a matrix, 0 elsewhere */
};
enum {
    CHI_PARAM_DECAY  = 1 << 0,      /* weight decay applies; params have none
                                       unless they ask, linears always          */
    CHI_PARAM_MANUAL = 1 << 1,      /* the optimizer keeps off; see settle()    */
    CHI_LINEAR_F32   = 1 << 2,      /* never quantised: gates, routers; no decay */
    CHI_ARRAY_KEEP   = 1 << 3,      /* forward fills it, backward reads it      */
    CHI_LINEAR_EYE   = 1 << 4       /* starts as the identity instead of normal */
};
enum {                              /* how often an array has its n values      */
    CHI_PER_CALL = -1,
    CHI_PER_SEG  = 0,
    CHI_PER_ROW  = 1                /* c > 1: at the row that starts a segment and
                                       at each row whose position is a multiple of
                                       c; chi_chunks() counts them              */
};

struct chi_plan;
struct chi_plan_ops {
    uint32_t struct_size;
    /* n floats [dims as in the doc]; returns the offset for CHI_PARAM().  shape
     * has up to 3 dims, ended by 0, e.g. (int64_t[]){H, D, 0}.                 */
    int64_t (*param)(struct chi_plan *, const char *name, const int64_t *shape,
                     int init, double a, double b, uint32_t flags);
    /* n values of dtype in each stream's state; offset for CHI_STATE()         */
    int64_t (*state)(struct chi_plan *, const char *name, int dtype, int64_t n);
    /* Room for the rows of one call; index for CHI_ARRAY().  The core sizes it by
     * the rows that come and shares it between layers, unless KEEP and training
     * ask for more.  Contents are undefined before forward writes them.  Never
     * NULL, so there is one code path.                                         */
    int64_t (*array)(struct chi_plan *, const char *name, int dtype, int64_t n,
                     int64_t every, uint32_t flags);
    /* Bytes that a task takes with chi_take(), each take rounded up to 64      */
    void    (*scratch)(struct chi_plan *, int64_t bytes_per_task);
    /* A weight matrix NAME.weight [d_out, d_in] of the [linear] section's class */
    const struct chi_linear *(*linear)(struct chi_plan *, const char *name,
                     int64_t d_out, int64_t d_in, uint32_t flags);
    /* The linears planned after this call are alternatives, of which a row takes
     * k out of n (experts); (1, 1), the beginning, ends that.  Nothing but the
     * counts of `chimera inspect` depends on it.                               */
    void    (*choice)(struct chi_plan *, int64_t k, int64_t n);
};

struct chi_segment {
    int64_t  first, rows;           /* rows first .. first+rows-1 of x; >= 1    */
    int64_t  pos;                   /* of its first row in the stream, from 0   */
    uint64_t stream;                /* for h->random(); once per call           */
    bool     fresh;                 /* nothing absorbed yet: state is all zero
                                       bytes, and a layer whose start is not zero
                                       begins from its parameters               */
    unsigned char *state;           /* of this layer: before -> after           */
    unsigned char *dstate;          /* d loss/d state, after -> before; or NULL.
                                       If fresh, what is left at the start goes
                                       to the parameters it came from, if any   */
};

struct chi_run {
    const struct chi_host *h;
    const unsigned char *params;    /* f32 parameters                           */
    unsigned char *grads;           /* same offsets as params; NULL: frozen     */
    void *const *array;             /* by the index that plan->array() gave     */
    struct chi_scratch *scratch;    /* of the calling thread, empty             */
    const struct chi_segment *seg;  /* in row order, without gaps               */
    int64_t  n_seg;
    int64_t  rows;                  /* of all segments, 0..max_rows             */
    bool     keep;                  /* backward() will follow                   */
};

/* host->service(h, "chimera.tally/1"): counts over a whole measurement on held-out data.
 * add() adds count[i] to the i-th of n sums kept for this instance under name, which the
 * component lists among its meters; the core makes them zero when a measurement begins.
 * Each instance's imbalance, largest / mean - 1, is what the name stands for; reported is the
 * mean over instances.  Outside of measurements add() does nothing.  [run]               */
struct chi_tally {
    uint32_t struct_size;
    void (*add)(const struct chi_host *, const char *name, const int64_t *count, int64_t n);
};

#define CHI_PARAM(r, off, T)  ((const T *)(const void *)((r)->params + (off)))
#define CHI_GRAD(r, off, T)   ((T *)(void *)((r)->grads  + (off)))
#define CHI_ARRAY(r, id, T)   ((T *)(r)->array[id])
#define CHI_STATE(g, off, T)  ((T *)(void *)((g)->state  + (off)))
#define CHI_DSTATE(g, off, T) ((T *)(void *)((g)->dstate + (off)))

/* Chunks of every positions that segment g touches, and the index of its first
 * one in an array planned with that every.  The grid is the stream's, not the
 * call's: cutting a call in two moves no chunk.                                */
static inline int64_t chi_chunks(const struct chi_segment *g, int64_t every)
{
    return (g->pos + g->rows - 1) / every - g->pos / every + 1;
}
static inline int64_t chi_first_chunk(const struct chi_run *r, int64_t s,
                                      int64_t every)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s; i++) n += chi_chunks(&r->seg[i], every);
    return n;
}

enum {                              /* component caps of layers                 */
    CHI_LAYER_CAUSAL     = 1 << 0,  /* y[t] depends on x[0..t] only             */
    CHI_LAYER_STATELESS  = 1 << 1,  /* does not look at segments                */
    CHI_LAYER_SPLIT_FREE = 1 << 2,  /* rule 4 holds with keep, too              */
    CHI_LAYER_NO_GRAD    = 1 << 3,  /* backward is absent                       */
    CHI_LAYER_NO_TRAIL   = 1 << 4   /* with keep, a fresh segment without dstate may
                                       come with state NULL: nobody wants what it
                                       would leave there                        */
};

struct chi_layer_ops {              /* kind CHI_LAYER                           */
    uint32_t struct_size;
    uint32_t self_size;             /* the core allocates and zeroes self       */

    /* Check conf against shape, then plan.  conf and what it points to live as
     * long as self.  [setup]                                                   */
    chi_status (*open)(const struct chi_host *, void *self, const void *conf,
                       const struct chi_shape *, const struct chi_plan_ops *,
                       struct chi_plan *) CHI_MUST_CHECK;
    /* Optional: tables that need host->k or memory.  [setup]                   */
    chi_status (*ready)(const struct chi_host *, void *self, const void *conf);
    void (*close)(void *self);      /* optional; alloc()ed memory goes anyway   */

    /* x[rows,d_in] -> y[rows,d_out]; moves each segment's state by its rows.
     * y never overlaps x.  [run]                                               */
    chi_status (*forward)(const void *self, struct chi_run *r,
                          const float *x, float *y);
    /* dy -> dx, r->grads, dstate; arrays are as forward left them, state is the
     * one before the call (only read), fresh is as it was in forward.  Sums over
     * rows and segments run in a fixed order: partial results by (segment, head)
     * or row block, then h->reduce().  [run]                                   */
    chi_status (*backward)(const void *self, struct chi_run *r,
                           const float *x, const float *dy, float *dx);
    /* Optional: every segment has one row, if that is cheaper than forward     */
    chi_status (*step)(const void *self, struct chi_run *r,
                       const float *x, float *y);
    /* Optional: a segment's rows are nodes of a tree; parent[row] is an earlier
     * row of the same segment, or -1 for its state, which must not change.
     * Absent: the core walks the tree depth first with forked states.          */
    chi_status (*tree)(const void *self, struct chi_run *r,
                       const float *x, float *y, const int32_t *parent);
    /* Optional: after each optimizer step, move CHI_PARAM_MANUAL parameters by
     * what backward collected in their gradient slots over the whole step.     */
    void (*settle)(const void *self, unsigned char *params,
                   const unsigned char *grads);
};

#endif
