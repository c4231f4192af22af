/* base3.c - ternary weights in base 3: five of them in a byte (3^5 = 243 of 256).
 *
 *     v = sum over i = 0..4 of u_i 3^i,  u = t + 1,  for k = 5j .. 5j + 4 of a block of 64 k
 *
 * A block is 13 bytes a row, 1.625 bits a weight; the last byte has k = 60..63 and a zero trit above them.
 * v = 27 x + y splits without a remainder chain into two tables of sums of activations: two trits x = 0..8
 * and three trits y.  Tiles of 16 rows, lane = row; the bytes of blocks 2p and 2p + 1, which share a group
 * of 128, lie side by side:
 *
 *     pair p is 416 bytes at 416 p: byte 32 j + 16 h + r is v of row r, byte j of block 2p + h
 *     an odd last block is 208 bytes: byte 16 j + r
 *
 * After the blocks come the scales [group][16] in fp16 and zeros up to a multiple of 64.               */
#include <chimera/plugin.h>

#include "../shared/trits.h"

enum { FIVE = 5, BYTES = 13, BLOCK = BYTES * CHI_TILE };

static int64_t blocks(int64_t cols)
{
    return ceil_div(cols, CHI_ACT_BLOCK);
}

static int64_t tile_bytes(int64_t cols, int64_t group)
{
    return round_up(blocks(cols) * BLOCK + ceil_div(cols, group) * CHI_TILE * 2, 64);
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

/* Where byte j of block b lies for row 0 of a tile                                                     */
static int64_t place(int64_t b, int64_t j, int64_t cols)
{
    bool alone = b % 2 == 0 && b + 1 == blocks(cols);
    return b / 2 * 2 * BLOCK + (alone ? CHI_TILE * j : 2 * CHI_TILE * j + b % 2 * CHI_TILE);
}

/* Byte j of block b: trits beyond the block or the row are zero                                        */
static uint8_t code(const int8_t *q, int64_t b, int64_t j, int64_t cols)
{
    int v = 0;
    for (int64_t i = FIVE - 1; i >= 0; i--) {
        int64_t k = FIVE * j + i;
        v = 3 * v + (q && k < CHI_ACT_BLOCK && b * CHI_ACT_BLOCK + k < cols ? q[b * CHI_ACT_BLOCK + k] + 1 : 1);
    }
    return (uint8_t)v;
}

static void encode_row(uint8_t *tile, int64_t lane, const int8_t *q, const float *scale, int64_t cols,
                       int64_t group)
{
    for (int64_t b = 0; b < blocks(cols); b++)
        for (int64_t j = 0; j < BYTES; j++) tile[place(b, j, cols) + lane] = code(q, b, j, cols);
    for (int64_t g = 0; g < ceil_div(cols, group); g++) {
        uint16_t h = q ? half_from(scale[g]) : 0;
        memcpy(tile + blocks(cols) * BLOCK + (g * CHI_TILE + lane) * 2, &h, 2);
    }
}

static void encode(void *out, const int8_t *q, const float *scale, int64_t rows, int64_t cols, int64_t group,
                   int64_t r0, int64_t r1)
{
    int64_t size = tile_bytes(cols, group), groups = ceil_div(cols, group);
    int64_t used = blocks(cols) * BLOCK + groups * CHI_TILE * 2;
    int64_t end = r1 == rows ? round_up(rows, CHI_TILE) : r1;
    for (int64_t r = r0; r < end; r++) {
        uint8_t *tile = (uint8_t *)out + r / CHI_TILE * size;
        if (r % CHI_TILE == 0) memset(tile + used, 0, (size_t)(size - used));
        if (r < r1)
            encode_row(tile, r % CHI_TILE, q + (r - r0) * cols, scale + (r - r0) * groups, cols, group);
        else
            encode_row(tile, r % CHI_TILE, NULL, NULL, cols, group);
    }
}

/* Bytes 243..255, which encode() never makes, have a highest digit of 3 and so a trit of 2: whoever reads
 * strange bytes can refuse them.                                                                       */
static void decode(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols, int64_t group,
                   int64_t r0, int64_t r1)
{
    static const uint8_t power[FIVE] = { 1, 3, 9, 27, 81 };
    (void)rows;
    int64_t groups = ceil_div(cols, group);
    for (int64_t r = r0; r < r1; r++) {
        const uint8_t *tile = (const uint8_t *)in + r / CHI_TILE * tile_bytes(cols, group);
        int64_t lane = r % CHI_TILE;
        for (int64_t k = 0; k < cols; k++) {
            int64_t i = k % CHI_ACT_BLOCK % FIVE;
            int v = tile[place(k / CHI_ACT_BLOCK, k % CHI_ACT_BLOCK / FIVE, cols) + lane] / power[i];
            q[(r - r0) * cols + k] = (int8_t)((i < FIVE - 1 ? v % 3 : v) - 1);
        }
        for (int64_t g = 0; g < groups; g++) {
            uint16_t h;
            memcpy(&h, tile + blocks(cols) * BLOCK + (g * CHI_TILE + lane) * 2, 2);
            scale[(r - r0) * groups + g] = half_to(h);
        }
    }
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0, int64_t o1,
                void *scratch)
{
    trits_run(y, ldy, a, m, o0, o1, scratch, decode);
}

/* ---- tables --------------------------------------------------------------------------------------------- */

static const struct chi_linear_kernel kernel = {
    .struct_size = sizeof kernel, .encoding = "base3", .integer = true, .run = run,
    .scratch_bytes = trits_scratch,
};
static const struct chi_encoding_ops ops = {
    .struct_size = sizeof ops, .values = "ternary", .bytes = bytes, .encode = encode, .decode = decode,
    .portable = &kernel, .holds = holds,
};
static const struct chi_component encoding = {
    .struct_size = sizeof encoding, .kind = CHI_ENCODING, .name = "base3", .revision = 1,
    .summary = "1.625 bits a weight, five in a byte, 16 rows side by side", .ops = &ops,
};

CHI_PLUGIN(base3, .version = "1.0", .license = "MIT", .summary = "ternary weights in base 3, 1.625 bits",
           .components = CHI_COMPONENTS(&encoding));
