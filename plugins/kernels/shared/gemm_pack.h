/* gemm_pack.h - the copies of op(A) and op(B) that a matrix product reads, after the scheme
 * of Goto and BLIS (van Zee and van de Geijn, ACM TOMS 41(3), 2015): panels of width lines
 * (rows of op(A), columns of op(B)), dst[panel][p][width], an edge padded with zeros.    */
#ifndef GEMM_PACK_H
#define GEMM_PACK_H

#include <stdint.h>
#include <string.h>
#include <xmmintrin.h>

#define PACKS static inline __attribute__((always_inline))

/* Four lines, ld apart, to columns i..i+3 of a panel: 4 x 4 transposes                */
PACKS void pack_four(float *dst, const float *src, int64_t ld, int64_t width, int64_t kc)
{
    const float *a = src, *b = a + ld, *c = b + ld, *d = c + ld;
    int64_t p = 0;
    for (; p + 4 <= kc; p += 4) {
        __m128 r0 = _mm_loadu_ps(a + p), r1 = _mm_loadu_ps(b + p);
        __m128 r2 = _mm_loadu_ps(c + p), r3 = _mm_loadu_ps(d + p);
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        _mm_storeu_ps(dst + p * width, r0);
        _mm_storeu_ps(dst + (p + 1) * width, r1);
        _mm_storeu_ps(dst + (p + 2) * width, r2);
        _mm_storeu_ps(dst + (p + 3) * width, r3);
    }
    for (; p < kc; p++)
        for (int64_t j = 0; j < 4; j++) dst[p * width + j] = src[j * ld + p];
}

/* Lines lie apart by ld, their k is contiguous                                        */
PACKS void pack_lines(float *dst, const float *src, int64_t ld, int64_t width, int64_t lines, int64_t kc)
{
    int64_t i = 0;
    for (; i + 4 <= lines && i + 4 <= width; i += 4) pack_four(dst + i, src + i * ld, ld, width, kc);
    for (; i < width; i++)
        for (int64_t p = 0; p < kc; p++) dst[p * width + i] = i < lines ? src[i * ld + p] : 0;
}

/* Lines are contiguous, their k lies apart by ld                                      */
PACKS void pack_columns(float *dst, const float *src, int64_t ld, int64_t width, int64_t lines, int64_t kc)
{
    if (lines >= width)
        for (int64_t p = 0; p < kc; p++) memcpy(dst + p * width, src + p * ld, (size_t)width * sizeof *dst);
    else
        for (int64_t p = 0; p < kc; p++)
            for (int64_t i = 0; i < width; i++) dst[p * width + i] = i < lines ? src[p * ld + i] : 0;
}

/* width is a constant at each call, so that the loops over it are unrolled            */
PACKS void pack_panels(float *dst, const float *src, int64_t ld, bool contiguous, int64_t width,
                       int64_t lines, int64_t kc)
{
    for (int64_t i = 0; i < lines; i += width, dst += width * kc)
        if (contiguous) pack_columns(dst, src + i, ld, width, lines - i, kc);
        else pack_lines(dst, src + i * ld, ld, width, lines - i, kc);
}

#endif
