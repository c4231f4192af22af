/* zmm.h - what the backends with registers of 512 bits share.
 *
 * A canonical sum (kernel.h) has 16 lanes and a tile of a linear 16 outputs: one register
 * is exactly either.  Tails go through masks, so nothing reads or writes past an array.   */
#ifndef ZMM_H
#define ZMM_H

#include <chimera/kernel.h>
#include <immintrin.h>

/* In front of loops over registers: arrays of vectors become registers only when such
 * loops are unrolled, which compilers do by themselves at -O3 alone.               */
#ifdef __clang__
# define UNROLL _Pragma("clang loop unroll(full)")
# pragma clang diagnostic ignored "-Wpass-failed"   /* said where one turn leaves nothing to do */
#else
# define UNROLL _Pragma("GCC unroll 32")
#endif
#define INLINE static inline __attribute__((always_inline))

/* Lanes below n; n <= 0: none; n >= 16: all                                            */
INLINE __mmask16 first(int64_t n)
{
    return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}

INLINE __m512 load(const float *x, int64_t n)           /* the first n, then 0          */
{
    return n >= 16 ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(first(n), x);
}

INLINE void store(float *y, int64_t n, __m512 v)
{
    if (n >= 16) _mm512_storeu_ps(y, v);
    else _mm512_mask_storeu_ps(y, first(n), v);
}

INLINE __m512 muladd(__m512 sum, __m512 a, __m512 b)    /* two roundings                */
{
    return _mm512_add_ps(sum, _mm512_mul_ps(a, b));
}

INLINE __m512 fp16x16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* lanes i and i+8                                                                      */
INLINE __m256 halves(__m512 s)
{
    return _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
}

/* lanes i and i+8, then i+4, i+2, i+1                                                  */
INLINE float fold(__m512 v)
{
    __m256 s = halves(v);
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

#endif
