/* linear_tl2.c - y = W x for three trits in an index of 4 bits and a sign (tl2.md).
 *
 * One row of activations: tables of the sums of each triple are made first, 14 entries in two bytes, base 25.
 * A load of 32 bytes has two pairs of triples for 16 rows, one pair in each half: per nibble two look-ups,
 * the signs spread from bits to bytes, two sign changes, two additions in bytes.  |low| <= 12 and
 * |high| <= 15, so eight triples fit; a block has 12 in one half and 10 in the other, joined to 16 bits
 * after eight.  The halves are sums of the same rows and are added at the end of the block.
 *
 * Two to four rows do this one by one.  More: panel.c.                                                */
#include "tables.h"
#include <string.h>

enum { TRIPLES = 22, INDICES = TRIPLES / 2 * CHI_TILE, SIGNS = TRIPLES * 2, BLOCK = INDICES + SIGNS, LOADS = 6,
       TABLE = 64, TABLES = LOADS * 2 * TABLE, BASE = 25, SCALE = 1311, TILES = 4, FEW = 4 };

/* -1 or 1 in each byte: bit r of a word, which is in bytes i and i + 1 of a half of w, is row r's sign   */
INLINE __m256i signs(__m256i w, __m256i place)
{
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i m = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(w, place), bit), bit);
    return _mm256_or_si256(m, _mm256_set1_epi8(1));
}

/* ---- codes to bytes --------------------------------------------------------------------------------- */

static const int8_t trits[3][16] = {
    { 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1 }, { 0, 0, 1, 1, 1, -1, -1, -1, 0, 0, 0, 1, 1, 1 },
    { 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1 },
};

/* 16 bytes at a in one half, at b in the other                                                          */
INLINE __m256i two(const uint8_t *a, const uint8_t *b)
{
    __m256i lo = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)a));
    return _mm256_inserti128_si256(lo, _mm_loadu_si128((const __m128i *)(const void *)b), 1);
}

INLINE __m256i two_words(const uint8_t *a, const uint8_t *b)
{
    int16_t x, y;
    memcpy(&x, a, 2);
    memcpy(&y, b, 2);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi16(x)), _mm_set1_epi16(y), 1);
}

INLINE void three(__m256i u[3], __m256i index, __m256i sign)
{
    UNROLL
    for (int j = 0; j < 3; j++) {
        __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)trits[j]));
        u[j] = _mm256_add_epi8(_mm256_sign_epi8(_mm256_shuffle_epi8(t, index), sign), _mm256_set1_epi8(1));
    }
}

/* Two blocks whose indices are at a and b, signs at sa and sb                                            */
static void unpack_pair(uint8_t *one, uint8_t *other, const uint8_t *a, const uint8_t *b, const uint8_t *sa,
                        const uint8_t *sb)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i word = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
    __m256i u[3 * TRIPLES];
    for (int64_t i = 0; i < TRIPLES / 2; i++) {
        __m256i v = two(a + 16 * i, b + 16 * i);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble), low = _mm256_and_si256(v, nibble);
        three(u + 6 * i, high, signs(two_words(sa + 4 * i, sb + 4 * i), word));
        three(u + 6 * i + 3, low, signs(two_words(sa + 4 * i + 2, sb + 4 * i + 2), word));
    }
    for (int64_t i = 0; i < CHI_ACT_BLOCK / 4; i++) interleave(one + 64 * i, other + 64 * i, u + 4 * i);
}

static void unpack(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, int64_t nb)
{
    for (int64_t i = b; i < b + n; i += 2, panel += 2048) {
        const uint8_t *w = tile + INDICES * i, *s = tile + INDICES * nb + SIGNS * i;
        bool pair = i + 1 < nb;
        unpack_pair(panel, pair ? panel + 1024 : panel, w, pair ? w + INDICES : w, s, pair ? s + SIGNS : s);
    }
}

static const struct ternary tl2 = { BLOCK, unpack };

/* ---- tables ------------------------------------------------------------------------------------------ */

/* 9 t0 + 3 t1 + t2 = 0..13, in dwords                                                                   */
static const int8_t patterns[64] = {
    0, 0, 0, 0,    0, 0, 1, 0,    0, 1, -1, 0,   0, 1, 0, 0,
    0, 1, 1, 0,    1, -1, -1, 0,  1, -1, 0, 0,   1, -1, 1, 0,
    1, 0, -1, 0,   1, 0, 0, 0,    1, 0, 1, 0,    1, 1, -1, 0,
    1, 1, 0, 0,    1, 1, 1, 0,
};

/* Load i of a block, nibble h: low and high of triple 4i + h in one half, of triple 4i + 2 + h in the other  */
static void make_tables(uint8_t *table, const int8_t *q, int64_t nb)
{
    const __m256i dword = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3));
    int8_t x[4 * LOADS * 3 + 4];
    memset(x, 0, sizeof x);
    for (int64_t b = 0; b < nb; b++, q += CHI_ACT_BLOCK) {
        memcpy(x, q, CHI_ACT_BLOCK);
        for (int64_t i = 0; i < LOADS; i++)
            for (int64_t h = 0; h < 2; h++, table += TABLE) {
                int32_t one, other;
                memcpy(&one, x + 3 * (4 * i + h), 4);
                memcpy(&other, x + 3 * (4 * i + 2 + h), 4);
                __m256i a = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_cvtsi32_si128(one)), _mm_cvtsi32_si128(other), 1);
                a = _mm256_shuffle_epi8(a, dword);
                struct digits d = digits(sums8(a, patterns), sums8(a, patterns + 32), BASE, SCALE);
                _mm256_store_si256((__m256i *)(void *)table, d.low);
                _mm256_store_si256((__m256i *)(void *)(table + 32), d.high);
            }
    }
}

/* ---- one row of activations -------------------------------------------------------------------------- */

/* Where the two bytes of a triple's sign word are in 8 bytes: triples 0 and 2, and 1 and 3                 */
static const uint8_t places[2][32] = {
    { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5 },
    { 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7 },
};

#define SIGNS_OF(place, to)                                                                  \
    "vpshufb %[" #place "], %[s], %[" #to "]\n\t"                                            \
    "vpand %[bit], %[" #to "], %[" #to "]\n\t"                                               \
    "vpcmpeqb %[bit], %[" #to "], %[" #to "]\n\t"                                            \
    "vpor %[one], %[" #to "], %[" #to "]\n\t"
#define LOOK_UP(index, sign, low, high)                                                      \
    "vmovdqa " #low "(%[table]), %[a]\n\t"                                                  \
    "vmovdqa " #high "(%[table]), %[b]\n\t"                                                 \
    "vpshufb %[" #index "], %[a], %[a]\n\t"                                                 \
    "vpshufb %[" #index "], %[b], %[b]\n\t"                                                 \
    "vpsignb %[" #sign "], %[a], %[a]\n\t"                                                  \
    "vpsignb %[" #sign "], %[b], %[b]\n\t"                                                  \
    "vpaddb %[a], %[l], %[l]\n\t"                                                           \
    "vpaddb %[b], %[h], %[h]\n\t"

/* d += the sums of 32 bytes v of indices with signs s; assembler, because compilers turn the additions into a tree
 * and spill                                                                                              */
INLINE void load_digits(struct digits *d, __m256i v, __m256i s, const uint8_t *table)
{
    __m256i x, t, a, b;
    __asm__ volatile(
            "vpsrlw $4, %[v], %[x]\n\t"
            "vpand %[nibble], %[x], %[x]\n\t"
            "vpand %[nibble], %[v], %[v]\n\t"
            SIGNS_OF(first, t)
            LOOK_UP(x, t, 0, 32)
            SIGNS_OF(second, t)
            LOOK_UP(v, t, 64, 96)
            : [l] "+x"(d->low), [h] "+x"(d->high), [v] "+x"(v), [x] "=&x"(x), [t] "=&x"(t), [a] "=&x"(a), [b] "=&x"(b)
            : [s] "x"(s), [table] "r"(table), [nibble] "x"(_mm256_set1_epi8(15)), [one] "x"(_mm256_set1_epi8(1)),
              [bit] "x"(_mm256_set1_epi64x((int64_t)0x8040201008040201)), [first] "x"(load256(places[0])),
              [second] "x"(load256(places[1]))
            : "memory");
}

INLINE __m256i words4(const uint8_t *p)
{
    int64_t x;
    memcpy(&x, p, 8);
    return _mm256_set1_epi64x(x);
}

INLINE __m256i words2(const uint8_t *p)
{
    int32_t x;
    memcpy(&x, p, 4);
    return _mm256_set1_epi32(x);
}

/* p[2] = the sums of a block times its step, rows 0-7 and 8-15                                            */
INLINE void block_sums(__m256 p[2], const uint8_t *w, const uint8_t *s, const uint8_t *table, float step)
{
    __m256i v[2], more[2];
    struct digits d = { _mm256_setzero_si256(), _mm256_setzero_si256() }, e = d;
    UNROLL
    for (int i = 0; i < 4; i++) load_digits(&d, load256(w + 32 * i), words4(s + 8 * i), table + 2 * TABLE * i);
    join(v, d, BASE);
    load_digits(&e, load256(w + 128), words4(s + 32), table + 8 * TABLE);
    __m256i last = _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(w + 160)));
    load_digits(&e, last, words2(s + 40), table + 10 * TABLE);
    join(more, e, BASE);
    UNROLL
    for (int h = 0; h < 2; h++) {
        __m256i sum = _mm256_add_epi16(v[h], more[h]);
        __m128i both = _mm_add_epi16(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        p[h] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(both)), _mm256_set1_ps(step));
    }
}

/* n tiles, one after the other in memory, times one row: y gets width outputs.  A group of all tiles
 * goes before the next group: the tables of a whole row may be larger than L1                          */
static void decode(float *y, int64_t width, const uint8_t *tile, int64_t n, const uint8_t *table, const float *step,
                   struct shape s)
{
    __m256 out[TILES][2], p[2], q[2];
    for (int64_t t = 0; t < n; t++) out[t][0] = out[t][1] = _mm256_setzero_ps();
    for (int64_t b = 0; b < s.nb; b += PER_GROUP, table += PER_GROUP * TABLES)
        for (int64_t t = 0; t < n; t++) {
            const uint8_t *at = tile + t * s.tile, *w = at + INDICES * b, *sign = at + INDICES * s.nb + SIGNS * b;
            const uint8_t *scale = at + s.codes + b / PER_GROUP * CHI_TILE * 2;
            for (int i = 0; i < 2 * INDICES; i += 64) _mm_prefetch((const char *)w + TILES * s.tile + i, _MM_HINT_T0);
            _mm_prefetch((const char *)sign + TILES * s.tile, _MM_HINT_T0);
            block_sums(p, w, sign, table, step[b]);
            if (b + 1 < s.nb) {
                block_sums(q, w + INDICES, sign + SIGNS, table + TABLES, step[b + 1]);
                p[0] = _mm256_add_ps(p[0], q[0]);
                p[1] = _mm256_add_ps(p[1], q[1]);
            }
            out[t][0] = muladd(out[t][0], fp16x8(scale), p[0]);
            out[t][1] = muladd(out[t][1], fp16x8(scale + 16), p[1]);
        }
    for (int64_t t = 0; t < n; t++) put(y + t * CHI_TILE, width - t * CHI_TILE, out[t][0], out[t][1]);
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0, int64_t o1,
                void *scratch)
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
    int64_t blocks = (d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK;
    return rows > FEW ? panel_scratch(rows, d_in) : blocks * TABLES;
}

const struct chi_linear_kernel avx2_linear_tl2 = {
    .struct_size = sizeof avx2_linear_tl2, .encoding = "tl2", .group = GROUP, .integer = true, .run = run,
    .scratch_bytes = scratch_bytes,
};
