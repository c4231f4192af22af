/* amx.c - the backend for x86-64 CPUs with tile registers (AMX-INT8; Sapphire Rapids and later).
 *
 * Linear maps for int8, ternary2, sherry125 and base3; everything else comes from the backends below it.  The
 * permission to use tiles is asked for once by the core (core/src/cpu.c).  All results are the
 * bits of the encodings' portable kernels; amx.md tells how.                               */
#include "linears.h"
#include <chimera/plugin.h>

static const struct chi_linear_kernel *const linears[] = {
    &amx_linear_int8, &amx_linear_ternary2, &amx_linear_sherry125, &amx_linear_base3, NULL
};

static const struct chi_backend_ops ops = {
    .struct_size = sizeof ops, .rank = 40, .linears = linears,
};

static const struct chi_component amx = {
    .struct_size = sizeof amx, .kind = CHI_BACKEND, .name = "amx", .revision = 1,
    .needs = CHI_CPU_AMX | CHI_CPU_AVX512 | CHI_CPU_VNNI | CHI_CPU_AVX2 | CHI_CPU_FMA | CHI_CPU_F16C,
    .summary = "x86-64 with AMX: linears of integers", .ops = &ops,
};

CHI_PLUGIN(amx, .version = "1.0", .license = "MIT", .summary = "kernels for x86-64 with AMX",
           .components = CHI_COMPONENTS(&amx));
