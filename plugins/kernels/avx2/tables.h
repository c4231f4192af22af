/* tables.h - sums of activations by table look-up, for encodings whose codes are indices.
 *
 * vpshufb looks up 32 bytes at a time: 16 rows in each half of a register, a table for each half.  A sum
 * v of three activations has 10 bits, so it is kept in two bytes
 *
 *     v = base high + low,    base odd, |low| <= base / 2,
 *
 * small enough that bytes can be added over a part of a block before they are put together again: two
 * look-ups and two additions, without widening.                                                      */
#ifndef AVX2_TABLES_H
#define AVX2_TABLES_H

#include "panel.h"

struct digits { __m256i low, high; };

/* v[0], v[1]: 16-bit sums, entries 0-7 and 8-15 of both halves; scale = round(2^15 / base).  Rounding has
 * no ties, since base is odd.                                                                         */
INLINE struct digits digits(__m256i v0, __m256i v1, int base, int scale)
{
    __m256i h0 = _mm256_mulhrs_epi16(v0, _mm256_set1_epi16((int16_t)scale));
    __m256i h1 = _mm256_mulhrs_epi16(v1, _mm256_set1_epi16((int16_t)scale));
    __m256i b = _mm256_set1_epi16((int16_t)base);
    __m256i l0 = _mm256_sub_epi16(v0, _mm256_mullo_epi16(h0, b));
    __m256i l1 = _mm256_sub_epi16(v1, _mm256_mullo_epi16(h1, b));
    return (struct digits){ _mm256_packs_epi16(l0, l1), _mm256_packs_epi16(h0, h1) };
}

/* Both halves: four sums of the four bytes of x, each with the signs of its pattern (-1, 0, 1)         */
INLINE __m256i sums4(__m256i x, const int8_t pattern[16])
{
    __m256i p = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)pattern));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_sign_epi8(x, p));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

INLINE __m256i sums8(__m256i x, const int8_t pattern[32])
{
    return _mm256_packs_epi32(sums4(x, pattern), sums4(x, pattern + 16));
}

/* Bytes low and high of 16 rows and 16 rows to base high + low in 16 bits: v[0] rows 0-7, v[1] rows 8-15
 * of both halves                                                                                     */
INLINE void join(__m256i v[2], struct digits d, int base)
{
    const __m256i weight = _mm256_set1_epi16((int16_t)(base << 8 | 1));
    v[0] = _mm256_maddubs_epi16(weight, _mm256_unpacklo_epi8(d.low, d.high));
    v[1] = _mm256_maddubs_epi16(weight, _mm256_unpackhi_epi8(d.low, d.high));
}

#endif
