/* linears.h - the linear kernels of this backend                                       */
#ifndef LINEARS_H
#define LINEARS_H

#include <chimera/kernel.h>

extern const struct chi_linear_kernel amx_linear_int8, amx_linear_ternary2, amx_linear_sherry125,
                                      amx_linear_base3;

#endif
