/* linear_base3.c - y = W x for weights in base 3, five in a byte v = 27 x + y.
 *
 * x names two trits and y three, and each a table of the sums of its activations.  y - 13 = t0 + 3 t1 +
 * 9 t2 is -13..13 and its sum is odd in it, so 14 entries serve: look |y - 13| up and change the sign.
 *
 *     x = 2428 v >> 16 = 19 v >> 9 for all bytes v,     y = v - 27 x
 *
 * by vpmulhuw for the even bytes and vpmaddubsw for the odd ones.  One row of activations: all tables are made first;
 * two blocks of a tile side by side are then 13 times four look-ups in bytes, base 25: |low| <= 12, and
 * |high| <= 10 and 15, so five turns fit and 13 are joined to 16 bits after 5, 9 and 13.
 *
 * Two to four rows do this one by one.  More: panel.c.                                                */
#include "tables.h"
#include <string.h>

enum { BYTES = 13, BLOCK = BYTES * CHI_TILE, BASE = 25, SCALE = 1311, TABLE = 128, TILES = 4, FEW = 4 };

/* v as two indices, x and y - 13; starts are 27 x + 13 as bytes with a sign                            */
static const int8_t starts[16] = { 13, 40, 67, 94, 121, -108, -81, -54, -27 };
struct split { __m256i x, y; };

INLINE struct split split(__m256i v)
{
    const __m256i start = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)starts));
    __m256i even = _mm256_mulhi_epu16(_mm256_and_si256(v, _mm256_set1_epi16(0xff)), _mm256_set1_epi16(2428));
    __m256i odd = _mm256_srli_epi16(_mm256_maddubs_epi16(v, _mm256_set1_epi16(19 << 8)), 1);
    __m256i x = _mm256_or_si256(even, _mm256_and_si256(odd, _mm256_set1_epi16(0xf00)));
    return (struct split){ x, _mm256_sub_epi8(v, _mm256_shuffle_epi8(start, x)) };
}

/* ---- codes to bytes --------------------------------------------------------------------------------- */

/* u of the five digits                                                                                 */
INLINE void five(__m256i u[5], __m256i v)
{
    const __m256i units = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0));
    const __m256i threes = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0));
    const __m256i nines = _mm256_broadcastsi128_si256(_mm_setr_epi8(-13, -4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    struct split s = split(v);
    __m256i above = _mm256_add_epi8(_mm256_cmpgt_epi8(s.y, _mm256_set1_epi8(-5)),
                                    _mm256_cmpgt_epi8(s.y, _mm256_set1_epi8(4)));
    u[2] = _mm256_sub_epi8(_mm256_setzero_si256(), above);
    __m256i rest = _mm256_sub_epi8(s.y, _mm256_shuffle_epi8(nines, u[2]));
    u[0] = _mm256_shuffle_epi8(units, rest);
    u[1] = _mm256_shuffle_epi8(threes, rest);
    u[3] = _mm256_shuffle_epi8(units, s.x);
    u[4] = _mm256_shuffle_epi8(threes, s.x);
}

/* Two blocks side by side, or one alone in both halves                                                 */
INLINE void unpack_pair(uint8_t *one, uint8_t *other, const uint8_t *w, bool alone)
{
    __m256i u[5 * BYTES];
    UNROLL
    for (int64_t j = 0; j < BYTES; j++)
        five(u + 5 * j, alone ? _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(w + 16 * j)))
                              : load256(w + 32 * j));
    for (int64_t i = 0; i < CHI_ACT_BLOCK / 4; i++) interleave(one + 64 * i, other + 64 * i, u + 4 * i);
}

static void unpack(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, int64_t nb)
{
    for (int64_t i = b; i < b + n; i += 2, panel += 2048) {
        const uint8_t *w = tile + BLOCK * i;
        if (i + 1 < nb) unpack_pair(panel, panel + 1024, w, false);
        else unpack_pair(panel, panel, w, true);
    }
}

static const struct ternary base3 = { BLOCK, unpack };

/* ---- tables ------------------------------------------------------------------------------------------ */

/* Two trits x = 0..8; three trits |y| = 0..13, t0 + 3 t1 + 9 t2 = |y|, in dwords                       */
static const int8_t pairs[32] = {
    -1, -1,   0, -1,   1, -1,   -1, 0,   0, 0,   1, 0,   -1, 1,   0, 1,   1, 1,
};
static const int8_t threes[64] = {
    0, 0, 0, 0,    1, 0, 0, 0,    -1, 1, 0, 0,   0, 1, 0, 0,
    1, 1, 0, 0,    -1, -1, 1, 0,  0, -1, 1, 0,   1, -1, 1, 0,
    -1, 0, 1, 0,   0, 0, 1, 0,    1, 0, 1, 0,    -1, 1, 1, 0,
    0, 1, 1, 0,    1, 1, 1, 0,
};

INLINE __m256i sums_of_pairs(__m256i x, const int8_t pattern[16])
{
    __m256i p = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)pattern));
    return _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_sign_epi8(x, p));
}

/* Activations of byte j of a block; the last one has four                                              */
INLINE __m128i five_of(const int8_t *q, int64_t j)
{
    int64_t x = 0;
    memcpy(&x, q + 5 * j, j < BYTES - 1 ? 8 : 4);
    return _mm_cvtsi64_si128(x);
}

/* Byte j of blocks 2p and 2p + 1: low and high of y, low and high of x, 32 bytes each                  */
static void make_tables(uint8_t *table, const int8_t *q, int64_t nb)
{
    const __m256i three = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3));
    const __m256i two = _mm256_broadcastsi128_si256(_mm_setr_epi8(3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4));
    for (int64_t b = 0; b < nb; b += 2, q += 2 * CHI_ACT_BLOCK)
        for (int64_t j = 0; j < BYTES; j++, table += TABLE) {
            __m128i other = b + 1 < nb ? five_of(q + CHI_ACT_BLOCK, j) : _mm_setzero_si128();
            __m256i x = _mm256_inserti128_si256(_mm256_castsi128_si256(five_of(q, j)), other, 1);
            __m256i y3 = _mm256_shuffle_epi8(x, three), x2 = _mm256_shuffle_epi8(x, two);
            struct digits y = digits(sums8(y3, threes), sums8(y3, threes + 32), BASE, SCALE);
            struct digits d = digits(sums_of_pairs(x2, pairs), sums_of_pairs(x2, pairs + 16), BASE, SCALE);
            _mm256_store_si256((__m256i *)(void *)table, y.low);
            _mm256_store_si256((__m256i *)(void *)(table + 32), y.high);
            _mm256_store_si256((__m256i *)(void *)(table + 64), d.low);
            _mm256_store_si256((__m256i *)(void *)(table + 96), d.high);
        }
}

/* ---- one row of activations -------------------------------------------------------------------------- */

/* d += the sums of 32 bytes v of codes; assembler, because compilers turn the additions into a tree and
 * spill                                                                                                */
INLINE void look_up(struct digits *d, __m256i v, const uint8_t *table)
{
    const __m256i start = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)starts));
    __m256i x, y, a, b;
    __asm__ volatile(
            "vpand %[v], %[even], %[x]\n\t"
            "vpmaddubsw %[of_odd], %[v], %[y]\n\t"
            "vpmulhuw %[of_even], %[x], %[x]\n\t"
            "vpsrlw $1, %[y], %[y]\n\t"
            "vpand %[odd], %[y], %[y]\n\t"
            "vpor %[y], %[x], %[x]\n\t"
            "vpshufb %[x], %[start], %[y]\n\t"
            "vmovdqa 64(%[table]), %[a]\n\t"
            "vmovdqa 96(%[table]), %[b]\n\t"
            "vpsubb %[y], %[v], %[v]\n\t"
            "vpshufb %[x], %[a], %[a]\n\t"
            "vpshufb %[x], %[b], %[b]\n\t"
            "vpaddb %[a], %[l], %[l]\n\t"
            "vpaddb %[b], %[h], %[h]\n\t"
            "vpabsb %[v], %[y]\n\t"
            "vmovdqa (%[table]), %[a]\n\t"
            "vmovdqa 32(%[table]), %[b]\n\t"
            "vpshufb %[y], %[a], %[a]\n\t"
            "vpshufb %[y], %[b], %[b]\n\t"
            "vpsignb %[v], %[a], %[a]\n\t"
            "vpsignb %[v], %[b], %[b]\n\t"
            "vpaddb %[a], %[l], %[l]\n\t"
            "vpaddb %[b], %[h], %[h]\n\t"
            : [l] "+x"(d->low), [h] "+x"(d->high), [v] "+x"(v), [x] "=&x"(x), [y] "=&x"(y), [a] "=&x"(a),
              [b] "=&x"(b)
            : [table] "r"(table), [start] "x"(start), [even] "x"(_mm256_set1_epi16(0xff)),
              [odd] "x"(_mm256_set1_epi16(0xf00)), [of_even] "x"(_mm256_set1_epi16(2428)),
              [of_odd] "x"(_mm256_set1_epi16(19 << 8))
            : "memory");
}

/* Bytes j .. j + n of a pair of blocks added to v[2]                                                   */
INLINE void turns(__m256i v[2], const uint8_t *w, const uint8_t *table, int64_t j, int64_t n, bool alone)
{
    struct digits d = { _mm256_setzero_si256(), _mm256_setzero_si256() };
    __m256i sum[2];
    UNROLL
    for (int64_t i = j; i < j + n; i++) {
        __m256i c = alone ? _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(w + 16 * i)))
                          : load256(w + 32 * i);
        look_up(&d, c, table + TABLE * i);
    }
    join(sum, d, BASE);
    v[0] = j ? _mm256_add_epi16(v[0], sum[0]) : sum[0];
    v[1] = j ? _mm256_add_epi16(v[1], sum[1]) : sum[1];
}

/* p[2] = the sums of a pair of blocks times their steps, rows 0-7 and 8-15                             */
INLINE void pair_sums(__m256 p[2], const uint8_t *w, const uint8_t *table, const float *step, bool alone)
{
    __m256i v[2];
    turns(v, w, table, 0, 5, alone);
    turns(v, w, table, 5, 4, alone);
    turns(v, w, table, 9, 4, alone);
    UNROLL
    for (int h = 0; h < 2; h++) {
        __m256i one = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(v[h]));
        p[h] = _mm256_mul_ps(_mm256_cvtepi32_ps(one), _mm256_set1_ps(step[0]));
        if (alone) continue;
        __m256i two = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(v[h], 1));
        p[h] = _mm256_add_ps(p[h], _mm256_mul_ps(_mm256_cvtepi32_ps(two), _mm256_set1_ps(step[1])));
    }
}

INLINE void add_group(__m256 out[2], const uint8_t *scale, const __m256 p[2])
{
    out[0] = muladd(out[0], fp16x8(scale), p[0]);
    out[1] = muladd(out[1], fp16x8(scale + 16), p[1]);
}

/* n tiles, one after the other in memory, times one row: y gets width outputs.  A group of all tiles
 * goes before the next group: the tables of a whole row may be larger than L1                          */
static void decode(float *y, int64_t width, const uint8_t *tile, int64_t n, const uint8_t *table, const float *step,
                   struct shape s)
{
    __m256 out[TILES][2], p[2];
    for (int64_t t = 0; t < n; t++) out[t][0] = out[t][1] = _mm256_setzero_ps();
    for (int64_t b = 0; b < s.nb; b += 2, table += BYTES * TABLE)
        for (int64_t t = 0; t < n; t++) {
            const uint8_t *w = tile + t * s.tile + BLOCK * b;
            for (int i = 0; i < 2 * BLOCK; i += 64) _mm_prefetch((const char *)w + TILES * s.tile + i, _MM_HINT_T0);
            if (b + 1 < s.nb) pair_sums(p, w, table, step + b, false);
            else pair_sums(p, w, table, step + b, true);
            add_group(out[t], tile + t * s.tile + s.codes + b / PER_GROUP * CHI_TILE * 2, p);
        }
    for (int64_t t = 0; t < n; t++) put(y + t * CHI_TILE, width - t * CHI_TILE, out[t][0], out[t][1]);
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                int64_t o0, int64_t o1, void *scratch)
{
    struct shape s = shape_of(&base3, m->d_in);
    if (a->rows > FEW) {
        panel_run(y, ldy, a, m, o0, o1, scratch, &base3);
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
    int64_t pairs_of_blocks = (d_in + 2 * CHI_ACT_BLOCK - 1) / (2 * CHI_ACT_BLOCK);
    return rows > FEW ? panel_scratch(rows, d_in) : pairs_of_blocks * BYTES * TABLE;
}

const struct chi_linear_kernel avx2_linear_base3 = {
    .struct_size = sizeof avx2_linear_base3, .encoding = "base3", .group = GROUP,
    .integer = true, .run = run, .scratch_bytes = scratch_bytes,
};
