/* test_cpu.c - detection agrees with the compiler's own and with the kernel's words. */
#include "core.h"
#include "registry.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static bool kernel_lists(const char *flag)
{
    static char line[16384];
    FILE *f = fopen("/proc/cpuinfo", "r");
    bool found = false;
    char *word = xprintf(" %s ", flag);
    while (f && !found && fgets(line, sizeof line, f)) {
        if (strncmp(line, "flags", 5) != 0 && strncmp(line, "Features", 8) != 0) continue;
        line[strcspn(line, "\n")] = ' ';
        found = strstr(line, word);
    }
    if (f) fclose(f);
    free(word);
    return found;
}

Test(cpu, agrees_with_the_kernel)
{
#if defined(__linux__) && defined(__x86_64__)
    static const struct { uint32_t bit; const char *flag; } same[] = {
        { CHI_CPU_SSE42, "sse4_2" }, { CHI_CPU_AVX2, "avx2" }, { CHI_CPU_FMA, "fma" }, { CHI_CPU_F16C, "f16c" },
        { CHI_CPU_AVX512, "avx512vl" }, { CHI_CPU_VNNI, "avx512_vnni" }
    };
    for (int64_t i = 0; i < COUNT(same); i++)
        cr_expect_eq((cpu_features() & same[i].bit) != 0, kernel_lists(same[i].flag), "%s", same[i].flag);
    cr_expect(!(cpu_features() & (CHI_CPU_NEON | CHI_CPU_DOTPROD | CHI_CPU_SVE | CHI_CPU_WASM128)));
    cr_expect(!(cpu_features() & CHI_CPU_AMX) || kernel_lists("amx_int8"));
#elif defined(__linux__) && defined(__aarch64__)
    cr_expect_eq((cpu_features() & CHI_CPU_NEON) != 0, kernel_lists("asimd"));
    cr_expect_eq((cpu_features() & CHI_CPU_DOTPROD) != 0, kernel_lists("asimddp"));
    cr_expect(!(cpu_features() & CHI_CPU_AVX2));
#endif
    cr_expect_eq(cpu_features(), cpu_features());
}

Test(cpu, names)
{
    char out[128];
    cpu_feature_names(0, out);
    cr_expect_str_eq(out, "");
    cpu_feature_names(CHI_CPU_AVX2 | CHI_CPU_FMA | CHI_CPU_F16C, out);
    cr_expect_str_eq(out, "AVX2 FMA F16C");
    cpu_feature_names(CHI_CPU_WASM128 | 1u << 31, out);
    cr_expect_str_eq(out, "WASM128 bit31");
    cpu_feature_names(UINT32_MAX, out);
    cr_expect_leq(strlen(out), 127u);
    cr_expect(strstr(out, "SSE4.2 AVX2 FMA F16C AVX512 VNNI AMX NEON DOTPROD SVE WASM128 VBMI I8MM APPLE_AMX bit14") == out);
    cr_expect_gt(strlen(cpu_name()), 2u);
    cr_expect(!strchr(cpu_name(), '\n'));
}

Test(cpu, fits)
{
    struct chi_component c = { .struct_size = sizeof c, .kind = CHI_BACKEND, .name = "x", .needs = cpu_features() };
    cr_expect_eq(component_fits(&c), CHI_OK);
    c.needs |= 1u << 31;
    cr_expect_eq(component_fits(&c), CHI_EPLUGIN);
    cr_expect(strstr(fail_text(), "backend x needs bit31, which this CPU"), "%s", fail_text());
}
