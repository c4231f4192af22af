/* linear_int8.c - y = W x, int8 weights with a scale per row, int8 activations.
 *
 * vpmaddubsw wants one unsigned operand: |w| with the sign of w moved to the
 * activation, |w| * (q sign(w)), at most 2 * 127 * 127 < 2^15 per pair; vpmaddwd
 * by 1 adds pairs to one int32 per output.  A dword of weights is 4 k of one row, so
 * a dword of activations is broadcast to all rows.                                 */
#include "avx2.h"
#include <string.h>

enum { AHEAD = 3072, FEW = 3 };     /* bytes asked for early; rows that go one by one   */

static inline __m256i dot4(__m256i sum, __m256i abs, __m256i w, __m256i q)
{
    __m256i pairs = _mm256_maddubs_epi16(abs, _mm256_sign_epi8(q, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline __m256i dword(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

/* rows (1 or 4) of activations times one tile; width outputs exist                    */
static inline __attribute__((always_inline))
void tile_rows(float *y, int64_t ldy, const struct chi_act *a, int64_t r0, const int8_t *w,
               int64_t blocks, int rows, int64_t width)
{
    __m256 p[4][2];
    const float *scale = (const float *)(const void *)(w + blocks * CHI_ACT_BLOCK * CHI_TILE);
    UNROLL
    for (int r = 0; r < rows; r++) p[r][0] = p[r][1] = _mm256_setzero_ps();
    for (int64_t b = 0; b < blocks; b++) {
        __m256i s[4][2];
        const int8_t *q = a->q + r0 * a->ldq + b * CHI_ACT_BLOCK;
        UNROLL
        for (int r = 0; r < rows; r++) s[r][0] = s[r][1] = _mm256_setzero_si256();
        for (int k = 0; k < CHI_ACT_BLOCK; k += 4, w += 64) {
            if (r0 == 0) _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
            __m256i lo = _mm256_loadu_si256((const __m256i *)(const void *)w);
            __m256i hi = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));
            __m256i alo = _mm256_abs_epi8(lo), ahi = _mm256_abs_epi8(hi);
            UNROLL
            for (int r = 0; r < rows; r++) {
                __m256i x = dword(q + r * a->ldq + k);
                s[r][0] = dot4(s[r][0], alo, lo, x);
                s[r][1] = dot4(s[r][1], ahi, hi, x);
            }
        }
        UNROLL
        for (int r = 0; r < rows; r++) {
            __m256 step = _mm256_set1_ps(a->step[(r0 + r) * (a->ldq / CHI_ACT_BLOCK) + b]);
            p[r][0] = muladd(p[r][0], _mm256_cvtepi32_ps(s[r][0]), step);
            p[r][1] = muladd(p[r][1], _mm256_cvtepi32_ps(s[r][1]), step);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        __m256 zero = _mm256_setzero_ps();
        _mm256_maskstore_ps(y + r * ldy, first(width), muladd(zero, _mm256_loadu_ps(scale), p[r][0]));
        if (width > 8)
            _mm256_maskstore_ps(y + r * ldy + 8, first(width - 8),
                                muladd(zero, _mm256_loadu_ps(scale + 8), p[r][1]));
    }
}

/* Row r times SIDE tiles, each of them a stream of memory; of four the CPU fetches the next lines
 * itself, at the pace of reading.  Here |q| is the unsigned operand and w takes the sign of q, which
 * the tiles share                                                                             */
enum { SIDE = 4 };

static void side_tiles(float *const y[SIDE], const int64_t width[SIDE], const int8_t *const tile[SIDE],
                       const struct chi_act *a, int64_t r, int64_t blocks)
{
    const float *steps = a->step + r * (a->ldq / CHI_ACT_BLOCK);
    __m256 p[2 * SIDE];
    UNROLL
    for (int h = 0; h < 2 * SIDE; h++) p[h] = _mm256_setzero_ps();
    for (int64_t b = 0; b < blocks; b++) {
        __m256i s[2 * SIDE];
        const int8_t *q = a->q + r * a->ldq + b * CHI_ACT_BLOCK;
        int64_t at = b * CHI_ACT_BLOCK * CHI_TILE;
        UNROLL
        for (int h = 0; h < 2 * SIDE; h++) s[h] = _mm256_setzero_si256();
        for (int64_t k = 0; k < CHI_ACT_BLOCK; k += 4, at += 64) {
            __m256i x = dword(q + k), abs = _mm256_abs_epi8(x);
            UNROLL
            for (int h = 0; h < 2 * SIDE; h++) {
                const int8_t *w = tile[h / 2] + at + h % 2 * 32;
                __m256i v = _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *)(const void *)w), x);
                s[h] = _mm256_add_epi32(s[h], _mm256_madd_epi16(_mm256_maddubs_epi16(abs, v), _mm256_set1_epi16(1)));
            }
        }
        __m256 step = _mm256_set1_ps(steps[b]);
        UNROLL
        for (int h = 0; h < 2 * SIDE; h++) p[h] = muladd(p[h], _mm256_cvtepi32_ps(s[h]), step);
    }
    for (int t = 0; t < SIDE; t++) {
        const float *scale = (const float *)(const void *)(tile[t] + blocks * CHI_ACT_BLOCK * CHI_TILE);
        __m256 zero = _mm256_setzero_ps();
        _mm256_maskstore_ps(y[t], first(width[t]), muladd(zero, _mm256_loadu_ps(scale), p[2 * t]));
        if (width[t] > 8)
            _mm256_maskstore_ps(y[t] + 8, first(width[t] - 8), muladd(zero, _mm256_loadu_ps(scale + 8), p[2 * t + 1]));
    }
}

/* Few rows meet each four tiles one after the other.  The four come from the quarters of the range;
 * what is missing in the last one is its last tile once more                                   */
static void run_few(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0, int64_t o1)
{
    int64_t blocks = (m->d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK, size = (blocks * CHI_ACT_BLOCK + 4) * CHI_TILE;
    int64_t tiles = (o1 - o0 + CHI_TILE - 1) / CHI_TILE, part = (tiles + SIDE - 1) / SIDE;
    const int8_t *w = (const int8_t *)m->bytes + o0 / CHI_TILE * size;
    for (int64_t i = 0; i < part; i++) {
        int64_t o[SIDE], width[SIDE];
        const int8_t *tile[SIDE];
        for (int t = 0; t < SIDE; t++) {
            int64_t n = t * part + i < tiles ? t * part + i : tiles - 1;
            o[t] = n * CHI_TILE;
            width[t] = o1 - o0 - o[t];
            tile[t] = w + n * size;
        }
        for (int64_t r = 0; r < a->rows; r++) {
            float *out[SIDE] = { y + r * ldy + o[0], y + r * ldy + o[1], y + r * ldy + o[2], y + r * ldy + o[3] };
            side_tiles(out, width, tile, a, r, blocks);
        }
    }
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                int64_t o0, int64_t o1, void *scratch)
{
    (void)scratch;
    if (a->rows <= FEW) {
        run_few(y, ldy, a, m, o0, o1);
        return;
    }
    int64_t blocks = (m->d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK;
    for (int64_t o = o0; o < o1; o += CHI_TILE) {
        const int8_t *w = (const int8_t *)m->bytes + o * (blocks * CHI_ACT_BLOCK + 4);
        int64_t width = o1 - o < CHI_TILE ? o1 - o : CHI_TILE, r = 0;
        for (; r + 4 <= a->rows; r += 4)
            tile_rows(y + r * ldy + o - o0, ldy, a, r, w, blocks, 4, width);
        for (; r < a->rows; r++) tile_rows(y + r * ldy + o - o0, ldy, a, r, w, blocks, 1, width);
    }
}

const struct chi_linear_kernel avx2_linear_int8 = {
    .struct_size = sizeof avx2_linear_int8, .encoding = "int8", .integer = true, .run = run,
};
