/* chimera/base.h - the names that every plugin shares.  C11, no libc needed. */
#ifndef CHIMERA_BASE_H
#define CHIMERA_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The ABI has two numbers.  MAJOR must match exactly; while it is 0 the ABI is
 * provisional and may change with any commit.  From 1 on, MAJOR moves when a
 * member changes its meaning or place, and MINOR counts members appended to the
 * end of a table.  A plugin runs on its own MINOR or a later one: what the core
 * passes down is then complete, and what comes up may be shorter, which is why
 * such tables begin with their own size.                                      */
#define CHI_ABI_MAJOR 0
#define CHI_ABI_MINOR 1
#define CHI_MAGIC     0x43484d31u                 /* "1MHC" in memory, "CHM1"   */

#if defined(__GNUC__)
# define CHI_EXPORT        __attribute__((visibility("default")))
# define CHI_PRINTF(f, a)  __attribute__((format(printf, f, a)))
# define CHI_MUST_CHECK    __attribute__((warn_unused_result))
#else
# define CHI_EXPORT
# define CHI_PRINTF(f, a)
# define CHI_MUST_CHECK
#endif

/* Does table P of type T reach as far as MEMBER, and is MEMBER filled in?     */
#define CHI_HAS(T, p, member)                                                 \
    ((p)->struct_size >= offsetof(T, member) + sizeof((p)->member)            \
     && (p)->member != NULL)

/* Every function that can fail returns one of these.  Whoever detects a failure
 * explains it once, through host->fail(); everyone above passes it on.        */
typedef int32_t chi_status;
enum {
    CHI_OK       =  0,
    CHI_ENOMEM   = -1,      /* the memory limit, or the machine's              */
    CHI_ECONF    = -2,      /* an option is wrong                              */
    CHI_ESHAPE   = -3,      /* dimensions do not fit together                  */
    CHI_EDATA    = -4,      /* a file is damaged, or belongs to another model  */
    CHI_EIO      = -5,      /* the system refused to read or write             */
    CHI_ENOTSUP  = -6,      /* an optional operation is absent                 */
    CHI_ENUMERIC = -7,      /* a NaN or an infinity appeared                   */
    CHI_EREFUSED = -8,      /* policy said no: a lock, a budget, a limit       */
    CHI_EBUG     = -9,      /* the caller broke the contract                   */
    CHI_EPLUGIN  = -10      /* a plugin is missing, damaged or unfit           */
};

enum { CHI_F32 = 1, CHI_I8, CHI_I32, CHI_I64, CHI_U8, CHI_U64 };   /* dtypes   */

/* What a component's machine code needs of the CPU.  Data, not a function: the
 * core decides before any instruction of the component runs.                  */
enum {
    CHI_CPU_SSE42   = 1 << 0,  CHI_CPU_AVX2   = 1 << 1, CHI_CPU_FMA     = 1 << 2,
    CHI_CPU_F16C    = 1 << 3,  CHI_CPU_AVX512 = 1 << 4, CHI_CPU_VNNI    = 1 << 5,
    CHI_CPU_AMX     = 1 << 6,  CHI_CPU_NEON   = 1 << 7, CHI_CPU_DOTPROD = 1 << 8,
    CHI_CPU_SVE     = 1 << 9,  CHI_CPU_WASM128 = 1 << 10,
    CHI_CPU_VBMI    = 1 << 11, CHI_CPU_I8MM   = 1 << 12,
    CHI_CPU_APPLE_AMX = 1 << 13
};

#endif
