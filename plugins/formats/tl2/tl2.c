/* tl2.c - three trits in five bits: the table code of TL2 (arXiv 2410.16144, 2502.11880, after the tables of
 * 2407.00088).
 *
 *     v = 9 t0 + 3 t1 + t2, -13..13;       index |v| (4 bits), sign v < 0 (1 bit)
 *
 * The 14 patterns with v >= 0 are the entries of a table of sums of activations; the others are their
 * mirror images.  64 is no multiple of 3, so a block of 64 k is 22 triples, the last one padded with
 * two zero trits: 110 bits, 1.72 a weight.  Tiles of 16 rows, lane = row, with scales per group as in
 * encoding ternary2: sums of integers end with each block, so nothing is rounded that ternary2 keeps.
 *
 * A tile, with B = ceil(d_in / 64) blocks:
 *     [B][11][16]   bytes: row r's index of triple 2i in bits 7:4, of triple 2i+1 in bits 3:0
 *     [B][22]       little-endian words: bit r is the sign of row r in this triple
 *     [group][16]   scales in fp16; zeros up to a multiple of 64                                     */
#include <chimera/plugin.h>

#include "../shared/trits.h"

enum { TRIPLES = 22, INDICES = TRIPLES / 2 * CHI_TILE, SIGNS = TRIPLES * 2 };

static int64_t blocks(int64_t cols)
{
    return ceil_div(cols, CHI_ACT_BLOCK);
}

static int64_t signs_at(int64_t cols)
{
    return blocks(cols) * INDICES;
}

static int64_t scales_at(int64_t cols)
{
    return blocks(cols) * (INDICES + SIGNS);
}

static int64_t tile_bytes(int64_t cols, int64_t group)
{
    return round_up(scales_at(cols) + ceil_div(cols, group) * CHI_TILE * 2, 64);
}

static int64_t bytes(int64_t rows, int64_t cols, int64_t group)
{
    if (group <= 0 || (group % CHI_ACT_BLOCK && group < cols)) return 0;
    return ceil_div(rows, CHI_TILE) * tile_bytes(cols, group);
}

static bool holds(const int8_t *q, const float *scale, int64_t rows, int64_t cols, int64_t group)
{
    for (int64_t i = 0; i < rows * cols; i++)
        if (q[i] < -1 || q[i] > 1) return false;
    for (int64_t i = 0; i < rows * ceil_div(cols, group); i++)
        if (!half_holds(scale[i])) return false;
    return true;
}

/* ---- encode ---------------------------------------------------------------------------------------- */

/* v of triple i of block b                                                                           */
static int triple(const int8_t *q, int64_t b, int64_t i, int64_t cols)
{
    int v = 0;
    for (int64_t j = 3 * i; j < 3 * i + 3; j++) {
        int64_t k = b * CHI_ACT_BLOCK + j;
        v = 3 * v + (j < CHI_ACT_BLOCK && k < cols ? q[k] : 0);
    }
    return v;
}

static void encode_row(uint8_t *tile, int64_t lane, const int8_t *q, const float *scale, int64_t cols,
                       int64_t group)
{
    for (int64_t b = 0; b < blocks(cols); b++)
        for (int64_t i = 0; i < TRIPLES; i++) {
            int v = triple(q, b, i, cols);
            uint8_t *index = tile + b * INDICES + i / 2 * CHI_TILE + lane;
            uint8_t *sign = tile + signs_at(cols) + b * SIGNS + i * 2 + lane / 8;
            *index |= (uint8_t)((v < 0 ? -v : v) << (i % 2 ? 0 : 4));
            *sign |= (uint8_t)((v < 0) << lane % 8);
        }
    for (int64_t g = 0; g < ceil_div(cols, group); g++) {
        uint16_t h = half_from(scale[g]);
        memcpy(tile + scales_at(cols) + (g * CHI_TILE + lane) * 2, &h, 2);
    }
}

/* Rows begin with a tile, so a tile is cleared before its first row: padded rows are zeros           */
static void encode(void *out, const int8_t *q, const float *scale, int64_t rows, int64_t cols,
                   int64_t group, int64_t r0, int64_t r1)
{
    (void)rows;
    int64_t size = tile_bytes(cols, group), groups = ceil_div(cols, group);
    for (int64_t r = r0; r < r1; r++) {
        uint8_t *tile = (uint8_t *)out + r / CHI_TILE * size;
        if (r % CHI_TILE == 0) memset(tile, 0, (size_t)size);
        encode_row(tile, r % CHI_TILE, q + (r - r0) * cols, scale + (r - r0) * groups, cols, group);
    }
}

/* ---- decode and multiply ----------------------------------------------------------------------------- */

/* Trit j of the triple with this index.  14 and 15, which encode() never makes, have t0 = 2: whoever
 * reads strange bytes can refuse them.                                                               */
static int8_t trit(int index, int j)
{
    static const int8_t t[16][3] = {
        { 0, 0, 0 }, { 0, 0, 1 }, { 0, 1, -1 }, { 0, 1, 0 }, { 0, 1, 1 }, { 1, -1, -1 }, { 1, -1, 0 },
        { 1, -1, 1 }, { 1, 0, -1 }, { 1, 0, 0 }, { 1, 0, 1 }, { 1, 1, -1 }, { 1, 1, 0 }, { 1, 1, 1 },
        { 2, -1, -1 }, { 2, -1, 0 },
    };
    return t[index][j];
}

static void decode_row(const uint8_t *tile, int64_t lane, int8_t *q, float *scale, int64_t cols, int64_t group)
{
    for (int64_t k = 0; k < cols; k++) {
        int64_t b = k / CHI_ACT_BLOCK, i = k % CHI_ACT_BLOCK / 3;
        int byte = tile[b * INDICES + i / 2 * CHI_TILE + lane];
        int minus = tile[signs_at(cols) + b * SIGNS + i * 2 + lane / 8] >> lane % 8 & 1;
        int8_t t = trit(i % 2 ? byte & 15 : byte >> 4, (int)(k % CHI_ACT_BLOCK % 3));
        q[k] = (int8_t)(minus ? -t : t);
    }
    for (int64_t g = 0; g < ceil_div(cols, group); g++) {
        uint16_t h;
        memcpy(&h, tile + scales_at(cols) + (g * CHI_TILE + lane) * 2, 2);
        scale[g] = half_to(h);
    }
}

static void decode(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols, int64_t group,
                   int64_t r0, int64_t r1)
{
    (void)rows;
    for (int64_t r = r0; r < r1; r++)
        decode_row((const uint8_t *)in + r / CHI_TILE * tile_bytes(cols, group), r % CHI_TILE,
                   q + (r - r0) * cols, scale + (r - r0) * ceil_div(cols, group), cols, group);
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                int64_t o1, void *scratch)
{
    trits_run(y, ldy, a, m, o0, o1, scratch, decode);
}

/* ---- tables -------------------------------------------------------------------------------------------- */

static const struct chi_linear_kernel kernel = {
    .struct_size = sizeof kernel, .encoding = "tl2", .integer = true, .run = run,
    .scratch_bytes = trits_scratch,
};
static const struct chi_encoding_ops ops = {
    .struct_size = sizeof ops, .values = "ternary", .bytes = bytes, .encode = encode, .decode = decode,
    .portable = &kernel, .holds = holds,
};
static const struct chi_component encoding = {
    .struct_size = sizeof encoding, .kind = CHI_ENCODING, .name = "tl2", .revision = 1,
    .summary = "3 trits in 5 bits: an index into a table and a sign", .papers = "2407.00088 2410.16144 2502.11880",
    .ops = &ops,
};

CHI_PLUGIN(tl2, .version = "1.0", .license = "MIT", .summary = "ternary weights as table indices",
           .components = CHI_COMPONENTS(&encoding));
