/* openblas.c - gemm of the OpenBLAS library, as a yardstick beside avx2's own.
 *
 * The library is no dependency: open() loads it when [backend] use names this
 * backend.  A library may choose another blocking, and so other last bits, for other
 * shapes; kernel.h wants results that do not depend on them.  So every call has one
 * shape, 192 x 12 x 256 on packed tiles padded with zeros, and open() tests that an
 * element then does not see its place.  12 columns are what one kernel of OpenBLAS
 * 0.3.21 (Haswell, Zen) does at once; beyond, other kernels give other last bits.                           */
#include <chimera/plugin.h>
#include <chimera/kernel.h>
#include <chimera/host.h>
#include <dlfcn.h>
#include <string.h>

enum { MB = 192, NB = 12, KB = 256, ROW_MAJOR = 101, PLAIN = 111 };

typedef void sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *A,
                   int lda, const float *B, int ldb, float beta, float *C, int ldc);

static sgemm *multiply;                     /* set once, in open()                     */
static _Thread_local _Alignas(64) float tile_a[MB * KB], tile_b[KB * NB], tile_c[MB * NB];

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* to[high][wide] = rows x cols of op(from), the rest 0                                  */
static void copy(float *to, int64_t high, int64_t wide, const float *from, int64_t ld,
                 bool transpose, int64_t rows, int64_t cols)
{
    memset(to, 0, (size_t)(high * wide) * sizeof *to);
    if (!transpose) {
        for (int64_t i = 0; i < rows; i++)
            memcpy(to + i * wide, from + i * ld, (size_t)cols * sizeof *to);
        return;
    }
    for (int64_t j = 0; j < cols; j++)
        for (int64_t i = 0; i < rows; i++) to[i * wide + j] = from[j * ld + i];
}

static void one_tile(float *C, int64_t ldc, int64_t rows, int64_t cols, bool add)
{
    multiply(ROW_MAJOR, PLAIN, PLAIN, MB, NB, KB, 1, tile_a, KB, tile_b, NB, 0, tile_c, NB);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            C[i * ldc + j] = add ? C[i * ldc + j] + tile_c[i * NB + j] : tile_c[i * NB + j];
}

static void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
                 const float *B, int64_t ldb, float beta, float *C, int64_t ldc)
{
    if (k == 0 && beta == 0)
        for (int64_t i = 0; i < m; i++) memset(C + i * ldc, 0, (size_t)n * sizeof *C);
    for (int64_t j = 0; j < n; j += NB)
        for (int64_t p = 0; p < k; p += KB) {
            int64_t nb = least(n - j, NB), kb = least(k - p, KB);
            copy(tile_b, KB, NB, tb ? B + j * ldb + p : B + p * ldb + j, ldb, tb, kb, nb);
            for (int64_t i = 0; i < m; i += MB) {
                int64_t mb = least(m - i, MB);
                copy(tile_a, MB, KB, ta ? A + p * lda + i : A + i * lda + p, lda, ta, mb, kb);
                one_tile(C + i * ldc + j, ldc, mb, nb, p > 0 || beta != 0);
            }
        }
}

/* The same row of A and column of B in many places of a tile must give the same bits     */
static bool place_matters(void)
{
    float C[2];
    uint32_t seed = 1;
    for (int64_t i = 0; i < MB * KB; i++)
        tile_a[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) / 8388608.0f - 1;
    for (int64_t i = 0; i < KB * NB; i++)
        tile_b[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) / 8388608.0f - 1;
    float row[KB], column[KB];
    memcpy(row, tile_a, sizeof row);
    for (int64_t p = 0; p < KB; p++) column[p] = tile_b[p * NB];
    multiply(ROW_MAJOR, PLAIN, PLAIN, MB, NB, KB, 1, tile_a, KB, tile_b, NB, 0, tile_c, NB);
    C[0] = tile_c[0];
    for (int64_t i = 1; i < MB; i++) memcpy(tile_a + i * KB, row, sizeof row);
    for (int64_t p = 0; p < KB; p++)
        for (int64_t j = 1; j < NB; j++) tile_b[p * NB + j] = column[p];
    multiply(ROW_MAJOR, PLAIN, PLAIN, MB, NB, KB, 1, tile_a, KB, tile_b, NB, 0, tile_c, NB);
    for (int64_t i = 0; i < MB * NB; i++) {
        C[1] = tile_c[i];
        if (memcmp(C, C + 1, sizeof *C) != 0) return true;
    }
    return false;
}

/* RTLD_LOCAL: a second BLAS in the process stays out of sight.  Never closed.            */
static void *find_library(void)
{
    static const char *const names[] = {
        "/usr/lib/x86_64-linux-gnu/openblas-serial/libopenblas.so.0",
        "/usr/lib/aarch64-linux-gnu/openblas-serial/libopenblas.so.0",
        "libopenblas.so.0", NULL
    };
    for (int i = 0; names[i]; i++) {
        void *lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (lib) return lib;
    }
    return NULL;
}

static chi_status open_library(const struct chi_host *h)
{
    void *lib = find_library();
    if (!lib)
        return h->fail(h, CHI_EPLUGIN, "libopenblas.so.0 was not found: install the Debian package "
                       "libopenblas0-serial, or take openblas out of [backend] use");
    void (*threads)(int);
    *(void **)(void *)&threads = dlsym(lib, "openblas_set_num_threads");
    *(void **)(void *)&multiply = dlsym(lib, "cblas_sgemm");
    if (!multiply)
        return h->fail(h, CHI_EPLUGIN, "libopenblas.so.0 has no cblas_sgemm: it was built without "
                       "CBLAS; install the Debian package libopenblas0-serial");
    if (threads) threads(1);
    if (place_matters())
        return h->fail(h, CHI_EPLUGIN, "this OpenBLAS gives an element other bits at another place "
                       "of the matrix on this CPU, which would make results depend on the batch; "
                       "take openblas out of [backend] use");
    return CHI_OK;
}

static const struct chi_kernels kernels = { .struct_size = sizeof kernels, .gemm = gemm };
static const struct chi_backend_ops ops = {
    .struct_size = sizeof ops, .rank = -1, .kernels = &kernels, .open = open_library,
};
static const struct chi_component openblas = {
    .struct_size = sizeof openblas, .kind = CHI_BACKEND, .name = "openblas", .revision = 1,
    .summary = "matrix products of training by OpenBLAS, only if named", .ops = &ops,
};

CHI_PLUGIN(openblas, .version = "1.0", .license = "MIT",
           .summary = "matrix products by OpenBLAS, if installed",
           .components = CHI_COMPONENTS(&openblas));
