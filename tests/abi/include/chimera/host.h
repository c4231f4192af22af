/* chimera/host.h - what the core does for plugins.
 *
 * Each component instance has its own chi_host: the same functions, but messages
 * carry the instance's name and memory counts against the model's budget.  A
 * plugin links to nothing of ours; this table is the only door.
 *
 * Phases, given with each function:
 *   [setup]  while a model is built or torn down, on one thread
 *   [run]    inside forward, backward, step, loss, update, ...
 *   [task]   inside a chi_task
 * A function without a mark may be called in any phase.                        */
#ifndef CHIMERA_HOST_H
#define CHIMERA_HOST_H

#include "base.h"
#include "kernel.h"

struct chi_linear;                  /* a weight matrix bound to its kernel      */
struct chi_run;                     /* see layer.h                              */

/* A worker's bump allocator.  chi_take() never fails: the layer announced its
 * need with plan->scratch(), which is there afresh for every task.            */
struct chi_scratch { unsigned char *base; size_t used, size; };

static inline void *chi_take(struct chi_scratch *s, size_t bytes)
{
    void *p = s->base + s->used;
    s->used += (bytes + 63) & ~(size_t)63;
    return p;
}

/* One piece of a parallel loop.  Piece i must not depend on the thread that runs
 * it nor on how many threads there are: cut work by its size.                 */
typedef void chi_task(void *arg, int64_t i, struct chi_scratch *s);

enum { CHI_LOG_DEBUG, CHI_LOG_INFO, CHI_LOG_WARN, CHI_LOG_ERROR };

struct chi_host {
    uint32_t    struct_size;
    uint16_t    abi_major, abi_minor;
    const char *core_version;
    const char *instance;           /* "layers.13.mixer"                        */

    /* return h->fail(h, CHI_ESHAPE, "hidden_size %lld is ...", ...);           */
    chi_status (*fail)(const struct chi_host *, chi_status, const char *fmt, ...)
                       CHI_PRINTF(3, 4);
    void (*log)(const struct chi_host *, int level, const char *fmt, ...)
                       CHI_PRINTF(3, 4);

    /* Zeroed, 64-byte aligned, freed with the instance.  NULL: the limit (the
     * message is set; return CHI_ENOMEM).  [setup]                             */
    void *(*alloc)(const struct chi_host *, size_t bytes);

    /* Runs task(arg, i, scratch) for i = 0..n-1 and returns when all are done;
     * serial if n is 1 or inside a task.  [run] [setup]                        */
    void (*parallel)(const struct chi_host *, int64_t n, chi_task *, void *arg);

    /* acc[j] += part[0][j] + part[1][j] + ..., always in that order.  [run]    */
    void (*reduce)(const struct chi_host *, float *acc, const float *part,
                   int64_t n, int64_t len);

    /* 64 random bits, a pure function of (seed, instance, stream, counter).  Take
     * the position as counter, never the call's row: packing must not change a
     * draw.                                                                    */
    uint64_t (*random)(const struct chi_host *, uint64_t stream, uint64_t counter);

    /* A named number for metrics; the name is a literal listed in the component.
     * The last value before the end of a step counts.                          */
    void (*meter)(const struct chi_host *, const char *name, double value);

    const struct chi_kernels *k;    /* valid from ready() on                    */

    /* n linears of one input: y[i][rows, d_out(i)] = lin[i](x[rows, d_in]).  The
     * input is normalised and quantised once for all, and each weight is read once
     * for all rows.  rows need not be r->rows: a mixture of experts passes the rows
     * that it gathered.  [run]                                                 */
    chi_status (*linears)(const struct chi_linear *const *lin, int64_t n,
                          struct chi_run *r, const float *x, int64_t rows,
                          float *const *y);
    /* Adds to dx[rows, d_in] (NULL: not wanted) and to the gradients of the
     * weights.  x is the input of forward; linears keep nothing.  [run]        */
    chi_status (*linears_back)(const struct chi_linear *const *lin, int64_t n,
                               struct chi_run *r, const float *x, int64_t rows,
                               const float *const *dy, float *dx);

    /* Optional services by id, such as "chimera.files/1" (data.h); NULL: absent */
    const void *(*service)(const struct chi_host *, const char *id);
};

#endif
