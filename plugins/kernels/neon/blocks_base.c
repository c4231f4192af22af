/* blocks_base.c - 16 outputs x 64 k without dot product instructions.
 *
 * Ternary: smlal adds products of bytes to 16 bits, 16 products of at most 2 * 127 a lane in a
 * block: 4064.  int8: smull makes one product a lane, at most 127 * 127, and sadalp adds pairs
 * of them to 32 bits.  Lanes hold the four k of a row apart, two adjacent additions at the end
 * of the block join them.                                                                  */
#include "integer.h"

/* Sums under way of four outputs: [row 0, row 1] and [row 2, row 3]                          */
struct sum { int16x8_t s[2]; int32x4_t wide[2]; };

INLINE void add(struct sum *s, int8x16_t w, int8x16_t x, bool wide)
{
    if (wide) {
        s->wide[0] = vpadalq_s16(s->wide[0], vmull_s8(vget_low_s8(w), vget_low_s8(x)));
        s->wide[1] = vpadalq_s16(s->wide[1], vmull_high_s8(w, x));
    } else {
        s->s[0] = vmlal_s8(s->s[0], vget_low_s8(w), vget_low_s8(x));
        s->s[1] = vmlal_high_s8(s->s[1], w, x);
    }
}

INLINE struct sum zero(void)
{
    return (struct sum){ { vdupq_n_s16(0), vdupq_n_s16(0) }, { vdupq_n_s32(0), vdupq_n_s32(0) } };
}

INLINE int32x4_t finish(const struct sum *s, bool wide)
{
    if (wide) return vpaddq_s32(s->wide[0], s->wide[1]);
    return vpaddq_s32(vpaddlq_s16(s->s[0]), vpaddlq_s16(s->s[1]));
}

INLINE int8x16_t dword(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, sizeof v);
    return vreinterpretq_s8_s32(vdupq_n_s32(v));
}

/* rows (1 or 4) of activations; 4 n outputs at a time, so that the sums stay in registers    */
INLINE void multiply(int32_t (*out)[CHI_TILE], const int8_t *panel, const int8_t *q, int64_t ldq, int rows, int n,
                     bool wide)
{
    for (int o = 0; o < CHI_TILE; o += 4 * n) {
        struct sum s[4][4];
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
            for (int i = 0; i < n; i++) s[r][i] = zero();
        for (int k = 0; k < CHI_ACT_BLOCK; k += 4) {
            int8x16_t w[4];
            UNROLL
            for (int i = 0; i < n; i++) w[i] = vld1q_s8(panel + 16 * k + 4 * o + 16 * i);
            UNROLL
            for (int r = 0; r < rows; r++) {
                int8x16_t x = dword(q + r * ldq + k);
                UNROLL
                for (int i = 0; i < n; i++) add(&s[r][i], w[i], x, wide);
            }
        }
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
            for (int i = 0; i < n; i++) vst1q_s32(out[r] + o + 4 * i, finish(&s[r][i], wide));
    }
}

static void one_trits(int32_t sum[CHI_TILE], const int8_t *panel, const int8_t *q)
{
    multiply((int32_t (*)[CHI_TILE])sum, panel, q, 0, 1, 4, false);
}

static void four_trits(int32_t sum[4][CHI_TILE], const int8_t *panel, const int8_t *q, int64_t ldq)
{
    multiply(sum, panel, q, ldq, 4, 2, false);
}

static void one_bytes(int32_t sum[CHI_TILE], const int8_t *panel, const int8_t *q)
{
    multiply((int32_t (*)[CHI_TILE])sum, panel, q, 0, 1, 4, true);
}

static void four_bytes(int32_t sum[4][CHI_TILE], const int8_t *panel, const int8_t *q, int64_t ldq)
{
    multiply(sum, panel, q, ldq, 4, 2, true);
}

/* A block of ternary2, sum (u - 1) q = sum u q - total                                         */
static void codes(int32_t out[CHI_TILE], const uint8_t *w, const int8_t *q, int32_t total)
{
    const int8x16_t low = vdupq_n_s8(3);
    struct sum s[4] = { zero(), zero(), zero(), zero() };
    for (int piece = 0; piece < 4; piece++, w += 64, q += 16) {
        int8x16_t x[4];
        __builtin_prefetch(w + 2048);
        UNROLL
        for (int f = 0; f < 4; f++) x[f] = dword(q + 4 * f);
        UNROLL
        for (int i = 0; i < 4; i++) {
            uint8x16_t u = vld1q_u8(w + 16 * i);
            UNROLL
            for (int f = 0; f < 4; f++, u = vshrq_n_u8(u, 2))
                add(&s[i], vandq_s8(vreinterpretq_s8_u8(u), low), x[f], false);
        }
    }
    UNROLL
    for (int i = 0; i < 4; i++) vst1q_s32(out + 4 * i, vsubq_s32(finish(&s[i], false), vdupq_n_s32(total)));
}

static const struct integer_code bytes = { .one = one_bytes, .four = four_bytes };
static const struct integer_code trits = { .one = one_trits, .four = four_trits, .codes = codes };
static const struct integer_code panels = { .one = one_trits, .four = four_trits };

INTEGER_LINEAR(neon_base, int8, bytes);
INTEGER_LINEAR(neon_base, ternary2, trits);
INTEGER_LINEAR(neon_base, sherry125, panels);
INTEGER_LINEAR(neon_base, base3, panels);
