/* vectors.h - a backend with a healthy dot and axpy, but for what a mock defines.                 */
#include <chimera/plugin.h>

#ifndef IN_DOT                          /* n, sum                                              */
# define IN_DOT
#endif
#ifndef AXPY_READS                      /* values of x that axpy looks at                      */
# define AXPY_READS(n) (n)
#endif
#ifndef LINEARS
# define LINEARS NULL
#endif

static float dot(const float *a, const float *b, int64_t n)
{
    float lane[16] = { 0 };
    for (int64_t i = 0; i < n; i++) lane[i % 16] += a[i] * b[i];
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    float sum = lane[0];
    IN_DOT
    return sum;
}

static void axpy(float *y, float a, const float *x, int64_t n)
{
    volatile float seen = 0;
    for (int64_t i = 0; i < AXPY_READS(n); i++) seen = x[i];
    for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
    (void)seen;
}

#ifdef DOTS_ROWS                        /* the rows that dots looks at                         */
static void dots(float *y, const float *W, int64_t ldw, const float *x, int64_t rows, int64_t n)
{
    for (int64_t i = 0; i < rows; i++) y[i] = i < DOTS_ROWS(rows) ? dot(W + i * ldw, x, n) : 0;
}
# define DOTS dots
#else
# define DOTS NULL
#endif

static const struct chi_kernels kernels = { .struct_size = sizeof kernels, .dot = dot, .axpy = axpy, .dots = DOTS };
static const struct chi_backend_ops ops = { .struct_size = sizeof ops, .rank = -1, .kernels = &kernels,
                                            .linears = LINEARS };
static const struct chi_component backend = {
    .struct_size = sizeof backend, .kind = CHI_BACKEND, .name = NAME, .revision = 1, .summary = "two kernels",
        .ops = &ops,
};
CHI_EXPORT const struct chi_plugin chimera_plugin = {
    .magic = CHI_MAGIC, .abi_major = CHI_ABI_MAJOR, .abi_minor = CHI_ABI_MINOR, .struct_size = sizeof chimera_plugin,
    .layout = CHI_LAYOUT, .name = NAME, .version = "1.0", .license = "MIT", .summary = "two kernels",
    .components = CHI_COMPONENTS(&backend),
};
