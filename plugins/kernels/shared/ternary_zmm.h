/* ternary_zmm.h - y = W x for ternary weights in tiles of 16 rows and int8 activations, on
 * registers of 512 bits: a dword lane is one output.
 *
 * With codes u = t + 1 in 0..2, a block of 64 k has sum u q within +-16256 and starts at
 * -sum q, so that it ends at I = sum t q.  One multiply by the activations' step per block and
 * one by the weights' scale per group do the rest in the canonical order of kernel.h.
 *
 * Several rows: the codes of two tiles are unpacked to bytes panel[k/4][row][k%4] once per
 * 512 k (16 KB) and serve up to 132 rows of activations, 12 rows x 32 outputs at a time in 24
 * registers.  A dword of activations is broadcast and multiplied with both tiles' bytes:
 * vpdpbusd where the CPU has VNNI, else vpmaddubsw and vpaddw, which fit 16 bits.          */
#ifndef TERNARY_ZMM_H
#define TERNARY_ZMM_H

#include "zmm.h"
#include <string.h>

enum { SLICE = 512, SLICE_BLOCKS = SLICE / CHI_ACT_BLOCK, COLUMNS = 12, ROWS = 11 * COLUMNS, GROUP = CHI_GROUP,
       PER_GROUP = GROUP / CHI_ACT_BLOCK, PANEL_BLOCK = CHI_ACT_BLOCK * CHI_TILE };

/* A matrix: tiles of tile bytes, in each the codes of nb blocks and then [group][16] fp16   */
struct shape { int64_t nb, codes, tile; };

INLINE struct shape shape_of(int64_t d_in, int64_t block_bytes)
{
    int64_t nb = (d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK, groups = (d_in + GROUP - 1) / GROUP;
    int64_t codes = nb * block_bytes;
    return (struct shape){ nb, codes, (codes + groups * CHI_TILE * 2 + 63) / 64 * 64 };
}

/* How an encoding gets its blocks b .. b + n of a tile into a panel, as u                   */
typedef void unpacker(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, struct shape);

struct ternary_work {                                   /* in the scratch, 64-aligned     */
    uint8_t panel[2][SLICE * CHI_TILE];
    float   c[ROWS][2 * CHI_TILE];
};

/* ---- four products per lane ------------------------------------------------------------------ */

INLINE __m512i dot4(__m512i sum, __m512i u, __m512i q, bool vnni)
{
    if (!vnni) return _mm512_add_epi16(sum, _mm512_maddubs_epi16(u, q));
    __asm__("vpdpbusd %[q], %[u], %[sum]" : [sum] "+v"(sum) : [u] "v"(u), [q] "v"(q));
    return sum;
}

/* Pairs of 16 bits have the start in the low one                                             */
INLINE __m512i dot_start(int32_t total, bool vnni)
{
    return _mm512_set1_epi32(vnni ? -total : -total & 0xffff);
}

INLINE __m512i dot_end(__m512i sum, bool vnni)
{
    return vnni ? sum : _mm512_madd_epi16(sum, _mm512_set1_epi16(1));
}

INLINE __m512i dword(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

/* ---- several rows ------------------------------------------------------------------------------ */

#define COLUMN(at, code)                                                                    \
    __asm__("vpbroadcastd " at ", %[x]\n\t" code                                            \
            : [s] "+&v"(*s), [t] "+&v"(*t), [x] "=&v"(x), [y] "=&v"(y)                      \
            : [a] "v"(a), [b] "v"(b), [q] "r"(q), [l] "r"(l), [l3] "r"(l3) : "memory")
#define DOTS_VNNI "vpdpbusd %[x], %[a], %[s]\n\t"                                           \
                  "vpdpbusd %[x], %[b], %[t]"
#define DOTS_16   "vpmaddubsw %[x], %[a], %[y]\n\t"                                         \
                  "vpmaddubsw %[x], %[b], %[x]\n\t"                                         \
                  "vpaddw %[y], %[s], %[s]\n\t"                                             \
                  "vpaddw %[x], %[t], %[t]"

/* s += a q, t += b q for the dword at row c (0..3) of q, whose rows lie l apart.  Assembler,
 * because compilers load all broadcasts first and then run out of registers                  */
INLINE void column(__m512i *s, __m512i *t, __m512i a, __m512i b, const int8_t *q, int64_t l, int64_t l3,
                   int c, bool vnni)
{
    __m512i x, y;
    if (vnni && c == 0) COLUMN("(%[q])", DOTS_VNNI);
    else if (vnni && c == 1) COLUMN("(%[q],%[l])", DOTS_VNNI);
    else if (vnni && c == 2) COLUMN("(%[q],%[l],2)", DOTS_VNNI);
    else if (vnni) COLUMN("(%[q],%[l3])", DOTS_VNNI);
    else if (c == 0) COLUMN("(%[q])", DOTS_16);
    else if (c == 1) COLUMN("(%[q],%[l])", DOTS_16);
    else if (c == 2) COLUMN("(%[q],%[l],2)", DOTS_16);
    else COLUMN("(%[q],%[l3])", DOTS_16);
}

/* I of block b for columns rows of activations from q and the 32 outputs of panels w0, w1     */
INLINE void block_sums(__m512i s[][2], const uint8_t *w0, const uint8_t *w1, const int8_t *q, int64_t ldq,
                       const int16_t *total, int64_t blocks, int columns, bool vnni)
{
    const int8_t *q4 = q + 4 * ldq, *q8 = q + 8 * ldq;
    int64_t l3 = 3 * ldq;
    UNROLL
    for (int c = 0; c < columns; c++) s[c][0] = s[c][1] = dot_start(total[c * blocks], vnni);
    for (int64_t k = 0; k < CHI_ACT_BLOCK; k += 4) {
        __m512i a = _mm512_load_si512(w0 + 16 * k), b = _mm512_load_si512(w1 + 16 * k);
        UNROLL
        for (int c = 0; c < columns; c++)
            column(&s[c][0], &s[c][1], a, b, (c < 4 ? q : c < 8 ? q4 : q8) + k, ldq, l3, c % 4, vnni);
    }
}

/* c[columns][32] += a slice of nb blocks from b0 on of rows r .. r + columns                  */
INLINE void micro(float (*c)[2 * CHI_TILE], const uint8_t *w0, const uint8_t *w1, const uint8_t *scale0,
                  const uint8_t *scale1, const struct chi_act *a, int64_t r, int64_t b0, int64_t nb,
                  int columns, bool vnni)
{
    int64_t blocks = a->ldq / CHI_ACT_BLOCK;
    for (int64_t g = 0; g < nb; g += PER_GROUP, scale0 += CHI_TILE * 2, scale1 += CHI_TILE * 2) {
        __m512 p[COLUMNS][2];
        for (int64_t b = g; b < g + PER_GROUP && b < nb; b++) {
            __m512i s[COLUMNS][2];
            const float *step = a->step + r * blocks + b0 + b;
            block_sums(s, w0 + PANEL_BLOCK * b, w1 + PANEL_BLOCK * b,
                       a->q + r * a->ldq + (b0 + b) * CHI_ACT_BLOCK, a->ldq, a->sum + r * blocks + b0 + b,
                       blocks, columns, vnni);
            UNROLL
            for (int i = 0; i < columns; i++) {
                __m512 v = _mm512_set1_ps(step[i * blocks]);
                UNROLL
                for (int t = 0; t < 2; t++) {
                    __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(dot_end(s[i][t], vnni)), v);
                    p[i][t] = b > g ? _mm512_add_ps(p[i][t], x) : x;
                }
            }
        }
        __m512 alpha[2] = { fp16x16(scale0), fp16x16(scale1) };
        UNROLL
        for (int i = 0; i < columns; i++)
            UNROLL
            for (int t = 0; t < 2; t++)
                _mm512_store_ps(c[i] + CHI_TILE * t,
                                muladd(_mm512_load_ps(c[i] + CHI_TILE * t), alpha[t], p[i][t]));
    }
}

struct pair { const uint8_t *tile[2]; int64_t width[2]; float *y[2]; };

/* Rows r0 .. r0 + rows (at most ROWS) of the activations times two tiles, the codes of whose
 * blocks b .. b + nb lie in the panels                                                        */
INLINE void slice_rows(struct ternary_work *k, const struct pair *p, const struct chi_act *a, int64_t r0,
                       int64_t rows, int64_t b, int64_t nb, struct shape s, bool vnni)
{
    int64_t r = 0, scales = s.codes + b / PER_GROUP * CHI_TILE * 2;
    const uint8_t *w0 = k->panel[0], *w1 = k->panel[1], *s0 = p->tile[0] + scales, *s1 = p->tile[1] + scales;
    for (; r + COLUMNS <= rows; r += COLUMNS) micro(k->c + r, w0, w1, s0, s1, a, r0 + r, b, nb, COLUMNS, vnni);
    if (r + 8 <= rows) micro(k->c + r, w0, w1, s0, s1, a, r0 + r, b, nb, 8, vnni), r += 8;
    if (r + 4 <= rows) micro(k->c + r, w0, w1, s0, s1, a, r0 + r, b, nb, 4, vnni), r += 4;
    if (r + 2 <= rows) micro(k->c + r, w0, w1, s0, s1, a, r0 + r, b, nb, 2, vnni), r += 2;
    if (r < rows) micro(k->c + r, w0, w1, s0, s1, a, r0 + r, b, nb, 1, vnni);
}

/* Two tiles; one that is left goes twice, to the same place                                    */
INLINE struct pair pair_of(float *y, const struct chi_matrix *m, struct shape s, int64_t o0, int64_t o,
                           int64_t other, int64_t o1)
{
    const uint8_t *w = m->bytes;
    return (struct pair){ { w + o / CHI_TILE * s.tile, w + other / CHI_TILE * s.tile },
                          { o1 - o, o1 - other }, { y + o - o0, y + other - o0 } };
}

INLINE void ternary_rows(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                         int64_t o0, int64_t o1, struct ternary_work *k, struct shape s, unpacker *unpack,
                         bool vnni)
{
    for (int64_t r0 = 0; r0 < a->rows; r0 += ROWS) {
        int64_t rows = a->rows - r0 < ROWS ? a->rows - r0 : ROWS;
        for (int64_t o = o0; o < o1; o += 2 * CHI_TILE) {
            struct pair p = pair_of(y + r0 * ldy, m, s, o0, o, o + CHI_TILE < o1 ? o + CHI_TILE : o, o1);
            memset(k->c, 0, (size_t)rows * sizeof k->c[0]);
            for (int64_t b = 0; b < s.nb; b += SLICE_BLOCKS) {
                int64_t nb = s.nb - b < SLICE_BLOCKS ? s.nb - b : SLICE_BLOCKS;
                for (int t = 0; t < 2; t++) unpack(k->panel[t], p.tile[t], b, nb, s);
                slice_rows(k, &p, a, r0, rows, b, nb, s, vnni);
            }
            for (int64_t r = 0; r < rows; r++)
                for (int t = 0; t < 2; t++)
                    store(p.y[t] + r * ldy, p.width[t], _mm512_load_ps(k->c[r] + CHI_TILE * t));
        }
    }
}

static int64_t ternary_scratch(int64_t rows, int64_t d_in)
{
    (void)rows, (void)d_in;
    return (int64_t)sizeof(struct ternary_work);
}

#endif
