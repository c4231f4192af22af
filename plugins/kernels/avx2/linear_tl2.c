/* linear_tl2.c - y = W x for weights in indices of triples and signs.
 *
 * The triple of index |v| and sign s adds +-T[|v|] to its row, T the 14 sums of its three activations with
 * the patterns 9 t0 + 3 t1 + t2 = |v|.  One row of activations: all tables are made first; a block of 64 k
 * of a tile is then 11 times two look-ups, two changes of sign and two additions, in bytes: base 31,
 * |low| <= 15 and |high| <= 12, so that 6 and 5 turns fit.  One half of a register has the even triples,
 * from the high nibbles, and one the odd ones.
 *
 * Two to four rows do this one by one.  More: panel.c.                                                */
#include "tables.h"
#include <string.h>

enum { TURNS = 11, INDICES = TURNS * CHI_TILE, SIGNS = 4 * TURNS, BLOCK = INDICES + SIGNS, BASE = 31, SCALE = 1057,
       TABLE = 64, TILES = 4, FEW = 4 };

/* t0, t1, t2 of |v| = 0..13                                                                            */
static const int8_t patterns[64] = {
    0, 0, 0, 0,    0, 0, 1, 0,    0, 1, -1, 0,   0, 1, 0, 0,
    0, 1, 1, 0,    1, -1, -1, 0,  1, -1, 0, 0,   1, -1, 1, 0,
    1, 0, -1, 0,   1, 0, 0, 0,    1, 0, 1, 0,    1, 1, -1, 0,
    1, 1, 0, 0,    1, 1, 1, 0,
};

/* Indices of turn i of a block: triple 2i in one half, 2i + 1 in the other                             */
INLINE __m256i indices(const uint8_t *w, int64_t i)
{
    __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(w + CHI_TILE * i)));
    both = _mm256_srlv_epi32(both, _mm256_setr_epi32(4, 4, 4, 4, 0, 0, 0, 0));
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* Their signs, -1 or 1                                                                                 */
INLINE __m256i signs(const uint8_t *w, int64_t i)
{
    const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
                                            2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    int32_t words;
    memcpy(&words, w + 4 * i, 4);
    __m256i s = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(words), spread), bit);
    return _mm256_or_si256(_mm256_cmpeq_epi8(s, bit), _mm256_set1_epi8(1));
}

/* ---- codes to bytes --------------------------------------------------------------------------------- */

/* Trit c of the indices, sign +                                                                        */
static __m256i trits_of(int c)
{
    int8_t t[16];
    for (int s = 0; s < 16; s++) t[s] = patterns[4 * s + c];
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)t));
}

static void unpack(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, int64_t nb)
{
    const __m256i trit[3] = { trits_of(0), trits_of(1), trits_of(2) }, one = _mm256_set1_epi8(1);
    for (int64_t i = b; i < b + n; i++, panel += 1024) {
        __m128i k[6 * TURNS];                           /* 16 rows of each k                          */
        for (int64_t j = 0; j < TURNS; j++) {
            __m256i x = indices(tile + INDICES * i, j), s = signs(tile + INDICES * nb + SIGNS * i, j);
            for (int c = 0; c < 3; c++) {
                __m256i u = _mm256_add_epi8(_mm256_sign_epi8(_mm256_shuffle_epi8(trit[c], x), s), one);
                k[6 * j + c] = _mm256_castsi256_si128(u);
                k[6 * j + 3 + c] = _mm256_extracti128_si256(u, 1);
            }
        }
        for (int64_t j = 0; j < CHI_ACT_BLOCK / 8; j++) {
            __m256i u[4];
            for (int c = 0; c < 4; c++) u[c] = _mm256_set_m128i(k[8 * j + 4 + c], k[8 * j + c]);
            interleave(panel + 128 * j, panel + 128 * j + 64, u);
        }
    }
}

static const struct ternary tl2 = { BLOCK, unpack };

/* ---- one row of activations -------------------------------------------------------------------------- */

/* Turn i of a block: low and high of triples 2i and 2i + 1, 32 bytes each; the last triple has one weight */
static void make_tables(uint8_t *table, const int8_t *q, int64_t nb)
{
    const __m256i three = _mm256_setr_epi8(0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2, -1,
                                           3, 4, 5, -1, 3, 4, 5, -1, 3, 4, 5, -1, 3, 4, 5, -1);
    for (int64_t b = 0; b < nb; b++, q += CHI_ACT_BLOCK)
        for (int64_t i = 0; i < TURNS; i++, table += TABLE) {
            int64_t six = 0;
            memcpy(&six, q + 6 * i, i < TURNS - 1 ? 6 : 4);
            __m256i x = _mm256_shuffle_epi8(_mm256_set1_epi64x(six), three);
            struct digits d = digits(sums8(x, patterns), sums8(x, patterns + 32), BASE, SCALE);
            _mm256_store_si256((__m256i *)(void *)table, d.low);
            _mm256_store_si256((__m256i *)(void *)(table + 32), d.high);
        }
}

/* Turns i .. i + n of a block added to v[2]                                                            */
INLINE void turns(__m256i v[2], const uint8_t *w, const uint8_t *sign, const uint8_t *table, int64_t i, int64_t n)
{
    struct digits d = { _mm256_setzero_si256(), _mm256_setzero_si256() };
    __m256i sum[2];
    UNROLL
    for (int64_t j = i; j < i + n; j++) {
        __m256i x = indices(w, j), s = signs(sign, j);
        d.low = _mm256_add_epi8(d.low, _mm256_sign_epi8(_mm256_shuffle_epi8(load256(table + TABLE * j), x), s));
        d.high = _mm256_add_epi8(d.high, _mm256_sign_epi8(_mm256_shuffle_epi8(load256(table + TABLE * j + 32), x), s));
        __asm__ volatile("" : "+x"(d.low), "+x"(d.high));   /* turn by turn: compilers load early and spill */
    }
    join(sum, d, BASE);
    v[0] = i ? _mm256_add_epi16(v[0], sum[0]) : sum[0];
    v[1] = i ? _mm256_add_epi16(v[1], sum[1]) : sum[1];
}

/* p[2] = the sums of block b times its step, rows in mixed order                                       */
INLINE void block_sums(__m256 p[2], const uint8_t *tile, int64_t b, const uint8_t *table, const float *step,
                       struct shape s)
{
    const uint8_t *w = tile + INDICES * b, *sign = tile + INDICES * s.nb + SIGNS * b;
    __m256i v[2], sum[2];
    for (int i = 0; i < 3; i++) _mm_prefetch((const char *)w + TILES * s.tile + 64 * i, _MM_HINT_T0);
    _mm_prefetch((const char *)sign + TILES * s.tile, _MM_HINT_T0);
    turns(v, w, sign, table, 0, 6);
    turns(v, w, sign, table, 6, 5);
    add_halves(sum, v);
    p[0] = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[0]), _mm256_set1_ps(step[b]));
    p[1] = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[1]), _mm256_set1_ps(step[b]));
}

/* n tiles, one after the other in memory, times one row: y gets width outputs; all tiles before the next
 * group, whose tables then are in L1                                                                   */
static void decode(float *y, int64_t width, const uint8_t *tile, int64_t n, const uint8_t *table, const float *step,
                   struct shape s)
{
    __m256 out[TILES][2], p[2], more[2], scale[2];
    for (int64_t t = 0; t < n; t++) out[t][0] = out[t][1] = _mm256_setzero_ps();
    for (int64_t b = 0; b < s.nb; b += 2, table += 2 * TURNS * TABLE)
        for (int64_t t = 0; t < n; t++) {
            const uint8_t *w = tile + t * s.tile;
            block_sums(p, w, b, table, step, s);
            if (b + 1 < s.nb) {
                block_sums(more, w, b + 1, table + TURNS * TABLE, step, s);
                p[0] = _mm256_add_ps(p[0], more[0]);
                p[1] = _mm256_add_ps(p[1], more[1]);
            }
            mixed_scales(scale, w + s.codes + b / PER_GROUP * CHI_TILE * 2);
            out[t][0] = muladd(out[t][0], scale[0], p[0]);
            out[t][1] = muladd(out[t][1], scale[1], p[1]);
        }
    for (int64_t t = 0; t < n; t++) put_mixed(y + t * CHI_TILE, width - t * CHI_TILE, out[t]);
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                int64_t o0, int64_t o1, void *scratch)
{
    struct shape s = shape_of(&tl2, m->d_in);
    if (a->rows > FEW) {
        panel_run(y, ldy, a, m, o0, o1, scratch, &tl2);
        return;
    }
    int64_t tiles = (o1 - o0 + CHI_TILE - 1) / CHI_TILE;
    const uint8_t *w = (const uint8_t *)m->bytes + o0 / CHI_TILE * s.tile;
    for (int64_t r = 0; r < a->rows; r++) {
        make_tables(scratch, a->q + r * a->ldq, s.nb);
        for (int64_t i = 0; i < tiles; i += TILES)
            decode(y + r * ldy + i * CHI_TILE, o1 - o0 - i * CHI_TILE, w + i * s.tile, tiles - i < TILES ? tiles - i : TILES,
                   scratch, a->step + r * (a->ldq / CHI_ACT_BLOCK), s);
    }
}

static int64_t scratch_bytes(int64_t rows, int64_t d_in)
{
    return rows > FEW ? panel_scratch(rows, d_in) : (d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK * TURNS * TABLE;
}

const struct chi_linear_kernel avx2_linear_tl2 = {
    .struct_size = sizeof avx2_linear_tl2, .encoding = "tl2", .group = GROUP,
    .integer = true, .run = run, .scratch_bytes = scratch_bytes,
};
