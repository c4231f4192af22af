/* linear_float.c - y = W x for f32 and bf16 weights in tiles of 16 rows.
 *
 * One chain over k per output, product and sum rounded apart: lane = output, so the
 * chain is what the vector unit does anyway.  Six rows of x share each load of W.   */
#include "avx2.h"
#include <string.h>

static inline __m256 weights(const void *w, int64_t at, bool half)
{
    if (!half) return _mm256_loadu_ps((const float *)w + at);
    __m128i h = _mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)w + at));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* rows (1, 2 or 6) of x times the columns of tiles tiles, stride floats apart in the
 * matrix; the last one has width outputs.  rows * tiles * 2 sums hide the latency of
 * the additions: six rows of one tile or, for one row, up to four tiles.             */
static inline __attribute__((always_inline))
void chains(float *y, int64_t ldy, const float *x, int64_t ldx, const void *w, int64_t stride,
            int64_t d_in, int rows, int tiles, int64_t width, bool half)
{
    __m256 s[6][8];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int t = 0; t < 2 * tiles; t++) s[r][t] = _mm256_setzero_ps();
    for (int64_t k = 0; k < d_in; k++) {
        __m256 u[8];
        UNROLL
        for (int t = 0; t < 2 * tiles; t++)
            u[t] = weights(w, t / 2 * stride + 16 * k + 8 * (t % 2), half);
        UNROLL
        for (int r = 0; r < rows; r++) {
            __m256 v = _mm256_broadcast_ss(x + r * ldx + k);
            UNROLL
            for (int t = 0; t < 2 * tiles; t++) s[r][t] = muladd(s[r][t], u[t], v);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int t = 0; t < 2 * tiles; t++) {
            int64_t have = t < 2 * tiles - 2 ? 8 : width - 8 * (t % 2);
            if (have > 0) _mm256_maskstore_ps(y + r * ldy + 8 * t, first(have), s[r][t]);
        }
}

/* One tile times all rows                                                             */
static inline __attribute__((always_inline))
void tile_rows(float *y, int64_t ldy, const struct chi_act *a, const void *w, int64_t width,
               bool half)
{
    int64_t r = 0, d_in = a->d_in;
    for (; r + 6 <= a->rows; r += 6)
        chains(y + r * ldy, ldy, a->x + r * a->ldx, a->ldx, w, 0, d_in, 6, 1, width, half);
    for (; r + 2 <= a->rows; r += 2)
        chains(y + r * ldy, ldy, a->x + r * a->ldx, a->ldx, w, 0, d_in, 2, 1, width, half);
    if (r < a->rows)
        chains(y + r * ldy, ldy, a->x + r * a->ldx, a->ldx, w, 0, d_in, 1, 1, width, half);
}

static inline __attribute__((always_inline))
void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
         int64_t o1, bool half)
{
    int64_t o = o0, stride = CHI_TILE * m->d_in;
    const uint8_t *w = (const uint8_t *)m->bytes;
    for (; a->rows == 1 && o + 4 * CHI_TILE <= o1; o += 4 * CHI_TILE)
        chains(y + o - o0, ldy, a->x, a->ldx, w + o * m->d_in * (half ? 2 : 4), stride, m->d_in, 1, 4,
               CHI_TILE, half);
    for (; o < o1; o += CHI_TILE)
        tile_rows(y + o - o0, ldy, a, w + o * m->d_in * (half ? 2 : 4),
                  o1 - o < CHI_TILE ? o1 - o : CHI_TILE, half);
}

static void run_f32(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                    int64_t o0, int64_t o1, void *scratch)
{
    (void)scratch;
    run(y, ldy, a, m, o0, o1, false);
}

static void run_bf16(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                     int64_t o0, int64_t o1, void *scratch)
{
    (void)scratch;
    run(y, ldy, a, m, o0, o1, true);
}

const struct chi_linear_kernel avx2_linear_f32 = {
    .struct_size = sizeof avx2_linear_f32, .encoding = "f32", .group = 1, .run = run_f32,
};
const struct chi_linear_kernel avx2_linear_bf16 = {
    .struct_size = sizeof avx2_linear_bf16, .encoding = "bf16", .group = 1, .run = run_bf16,
};
