/* linear_ternary2.c - y = W x, ternary weights in 2 bits, int8 activations.
 *
 * One row of activations: fields 0 and 2 of a byte are taken with the mask 3,
 * fields 1 and 3 with 12, that is 4 u, in a second accumulator (8 * 2032 = 16256),
 * which a shift by 2 mends at the end of the block: one shift per 128 weights.
 * Two tiles share the broadcasts, and come from the two halves of the range so
 * that each is one stream of memory.  More rows: fields.c, panel.c, sums.c.       */
#include "fields.h"
#include "sums.h"

enum { BLOCK = 256, AHEAD = 3072, EARLY_BYTES = 1024 };

/* ---- codes to bytes --------------------------------------------------------------------- */

static void unpack(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, int64_t nb)
{
    const __m256i low = _mm256_set1_epi8(3);
    const uint8_t *codes = tile + BLOCK * b;
    (void)nb;
    for (int64_t i = 0; i < 8 * n; i++) {
        __m256i c = load256(codes + 32 * i);
        uint8_t *at = panel + i / 2 * 256 + i % 2 * 32;
        UNROLL
        for (int j = 0; j < 4; j++) {
            _mm256_store_si256((__m256i *)(void *)(at + 64 * j), _mm256_and_si256(c, low));
            c = _mm256_srli_epi16(c, 2);
        }
    }
}

static const struct ternary ternary2 = { BLOCK, unpack };

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

/* p[tile][half] = the sums of n (1 or 2) blocks from i of two tiles, times their steps                     */
INLINE void group_sums(__m256 p[2][2], const uint8_t *const tile[2], int64_t i, int64_t n, const int8_t *q,
                       const float *step, const int16_t *total)
{
    UNROLL
    for (int64_t b = i; b < i + n; b++) {
        const uint8_t *w[2] = { tile[0] + BLOCK * b, tile[1] + BLOCK * b };
        __m256i sum[2][2];
        block_sums(sum, w, q + CHI_ACT_BLOCK * b, total[b]);
        __m256 v = _mm256_set1_ps(step[b]);
        UNROLL
        for (int h = 0; h < 4; h++) {
            __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[h / 2][h % 2]), v);
            p[h / 2][h % 2] = b > i ? _mm256_add_ps(p[h / 2][h % 2], x) : x;
        }
    }
}

/* Two tiles times one row: y[t] gets width[t] outputs                                     */
static void decode(float *const y[2], const int64_t width[2], const uint8_t *const tile[2],
                   const int8_t *q, const float *step, const int16_t *total, struct shape s)
{
    __m256 out[2][2] = { { _mm256_setzero_ps(), _mm256_setzero_ps() },
                         { _mm256_setzero_ps(), _mm256_setzero_ps() } };
    for (int64_t b = 0; b < s.nb; b += PER_GROUP) {
        __m256 p[2][2];
        if (b + 1 < s.nb) group_sums(p, tile, b, 2, q, step, total);
        else group_sums(p, tile, b, 1, q, step, total);
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

static void run_one(float *y, const struct chi_act *a, const struct chi_matrix *m, int64_t o0, int64_t o1)
{
    struct shape s = shape_of(&ternary2, m->d_in);
    int64_t tiles = (o1 - o0 + CHI_TILE - 1) / CHI_TILE, half = tiles / 2;
    const uint8_t *w = (const uint8_t *)m->bytes + o0 / CHI_TILE * s.tile;
    for (int64_t i = 0; i < EARLY_BYTES; i += 64) {     /* where nothing led up to them    */
        _mm_prefetch((const char *)w + i, _MM_HINT_T0);
        _mm_prefetch((const char *)w + half * s.tile + i, _MM_HINT_T0);
    }
    for (int64_t i = 0; i < tiles - half; i++) {
        int64_t j = half + i;                           /* the middle one of an odd number
                                                           of tiles goes twice         */
        const uint8_t *tile[2] = { w + i * s.tile, w + j * s.tile };
        int64_t width[2] = { o1 - o0 - i * CHI_TILE, o1 - o0 - j * CHI_TILE };
        float *out[2] = { y + i * CHI_TILE, y + j * CHI_TILE };
        decode(out, width, tile, a->q, a->step, a->sum, s);
    }
}

/* ---- as many rows as there are --------------------------------------------------------- */

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                int64_t o0, int64_t o1, void *scratch)
{
    int64_t r = 0;
    for (; o1 - o0 >= SUMS_OUTPUTS && a->rows - r >= SUMS_LEAST; r += SUMS_ROWS) {
        struct chi_act some = rows_from(a, r, SUMS_ROWS);
        sums_run(y + r * ldy, ldy, &some, m, o0, o1, scratch, &ternary2);
    }
    if (r >= a->rows) return;
    struct chi_act rest = rows_from(a, r, a->rows);
    if (rest.rows == 1) run_one(y + r * ldy, &rest, m, o0, o1);
    else if (rest.rows <= FIELDS_MOST) fields_run(y + r * ldy, ldy, &rest, m, o0, o1, scratch, &ternary2);
    else panel_run(y + r * ldy, ldy, &rest, m, o0, o1, scratch, &ternary2);
}

static int64_t scratch_bytes(int64_t rows, int64_t d_in)
{
    int64_t some = fields_scratch(rows < FIELDS_MOST ? rows : FIELDS_MOST, d_in);
    int64_t panel = rows <= FIELDS_MOST ? 0 : panel_scratch(rows, d_in);
    int64_t sums = rows < SUMS_LEAST ? 0 : sums_scratch();
    int64_t most = panel > sums ? panel : sums;
    return rows == 1 ? 0 : some > most ? some : most;
}

const struct chi_linear_kernel avx2_linear_ternary2 = {
    .struct_size = sizeof avx2_linear_ternary2, .encoding = "ternary2", .group = GROUP,
    .integer = true, .run = run, .scratch_bytes = scratch_bytes,
};
