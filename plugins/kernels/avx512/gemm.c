/* gemm.c - C = beta C + op(A) op(B), float, as gemm_pack.h says.
 *
 * Panels of 32 columns of B and 14 rows of A; the inner loop keeps a 14 x 32 tile of C in
 * 28 registers and adds one column of A times one row of B per step.  k is cut every 256:
 * one chain of fused multiply-adds inside a cut, cuts added in order.  Edges are padded
 * with zeros and go through the same loop, so an element never sees its place.          */
#include "avx512.h"
#include "../shared/gemm_pack.h"

enum { MR = 14, NR = 32, KC = 256, MC = 168, NC = 1024 };

static _Thread_local _Alignas(64) float pack_a[MC * KC], pack_b[NC * KC];

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void pack_rows(const float *src, int64_t ld, bool contiguous, int64_t lines, int64_t kc)
{
    pack_panels(pack_a, src, ld, contiguous, MR, lines, kc);
}

static void pack_cols(const float *src, int64_t ld, bool contiguous, int64_t lines, int64_t kc)
{
    pack_panels(pack_b, src, ld, contiguous, NR, lines, kc);
}

/* c[rows][cols] of 14 x 32 (row stride ldc) = or += a[kc][14]' b[kc][32]                   */
INLINE void tile(int64_t kc, const float *a, const float *b, float *c, int64_t ldc, bool add,
                 int64_t rows, int64_t cols)
{
    __m512 s[MR][2];
    UNROLL
    for (int i = 0; i < MR; i++) s[i][0] = s[i][1] = _mm512_setzero_ps();
    for (int64_t i = 0; i < rows; i++) {
        _mm_prefetch((const char *)(c + i * ldc), _MM_HINT_T0);
        _mm_prefetch((const char *)(c + i * ldc + 16), _MM_HINT_T0);
    }
    for (int64_t p = 0; p < kc; p++, a += MR, b += NR) {
        __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
        UNROLL
        for (int i = 0; i < MR; i++) {
            __m512 x = _mm512_set1_ps(a[i]);
            s[i][0] = _mm512_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm512_fmadd_ps(x, b1, s[i][1]);
        }
    }
    UNROLL
    for (int i = 0; i < MR; i++) {
        if (i >= rows) break;
        UNROLL
        for (int h = 0; h < 2; h++) {
            float *at = c + i * ldc + 16 * h;
            __m512 old = add ? load(at, cols - 16 * h) : _mm512_setzero_ps();
            store(at, cols - 16 * h, add ? _mm512_add_ps(old, s[i][h]) : s[i][h]);
        }
    }
}

/* Packed A[mc,kc] times packed B[kc,nc]                                                   */
static void block(int64_t mc, int64_t nc, int64_t kc, float *C, int64_t ldc, bool add)
{
    for (int64_t j = 0; j < nc; j += NR)
        for (int64_t i = 0; i < mc; i += MR) {
            const float *a = pack_a + i * kc, *b = pack_b + j * kc;
            float *c = C + i * ldc + j;
            if (i + MR <= mc && j + NR <= nc) tile(kc, a, b, c, ldc, add, MR, NR);
            else tile(kc, a, b, c, ldc, add, least(mc - i, MR), least(nc - j, NR));
        }
}

void avx512_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
                 const float *B, int64_t ldb, float beta, float *C, int64_t ldc)
{
    if (k == 0 && beta == 0)
        for (int64_t i = 0; i < m; i++) memset(C + i * ldc, 0, (size_t)n * sizeof *C);
    for (int64_t j = 0; j < n; j += NC) {
        int64_t nc = least(n - j, NC);
        for (int64_t p = 0; p < k; p += KC) {
            int64_t kc = least(k - p, KC);
            pack_cols(tb ? B + j * ldb + p : B + p * ldb + j, ldb, !tb, nc, kc);
            for (int64_t i = 0; i < m; i += MC) {
                int64_t mc = least(m - i, MC);
                pack_rows(ta ? A + p * lda + i : A + i * lda + p, lda, ta, mc, kc);
                block(mc, nc, kc, C + i * ldc + j, ldc, p > 0 || beta != 0);
            }
        }
    }
}
