/* avx512.c - the backends for x86-64 CPUs with AVX-512 (F, DQ, CD, BW, VL; Skylake-X and later).
 *
 * avx512: every member of struct chi_kernels and linear maps.  avx512_vnni, which ranks above it:
 * the integer linears again, for CPUs that have vpdpbusd; avx512_packed, which ranks below avx2: sherry125
 * and base3, faster there with many rows only.  All EXACT kernels give the bits of
 * core/src/reference.c and of the encodings' portable kernels; avx512.md tells how.            */
#include "avx512.h"
#include <chimera/plugin.h>

static const struct chi_kernels kernels = {
    .struct_size = sizeof kernels,
    .dot = avx512_dot, .axpy = avx512_axpy, .rmsnorm = avx512_rmsnorm, .silu = avx512_silu,
    .silu_mul = avx512_silu_mul, .silu_back = avx512_silu_back, .softmax = avx512_softmax,
    .gemm = avx512_gemm, .delta_rule = avx512_delta_rule, .delta_rule_back = avx512_delta_rule_back,
    .quantize_i8 = avx512_quantize_i8, .hebb_rule = avx512_hebb_rule,
    .hebb_rule_back = avx512_hebb_rule_back,
    .dots = avx512_dots, .axpys = avx512_axpys,
};

static const struct chi_linear_kernel *const linears[] = {
    &avx512_linear_f32, &avx512_linear_bf16, &avx512_linear_int8, &avx512_linear_ternary2, NULL
};
static const struct chi_linear_kernel *const vnni_linears[] = {
    &vnni_linear_int8, &vnni_linear_ternary2, NULL
};
static const struct chi_linear_kernel *const packed_linears[] = {
    &vnni_linear_sherry125, &vnni_linear_base3, NULL
};

static const struct chi_backend_ops ops = {
    .struct_size = sizeof ops, .rank = 30, .kernels = &kernels, .linears = linears,
};
static const struct chi_backend_ops vnni_ops = {
    .struct_size = sizeof vnni_ops, .rank = 35, .linears = vnni_linears,
};
/* Below avx2, which is faster with one row                                                     */
static const struct chi_backend_ops packed_ops = {
    .struct_size = sizeof packed_ops, .rank = 10, .linears = packed_linears,
};

static const struct chi_component avx512 = {
    .struct_size = sizeof avx512, .kind = CHI_BACKEND, .name = "avx512", .revision = 1,
    .needs = CHI_CPU_AVX512 | CHI_CPU_AVX2 | CHI_CPU_FMA | CHI_CPU_F16C,
    .summary = "x86-64 with AVX-512", .ops = &ops,
};
static const struct chi_component avx512_vnni = {
    .struct_size = sizeof avx512_vnni, .kind = CHI_BACKEND, .name = "avx512_vnni", .revision = 1,
    .needs = CHI_CPU_AVX512 | CHI_CPU_VNNI | CHI_CPU_AVX2 | CHI_CPU_FMA | CHI_CPU_F16C,
    .summary = "x86-64 with AVX-512 and VNNI: linears of integers", .ops = &vnni_ops,
};
static const struct chi_component avx512_packed = {
    .struct_size = sizeof avx512_packed, .kind = CHI_BACKEND, .name = "avx512_packed", .revision = 1,
    .needs = CHI_CPU_AVX512 | CHI_CPU_VNNI | CHI_CPU_AVX2 | CHI_CPU_FMA | CHI_CPU_F16C,
    .summary = "x86-64 with AVX-512 and VNNI: sherry125 and base3, for many rows", .ops = &packed_ops,
};

CHI_PLUGIN(avx512, .version = "1.0", .license = "MIT",
           .summary = "kernels for x86-64 with AVX-512, and with VNNI",
           .components = CHI_COMPONENTS(&avx512, &avx512_vnni, &avx512_packed));
