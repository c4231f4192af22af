/* hosting.h - the chi_host that each component instance gets.                     */
#ifndef HOSTING_H
#define HOSTING_H

#include "spec.h"

/* A host for one instance of a component ("optimizer", "task", "layers.3.mixer").  k is
 * the spec's kernels, alloc() is freed by host_close, random() uses run.seed.  The name
 * is copied.  linears are there only for layers of a model.                       */
struct chi_host *host_open(const struct spec *, const char *instance);
void host_close(struct chi_host *);

/* What host->service(h, id) answers for id, or NULL.  Each service registers once. */
void host_register_service(const char *id, const void *table);

/* What instances last told their meters: the mean over instances by name, in order of first
 * appearance.                                                                     */
bool host_meter(int64_t i, const char **name, double *value);

#endif
