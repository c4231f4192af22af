/* fields.c - ternary2 times two to four rows of activations at once.
 *
 * A field of a tile's codes, 16 outputs x 4 k, is masked out once, in registers, and meets all rows: for
 * 16 k two loads, eight masks and six shifts, then two vpmaddubsw and two vpaddw a row and field.  The
 * accumulators start at -sum q, so that I = sum u q - sum q = sum t q is exact in 16 bits.  More rows go
 * in turn, pair of tiles by pair of tiles, whose codes then lie in a cache.  Two tiles, from the two
 * halves of the range, take turns block by block, so that each is one stream of memory.              */
#include "fields.h"

enum { BLOCK = 256, AHEAD = 3072, EARLY_BYTES = 1024, MOST = 4 };

/* ---- 64 k of one tile: assembler, because compilers keep the broadcasts and spill ---------------- */

#define COLUMN(q, lo, hi, k)                                                                \
    "vpbroadcastd " #k "(%[" #q "]), %[x]\n\t"                                              \
    "vpmaddubsw %[x], %[a], %[t]\n\t"                                                       \
    "vpmaddubsw %[x], %[b], %[x]\n\t"                                                       \
    "vpaddw %[t], %[" #lo "], %[" #lo "]\n\t"                                               \
    "vpaddw %[x], %[" #hi "], %[" #hi "]\n\t"
#define TWO(k)   COLUMN(q0, s0, s1, k) COLUMN(q1, s2, s3, k)
#define THREE(k) TWO(k) COLUMN(q2, s4, s5, k)
#define FOUR(k)  THREE(k) COLUMN(q3, s6, s7, k)
#define FIELD(rows, k) "vpand %[c], %[low], %[a]\n\tvpand %[d], %[low], %[b]\n\t" rows(k)
#define SHIFT "vpsrlw $2, %[c], %[c]\n\tvpsrlw $2, %[d], %[d]\n\t"
#define PIECE(rows, w0, w1, k0, k1, k2, k3)                                                 \
    "vmovdqu " #w0 "(%[w]), %[c]\n\tvmovdqu " #w1 "(%[w]), %[d]\n\t"                        \
    FIELD(rows, k0) SHIFT FIELD(rows, k1) SHIFT FIELD(rows, k2) SHIFT FIELD(rows, k3)
#define BLOCK64(rows)                                                                       \
    PIECE(rows, 0, 32, 0, 4, 8, 12) PIECE(rows, 64, 96, 16, 20, 24, 28)                     \
    PIECE(rows, 128, 160, 32, 36, 40, 44) PIECE(rows, 192, 224, 48, 52, 56, 60)
#define SUM(i) [s##i] "+x"(s[i])
#define TEMPORARIES [a] "=&x"(a), [b] "=&x"(b), [c] "=&x"(c), [d] "=&x"(d), [x] "=&x"(x), [t] "=&x"(t)
#define INPUTS [low] "x"(_mm256_set1_epi8(3)), [w] "r"(w), [q0] "r"(q[0]), [q1] "r"(q[1])

/* s[2r + h] += row r, 64 activations at q[r], times rows 8h .. 8h + 7 of the 256 bytes at w           */
INLINE void block64(__m256i s[2 * MOST], const uint8_t *w, const int8_t *const q[MOST], int rows)
{
    __m256i a, b, c, d, x, t;
    if (rows == 2)
        __asm__ volatile(BLOCK64(TWO) : SUM(0), SUM(1), SUM(2), SUM(3), TEMPORARIES : INPUTS : "memory");
    else if (rows == 3)
        __asm__ volatile(BLOCK64(THREE) : SUM(0), SUM(1), SUM(2), SUM(3), SUM(4), SUM(5), TEMPORARIES
                         : INPUTS, [q2] "r"(q[2]) : "memory");
    else
        __asm__ volatile(BLOCK64(FOUR)
                         : SUM(0), SUM(1), SUM(2), SUM(3), SUM(4), SUM(5), SUM(6), SUM(7), TEMPORARIES
                         : INPUTS, [q2] "r"(q[2]), [q3] "r"(q[3]) : "memory");
}

/* ---- tiles ---------------------------------------------------------------------------------- */

/* p[2r + h] = step * I of block b                                                               */
INLINE void block(__m256 p[2 * MOST], const uint8_t *tile, const int8_t *const q[MOST],
                  const struct side *side, int64_t b, int rows)
{
    __m256i s[2 * MOST];
    const int8_t *at[MOST];
    UNROLL
    for (int r = 0; r < rows; r++) {
        at[r] = q[r] + CHI_ACT_BLOCK * b;
        s[2 * r] = s[2 * r + 1] = _mm256_set1_epi32(side[b].start[r]);
    }
    UNROLL
    for (int64_t i = 0; i < BLOCK; i += 64)
        _mm_prefetch((const char *)tile + BLOCK * b + AHEAD + i, _MM_HINT_T0);
    block64(s, tile + BLOCK * b, at, rows);
    UNROLL
    for (int j = 0; j < 2 * rows; j++) {
        __m256i sum = _mm256_madd_epi16(s[j], _mm256_set1_epi16(1));
        p[j] = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(side[b].step[j / 2]));
    }
}

/* out[2r + h] += scale * (the blocks b and, if there is one, b + 1)                              */
INLINE void group(__m256 out[2 * MOST], const uint8_t *tile, const int8_t *const q[MOST],
                  const struct side *side, int64_t b, struct shape s, int rows)
{
    __m256 p[2 * MOST], more[2 * MOST];
    const uint8_t *scales = tile + s.codes + b / PER_GROUP * CHI_TILE * 2;
    block(p, tile, q, side, b, rows);
    if (b + 1 < s.nb) {
        block(more, tile, q, side, b + 1, rows);
        UNROLL
        for (int j = 0; j < 2 * rows; j++) p[j] = _mm256_add_ps(p[j], more[j]);
    }
    _mm_prefetch((const char *)scales + s.tile, _MM_HINT_T0);
    __m256 scale[2] = { fp16x8(scales), fp16x8(scales + 16) };
    UNROLL
    for (int j = 0; j < 2 * rows; j++) out[j] = muladd(out[j], scale[j % 2], p[j]);
}

/* Two tiles times rows (2 to 4) of activations: y + o[t] gets width[t] outputs of each             */
INLINE void pair(float *y, int64_t ldy, const int64_t o[2], const int64_t width[2],
                 const uint8_t *const tile[2], const struct chi_act *a, const struct side *side, struct shape s,
                 int rows)
{
    __m256 out[2][2 * MOST];
    const int8_t *q[MOST];
    for (int r = 0; r < rows; r++) q[r] = a->q + r * a->ldq;
    for (int j = 0; j < 2 * rows; j++) out[0][j] = out[1][j] = _mm256_setzero_ps();
    for (int64_t b = 0; b < s.nb; b += PER_GROUP)
        for (int t = 0; t < 2; t++) group(out[t], tile[t], q, side, b, s, rows);
    for (int t = 0; t < 2; t++)
        for (int r = 0; r < rows; r++) put(y + r * ldy + o[t], width[t], out[t][2 * r], out[t][2 * r + 1]);
}

/* The next rows of those that are left: fours, and threes where a single row or two would remain      */
static int64_t some(int64_t rows)
{
    return rows == 5 || rows == 6 || rows == 9 ? 3 : rows < MOST ? rows : MOST;
}

int64_t fields_scratch(int64_t rows, int64_t d_in)
{
    return (rows + 1) / 2 * ((d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK) * (int64_t)sizeof(struct side);
}

static void all_rows(float *y, int64_t ldy, const int64_t o[2], const int64_t width[2],
                     const uint8_t *const tile[2], const struct chi_act *a, const struct side *side,
                     struct shape s)
{
    for (int64_t r = 0, n; r < a->rows; r += n, side += s.nb) {
        n = some(a->rows - r);
        struct chi_act rows = rows_from(a, r, n);
        float *at = y + r * ldy;
        if (n == 2) pair(at, ldy, o, width, tile, &rows, side, s, 2);
        else if (n == 3) pair(at, ldy, o, width, tile, &rows, side, s, 3);
        else pair(at, ldy, o, width, tile, &rows, side, s, 4);
    }
}

void fields_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                int64_t o1, void *scratch, const struct ternary *e)
{
    struct shape s = shape_of(e, m->d_in);
    struct side *side = scratch, *next = side;
    int64_t tiles = (o1 - o0 + CHI_TILE - 1) / CHI_TILE, half = tiles / 2;
    const uint8_t *w = (const uint8_t *)m->bytes + o0 / CHI_TILE * s.tile;
    for (int64_t i = 0; i < EARLY_BYTES; i += 64) {     /* where nothing led up to them    */
        _mm_prefetch((const char *)w + i, _MM_HINT_T0);
        _mm_prefetch((const char *)w + half * s.tile + i, _MM_HINT_T0);
    }
    for (int64_t r = 0, n; r < a->rows; r += n, next += s.nb) {
        n = some(a->rows - r);
        panel_sides(next, a, r, n, s.nb);
    }
    for (int64_t i = 0; i < tiles - half; i++) {        /* the middle one of an odd number goes twice  */
        const int64_t o[2] = { i * CHI_TILE, (half + i) * CHI_TILE };
        const int64_t width[2] = { o1 - o0 - o[0], o1 - o0 - o[1] };
        const uint8_t *tile[2] = { w + i * s.tile, w + (half + i) * s.tile };
        all_rows(y, ldy, o, width, tile, a, side, s);
    }
}
