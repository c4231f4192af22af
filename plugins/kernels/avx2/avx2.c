/* avx2.c - the backend for x86-64 CPUs with AVX2, FMA and F16C (2013 and later).
 *
 * Every member of struct chi_kernels and linear maps for encodings of this project.  All EXACT kernels give the bits of core/src/reference.c and of the
 * encodings' portable kernels; avx2.md tells how, and how fast they are.           */
#include "avx2.h"
#include <chimera/plugin.h>

static const struct chi_kernels kernels = {
    .struct_size = sizeof kernels,
    .dot = avx2_dot, .axpy = avx2_axpy, .rmsnorm = avx2_rmsnorm, .silu = avx2_silu,
    .silu_mul = avx2_silu_mul, .silu_back = avx2_silu_back, .softmax = avx2_softmax,
    .gemm = avx2_gemm, .delta_rule = avx2_delta_rule, .delta_rule_back = avx2_delta_rule_back,
    .quantize_i8 = avx2_quantize_i8, .hebb_rule = avx2_hebb_rule, .hebb_rule_back = avx2_hebb_rule_back,
};

static const struct chi_linear_kernel *const linears[] = {
    &avx2_linear_f32, &avx2_linear_bf16, &avx2_linear_int8, &avx2_linear_ternary2, &avx2_linear_sherry125,
    &avx2_linear_base3, &avx2_linear_tl2, NULL
};

static const struct chi_backend_ops ops = {
    .struct_size = sizeof ops, .rank = 20, .kernels = &kernels, .linears = linears,
};

static const struct chi_component avx2 = {
    .struct_size = sizeof avx2, .kind = CHI_BACKEND, .name = "avx2", .revision = 1,
    .needs = CHI_CPU_AVX2 | CHI_CPU_FMA | CHI_CPU_F16C,
    .summary = "x86-64 with AVX2, FMA and F16C", .ops = &ops,
};

CHI_PLUGIN(avx2, .version = "1.0", .license = "MIT",
           .summary = "kernels for x86-64 with AVX2, FMA and F16C",
           .components = CHI_COMPONENTS(&avx2));
