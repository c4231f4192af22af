/* test_apple_amx.c - the backend for Apple's matrix unit, by emulated instructions: the checks of
 * all backends (backend_checks.h), for what it has.  The linker puts __wrap_cpu_features in front
 * of cpu_features(), so that the core believes in the unit that is emulated.                     */
#include "../arm/apple_amx_emulator.h"
#include "backend_checks.h"

uint32_t __real_cpu_features(void);
uint32_t __wrap_cpu_features(void);
uint32_t __wrap_cpu_features(void)
{
    return __real_cpu_features() | CHI_CPU_APPLE_AMX;
}

enum { FMA32 = 12, MAC16 = 14 };

/* The checks run the instructions that they are about, and no other product                      */
static void counted(int op, int not, void (*check)(void))
{
    apple_amx_emulate();
    long before = apple_amx_executed(op), other = apple_amx_executed(not);
    check();
    cr_expect_gt(apple_amx_executed(op), before);
    cr_expect_eq(apple_amx_executed(not), other);
}

static void ternary2(void) { check_linear("apple_amx", "ternary2"); }
static void no_wrap(void)  { check_no_wrap("apple_amx", "ternary2"); }
static void gemm(void)     { check_gemm("apple_amx"); }

Test(apple_amx, ternary2_is_exact)      { counted(MAC16, FMA32, ternary2); }
Test(apple_amx, ternary2_does_not_wrap) { counted(MAC16, FMA32, no_wrap); }
Test(apple_amx, gemm_is_right)          { counted(FMA32, MAC16, gemm); }

/* An element of C has the same bits in whatever product it comes                                  */
Test(apple_amx, gemm_invariance)
{
    enum { M = 40, N = 71, K = 300 };
    apple_amx_emulate();
    const struct chi_kernels *f = backend_kernels("apple_amx");
    float *A = xcalloc(M * K, 4), *B = xcalloc(K * N, 4), *C = xcalloc(M * N, 4), *D = xcalloc(M * N, 4);
    fill(A, M * K), fill(B, K * N);
    f->gemm(false, false, M, N, K, A, K, B, N, 0, C, N);
    f->gemm(false, false, M, N, 256, A, K, B, N, 0, D, N);
    f->gemm(false, false, M, N, K - 256, A + 256, K, B + 256 * N, N, 1, D, N);
    agree(C, D, M * N, "k cut at 256");
    for (int i = 0; i < 12; i++) {
        int64_t r = random_bits() % M, c = random_bits() % N;
        int64_t m = 1 + random_bits() % (M - r), n = 1 + random_bits() % (N - c);
        f->gemm(false, false, m, n, K, A + r * K, K, B + c, N, 0, D, n);
        for (int64_t j = 0; j < m; j++)
            agree(D + j * n, C + (r + j) * N + c, n, "%ld x %ld at %ld, %ld", (long)m, (long)n, (long)r, (long)c);
    }
    free(A), free(B), free(C), free(D);
}
