/* amx.h - the matrix unit of Apple's M1 to M3, as far as this backend uses it.
 *
 * Apple documents nothing of it.  What is said here was found out by Peter Cawley and
 * others (github.com/corsix/amx).  State of a thread: X and Y, rings of 512 bytes of which an instruction
 * reads 64 from any byte on, and Z, 64 rows of 64 bytes.  An instruction is the word
 * 0x00201000 + 32 op + number of the register that holds its operand; here always x0.       */
#ifndef APPLE_AMX_H
#define APPLE_AMX_H

#include <chimera/kernel.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#define AMX_OP(name, op)                                                                        \
    INLINE void name(uint64_t operand)                                                          \
    {                                                                                           \
        register uint64_t x0 __asm__("x0") = operand;                                           \
        __asm__ volatile(".word 0x00201000 + 32 * " #op : : "r"(x0) : "memory");                \
    }
AMX_OP(amx_ldx, 0)                      /* registers of X, Y from memory                      */
AMX_OP(amx_ldy, 1)
AMX_OP(amx_stz, 5)                      /* rows of Z to memory                                */
AMX_OP(amx_fma32, 12)                   /* Z row 4j + set [i] += X[i] Y[j], 16 x 16 floats    */
AMX_OP(amx_mac16, 14)                   /* Z row 2j + set [i] += X[i] Y[j], 32 x 32 int16     */

/* The unit works between these two, in one thread; before, and twice, it is an illegal instruction */
INLINE void amx_set(void)
{
    __asm__ volatile("nop\n\tnop\n\tnop\n\t.word 0x00201220" : : : "memory");
}

INLINE void amx_clr(void)
{
    __asm__ volatile("nop\n\tnop\n\tnop\n\t.word 0x00201221" : : : "memory");
}

enum { AMX_LINE = 64, AMX_RING = 8 };   /* bytes of a register; registers of X and of Y       */

/* Operand of a load or store of registers n and n + 1: 128 bytes, aligned to as many           */
INLINE uint64_t amx_pair(const void *p, int n)
{
    return (uint64_t)(uintptr_t)p | (uint64_t)n << 56 | (uint64_t)1 << 62;
}

/* Operand of a product of what begins at bytes x of X and y of Y, into a set of rows of Z;
 * fresh: instead of being added to what is there                                              */
INLINE uint64_t amx_product(int x, int y, int set, bool fresh)
{
    return (uint64_t)y | (uint64_t)x << 10 | (uint64_t)set << 20 | (uint64_t)fresh << 27;
}

/* mac16: take the low byte of each 16-bit lane of X and of Y                                   */
#define AMX_BYTES ((uint64_t)3 << 60)

void apple_amx_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
                    const float *B, int64_t ldb, float beta, float *C, int64_t ldc);
extern const struct chi_linear_kernel apple_amx_ternary2;

#endif
