/* packed_zmm.h - the encodings sherry125 and base3 on registers of 512 bits: they are unpacked to
 * bytes panel[k/4][row][k%4], whatever the number of rows of activations, and then go the way of
 * ternary_zmm.h.  Layouts: plugins/formats/sherry125 and base3.
 *
 * A dword lane is a row.  sherry125: slot and sign of a quad are an index into a table of 32 dwords,
 * which is two registers: one vpermt2d makes 64 weights.  base3: v = 27 x + y with
 * x = v * 2428 >> 16 (right for all v below 256), a table of three trits for y and one of two for x;
 * 20 trits of four bytes are put together to five dwords.                                        */
#ifndef PACKED_ZMM_H
#define PACKED_ZMM_H

#include "ternary_zmm.h"

enum { SHERRY_BLOCK = 160, SHERRY_SIGNS = 128, BASE3_BYTES = 13, BASE3_BLOCK = BASE3_BYTES * CHI_TILE,
       PACKED_AHEAD = 2048 };

INLINE __m512i bytes16(const uint8_t *p)                /* of 16 rows, to dwords          */
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* u, or with minus 1 the trits                                                             */
INLINE void put_panel(uint8_t *panel, int64_t quad, __m512i u, int minus)
{
    if (minus) u = _mm512_sub_epi8(u, _mm512_set1_epi8(1));
    _mm512_store_si512(panel + 64 * quad, u);
}

/* ---- sherry125 ----------------------------------------------------------------------------- */

/* The codes u of a quad, a byte each, by slot + 16 sign                                     */
static const uint32_t sherry_quads[32] = {
    0x02020201, 0x02000201, 0x00020201, 0x00000201, 0x02020102, 0x02000102, 0x00020102, 0x00000102,
    0x02010202, 0x02010002, 0x00010202, 0x00010002, 0x01020202, 0x01020002, 0x01000202, 0x01000002,
    0x00000001, 0x00020001, 0x02000001, 0x02020001, 0x00000100, 0x00020100, 0x02000100, 0x02020100,
    0x00010000, 0x00010200, 0x02010000, 0x02010200, 0x01000000, 0x01000200, 0x01020000, 0x01020200,
};

/* Bits 3:0 of slot, bit 7 - n of signs; higher bits of an index do not count                  */
INLINE __m512i sherry_quad(__m512i slot, __m512i signs, int n, __m512i plus, __m512i minus)
{
    __m512i at_4 = n <= 3 ? _mm512_srli_epi32(signs, (unsigned)(3 - n)) : _mm512_slli_epi32(signs, (unsigned)(n - 3));
    __m512i index = _mm512_ternarylogic_epi32(_mm512_set1_epi32(15), slot, at_4, 0xca);
    return _mm512_permutex2var_epi32(plus, index, minus);
}

INLINE void sherry_bytes(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, int minus)
{
    const __m512i t0 = _mm512_loadu_si512(sherry_quads), t1 = _mm512_loadu_si512(sherry_quads + 16);
    const uint8_t *w = tile + SHERRY_BLOCK * b;
    for (int64_t i = 0; i < n; i++, w += SHERRY_BLOCK, panel += PANEL_BLOCK) {
        for (int j = 0; j < SHERRY_BLOCK; j += 64) _mm_prefetch((const char *)w + PACKED_AHEAD + j, _MM_HINT_T0);
        UNROLL
        for (int h = 0; h < 2; h++) {
            __m512i signs = bytes16(w + SHERRY_SIGNS + 16 * h);
            UNROLL
            for (int p = 0; p < 4; p++) {
                __m512i slots = bytes16(w + 32 * p + 16 * h);
                put_panel(panel, 4 * p + h, sherry_quad(slots, signs, 2 * p, t0, t1), minus);
                slots = _mm512_srli_epi32(slots, 4);
                put_panel(panel, 4 * p + 2 + h, sherry_quad(slots, signs, 2 * p + 1, t0, t1), minus);
            }
        }
    }
}

/* ---- base3 ------------------------------------------------------------------------------------ */

static const uint32_t base3_two[16] = { 0x0, 0x1, 0x2, 0x100, 0x101, 0x102, 0x200, 0x201, 0x202 };
static const uint32_t base3_three[32] = {
    0x00000, 0x00001, 0x00002, 0x00100, 0x00101, 0x00102, 0x00200, 0x00201, 0x00202,
    0x10000, 0x10001, 0x10002, 0x10100, 0x10101, 0x10102, 0x10200, 0x10201, 0x10202,
    0x20000, 0x20001, 0x20002, 0x20100, 0x20101, 0x20102, 0x20200, 0x20201, 0x20202,
};

struct base3_tables { __m512i two, three[2]; };

/* Five trits of 16 rows: the lower three in bytes 2:0 of y, the upper two in bytes 1:0 of x     */
INLINE void base3_five(__m512i *x, __m512i *y, const uint8_t *p, const struct base3_tables *t)
{
    __m512i v = bytes16(p), high = _mm512_mulhi_epu16(v, _mm512_set1_epi32(2428));
    __m512i low = _mm512_sub_epi32(v, _mm512_mullo_epi16(high, _mm512_set1_epi32(27)));
    *x = _mm512_permutexvar_epi32(high, t->two);
    *y = _mm512_permutex2var_epi32(t->three[0], low, t->three[1]);
}

INLINE __m512i either(__m512i a, __m512i b)
{
    return _mm512_or_si512(a, b);
}

/* One block whose bytes of 16 rows lie stride apart                                              */
INLINE void base3_block(uint8_t *panel, const uint8_t *w, int64_t stride, const struct base3_tables *t, int minus)
{
    __m512i x[4], y[4];
    for (int m = 0; m < 3; m++) {                       /* 4 bytes, 20 trits, 5 dwords            */
        UNROLL
        for (int j = 0; j < 4; j++) base3_five(&x[j], &y[j], w + (4 * m + j) * stride, t);
        put_panel(panel, 5 * m, either(y[0], _mm512_slli_epi32(x[0], 24)), minus);
        put_panel(panel, 5 * m + 1, either(_mm512_srli_epi32(x[0], 8), _mm512_slli_epi32(y[1], 8)), minus);
        put_panel(panel, 5 * m + 2, either(x[1], _mm512_slli_epi32(y[2], 16)), minus);
        put_panel(panel, 5 * m + 3, either(_mm512_srli_epi32(y[2], 16), either(_mm512_slli_epi32(x[2], 8),
                                           _mm512_slli_epi32(y[3], 24))), minus);
        put_panel(panel, 5 * m + 4, either(_mm512_srli_epi32(y[3], 8), _mm512_slli_epi32(x[3], 16)), minus);
    }
    base3_five(&x[0], &y[0], w + (BASE3_BYTES - 1) * stride, t);
    put_panel(panel, 15, either(y[0], _mm512_slli_epi32(x[0], 24)), minus);
}

/* Blocks 2p and 2p + 1 lie byte by byte side by side, an odd last one alone; b is even            */
INLINE void base3_bytes(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, int64_t all, int minus)
{
    const struct base3_tables t = { _mm512_loadu_si512(base3_two),
                                    { _mm512_loadu_si512(base3_three), _mm512_loadu_si512(base3_three + 16) } };
    for (int64_t i = b; i < b + n; i++, panel += PANEL_BLOCK) {
        bool alone = i % 2 == 0 && i + 1 == all;
        const uint8_t *w = tile + i / 2 * 2 * BASE3_BLOCK + i % 2 * CHI_TILE;
        for (int j = 0; j < BASE3_BLOCK; j += 64)
            _mm_prefetch((const char *)tile + i * BASE3_BLOCK + PACKED_AHEAD + j, _MM_HINT_T0);
        base3_block(panel, w, alone ? CHI_TILE : 2 * CHI_TILE, &t, minus);
    }
}

/* ---- as ternary_zmm.h wants them ------------------------------------------------------------------ */

static void sherry_unpack(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, struct shape s)
{
    (void)s;
    sherry_bytes(panel, tile, b, n, 0);
}

static void base3_unpack(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, struct shape s)
{
    base3_bytes(panel, tile, b, n, s.nb, 0);
}

INLINE void sherry_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                       int64_t o1, void *scratch, bool vnni)
{
    ternary_rows(y, ldy, a, m, o0, o1, scratch, shape_of(m->d_in, SHERRY_BLOCK), sherry_unpack, vnni);
}

INLINE void base3_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                      int64_t o1, void *scratch, bool vnni)
{
    ternary_rows(y, ldy, a, m, o0, o1, scratch, shape_of(m->d_in, BASE3_BLOCK), base3_unpack, vnni);
}

#endif
