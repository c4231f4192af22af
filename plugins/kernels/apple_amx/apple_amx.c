/* apple_amx.c - backend for the matrix unit of Apple's M1 to M3 CPUs: products of many rows.
 *
 * Never run on such a CPU: see apple_amx.md for what was.  Hence its rank is negative, so
 * that nobody gets it who does not ask for it.                                             */
#include "amx.h"
#include <chimera/plugin.h>

static const struct chi_kernels kernels = { .struct_size = sizeof kernels, .gemm = apple_amx_gemm };

static const struct chi_linear_kernel *const linears[] = { &apple_amx_ternary2, NULL };

static const struct chi_backend_ops ops = {
    .struct_size = sizeof ops, .rank = -10, .kernels = &kernels, .linears = linears,
};

static const struct chi_component apple_amx = {
    .struct_size = sizeof apple_amx, .kind = CHI_BACKEND, .name = "apple_amx", .revision = 1,
    .needs = CHI_CPU_NEON | CHI_CPU_APPLE_AMX,
    .summary = "matrix products on the AMX unit of Apple M1 to M3, never run on one", .ops = &ops,
};

CHI_PLUGIN(apple_amx, .version = "0.1", .license = "MIT",
           .summary = "matrix products on the AMX unit of Apple CPUs",
           .components = CHI_COMPONENTS(&apple_amx));
