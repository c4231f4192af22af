/* linear_integer.c - y = W x for ternary2, sherry125 and int8 weights, int8 activations.
 *
 * WebAssembly's one instruction that multiplies and adds integers is i32x4.dot_i16x8: pairs
 * of 16 bits to 32, four rows of a tile in a vector.  A dword of either encoding is 4 k of
 * one row, c = 0..3; as two 16-bit halves it holds (c0, c1) and (c2, c3).  So the lower bytes
 * are the pair (c0, c2), the upper ones (c1, c3), and activations are put into the same order
 * once per call: of 16 k first the pairs (q0, q2) of each four, then the pairs (q1, q3), in
 * 16 bits each.
 *
 * One row of ternary2: field j of a byte is 4^j u, u = t + 1; the activations that meet it are
 * multiplied by 4^(3 - j), so that a mask is all that takes out a field, and the sum over a
 * block is 64 sum u q <= 64 * 16256: exact, and divided by a shift.
 *
 * Everything else: 512 k of a tile are unpacked to 16-bit pairs (16 KB), through which three
 * rows of activations go in twelve vectors, or one row in four.                          */
#include "wasm_simd128.h"

enum { SLICE = 8, ROWS = 3, CHUNK = 48, PAIRS = CHI_ACT_BLOCK / 2 };    /* SLICE: blocks  */

/* A matrix: tiles of nb blocks of codes, then scales [group][16]; a group has per blocks  */
struct shape { int64_t nb, per, codes, tile; };

struct work {                                               /* the scratch, 64-byte aligned */
    int16_t panel[SLICE * PAIRS * CHI_TILE * 2];            /* [pair][row][2], pairs as in q */
    float   sum[CHUNK][2][CHI_TILE];                        /* y, and p of the open group   */
    int16_t q[];                                            /* [rows][d_in, up to a block]  */
};

/* ---- activations ------------------------------------------------------------------------ */

/* Sixteen q to the pairs (q0, q2), (q4, q6), ... and then (q1, q3), ..., times factor      */
INLINE void widen(int16_t *to, const int8_t *q, v128_t factor)
{
    v128_t v = wasm_v128_load(q);
    wasm_v128_store(to, wasm_i16x8_mul(wasm_i16x8_shr(wasm_i16x8_shl(v, 8), 8), factor));
    wasm_v128_store(to + 8, wasm_i16x8_mul(wasm_i16x8_shr(v, 8), factor));
}

static void widen_all(int16_t *to, const int8_t *q, int64_t n, v128_t factor)
{
    for (int64_t i = 0; i < n; i += 16) widen(to + i, q + i, factor);
}

/* ---- unpacked codes times rows of activations --------------------------------------------- */

/* p[r] += step[r] * the block's sum, for rows rows, whose activations are ldq apart        */
INLINE void block(v128_t p[ROWS][4], const int16_t *panel, const int16_t *q, int64_t ldq, const float *step,
                  int64_t blocks, int rows)
{
    v128_t s[ROWS][4];
    UNROLL
    for (int r = 0; r < rows; r++) clear(s[r]);
    _Pragma("clang loop unroll(disable)")
    for (int i = 0; i < PAIRS; i++, panel += 2 * CHI_TILE)
        UNROLL
        for (int r = 0; r < rows; r++) {
            v128_t x = wasm_v128_load32_splat(q + r * ldq + 2 * i);
            UNROLL
            for (int j = 0; j < 4; j++)
                s[r][j] = wasm_i32x4_add(s[r][j], wasm_i32x4_dot_i16x8(wasm_v128_load(panel + 8 * j), x));
        }
    UNROLL
    for (int r = 0; r < rows; r++) {
        v128_t v = wasm_f32x4_splat(step[r * blocks]);
        UNROLL
        for (int j = 0; j < 4; j++) p[r][j] = muladd(p[r][j], wasm_f32x4_convert_i32x4(s[r][j]), v);
    }
}

/* Four fp16 to float: the bits are shifted into place and 2^112 mends the exponent; exact
 * for denormal ones, too.  Infinity and NaN have an exponent of their own                 */
INLINE v128_t fp16x4(const uint16_t *h)
{
    v128_t v = wasm_u32x4_load16x4(h), e = wasm_i32x4_const_splat(0x7c00);
    v128_t x = wasm_i32x4_shl(wasm_v128_and(v, wasm_i32x4_const_splat(0x7fff)), 13);
    v128_t special = wasm_i32x4_eq(wasm_v128_and(v, e), e);
    x = wasm_f32x4_mul(x, wasm_f32x4_const_splat(0x1p112f));
    x = wasm_v128_or(x, wasm_v128_and(special, wasm_i32x4_const_splat(0x7f800000)));
    return wasm_v128_or(x, wasm_i32x4_shl(wasm_v128_and(v, wasm_i32x4_const_splat(0x8000)), 16));
}

/* Scales of group g of a tile                                                              */
INLINE void scales(v128_t to[4], const uint8_t *tile, struct shape s, int64_t g, bool half)
{
    UNROLL
    for (int j = 0; j < 4; j++)
        to[j] = half ? fp16x4((const uint16_t *)(const void *)(tile + s.codes) + g * CHI_TILE + 4 * j)
                     : wasm_v128_load(tile + s.codes + 4 * (g * CHI_TILE + 4 * j));
}

/* Blocks b0 .. b1 of a tile, unpacked in panel, into the sums of rows rows                  */
INLINE void slice(float sum[][2][CHI_TILE], const int16_t *panel, const uint8_t *tile, struct shape s, int64_t b0,
                  int64_t b1, const int16_t *q, int64_t ldq, const float *step, int64_t blocks, int rows, bool half)
{
    v128_t p[ROWS][4];
    UNROLL
    for (int i = 0; i < 4 * rows; i++) p[i / 4][i % 4] = wasm_v128_load(sum[i / 4][1] + i % 4 * 4);
    for (int64_t b = b0; b < b1; b++) {
        block(p, panel + (b - b0) * PAIRS * CHI_TILE * 2, q + b * CHI_ACT_BLOCK, ldq, step + b, blocks, rows);
        if ((b + 1) % s.per && b + 1 < s.nb) continue;
        v128_t scale[4];
        scales(scale, tile, s, b / s.per, half);
        UNROLL
        for (int i = 0; i < 4 * rows; i++) {
            float *y = sum[i / 4][0] + i % 4 * 4;
            wasm_v128_store(y, muladd(wasm_v128_load(y), scale[i % 4], p[i / 4][i % 4]));
            p[i / 4][i % 4] = wasm_f32x4_const_splat(0);
        }
    }
    UNROLL
    for (int i = 0; i < 4 * rows; i++) wasm_v128_store(sum[i / 4][1] + i % 4 * 4, p[i / 4][i % 4]);
}

typedef void unpack_fn(int16_t *panel, const uint8_t *codes, int64_t blocks);

/* One tile times rows (at most CHUNK) rows from r0 on                                       */
INLINE void tile_rows(float *y, int64_t ldy, const struct chi_act *a, int64_t r0, int64_t rows, struct work *k,
                      const uint8_t *tile, struct shape s, int64_t width, unpack_fn *unpack, bool half)
{
    int64_t blocks = a->ldq / CHI_ACT_BLOCK, ldq = s.nb * CHI_ACT_BLOCK;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < 2 * CHI_TILE; j++) k->sum[i][j / CHI_TILE][j % CHI_TILE] = 0;
    for (int64_t b = 0; b < s.nb; b += SLICE) {
        int64_t end = s.nb - b < SLICE ? s.nb : b + SLICE, r = 0;
        unpack(k->panel, tile + b * (s.codes / s.nb), end - b);
        for (; r + ROWS <= rows; r += ROWS)
            slice(k->sum + r, k->panel, tile, s, b, end, k->q + r * ldq, ldq, a->step + (r0 + r) * blocks, blocks,
                  ROWS, half);
        for (; r < rows; r++)
            slice(k->sum + r, k->panel, tile, s, b, end, k->q + r * ldq, ldq, a->step + (r0 + r) * blocks, blocks,
                  1, half);
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < CHI_TILE && j < width; j++) y[i * ldy + j] = k->sum[i][0][j];
}

INLINE void run_rows(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                     int64_t o1, struct work *k, struct shape s, unpack_fn *unpack, bool half)
{
    int64_t ldq = s.nb * CHI_ACT_BLOCK;
    for (int64_t r0 = 0; r0 < a->rows; r0 += CHUNK) {
        int64_t rows = a->rows - r0 < CHUNK ? a->rows - r0 : CHUNK;
        for (int64_t r = 0; r < rows; r++)
            widen_all(k->q + r * ldq, a->q + (r0 + r) * a->ldq, ldq, wasm_i16x8_const_splat(1));
        for (int64_t o = o0; o < o1; o += CHI_TILE)
            tile_rows(y + r0 * ldy + o - o0, ldy, a, r0, rows, k, (const uint8_t *)m->bytes + o / CHI_TILE * s.tile,
                      s, o1 - o, unpack, half);
    }
}

static int64_t scratch_bytes(int64_t rows, int64_t d_in)
{
    int64_t ldq = (d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK * CHI_ACT_BLOCK;
    return (int64_t)sizeof(struct work) + (rows < CHUNK ? rows : CHUNK) * ldq * 2;
}

/* ---- ternary2 -------------------------------------------------------------------------------- */

/* Both encodings of trits: block bytes of codes for 64 k of a tile                           */
static struct shape shape_trits(const struct chi_matrix *m, int64_t block_bytes)
{
    int64_t nb = (m->d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK, codes = nb * block_bytes;
    int64_t groups = (m->d_in + m->group - 1) / m->group;
    int64_t per = m->group < m->d_in ? m->group / CHI_ACT_BLOCK : nb;
    return (struct shape){ nb, per, codes, (codes + groups * CHI_TILE * 2 + 63) / 64 * 64 };
}

/* 64 bytes are four fields of (c0, c1, c2, c3) of 16 rows: t = u - 1 of the lower bytes, then of
 * the upper ones                                                                            */
static void unpack_ternary2(int16_t *panel, const uint8_t *codes, int64_t blocks)
{
    const v128_t low = wasm_i16x8_const_splat(3), one = wasm_i16x8_const_splat(1);
    for (int64_t i = 0; i < 4 * blocks; i++, codes += 64, panel += 16 * CHI_TILE)
        for (int g = 0; g < 4; g++) {
            v128_t c = wasm_v128_load(codes + 16 * g);
            UNROLL
            for (int f = 0; f < 8; f++) {
                v128_t u = wasm_v128_and(wasm_u16x8_shr(c, f % 4 * 2 + f / 4 * 8), low);
                wasm_v128_store(panel + f * 2 * CHI_TILE + 8 * g, wasm_i16x8_sub(u, one));
            }
        }
}

/* 64 times the sum over u q of a block; q as widen() makes it, times 4^(3 - j)               */
static inline void block_ternary2(v128_t s[4], const uint8_t *codes, const int16_t *q)
{
    UNROLL
    for (int piece = 0; piece < 4; piece++) {
        v128_t c[4];
        UNROLL
        for (int g = 0; g < 4; g++) c[g] = wasm_v128_load(codes + 64 * piece + 16 * g);
        UNROLL
        for (int f = 0; f < 8; f++) {
            v128_t x = wasm_v128_load32_splat(q + 16 * piece + 2 * f);
            v128_t mask = wasm_i16x8_splat((int16_t)(3 << f % 4 * 2));
            UNROLL
            for (int g = 0; g < 4; g++) {
                if (f == 4) c[g] = wasm_u16x8_shr(c[g], 8);     /* now the upper bytes        */
                s[g] = wasm_i32x4_add(s[g], wasm_i32x4_dot_i16x8(wasm_v128_and(c[g], mask), x));
            }
        }
    }
}

/* One tile times one row                                                                     */
static void decode_ternary2(float *y, int64_t width, const uint8_t *tile, struct shape s, const int16_t *q,
                            const float *step, const int16_t *total)
{
    v128_t out[4], p[4];
    clear(out);
    clear(p);
    for (int64_t b = 0; b < s.nb; b++) {
        v128_t sum[4], v = wasm_f32x4_splat(step[b]), off = wasm_i32x4_splat(total[b]);
        clear(sum);
        block_ternary2(sum, tile + 256 * b, q + CHI_ACT_BLOCK * b);
        UNROLL
        for (int g = 0; g < 4; g++)
            p[g] = muladd(p[g], wasm_f32x4_convert_i32x4(wasm_i32x4_sub(wasm_i32x4_shr(sum[g], 6), off)), v);
        if ((b + 1) % s.per && b + 1 < s.nb) continue;
        v128_t scale[4];
        scales(scale, tile, s, b / s.per, true);
        UNROLL
        for (int g = 0; g < 4; g++) out[g] = muladd(out[g], scale[g], p[g]);
        clear(p);
    }
    put(y, width, out);
}

static void run_ternary2(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                         int64_t o1, void *scratch)
{
    struct shape s = shape_trits(m, 256);
    struct work *k = scratch;
    if (a->rows != 1) {
        run_rows(y, ldy, a, m, o0, o1, k, s, unpack_ternary2, true);
        return;
    }
    widen_all(k->q, a->q, s.nb * CHI_ACT_BLOCK, wasm_i16x8_const(64, 64, 16, 16, 4, 4, 1, 1));
    for (int64_t o = o0; o < o1; o += CHI_TILE)
        decode_ternary2(y + o - o0, o1 - o, (const uint8_t *)m->bytes + o / CHI_TILE * s.tile, s, k->q, a->step,
                        a->sum);
}

/* ---- int8 -------------------------------------------------------------------------------------- */

static struct shape shape_int8(const struct chi_matrix *m)
{
    int64_t nb = (m->d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK, codes = nb * CHI_ACT_BLOCK * CHI_TILE;
    return (struct shape){ nb, nb, codes, codes + CHI_TILE * 4 };
}

/* 64 bytes are (k0, k1, k2, k3) of 16 rows                                                      */
static void unpack_int8(int16_t *panel, const uint8_t *codes, int64_t blocks)
{
    for (int64_t i = 0; i < blocks * CHI_ACT_BLOCK / 4; i++, codes += 64)
        for (int g = 0; g < 4; g++) {
            v128_t c = wasm_v128_load(codes + 16 * g);
            int16_t *to = panel + (i / 4 * 8 + i % 4) * 2 * CHI_TILE + 8 * g;
            wasm_v128_store(to, wasm_i16x8_shr(wasm_i16x8_shl(c, 8), 8));
            wasm_v128_store(to + 4 * 2 * CHI_TILE, wasm_i16x8_shr(c, 8));
        }
}

/* One tile times one row, without the panel                                                     */
static void decode_int8(float *y, int64_t width, const uint8_t *tile, struct shape s, const int16_t *q,
                        const float *step)
{
    v128_t p[4], scale[4];
    clear(p);
    for (int64_t b = 0; b < s.nb; b++) {
        v128_t sum[4], v = wasm_f32x4_splat(step[b]);
        clear(sum);
        for (int64_t i = b * CHI_ACT_BLOCK; i < (b + 1) * CHI_ACT_BLOCK; i += 4) {
            v128_t lower = wasm_v128_load32_splat(q + i / 16 * 16 + i % 16 / 2);
            v128_t upper = wasm_v128_load32_splat(q + i / 16 * 16 + i % 16 / 2 + 8);
            UNROLL
            for (int g = 0; g < 4; g++) {
                v128_t c = wasm_v128_load(tile + i * CHI_TILE + 16 * g);
                v128_t even = wasm_i16x8_shr(wasm_i16x8_shl(c, 8), 8);
                sum[g] = wasm_i32x4_add(sum[g], wasm_i32x4_dot_i16x8(even, lower));
                sum[g] = wasm_i32x4_add(sum[g], wasm_i32x4_dot_i16x8(wasm_i16x8_shr(c, 8), upper));
            }
        }
        UNROLL
        for (int g = 0; g < 4; g++) p[g] = muladd(p[g], wasm_f32x4_convert_i32x4(sum[g]), v);
    }
    scales(scale, tile, s, 0, false);
    UNROLL
    for (int g = 0; g < 4; g++) p[g] = muladd(wasm_f32x4_const_splat(0), scale[g], p[g]);
    put(y, width, p);
}

static void run_int8(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                     int64_t o1, void *scratch)
{
    struct shape s = shape_int8(m);
    struct work *k = scratch;
    if (a->rows != 1) {
        run_rows(y, ldy, a, m, o0, o1, k, s, unpack_int8, false);
        return;
    }
    widen_all(k->q, a->q, s.nb * CHI_ACT_BLOCK, wasm_i16x8_const_splat(1));
    for (int64_t o = o0; o < o1; o += CHI_TILE)
        decode_int8(y + o - o0, o1 - o, (const uint8_t *)m->bytes + o / CHI_TILE * s.tile, s, k->q, a->step);
}

/* ---- sherry125: plugins/formats/sherry125/sherry125.c has the layout ----------------------------- */

/* The trits of sixteen rows at 4 k as pairs; the first non-zero is -1 where minus is all ones      */
INLINE void put_quad(int16_t *to, v128_t slot, v128_t minus)
{
    const v128_t table[4] = {                           /* slot = 4 place + 2 third + second        */
        wasm_i8x16_const(0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
        wasm_i8x16_const(1, 1, 1, 1, 0, 0, 0, 0, 1, -1, 1, -1, 1, -1, 1, -1),
        wasm_i8x16_const(1, -1, 1, -1, 1, -1, 1, -1, 0, 0, 0, 0, 1, 1, -1, -1),
        wasm_i8x16_const(1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 0, 0, 0, 0),
    };
    v128_t t[4];
    UNROLL
    for (int c = 0; c < 4; c++)
        t[c] = wasm_i8x16_sub(wasm_v128_xor(wasm_i8x16_swizzle(table[c], slot), minus), minus);
    UNROLL
    for (int h = 0; h < 2; h++, to += 4 * 2 * CHI_TILE) {           /* (c0, c2), then (c1, c3)      */
        v128_t lo = wasm_i8x16_shuffle(t[h], t[h + 2], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        v128_t hi = wasm_i8x16_shuffle(t[h], t[h + 2], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        wasm_v128_store(to, wasm_i16x8_extend_low_i8x16(lo));
        wasm_v128_store(to + 8, wasm_i16x8_extend_high_i8x16(lo));
        wasm_v128_store(to + 16, wasm_i16x8_extend_low_i8x16(hi));
        wasm_v128_store(to + 24, wasm_i16x8_extend_high_i8x16(hi));
    }
}

static void unpack_sherry125(int16_t *panel, const uint8_t *codes, int64_t blocks)
{
    for (; blocks > 0; blocks--, codes += 160, panel += PAIRS * CHI_TILE * 2)
        for (int i = 0; i < CHI_ACT_BLOCK / 4; i++) {               /* quads                        */
            v128_t slots = wasm_v128_load(codes + i / 4 * 32 + i % 2 * 16);
            v128_t signs = wasm_v128_load(codes + 128 + i % 2 * 16);
            slots = i % 4 < 2 ? wasm_v128_and(slots, wasm_i8x16_const_splat(15)) : wasm_u8x16_shr(slots, 4);
            signs = wasm_i8x16_shr(wasm_i8x16_shl(signs, i / 2), 7);
            put_quad(panel + (i / 4 * 8 + i % 4) * 2 * CHI_TILE, slots, signs);
        }
}

static void run_sherry125(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                          int64_t o1, void *scratch)
{
    run_rows(y, ldy, a, m, o0, o1, scratch, shape_trits(m, 160), unpack_sherry125, true);
}

const struct chi_linear_kernel w128_linear_sherry125 = {
    .struct_size = sizeof w128_linear_sherry125, .encoding = "sherry125", .integer = true, .run = run_sherry125,
    .scratch_bytes = scratch_bytes,
};
const struct chi_linear_kernel w128_linear_ternary2 = {
    .struct_size = sizeof w128_linear_ternary2, .encoding = "ternary2", .integer = true, .run = run_ternary2,
    .scratch_bytes = scratch_bytes,
};
const struct chi_linear_kernel w128_linear_int8 = {
    .struct_size = sizeof w128_linear_int8, .encoding = "int8", .integer = true, .run = run_int8,
    .scratch_bytes = scratch_bytes,
};
