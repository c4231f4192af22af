/* cpu.c - what the CPU and the operating system provide.
 *
 * A vector unit is usable only if the CPU has it (CPUID) and the system saves its
 * registers when threads switch (XGETBV).  AMX needs the kernel's permission besides,
 * asked for once, before threads exist.  Nothing from the environment takes part: a
 * wrong "yes" here ends in SIGILL.                                              */
#include "core.h"
#include "registry.h"

#include <string.h>
#include <sys/utsname.h>
#if defined(__x86_64__) || defined(__i386__)
# include <cpuid.h>
#endif
#if defined(__linux__)
# include <sys/auxv.h>
# include <sys/syscall.h>
# include <unistd.h>
#endif

#if defined(__x86_64__) || defined(__i386__)

static uint64_t xgetbv(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* ARCH_REQ_XCOMP_PERM for the tile registers; Linux 5.16 and later              */
static bool amx_permission(void)
{
#if defined(__x86_64__) && defined(SYS_arch_prctl)
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}

static uint32_t detect(void)
{
    enum { AVX = 0x6, ZMM = 0xe6, TILE = 0x60000 };        /* bits of XCR0         */
    const unsigned f_dq_cd_bw_vl = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
    unsigned a, b = 0, c = 0, d = 0, c1;
    uint32_t have = 0;

    if (!__get_cpuid(1, &a, &b, &c1, &d)) return 0;
    if (c1 >> 20 & 1) have |= CHI_CPU_SSE42;
    if (!(c1 >> 27 & 1)) return have;                       /* no XGETBV           */
    uint64_t saved = xgetbv();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) b = c = d = 0;
    if ((saved & AVX) == AVX && (c1 >> 28 & 1)) {
        if (c1 >> 12 & 1) have |= CHI_CPU_FMA;
        if (c1 >> 29 & 1) have |= CHI_CPU_F16C;
        if (b >> 5 & 1)   have |= CHI_CPU_AVX2;
    }
    if ((saved & ZMM) == ZMM && (b & f_dq_cd_bw_vl) == f_dq_cd_bw_vl) {
        have |= CHI_CPU_AVX512;
        if (c >> 11 & 1) have |= CHI_CPU_VNNI;
        if (c >> 1 & 1)  have |= CHI_CPU_VBMI;
    }
    if ((saved & TILE) == TILE && (d >> 24 & 1) && (d >> 25 & 1) && amx_permission())
        have |= CHI_CPU_AMX;
    return have;
}

/* The brand string: leaves 0x80000002..4, 16 bytes each                         */
static void find_name(char name[64])
{
    unsigned r[12] = { 0 };
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, r + 4 * i, r + 4 * i + 1, r + 4 * i + 2, r + 4 * i + 3)) return;
    memcpy(name, r, sizeof r);
    name[sizeof r] = 0;
}

#elif defined(__aarch64__) && defined(__linux__)

static uint32_t detect(void)
{
    unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
    uint32_t have = 0;
    if (caps >> 1 & 1)  have |= CHI_CPU_NEON;
    if (caps >> 20 & 1) have |= CHI_CPU_DOTPROD;
    if (caps >> 22 & 1) have |= CHI_CPU_SVE;
    if (caps2 >> 13 & 1) have |= CHI_CPU_I8MM;
    return have;
}

static void find_name(char name[64])
{
    (void)name;                         /* the machine's name has to do          */
}

#else

/* WebAssembly knows no run-time question: a module with vector instructions is refused as a whole by
 * an engine without them, so whoever runs has what it was compiled with.        */
static uint32_t detect(void)
{
#ifdef __wasm_simd128__
    return CHI_CPU_WASM128;
#else
    return 0;
#endif
}

static void find_name(char name[64])
{
    (void)name;
}

#endif

uint32_t cpu_features(void)
{
    static uint32_t have;
    static bool known;
    if (!__atomic_load_n(&known, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&have, detect(), __ATOMIC_RELAXED);
        __atomic_store_n(&known, true, __ATOMIC_RELEASE);
    }
    return __atomic_load_n(&have, __ATOMIC_RELAXED);
}

const char *cpu_name(void)
{
    static _Thread_local char name[64];
    struct utsname u;
    if (name[0]) return name;
    find_name(name);
    size_t blank = strspn(name, " "), n = strlen(name + blank);
    memmove(name, name + blank, n + 1);
    while (n && name[n - 1] == ' ') name[--n] = 0;
    if (!n) snprintf(name, sizeof name, "%.40s CPU", uname(&u) == 0 ? u.machine : "unknown");
    return name;
}

void cpu_feature_names(uint32_t set, char out[128])
{
    static const char *const names[] = {        /* by bit, as in chimera/base.h  */
        "SSE4.2", "AVX2", "FMA", "F16C", "AVX512", "VNNI", "AMX", "NEON", "DOTPROD", "SVE", "WASM128",
        "VBMI", "I8MM", "APPLE_AMX"
    };
    size_t n = 0;
    out[0] = 0;
    for (unsigned bit = 0; bit < 32; bit++) {
        if (!(set >> bit & 1) || n >= 120) continue;
        int more = bit < COUNT(names) ? snprintf(out + n, 128 - n, "%s%s", n ? " " : "", names[bit])
                                      : snprintf(out + n, 128 - n, "%sbit%u", n ? " " : "", bit);
        n = n + (size_t)more < 128 ? n + (size_t)more : 127;
    }
}
