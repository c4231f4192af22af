/* test_rows.c - dots and axpys of the reference and of every backend that runs here: the bits of
 * dot and axpy row by row, whatever the number of rows, of columns, and the stride.   */
#include "kernels.h"
#include "reference.h"

static void check(const char *name, const struct chi_kernels *k, int64_t rows, int64_t n, int64_t ld, bool at_end)
{
    int64_t all = rows ? (rows - 1) * ld + n : 0;
    float *W = guarded(4 * all, at_end), *x = guarded(4 * n, at_end), *y = guarded(4 * rows, at_end);
    float *a = guarded(4 * rows, at_end), *z = guarded(4 * n, at_end), *want = xcalloc((size_t)(rows + n) + 1, 4);
    fill(W, all), fill(x, n), fill(a, rows), fill(z, n);
    for (int64_t i = 0; i < rows; i++) want[i] = reference_kernels.dot(x, W + i * ld, n);
    k->dots(y, W, ld, x, rows, n);
    cr_expect(same(y, want, 4 * rows), "%s: dots of %ld rows of %ld, %ld apart", name, (long)rows, (long)n, (long)ld);
    for (int64_t i = 0; i < n; i++) want[i] = z[i];
    for (int64_t i = 0; i < rows; i++) reference_kernels.axpy(want, a[i], W + i * ld, n);
    k->axpys(z, a, W, ld, rows, n);
    cr_expect(same(z, want, 4 * n), "%s: axpys of %ld rows of %ld, %ld apart", name, (long)rows, (long)n, (long)ld);
    unguard(W, 4 * all, at_end), unguard(x, 4 * n, at_end), unguard(y, 4 * rows, at_end);
    unguard(a, 4 * rows, at_end), unguard(z, 4 * n, at_end);
    free(want);
}

static void check_all(const char *name, const struct chi_kernels *k)
{
    static const int64_t size[] = { 0, 1, 7, 8, 15, 16, 17, 63, 64, 65, 100, 129, 511, 512, 513, 1027, 1040 };
    for (int i = 0; i < COUNT(size); i++)
        for (int64_t rows = 0; rows <= 42; rows += rows < 19 ? 1 : 5)
            check(name, k, rows, size[i], size[i] + rows % 3, (rows + i) % 2);
}

Test(rows, reference)
{
    check_all("reference", &reference_kernels);
}

Test(rows, backends)
{
    static const struct { const char *name; uint32_t needs; } list[] = { { "avx2", CHI_CPU_AVX2 | CHI_CPU_FMA },
                                                                         { "avx512", CHI_CPU_AVX512 },
                                                                         { "neon", CHI_CPU_NEON } };
    int ran = 0;
    for (int i = 0; i < COUNT(list); i++) {
        if ((cpu_features() & list[i].needs) != list[i].needs) continue;
        const struct chi_component *c = component(CHI_BACKEND, list[i].name);
        const struct chi_kernels *k = ((const struct chi_backend_ops *)c->ops)->kernels;
        cr_assert(k->dots && k->axpys && k->dots != reference_kernels.dots && k->axpys != reference_kernels.axpys);
        check_all(list[i].name, k);
        ran++;
    }
    if (!ran) cr_skip_test("this CPU runs none of them");
}
