/* sherry125.c - ternary weights of which every fourth is zero, four of them in five bits (Sherry, arXiv
 * 2601.07892, and its code in STQ1_0, whose quads are strided; these are neighbours, as in training).
 *
 * A quad k = 4i .. 4i+3 has exactly one zero: 4 places x 8 signs = 32 patterns, none of 5 bits is lost:
 *
 *     slot (4 bits) = 4 place of the zero + 2 [third non-zero != first] + [second non-zero != first]
 *     sign (1 bit)  = the first non-zero is -1
 *
 * A table of 16 sums of four activations and a change of sign make its product.  Tiles of 16 rows, lane =
 * row.  A block of 64 k has 16 quads in 160 bytes: with h = 0, 1 and row r,
 *
 *     byte 32p + 16h + r, p = 0..3    bits 3:0 slot of quad 4p + h, bits 7:4 slot of quad 4p + 2 + h
 *     byte 128 + 16h + r              bit 7 - n is the sign of quad 2n + h, n = 0..7
 *
 * After the blocks come the scales [group][16] in fp16 and zeros up to a multiple of 64.               */
#include <chimera/plugin.h>

#include "../shared/trits.h"

enum { QUAD = 4, QUADS = CHI_ACT_BLOCK / QUAD, SIGNS = QUADS / 2 * CHI_TILE, BLOCK = SIGNS + 2 * CHI_TILE };

static int64_t code_bytes(int64_t cols)                 /* of a tile                                  */
{
    return ceil_div(cols, CHI_ACT_BLOCK) * BLOCK;
}

static int64_t tile_bytes(int64_t cols, int64_t group)
{
    return round_up(code_bytes(cols) + ceil_div(cols, group) * CHI_TILE * 2, 64);
}

static int64_t bytes(int64_t rows, int64_t cols, int64_t group)
{
    if (group <= 0 || (group % CHI_ACT_BLOCK && group < cols)) return 0;
    return ceil_div(rows, CHI_TILE) * tile_bytes(cols, group);
}

/* ---- quads: slot in bits 3:0, sign in bit 4 ------------------------------------------------------------ */

/* Quad of the n (1..4) weights at q: beyond them one zero, if they have none, then ones.  -1: it has no
 * zero, or more than one, or another number than -1, 0, 1.                                             */
static int quad_code(const int8_t *q, int64_t n)
{
    int place = -1, kept = 0, sign[QUAD];
    for (int64_t i = 0; i < QUAD; i++) {
        int t = i < n ? q[i] : place < 0 ? 0 : 1;
        if (t < -1 || t > 1 || (t == 0 && place >= 0)) return -1;
        if (t == 0) place = (int)i;
        else sign[kept++] = t < 0;
    }
    if (place < 0) return -1;
    return 4 * place + 2 * (sign[2] != sign[0]) + (sign[1] != sign[0]) + 16 * sign[0];
}

/* Trit i of a quad: kept number 0, 1, 2 is the first, second, third non-zero                           */
static int quad_trit(int code, int64_t i)
{
    int place = code >> 2 & 3, kept = (int)i - (i > place);
    if (i == place) return 0;
    int minus = (code >> 4 & 1) ^ (kept ? code >> (kept - 1) & 1 : 0);
    return minus ? -1 : 1;
}

static bool holds(const int8_t *q, const float *scale, int64_t rows, int64_t cols, int64_t group)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < cols; k += QUAD)
            if (quad_code(q + r * cols + k, cols - k) < 0) return false;
    for (int64_t i = 0; i < rows * ceil_div(cols, group); i++)
        if (!half_holds(scale[i])) return false;
    return true;
}

/* ---- encode and decode ---------------------------------------------------------------------------------- */

/* One row of a tile; q NULL: a padded row.  What holds() refuses becomes code 0                         */
static void encode_row(uint8_t *tile, int64_t lane, const int8_t *q, const float *scale, int64_t cols,
                       int64_t group)
{
    for (int64_t i = 0; i < ceil_div(cols, CHI_ACT_BLOCK) * QUADS; i++) {
        int code = q && QUAD * i < cols ? quad_code(q + QUAD * i, cols - QUAD * i) : 0;
        uint8_t *at = tile + i / QUADS * BLOCK + i % 2 * CHI_TILE + lane;
        int64_t n = i % QUADS / 2;                      /* quad 2n + h of its block                   */
        if (code < 0) code = 0;
        at[n / 2 * 32] |= (uint8_t)((code & 15) << n % 2 * 4);
        at[SIGNS] |= (uint8_t)(code >> 4 << (7 - n));
    }
    for (int64_t g = 0; g < ceil_div(cols, group); g++) {
        uint16_t h = q ? half_from(scale[g]) : 0;
        memcpy(tile + code_bytes(cols) + (g * CHI_TILE + lane) * 2, &h, 2);
    }
}

static void encode(void *out, const int8_t *q, const float *scale, int64_t rows, int64_t cols, int64_t group,
                   int64_t r0, int64_t r1)
{
    int64_t size = tile_bytes(cols, group), groups = ceil_div(cols, group);
    int64_t end = r1 == rows ? round_up(rows, CHI_TILE) : r1;
    for (int64_t r = r0; r < end; r++) {
        uint8_t *tile = (uint8_t *)out + r / CHI_TILE * size;
        if (r % CHI_TILE == 0) memset(tile, 0, (size_t)size);
        if (r < r1)
            encode_row(tile, r % CHI_TILE, q + (r - r0) * cols, scale + (r - r0) * groups, cols, group);
        else
            encode_row(tile, r % CHI_TILE, NULL, NULL, cols, group);
    }
}

static void decode(const void *in, int8_t *q, float *scale, int64_t rows, int64_t cols, int64_t group,
                   int64_t r0, int64_t r1)
{
    (void)rows;
    int64_t groups = ceil_div(cols, group);
    for (int64_t r = r0; r < r1; r++) {
        const uint8_t *tile = (const uint8_t *)in + r / CHI_TILE * tile_bytes(cols, group);
        int64_t lane = r % CHI_TILE;
        for (int64_t k = 0; k < cols; k++) {
            int64_t i = k / QUAD, n = i % QUADS / 2;
            const uint8_t *at = tile + i / QUADS * BLOCK + i % 2 * CHI_TILE + lane;
            int code = (at[n / 2 * 32] >> n % 2 * 4 & 15) | (at[SIGNS] >> (7 - n) & 1) << 4;
            q[(r - r0) * cols + k] = (int8_t)quad_trit(code, k % QUAD);
        }
        for (int64_t g = 0; g < groups; g++) {
            uint16_t h;
            memcpy(&h, tile + code_bytes(cols) + (g * CHI_TILE + lane) * 2, 2);
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
    .struct_size = sizeof kernel, .encoding = "sherry125", .integer = true, .run = run,
    .scratch_bytes = trits_scratch,
};
static const struct chi_encoding_ops ops = {
    .struct_size = sizeof ops, .values = "ternary", .bytes = bytes, .encode = encode, .decode = decode,
    .portable = &kernel, .holds = holds,
};
static const struct chi_component encoding = {
    .struct_size = sizeof encoding, .kind = CHI_ENCODING, .name = "sherry125", .revision = 1,
    .summary = "1.25 bits a weight, one zero in four, 16 rows side by side", .papers = "2601.07892", .ops = &ops,
};

CHI_PLUGIN(sherry125, .version = "1.0", .license = "MIT", .summary = "3:4 sparse ternary weights in 1.25 bits",
           .components = CHI_COMPONENTS(&encoding));
