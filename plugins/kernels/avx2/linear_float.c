/* linear_float.c - y = W x for f32 and bf16 weights in tiles of 16 rows.
 *
 * One chain over k per output, product and sum rounded apart: lane = output, so the
 * chain is what the vector unit does anyway.  Four rows of x share each load of W.  */
#include "avx2.h"
#include <string.h>

static inline __m256 weights(const void *w, int64_t at, bool half)
{
    if (!half) return _mm256_loadu_ps((const float *)w + at);
    __m128i h = _mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)w + at));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* rows (1 or 4) of x times one tile; width outputs exist                              */
static inline __attribute__((always_inline))
void chains(float *y, int64_t ldy, const float *x, int64_t ldx, const void *w, int64_t d_in,
            int rows, int64_t width, bool half)
{
    __m256 s[4][2];
    UNROLL
    for (int r = 0; r < rows; r++) s[r][0] = s[r][1] = _mm256_setzero_ps();
    for (int64_t k = 0; k < d_in; k++) {
        __m256 lo = weights(w, 16 * k, half), hi = weights(w, 16 * k + 8, half);
        UNROLL
        for (int r = 0; r < rows; r++) {
            __m256 v = _mm256_broadcast_ss(x + r * ldx + k);
            s[r][0] = muladd(s[r][0], lo, v);
            s[r][1] = muladd(s[r][1], hi, v);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        _mm256_maskstore_ps(y + r * ldy, first(width), s[r][0]);
        if (width > 8) _mm256_maskstore_ps(y + r * ldy + 8, first(width - 8), s[r][1]);
    }
}

static inline __attribute__((always_inline))
void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
         int64_t o1, bool half)
{
    for (int64_t o = o0; o < o1; o += CHI_TILE) {
        const void *w = (const uint8_t *)m->bytes + o * m->d_in * (half ? 2 : 4);
        int64_t width = o1 - o < CHI_TILE ? o1 - o : CHI_TILE, r = 0;
        for (; r + 4 <= a->rows; r += 4)
            chains(y + r * ldy + o - o0, ldy, a->x + r * a->ldx, a->ldx, w, m->d_in, 4, width, half);
        for (; r < a->rows; r++)
            chains(y + r * ldy + o - o0, ldy, a->x + r * a->ldx, a->ldx, w, m->d_in, 1, width, half);
    }
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
