/* ternary2.c - y = W x for ternary weights in 2 bits and int8 activations, 32 outputs x 32 rows
 * at a time.
 *
 * An outer product of 32 x 32 takes one k: lane i of X is the weight of output i, lane j of Y
 * the activation of row j, 16 bits each, of which the low byte counts.  So a register holds two
 * k, [lane][2]: read from its second byte on, the other one is low.  Sums of even and of odd k
 * go to the two sets of 32 rows of Z, in 16 bits: 32 products of at most 2 * 127.  After 64 k they
 * are added and become floats in the canonical order of kernel.h, lane = row of W.           */
#include "amx.h"
#include <arm_neon.h>

enum {
    SIDE = 32,                                          /* outputs, and rows of activations   */
    PANEL = SIDE * CHI_ACT_BLOCK,                       /* bytes of either for 64 k           */
    ROWS = 128, CODES = CHI_TILE * CHI_ACT_BLOCK / 4
};

struct sums { float p[SIDE], y[SIDE]; };                /* of a group, and of those before    */

/* In the scratch, from a multiple of 128 on: panels [k / 2][32][2] of weights for all blocks, of
 * activations for all blocks of each 32 rows, then                                            */
struct work {
    int8_t *x, *y;
    int16_t (*z)[2][SIDE];                              /* [row][even k, odd k][output]       */
    struct sums *sums;                                  /* [32]                               */
};

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t groups_of(int64_t rows)
{
    return ceil_div(rows < ROWS ? rows : ROWS, SIDE);
}

static int64_t scratch_bytes(int64_t rows, int64_t d_in)
{
    int64_t blocks = ceil_div(d_in, CHI_ACT_BLOCK);
    return 64 + (1 + groups_of(rows)) * blocks * PANEL + 2 * SIDE * SIDE * 2 + SIDE * (int64_t)sizeof(struct sums);
}

static struct work work_in(void *scratch, int64_t rows, int64_t blocks)
{
    struct work w;
    w.x = (int8_t *)scratch + (128 - (uintptr_t)scratch % 128) % 128;
    w.y = w.x + blocks * PANEL;
    w.z = (void *)(w.y + groups_of(rows) * blocks * PANEL);
    w.sums = (void *)(w.z + SIDE);
    return w;
}

/* ---- panels -------------------------------------------------------------------------------- */

/* A block of a tile (bits 2j+1:2j of byte 4r + c of piece i: t + 1 of k = 16i + 4j + c) to lanes
 * 0..15 or 16..31 of a panel.  16-bit elements are pairs of k: uzp parts k = 0, 1 from k = 2, 3.  */
static void unpack(int8_t *panel, const uint8_t *codes)
{
    const uint8x16_t low = vdupq_n_u8(3), one = vdupq_n_u8(1);
    for (int piece = 0; piece < 4; piece++, codes += 64)
        for (int j = 0; j < 4; j++) {
            const int8x16_t by = vdupq_n_s8((int8_t)(-2 * j));
            int8_t *at = panel + (8 * piece + 2 * j) * AMX_LINE;
            for (int half = 0; half < 2; half++, at += 16) {
                uint8x16_t a = vsubq_u8(vandq_u8(vshlq_u8(vld1q_u8(codes + 32 * half), by), low), one);
                uint8x16_t b = vsubq_u8(vandq_u8(vshlq_u8(vld1q_u8(codes + 32 * half + 16), by), low), one);
                uint16x8_t u = vreinterpretq_u16_u8(a), v = vreinterpretq_u16_u8(b);
                vst1q_s8(at, vreinterpretq_s8_u16(vuzp1q_u16(u, v)));
                vst1q_s8(at + AMX_LINE, vreinterpretq_s8_u16(vuzp2q_u16(u, v)));
            }
        }
}

/* All blocks of the tiles at outputs o and o + 16; one that does not exist has weights 0          */
static void take_weights(int8_t *x, const uint8_t *tile, int64_t size, int64_t blocks, bool both)
{
    if (!both) memset(x, 0, (size_t)(blocks * PANEL));
    for (int64_t b = 0; b < blocks; b++)
        for (int h = 0; h < 1 + both; h++) unpack(x + b * PANEL + 32 * h, tile + h * size + b * CODES);
}

/* All blocks of up to 32 rows of activations; rows that do not exist are 0                        */
static void take_rows(int8_t *y, const struct chi_act *a, int64_t r, int64_t n, int64_t blocks)
{
    memset(y, 0, (size_t)(blocks * PANEL));
    for (int64_t j = 0; j < n; j++)
        for (int64_t k = 0; k < blocks * CHI_ACT_BLOCK; k += 2)
            memcpy(y + k / 2 * AMX_LINE + 2 * j, a->q + (r + j) * a->ldq + k, 2);
}

/* ---- products -------------------------------------------------------------------------------- */

/* z[row][k % 2][output] = sums over the 64 k of two panels, of the first n rows                    */
static void multiply(int16_t (*z)[2][SIDE], const int8_t *x, const int8_t *y, int64_t n)
{
    for (int s = 0; s < PANEL; s += AMX_RING * AMX_LINE) {
        for (int i = 0; i < AMX_RING; i += 2) {
            amx_ldx(amx_pair(x + s + i * AMX_LINE, i));
            amx_ldy(amx_pair(y + s + i * AMX_LINE, i));
        }
        for (int i = 0; i < AMX_RING; i++)
            for (int odd = 0; odd < 2; odd++)
                amx_mac16(amx_product(AMX_LINE * i + odd, AMX_LINE * i + odd, odd, s + i == 0) | AMX_BYTES);
    }
    for (int j = 0; j < n; j++) amx_stz(amx_pair(z[j], 2 * j));
}

/* p += sum * step; at the end of a group y += scale * p (fp16 of two tiles), and p begins anew      */
static void add_block(struct sums *s, const int16_t z[2][SIDE], float step, const uint8_t *const scale[2])
{
    float32x4_t v = vdupq_n_f32(step);
    for (int i = 0; i < SIDE; i += 4) {
        int32x4_t sum = vmovl_s16(vadd_s16(vld1_s16(z[0] + i), vld1_s16(z[1] + i)));
        float32x4_t p = vaddq_f32(vld1q_f32(s->p + i), vmulq_f32(vcvtq_f32_s32(sum), v));
        if (scale[0]) {
            float16x4_t h = vreinterpret_f16_u8(vld1_u8(scale[i / CHI_TILE] + i % CHI_TILE * 2));
            vst1q_f32(s->y + i, vaddq_f32(vld1q_f32(s->y + i), vmulq_f32(vcvt_f32_f16(h), p)));
            p = vdupq_n_f32(0);
        }
        vst1q_f32(s->p + i, p);
    }
}

/* Tiles of 16 rows in memory: blocks of codes, then scales [group][16] fp16, then zeros to 64 bytes */
struct shape { int64_t blocks, per, size; };

/* Two tiles, in w->x, times n rows from r on, in the panels y                                       */
static void square(float *out, int64_t ldy, const struct chi_act *a, int64_t r, int64_t n, const uint8_t *tile,
                   struct shape t, const struct work *w, const int8_t *y, int64_t width)
{
    int64_t side = a->ldq / CHI_ACT_BLOCK;
    memset(w->sums, 0, (size_t)n * sizeof *w->sums);
    for (int64_t b = 0; b < t.blocks; b++) {
        const uint8_t *scale[2] = { NULL, NULL };
        if ((b + 1) % t.per == 0 || b + 1 == t.blocks) {
            scale[0] = tile + t.blocks * CODES + b / t.per * CHI_TILE * 2;
            scale[1] = width > CHI_TILE ? scale[0] + t.size : scale[0];     /* of zeros, if need be */
        }
        multiply(w->z, w->x + b * PANEL, y + b * PANEL, n);
        for (int64_t j = 0; j < n; j++)
            add_block(w->sums + j, (const int16_t (*)[SIDE])w->z[j], a->step[(r + j) * side + b], scale);
    }
    for (int64_t j = 0; j < n; j++)
        memcpy(out + j * ldy, w->sums[j].y, (size_t)(width < SIDE ? width : SIDE) * sizeof *out);
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0, int64_t o1,
                void *scratch)
{
    struct shape t = { ceil_div(m->d_in, CHI_ACT_BLOCK), ceil_div(m->group, CHI_ACT_BLOCK), 0 };
    struct work w = work_in(scratch, a->rows, t.blocks);
    t.size = ceil_div(t.blocks * CODES + ceil_div(m->d_in, m->group) * CHI_TILE * 2, 64) * 64;
    amx_set();
    for (int64_t r0 = 0; r0 < a->rows; r0 += ROWS) {
        int64_t rows = a->rows - r0 < ROWS ? a->rows - r0 : ROWS;
        for (int64_t r = 0; r < rows; r += SIDE)
            take_rows(w.y + r * t.blocks * CHI_ACT_BLOCK, a, r0 + r, rows - r < SIDE ? rows - r : SIDE, t.blocks);
        for (int64_t o = o0; o < o1; o += SIDE) {
            const uint8_t *tile = (const uint8_t *)m->bytes + o / CHI_TILE * t.size;
            take_weights(w.x, tile, t.size, t.blocks, o1 - o > CHI_TILE);
            for (int64_t r = 0; r < rows; r += SIDE)
                square(y + (r0 + r) * ldy + o - o0, ldy, a, r0 + r, rows - r < SIDE ? rows - r : SIDE, tile, t, &w,
                       w.y + r * t.blocks * CHI_ACT_BLOCK, o1 - o);
        }
    }
    amx_clr();
}

const struct chi_linear_kernel apple_amx_ternary2 = {
    .struct_size = sizeof apple_amx_ternary2, .encoding = "ternary2", .integer = true, .run = run,
    .scratch_bytes = scratch_bytes,
};
