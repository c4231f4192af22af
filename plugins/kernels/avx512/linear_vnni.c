/* linear_vnni.c - integer linears of CPUs with AVX-512 and VNNI (Cascade Lake, Zen 4 and later).
 * The compiler is not told about VNNI: the one instruction is written in dot4().            */
#include "avx512.h"
#include "../shared/int8_zmm.h"
#include "../shared/packed_zmm.h"
#include "../shared/ternary2_zmm.h"

static void run_int8(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                     int64_t o0, int64_t o1, void *scratch)
{
    (void)scratch;
    int8_run(y, ldy, a, m, o0, o1, true);
}

static void run_ternary2(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                         int64_t o0, int64_t o1, void *scratch)
{
    ternary2_run(y, ldy, a, m, o0, o1, scratch, true);
}

static void run_sherry125(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                          int64_t o0, int64_t o1, void *scratch)
{
    sherry_run(y, ldy, a, m, o0, o1, scratch, true);
}

static void run_base3(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                      int64_t o0, int64_t o1, void *scratch)
{
    base3_run(y, ldy, a, m, o0, o1, scratch, true);
}

const struct chi_linear_kernel vnni_linear_int8 = {
    .struct_size = sizeof vnni_linear_int8, .encoding = "int8", .integer = true, .run = run_int8,
};
const struct chi_linear_kernel vnni_linear_ternary2 = {
    .struct_size = sizeof vnni_linear_ternary2, .encoding = "ternary2", .group = GROUP, .integer = true,
    .run = run_ternary2, .scratch_bytes = ternary_scratch,
};
const struct chi_linear_kernel vnni_linear_sherry125 = {
    .struct_size = sizeof vnni_linear_sherry125, .encoding = "sherry125", .group = GROUP, .integer = true,
    .run = run_sherry125, .scratch_bytes = ternary_scratch,
};
const struct chi_linear_kernel vnni_linear_base3 = {
    .struct_size = sizeof vnni_linear_base3, .encoding = "base3", .group = GROUP, .integer = true,
    .run = run_base3, .scratch_bytes = ternary_scratch,
};
