/* avx2.h - what the files of this backend share.
 *
 * A canonical sum (kernel.h) has 16 lanes: here two registers, lanes 0-7 and 8-15.
 * Nothing reads past an array: the last 1..7 floats go through masked loads.      */
#ifndef AVX2_H
#define AVX2_H

#include <chimera/kernel.h>
#include <immintrin.h>

/* In front of loops over registers: arrays of vectors become registers only when such
 * loops are unrolled, which compilers do by themselves at -O3 alone.               */
#ifdef __clang__
# define UNROLL _Pragma("unroll")
#else
# define UNROLL _Pragma("GCC unroll 16")
#endif

/* Lanes below n, all ones; n <= 0: none; n >= 8: all                               */
static inline __m256i first(int64_t n)
{
    int32_t m = n > 8 ? 8 : n < 0 ? 0 : (int32_t)n;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(m), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline __m256 muladd(__m256 sum, __m256 a, __m256 b)     /* two roundings     */
{
    return _mm256_add_ps(sum, _mm256_mul_ps(a, b));
}

/* lanes i and i+8, then i+4, i+2, i+1                                              */
static inline float fold(__m256 lo, __m256 hi)
{
    __m256 s = _mm256_add_ps(lo, hi);
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

float avx2_dot(const float *a, const float *b, int64_t n);
void  avx2_axpy(float *y, float a, const float *x, int64_t n);
float avx2_rmsnorm(float *y, const float *x, const float *gain, int64_t n, float eps);
void  avx2_silu(float *y, const float *x, int64_t n);
void  avx2_silu_mul(float *y, const float *g, const float *u, int64_t n);
void  avx2_silu_back(float *dx, const float *x, const float *dy, int64_t n);
float avx2_softmax(float *y, const float *x, int64_t n);
void  avx2_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
                const float *B, int64_t ldb, float beta, float *C, int64_t ldc);
void  avx2_delta_rule(float *S, const float *q, const float *k, const float *v, int64_t ld,
                      const float *a, const float *b, int64_t lds, float *o, int64_t rows,
                      int64_t dk, int64_t dv);
void  avx2_delta_rule_back(const float *S, float *dS, const float *q, const float *k,
                           const float *v, int64_t ld, const float *a, const float *b,
                           int64_t lds, const float *dout, float *dq, float *dk_, float *dv_,
                           float *dlog_a, float *db, int64_t rows, int64_t dk, int64_t dv,
                           float *work);
void  avx2_hebb_rule(float *S, const float *q, const float *k, int64_t ldk, const float *v, int64_t ldv,
                     const float *a, const float *b, int64_t lds, float *o, int64_t rows, int64_t dk,
                     int64_t dv);
void  avx2_hebb_rule_back(const float *S, float *dS, const float *q, const float *k, int64_t ldk,
                          const float *v, int64_t ldv, const float *a, const float *b, int64_t lds,
                          const float *dout, float *dq, float *dk_, float *dv_, float *dlog_a, float *db,
                          int64_t rows, int64_t dk, int64_t dv, float *work);
void  avx2_quantize_i8(int8_t *q, float *step, int16_t *sum, const float *x, int64_t n);

extern const struct chi_linear_kernel avx2_linear_f32, avx2_linear_bf16, avx2_linear_int8,
                                      avx2_linear_ternary2, avx2_linear_sherry125, avx2_linear_base3, avx2_linear_tl2;

#endif
