/* linear_float.c - y = W x for f32 and bf16 weights in tiles of 16 rows.
 *
 * One chain over k per output, product and sum rounded apart: lane = output.  Two rows
 * of x share each load of W; one row goes through two tiles at once, since one tile
 * alone waits for its additions.                                                    */
#include "wasm_simd128.h"

INLINE v128_t weights(const void *w, int64_t at, bool half)
{
    if (!half) return wasm_v128_load((const float *)w + at);
    return wasm_i32x4_shl(wasm_u32x4_load16x4((const uint16_t *)w + at), 16);
}

/* rows x tiles is 2 x 1, 1 x 2 or 1 x 1: up to eight sums.  Tiles are stride weights apart;
 * the last has width outputs                                                           */
INLINE void chains(float *y, int64_t ldy, const float *x, int64_t ldx, const void *w, int64_t stride,
                   int64_t d_in, int rows, int tiles, int64_t width, bool half)
{
    v128_t s[2][4];
    clear(s[0]);
    clear(s[1]);
    for (int64_t k = 0; k < d_in; k++)
        UNROLL
        for (int c = 0; c < rows * tiles; c++) {
            v128_t v = wasm_v128_load32_splat(x + (rows > 1 ? c : 0) * ldx + k);
            UNROLL
            for (int j = 0; j < 4; j++)
                s[c][j] = muladd(s[c][j], weights(w, (tiles > 1 ? c : 0) * stride + CHI_TILE * k + 4 * j, half), v);
        }
    UNROLL
    for (int c = 0; c < rows * tiles; c++)
        put(y + (rows > 1 ? c * ldy : c * CHI_TILE), c + 1 < tiles ? CHI_TILE : width, s[c]);
}

INLINE void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                int64_t o1, bool half)
{
    int64_t o = o0, stride = CHI_TILE * m->d_in, size = half ? 2 : 4;
    const uint8_t *w = m->bytes;
    for (; a->rows == 1 && o + 2 * CHI_TILE <= o1; o += 2 * CHI_TILE)
        chains(y + o - o0, ldy, a->x, a->ldx, w + o * m->d_in * size, stride, m->d_in, 1, 2, CHI_TILE, half);
    for (; o < o1; o += CHI_TILE) {
        int64_t width = o1 - o < CHI_TILE ? o1 - o : CHI_TILE, r = 0;
        const uint8_t *tile = w + o * m->d_in * size;
        for (; r + 2 <= a->rows; r += 2)
            chains(y + r * ldy + o - o0, ldy, a->x + r * a->ldx, a->ldx, tile, 0, m->d_in, 2, 1, width, half);
        if (r < a->rows)
            chains(y + r * ldy + o - o0, ldy, a->x + r * a->ldx, a->ldx, tile, 0, m->d_in, 1, 1, width, half);
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

const struct chi_linear_kernel w128_linear_f32 = {
    .struct_size = sizeof w128_linear_f32, .encoding = "f32", .group = 1, .run = run_f32,
};
const struct chi_linear_kernel w128_linear_bf16 = {
    .struct_size = sizeof w128_linear_bf16, .encoding = "bf16", .group = 1, .run = run_bf16,
};
