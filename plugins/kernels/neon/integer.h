/* integer.h - linear maps with integer weights: what the encodings bring, what the
 * instruction sets bring, and the loop that joins them (integer.c).
 *
 * All work goes in blocks of 16 outputs x 64 k.  A panel is such a block in bytes:
 * byte 64 (k / 4) + 4 row + k % 4 is the weight, -1, 0 or 1, or any of -127..127 for int8.  So
 * a dword is four k of one row, and belongs to the dword of activations of the same k.      */
#ifndef NEON_INTEGER_H
#define NEON_INTEGER_H

#include "neon.h"

enum { PANEL = CHI_TILE * CHI_ACT_BLOCK };

/* A tile of 16 rows in memory: blocks of 64 k, bytes of their codes, then scales; bytes in all */
struct tile { int64_t blocks, codes, bytes; };

struct integer_encoding {
    struct tile (*tile)(int64_t d_in, int64_t group);
    bool half;                          /* scales are fp16 [group][16], else float [16]       */
    /* Block b of a tile as a panel.  NULL: the bytes are panels as they are                   */
    void (*unpack)(int8_t *panel, const uint8_t *tile, int64_t b, int64_t blocks);
};
extern const struct integer_encoding neon_int8, neon_ternary2, neon_sherry125, neon_base3;

/* sum[row] = sum over 64 k of panel times q                                                   */
typedef void neon_one(int32_t sum[CHI_TILE], const int8_t *panel, const int8_t *q);
/* The same for the four rows of activations at q, q + ldq, ...                                */
typedef void neon_four(int32_t sum[4][CHI_TILE], const int8_t *panel, const int8_t *q, int64_t ldq);
/* sum[row] from the encoding's own block; total is the sum of the 64 activations              */
typedef void neon_codes(int32_t sum[CHI_TILE], const uint8_t *codes, const int8_t *q, int32_t total);

struct integer_code {
    neon_one   *one;
    neon_four  *four;
    neon_codes *codes;                  /* or NULL; blocks are then PANEL / 4 bytes each        */
};

void neon_integer_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                      int64_t o1, void *scratch, const struct integer_encoding *e, const struct integer_code *c);
int64_t neon_integer_scratch(int64_t rows, int64_t d_in);

/* A linear kernel of one encoding for one instruction set                                      */
#define INTEGER_LINEAR(set, encoding_, code)                                                    \
    static void run_##encoding_(float *y, int64_t ldy, const struct chi_act *a,                 \
                                const struct chi_matrix *m, int64_t o0, int64_t o1, void *scratch) \
    {                                                                                           \
        neon_integer_run(y, ldy, a, m, o0, o1, scratch, &neon_##encoding_, &code);              \
    }                                                                                           \
    const struct chi_linear_kernel set##_##encoding_ = {                                        \
        .struct_size = sizeof set##_##encoding_, .encoding = #encoding_, .integer = true,       \
        .run = run_##encoding_, .scratch_bytes = neon_integer_scratch,         \
    }

extern const struct chi_linear_kernel neon_base_int8, neon_base_ternary2, neon_base_sherry125, neon_base_base3,
    neon_dotprod_int8, neon_dotprod_ternary2, neon_dotprod_sherry125, neon_dotprod_base3,
    neon_i8mm_int8, neon_i8mm_ternary2, neon_i8mm_sherry125, neon_i8mm_base3;

/* Of blocks_dotprod.c, which blocks_i8mm.c uses for single rows                                 */
neon_one   neon_dotprod_one;
neon_codes neon_dotprod_codes;

#endif
