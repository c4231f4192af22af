/* integer.c - y = W x for integer weights: encodings to panels, and the loop over blocks.
 *
 * In the canonical order of kernel.h: p = the sum over the blocks of a group of
 * float(integer sum) * step, then y += scale * p, lane = row of W.  Several rows of
 * activations: a tile's codes become panels once per 512 k (8 KB, in L1), and these serve
 * up to 128 rows, four at a time.                                                          */
#include "integer.h"

enum { SLICE = 8, ROWS = 128, QUADS = 16, FIVE = 5 };

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ---- encodings ----------------------------------------------------------------------------- */

/* Tiles of ternary encodings: blocks of some bytes, [group][16] fp16, zeros up to 64 bytes     */
static struct tile ternary_tile(int64_t d_in, int64_t group, int64_t block)
{
    int64_t blocks = ceil_div(d_in, CHI_ACT_BLOCK), codes = blocks * block;
    return (struct tile){ blocks, codes, ceil_div(codes + ceil_div(d_in, group) * CHI_TILE * 2, 64) * 64 };
}

static struct tile int8_tile(int64_t d_in, int64_t group)
{
    int64_t blocks = ceil_div(d_in, CHI_ACT_BLOCK);
    (void)group;
    return (struct tile){ blocks, blocks * PANEL, blocks * PANEL + CHI_TILE * 4 };
}

static struct tile ternary2_tile(int64_t d_in, int64_t group)
{
    return ternary_tile(d_in, group, PANEL / 4);
}

static struct tile sherry125_tile(int64_t d_in, int64_t group)
{
    return ternary_tile(d_in, group, 160);
}

static struct tile base3_tile(int64_t d_in, int64_t group)
{
    return ternary_tile(d_in, group, 208);
}

/* Bits 2j+1:2j of byte 4r + c of piece i: t + 1 of k = 16i + 4j + c                              */
static void unpack_ternary2(int8_t *panel, const uint8_t *tile, int64_t b, int64_t blocks)
{
    const uint8x16_t low = vdupq_n_u8(3), one = vdupq_n_u8(1);
    (void)blocks;
    tile += PANEL / 4 * b;
    for (int i = 0; i < PANEL / 4; i += 16, tile += 16) {
        uint8x16_t w = vld1q_u8(tile);
        int8_t *at = panel + i / 64 * 256 + i % 64;
        UNROLL
        for (int j = 0; j < 4; j++, w = vshrq_n_u8(w, 2))
            vst1q_s8(at + 64 * j, vreinterpretq_s8_u8(vsubq_u8(vandq_u8(w, low), one)));
    }
}

/* Sherry: slot = 4 bits, the place of the zero and two signs relative to the first; a fifth bit
 * turns all signs.  Tables of 16 slots, one a place of the quad; st4 lays the four places of a
 * row side by side.                                                                             */
static void unpack_sherry125(int8_t *panel, const uint8_t *tile, int64_t b, int64_t blocks)
{
    static const int8_t table[4][16] = {
        { 0, 0, 0, 0,  1, 1, 1, 1,  1, 1, 1, 1,  1, 1, 1, 1 },
        { 1, 1, 1, 1,  0, 0, 0, 0,  1, -1, 1, -1,  1, -1, 1, -1 },
        { 1, -1, 1, -1,  1, -1, 1, -1,  0, 0, 0, 0,  1, 1, -1, -1 },
        { 1, 1, -1, -1,  1, 1, -1, -1,  1, 1, -1, -1,  0, 0, 0, 0 },
    };
    (void)blocks;
    tile += 160 * b;
    for (int i = 0; i < QUADS; i++) {
        int h = i % 2, n = i / 2;                       /* quad 2n + h                          */
        uint8x16_t slot = vld1q_u8(tile + 32 * (n / 2) + 16 * h);
        slot = n % 2 ? vshrq_n_u8(slot, 4) : vandq_u8(slot, vdupq_n_u8(15));
        uint8x16_t sign = vshlq_u8(vld1q_u8(tile + 128 + 16 * h), vdupq_n_s8((int8_t)n));
        int8x16_t minus = vshrq_n_s8(vreinterpretq_s8_u8(sign), 7);
        int8x16x4_t t;
        UNROLL
        for (int c = 0; c < 4; c++)
            t.val[c] = vsubq_s8(veorq_s8(vqtbl1q_s8(vld1q_s8(table[c]), slot), minus), minus);
        vst4q_s8(panel + 64 * i, t);
    }
}

/* v = sum of u_i 3^i of five trits = 27 x + y: two tables of 16 for x, three of 32 for y.  x is
 * (19 v) / 512, right for all bytes.                                                            */
INLINE void five_trits(int8x16_t t[FIVE], uint8x16_t v)
{
    static const int8_t high[2][16] = {
        { -1, 0, 1, -1, 0, 1, -1, 0, 1, -1 }, { -1, -1, -1, 0, 0, 0, 1, 1, 1, 2 },
    };
    static const int8_t low[3][32] = {
        { -1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1 },
        { -1, -1, -1, 0, 0, 0, 1, 1, 1, -1, -1, -1, 0, 0, 0, 1, 1, 1, -1, -1, -1, 0, 0, 0, 1, 1, 1 },
        { -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1 },
    };
    uint16x8_t a = vmull_u8(vget_low_u8(v), vdup_n_u8(19)), b = vmull_u8(vget_high_u8(v), vdup_n_u8(19));
    uint8x16_t x = vshrq_n_u8(vcombine_u8(vshrn_n_u16(a, 8), vshrn_n_u16(b, 8)), 1);
    uint8x16_t y = vmlsq_u8(v, x, vdupq_n_u8(27));
    UNROLL
    for (int i = 0; i < 3; i++) {
        const int8x16x2_t two = { { vld1q_s8(low[i]), vld1q_s8(low[i] + 16) } };
        t[i] = vqtbl2q_s8(two, y);
    }
    t[3] = vqtbl1q_s8(vld1q_s8(high[0]), x);
    t[4] = vqtbl1q_s8(vld1q_s8(high[1]), x);
}

/* Byte j of block b has k = 5j .. 5j + 4; blocks lie in pairs, their bytes in turn               */
static void unpack_base3(int8_t *panel, const uint8_t *tile, int64_t b, int64_t blocks)
{
    bool alone = b % 2 == 0 && b + 1 == blocks;
    int8x16_t t[13 * FIVE];                             /* [k]: 16 rows; the last is no k        */
    tile += 208 * (b - b % 2) + CHI_TILE * (b % 2);
    for (int j = 0; j < 13; j++, tile += alone ? CHI_TILE : 2 * CHI_TILE) five_trits(t + FIVE * j, vld1q_u8(tile));
    for (int k = 0; k < CHI_ACT_BLOCK; k += 4) {
        const int8x16x4_t four = { { t[k], t[k + 1], t[k + 2], t[k + 3] } };
        vst4q_s8(panel + 16 * k, four);
    }
}

const struct integer_encoding neon_int8 = { .tile = int8_tile };
const struct integer_encoding neon_ternary2 = { .tile = ternary2_tile, .half = true, .unpack = unpack_ternary2 };
const struct integer_encoding neon_sherry125 = { .tile = sherry125_tile, .half = true, .unpack = unpack_sherry125 };
const struct integer_encoding neon_base3 = { .tile = base3_tile, .half = true, .unpack = unpack_base3 };

/* ---- the loop --------------------------------------------------------------------------------- */

/* Sums of one row of activations: of the group that is under way, and of those before           */
struct sums { float p[CHI_TILE], y[CHI_TILE]; };

struct work {                                           /* in the scratch                        */
    int8_t panel[SLICE * PANEL];
    struct sums sums[];                                 /* [rows, at most ROWS, in fours]        */
};

int64_t neon_integer_scratch(int64_t rows, int64_t d_in)
{
    (void)d_in;
    return (int64_t)(sizeof(struct work) + (size_t)((rows < ROWS ? rows + 3 : ROWS) / 4 * 4) * sizeof(struct sums));
}

/* What a call of neon_integer_run works on                                                       */
struct job {
    const struct integer_encoding *e;
    const struct integer_code *c;
    const struct chi_act *a;
    struct tile t;
    int64_t per;                                        /* blocks in a group                      */
    struct work *w;
};

INLINE float32x4_t scales(const uint8_t *at, bool half)
{
    if (!half) return vreinterpretq_f32_u8(vld1q_u8(at));
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(at)));
}

/* p += sum * step; at the end of a group y += scale * p, and p begins anew                        */
static void add_block(struct sums *s, const int32_t *sum, float step, const uint8_t *scale, bool half)
{
    UNROLL
    for (int i = 0; i < CHI_TILE; i += 4) {
        float32x4_t p = muladd(vld1q_f32(s->p + i), vcvtq_f32_s32(vld1q_s32(sum + i)), vdupq_n_f32(step));
        if (scale) {
            float32x4_t w = scales(scale + (half ? 2 : 4) * i, half);
            vst1q_f32(s->y + i, muladd(vld1q_f32(s->y + i), w, p));
            p = vdupq_n_f32(0);
        }
        vst1q_f32(s->p + i, p);
    }
}

/* Blocks b0 .. b1 of a tile times rows r .. r + n (n = 1 or 4) of the activations                 */
static void some_rows(const struct job *j, const uint8_t *tile, int64_t b0, int64_t b1, int64_t r0, int64_t r,
                      int64_t n)
{
    const struct chi_act *a = j->a;
    int64_t blocks = a->ldq / CHI_ACT_BLOCK;
    for (int64_t b = b0; b < b1; b++) {
        int32_t sum[4][CHI_TILE];
        const int8_t *q = a->q + (r0 + r) * a->ldq + b * CHI_ACT_BLOCK;
        const int8_t *panel = j->e->unpack ? j->w->panel + (b - b0) * PANEL : (const int8_t *)tile + b * PANEL;
        int64_t side = (r0 + r) * blocks + b;
        if (n == 4) j->c->four(sum, panel, q, a->ldq);
        else if (a->rows == 1 && j->c->codes) j->c->codes(sum[0], tile + b * (PANEL / 4), q, a->sum[side]);
        else j->c->one(sum[0], panel, q);
        bool ends = (b + 1) % j->per == 0 || b + 1 == j->t.blocks;
        const uint8_t *scale = ends ? tile + j->t.codes + b / j->per * CHI_TILE * (j->e->half ? 2 : 4) : NULL;
        for (int64_t i = 0; i < n; i++)
            add_block(j->w->sums + r + i, sum[i], a->step[side + i * blocks], scale, j->e->half);
    }
}

/* One tile times rows r0 .. r0 + rows (at most ROWS)                                              */
static void tile_rows(const struct job *j, float *y, int64_t ldy, const uint8_t *tile, int64_t r0, int64_t rows,
                      int64_t width)
{
    memset(j->w->sums, 0, (size_t)rows * sizeof *j->w->sums);
    for (int64_t b = 0; b < j->t.blocks; b += SLICE) {
        int64_t end = j->t.blocks - b < SLICE ? j->t.blocks : b + SLICE, r = 0;
        if (j->e->unpack && !(j->a->rows == 1 && j->c->codes))
            for (int64_t i = b; i < end; i++) j->e->unpack(j->w->panel + (i - b) * PANEL, tile, i, j->t.blocks);
        for (; r + 4 <= rows; r += 4) some_rows(j, tile, b, end, r0, r, 4);
        for (; r < rows; r++) some_rows(j, tile, b, end, r0, r, 1);
    }
    for (int64_t r = 0; r < rows; r++)
        memcpy(y + r * ldy, j->w->sums[r].y, (size_t)(width < CHI_TILE ? width : CHI_TILE) * sizeof *y);
}

void neon_integer_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                      int64_t o1, void *scratch, const struct integer_encoding *e, const struct integer_code *c)
{
    struct job j = { e, c, a, e->tile(m->d_in, m->group), ceil_div(m->group, CHI_ACT_BLOCK), scratch };
    for (int64_t r0 = 0; r0 < a->rows; r0 += ROWS)
        for (int64_t o = o0; o < o1; o += CHI_TILE)
            tile_rows(&j, y + r0 * ldy + o - o0, ldy, (const uint8_t *)m->bytes + o / CHI_TILE * j.t.bytes, r0,
                      a->rows - r0 < ROWS ? a->rows - r0 : ROWS, o1 - o);
}
