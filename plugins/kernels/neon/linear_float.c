/* linear_float.c - y = W x for f32 and bf16 weights in tiles of 16 rows.
 *
 * One chain over k per output, product and sum rounded apart: lane = output, so the chain
 * is what the vector unit does anyway.  Four rows of x share each load of W; one row goes
 * through four tiles at once, since one tile alone waits for its additions.               */
#include "neon.h"

INLINE float32x4_t weights(const uint8_t *w, int64_t at, bool half)
{
    if (!half) return vreinterpretq_f32_u8(vld1q_u8(w + 4 * at));
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(w + 2 * at)), 16));
}

/* rows (1 or 4) of x times tiles (1 or 4, of which the last has width outputs) that lie
 * stride weights apart                                                                     */
INLINE void chains(float *y, int64_t ldy, const float *x, int64_t ldx, const uint8_t *w, int64_t stride,
                   int64_t d_in, int rows, int tiles, int64_t width, bool half)
{
    float32x4_t s[4][16];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int t = 0; t < 4 * tiles; t++) s[r][t] = vdupq_n_f32(0);
    for (int64_t k = 0; k < d_in; k++) {
        UNROLL
        for (int t = 0; t < 4 * tiles; t++) {
            float32x4_t u = weights(w, t / 4 * stride + 16 * k + 4 * (t % 4), half);
            UNROLL
            for (int r = 0; r < rows; r++) s[r][t] = muladd(s[r][t], u, vdupq_n_f32(x[r * ldx + k]));
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int t = 0; t < 4 * tiles; t++)
            store(y + r * ldy + 4 * t, t < 4 * tiles - 4 ? 4 : width - 4 * (t % 4), s[r][t]);
}

INLINE void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                int64_t o1, bool half)
{
    const uint8_t *w = (const uint8_t *)m->bytes + o0 * m->d_in * (half ? 2 : 4);
    int64_t o = o0, size = CHI_TILE * m->d_in * (half ? 2 : 4);
    for (; a->rows == 1 && o + 4 * CHI_TILE <= o1; o += 4 * CHI_TILE, w += 4 * size)
        chains(y + o - o0, ldy, a->x, a->ldx, w, CHI_TILE * m->d_in, m->d_in, 1, 4, CHI_TILE, half);
    for (; o < o1; o += CHI_TILE, w += size) {
        int64_t r = 0, width = o1 - o < CHI_TILE ? o1 - o : CHI_TILE;
        float *out = y + o - o0;
        for (; r + 4 <= a->rows; r += 4)
            chains(out + r * ldy, ldy, a->x + r * a->ldx, a->ldx, w, 0, m->d_in, 4, 1, width, half);
        for (; r < a->rows; r++)
            chains(out + r * ldy, ldy, a->x + r * a->ldx, a->ldx, w, 0, m->d_in, 1, 1, width, half);
    }
}

static void run_f32(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                    int64_t o1, void *scratch)
{
    (void)scratch;
    run(y, ldy, a, m, o0, o1, false);
}

static void run_bf16(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                     int64_t o1, void *scratch)
{
    (void)scratch;
    run(y, ldy, a, m, o0, o1, true);
}

const struct chi_linear_kernel neon_linear_f32 = {
    .struct_size = sizeof neon_linear_f32, .encoding = "f32", .group = 1, .run = run_f32,
};
const struct chi_linear_kernel neon_linear_bf16 = {
    .struct_size = sizeof neon_linear_bf16, .encoding = "bf16", .group = 1, .run = run_bf16,
};
