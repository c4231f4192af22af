/* linears.c - ternary encodings and int8 on AMX.  Fewer rows than a tile has go through AVX-512 VNNI
 * (measured, amx.md)                                                                                  */
#include "tiles.h"
#include "../shared/int8_zmm.h"
#include "../shared/packed_zmm.h"
#include "../shared/ternary2_zmm.h"
#include "linears.h"

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t scratch_bytes(int64_t rows, int64_t d_in)
{
    int64_t few = ternary_scratch(rows, d_in), many = (int64_t)sizeof(struct amx_work);
    return many > few ? many : few;
}

static int64_t row_tiles(const struct chi_act *a)
{
    return (a->rows + TOKENS - 1) / TOKENS;
}

/* ---- ternary encodings: trits of two tiles are unpacked for 512 k and serve up to 128 rows ------ */

INLINE void ternary_pair(const struct chi_act *a, const struct pair *p, int64_t ldy, int64_t t0,
                         struct shape h, struct amx_work *k, unpacker *unpack)
{
    struct slice s = { .a = a, .t0 = t0, .tiles = least(row_tiles(a) - t0, TOKEN_TILES),
                       .w = { k->panel[0], k->panel[1] } };
    clear_sums(k);
    for (s.b0 = 0; s.b0 < h.nb; s.b0 += SLICE_BLOCKS) {
        s.nb = least(h.nb - s.b0, SLICE_BLOCKS);
        for (int o = 0; o < 2; o++) {
            unpack(k->panel[o], p->tile[o], s.b0, s.nb, h);
            s.scale[o] = p->tile[o] + h.codes + s.b0 / PER_GROUP * CHI_TILE * 2;
        }
        slice_tiles(k, &s, true);
    }
    put_tiles(k, &s, p, ldy, NULL);
}

static void ternary_tiles(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                          int64_t o1, struct amx_work *k, int64_t block_bytes, unpacker *unpack)
{
    struct shape h = shape_of(m->d_in, block_bytes);
    tiles_begin();
    for (int64_t t0 = 0; t0 < row_tiles(a); t0 += TOKEN_TILES)
        for (int64_t o = o0; o < o1; o += 2 * CHI_TILE) {
            struct pair p = pair_of(y, m, h, o0, o, o + CHI_TILE < o1 ? o + CHI_TILE : o, o1);
            ternary_pair(a, &p, ldy, t0, h, k, unpack);
        }
    tiles_release();
}

static void ternary2_trits(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, struct shape s)
{
    (void)s;
    ternary2_bytes(panel, tile, b, n, 1);
}

static void run_ternary2(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                         int64_t o0, int64_t o1, void *scratch)
{
    if (a->rows < TOKENS) ternary2_run(y, ldy, a, m, o0, o1, scratch, true);
    else ternary_tiles(y, ldy, a, m, o0, o1, scratch, T2_BLOCK, ternary2_trits);
}

static void sherry_trits(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, struct shape s)
{
    (void)s;
    sherry_bytes(panel, tile, b, n, 1);
}

static void run_sherry125(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                          int64_t o0, int64_t o1, void *scratch)
{
    if (a->rows < TOKENS) sherry_run(y, ldy, a, m, o0, o1, scratch, true);
    else ternary_tiles(y, ldy, a, m, o0, o1, scratch, SHERRY_BLOCK, sherry_trits);
}

static void base3_trits(uint8_t *panel, const uint8_t *tile, int64_t b, int64_t n, struct shape s)
{
    base3_bytes(panel, tile, b, n, s.nb, 1);
}

static void run_base3(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                      int64_t o0, int64_t o1, void *scratch)
{
    if (a->rows < TOKENS) base3_run(y, ldy, a, m, o0, o1, scratch, true);
    else ternary_tiles(y, ldy, a, m, o0, o1, scratch, BASE3_BLOCK, base3_trits);
}

/* ---- int8: the bytes of the encoding are the tiles ---------------------------------------------- */

static void int8_pair(const struct chi_act *a, const struct pair *p, int64_t ldy, int64_t t0, struct shape h,
                      struct amx_work *k)
{
    struct slice s = { .a = a, .t0 = t0, .tiles = least(row_tiles(a) - t0, TOKEN_TILES), .nb = h.nb,
                       .w = { p->tile[0], p->tile[1] } };
    const __m512 scale[2] = { _mm512_loadu_ps(p->tile[0] + h.codes), _mm512_loadu_ps(p->tile[1] + h.codes) };
    clear_sums(k);
    slice_tiles(k, &s, false);
    put_tiles(k, &s, p, ldy, scale);
}

static void run_int8(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                     int64_t o0, int64_t o1, void *scratch)
{
    if (a->rows < TOKENS) {
        int8_run(y, ldy, a, m, o0, o1, true);
        return;
    }
    int64_t nb = (m->d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK;
    struct shape h = { nb, nb * PANEL_BLOCK, nb * PANEL_BLOCK + CHI_TILE * (int64_t)sizeof(float) };
    tiles_begin();
    for (int64_t t0 = 0; t0 < row_tiles(a); t0 += TOKEN_TILES)
        for (int64_t o = o0; o < o1; o += 2 * CHI_TILE) {
            struct pair p = pair_of(y, m, h, o0, o, o + CHI_TILE < o1 ? o + CHI_TILE : o, o1);
            int8_pair(a, &p, ldy, t0, h, scratch);
        }
    tiles_release();
}

const struct chi_linear_kernel amx_linear_int8 = {
    .struct_size = sizeof amx_linear_int8, .encoding = "int8", .integer = true, .run = run_int8,
    .scratch_bytes = scratch_bytes,
};
const struct chi_linear_kernel amx_linear_ternary2 = {
    .struct_size = sizeof amx_linear_ternary2, .encoding = "ternary2", .group = GROUP, .integer = true,
    .run = run_ternary2, .scratch_bytes = scratch_bytes,
};
const struct chi_linear_kernel amx_linear_sherry125 = {
    .struct_size = sizeof amx_linear_sherry125, .encoding = "sherry125", .group = GROUP, .integer = true,
    .run = run_sherry125, .scratch_bytes = scratch_bytes,
};
const struct chi_linear_kernel amx_linear_base3 = {
    .struct_size = sizeof amx_linear_base3, .encoding = "base3", .group = GROUP, .integer = true,
    .run = run_base3, .scratch_bytes = scratch_bytes,
};
