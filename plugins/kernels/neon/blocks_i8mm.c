/* blocks_i8mm.c - 16 outputs x 64 k with smmla: 2 rows x 8 k of weights times 2 rows x 8 k of
 * activations is a 2 x 2 matrix of sums, 32 products an instruction.  zip brings the two dwords
 * of a row of weights, k..k+3 and k+4..k+7, side by side.                                     */
#include "integer.h"

/* Rows of activations at q and q + ldq, k .. k + 7                                             */
INLINE int8x16_t pair(const int8_t *q, int64_t ldq)
{
    return vcombine_s8(vld1_s8(q), vld1_s8(q + ldq));
}

/* s[2i], s[2i + 1]: [output][activation] of outputs 4i, 4i + 1 and 4i + 2, 4i + 3              */
INLINE void put(int32_t *even, int32_t *odd, const int32x4_t s[2])
{
    vst1q_s32(even, vuzp1q_s32(s[0], s[1]));
    vst1q_s32(odd, vuzp2q_s32(s[0], s[1]));
}

static void four(int32_t sum[4][CHI_TILE], const int8_t *panel, const int8_t *q, int64_t ldq)
{
    int32x4_t s[2][8];
    UNROLL
    for (int i = 0; i < 8; i++) s[0][i] = s[1][i] = vdupq_n_s32(0);
    for (int k = 0; k < CHI_ACT_BLOCK; k += 8, panel += 128) {
        int8x16_t x0 = pair(q + k, ldq), x1 = pair(q + 2 * ldq + k, ldq);
        UNROLL
        for (int i = 0; i < 4; i++) {
            int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(panel + 16 * i));
            int32x4_t b = vreinterpretq_s32_s8(vld1q_s8(panel + 64 + 16 * i));
            int8x16_t w0 = vreinterpretq_s8_s32(vzip1q_s32(a, b)), w1 = vreinterpretq_s8_s32(vzip2q_s32(a, b));
            s[0][2 * i] = vmmlaq_s32(s[0][2 * i], w0, x0);
            s[0][2 * i + 1] = vmmlaq_s32(s[0][2 * i + 1], w1, x0);
            s[1][2 * i] = vmmlaq_s32(s[1][2 * i], w0, x1);
            s[1][2 * i + 1] = vmmlaq_s32(s[1][2 * i + 1], w1, x1);
        }
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        put(sum[0] + 4 * i, sum[1] + 4 * i, s[0] + 2 * i);
        put(sum[2] + 4 * i, sum[3] + 4 * i, s[1] + 2 * i);
    }
}

static const struct integer_code panels = { .one = neon_dotprod_one, .four = four };
static const struct integer_code trits = { .one = neon_dotprod_one, .four = four, .codes = neon_dotprod_codes };

INTEGER_LINEAR(neon_i8mm, int8, panels);
INTEGER_LINEAR(neon_i8mm, ternary2, trits);
INTEGER_LINEAR(neon_i8mm, sherry125, panels);
INTEGER_LINEAR(neon_i8mm, base3, panels);
