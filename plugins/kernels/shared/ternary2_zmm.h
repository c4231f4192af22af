/* ternary2_zmm.h - the encoding ternary2 on registers of 512 bits: a piece of 64 bytes has 16 k
 * of 16 rows, field j of byte 4r + c is row r, k = 4j + c (plugins/formats/ternary).
 *
 * One row of activations: each field is taken by a mask without shifting it, that is 1, 4, 16
 * and 64 times u, into an accumulator of its own, which shifts mend at the end of a block; 16 bits
 * have room for the first two only, so there the other two fields are shifted down by 4 first.
 * Two tiles share the broadcasts, and come from the two halves of the range so that each is one
 * stream of memory.                                                                          */
#ifndef TERNARY2_ZMM_H
#define TERNARY2_ZMM_H

#include "ternary_zmm.h"

enum { T2_BLOCK = 256, T2_PIECE = 64, T2_AHEAD = 3072 };

/* u, or with minus 1 the trits                                                                 */
INLINE void ternary2_bytes(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, int minus)
{
    const __m512i low = _mm512_set1_epi8(3), less = _mm512_set1_epi8((char)minus);
    const uint8_t *codes = tile + T2_BLOCK * b;
    for (int64_t i = 0; i < 4 * n; i++) {
        __m512i c = _mm512_loadu_si512(codes + T2_PIECE * i);
        _mm_prefetch((const char *)codes + T2_PIECE * i + T2_BLOCK * SLICE_BLOCKS, _MM_HINT_T0);   /* the next slice */
        UNROLL
        for (int j = 0; j < 4; j++) {
            __m512i u = _mm512_and_si512(j ? _mm512_srli_epi16(c, (unsigned)(2 * j)) : c, low);
            _mm512_store_si512(panel + T2_PIECE * (4 * i + j), minus ? _mm512_sub_epi8(u, less) : u);
        }
    }
}

static void ternary2_unpack(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, struct shape s)
{
    (void)s;
    ternary2_bytes(panel, tile, b, n, 0);
}

/* sum[j] += 4^j u q of 16 k for field j                                                        */
INLINE void piece_vnni(__m512i sum[4], __m512i w, const __m512i q[4])
{
    UNROLL
    for (int j = 0; j < 4; j++)
        sum[j] = dot4(sum[j], _mm512_and_si512(w, _mm512_set1_epi8((char)(3 << 2 * j))), q[j], true);
}

/* sum[0] += u q of fields 0 and 2, sum[1] += 4 u q of fields 1 and 3                             */
INLINE void piece_16(__m512i sum[4], __m512i w, const __m512i q[4])
{
    UNROLL
    for (int j = 0; j < 4; j++)
        sum[j % 2] = dot4(sum[j % 2], _mm512_and_si512(j < 2 ? w : _mm512_srli_epi16(w, 4),
                                                       _mm512_set1_epi8(j % 2 ? 12 : 3)), q[j], false);
}

/* I of one block for the 16 rows of two tiles, whose 256 bytes of codes are at w[]              */
INLINE void ternary2_block(__m512i out[2], const uint8_t *const w[2], const int8_t *q, int32_t total, bool vnni)
{
    __m512i sum[2][4];
    UNROLL
    for (int t = 0; t < 2; t++) {
        sum[t][0] = dot_start(total, vnni);
        sum[t][1] = sum[t][2] = sum[t][3] = _mm512_setzero_si512();
    }
    UNROLL
    for (int piece = 0; piece < 4; piece++) {
        __m512i x[4];
        UNROLL
        for (int j = 0; j < 4; j++) x[j] = dword(q + 16 * piece + 4 * j);
        UNROLL
        for (int t = 0; t < 2; t++) {
            __m512i c = _mm512_loadu_si512(w[t] + T2_PIECE * piece);
            _mm_prefetch((const char *)w[t] + T2_PIECE * piece + T2_AHEAD, _MM_HINT_T0);
            if (vnni) piece_vnni(sum[t], c, x);
            else piece_16(sum[t], c, x);
        }
    }
    UNROLL
    for (int t = 0; t < 2; t++) {
        __m512i low = vnni ? _mm512_add_epi32(sum[t][0], _mm512_srai_epi32(sum[t][1], 2))
                           : _mm512_add_epi16(sum[t][0], _mm512_srai_epi16(sum[t][1], 2));
        __m512i high = _mm512_add_epi32(_mm512_srai_epi32(sum[t][2], 4), _mm512_srai_epi32(sum[t][3], 6));
        out[t] = vnni ? _mm512_add_epi32(low, high) : dot_end(low, false);
    }
}

/* Two tiles times row r, whose outputs lie at from those of row 0                              */
INLINE void ternary2_decode(const struct pair *p, const struct chi_act *a, int64_t r, int64_t at, struct shape s,
                            bool vnni)
{
    int64_t first = r * (a->ldq / CHI_ACT_BLOCK);
    __m512 y[2] = { _mm512_setzero_ps(), _mm512_setzero_ps() };
    for (int64_t g = 0; g < s.nb; g += PER_GROUP) {
        __m512 sum[2] = { _mm512_setzero_ps(), _mm512_setzero_ps() };
        for (int64_t b = g; b < g + PER_GROUP && b < s.nb; b++) {
            const uint8_t *w[2] = { p->tile[0] + T2_BLOCK * b, p->tile[1] + T2_BLOCK * b };
            __m512 step = _mm512_set1_ps(a->step[first + b]);
            __m512i i32[2];
            ternary2_block(i32, w, a->q + r * a->ldq + CHI_ACT_BLOCK * b, a->sum[first + b], vnni);
            UNROLL
            for (int t = 0; t < 2; t++) {
                __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(i32[t]), step);
                sum[t] = b > g ? _mm512_add_ps(sum[t], x) : x;
            }
        }
        UNROLL
        for (int t = 0; t < 2; t++)
            y[t] = muladd(y[t], fp16x16(p->tile[t] + s.codes + g / PER_GROUP * CHI_TILE * 2), sum[t]);
    }
    store(p->y[0] + at, p->width[0], y[0]);
    store(p->y[1] + at, p->width[1], y[1]);
}

enum { T2_FEW = 3 };                /* so many rows meet each pair of tiles one after the other  */

INLINE void ternary2_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                         int64_t o1, void *scratch, bool vnni)
{
    struct shape s = shape_of(m->d_in, T2_BLOCK);
    int64_t tiles = (o1 - o0 + CHI_TILE - 1) / CHI_TILE, half = tiles / 2;
    if (a->rows > T2_FEW) {
        ternary_rows(y, ldy, a, m, o0, o1, scratch, s, ternary2_unpack, vnni);
        return;
    }
    for (int64_t i = 0; i < tiles - half; i++) {        /* of an odd number one goes twice   */
        struct pair p = pair_of(y, m, s, o0, o0 + i * CHI_TILE, o0 + (half + i) * CHI_TILE, o1);
        for (int64_t r = 0; r < a->rows; r++) ternary2_decode(&p, a, r, r * ldy, s, vnni);
    }
}

#endif
