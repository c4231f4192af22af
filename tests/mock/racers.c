/* racers.c - two backends that any CPU runs, whose kernels for ternary2 tell who was called: hare,
 * of the highest rank, answers 2000 and snail 1000.                                     */
#include <chimera/plugin.h>

#include <chimera/kernel.h>

static void all(float *y, int64_t ldy, const struct chi_act *a, int64_t n, float v)
{
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t i = 0; i < n; i++) y[r * ldy + i] = v;
}

static void run_hare(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                     int64_t o1, void *scratch)
{
    (void)m, (void)scratch;
    all(y, ldy, a, o1 - o0, 2000);
}

static void run_snail(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                      int64_t o1, void *scratch)
{
    (void)m, (void)scratch;
    all(y, ldy, a, o1 - o0, 1000);
}

static const struct chi_linear_kernel hare = {
    .struct_size = sizeof hare, .encoding = "ternary2", .integer = true, .run = run_hare
};
static const struct chi_linear_kernel snail = {
    .struct_size = sizeof snail, .encoding = "ternary2", .integer = true, .run = run_snail
};
static const struct chi_linear_kernel *const of_hare[] = { &hare, NULL }, *const of_snail[] = { &snail, NULL };
static const struct chi_backend_ops hare_ops = { .struct_size = sizeof hare_ops, .rank = 90, .linears = of_hare };
static const struct chi_backend_ops snail_ops = { .struct_size = sizeof snail_ops, .rank = 1, .linears = of_snail };
static const struct chi_backend_ops stranger_ops = { .struct_size = sizeof stranger_ops, .rank = 99,
                                                     .linears = of_hare };

#define RACER(name_, summary_, ops_, needs_)                                                       \
    { .struct_size = sizeof(struct chi_component), .kind = CHI_BACKEND, .name = name_, .revision = 1, \
      .summary = summary_, .ops = ops_, .needs = needs_ }
static const struct chi_component racers[] = {
    RACER("hare", "answers 2000", &hare_ops, 0), RACER("snail", "answers 1000", &snail_ops, 0),
    RACER("stranger", "runs on no CPU", &stranger_ops, 1u << 31),
};

extern const struct chi_plugin chimera_plugin;
CHI_EXPORT const struct chi_plugin chimera_plugin = {
    .magic = CHI_MAGIC, .abi_major = CHI_ABI_MAJOR, .abi_minor = CHI_ABI_MINOR,
        .struct_size = sizeof(struct chi_plugin),
    .layout = CHI_LAYOUT, .name = "racers", .version = "1.0", .license = "MIT",
    .summary = "kernels that sign their results",
    .components = CHI_COMPONENTS(&racers[0], &racers[1], &racers[2])
};
