/* panel.h - what the ternary encodings of this backend share: tiles of 16 rows, and products with many
 * rows of activations, for which a tile is unpacked to bytes first.
 *
 * Such a tile is nb blocks of 64 k, then scales [group][16] in fp16, padded to 64 bytes.            */
#ifndef AVX2_PANEL_H
#define AVX2_PANEL_H

#include "avx2.h"

#define INLINE static inline __attribute__((always_inline))

enum { GROUP = CHI_GROUP, PER_GROUP = GROUP / CHI_ACT_BLOCK };

/* An encoding: bytes of a block, and how n of its nb blocks from b (even) come out as codes u = t + 1,
 * panel[k / 4][row][k % 4], 1024 bytes a block                                                        */
struct ternary {
    int64_t block;
    void  (*unpack)(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, int64_t nb);
};

/* A matrix of d_in columns in it                                                                      */
struct shape { int64_t nb, codes, tile; };

INLINE struct shape shape_of(const struct ternary *e, int64_t d_in)
{
    int64_t nb = (d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK, groups = (d_in + GROUP - 1) / GROUP;
    return (struct shape){ nb, nb * e->block, (nb * e->block + groups * CHI_TILE * 2 + 63) / 64 * 64 };
}

INLINE __m256i load256(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

INLINE __m256 fp16x8(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* 16 outputs, or the first width of them                                                              */
INLINE void put(float *y, int64_t width, __m256 lo, __m256 hi)
{
    if (width >= CHI_TILE) {
        _mm256_storeu_ps(y, lo);
        _mm256_storeu_ps(y + 8, hi);
        return;
    }
    _mm256_maskstore_ps(y, first(width), lo);
    if (width > 8) _mm256_maskstore_ps(y + 8, first(width - 8), hi);
}

/* u[c] has 16 rows of k = 4i + c in one half and of another k in the other: 64 bytes of panel each     */
INLINE void interleave(uint8_t *one, uint8_t *other, const __m256i u[4])
{
    __m256i a = _mm256_unpacklo_epi8(u[0], u[1]), b = _mm256_unpacklo_epi8(u[2], u[3]);
    __m256i c = _mm256_unpackhi_epi8(u[0], u[1]), d = _mm256_unpackhi_epi8(u[2], u[3]);
    const __m256i v[4] = { _mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b),
                           _mm256_unpacklo_epi16(c, d), _mm256_unpackhi_epi16(c, d) };
    UNROLL
    for (int i = 0; i < 4; i++) {
        _mm_store_si128((__m128i *)(void *)(one + 16 * i), _mm256_castsi256_si128(v[i]));
        _mm_store_si128((__m128i *)(void *)(other + 16 * i), _mm256_extracti128_si256(v[i], 1));
    }
}

int64_t panel_scratch(int64_t rows, int64_t d_in);
void    panel_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                  int64_t o1, void *scratch, const struct ternary *e);

#endif
