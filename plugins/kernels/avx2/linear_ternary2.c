/* linear_ternary2.c - y = W x, ternary weights in 2 bits, int8 activations.
 *
 * Within a block of 64 k everything fits 16 bits: with codes u = t + 1 in 0..2,
 * sum u q <= 16256.  So I = sum t q = sum u q - sum q is exact in int16 pairs, and
 * one multiply by the activations' step per block and one by the weights' scale per
 * group of 128 do the rest, lane = row, in the canonical order of kernel.h.
 *
 * One row of activations: fields 0 and 2 of a byte are taken with the mask 3,
 * fields 1 and 3 with 12, that is 4 u, in a second accumulator (8 * 2032 = 16256),
 * which a shift by 2 mends at the end of the block: one shift per 128 weights.
 * Two tiles share the broadcasts, and come from the two halves of the range so
 * that each is one stream of memory.
 *
 * Several rows: a tile's codes are unpacked to bytes once per 512 k (8 KB, in L1),
 * then 16 outputs x 4 rows go through 64 k in 8 registers that start at -sum q.
 * This block is assembler: compilers hoist the broadcasts and spill an accumulator. */
#include "avx2.h"
#include <string.h>

enum { GROUP = 128, SLICE = 512, ROWS = 128, AHEAD = 3072, PER_GROUP = GROUP / CHI_ACT_BLOCK };

/* A matrix of this encoding: tiles of nb blocks of 256 bytes, then [group][16] fp16    */
struct shape { int64_t nb, codes, tile; };

static struct shape shape_of(int64_t d_in)
{
    int64_t nb = (d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK, codes = nb * CHI_ACT_BLOCK * 4;
    int64_t groups = (d_in + GROUP - 1) / GROUP;
    return (struct shape){ nb, codes, (codes + groups * CHI_TILE * 2 + 63) / 64 * 64 };
}

static inline __m256i load256(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

static inline __m256 fp16x8(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static void put(float *y, int64_t width, __m256 lo, __m256 hi)
{
    if (width >= CHI_TILE) {
        _mm256_storeu_ps(y, lo);
        _mm256_storeu_ps(y + 8, hi);
        return;
    }
    _mm256_maskstore_ps(y, first(width), lo);
    if (width > 8) _mm256_maskstore_ps(y + 8, first(width - 8), hi);
}

/* ---- one row of activations ----------------------------------------------------------- */

#define EARLY(w, at, a, b)                                                                  \
    "vpand " #at "(%[" #w "]), %[low], %[t]\n\t"                                            \
    "vpand " #at "(%[" #w "]), %[high], %[d]\n\t"                                           \
    "vpmaddubsw %[x], %[t], %[t]\n\t"                                                       \
    "vpmaddubsw %[z], %[d], %[d]\n\t"                                                       \
    "vpaddw %[t], %[" #a "], %[" #a "]\n\t"                                                 \
    "vpaddw %[d], %[" #b "], %[" #b "]\n\t"
#define LATE(w, at, a, b)                                                                   \
    "vmovdqu " #at "(%[" #w "]), %[d]\n\t"                                                  \
    "vpsrlw $4, %[d], %[d]\n\t"                                                             \
    "vpand %[d], %[low], %[t]\n\t"                                                          \
    "vpand %[d], %[high], %[d]\n\t"                                                         \
    "vpmaddubsw %[x], %[t], %[t]\n\t"                                                       \
    "vpmaddubsw %[z], %[d], %[d]\n\t"                                                       \
    "vpaddw %[t], %[" #a "], %[" #a "]\n\t"                                                 \
    "vpaddw %[d], %[" #b "], %[" #b "]\n\t"
#define FOUR(op) op(w0, 0, a0, b0) op(w0, 32, a1, b1) op(w1, 0, a2, b2) op(w1, 32, a3, b3)

/* a += fields 0 and 2, b += 4 * fields 1 and 3 of 64 bytes at w0 and at w1, times the 16
 * activations at q; assembler, because compilers keep four broadcasts and then spill      */
static inline void piece2(__m256i a[4], __m256i b[4], const uint8_t *w0, const uint8_t *w1,
                          const int8_t *q)
{
    __m256i x, z, t, d;
    __asm__ volatile(
            "vpbroadcastd (%[q]), %[x]\n\tvpbroadcastd 4(%[q]), %[z]\n\t" FOUR(EARLY)
            "vpbroadcastd 8(%[q]), %[x]\n\tvpbroadcastd 12(%[q]), %[z]\n\t" FOUR(LATE)
            : [a0] "+x"(a[0]), [a1] "+x"(a[1]), [a2] "+x"(a[2]), [a3] "+x"(a[3]),
              [b0] "+x"(b[0]), [b1] "+x"(b[1]), [b2] "+x"(b[2]), [b3] "+x"(b[3]),
              [x] "=&x"(x), [z] "=&x"(z), [t] "=&x"(t), [d] "=&x"(d)
            : [low] "x"(_mm256_set1_epi8(3)), [high] "x"(_mm256_set1_epi8(12)), [w0] "r"(w0),
              [w1] "r"(w1), [q] "r"(q)
            : "memory");
}

/* I of one block for the 16 rows of two tiles, whose 256 bytes of codes are at w[]        */
static inline void block_sums(__m256i sum[2][2], const uint8_t *const w[2], const int8_t *q,
                              int32_t total)
{
    __m256i a[4], b[4];
    UNROLL
    for (int h = 0; h < 4; h++) {                       /* |sum| <= 8128 fits beside 4064 */
        a[h] = _mm256_set1_epi32(-total & 0xffff);
        b[h] = _mm256_setzero_si256();
    }
    UNROLL
    for (int64_t piece = 0; piece < 4; piece++) {
        _mm_prefetch((const char *)w[0] + 64 * piece + AHEAD, _MM_HINT_T0);
        _mm_prefetch((const char *)w[1] + 64 * piece + AHEAD, _MM_HINT_T0);
        piece2(a, b, w[0] + 64 * piece, w[1] + 64 * piece, q + 16 * piece);
    }
    UNROLL
    for (int h = 0; h < 4; h++) {
        __m256i u = _mm256_add_epi16(a[h], _mm256_srai_epi16(b[h], 2));
        sum[h / 2][h % 2] = _mm256_madd_epi16(u, _mm256_set1_epi16(1));
    }
}

/* Two tiles times one row: y[t] gets width[t] outputs                                     */
static void decode(float *const y[2], const int64_t width[2], const uint8_t *const tile[2],
                   const int8_t *q, const float *step, const int16_t *total, struct shape s)
{
    __m256 out[2][2] = { { _mm256_setzero_ps(), _mm256_setzero_ps() },
                         { _mm256_setzero_ps(), _mm256_setzero_ps() } };
    for (int64_t b = 0; b < s.nb; b += PER_GROUP) {
        __m256 p[2][2] = { { _mm256_setzero_ps() } };
        for (int64_t i = b; i < b + PER_GROUP && i < s.nb; i++) {
            const uint8_t *w[2] = { tile[0] + 256 * i, tile[1] + 256 * i };
            __m256i sum[2][2];
            block_sums(sum, w, q + CHI_ACT_BLOCK * i, total[i]);
            __m256 v = _mm256_set1_ps(step[i]);
            UNROLL
            for (int h = 0; h < 4; h++) {
                __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[h / 2][h % 2]), v);
                p[h / 2][h % 2] = i > b ? _mm256_add_ps(p[h / 2][h % 2], x) : x;
            }
        }
        UNROLL
        for (int h = 0; h < 4; h++) {
            const uint8_t *at = tile[h / 2] + s.codes + b / PER_GROUP * CHI_TILE * 2 + 16 * (h % 2);
            if (h % 2 == 0) _mm_prefetch((const char *)at + s.tile, _MM_HINT_T0);  /* next */
            out[h / 2][h % 2] = muladd(out[h / 2][h % 2], fp16x8(at), p[h / 2][h % 2]);
        }
    }
    put(y[0], width[0], out[0][0], out[0][1]);
    put(y[1], width[1], out[1][0], out[1][1]);
}

static void run_one(float *y, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                    int64_t o1)
{
    struct shape s = shape_of(m->d_in);
    int64_t tiles = (o1 - o0 + CHI_TILE - 1) / CHI_TILE, half = tiles / 2;
    const uint8_t *w = (const uint8_t *)m->bytes + o0 / CHI_TILE * s.tile;
    for (int64_t i = 0; i < tiles - half; i++) {
        int64_t j = half + i;                           /* the middle one of an odd number
                                                           of tiles goes twice         */
        float *out[2] = { y + i * CHI_TILE, y + j * CHI_TILE };
        const uint8_t *tile[2] = { w + i * s.tile, w + j * s.tile };
        int64_t width[2] = { o1 - o0 - i * CHI_TILE, o1 - o0 - j * CHI_TILE };
        decode(out, width, tile, a->q, a->step, a->sum, s);
    }
}

/* ---- several rows ------------------------------------------------------------------------- */

/* Codes of blocks b0..b1 of a tile to bytes: panel[k/4][row][k%4]                            */
static void unpack(uint8_t *panel, const uint8_t *codes, int64_t pieces)
{
    const __m256i low = _mm256_set1_epi8(3);
    for (int64_t i = 0; i < 2 * pieces; i++) {
        __m256i c = load256(codes + 32 * i);
        uint8_t *at = panel + i / 2 * 256 + i % 2 * 32;
        UNROLL
        for (int j = 0; j < 4; j++) {
            _mm256_store_si256((__m256i *)(void *)(at + 64 * j), _mm256_and_si256(c, low));
            c = _mm256_srli_epi16(c, 2);
        }
    }
}

#define COLUMN(q, lo, hi, k)                                                                \
    "vpbroadcastd " #k "(%[" #q "],%[i]), %[x]\n\t"                                         \
    "vpmaddubsw %[x], %[a], %[s]\n\t"                                                       \
    "vpmaddubsw %[x], %[b], %[t]\n\t"                                                       \
    "vpaddw %[s], %[" #lo "], %[" #lo "]\n\t"                                               \
    "vpaddw %[t], %[" #hi "], %[" #hi "]\n\t"
#define STEP(w0, w1, k)                                                                     \
    "vmovdqa " #w0 "(%[w]), %[a]\n\t"                                                       \
    "vmovdqa " #w1 "(%[w]), %[b]\n\t"                                                       \
    COLUMN(q0, s0, s1, k) COLUMN(q1, s2, s3, k) COLUMN(q2, s4, s5, k) COLUMN(q3, s6, s7, k)
#define START(lo, hi, at)                                                                   \
    "vpbroadcastd " #at "(%[side]), %[" #lo "]\n\t"                                         \
    "vmovdqa %[" #lo "], %[" #hi "]\n\t"
#define FINISH(lo, hi, at)                                                                  \
    "vpmaddwd %[one], %[" #lo "], %[" #lo "]\n\t"                                           \
    "vpmaddwd %[one], %[" #hi "], %[" #hi "]\n\t"                                           \
    "vbroadcastss " #at "(%[side]), %[x]\n\t"                                               \
    "vcvtdq2ps %[" #lo "], %[" #lo "]\n\t"                                                  \
    "vcvtdq2ps %[" #hi "], %[" #hi "]\n\t"                                                  \
    "vmulps %[x], %[" #lo "], %[" #lo "]\n\t"                                               \
    "vmulps %[x], %[" #hi "], %[" #hi "]\n\t"

/* What a block of four rows of activations brings along: -sum q in the low halves, steps     */
struct side { int32_t start[4]; float step[4]; };

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverlength-strings"   /* ISO C promises only 4095    */
/* p[2c + h] = step * the sum over a block: rows 8h..8h+7 of the panel at w, column c: q[c] + i */
static inline __attribute__((always_inline))
void block64(__m256 p[8], const uint8_t *w, const int8_t *const q[4], int64_t i,
                           const struct side *side)
{
    __m256i a, b, x, s, t;
    __asm__ volatile(
            START(s0, s1, 0) START(s2, s3, 4) START(s4, s5, 8) START(s6, s7, 12)
            STEP(0, 32, 0) STEP(64, 96, 4) STEP(128, 160, 8) STEP(192, 224, 12)
            STEP(256, 288, 16) STEP(320, 352, 20) STEP(384, 416, 24) STEP(448, 480, 28)
            STEP(512, 544, 32) STEP(576, 608, 36) STEP(640, 672, 40) STEP(704, 736, 44)
            STEP(768, 800, 48) STEP(832, 864, 52) STEP(896, 928, 56) STEP(960, 992, 60)
            FINISH(s0, s1, 16) FINISH(s2, s3, 20) FINISH(s4, s5, 24) FINISH(s6, s7, 28)
            : [s0] "=&x"(p[0]), [s1] "=&x"(p[1]), [s2] "=&x"(p[2]), [s3] "=&x"(p[3]),
              [s4] "=&x"(p[4]), [s5] "=&x"(p[5]), [s6] "=&x"(p[6]), [s7] "=&x"(p[7]),
              [a] "=&x"(a), [b] "=&x"(b), [x] "=&x"(x), [s] "=&x"(s), [t] "=&x"(t)
            : [w] "r"(w), [q0] "r"(q[0]), [q1] "r"(q[1]), [q2] "r"(q[2]), [q3] "r"(q[3]),
              [i] "r"(i), [side] "r"(side), [one] "x"(_mm256_set1_epi16(1))
            : "memory");
}
#pragma GCC diagnostic pop

static inline void fetch(const int8_t *const q[4], int64_t at)
{
    for (int j = 0; j < 4; j++) _mm_prefetch((const char *)q[j] + at, _MM_HINT_T0);
}

/* c[4][16] += a slice of nb blocks: unpacked codes, scales [group][16]; next: the way from
 * these four rows to those that come after them                                            */
static void micro(float *c, const uint8_t *panel, const uint8_t *scales, const int8_t *const q[4],
                  const struct side *side, int64_t nb, int64_t next)
{
    for (int64_t b = 0; b < nb; b += PER_GROUP, scales += CHI_TILE * 2) {
        __m256 p[8];
        fetch(q, next + CHI_ACT_BLOCK * b);
        block64(p, panel + 1024 * b, q, CHI_ACT_BLOCK * b, side + b);
        if (b + 1 < nb) {
            __m256 more[8];
            fetch(q, next + CHI_ACT_BLOCK * (b + 1));
            block64(more, panel + 1024 * (b + 1), q, CHI_ACT_BLOCK * (b + 1), side + b + 1);
            UNROLL
            for (int j = 0; j < 8; j++) p[j] = _mm256_add_ps(p[j], more[j]);
        }
        __m256 scale[2] = { fp16x8(scales), fp16x8(scales + 16) };
        UNROLL
        for (int j = 0; j < 8; j++)
            _mm256_store_ps(c + 8 * j, muladd(_mm256_load_ps(c + 8 * j), scale[j % 2], p[j]));
    }
}

struct work {                                           /* in the scratch, 64-aligned  */
    uint8_t panel[SLICE * CHI_TILE];
    float   c[ROWS * CHI_TILE];
    struct side side[];                                 /* [rows / 4][nb]              */
};

static int64_t scratch_bytes(int64_t rows, int64_t d_in)
{
    if (rows == 1) return 0;
    int64_t fours = ((rows < ROWS ? rows : ROWS) + 3) / 4;
    return (int64_t)(sizeof(struct work) + (size_t)(fours * shape_of(d_in).nb) * sizeof(struct side));
}

/* Rows r .. r + n of the activations side by side; rows 4 - n that do not exist have step 0 */
static void take_sides(struct side *side, const struct chi_act *a, int64_t r, int64_t n, int64_t nb)
{
    int64_t blocks = a->ldq / CHI_ACT_BLOCK, b = 0;
    const float *step = a->step + r * blocks;
    const int16_t *sum = a->sum + r * blocks;
    for (; n == 4 && b + 4 <= nb; b += 4) {             /* 4 x 4 transposes            */
        __m128 f[4], s[4];
        UNROLL
        for (int j = 0; j < 4; j++) {
            __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)(sum + j * blocks + b));
            f[j] = _mm_loadu_ps(step + j * blocks + b);
            v = _mm_sub_epi32(_mm_setzero_si128(), _mm_cvtepi16_epi32(v));
            s[j] = _mm_castsi128_ps(_mm_and_si128(v, _mm_set1_epi32(0xffff)));
        }
        _MM_TRANSPOSE4_PS(f[0], f[1], f[2], f[3]);
        _MM_TRANSPOSE4_PS(s[0], s[1], s[2], s[3]);
        UNROLL
        for (int j = 0; j < 4; j++) {
            _mm_storeu_si128((__m128i *)(void *)side[b + j].start, _mm_castps_si128(s[j]));
            _mm_storeu_ps(side[b + j].step, f[j]);
        }
    }
    for (; b < nb; b++)
        for (int64_t j = 0; j < 4; j++) {
            side[b].start[j] = j < n ? -sum[j * blocks + b] & 0xffff : 0;
            side[b].step[j] = j < n ? step[j * blocks + b] : 0;
        }
}

/* Outputs of up to four rows, a page or more apart: ask for their lines early, write them late */
static void touch(float *y, int64_t ldy, int64_t n)
{
    for (int64_t j = 0; j < 4 && j < n; j++) __builtin_prefetch(y + j * ldy, 1);
}

static void put4(float *y, int64_t ldy, int64_t n, int64_t width, const float *c)
{
    for (int64_t j = 0; j < 4 && j < n; j++, c += CHI_TILE)
        put(y + j * ldy, width, _mm256_load_ps(c), _mm256_load_ps(c + 8));
}

/* One tile times rows r0 .. r0 + rows (at most ROWS) of the activations.  A slice of 128 rows
 * is twice the L1: each four rows fetch the next four, and a line of the tile's next slice    */
static void tile_rows(float *y, int64_t ldy, const struct chi_act *a, int64_t r0, int64_t rows,
                      const uint8_t *tile, struct shape s, int64_t width, struct work *k)
{
    enum { NB = SLICE / CHI_ACT_BLOCK };
    memset(k->c, 0, (size_t)(rows + 3) / 4 * 4 * CHI_TILE * sizeof *k->c);
    for (int64_t b = 0; b < s.nb; b += NB) {
        int64_t nb = s.nb - b < NB ? s.nb - b : NB;
        unpack(k->panel, tile + 256 * b, 4 * nb);
        for (int64_t r = 0; r < rows; r += 4) {
            const int8_t *q[4];                         /* rows that do not exist: row r  */
            for (int64_t j = 0; j < 4; j++)
                q[j] = a->q + (r0 + (r + j < rows ? r + j : r)) * a->ldq + b * CHI_ACT_BLOCK;
            _mm_prefetch((const char *)tile + 256 * (b + NB) + 16 * r, _MM_HINT_T0);
            if (b + NB >= s.nb) touch(y + r * ldy, ldy, rows - r);
            micro(k->c + r * CHI_TILE, k->panel, tile + s.codes + b / PER_GROUP * CHI_TILE * 2,
                  q, k->side + r / 4 * s.nb + b, nb, 4 * a->ldq);
            if (b + NB >= s.nb) put4(y + r * ldy, ldy, rows - r, width, k->c + r * CHI_TILE);
        }
    }
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                int64_t o0, int64_t o1, void *scratch)
{
    if (a->rows == 1) {
        run_one(y, a, m, o0, o1);
        return;
    }
    struct shape s = shape_of(m->d_in);
    struct work *k = scratch;
    for (int64_t r0 = 0; r0 < a->rows; r0 += ROWS) {
        int64_t rows = a->rows - r0 < ROWS ? a->rows - r0 : ROWS;
        for (int64_t r = 0; r < rows; r += 4)
            take_sides(k->side + r / 4 * s.nb, a, r0 + r, rows - r < 4 ? rows - r : 4, s.nb);
        for (int64_t o = o0; o < o1; o += CHI_TILE)
            tile_rows(y + r0 * ldy + o - o0, ldy, a, r0, rows,
                      (const uint8_t *)m->bytes + o / CHI_TILE * s.tile, s, o1 - o, k);
    }
}

const struct chi_linear_kernel avx2_linear_ternary2 = {
    .struct_size = sizeof avx2_linear_ternary2, .encoding = "ternary2", .group = GROUP,
    .integer = true, .run = run, .scratch_bytes = scratch_bytes,
};
