/* neon.c - backends for 64-bit ARM CPUs: what all of them have, and what dot products (sdot,
 * ARMv8.2) and byte matrix products (smmla, ARMv8.6) do better.
 *
 * All EXACT kernels give the bits of core/src/reference.c and of the encodings' portable
 * kernels; neon.md tells how.                                                              */
#include "integer.h"
#include <chimera/plugin.h>

static const struct chi_kernels kernels = {
    .struct_size = sizeof kernels,
    .dot = neon_dot, .axpy = neon_axpy, .rmsnorm = neon_rmsnorm, .silu = neon_silu,
    .silu_mul = neon_silu_mul, .silu_back = neon_silu_back, .softmax = neon_softmax, .gemm = neon_gemm,
    .delta_rule = neon_delta_rule, .delta_rule_back = neon_delta_rule_back, .quantize_i8 = neon_quantize_i8,
    .hebb_rule = neon_hebb_rule, .hebb_rule_back = neon_hebb_rule_back, .dots = neon_dots,
    .axpys = neon_axpys,
};

static const struct chi_linear_kernel *const base[] = {
    &neon_linear_f32, &neon_linear_bf16,
    &neon_base_int8, &neon_base_ternary2, &neon_base_sherry125, &neon_base_base3, NULL
};
static const struct chi_linear_kernel *const dotprod[] = {
    &neon_dotprod_int8, &neon_dotprod_ternary2, &neon_dotprod_sherry125, &neon_dotprod_base3, NULL
};
static const struct chi_linear_kernel *const i8mm[] = {
    &neon_i8mm_int8, &neon_i8mm_ternary2, &neon_i8mm_sherry125, &neon_i8mm_base3, NULL
};

static const struct chi_backend_ops
    base_ops    = { .struct_size = sizeof base_ops, .rank = 20, .kernels = &kernels, .linears = base },
    dotprod_ops = { .struct_size = sizeof dotprod_ops, .rank = 25, .linears = dotprod },
    i8mm_ops    = { .struct_size = sizeof i8mm_ops, .rank = 30, .linears = i8mm };

static const struct chi_component
    neon = { .struct_size = sizeof neon, .kind = CHI_BACKEND, .name = "neon", .revision = 1,
             .needs = CHI_CPU_NEON, .summary = "64-bit ARM", .ops = &base_ops },
    neon_dotprod = { .struct_size = sizeof neon_dotprod, .kind = CHI_BACKEND, .name = "neon_dotprod",
                     .revision = 1, .needs = CHI_CPU_NEON | CHI_CPU_DOTPROD,
                     .summary = "integer linears for 64-bit ARM with dot products", .ops = &dotprod_ops },
    neon_i8mm = { .struct_size = sizeof neon_i8mm, .kind = CHI_BACKEND, .name = "neon_i8mm", .revision = 1,
                  .needs = CHI_CPU_NEON | CHI_CPU_DOTPROD | CHI_CPU_I8MM,
                  .summary = "integer linears for 64-bit ARM with byte matrix products", .ops = &i8mm_ops };

CHI_PLUGIN(neon, .version = "1.0", .license = "MIT",
           .summary = "kernels for 64-bit ARM, with and without dotprod and i8mm",
           .components = CHI_COMPONENTS(&neon, &neon_dotprod, &neon_i8mm));
