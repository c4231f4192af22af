/* gemm.c - C = beta C + op(A) op(B), float, by outer products of 16 x 16.
 *
 * A tile of C is 32 x 32: two registers of Y hold 32 rows of a column of A, two of X 32
 * columns of a row of B, and their four products go to the four sets of rows of Z.  k is cut
 * every 256: one chain of fused multiply-adds inside a cut, cuts added in order.  Edges are
 * padded with zeros and go through the same tile, so an element never sees its place.       */
#include "amx.h"

enum { TILE = 32, HALF = 16, KC = 256, NC = 512, STEPS = AMX_RING / 2 };

static _Thread_local _Alignas(128) float pack_a[TILE * KC], pack_b[NC * KC], out[64 * HALF];

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* dst[panel][p][32] from lines (rows of op(A), columns of op(B)): line i, depth p is at
 * src[i * line + p * deep]; p up to the next multiple of STEPS is zero                        */
static void pack(float *dst, const float *src, int64_t line, int64_t deep, int64_t lines, int64_t kc)
{
    int64_t padded = (kc + STEPS - 1) / STEPS * STEPS;
    for (int64_t i = 0; i < lines; i += TILE, dst += TILE * padded) {
        int64_t have = least(lines - i, TILE);
        for (int64_t p = 0; p < padded; p++)
            for (int64_t j = 0; j < TILE; j++)
                dst[p * TILE + j] = j < have && p < kc ? src[(i + j) * line + p * deep] : 0;
    }
}

/* Z row 4j + 2h + g [i] = sum over kc of a[p][16h + j] b[p][16g + i]                           */
static void multiply(const float *a, const float *b, int64_t kc)
{
    for (int64_t p = 0; p < kc; p += STEPS, a += STEPS * TILE, b += STEPS * TILE) {
        for (int s = 0; s < STEPS; s++) {
            amx_ldy(amx_pair(a + s * TILE, 2 * s));
            amx_ldx(amx_pair(b + s * TILE, 2 * s));
        }
        for (int s = 0; s < STEPS; s++)
            for (int set = 0; set < 4; set++)
                amx_fma32(amx_product(AMX_LINE * (2 * s + set % 2), AMX_LINE * (2 * s + set / 2), set, p + s == 0));
    }
}

/* The tile goes from Z to the rows x cols of C that exist                                      */
static void put(float *c, int64_t ldc, int64_t rows, int64_t cols, bool add)
{
    for (int z = 0; z < 64; z += 2) amx_stz(amx_pair(out + z * HALF, z));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            float x = out[(4 * (i % HALF) + 2 * (i / HALF) + j / HALF) * HALF + j % HALF];
            c[i * ldc + j] = add ? c[i * ldc + j] + x : x;
        }
}

/* Packed rows of A times packed B[kc,nc]                                                       */
static void rows_of(int64_t rows, int64_t nc, int64_t kc, float *c, int64_t ldc, bool add)
{
    int64_t padded = (kc + STEPS - 1) / STEPS * STEPS;
    for (int64_t j = 0; j < nc; j += TILE) {
        multiply(pack_a, pack_b + j * padded, padded);
        put(c + j, ldc, rows, least(nc - j, TILE), add);
    }
}

void apple_amx_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda, const float *B,
                    int64_t ldb, float beta, float *C, int64_t ldc)
{
    if (k == 0 && beta == 0)
        for (int64_t i = 0; i < m; i++) memset(C + i * ldc, 0, (size_t)n * sizeof *C);
    if (m <= 0 || n <= 0 || k <= 0) return;
    amx_set();
    for (int64_t j = 0; j < n; j += NC)
        for (int64_t p = 0; p < k; p += KC) {
            int64_t nc = least(n - j, NC), kc = least(k - p, KC);
            pack(pack_b, tb ? B + j * ldb + p : B + p * ldb + j, tb ? ldb : 1, tb ? 1 : ldb, nc, kc);
            for (int64_t i = 0; i < m; i += TILE) {
                int64_t rows = least(m - i, TILE);
                pack(pack_a, ta ? A + p * lda + i : A + i * lda + p, ta ? 1 : lda, ta ? lda : 1, rows, kc);
                rows_of(rows, nc, kc, C + i * ldc + j, ldc, p > 0 || beta != 0);
            }
        }
    amx_clr();
}
