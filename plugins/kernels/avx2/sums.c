/* sums.c - ternary2 times 13 to 16 rows of activations by tables of sums (method of the four Russians).
 *
 * Four weights of an output have 81 values.  For four k, a table holds all 81 sums t0 a0 + .. + t3 a3,
 * each of them for 16 rows (16-bit lanes, one register): then four weights cost one addition, where
 * vpmaddubsw takes two and two additions.  A byte of ternary2 is the four weights k = c, c + 4, c + 8,
 * c + 12 of one output, that is a number in a table.  Eight tables (32 k, 20 KB) lie in L1 and serve all
 * outputs of the call before the next eight are made, which pays when there are some hundred outputs.
 * Ways into the tables are made one tile ahead, so that no look-up waits for codes.
 * Within a block of 64 k |sum| <= 64 * 127: 16 bits are exact.  Lane = row: steps and scales come to the
 * sums in the order of kernel.h.  Sums begin at BIAS, as unsigned numbers at 2^15, so that the bytes of 2^23
 * above them make floats without a conversion; the rows of floats lie as place() says.               */
#include "sums.h"
#include <string.h>

enum { LANES = 16, BLOCK = 256, HALF = 128, TABLES = 8, OUTPUTS = 1280 };

/* The way of u0 + 4 u1 + 16 u2 + 64 u3, as a byte of ternary2 has them, less itself shifted by a field: at most
 * 128; a table's length is such that the lines in use of all eight are spread over L1                        */
enum { U1 = 3, U2 = 12, U3 = 48, VALUES = 145 };

/* In the scratch, 64-aligned                                                                            */
struct work {
    int16_t  table[TABLES][VALUES][LANES];
    int16_t  q[CHI_ACT_BLOCK][LANES];                   /* of a block: [k][row]                          */
    float    step[PER_GROUP][LANES];
    uint16_t at[2][2][CHI_TILE][4];                     /* ways: of a tile and the next, of 16 k, outputs,
                                                           tables                                       */
    int16_t  sum[PER_GROUP][OUTPUTS][LANES];            /* of a group's blocks                           */
    float    y[OUTPUTS][LANES];
};

int64_t sums_scratch(void)
{
    return sizeof(struct work);
}

INLINE __m256i load16(const int16_t *p)
{
    return _mm256_load_si256((const __m256i *)(const void *)p);
}

INLINE __m128i load128(const void *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

INLINE void store16(void *p, __m256i v)
{
    _mm256_store_si256((__m256i *)p, v);
}

/* ---- activations --------------------------------------------------------------------------------------- */

/* 16 rows x 16 k of bytes to w->q[k][row]: four rounds of interleaving turn [row][k] over                */
static void turn_over(struct work *w, const struct chi_act *a, int64_t k, int64_t to)
{
    __m128i x[LANES], y[LANES];
    UNROLL
    for (int r = 0; r < LANES; r++)
        x[r] = r < a->rows ? load128(a->q + r * a->ldq + k) : _mm_setzero_si128();
    for (int round = 0; round < 4; round++) {
        UNROLL
        for (int i = 0; i < LANES / 2; i++) {
            y[2 * i] = _mm_unpacklo_epi8(x[i], x[i + 8]);
            y[2 * i + 1] = _mm_unpackhi_epi8(x[i], x[i + 8]);
        }
        memcpy(x, y, sizeof x);
    }
    UNROLL
    for (int i = 0; i < LANES; i++) store16(w->q[to + i], _mm256_cvtepi8_epi16(x[i]));
}

/* The order in which unpacklo and unpackhi leave 16 lanes: 0-3, 8-11, 4-7, 12-15                         */
static int64_t place(int64_t r)
{
    return (r & 3) | (r & 4) << 1 | (r & 8) >> 1;
}

/* Rows that do not exist are zeros with step 0                                                           */
static void take_block(struct work *w, const struct chi_act *a, int64_t b)
{
    for (int64_t k = 0; k < CHI_ACT_BLOCK; k += LANES) turn_over(w, a, b * CHI_ACT_BLOCK + k, k);
    for (int64_t r = 0; r < LANES; r++)
        w->step[b % PER_GROUP][place(r)] = r < a->rows ? a->step[r * (a->ldq / CHI_ACT_BLOCK) + b] : 0;
}

/* s[u + 3v] = (u - 1) a + (v - 1) b                                                                      */
INLINE void nine(__m256i s[9], __m256i a, __m256i b)
{
    s[4] = _mm256_setzero_si256();
    s[5] = a;
    s[3] = _mm256_sub_epi16(s[4], a);
    s[7] = b;
    s[1] = _mm256_sub_epi16(s[4], b);
    s[8] = _mm256_add_epi16(a, b);
    s[6] = _mm256_sub_epi16(b, a);
    s[2] = _mm256_sub_epi16(a, b);
    s[0] = _mm256_sub_epi16(s[3], b);
}

static void make_table(int16_t table[VALUES][LANES], const int16_t *q)
{
    __m256i low[9], high[9];
    nine(low, load16(q), load16(q + 4 * LANES));
    nine(high, load16(q + 8 * LANES), load16(q + 12 * LANES));
    for (int j = 0; j < 9; j++)
        for (int i = 0; i < 9; i++)
            store16(table[U2 * (j % 3) + U3 * (j / 3) + i], _mm256_add_epi16(low[i], high[j]));
}

/* ---- weights ------------------------------------------------------------------------------------------- */

/* 64 bytes of fields to bytes from a table's start; a field of 3, which no encoder writes, stays inside the work */
INLINE void offsets(uint16_t *at, const uint8_t *codes)
{
    UNROLL
    for (int i = 0; i < 64; i += 16) {
        __m256i c = _mm256_cvtepu8_epi16(load128(codes + i));
        store16(at + i, _mm256_slli_epi16(_mm256_sub_epi16(c, _mm256_srli_epi16(c, 2)), 5));
    }
}

/* Half a block of all tiles: codes of the first                                                           */
struct half { const uint8_t *codes; int64_t stride, tiles; };

/* Ways of tile t, if there is one; its codes are asked for two tiles before, and from memory a pass before */
INLINE void find_ways(struct work *w, const struct half *h, int64_t t)
{
    if (t >= h->tiles) return;
    const uint8_t *codes = h->codes + t * h->stride;
    UNROLL
    for (int i = 0; i < HALF; i += 64) {
        if (t + 1 < h->tiles) _mm_prefetch((const char *)codes + h->stride + i, _MM_HINT_T0);
        _mm_prefetch((const char *)codes + HALF + i, _MM_HINT_T0);
    }
    offsets(w->at[t % 2][0][0], codes);
    offsets(w->at[t % 2][1][0], codes + HALF / 2);
    __asm__ volatile("" : : : "memory");                /* ways are read from memory, not taken apart     */
}

/* Assembler, because compilers turn the additions into a tree                                             */
INLINE __m256i plus(__m256i s, const void *table, uint64_t at)
{
    const uint8_t *p = (const uint8_t *)table + at;
    __asm__("vpaddw %1, %0, %0" : "+x"(s) : "m"(*(const __m256i *)(const void *)p));
    return s;
}

enum { SOME = 4, BIAS = INT16_MIN };                    /* outputs at once, where sums begin              */

/* s[i] += half a block of output o + i of tile t.  Four ways come with one load: loads are what is short   */
INLINE void look_up(__m256i s[SOME], const struct work *w, int64_t t, int64_t o)
{
    UNROLL
    for (int q = 0; q < 2; q++) {
        UNROLL
        for (int i = 0; i < SOME; i++) {
            uint64_t at;
            memcpy(&at, w->at[t % 2][q][o + i], sizeof at);
            s[i] = plus(s[i], w->table[4 * q + 0], at & 0xffff);
            s[i] = plus(s[i], w->table[4 * q + 1], at >> 16 & 0xffff);
            s[i] = plus(s[i], w->table[4 * q + 2], at >> 32 & 0xffff);
            s[i] = plus(s[i], w->table[4 * q + 3], at >> 48);
        }
    }
}

INLINE void add_half(struct work *w, int16_t (*sum)[LANES], const struct half *h, bool begins)
{
    find_ways(w, h, 0);
    for (int64_t t = 0; t < h->tiles; t++) {
        find_ways(w, h, t + 1);
        for (int o = 0; o < CHI_TILE; o += SOME, sum += SOME) {
            __m256i s[SOME];
            UNROLL
            for (int i = 0; i < SOME; i++) s[i] = begins ? _mm256_set1_epi16(BIAS) : load16(sum[i]);
            look_up(s, w, t, o);
            UNROLL
            for (int i = 0; i < SOME; i++) store16(sum[i], s[i]);
        }
    }
}

/* ---- steps and scales ---------------------------------------------------------------------------------- */

/* bits = 0x4b000000 + (sum + 2^15), that is the float 2^23 + 2^15 + sum                                    */
INLINE __m256 scaled(__m256i bits, __m256 step)
{
    return _mm256_mul_ps(_mm256_sub_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps((1 << 23) + (1 << 15))), step);
}

/* p = the sums s of a block, times its steps                                                              */
INLINE void scale_block(__m256 p[2], __m256i s, const __m256 step[2])
{
    const __m256i high = _mm256_set1_epi16(0x4b00);
    p[0] = scaled(_mm256_unpacklo_epi16(s, high), step[0]);
    p[1] = scaled(_mm256_unpackhi_epi16(s, high), step[1]);
}

/* y += scale * (sum[0] step[0] + sum[1] step[1]) of output o, whose last sum is s                          */
INLINE void end_output(struct work *w, int64_t o, __m256i s, float scale, int64_t blocks, const __m256 step[PER_GROUP][2])
{
    __m256 p[2], q[2];
    scale_block(p, s, step[blocks - 1]);
    if (blocks > 1) scale_block(q, load16(w->sum[0][o]), step[0]);
    UNROLL
    for (int i = 0; i < 2; i++) {
        float *y = w->y[o] + 8 * i;
        if (blocks > 1) p[i] = _mm256_add_ps(q[i], p[i]);
        _mm256_store_ps(y, muladd(_mm256_load_ps(y), _mm256_set1_ps(scale), p[i]));
    }
}

/* The last half block of a group, and its end                                                             */
INLINE void end_group(struct work *w, const struct half *h, const uint8_t *scales, int64_t blocks)
{
    _Alignas(32) float scale[CHI_TILE];
    const __m256 step[PER_GROUP][2] = { { _mm256_load_ps(w->step[0]), _mm256_load_ps(w->step[0] + 8) },
                                        { _mm256_load_ps(w->step[1]), _mm256_load_ps(w->step[1] + 8) } };
    find_ways(w, h, 0);
    for (int64_t t = 0; t < h->tiles; t++, scales += h->stride) {
        find_ways(w, h, t + 1);
        _mm256_store_ps(scale, fp16x8(scales));
        _mm256_store_ps(scale + 8, fp16x8(scales + 16));
        _mm_prefetch((const char *)scales + 64, _MM_HINT_T0);
        for (int64_t i = 0, o = t * CHI_TILE; i < CHI_TILE; i += SOME, o += SOME) {
            __m256i s[SOME];
            UNROLL
            for (int j = 0; j < SOME; j++) s[j] = load16(w->sum[blocks - 1][o + j]);
            look_up(s, w, t, i);
            UNROLL
            for (int j = 0; j < SOME; j++) end_output(w, o + j, s[j], scale[i + j], blocks, step);
        }
    }
}

static void make_tables(struct work *w, int64_t half)
{
    for (int i = 0; i < TABLES; i++) make_table(w->table[i], w->q[(2 * half + i / 4) * LANES + i % 4]);
}

/* A group of n blocks from b on, the first half of which is h; a last group may have one block            */
static void add_group(struct work *w, const struct chi_act *a, int64_t b, struct half h,
                      const uint8_t *scales, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        take_block(w, a, b + i);
        make_tables(w, 0);
        add_half(w, w->sum[i], &h, true);
        h.codes += HALF;
        make_tables(w, 1);
        if (i + 1 < n) add_half(w, w->sum[i], &h, false);
        else if (n > 1) end_group(w, &h, scales, 2);
        else end_group(w, &h, scales, 1);
        h.codes += HALF;
    }
}

/* n outputs, [output][row] to [row][output]                                                               */
static void put_rows(float *y, int64_t ldy, const struct work *w, int64_t rows, int64_t n)
{
    int64_t o = 0;
    for (; o + 4 <= n; o += 4)
        for (int64_t r = 0; r < rows; r += 4) {
            __m128 f[4];
            UNROLL
            for (int i = 0; i < 4; i++) f[i] = _mm_load_ps(w->y[o + i] + place(r));
            _MM_TRANSPOSE4_PS(f[0], f[1], f[2], f[3]);
            UNROLL
            for (int i = 0; i < 4; i++)
                if (r + i < rows) _mm_storeu_ps(y + (r + i) * ldy + o, f[i]);
        }
    for (; o < n; o++)
        for (int64_t r = 0; r < rows; r++) y[r * ldy + o] = w->y[o][place(r)];
}

/* At most OUTPUTS of them                                                                                  */
static void some_outputs(float *y, int64_t ldy, const struct chi_act *a, const uint8_t *tile, struct shape s,
                         int64_t n, struct work *w)
{
    int64_t tiles = (n + CHI_TILE - 1) / CHI_TILE;
    memset(w->y, 0, (size_t)(tiles * CHI_TILE) * sizeof *w->y);
    for (int64_t g = 0; g < s.nb; g += PER_GROUP) {
        int64_t blocks = s.nb - g < PER_GROUP ? s.nb - g : PER_GROUP;
        struct half h = { tile + BLOCK * g, s.tile, tiles };
        add_group(w, a, g, h, tile + s.codes + g / PER_GROUP * CHI_TILE * 2, blocks);
    }
    put_rows(y, ldy, w, a->rows, n);
}

void sums_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
              int64_t o1, void *scratch, const struct ternary *e)
{
    struct shape s = shape_of(e, m->d_in);
    for (int64_t o = o0; o < o1; o += OUTPUTS)
        some_outputs(y + o - o0, ldy, a, (const uint8_t *)m->bytes + o / CHI_TILE * s.tile, s,
                     o1 - o < OUTPUTS ? o1 - o : OUTPUTS, scratch);
}
