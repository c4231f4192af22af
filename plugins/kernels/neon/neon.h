/* neon.h - what the files of this backend share.
 *
 * A canonical sum (kernel.h) has 16 lanes: here four registers of four.  Nothing reads past
 * an array: the last 1..3 floats go through a small buffer.                                */
#ifndef NEON_H
#define NEON_H

#include <chimera/kernel.h>
#include <arm_neon.h>
#include <string.h>

/* In front of loops over registers: arrays of vectors become registers only when such loops
 * are unrolled                                                                             */
#ifdef __clang__
# define UNROLL _Pragma("unroll")
#else
# define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE float32x4_t muladd(float32x4_t sum, float32x4_t a, float32x4_t b)    /* two roundings */
{
    return vaddq_f32(sum, vmulq_f32(a, b));
}

/* The first n floats, then 0                                                                */
INLINE float32x4_t load(const float *x, int64_t n)
{
    if (n >= 4) return vld1q_f32(x);
    float t[4] = { 0 };
    for (int64_t i = 0; i < n; i++) t[i] = x[i];
    return vld1q_f32(t);
}

INLINE void store(float *y, int64_t n, float32x4_t v)
{
    if (n >= 4) {
        vst1q_f32(y, v);
        return;
    }
    float t[4];
    vst1q_f32(t, v);
    for (int64_t i = 0; i < n; i++) y[i] = t[i];
}

/* Lanes i and i+8, then i+4, i+2, i+1                                                        */
INLINE float fold(const float32x4_t s[4])
{
    float32x4_t a = vaddq_f32(vaddq_f32(s[0], s[2]), vaddq_f32(s[1], s[3]));
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}

/* A row of four lanes per sum, lanes i, i + 4, i + 8, i + 12 already added, to four sums    */
INLINE float32x4_t fold4(const float32x4_t r[4])
{
    float32x4_t a = vcombine_f32(vadd_f32(vget_low_f32(r[0]), vget_high_f32(r[0])),
                                 vadd_f32(vget_low_f32(r[1]), vget_high_f32(r[1])));
    float32x4_t b = vcombine_f32(vadd_f32(vget_low_f32(r[2]), vget_high_f32(r[2])),
                                 vadd_f32(vget_low_f32(r[3]), vget_high_f32(r[3])));
    return vpaddq_f32(a, b);
}

INLINE float32x4_t add4(const float32x4_t s[4])
{
    return vaddq_f32(vaddq_f32(s[0], s[2]), vaddq_f32(s[1], s[3]));
}

/* Lanes of <s, x> folded to four                                                            */
INLINE float32x4_t lanes(const float *s, const float *x, int64_t n)
{
    float32x4_t sum[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
    int64_t j = 0;
    for (; j + 16 <= n; j += 16)
        UNROLL
        for (int h = 0; h < 4; h++)
            sum[h] = muladd(sum[h], vld1q_f32(s + j + 4 * h), vld1q_f32(x + j + 4 * h));
    UNROLL
    for (int h = 0; h < 4; h++) {
        int64_t at = j + 4 * h;
        if (at < n) sum[h] = muladd(sum[h], load(s + at, n - at), load(x + at, n - at));
    }
    return add4(sum);
}

float neon_dot(const float *a, const float *b, int64_t n);
void  neon_axpy(float *y, float a, const float *x, int64_t n);
float neon_rmsnorm(float *y, const float *x, const float *gain, int64_t n, float eps);
void  neon_silu(float *y, const float *x, int64_t n);
void  neon_silu_mul(float *y, const float *g, const float *u, int64_t n);
void  neon_silu_back(float *dx, const float *x, const float *dy, int64_t n);
float neon_softmax(float *y, const float *x, int64_t n);
void  neon_quantize_i8(int8_t *q, float *step, int16_t *sum, const float *x, int64_t n);
void  neon_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
                const float *B, int64_t ldb, float beta, float *C, int64_t ldc);
void  neon_delta_rule(float *S, const float *q, const float *k, const float *v, int64_t ld,
                      const float *a, const float *b, int64_t lds, float *o, int64_t rows,
                      int64_t dk, int64_t dv);
void  neon_hebb_rule(float *S, const float *q, const float *k, int64_t ldk, const float *v, int64_t ldv,
                     const float *a, const float *b, int64_t lds, float *o, int64_t rows, int64_t dk,
                     int64_t dv);
void  neon_dots(float *y, const float *W, int64_t ldw, const float *x, int64_t rows, int64_t n);
void  neon_axpys(float *y, const float *a, const float *X, int64_t ldx, int64_t rows, int64_t n);

void  neon_delta_rule_back(const float *S, float *dS, const float *q, const float *k, const float *v, int64_t ld,
                           const float *a, const float *b, int64_t lds, const float *dout, float *dq,
                           float *dk_, float *dv_, float *dlog_a, float *db, int64_t rows, int64_t dk,
                           int64_t dv, float *work);
void  neon_hebb_rule_back(const float *S, float *dS, const float *q, const float *k, int64_t ldk, const float *v,
                          int64_t ldv, const float *a, const float *b, int64_t lds, const float *dout,
                          float *dq, float *dk_, float *dv_, float *dlog_a, float *db, int64_t rows,
                          int64_t dk, int64_t dv, float *work);

extern const struct chi_linear_kernel neon_linear_f32, neon_linear_bf16;

#endif
