/* gemm.c - C = beta C + op(A) op(B) in float, for training.
 *
 * 4 x 8 tiles of C in eight vectors go through at most 256 k, which lie packed: 4 values of
 * A and 8 of B for each k side by side, zeros where there is no row or column.  An element
 * is one chain over those k, and the chains are added to C in order.                     */
#include "wasm_simd128.h"
#include <string.h>

enum { MR = 4, NR = 8, KC = 256, NC = 64 };

/* [n / w][k][w] of a matrix whose (i, p) lies at i * si + p * sp, i < n, p < k           */
static void pack(float *to, const float *from, int64_t si, int64_t sp, int64_t n, int64_t k, int64_t w)
{
    for (int64_t i0 = 0; i0 < n; i0 += w)
        for (int64_t p = 0; p < k; p++)
            for (int64_t i = i0; i < i0 + w; i++) *to++ = i < n ? from[i * si + p * sp] : 0;
}

static void micro(v128_t s[MR][2], const float *a, const float *b, int64_t k)
{
    v128_t t[MR][2];
    UNROLL
    for (int i = 0; i < MR; i++) t[i][0] = t[i][1] = wasm_f32x4_const_splat(0);
    for (int64_t p = 0; p < k; p++) {
        v128_t lo = wasm_v128_load(b + NR * p), hi = wasm_v128_load(b + NR * p + 4);
        UNROLL
        for (int i = 0; i < MR; i++) {
            v128_t x = wasm_v128_load32_splat(a + MR * p + i);
            t[i][0] = muladd(t[i][0], x, lo);
            t[i][1] = muladd(t[i][1], x, hi);
        }
    }
    UNROLL
    for (int i = 0; i < MR; i++) s[i][0] = t[i][0], s[i][1] = t[i][1];
}

/* c[rows, width] += s                                                                    */
static void add_tile(float *c, int64_t ldc, int64_t rows, int64_t width, v128_t s[MR][2])
{
    for (int64_t i = 0; i < MR && i < rows; i++)
        for (int64_t j = 0; j < 2 && width > 4 * j; j++) {
            float *at = c + i * ldc + 4 * j;
            store(at, width - 4 * j, wasm_f32x4_add(load(at, width - 4 * j), s[i][j]));
        }
}

void w128_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
               const float *B, int64_t ldb, float beta, float *C, int64_t ldc)
{
    static _Thread_local float panel[NC * KC], strip[MR * KC];
    int64_t ai = ta ? 1 : lda, ap = ta ? lda : 1, bj = tb ? ldb : 1, bp = tb ? 1 : ldb;
    for (int64_t i = 0; beta == 0 && i < m; i++) memset(C + i * ldc, 0, (size_t)n * sizeof *C);
    for (int64_t p0 = 0; p0 < k; p0 += KC)
        for (int64_t j0 = 0; j0 < n; j0 += NC) {
            int64_t kc = k - p0 < KC ? k - p0 : KC, nc = n - j0 < NC ? n - j0 : NC;
            pack(panel, B + j0 * bj + p0 * bp, bj, bp, nc, kc, NR);
            for (int64_t i = 0; i < m; i += MR) {
                pack(strip, A + i * ai + p0 * ap, ai, ap, m - i < MR ? m - i : MR, kc, MR);
                for (int64_t j = 0; j < nc; j += NR) {
                    v128_t s[MR][2];
                    micro(s, strip, panel + j * kc, kc);
                    add_tile(C + i * ldc + j0 + j, ldc, m - i, nc - j, s);
                }
            }
        }
}
