/* linear_sherry125.c - y = W x for weights of which every fourth is zero, five bits a quad.
 *
 * The quad of slot s and sign g adds +-T[s] to its row, T the 16 sums of its four activations with the
 * patterns of the slots.  One row of activations: all tables are made first (8 bytes an activation); a
 * block of 64 k of a tile is then 8 times two look-ups, two changes of sign and two additions, in bytes:
 * base 31, |low| <= 15 and |high| <= 12, eight quads in each half of a register.  The sign bits of a byte
 * come to its top one after the other.  Two tiles share the tables, from the two halves of the range.
 *
 * Two to four rows do this one by one.  More: panel.c.                                                */
#include "tables.h"

enum { BLOCK = 160, SIGNS = 128, BASE = 31, SCALE = 1057, VECTORS = 8, TABLE = 64, FEW = 4, AHEAD = 2560 };

/* Slot s: zero at s / 4; the first of the others counts +, the second - if s & 1, the third - if s & 2 */
static const int8_t patterns[64] = {
    0, 1, 1, 1,   0, 1, -1, 1,   0, 1, 1, -1,   0, 1, -1, -1,
    1, 0, 1, 1,   1, 0, -1, 1,   1, 0, 1, -1,   1, 0, -1, -1,
    1, 1, 0, 1,   1, -1, 0, 1,   1, 1, 0, -1,   1, -1, 0, -1,
    1, 1, 1, 0,   1, -1, 1, 0,   1, 1, -1, 0,   1, -1, -1, 0,
};

/* ---- codes to bytes --------------------------------------------------------------------------------- */

/* Trit c of the slots, sign +                                                                          */
static __m256i trits_of(int c)
{
    int8_t t[16];
    for (int s = 0; s < 16; s++) t[s] = patterns[4 * s + c];
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)t));
}

static void unpack(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, int64_t nb)
{
    const __m256i trit[4] = { trits_of(0), trits_of(1), trits_of(2), trits_of(3) };
    const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi8(1);
    (void)nb;
    for (int64_t i = b; i < b + n; i++) {
        const uint8_t *w = tile + BLOCK * i;
        __m256i sign = load256(w + SIGNS);
        for (int v = 0; v < VECTORS; v++, panel += 128) {
            __m256i slot = load256(w + v / 2 * 32), g = _mm256_or_si256(sign, one), u[4];
            slot = _mm256_and_si256(v % 2 ? _mm256_srli_epi16(slot, 4) : slot, low);
            UNROLL
            for (int c = 0; c < 4; c++)
                u[c] = _mm256_add_epi8(_mm256_sign_epi8(_mm256_shuffle_epi8(trit[c], slot), g), one);
            interleave(panel, panel + 64, u);
            sign = _mm256_add_epi8(sign, sign);
        }
    }
}

static const struct ternary sherry125 = { BLOCK, unpack };

/* ---- one row of activations -------------------------------------------------------------------------- */

/* Vector v of a block: low and high of quads 2v and 2v + 1, 32 bytes each                              */
static void make_tables(uint8_t *table, const int8_t *q, int64_t nb)
{
    const __m256i twice = _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
                                           4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7);
    for (int64_t i = 0; i < VECTORS * nb; i++, q += 8, table += TABLE) {
        __m256i x = _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)(const void *)q));
        x = _mm256_shuffle_epi8(x, twice);
        struct digits d = digits(sums8(x, patterns), sums8(x, patterns + 32), BASE, SCALE);
        _mm256_store_si256((__m256i *)(void *)table, d.low);
        _mm256_store_si256((__m256i *)(void *)(table + 32), d.high);
    }
}

#define EVEN(w, at) "vpand " #at "(%[" #w "]), %[mask], %[slot]\n\t"
#define ODD(w, at)                                                                              \
    "vmovdqu " #at "(%[" #w "]), %[slot]\n\t"                                                   \
    "vpsrlw $4, %[slot], %[slot]\n\t"                                                           \
    "vpand %[slot], %[mask], %[slot]\n\t"
#define LOOK_UP(l, h, s)                                                                        \
    "vpshufb %[slot], %[low], %[a]\n\t"                                                         \
    "vpshufb %[slot], %[high], %[b]\n\t"                                                        \
    "vpsignb %[" #s "], %[a], %[a]\n\t"                                                         \
    "vpsignb %[" #s "], %[b], %[b]\n\t"                                                         \
    "vpaddb %[a], %[" #l "], %[" #l "]\n\t"                                                     \
    "vpaddb %[b], %[" #h "], %[" #h "]\n\t"
#define NEXT(w, s) "vpaddb %[" #s "], %[" #s "], %[" #s "]\n\t"
#define LAST(w, s)                                                                              \
    "vmovdqu 128(%[" #w "]), %[" #s "]\n\t"                                                     \
    "vpsllw $7, %[" #s "], %[" #s "]\n\t"                                                       \
    "vpor %[" #s "], %[one], %[" #s "]\n\t"
#define SAME(w, s)
#define TABLES(at, after)                                                                       \
    "vmovdqa " #at "(%[table]), %[low]\n\t"                                                     \
    "vmovdqa " #after "(%[table]), %[high]\n\t"
#define PIECE(at, t0, t1, t2, t3, sign, after)                                                  \
    TABLES(t0, t1) EVEN(w0, at) LOOK_UP(l0, h0, s0) EVEN(w1, at) LOOK_UP(l1, h1, s1)            \
    sign(w0, s0) sign(w1, s1)                                                                   \
    TABLES(t2, t3) ODD(w0, at) LOOK_UP(l0, h0, s0) ODD(w1, at) LOOK_UP(l1, h1, s1)              \
    after(w0, s0) after(w1, s1)

/* A block of two tiles.  Signs come to the top by doubling; a 1 in bit 0 keeps vpsignb from seeing 0, and
 * the sign that was there is fetched again at the end.  Assembler, because compilers turn the additions
 * into a tree and spill                                                                                */
INLINE void block_digits(struct digits d[2], const uint8_t *const w[2], const uint8_t *table)
{
    const __m256i one = _mm256_set1_epi8(1);
    __m256i s0 = _mm256_or_si256(load256(w[0] + SIGNS), one), s1 = _mm256_or_si256(load256(w[1] + SIGNS), one);
    __m256i low, high, slot, a, b;
    UNROLL
    for (int t = 0; t < 2; t++) {
        d[t] = (struct digits){ _mm256_setzero_si256(), _mm256_setzero_si256() };
        _mm_prefetch((const char *)w[t] + AHEAD, _MM_HINT_T0);
        _mm_prefetch((const char *)w[t] + AHEAD + 64, _MM_HINT_T0);
        _mm_prefetch((const char *)w[t] + AHEAD + 128, _MM_HINT_T0);
    }
    __asm__ volatile(
            PIECE(0, 0, 32, 64, 96, NEXT, NEXT) PIECE(32, 128, 160, 192, 224, NEXT, NEXT)
            PIECE(64, 256, 288, 320, 352, NEXT, NEXT) PIECE(96, 384, 416, 448, 480, LAST, SAME)
            : [l0] "+x"(d[0].low), [h0] "+x"(d[0].high), [l1] "+x"(d[1].low), [h1] "+x"(d[1].high),
              [s0] "+x"(s0), [s1] "+x"(s1), [low] "=&x"(low), [high] "=&x"(high), [slot] "=&x"(slot),
              [a] "=&x"(a), [b] "=&x"(b)
            : [w0] "r"(w[0]), [w1] "r"(w[1]), [table] "r"(table), [mask] "x"(_mm256_set1_epi8(15)), [one] "x"(one)
            : "memory");
}

/* Both halves of v are of the same block: their sum to 32 bits, in a mixed order of rows that costs
 * least: sum[0] rows 0-3 and 8-11, sum[1] rows 4-7 and 12-15                                          */
INLINE void add_halves(__m256i sum[2], const __m256i v[2])
{
    __m256i a = _mm256_permute2x128_si256(v[0], v[1], 0x20), b = _mm256_permute2x128_si256(v[0], v[1], 0x31);
    sum[0] = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), _mm256_set1_epi16(1));
    sum[1] = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), _mm256_set1_epi16(1));
}

/* Scales of a group in that order                                                                      */
INLINE void mixed_scales(__m256 scale[2], const uint8_t *at)
{
    __m128i a = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(at + 16));
    scale[0] = _mm256_cvtph_ps(_mm_unpacklo_epi64(a, b));
    scale[1] = _mm256_cvtph_ps(_mm_unpackhi_epi64(a, b));
}

INLINE void put_mixed(float *y, int64_t width, const __m256 out[2])
{
    put(y, width, _mm256_permute2f128_ps(out[0], out[1], 0x20), _mm256_permute2f128_ps(out[0], out[1], 0x31));
}

/* p[tile][half] = the sums of n (1 or 2) blocks from i of two tiles, times their steps                 */
INLINE void group_sums(__m256 p[2][2], const uint8_t *const tile[2], int64_t i, int64_t n, const uint8_t *table,
                       const float *step)
{
    UNROLL
    for (int64_t b = i; b < i + n; b++) {
        const uint8_t *w[2] = { tile[0] + BLOCK * b, tile[1] + BLOCK * b };
        struct digits d[2];
        block_digits(d, w, table + VECTORS * TABLE * b);
        __m256 v = _mm256_set1_ps(step[b]);
        UNROLL
        for (int t = 0; t < 2; t++) {
            __m256i v16[2], sum[2];
            join(v16, d[t], BASE);
            add_halves(sum, v16);
            UNROLL
            for (int h = 0; h < 2; h++) {
                __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[h]), v);
                p[t][h] = b > i ? _mm256_add_ps(p[t][h], x) : x;
            }
        }
    }
}

/* Two tiles times one row: y[t] gets width[t] outputs                                                  */
static void decode(float *const y[2], const int64_t width[2], const uint8_t *const tile[2],
                   const uint8_t *table, const float *step, struct shape s)
{
    __m256 out[2][2] = { { _mm256_setzero_ps(), _mm256_setzero_ps() },
                         { _mm256_setzero_ps(), _mm256_setzero_ps() } };
    for (int64_t b = 0; b < s.nb; b += PER_GROUP) {
        __m256 p[2][2];
        if (b + 1 < s.nb) group_sums(p, tile, b, 2, table, step);
        else group_sums(p, tile, b, 1, table, step);
        UNROLL
        for (int t = 0; t < 2; t++) {
            const uint8_t *at = tile[t] + s.codes + b / PER_GROUP * CHI_TILE * 2;
            __m256 scale[2];
            mixed_scales(scale, at);
            _mm_prefetch((const char *)at + s.tile, _MM_HINT_T0);           /* next               */
            out[t][0] = muladd(out[t][0], scale[0], p[t][0]);
            out[t][1] = muladd(out[t][1], scale[1], p[t][1]);
        }
    }
    UNROLL
    for (int t = 0; t < 2; t++)
        put_mixed(y[t], width[t], out[t]);
}

static void run_one(float *y, const int8_t *q, const float *step, const struct chi_matrix *m, int64_t o0,
                    int64_t o1, uint8_t *table)
{
    struct shape s = shape_of(&sherry125, m->d_in);
    int64_t tiles = (o1 - o0 + CHI_TILE - 1) / CHI_TILE, half = tiles / 2;
    const uint8_t *w = (const uint8_t *)m->bytes + o0 / CHI_TILE * s.tile;
    make_tables(table, q, s.nb);
    for (int64_t i = 0; i < tiles - half; i++) {
        int64_t j = half + i;                           /* the middle one of an odd number twice    */
        float *out[2] = { y + i * CHI_TILE, y + j * CHI_TILE };
        const uint8_t *tile[2] = { w + i * s.tile, w + j * s.tile };
        int64_t width[2] = { o1 - o0 - i * CHI_TILE, o1 - o0 - j * CHI_TILE };
        decode(out, width, tile, table, step, s);
    }
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                int64_t o0, int64_t o1, void *scratch)
{
    if (a->rows > FEW) {
        panel_run(y, ldy, a, m, o0, o1, scratch, &sherry125);
        return;
    }
    for (int64_t r = 0; r < a->rows; r++)
        run_one(y + r * ldy, a->q + r * a->ldq, a->step + r * (a->ldq / CHI_ACT_BLOCK), m, o0, o1, scratch);
}

static int64_t scratch_bytes(int64_t rows, int64_t d_in)
{
    return rows > FEW ? panel_scratch(rows, d_in) : (d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK * VECTORS * TABLE;
}

const struct chi_linear_kernel avx2_linear_sherry125 = {
    .struct_size = sizeof avx2_linear_sherry125, .encoding = "sherry125", .group = GROUP,
    .integer = true, .run = run, .scratch_bytes = scratch_bytes,
};
