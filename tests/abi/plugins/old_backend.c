/* old_backend.c - which kernels it makes faster, on which CPU, how; the source.
 *
 * This one has two functions in plain C.  dot() sums in the order that chimera/kernel.h fixes, so
 * that no backend ever changes a bit: term i goes to lane i mod 16, and then lanes i and i + 8,
 * i + 4, i + 2, i + 1 are added.  A vector unit of 4, 8 or 16 floats does the same in fewer
 * instructions: that is where yours begins.  What a backend leaves out comes from the next one.
 *
 * Code that needs instructions of a certain CPU says so in .needs (CHI_CPU_...), which the core
 * looks at before it runs anything here.                                                     */
#include <chimera/kernel.h>
#include <chimera/plugin.h>

static float dot(const float *a, const float *b, int64_t n)
{
    float lane[16] = { 0 };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) lane[j] += a[i + j] * b[i + j];
    for (int j = 0; i + j < n; j++) lane[j] += a[i + j] * b[i + j];
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

/* y += a x; product and sum are rounded one after the other (no fused multiply-add)            */
static void axpy(float *y, float a, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
}

static const struct chi_kernels kernels = {
    .struct_size = sizeof kernels, .dot = dot, .axpy = axpy,
};

/* Higher ranks win among the backends that the CPU can run; negative: only if [backend] use says so */
static const struct chi_backend_ops ops = {
    .struct_size = sizeof ops, .rank = -1, .kernels = &kernels,
};

static const struct chi_component component = {
    .struct_size = sizeof component, .kind = CHI_BACKEND, .name = "old_backend", .revision = 1,
    .needs = 0, .summary = "dot and axpy in plain C", .ops = &ops,
};

CHI_PLUGIN(old_backend, .version = "0.1", .license = "MIT", .summary = "dot and axpy in plain C",
           .components = CHI_COMPONENTS(&component));
