/* reference.h - the portable kernels: the plain definition of every kernel.      */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <chimera/kernel.h>

extern const struct chi_kernels reference_kernels;

/* The first non-NULL member of the given tables, in their order, else the reference */
void kernels_merge(struct chi_kernels *out, const struct chi_kernels *const *table, int n);

#endif
