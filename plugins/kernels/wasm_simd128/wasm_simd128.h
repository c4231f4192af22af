/* wasm_simd128.h - what the files of this backend share.
 *
 * A canonical sum (kernel.h) has 16 lanes: here four vectors, lanes 0-3, 4-7, 8-11, 12-15.
 * WebAssembly has no masked loads: the last 1..3 floats are taken one at a time, so that
 * nothing is read past an array.  Multiplications and additions are rounded apart.     */
#ifndef WASM_SIMD128_H
#define WASM_SIMD128_H

#include <chimera/kernel.h>
#include <wasm_simd128.h>

#define INLINE static inline __attribute__((always_inline))
/* In front of loops over arrays of vectors, which become locals only when unrolled     */
#define UNROLL _Pragma("clang loop unroll(full)")

INLINE v128_t muladd(v128_t sum, v128_t a, v128_t b)            /* two roundings        */
{
    return wasm_f32x4_add(sum, wasm_f32x4_mul(a, b));
}

/* The first n floats, then zeros; n >= 1                                               */
INLINE v128_t load(const float *x, int64_t n)
{
    if (n >= 4) return wasm_v128_load(x);
    return wasm_f32x4_make(x[0], n > 1 ? x[1] : 0, n > 2 ? x[2] : 0, 0);
}

INLINE void store(float *y, int64_t n, v128_t v)
{
    if (n >= 4) {
        wasm_v128_store(y, v);
        return;
    }
    y[0] = wasm_f32x4_extract_lane(v, 0);
    if (n > 1) y[1] = wasm_f32x4_extract_lane(v, 1);
    if (n > 2) y[2] = wasm_f32x4_extract_lane(v, 2);
}

/* Up to 16 outputs                                                                     */
INLINE void put(float *y, int64_t width, const v128_t v[4])
{
    UNROLL
    for (int i = 0; i < 4; i++)
        if (width > 4 * i) store(y + 4 * i, width - 4 * i, v[i]);
}

INLINE void clear(v128_t v[4])
{
    v[0] = v[1] = v[2] = v[3] = wasm_f32x4_const_splat(0);
}

/* lanes i and i+8, then i and i+4: what is left to fold of a canonical sum             */
INLINE v128_t halves(const v128_t s[4])
{
    return wasm_f32x4_add(wasm_f32x4_add(s[0], s[2]), wasm_f32x4_add(s[1], s[3]));
}

/* ... then i and i+2, i and i+1                                                        */
INLINE float fold(const v128_t s[4])
{
    v128_t t = halves(s);
    t = wasm_f32x4_add(t, wasm_i32x4_shuffle(t, t, 2, 3, 2, 3));
    return wasm_f32x4_extract_lane(t, 0) + wasm_f32x4_extract_lane(t, 1);
}

/* s[] += the products of a row; the last ones with zeros, as + 0 * 0 leaves a sum as it is */
INLINE void lanes(v128_t s[4], const float *a, const float *b, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        UNROLL
        for (int j = 0; j < 4; j++)
            s[j] = muladd(s[j], wasm_v128_load(a + i + 4 * j), wasm_v128_load(b + i + 4 * j));
    UNROLL
    for (int j = 0; j < 4; j++)
        if (n - i > 4 * j)
            s[j] = muladd(s[j], load(a + i + 4 * j, n - i - 4 * j), load(b + i + 4 * j, n - i - 4 * j));
}

/* Four rows of four lanes to four sums: lanes i and i+2, i and i+1                     */
INLINE v128_t fold4(const v128_t r[4])
{
    v128_t g[2];
    UNROLL
    for (int i = 0; i < 2; i++)                                 /* of rows 2i and 2i + 1 */
        g[i] = wasm_f32x4_add(wasm_i32x4_shuffle(r[2 * i], r[2 * i + 1], 0, 1, 4, 5),
                              wasm_i32x4_shuffle(r[2 * i], r[2 * i + 1], 2, 3, 6, 7));
    return wasm_f32x4_add(wasm_i32x4_shuffle(g[0], g[1], 0, 2, 4, 6), wasm_i32x4_shuffle(g[0], g[1], 1, 3, 5, 7));
}

/* <s, k> of a row, all but the last two folds                                         */
INLINE v128_t read_row(const float *s, const float *k, int64_t n)
{
    v128_t sum[4];
    clear(sum);
    lanes(sum, s, k, n);
    return halves(sum);
}

float w128_dot(const float *a, const float *b, int64_t n);
void  w128_axpy(float *y, float a, const float *x, int64_t n);
float w128_rmsnorm(float *y, const float *x, const float *gain, int64_t n, float eps);
void  w128_silu(float *y, const float *x, int64_t n);
void  w128_silu_mul(float *y, const float *g, const float *u, int64_t n);
void  w128_silu_back(float *dx, const float *x, const float *dy, int64_t n);
float w128_softmax(float *y, const float *x, int64_t n);
void  w128_quantize_i8(int8_t *q, float *step, int16_t *sum, const float *x, int64_t n);
void  w128_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
                const float *B, int64_t ldb, float beta, float *C, int64_t ldc);
void  w128_delta_rule(float *S, const float *q, const float *k, const float *v, int64_t ld, const float *a,
                      const float *b, int64_t lds, float *o, int64_t rows, int64_t dk, int64_t dv);
void  w128_hebb_rule(float *S, const float *q, const float *k, int64_t ldk, const float *v, int64_t ldv,
                     const float *a, const float *b, int64_t lds, float *o, int64_t rows, int64_t dk, int64_t dv);
void  w128_dots(float *y, const float *W, int64_t ldw, const float *x, int64_t rows, int64_t n);
void  w128_axpys(float *y, const float *a, const float *X, int64_t ldx, int64_t rows, int64_t n);

extern const struct chi_linear_kernel w128_linear_f32, w128_linear_bf16, w128_linear_int8, w128_linear_sherry125,
                                      w128_linear_ternary2;

#endif
