/* wasm_simd128.c - the backend for WebAssembly engines with 128-bit vectors (2021 and later).
 *
 * The EXACT members of struct chi_kernels, the matrix product of training, and linear maps for
 * f32, bf16, int8 and ternary2.  EXACT kernels give the bits of core/src/reference.c and of the
 * encodings' portable kernels: WebAssembly's arithmetic is IEEE 754 and never fused, and of its
 * relaxed instructions none is used.  wasm_simd128.md tells how, and how fast they are.     */
#include "wasm_simd128.h"
#include <chimera/plugin.h>

static const struct chi_kernels kernels = {
    .struct_size = sizeof kernels,
    .dot = w128_dot, .axpy = w128_axpy, .rmsnorm = w128_rmsnorm, .silu = w128_silu,
    .silu_mul = w128_silu_mul, .silu_back = w128_silu_back, .softmax = w128_softmax,
    .gemm = w128_gemm, .delta_rule = w128_delta_rule, .quantize_i8 = w128_quantize_i8,
    .hebb_rule = w128_hebb_rule, .dots = w128_dots, .axpys = w128_axpys,
};

static const struct chi_linear_kernel *const linears[] = {
    &w128_linear_f32, &w128_linear_bf16, &w128_linear_int8, &w128_linear_sherry125,
    &w128_linear_ternary2, NULL
};

static const struct chi_backend_ops ops = {
    .struct_size = sizeof ops, .rank = 20, .kernels = &kernels, .linears = linears,
};

static const struct chi_component wasm_simd128 = {
    .struct_size = sizeof wasm_simd128, .kind = CHI_BACKEND, .name = "wasm_simd128", .revision = 1,
    .needs = CHI_CPU_WASM128, .summary = "WebAssembly with 128-bit vectors", .ops = &ops,
};

CHI_PLUGIN(wasm_simd128, .version = "1.0", .license = "MIT",
           .summary = "kernels for WebAssembly with SIMD128",
           .components = CHI_COMPONENTS(&wasm_simd128));
