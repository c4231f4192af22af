/* linear_int8.c - y = W x, int8 weights with a scale per row, int8 activations.
 *
 * vpmaddubsw wants one unsigned operand: |w| with the sign of w moved to the
 * activation, |w| * (q sign(w)), at most 2 * 127 * 127 < 2^15 per pair; vpmaddwd
 * by 1 adds pairs to one int32 per output.  A dword of weights is 4 k of one row, so
 * a dword of activations is broadcast to all rows.                                 */
#include "avx2.h"
#include <string.h>

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
            if (rows == 1) _mm_prefetch((const char *)w + 3072, _MM_HINT_T0);
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

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                int64_t o0, int64_t o1, void *scratch)
{
    (void)scratch;
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
