/* reference.h - the portable kernels: the plain definition of every kernel.      */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <chimera/kernel.h>

extern const struct chi_kernels reference_kernels;

/* The members of struct chi_kernels by name; a NULL name ends                     */
struct kernel_member { const char *name; size_t offset; };
extern const struct kernel_member kernel_members[];
/* Does this table, perhaps a shorter one of an older plugin, have the member?     */
bool kernels_have(const struct chi_kernels *, const struct kernel_member *);
/* The first non-NULL member of the given tables, in their order, else the reference */
void kernels_merge(struct chi_kernels *out, const struct chi_kernels *const *table, int n);

#endif
