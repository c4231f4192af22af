/* blocks_dotprod.c - 16 outputs x 64 k with sdot: four products of bytes are added to each
 * dword, which is one row of the panel.  The four activations come by lane, for nothing.    */
#include "integer.h"

/* 16 k of a panel times one row of activations                                               */
INLINE void add16(int32x4_t s[4], const int8_t *panel, int8x16_t x)
{
    UNROLL
    for (int i = 0; i < 4; i++) {
        s[i] = vdotq_laneq_s32(s[i], vld1q_s8(panel + 16 * i), x, 0);
        s[i] = vdotq_laneq_s32(s[i], vld1q_s8(panel + 64 + 16 * i), x, 1);
        s[i] = vdotq_laneq_s32(s[i], vld1q_s8(panel + 128 + 16 * i), x, 2);
        s[i] = vdotq_laneq_s32(s[i], vld1q_s8(panel + 192 + 16 * i), x, 3);
    }
}

/* Loads of the panel are shared by all rows, once everything is unrolled                       */
INLINE void multiply(int32_t (*out)[CHI_TILE], const int8_t *panel, const int8_t *q, int64_t ldq, int rows)
{
    int32x4_t s[4][4];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int i = 0; i < 4; i++) s[r][i] = vdupq_n_s32(0);
    for (int k = 0; k < CHI_ACT_BLOCK; k += 16)
        UNROLL
        for (int r = 0; r < rows; r++) add16(s[r], panel + 16 * k, vld1q_s8(q + r * ldq + k));
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int i = 0; i < 4; i++) vst1q_s32(out[r] + 4 * i, s[r][i]);
}

void neon_dotprod_one(int32_t sum[CHI_TILE], const int8_t *panel, const int8_t *q)
{
    multiply((int32_t (*)[CHI_TILE])sum, panel, q, 0, 1);
}

static void four(int32_t sum[4][CHI_TILE], const int8_t *panel, const int8_t *q, int64_t ldq)
{
    multiply(sum, panel, q, ldq, 4);
}

/* A block of ternary2, u = t + 1.  Fields 1 and 2 of a byte are taken by a mask alone, as 4 u and
 * 16 u, into sums of their own, which one shift a block mends: 4 operations for 64 codes.         */
void neon_dotprod_codes(int32_t out[CHI_TILE], const uint8_t *w, const int8_t *q, int32_t total)
{
    const uint8x16_t m0 = vdupq_n_u8(0x03), m1 = vdupq_n_u8(0x0c), m2 = vdupq_n_u8(0x30);
    int32x4_t a[4], b[4], c[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        a[i] = vdupq_n_s32(-total);
        b[i] = c[i] = vdupq_n_s32(0);
    }
    for (int piece = 0; piece < 4; piece++, w += 64, q += 16) {
        int8x16_t x = vld1q_s8(q);
        __builtin_prefetch(w + 2048);
        UNROLL
        for (int i = 0; i < 4; i++) {
            uint8x16_t u = vld1q_u8(w + 16 * i);
            a[i] = vdotq_laneq_s32(a[i], vreinterpretq_s8_u8(vandq_u8(u, m0)), x, 0);
            b[i] = vdotq_laneq_s32(b[i], vreinterpretq_s8_u8(vandq_u8(u, m1)), x, 1);
            c[i] = vdotq_laneq_s32(c[i], vreinterpretq_s8_u8(vandq_u8(u, m2)), x, 2);
            a[i] = vdotq_laneq_s32(a[i], vreinterpretq_s8_u8(vshrq_n_u8(u, 6)), x, 3);
        }
    }
    UNROLL
    for (int i = 0; i < 4; i++)
        vst1q_s32(out + 4 * i, vsraq_n_s32(vsraq_n_s32(a[i], b[i], 2), c[i], 4));
}

static const struct integer_code panels = { .one = neon_dotprod_one, .four = four };
static const struct integer_code trits = { .one = neon_dotprod_one, .four = four, .codes = neon_dotprod_codes };

INTEGER_LINEAR(neon_dotprod, int8, panels);
INTEGER_LINEAR(neon_dotprod, ternary2, trits);
INTEGER_LINEAR(neon_dotprod, sherry125, panels);
INTEGER_LINEAR(neon_dotprod, base3, panels);
