/* instance.h - one layer of a network, or its loop: component, plan, memory.          */
#ifndef INSTANCE_H
#define INSTANCE_H

#include "linear.h"
#include "model.h"

enum { MODEL_PLAN = 2 };                     /* a third mode: count, take nothing       */

struct planned_param {
    char    name[64];
    int64_t shape[4], n, offset;             /* offset in bytes in the instance's block */
    int     init;
    double  a, b;
    bool    decay, manual;
    struct chi_linear *linear;               /* the master of this linear, or NULL      */
    bool    absent;                          /* inference: no master                    */
    bool    adapter;                         /* of an adapter, not of the layer         */
    bool    held;                            /* it does not move in this step           */
    double  share;                           /* of the rows that meet it: experts < 1   */
};
/* In memory, in the encoding of a linear                                               */
static inline int64_t weight_bytes(const struct planned_param *p)
{
    return p->linear && !p->linear->f32_only ? p->linear->n_bytes : 4 * p->n;
}
struct planned_array { int64_t bytes, every; bool keep; char name[32]; };
/* Memory that arrays share while their contents need not live on.                      */
struct workspace { unsigned char *base; int64_t bytes; };

struct instance {
    char name[64];                           /* "layers.3.mixer"; "" alone              */
    const struct part *part;
    const struct chi_layer_ops *ops;         /* NULL: no layer (embed, norms, the loop) */
    const struct chi_loop_ops  *loop;        /* or that of a loop                       */
    struct chi_host *host;
    void   *self;
    bool    training;
    struct planned_param *param; int64_t n_param;
    struct planned_array *array; int64_t n_array;
    int64_t param_bytes, state_bytes, scratch_bytes;
    double  share;                           /* of the linears planned next             */
    int64_t widest, heaviest;                /* of its linears: d_in, weights           */
    unsigned char *params, *grads;           /* where its block begins                  */
    void  **at;                              /* arrays of the present call              */
    struct workspace *kept; int64_t n_kept;  /* memory of KEEP arrays: one a turn       */
};

/* Plans a layer (part != NULL) or an empty instance to which the core adds its own
 * parameters with instance_param().                                                    */
chi_status instance_open(struct instance *, const struct spec *, const char *name,
                         const struct part *, int mode, int64_t max_rows, int64_t max_segs)
                         CHI_MUST_CHECK;
int64_t instance_param(struct instance *, const char *name, const int64_t *shape, int init,
                       double a, double b, uint32_t flags);
chi_status instance_linear(struct instance *, const struct spec *, const char *name, int64_t d_out,
                           int64_t d_in, uint32_t flags, struct chi_linear **) CHI_MUST_CHECK;
/* After params and grads point at memory: hands masters to linears, then ready()       */
chi_status instance_ready(struct instance *) CHI_MUST_CHECK;
void instance_close(struct instance *);

/* What the functions of open()'s plan write to                                         */
struct chi_plan {
    struct instance *in;
    const struct spec *spec;
    struct adapter *adapter;                 /* the one that is planned, or NULL        */
    chi_status error;
};
extern const struct chi_plan_ops instance_plan;
int64_t dtype_bytes(int dtype);

enum { KEPT_NOT = -1 };
/* Sets in->at for these segments: KEEP arrays in the memory of this turn, which backward
 * reads later, or, if it is KEPT_NOT, with all others in the workspace.                */
chi_status instance_arrays(struct instance *, const struct chi_segment *, int64_t n, int64_t rows,
                           int64_t turn, struct workspace *) CHI_MUST_CHECK;
/* How many times a call has an array's bytes                                           */
int64_t array_times(const struct planned_array *, const struct chi_segment *, int64_t n, int64_t rows);
void workspace_drop(struct workspace *);
/* Bytes of the arrays for rows in n_seg segments: kept ones and others                 */
void instance_array_bytes(const struct instance *, int64_t rows, int64_t n_seg,
                          double *kept, double *others);

/* The instance inside a solo, for checks that run it their own way                     */
struct instance *solo_instance(struct solo *);

/* One tensor's start values, by its full name                                          */
void init_values(float *w, const struct planned_param *, const char *full_name, uint64_t seed,
                 double initializer_range);

/* Values from .. to-1 of them, by the thread that calls                                */
void init_some(float *w, const struct planned_param *, const char *full_name, uint64_t seed,
               double initializer_range, int64_t from, int64_t to);

#endif
