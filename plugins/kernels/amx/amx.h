/* amx.h - the tile registers of AMX: eight of 16 rows of 64 bytes.
 *
 * The instructions are written out, with the memory that they read and write said to the
 * compiler.  A thread sets its tiles up before it uses them and releases them after: a
 * configured thread carries 8 KB more through every switch.                              */
#ifndef AMX_H
#define AMX_H

#include <chimera/kernel.h>

struct tile_config {                                    /* what ldtilecfg reads           */
    uint8_t  palette, start_row, reserved[14];
    uint16_t bytes[16];                                 /* of a row, by tile              */
    uint8_t  rows[16];
};

static inline void tiles_set(const struct tile_config *c)
{
    __asm__ volatile("ldtilecfg %0" : : "m"(*c));
}

static inline void tiles_release(void)
{
    __asm__ volatile("tilerelease");
}

/* The number of a tile is part of the instruction                                          */
#define TILE_ZERO(n)            __asm__ volatile("tilezero %%tmm" #n : :)
#define TILE_LOAD(n, p, stride) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n                \
                                                 : : "r"(p), "r"((int64_t)(stride)) : "memory")
#define TILE_STORE(n, p, stride) __asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)"           \
                                                  : : "r"(p), "r"((int64_t)(stride)) : "memory")
/* c[m][n] += sum over 64 k of a[m][k] b[k/4][n][k%4], signed bytes                            */
#define TILE_DOT(c, a, b)       __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)

#endif
