/* linear_int8.c - y = W x, int8 weights with a scale per row, int8 activations.
 *
 * Few rows: vpmaddubsw wants one unsigned operand: |q| with the sign of q moved to the weight,
 * |q| * (w sign(q)), at most 2 * 127 * 127 < 2^15 per pair; vpmaddwd by 1 adds pairs to one int32
 * per output.  A dword of weights is 4 k of one row, so a dword of activations is broadcast.
 *
 * Some rows: |w| instead, which four rows share.
 *
 * Many rows: both sides are widened to 16 bits, a tile's weights once for all rows, the activations
 * once a call; then vpmaddwd and vpaddd are all that four rows x 16 outputs need.                  */
#include "avx2.h"
#include <string.h>

static inline __m256i dword(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

/* ---- few rows --------------------------------------------------------------------------- */

/* Row r times SIDE tiles, each of them a stream of memory; of four the CPU fetches the next lines
 * itself, at the pace of reading.  Here |q| is the unsigned operand and w takes the sign of q, which
 * the tiles share                                                                             */
enum { SIDE = 4 };

static void side_tiles(float *const y[SIDE], const int64_t width[SIDE], const int8_t *const tile[SIDE],
                       const struct chi_act *a, int64_t r, int64_t blocks)
{
    const float *steps = a->step + r * (a->ldq / CHI_ACT_BLOCK);
    __m256 p[2 * SIDE];
    UNROLL
    for (int h = 0; h < 2 * SIDE; h++) p[h] = _mm256_setzero_ps();
    for (int64_t b = 0; b < blocks; b++) {
        __m256i s[2 * SIDE];
        const int8_t *q = a->q + r * a->ldq + b * CHI_ACT_BLOCK;
        int64_t at = b * CHI_ACT_BLOCK * CHI_TILE;
        UNROLL
        for (int h = 0; h < 2 * SIDE; h++) s[h] = _mm256_setzero_si256();
        for (int64_t k = 0; k < CHI_ACT_BLOCK; k += 4, at += 64) {
            __m256i x = dword(q + k), abs = _mm256_abs_epi8(x);
            UNROLL
            for (int h = 0; h < 2 * SIDE; h++) {
                const int8_t *w = tile[h / 2] + at + h % 2 * 32;
                __m256i v = _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *)(const void *)w), x);
                s[h] = _mm256_add_epi32(s[h], _mm256_madd_epi16(_mm256_maddubs_epi16(abs, v), _mm256_set1_epi16(1)));
            }
        }
        __m256 step = _mm256_set1_ps(steps[b]);
        UNROLL
        for (int h = 0; h < 2 * SIDE; h++) p[h] = muladd(p[h], _mm256_cvtepi32_ps(s[h]), step);
    }
    for (int t = 0; t < SIDE; t++) {
        const float *scale = (const float *)(const void *)(tile[t] + blocks * CHI_ACT_BLOCK * CHI_TILE);
        __m256 zero = _mm256_setzero_ps();
        _mm256_maskstore_ps(y[t], first(width[t]), muladd(zero, _mm256_loadu_ps(scale), p[2 * t]));
        if (width[t] > 8)
            _mm256_maskstore_ps(y[t] + 8, first(width[t] - 8), muladd(zero, _mm256_loadu_ps(scale + 8), p[2 * t + 1]));
    }
}

/* Few rows meet each four tiles one after the other.  The four come from the quarters of the range;
 * what is missing in the last one is its last tile once more                                   */
static void run_few(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0, int64_t o1)
{
    int64_t blocks = (m->d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK, size = (blocks * CHI_ACT_BLOCK + 4) * CHI_TILE;
    int64_t tiles = (o1 - o0 + CHI_TILE - 1) / CHI_TILE, part = (tiles + SIDE - 1) / SIDE;
    const int8_t *w = (const int8_t *)m->bytes + o0 / CHI_TILE * size;
    for (int64_t i = 0; i < part; i++) {
        int64_t o[SIDE], width[SIDE];
        const int8_t *tile[SIDE];
        for (int t = 0; t < SIDE; t++) {
            int64_t n = t * part + i < tiles ? t * part + i : tiles - 1;
            o[t] = n * CHI_TILE;
            width[t] = o1 - o0 - o[t];
            tile[t] = w + n * size;
        }
        for (int64_t r = 0; r < a->rows; r++) {
            float *out[SIDE] = { y + r * ldy + o[0], y + r * ldy + o[1], y + r * ldy + o[2], y + r * ldy + o[3] };
            side_tiles(out, width, tile, a, r, blocks);
        }
    }
}

/* ---- some rows -------------------------------------------------------------------------- */

enum { FEW = 3, MANY = 12, AHEAD = 3072 };  /* most of few rows, least of many; bytes asked for early  */

static inline __m256i dot4(__m256i sum, __m256i abs, __m256i w, __m256i q)
{
    __m256i pairs = _mm256_maddubs_epi16(abs, _mm256_sign_epi8(q, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* rows (1 or 4) of activations times one tile; width outputs exist                    */
static inline __attribute__((always_inline))
void some_rows(float *y, int64_t ldy, const struct chi_act *a, int64_t r0, const int8_t *w,
               int64_t blocks, int rows, int64_t width)
{
    __m256 p[4][2];
    const float *scale = (const float *)(const void *)(w + blocks * CHI_ACT_BLOCK * CHI_TILE);
    UNROLL
    for (int r = 0; r < rows; r++) p[r][0] = p[r][1] = _mm256_setzero_ps();
    for (int64_t b = 0; b < blocks; b++) {
        __m256i s[4][2];
        const int8_t *q = a->q + r0 * a->ldq + b * CHI_ACT_BLOCK;
        UNROLL
        for (int r = 0; r < rows; r++) s[r][0] = s[r][1] = _mm256_setzero_si256();
        for (int k = 0; k < CHI_ACT_BLOCK; k += 4, w += 64) {
            if (r0 == 0) _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
            __m256i lo = _mm256_loadu_si256((const __m256i *)(const void *)w);
            __m256i hi = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));
            __m256i alo = _mm256_abs_epi8(lo), ahi = _mm256_abs_epi8(hi);
            UNROLL
            for (int r = 0; r < rows; r++) {
                __m256i x = dword(q + r * a->ldq + k);
                s[r][0] = dot4(s[r][0], alo, lo, x);
                s[r][1] = dot4(s[r][1], ahi, hi, x);
            }
        }
        UNROLL
        for (int r = 0; r < rows; r++) {
            __m256 step = _mm256_set1_ps(a->step[(r0 + r) * (a->ldq / CHI_ACT_BLOCK) + b]);
            p[r][0] = muladd(p[r][0], _mm256_cvtepi32_ps(s[r][0]), step);
            p[r][1] = muladd(p[r][1], _mm256_cvtepi32_ps(s[r][1]), step);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        __m256 zero = _mm256_setzero_ps();
        _mm256_maskstore_ps(y + r * ldy, first(width), muladd(zero, _mm256_loadu_ps(scale), p[r][0]));
        if (width > 8)
            _mm256_maskstore_ps(y + r * ldy + 8, first(width - 8),
                                muladd(zero, _mm256_loadu_ps(scale + 8), p[r][1]));
    }
}

static void run_some(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                     int64_t o1)
{
    int64_t blocks = (m->d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK;
    for (int64_t o = o0; o < o1; o += CHI_TILE) {
        const int8_t *w = (const int8_t *)m->bytes + o * (blocks * CHI_ACT_BLOCK + 4);
        int64_t width = o1 - o < CHI_TILE ? o1 - o : CHI_TILE, r = 0;
        for (; r + 4 <= a->rows; r += 4) some_rows(y + r * ldy + o - o0, ldy, a, r, w, blocks, 4, width);
        for (; r < a->rows; r++) some_rows(y + r * ldy + o - o0, ldy, a, r, w, blocks, 1, width);
    }
}

/* ---- many rows ------------------------------------------------------------------------- */

/* SLICE blocks of a tile, and of four rows, lie in L1 together; at most ROWS rows share widened weights.
 * Of four k the pairs are k, k + 2 and k + 1, k + 3: those that shifts of 16 bits give                */
enum { SLICE = 4, ROWS = 32, QUADS = CHI_ACT_BLOCK / 4 };

struct fours { int16_t q[QUADS][2][4][2]; float step[4]; };     /* a block of four rows   */

struct work {                                           /* in the scratch, 64-aligned  */
    int16_t w[SLICE * QUADS][2][CHI_TILE][2];
    float   p[ROWS][CHI_TILE];
    struct fours act[];                                 /* in the order of their use   */
};

static inline __m256i even(__m256i v)                   /* bytes 0, 2, .. to 16 bits   */
{
    return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
}

static inline __m256i odd(__m256i v)
{
    return _mm256_srai_epi16(v, 8);
}

static void widen(int16_t w[][2][CHI_TILE][2], const int8_t *tile, int64_t quads)
{
    for (int64_t i = 0; i < quads; i++)
        for (int h = 0; h < 2; h++) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(tile + 64 * i + 32 * h));
            _mm256_store_si256((__m256i *)(void *)w[i][0][8 * h], even(v));
            _mm256_store_si256((__m256i *)(void *)w[i][1][8 * h], odd(v));
        }
}

/* In each half: dword i of the four v[] to the four dwords of out[i]                           */
static inline void turn4(__m256i out[4], const __m256i v[4])
{
    __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpacklo_epi32(v[2], v[3]);
    __m256i c = _mm256_unpackhi_epi32(v[0], v[1]), d = _mm256_unpackhi_epi32(v[2], v[3]);
    out[0] = _mm256_unpacklo_epi64(a, b), out[1] = _mm256_unpackhi_epi64(a, b);
    out[2] = _mm256_unpacklo_epi64(c, d), out[3] = _mm256_unpackhi_epi64(c, d);
}

/* Block b of rows r .. r + n of the activations; rows 4 - n that do not exist are 0            */
static void take_fours(struct fours *f, const struct chi_act *a, int64_t r, int64_t n, int64_t b)
{
    for (int half = 0; half < 2; half++) {
        __m256i e[4], o[4], x[4], z[4];
        for (int j = 0; j < 4; j++) {
            __m256i v = _mm256_setzero_si256();
            const int8_t *q = a->q + (r + j) * a->ldq + CHI_ACT_BLOCK * b + 32 * half;
            if (j < n) v = _mm256_loadu_si256((const __m256i *)(const void *)q);
            e[j] = even(v), o[j] = odd(v);
        }
        turn4(x, e), turn4(z, o);
        for (int i = 0; i < 4; i++) {
            __m256i *at = (__m256i *)(void *)f->q[8 * half + i];
            _mm256_storeu_si256(at, _mm256_permute2x128_si256(x[i], z[i], 0x20));
            _mm256_storeu_si256(at + 4, _mm256_permute2x128_si256(x[i], z[i], 0x31));
        }
    }
    for (int j = 0; j < 4; j++) f->step[j] = j < n ? a->step[(r + j) * (a->ldq / CHI_ACT_BLOCK) + b] : 0;
}

#define ROW(lo, hi, at)                                                                     \
    "vpbroadcastd " #at "(%[q]), %[x]\n\t"                                                  \
    "vpmaddwd %[x], %[a], %[t]\n\t"                                                         \
    "vpmaddwd %[x], %[b], %[x]\n\t"                                                         \
    "vpaddd %[t], %[" #lo "], %[" #lo "]\n\t"                                               \
    "vpaddd %[x], %[" #hi "], %[" #hi "]\n\t"
#define PAIR(w0, w1, q0, q1, q2, q3)                                                        \
    "vmovdqa " #w0 "(%[w]), %[a]\n\tvmovdqa " #w1 "(%[w]), %[b]\n\t"                        \
    ROW(s0, s1, q0) ROW(s2, s3, q1) ROW(s4, s5, q2) ROW(s6, s7, q3)

/* s[2r + h] += 16 k of row r times outputs 8h .. 8h + 7; assembler, because compilers spill     */
static inline __attribute__((always_inline)) void piece(__m256i s[8], const void *w, const void *q)
{
    __m256i a, b, x, t;
    __asm__ volatile(
            PAIR(0, 32, 0, 4, 8, 12) PAIR(64, 96, 16, 20, 24, 28)
            PAIR(128, 160, 32, 36, 40, 44) PAIR(192, 224, 48, 52, 56, 60)
            PAIR(256, 288, 64, 68, 72, 76) PAIR(320, 352, 80, 84, 88, 92)
            PAIR(384, 416, 96, 100, 104, 108) PAIR(448, 480, 112, 116, 120, 124)
            : [s0] "+x"(s[0]), [s1] "+x"(s[1]), [s2] "+x"(s[2]), [s3] "+x"(s[3]), [s4] "+x"(s[4]),
              [s5] "+x"(s[5]), [s6] "+x"(s[6]), [s7] "+x"(s[7]), [a] "=&x"(a), [b] "=&x"(b),
              [x] "=&x"(x), [t] "=&x"(t)
            : [w] "r"(w), [q] "r"(q) : "memory");
}

/* p[4][16] += a block of four rows times the widened weights at w                              */
static inline void block64(float (*p)[CHI_TILE], const int16_t (*w)[2][CHI_TILE][2], const struct fours *f)
{
    __m256i s[8];
    UNROLL
    for (int j = 0; j < 8; j++) s[j] = _mm256_setzero_si256();
    for (int i = 0; i < QUADS; i += 4) piece(s, w[i], f->q[i]);
    UNROLL
    for (int j = 0; j < 8; j++) {
        float *at = p[j / 2] + j % 2 * 8;
        __m256 step = _mm256_broadcast_ss(&f->step[j / 2]);
        _mm256_store_ps(at, muladd(_mm256_load_ps(at), _mm256_cvtepi32_ps(s[j]), step));
    }
}

static void put(float *y, int64_t width, const float *p, const float *scale)
{
    for (int64_t i = 0; i < CHI_TILE && i < width; i += 8) {
        __m256 v = muladd(_mm256_setzero_ps(), _mm256_loadu_ps(scale + i), _mm256_load_ps(p + i));
        store(y + i, width - i, v);
    }
}

/* One tile times up to ROWS rows; the lines of the next slice are asked for by all blocks of this one     */
static void tile_rows(float *y, int64_t ldy, int64_t rows, const int8_t *tile, int64_t blocks, int64_t width,
                      struct work *k)
{
    enum { LINE = 64, LINES = CHI_ACT_BLOCK * CHI_TILE / LINE };    /* of a block           */
    int64_t fours = (rows + 3) / 4, share = (LINES + fours - 1) / fours;
    const struct fours *f = k->act;
    memset(k->p, 0, (size_t)(4 * fours) * sizeof k->p[0]);
    for (int64_t b = 0; b < blocks; b += SLICE) {
        const int8_t *w = tile + b * CHI_ACT_BLOCK * CHI_TILE, *soon = w + SLICE * CHI_ACT_BLOCK * CHI_TILE;
        int64_t n = blocks - b < SLICE ? blocks - b : SLICE;
        widen(k->w, w, n * QUADS);
        for (int64_t r = 0; r < rows; r += 4)
            for (int64_t i = 0; i < n; i++, f++) {
                for (int64_t j = 0; j < share; j++, soon += LINE)
                    _mm_prefetch((const char *)soon, _MM_HINT_T0);
                block64(k->p + r, (const int16_t (*)[2][CHI_TILE][2])(k->w + i * QUADS), f);
            }
    }
    const float *scale = (const float *)(const void *)(tile + blocks * CHI_ACT_BLOCK * CHI_TILE);
    for (int64_t r = 0; r < rows; r++) put(y + r * ldy, width, k->p[r], scale);
}

static void run_many(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                     int64_t o1, struct work *k)
{
    int64_t blocks = (m->d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK;
    struct fours *f = k->act;
    for (int64_t b = 0; b < blocks; b += SLICE)
        for (int64_t r = 0; r < a->rows; r += 4)
            for (int64_t i = b; i < b + SLICE && i < blocks; i++) take_fours(f++, a, r, a->rows - r, i);
    for (int64_t o = o0; o < o1; o += CHI_TILE) {
        const int8_t *tile = (const int8_t *)m->bytes + o * (blocks * CHI_ACT_BLOCK + 4);
        tile_rows(y + o - o0, ldy, a->rows, tile, blocks, o1 - o, k);
    }
}

/* The rows from r on, at most n                                                               */
static struct chi_act rows_from(const struct chi_act *a, int64_t r, int64_t n)
{
    struct chi_act part = *a;
    part.rows = a->rows - r < n ? a->rows - r : n;
    part.q += r * a->ldq;
    part.step += r * (a->ldq / CHI_ACT_BLOCK);
    return part;
}

static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                int64_t o0, int64_t o1, void *scratch)
{
    for (int64_t r = 0; r < a->rows; r += ROWS) {
        struct chi_act part = rows_from(a, r, ROWS);
        if (part.rows <= FEW) run_few(y + r * ldy, ldy, &part, m, o0, o1);
        else if (part.rows < MANY) run_some(y + r * ldy, ldy, &part, m, o0, o1);
        else run_many(y + r * ldy, ldy, &part, m, o0, o1, scratch);
    }
}

static int64_t scratch_bytes(int64_t rows, int64_t d_in)
{
    int64_t fours = ((rows < ROWS ? rows : ROWS) + 3) / 4;
    int64_t blocks = (d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK;
    return rows < MANY ? 0 : (int64_t)(sizeof(struct work) + (size_t)(fours * blocks) * sizeof(struct fours));
}

const struct chi_linear_kernel avx2_linear_int8 = {
    .struct_size = sizeof avx2_linear_int8, .encoding = "int8", .integer = true, .run = run,
    .scratch_bytes = scratch_bytes,
};
