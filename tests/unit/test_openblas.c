/* test_openblas.c - the optional gemm of OpenBLAS: right, and the same wherever an
 * element lies.  Without the library only the refusal is tested.                   */
#include "kernels.h"

#include <chimera/host.h>
#include <math.h>

static char said[400];

static chi_status keep(const struct chi_host *h, chi_status s, const char *fmt, ...)
{
    (void)h;
    va_list a;
    va_start(a, fmt);
    vsnprintf(said, sizeof said, fmt, a);
    va_end(a);
    return s;
}

static const struct chi_kernels *opened(void)
{
    const struct chi_backend_ops *o = component(CHI_BACKEND, "openblas")->ops;
    const struct chi_host h = { .struct_size = sizeof h, .fail = keep };
    cr_expect(o->rank < 0, "it must be used only if named");
    if (o->open(&h) == CHI_OK) return o->kernels;
    cr_expect(strstr(said, "libopenblas0-serial") || strstr(said, "[backend] use"), "%s", said);
    cr_skip_test("%s", said);
    return NULL;
}

Test(openblas, gemm)
{
    enum { M = 130, N = 113, K = 530 };
    const struct chi_kernels *k = opened();
    float *A = xcalloc(M * K, 4), *B = xcalloc(K * N, 4), *C = xcalloc(M * N, 4), *D = xcalloc(M * N, 4);
    fill(A, M * K), fill(B, K * N);
    k->gemm(false, false, M, N, K, A, K, B, N, 0, C, N);
    for (int64_t i = 0; i < M * N; i++) {
        double want = 0, terms = 0;
        for (int64_t p = 0; p < K; p++) {
            double t = (double)A[i / N * K + p] * (double)B[p * N + i % N];
            want += t, terms += fabs(t);
        }
        cr_assert(fabs((double)C[i] - want) <= 8 * 0x1p-24 * terms, "[%ld]: %g, not %g", i, (double)C[i], want);
    }
    for (int64_t r = 0; r < M; r += 43) {                   /* a part of C alone        */
        k->gemm(false, false, 1, 20, K, A + r * K, K, B + 77, N, 0, D, 20);
        cr_expect(same(D, C + r * N + 77, 80), "row %ld", r);
    }
    k->gemm(false, false, M, N, 256, A, K, B, N, 0, D, N);  /* k cut                    */
    k->gemm(false, false, M, N, K - 256, A + 256, K, B + 256 * N, N, 1, D, N);
    cr_expect(same(C, D, 4 * M * N), "cutting k changed bits");
    float *At = xcalloc(M * K, 4), *Bt = xcalloc(K * N, 4);
    for (int64_t i = 0; i < M * K; i++) At[i % K * M + i / K] = A[i];
    for (int64_t i = 0; i < K * N; i++) Bt[i % N * K + i / N] = B[i];
    k->gemm(true, true, M, N, K, At, M, Bt, K, 0, D, N);
    cr_expect(same(C, D, 4 * M * N), "transposed");
}
