/* tiles.h - products of 16 rows of int8 activations or more with tiles of 16 outputs, on the
 * tile registers of AMX.
 *
 * 32 rows x 32 outputs x 64 k are four tile products: A is 16 rows of activations as they lie in
 * memory, B 64 k of a tile of weights, [k/4][16][k%4] signed bytes, C their sums of one block of
 * 64 k.  Steps belong to blocks, so C is stored after each one and 64 vectors of it become
 * floats in the canonical order of kernel.h; the tiles work on the next blocks meanwhile.  That is
 * why sums lie in two buffers.
 *
 * Rows go by 16; the last 16 overlap those before them when their number is no multiple of 16: the
 * same outputs are then written twice.                                                         */
#ifndef TILES_H
#define TILES_H

#include "amx.h"
#include "../shared/ternary_zmm.h"

enum { TOKENS = 16, AMX_LEAST = 16, TOKEN_TILES = 8, PAIR = 2 };

struct amx_work {                                       /* in the scratch, 64-aligned     */
    uint8_t panel[2][SLICE * CHI_TILE];                 /* trits                          */
    int32_t sums[2][PER_GROUP][PAIR][PAIR][TOKENS][CHI_TILE];   /* [buffer][block][rows][outputs]... */
    float   c[TOKEN_TILES][TOKENS][2 * CHI_TILE];
};

static inline void tiles_begin(void)
{
    struct tile_config c = { .palette = 1 };
    for (int i = 0; i < 8; i++) c.bytes[i] = 64, c.rows[i] = 16;
    tiles_set(&c);
}

/* Blocks b0 .. b0 + nb (counted in a row of activations) of tiles t0, t0 + 1, .. of 16 rows
 * times two tiles of outputs, whose bytes of block b0 are at w[]                             */
struct slice {
    const struct chi_act *a;
    int64_t t0, tiles, b0, nb;
    const uint8_t *w[2];
    const uint8_t *scale[2];                            /* fp16 [group][16] of these blocks  */
};

static inline int64_t first_row(const struct slice *s, int64_t tile)
{
    int64_t r = (s->t0 + tile) * TOKENS, last = s->a->rows - TOKENS;
    return r < last ? r : last;
}

/* Tiles 0..3 = block b of two tiles of rows times two of outputs                              */
static inline void multiply(const struct slice *s, int64_t tile, int64_t b)
{
    int64_t ld = s->a->ldq, k = (s->b0 + b) * CHI_ACT_BLOCK;
    const int8_t *q0 = s->a->q + first_row(s, tile) * ld + k, *q1 = s->a->q + first_row(s, tile + 1) * ld + k;
    TILE_LOAD(6, s->w[0] + PANEL_BLOCK * b, 64);
    TILE_LOAD(4, q0, ld);
    TILE_ZERO(0);
    TILE_DOT(0, 4, 6);
    TILE_LOAD(7, s->w[1] + PANEL_BLOCK * b, 64);
    TILE_ZERO(1);
    TILE_DOT(1, 4, 7);
    TILE_LOAD(5, q1, ld);
    TILE_ZERO(2);
    TILE_DOT(2, 5, 6);
    TILE_ZERO(3);
    TILE_DOT(3, 5, 7);
}

static inline void put_sums(int32_t (*sums)[PAIR][TOKENS][CHI_TILE])
{
    TILE_STORE(0, sums[0][0], 64);
    TILE_STORE(1, sums[0][1], 64);
    TILE_STORE(2, sums[1][0], 64);
    TILE_STORE(3, sums[1][1], 64);
}

INLINE __m512 stepped(const int32_t *sums, __m512 step)
{
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums)), step);
}

/* c += the sums of n (1 or 2) blocks from b on; grouped: times the scale of their group        */
INLINE void take(float (*c)[2 * CHI_TILE], int32_t (*sums)[PAIR][PAIR][TOKENS][CHI_TILE], const struct slice *s,
                 int64_t tile, int rows, int64_t b, int n, bool grouped)
{
    int64_t blocks = s->a->ldq / CHI_ACT_BLOCK;
    const float *step = s->a->step + first_row(s, tile + rows) * blocks + s->b0 + b;
    __m512 alpha[2] = { _mm512_setzero_ps(), _mm512_setzero_ps() };
    for (int o = 0; o < 2 && grouped; o++) alpha[o] = fp16x16(s->scale[o] + b / PER_GROUP * CHI_TILE * 2);
    for (int64_t m = 0; m < TOKENS; m++, step += blocks) {
        __m512 v0 = _mm512_set1_ps(step[0]), v1 = _mm512_set1_ps(step[n - 1]);
        UNROLL
        for (int o = 0; o < 2; o++) {
            float *at = c[m] + CHI_TILE * o;
            __m512 x0 = stepped(sums[0][rows][o][m], v0), y = _mm512_load_ps(at);
            if (grouped && n == 2) x0 = _mm512_add_ps(x0, stepped(sums[1][rows][o][m], v1));
            y = grouped ? muladd(y, alpha[o], x0) : _mm512_add_ps(y, x0);
            if (!grouped && n == 2) y = _mm512_add_ps(y, stepped(sums[1][rows][o][m], v1));
            _mm512_store_ps(at, y);
        }
    }
}

/* Group i of a slice: its blocks b, b + 1 of the row tiles tile, tile + 1                        */
struct group { int64_t tile, b; int n; int32_t (*sums)[PAIR][PAIR][TOKENS][CHI_TILE]; };

static inline struct group group_at(struct amx_work *k, const struct slice *s, int64_t i)
{
    int64_t groups = (s->nb + PER_GROUP - 1) / PER_GROUP, b = i % groups * PER_GROUP;
    return (struct group){ i / groups * PAIR, b, b + 2 <= s->nb ? 2 : 1, k->sums[i % 2] };
}

INLINE void take_rows(struct amx_work *k, const struct slice *s, const struct group *g, int rows, bool grouped)
{
    if (g->n == 2) take(k->c[g->tile + rows], g->sums, s, g->tile, rows, g->b, 2, grouped);
    else take(k->c[g->tile + rows], g->sums, s, g->tile, rows, g->b, 1, grouped);
}

/* c += all of a slice.  A group becomes floats while the tiles work on the next one.  The order is
 * products, floats of the group before, stores: a load behind a store to an address that differs by
 * a multiple of 4096 waits for it, and the stores of a block are 4 KB                              */
INLINE void slice_tiles(struct amx_work *k, const struct slice *s, bool grouped)
{
    int64_t groups = (s->nb + PER_GROUP - 1) / PER_GROUP, steps = (s->tiles + 1) / PAIR * groups;
    struct group before = { 0 };
    for (int64_t i = 0; i < steps; i++) {
        struct group g = group_at(k, s, i);
        multiply(s, g.tile, g.b);
        if (i > 0) take_rows(k, s, &before, 0, grouped);
        if (i > 0 && g.n == 1) take_rows(k, s, &before, 1, grouped);
        put_sums(g.sums[0]);
        if (g.n == 2) {
            multiply(s, g.tile, g.b + 1);
            if (i > 0) take_rows(k, s, &before, 1, grouped);
            put_sums(g.sums[1]);
        }
        before = g;
    }
    take_rows(k, s, &before, 0, grouped);
    take_rows(k, s, &before, 1, grouped);
}

static inline void clear_sums(struct amx_work *k)
{
    memset(k->c, 0, sizeof k->c);
}

/* Row i of c is row first_row() + i % 16 of y, of the first tile's row on                        */
INLINE void put_tiles(const struct amx_work *k, const struct slice *s, const struct pair *p, int64_t ldy,
                      const __m512 *factor)
{
    for (int64_t t = 0; t < s->tiles; t++)
        for (int64_t m = 0; m < TOKENS; m++)
            for (int o = 0; o < 2; o++) {
                __m512 v = _mm512_load_ps(k->c[t][m] + CHI_TILE * o);
                if (factor) v = muladd(_mm512_setzero_ps(), factor[o], v);
                store(p->y[o] + (first_row(s, t) + m) * ldy, p->width[o], v);
            }
}

#endif
