/* int8_zmm.h - y = W x, int8 weights with a scale per row, int8 activations, on registers of
 * 512 bits.  A dword of weights is 4 k of one row, so a dword of activations is broadcast to
 * all rows.
 *
 * vpdpbusd wants one unsigned operand: w + 128, and the sum starts at -128 sum q.  Without VNNI:
 * |w| times the activation with the sign of w, |w| * (q sign(w)), at most 2 * 128 * 127 < 2^15
 * per pair; vpmaddwd by 1 adds pairs to one int32 per output.                              */
#ifndef INT8_ZMM_H
#define INT8_ZMM_H

#include "ternary_zmm.h"

enum { INT8_COLUMNS = 12 };

INLINE __m512i int8_dot(__m512i sum, __m512i w, __m512i q, bool vnni)
{
    if (vnni) return dot4(sum, _mm512_xor_si512(w, _mm512_set1_epi8(-128)), q, true);
    __m512i x = _mm512_mask_sub_epi8(q, _mm512_movepi8_mask(w), _mm512_setzero_si512(), q);
    __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), x);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

/* columns rows of activations from r on times one tile; width outputs exist               */
INLINE void int8_columns(float *y, int64_t ldy, const struct chi_act *a, int64_t r, const int8_t *w,
                         int64_t blocks, int columns, int64_t width, bool vnni)
{
    __m512 p[INT8_COLUMNS];
    const float *scale = (const float *)(const void *)(w + blocks * PANEL_BLOCK);
    int64_t ld = a->ldq / CHI_ACT_BLOCK;
    UNROLL
    for (int i = 0; i < columns; i++) p[i] = _mm512_setzero_ps();
    for (int64_t b = 0; b < blocks; b++) {
        __m512i s[INT8_COLUMNS];
        const int8_t *q = a->q + r * a->ldq + b * CHI_ACT_BLOCK;
        UNROLL
        for (int i = 0; i < columns; i++)
            s[i] = vnni ? _mm512_set1_epi32(-128 * a->sum[(r + i) * ld + b]) : _mm512_setzero_si512();
        for (int64_t k = 0; k < CHI_ACT_BLOCK; k += 4, w += 64) {
            if (columns == 1) _mm_prefetch((const char *)w + 3072, _MM_HINT_T0);
            __m512i v = _mm512_loadu_si512(w);
            UNROLL
            for (int i = 0; i < columns; i++) s[i] = int8_dot(s[i], v, dword(q + i * a->ldq + k), vnni);
        }
        UNROLL
        for (int i = 0; i < columns; i++) {
            __m512 step = _mm512_set1_ps(a->step[(r + i) * ld + b]);
            p[i] = muladd(p[i], _mm512_cvtepi32_ps(s[i]), step);
        }
    }
    UNROLL
    for (int i = 0; i < columns; i++)
        store(y + i * ldy, width, muladd(_mm512_setzero_ps(), _mm512_loadu_ps(scale), p[i]));
}

INLINE void int8_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                     int64_t o1, bool vnni)
{
    int64_t blocks = (m->d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK;
    for (int64_t o = o0; o < o1; o += CHI_TILE) {
        const int8_t *w = (const int8_t *)m->bytes + o * (blocks * CHI_ACT_BLOCK + 4);
        int64_t width = o1 - o, r = 0;
        float *at = y + o - o0;
        for (; r + INT8_COLUMNS <= a->rows; r += INT8_COLUMNS)
            int8_columns(at + r * ldy, ldy, a, r, w, blocks, INT8_COLUMNS, width, vnni);
        for (; r + 4 <= a->rows; r += 4) int8_columns(at + r * ldy, ldy, a, r, w, blocks, 4, width, vnni);
        for (; r < a->rows; r++) int8_columns(at + r * ldy, ldy, a, r, w, blocks, 1, width, vnni);
    }
}

#endif
