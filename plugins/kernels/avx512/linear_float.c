/* linear_float.c - y = W x for f32 and bf16 weights in tiles of 16 rows.
 *
 * One chain over k per output, product and sum rounded apart: lane = output, so the
 * chain is what the vector unit does anyway.  Twelve rows of x share each load of W.  */
#include "avx512.h"

enum { ROWS = 12, TILES = 8 };

INLINE __m512 weights(const void *w, int64_t at, bool half)
{
    if (!half) return _mm512_loadu_ps((const float *)w + at);
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)((const uint16_t *)w + at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* rows of x times the columns of tiles tiles, stride floats apart in the matrix; the last
 * one has width outputs.  rows * tiles sums hide the latency of the additions: many rows of
 * one tile or, for one row, several tiles.                                               */
INLINE void chains(float *y, int64_t ldy, const float *x, int64_t ldx, const void *w, int64_t stride,
                   int64_t d_in, int rows, int tiles, int64_t width, bool half)
{
    __m512 s[ROWS][TILES];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int t = 0; t < tiles; t++) s[r][t] = _mm512_setzero_ps();
    for (int64_t k = 0; k < d_in; k++) {
        __m512 u[TILES];
        UNROLL
        for (int t = 0; t < tiles; t++) u[t] = weights(w, t * stride + 16 * k, half);
        UNROLL
        for (int r = 0; r < rows; r++) {
            __m512 v = _mm512_set1_ps(x[r * ldx + k]);
            UNROLL
            for (int t = 0; t < tiles; t++) s[r][t] = muladd(s[r][t], u[t], v);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int t = 0; t < tiles; t++)
            store(y + r * ldy + 16 * t, t < tiles - 1 ? 16 : width, s[r][t]);
}

/* One tile times all rows                                                             */
INLINE void tile_rows(float *y, int64_t ldy, const struct chi_act *a, const void *w, int64_t width,
                      bool half)
{
    int64_t r = 0, d_in = a->d_in;
    for (; r + ROWS <= a->rows; r += ROWS)
        chains(y + r * ldy, ldy, a->x + r * a->ldx, a->ldx, w, 0, d_in, ROWS, 1, width, half);
    for (; r + 4 <= a->rows; r += 4)
        chains(y + r * ldy, ldy, a->x + r * a->ldx, a->ldx, w, 0, d_in, 4, 1, width, half);
    for (; r < a->rows; r++)
        chains(y + r * ldy, ldy, a->x + r * a->ldx, a->ldx, w, 0, d_in, 1, 1, width, half);
}

INLINE void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                int64_t o1, bool half)
{
    int64_t o = o0, stride = CHI_TILE * m->d_in;
    const uint8_t *w = (const uint8_t *)m->bytes;
    for (; a->rows == 1 && o + TILES * CHI_TILE <= o1; o += TILES * CHI_TILE)
        chains(y + o - o0, ldy, a->x, a->ldx, w + o * m->d_in * (half ? 2 : 4), stride, m->d_in, 1, TILES,
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

const struct chi_linear_kernel avx512_linear_f32 = {
    .struct_size = sizeof avx512_linear_f32, .encoding = "f32", .group = 1, .run = run_f32,
};
const struct chi_linear_kernel avx512_linear_bf16 = {
    .struct_size = sizeof avx512_linear_bf16, .encoding = "bf16", .group = 1, .run = run_bf16,
};
