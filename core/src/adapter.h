/* adapter.h - adapters around linears: what they plan, their memory, their calls.
 *
 * y = linear(x) + first(x) + second(x) + ...  An adapter's parameters lie among those of
 * the layer that planned the linear, as LINEAR.ADAPTER.NAME; its arrays in a room that all
 * adapters share, one call after the other.                                             */
#ifndef ADAPTER_H
#define ADAPTER_H

#include "instance.h"

struct adapter {
    const struct chi_adapter_ops *ops;
    const struct part *part;
    struct chi_host *host;
    void   *self;
    const char *linear;                      /* "q_proj"                                */
    int64_t first, n_param;                  /* in the instance's param[]               */
    struct planned_array *array; int64_t n_array;
    int64_t scratch_bytes;
    void  **at;                              /* arrays of the present call              */
};

/* Plans the adapters of the linear's rule; name is the linear's in its instance        */
chi_status adapters_open(struct chi_linear *, const char *name, struct instance *,
                         const struct spec *) CHI_MUST_CHECK;
void adapters_close(struct chi_linear *);

/* Scratch of their tasks; bytes of the room that they want for so many rows            */
int64_t adapters_scratch(const struct chi_linear *);
double  adapters_room_bytes(const struct chi_linear *, int64_t rows);
/* Grows the room; before the model runs                                                */
chi_status adapters_room(double bytes) CHI_MUST_CHECK;
double  adapters_room_held(void);
void    adapters_room_drop(void);

/* Behind the linears' own results and gradients.  dnorm: where gradients of normalised
 * inputs go, if dx is wanted                                                           */
chi_status adapters_forward(const struct chi_linear *const *, int64_t n, struct chi_run *,
                            const float *x, int64_t rows, float *const *y) CHI_MUST_CHECK;
chi_status adapters_back(const struct chi_linear *const *, int64_t n, struct chi_run *, const float *x,
                         int64_t rows, const float *const *dy, float *dx, float *dnorm) CHI_MUST_CHECK;
/* Once a step, when this share of the steps is done: gradients of penalties; the gradients
 * of what is held are zero then                                                        */
void adapters_steer(struct instance *, double progress);

#endif
