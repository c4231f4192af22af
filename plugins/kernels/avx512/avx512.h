/* avx512.h - what the files of this backend share                                     */
#ifndef AVX512_H
#define AVX512_H

#include "../shared/zmm.h"

INLINE void store8(float *y, int64_t n, __m256 v)
{
    _mm256_mask_storeu_ps(y, (__mmask8)first(n), v);
}

/* Canonical lanes of <s, x>                                                            */
INLINE __m512 lanes(const float *s, const float *x, int64_t n)
{
    __m512 sum = _mm512_setzero_ps();
    int64_t j = 0;
    for (; j + 16 <= n; j += 16) sum = muladd(sum, _mm512_loadu_ps(s + j), _mm512_loadu_ps(x + j));
    return j < n ? muladd(sum, load(s + j, n - j), load(x + j, n - j)) : sum;
}

/* Eight rows of 16 lanes to eight sums: lanes i and i+8, i+4, i+2, i+1                    */
INLINE __m256 fold8(const __m512 v[8])
{
    __m256 r[8], h[4], g[2];
    UNROLL
    for (int i = 0; i < 8; i++) r[i] = halves(v[i]);
    UNROLL
    for (int i = 0; i < 4; i++)
        h[i] = _mm256_add_ps(_mm256_permute2f128_ps(r[i], r[i + 4], 0x20),
                             _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    UNROLL
    for (int i = 0; i < 2; i++) {
        __m256 a = _mm256_shuffle_ps(h[2 * i], h[2 * i + 1], 0x44);
        __m256 b = _mm256_shuffle_ps(h[2 * i], h[2 * i + 1], 0xee);
        g[i] = _mm256_add_ps(a, b);
    }
    return _mm256_add_ps(_mm256_shuffle_ps(g[0], g[1], 0x88), _mm256_shuffle_ps(g[0], g[1], 0xdd));
}

float avx512_dot(const float *a, const float *b, int64_t n);
void  avx512_axpy(float *y, float a, const float *x, int64_t n);
float avx512_rmsnorm(float *y, const float *x, const float *gain, int64_t n, float eps);
void  avx512_silu(float *y, const float *x, int64_t n);
void  avx512_silu_mul(float *y, const float *g, const float *u, int64_t n);
void  avx512_silu_back(float *dx, const float *x, const float *dy, int64_t n);
float avx512_softmax(float *y, const float *x, int64_t n);
void  avx512_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
                  const float *B, int64_t ldb, float beta, float *C, int64_t ldc);
void  avx512_delta_rule(float *S, const float *q, const float *k, const float *v, int64_t ld,
                        const float *a, const float *b, int64_t lds, float *o, int64_t rows,
                        int64_t dk, int64_t dv);
void  avx512_delta_rule_back(const float *S, float *dS, const float *q, const float *k,
                             const float *v, int64_t ld, const float *a, const float *b,
                             int64_t lds, const float *dout, float *dq, float *dk_, float *dv_,
                             float *dlog_a, float *db, int64_t rows, int64_t dk, int64_t dv,
                             float *work);
void  avx512_hebb_rule(float *S, const float *q, const float *k, int64_t ldk, const float *v, int64_t ldv,
                       const float *a, const float *b, int64_t lds, float *o, int64_t rows, int64_t dk,
                       int64_t dv);
void  avx512_hebb_rule_back(const float *S, float *dS, const float *q, const float *k, int64_t ldk,
                            const float *v, int64_t ldv, const float *a, const float *b, int64_t lds,
                            const float *dout, float *dq, float *dk_, float *dv_, float *dlog_a, float *db,
                            int64_t rows, int64_t dk, int64_t dv, float *work);
void  avx512_dots(float *y, const float *W, int64_t ldw, const float *x, int64_t rows, int64_t n);
void  avx512_axpys(float *y, const float *a, const float *X, int64_t ldx, int64_t rows, int64_t n);
void  avx512_quantize_i8(int8_t *q, float *step, int16_t *sum, const float *x, int64_t n);

extern const struct chi_linear_kernel avx512_linear_f32, avx512_linear_bf16, avx512_linear_int8,
                                      avx512_linear_ternary2;
extern const struct chi_linear_kernel vnni_linear_int8, vnni_linear_ternary2, vnni_linear_sherry125,
                                      vnni_linear_base3;

#endif
