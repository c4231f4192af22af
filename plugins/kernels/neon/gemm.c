/* gemm.c - C = beta C + op(A) op(B), float, after the scheme of Goto and BLIS
 * (van Zee and van de Geijn, ACM TOMS 41(3), 2015).
 *
 * B is cut into panels of 12 columns, A into panels of 8 rows, both copied so that the
 * inner loop reads them in order; it keeps an 8 x 12 tile of C in 24 of the 32 registers.
 * k is cut every 256: one chain of fused multiply-adds inside a cut, cuts added in order.
 * Edges are padded with zeros and go through the same loop, so an element never sees its
 * place.                                                                                  */
#include "neon.h"

enum { MR = 8, NR = 12, KC = 256, MC = 128, NC = 768 };

static _Thread_local _Alignas(64) float pack_a[MC * KC], pack_b[NC * KC];

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* dst[panel][p][width] from lines (rows of op(A), columns of op(B)): line i, depth p is at
 * src[i * line + p * deep], of which one is 1                                              */
static void pack(float *dst, const float *src, int64_t line, int64_t deep, int64_t width, int64_t lines, int64_t kc)
{
    for (int64_t i = 0; i < lines; i += width, dst += width * kc) {
        int64_t have = least(lines - i, width);
        for (int64_t p = 0; p < kc; p++) {
            const float *from = src + i * line + p * deep;
            for (int64_t j = 0; j < width; j++) dst[p * width + j] = j < have ? from[j * line] : 0;
        }
    }
}

#define ROW(i, a, lane)                                                                     \
    s[i][0] = vfmaq_laneq_f32(s[i][0], b0, a, lane);                                        \
    s[i][1] = vfmaq_laneq_f32(s[i][1], b1, a, lane);                                        \
    s[i][2] = vfmaq_laneq_f32(s[i][2], b2, a, lane);

/* c[8][12] (row stride ldc) = or += a[kc][8]' b[kc][12]                                     */
static void tile(int64_t kc, const float *a, const float *b, float *c, int64_t ldc, bool add)
{
    float32x4_t s[MR][3];
    UNROLL
    for (int i = 0; i < MR; i++) s[i][0] = s[i][1] = s[i][2] = vdupq_n_f32(0);
    for (int64_t p = 0; p < kc; p++, a += MR, b += NR) {
        float32x4_t a0 = vld1q_f32(a), a1 = vld1q_f32(a + 4);
        float32x4_t b0 = vld1q_f32(b), b1 = vld1q_f32(b + 4), b2 = vld1q_f32(b + 8);
        ROW(0, a0, 0) ROW(1, a0, 1) ROW(2, a0, 2) ROW(3, a0, 3)
        ROW(4, a1, 0) ROW(5, a1, 1) ROW(6, a1, 2) ROW(7, a1, 3)
    }
    UNROLL
    for (int i = 0; i < MR; i++)
        UNROLL
        for (int h = 0; h < 3; h++) {
            float *at = c + i * ldc + 4 * h;
            vst1q_f32(at, add ? vaddq_f32(vld1q_f32(at), s[i][h]) : s[i][h]);
        }
}

/* The same for the rows x cols of it that exist                                             */
static void edge(int64_t kc, const float *a, const float *b, float *c, int64_t ldc, bool add, int64_t rows,
                 int64_t cols)
{
    float whole[MR * NR];
    tile(kc, a, b, whole, NR, false);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            c[i * ldc + j] = add ? c[i * ldc + j] + whole[i * NR + j] : whole[i * NR + j];
}

/* Packed A[mc,kc] times packed B[kc,nc]                                                     */
static void block(int64_t mc, int64_t nc, int64_t kc, float *C, int64_t ldc, bool add)
{
    for (int64_t j = 0; j < nc; j += NR)
        for (int64_t i = 0; i < mc; i += MR) {
            const float *a = pack_a + i * kc, *b = pack_b + j * kc;
            float *c = C + i * ldc + j;
            if (i + MR <= mc && j + NR <= nc) tile(kc, a, b, c, ldc, add);
            else edge(kc, a, b, c, ldc, add, least(mc - i, MR), least(nc - j, NR));
        }
}

void neon_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda, const float *B,
               int64_t ldb, float beta, float *C, int64_t ldc)
{
    if (k == 0 && beta == 0)
        for (int64_t i = 0; i < m; i++) memset(C + i * ldc, 0, (size_t)n * sizeof *C);
    for (int64_t j = 0; j < n; j += NC) {
        int64_t nc = least(n - j, NC);
        for (int64_t p = 0; p < k; p += KC) {
            int64_t kc = least(k - p, KC);
            pack(pack_b, tb ? B + j * ldb + p : B + p * ldb + j, tb ? ldb : 1, tb ? 1 : ldb, NR, nc, kc);
            for (int64_t i = 0; i < m; i += MC) {
                int64_t mc = least(m - i, MC);
                pack(pack_a, ta ? A + p * lda + i : A + i * lda + p, ta ? 1 : lda, ta ? lda : 1, MR, mc, kc);
                block(mc, nc, kc, C + i * ldc + j, ldc, p > 0 || beta != 0);
            }
        }
    }
}
