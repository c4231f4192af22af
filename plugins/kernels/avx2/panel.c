/* panel.c - ternary weights times several rows of activations, for every encoding that can be unpacked.
 *
 * A tile's codes u = t + 1 are unpacked to bytes once per 512 k (8 KB, in L1), then 16 outputs x 4 rows
 * go through 64 k in 8 registers that start at -sum q: within a block sum u q <= 16256, so that
 * I = sum t q = sum u q - sum q is exact in 16 bits.  Then one multiply by the activations' step per
 * block and one by the weights' scale per group of 128, lane = row, in the order of kernel.h.
 * The block is assembler: compilers hoist the broadcasts and spill an accumulator.                  */
#include "panel.h"
#include <string.h>

enum { SLICE = 512, ROWS = 128 };

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

int64_t panel_scratch(int64_t rows, int64_t d_in)
{
    int64_t fours = ((rows < ROWS ? rows : ROWS) + 3) / 4;
    int64_t nb = (d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK;
    return (int64_t)(sizeof(struct work) + (size_t)(fours * nb) * sizeof(struct side));
}

void panel_sides(struct side *side, const struct chi_act *a, int64_t r, int64_t n, int64_t nb)
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
 * is twice the L1: each four rows fetch the next four, and their share of the tile's next slice */
static void tile_rows(float *y, int64_t ldy, const struct chi_act *a, int64_t r0, int64_t rows,
                      const uint8_t *tile, const struct ternary *e, struct shape s, int64_t width, struct work *k)
{
    enum { NB = SLICE / CHI_ACT_BLOCK };
    int64_t fours = (rows + 3) / 4, share = (e->block * NB / 64 + fours - 1) / fours;
    memset(k->c, 0, (size_t)(4 * fours * CHI_TILE) * sizeof *k->c);
    for (int64_t b = 0; b < s.nb; b += NB) {
        int64_t nb = s.nb - b < NB ? s.nb - b : NB;
        e->unpack(k->panel, tile, b, nb, s.nb);
        for (int64_t r = 0; r < rows; r += 4) {
            const int8_t *q[4];                         /* rows that do not exist: row r  */
            for (int64_t j = 0; j < 4; j++)
                q[j] = a->q + (r0 + (r + j < rows ? r + j : r)) * a->ldq + b * CHI_ACT_BLOCK;
            const char *soon = (const char *)tile + e->block * (b + NB) + 16 * r * share;
            for (int64_t i = 0; i < share; i++) _mm_prefetch(soon + 64 * i, _MM_HINT_T0);
            if (b + NB >= s.nb) touch(y + r * ldy, ldy, rows - r);
            micro(k->c + r * CHI_TILE, k->panel, tile + s.codes + b / PER_GROUP * CHI_TILE * 2,
                  q, k->side + r / 4 * s.nb + b, nb, 4 * a->ldq);
            if (b + NB >= s.nb) put4(y + r * ldy, ldy, rows - r, width, k->c + r * CHI_TILE);
        }
    }
}

void panel_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
               int64_t o1, void *scratch, const struct ternary *e)
{
    struct shape s = shape_of(e, m->d_in);
    struct work *k = scratch;
    for (int64_t r0 = 0; r0 < a->rows; r0 += ROWS) {
        int64_t rows = a->rows - r0 < ROWS ? a->rows - r0 : ROWS;
        for (int64_t r = 0; r < rows; r += 4)
            panel_sides(k->side + r / 4 * s.nb, a, r0 + r, rows - r < 4 ? rows - r : 4, s.nb);
        for (int64_t o = o0; o < o1; o += CHI_TILE)
            tile_rows(y + r0 * ldy + o - o0, ldy, a, r0, rows,
                      (const uint8_t *)m->bytes + o / CHI_TILE * s.tile, e, s, o1 - o, k);
    }
}
