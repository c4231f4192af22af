/* apple_amx_emulator.c - the AMX instructions of Apple's M1 to M3, as far as plugins/kernels/apple_amx
 * uses them, for 64-bit ARM machines that lack them.
 *
 * Written from the public description (github.com/corsix/amx: aarch64.md, RegisterFile.md, ldst.md,
 * mac16.md, fma.md, setclr.md), never compared with silicon.  On any other CPU the words are undefined
 * instructions: the handler of SIGILL does what they say and goes on behind them.  What it does not
 * know, and what the description forbids, stays an illegal instruction, with a line that says why.    */
#include "apple_amx_emulator.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { LDX = 0, LDY = 1, STZ = 5, FMA32 = 12, MAC16 = 14, SET_CLR = 17, LINE = 64, RING = 512 };

static _Thread_local struct {
    bool    on;
    uint8_t x[RING], y[RING], z[64][LINE];
} unit;
static long counted[32];

long apple_amx_executed(int op)
{
    return __atomic_load_n(&counted[op], __ATOMIC_RELAXED);
}

static uint64_t bits(uint64_t operand, int from, int width)
{
    return operand >> from & (((uint64_t)1 << width) - 1);
}

/* ---- loads and stores: bit 62 pair, 58:56 or 61:56 register, 55:0 address --------------------- */

static const char *load(uint8_t ring[RING], uint64_t operand)
{
    const uint8_t *p = (const uint8_t *)(uintptr_t)bits(operand, 0, 56);
    int n = bits(operand, 62, 1) ? 2 : 1;
    if (n == 2 && (uintptr_t)p % (2 * LINE)) return "a pair that is not aligned to 128 bytes";
    for (int i = 0; i < n; i++) memcpy(ring + (bits(operand, 56, 3) + (uint64_t)i) % 8 * LINE, p + i * LINE, LINE);
    return NULL;
}

static const char *store_z(uint64_t operand)
{
    uint8_t *p = (uint8_t *)(uintptr_t)bits(operand, 0, 56);
    int n = bits(operand, 62, 1) ? 2 : 1;
    if (n == 2 && (uintptr_t)p % (2 * LINE)) return "a pair that is not aligned to 128 bytes";
    for (int i = 0; i < n; i++) memcpy(p + i * LINE, unit.z[(bits(operand, 56, 6) + (uint64_t)i) % 64], LINE);
    return NULL;
}

/* ---- products ------------------------------------------------------------------------------------ */

/* 64 bytes of a ring from any byte on                                                                 */
static void take(void *out, const uint8_t ring[RING], uint64_t at)
{
    for (uint64_t i = 0; i < LINE; i++) ((uint8_t *)out)[i] = ring[(at + i) % RING];
}

/* Is lane i of n written?  mode 0: all, odd, even or none; 1: one; 2: the first; 3: the last            */
static bool enabled(uint64_t mode, uint64_t value, uint64_t i, uint64_t n)
{
    switch (mode) {
    case 0: return value == 0 || (value == 1 && i % 2 == 1) || (value == 2 && i % 2 == 0);
    case 1: return i == value;
    case 2: return value == 0 || i < value;
    default: return value == 0 || i >= n - value;
    }
}

static bool writes(uint64_t operand, uint64_t i, uint64_t j, uint64_t n)
{
    return enabled(bits(operand, 46, 2), bits(operand, 41, 5), i, n)
        && enabled(bits(operand, 37, 2), bits(operand, 32, 5), j, n);
}

/* Z row 4j + set [i] = x[i] y[j] + what was there, rounded once                                        */
static const char *fma32(uint64_t operand)
{
    float x[16], y[16];
    uint64_t set = bits(operand, 20, 2);
    if (bits(operand, 60, 2) || bits(operand, 63, 1) || bits(operand, 28, 2))
        return "fma32 of half floats, of vectors or without X or Y";
    take(x, unit.x, bits(operand, 10, 9));
    take(y, unit.y, bits(operand, 0, 9));
    for (uint64_t j = 0; j < 16; j++) {
        float z[16];
        memcpy(z, unit.z[4 * j + set], sizeof z);
        for (uint64_t i = 0; i < 16; i++)
            if (writes(operand, i, j, 16)) z[i] = bits(operand, 27, 1) ? x[i] * y[j] : fmaf(x[i], y[j], z[i]);
        memcpy(unit.z[4 * j + set], z, sizeof z);
    }
    return NULL;
}

/* Z row 2j + set [i] = (x[i] y[j] >> shift) + what was there, in 16 bits that wrap                      */
static const char *mac16(uint64_t operand)
{
    int16_t x[32], y[32];
    uint64_t set = bits(operand, 20, 1);
    if (bits(operand, 62, 2) || bits(operand, 28, 2)) return "mac16 to 32 bits, of vectors or without X or Y";
    take(x, unit.x, bits(operand, 10, 9));
    take(y, unit.y, bits(operand, 0, 9));
    for (int i = 0; i < 32; i++) {
        if (bits(operand, 61, 1)) x[i] = (int8_t)x[i];
        if (bits(operand, 60, 1)) y[i] = (int8_t)y[i];
    }
    for (uint64_t j = 0; j < 32; j++) {
        int16_t z[32];
        memcpy(z, unit.z[2 * j + set], sizeof z);
        for (uint64_t i = 0; i < 32; i++)
            if (writes(operand, i, j, 32)) {
                int32_t product = x[i] * y[j] >> bits(operand, 55, 5);
                z[i] = (int16_t)(product + (bits(operand, 27, 1) ? 0 : z[i]));
            }
        memcpy(unit.z[2 * j + set], z, sizeof z);
    }
    return NULL;
}

/* ---- the handler ------------------------------------------------------------------------------------ */

/* Operand of clr is 1, of set 0                                                                         */
static const char *set_clr(uint32_t immediate)
{
    if (immediate > 1) return "set or clr with another operand";
    if (immediate == 0 && unit.on) return "set of a unit that is set";
    if (immediate == 1 && !unit.on) return "clr of a unit that is not set";
    memset(&unit, 0, sizeof unit);
    unit.on = immediate == 0;
    return NULL;
}

static const char *execute(uint32_t word, const uint64_t *registers)
{
    uint32_t op = word >> 5 & 31, which = word & 31;
    __atomic_add_fetch(&counted[op], 1, __ATOMIC_RELAXED);
    if (op == SET_CLR) return set_clr(which);
    if (!unit.on) return "an AMX instruction before set";
    uint64_t operand = which < 31 ? registers[which] : 0;
    switch (op) {
    case LDX:   return load(unit.x, operand);
    case LDY:   return load(unit.y, operand);
    case STZ:   return store_z(operand);
    case FMA32: return fma32(operand);
    case MAC16: return mac16(operand);
    default:    return "an AMX instruction that nobody emulates";
    }
}

static void handle(int signal_number, siginfo_t *info, void *context)
{
    mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
    uint32_t word;
    (void)info;
    memcpy(&word, (const void *)(uintptr_t)m->pc, sizeof word);
    const char *why = "an undefined instruction";
    if ((word & 0xfffffc00u) == 0x00201000u) {
        uint64_t registers[31];
        for (int i = 0; i < 31; i++) registers[i] = m->regs[i];
        why = execute(word, registers);
    }
    if (!why) {
        m->pc += 4;
        return;
    }
    if (write(STDERR_FILENO, why, strlen(why)) < 0 || write(STDERR_FILENO, "\n", 1) < 0) _exit(1);
    signal(signal_number, SIG_DFL);                     /* it happens again, and ends the process   */
}

void apple_amx_emulate(void)
{
    struct sigaction s = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO };
    sigemptyset(&s.sa_mask);
    sigaction(SIGILL, &s, NULL);
}
