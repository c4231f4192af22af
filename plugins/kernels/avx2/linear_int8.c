/* linear_int8.c - y = W x, int8 weights with a scale per row, int8 activations.
 *
 * One row and two: vpmaddubsw wants one unsigned operand: |q| with the sign of q moved to the weight,
 * |q| * (w sign(q)), at most 2 * 127 * 127 < 2^15 per pair; vpmaddwd by 1 adds pairs to one int32
 * per output.  A dword of weights is 4 k of one row, so a dword of activations is broadcast.
 *
 * More rows: two to four share weights that are widened to 16 bits in registers, so that vpmaddwd and
 * vpaddd are all that a row takes.                                                              */
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

/* ---- more rows --------------------------------------------------------------------------- *
 *
 * Of four k, a dword of weights, a 16-bit word v holds w0 and w1, another w2 and w3.  With v' = v ^ 0x80
 * and its arithmetic shift by 8,
 *
 *     v' = 256 w1 + (w0 + 128),  w1 = v' >> 8:    w0 q0 + w1 q1 = v' q0 + w1 (q1 - 256 q0) - 128 q0
 *
 * so that vpmaddwd takes v' with pairs q0, q2 and the shift with pairs q1 - 256 q0, q3 - 256 q2, which
 * fit 16 bits, and an accumulator starts at -128 sum q0.  Two operations widen 32 weights for up to
 * four rows.                                                                                        */

/* SLICE blocks of a tile, and of all rows, lie in L1 together                                       */
enum { FEW = 2, MOST = 4, SLICE = 4, ROWS = 32, QUADS = CHI_ACT_BLOCK / 4 };

/* A block of up to four rows                                                                       */
struct fours { int16_t q[QUADS][2][4][2]; int32_t start[4]; float step[4]; };

struct work {                                           /* in the scratch, 64-aligned  */
    float p[ROWS][CHI_TILE];
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

/* In each half: dword i of the four v[] to the four dwords of out[i]                           */
static inline void turn4(__m256i out[4], const __m256i v[4])
{
    __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpacklo_epi32(v[2], v[3]);
    __m256i c = _mm256_unpackhi_epi32(v[0], v[1]), d = _mm256_unpackhi_epi32(v[2], v[3]);
    out[0] = _mm256_unpacklo_epi64(a, b), out[1] = _mm256_unpackhi_epi64(a, b);
    out[2] = _mm256_unpacklo_epi64(c, d), out[3] = _mm256_unpackhi_epi64(c, d);
}

/* -128 times the sums of the 16-bit values of v[0] .. v[3]                                       */
static inline __m128i starts(const __m256i v[4])
{
    __m256i s[4];
    UNROLL
    for (int j = 0; j < 4; j++) s[j] = _mm256_madd_epi16(v[j], _mm256_set1_epi16(-128));
    __m256i t = _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
}

/* Block b of rows r .. r + n of the activations; rows 4 - n that do not exist are 0            */
static void take_fours(struct fours *f, const struct chi_act *a, int64_t r, int64_t n, int64_t b)
{
    __m256i sum[4];
    for (int j = 0; j < 4; j++) sum[j] = _mm256_setzero_si256();
    for (int half = 0; half < 2; half++) {
        __m256i e[4], o[4], x[4], z[4];
        for (int j = 0; j < 4; j++) {
            __m256i v = _mm256_setzero_si256();
            const int8_t *q = a->q + (r + j) * a->ldq + CHI_ACT_BLOCK * b + 32 * half;
            if (j < n) v = _mm256_loadu_si256((const __m256i *)(const void *)q);
            e[j] = even(v);
            o[j] = _mm256_sub_epi16(odd(v), _mm256_slli_epi16(v, 8));
            sum[j] = _mm256_add_epi16(sum[j], e[j]);
        }
        turn4(x, e), turn4(z, o);
        for (int i = 0; i < 4; i++) {
            __m256i *at = (__m256i *)(void *)f->q[8 * half + i];
            _mm256_storeu_si256(at, _mm256_permute2x128_si256(x[i], z[i], 0x20));
            _mm256_storeu_si256(at + 4, _mm256_permute2x128_si256(x[i], z[i], 0x31));
        }
    }
    _mm_storeu_si128((__m128i *)(void *)f->start, starts(sum));
    for (int j = 0; j < 4; j++) f->step[j] = j < n ? a->step[(r + j) * (a->ldq / CHI_ACT_BLOCK) + b] : 0;
}

#define ROW(a, b, lo, hi, at)                                                               \
    "vpbroadcastd " #at "(%[q]), %[x]\n\t"                                                  \
    "vpmaddwd %[x], %[" #a "], %[t]\n\t"                                                    \
    "vpmaddwd %[x], %[" #b "], %[x]\n\t"                                                    \
    "vpaddd %[t], %[" #lo "], %[" #lo "]\n\t"                                               \
    "vpaddd %[x], %[" #hi "], %[" #hi "]\n\t"
#define TWO(a, b, q0, q1, q2, q3)   ROW(a, b, s0, s1, q0) ROW(a, b, s2, s3, q1)
#define THREE(a, b, q0, q1, q2, q3) TWO(a, b, q0, q1, q2, q3) ROW(a, b, s4, s5, q2)
#define FOUR(a, b, q0, q1, q2, q3)  THREE(a, b, q0, q1, q2, q3) ROW(a, b, s6, s7, q3)
#define QUAD(rows, w0, w1, q0, q1, q2, q3, q4, q5, q6, q7)                                  \
    "vpxor " #w0 "(%[w]), %[bias], %[a]\n\tvpxor " #w1 "(%[w]), %[bias], %[b]\n\t"          \
    "vpsraw $8, %[a], %[c]\n\tvpsraw $8, %[b], %[d]\n\t"                                    \
    rows(a, b, q0, q1, q2, q3) rows(c, d, q4, q5, q6, q7)
#define PIECE(rows)                                                                         \
    QUAD(rows, 0, 32, 0, 4, 8, 12, 16, 20, 24, 28)                                          \
    QUAD(rows, 64, 96, 32, 36, 40, 44, 48, 52, 56, 60)                                      \
    QUAD(rows, 128, 160, 64, 68, 72, 76, 80, 84, 88, 92)                                    \
    QUAD(rows, 192, 224, 96, 100, 104, 108, 112, 116, 120, 124)
#define SUM(i) [s##i] "+x"(s[i])
#define TEMPORARIES [a] "=&x"(a), [b] "=&x"(b), [c] "=&x"(c), [d] "=&x"(d), [x] "=&x"(x), [t] "=&x"(t)
#define INPUTS [w] "r"(w), [q] "r"(q), [bias] "x"(_mm256_set1_epi16(0x80))

/* s[2r + h] += 16 k of row r times outputs 8h .. 8h + 7; assembler, because compilers spill     */
static inline __attribute__((always_inline))
void piece(__m256i s[2 * MOST], const int8_t *w, const void *q, int rows)
{
    __m256i a, b, c, d, x, t;
    if (rows == 2)
        __asm__ volatile(PIECE(TWO) : SUM(0), SUM(1), SUM(2), SUM(3), TEMPORARIES : INPUTS : "memory");
    else if (rows == 3)
        __asm__ volatile(PIECE(THREE)
                         : SUM(0), SUM(1), SUM(2), SUM(3), SUM(4), SUM(5), TEMPORARIES : INPUTS : "memory");
    else
        __asm__ volatile(PIECE(FOUR)
                         : SUM(0), SUM(1), SUM(2), SUM(3), SUM(4), SUM(5), SUM(6), SUM(7), TEMPORARIES
                         : INPUTS : "memory");
}

/* p[4][16] += a block of rows (2 to 4) times the 1024 bytes at w                                */
static inline __attribute__((always_inline))
void block64(float (*p)[CHI_TILE], const int8_t *w, const struct fours *f, int rows)
{
    __m256i s[2 * MOST];
    UNROLL
    for (int j = 0; j < 2 * rows; j++) s[j] = _mm256_set1_epi32(f->start[j / 2]);
    for (int i = 0; i < QUADS; i += 4) piece(s, w + 64 * i, f->q[i], rows);
    UNROLL
    for (int j = 0; j < 2 * rows; j++) {
        float *at = p[j / 2] + j % 2 * 8;
        __m256 step = _mm256_broadcast_ss(&f->step[j / 2]);
        _mm256_store_ps(at, muladd(_mm256_load_ps(at), _mm256_cvtepi32_ps(s[j]), step));
    }
}

/* n blocks; the lines of the slice at soon, share for each block, are asked for                 */
static inline __attribute__((always_inline))
void slice(float (*p)[CHI_TILE], const int8_t *w, const struct fours *f, int64_t n, const int8_t *soon,
           int64_t share, int rows)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < share; j++, soon += 64) _mm_prefetch((const char *)soon, _MM_HINT_T0);
        block64(p, w + i * CHI_ACT_BLOCK * CHI_TILE, f + i, rows);
    }
}

/* The next rows of those that are left: fours, and threes where a single row or two would remain    */
static int64_t some(int64_t rows)
{
    return rows == 5 || rows == 6 || rows == 9 ? 3 : rows < MOST ? rows : MOST;
}

static void put(float *y, int64_t width, const float *p, const float *scale)
{
    for (int64_t i = 0; i < CHI_TILE && i < width; i += 8) {
        __m256 v = muladd(_mm256_setzero_ps(), _mm256_loadu_ps(scale + i), _mm256_load_ps(p + i));
        store(y + i, width - i, v);
    }
}

/* One tile times up to ROWS rows                                                                */
static void tile_rows(float *y, int64_t ldy, int64_t rows, const int8_t *tile, int64_t blocks, int64_t width,
                      struct work *k)
{
    enum { BYTES = CHI_ACT_BLOCK * CHI_TILE };          /* of a block                      */
    const struct fours *f = k->act;
    int64_t share = (SLICE * BYTES / 64 + rows - 1) / rows;     /* lines that a block asks for     */
    memset(k->p, 0, (size_t)rows * sizeof k->p[0]);
    for (int64_t b = 0; b < blocks; b += SLICE) {
        const int8_t *w = tile + b * BYTES, *soon = w + SLICE * BYTES;
        int64_t n = blocks - b < SLICE ? blocks - b : SLICE, m;
        for (int64_t r = 0; r < rows; r += m, f += n, soon += 64 * n * share) {
            m = some(rows - r);
            if (m == 4) slice(k->p + r, w, f, n, soon, share, 4);
            else if (m == 3) slice(k->p + r, w, f, n, soon, share, 3);
            else slice(k->p + r, w, f, n, soon, share, 2);
        }
    }
    const float *scale = (const float *)(const void *)(tile + blocks * BYTES);
    for (int64_t r = 0; r < rows; r++) put(y + r * ldy, width, k->p[r], scale);
}

static void run_many(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0,
                     int64_t o1, struct work *k)
{
    int64_t blocks = (m->d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK;
    struct fours *f = k->act;
    for (int64_t b = 0; b < blocks; b += SLICE)
        for (int64_t r = 0, n; r < a->rows; r += n) {
            n = some(a->rows - r);
            for (int64_t i = b; i < b + SLICE && i < blocks; i++) take_fours(f++, a, r, n, i);
        }
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
        else run_many(y + r * ldy, ldy, &part, m, o0, o1, scratch);
    }
}

static int64_t scratch_bytes(int64_t rows, int64_t d_in)
{
    int64_t fours = (rows < ROWS ? rows : ROWS) / 3 + 1;
    int64_t blocks = (d_in + CHI_ACT_BLOCK - 1) / CHI_ACT_BLOCK;
    return rows <= FEW ? 0 : (int64_t)(sizeof(struct work) + (size_t)(fours * blocks) * sizeof(struct fours));
}

const struct chi_linear_kernel avx2_linear_int8 = {
    .struct_size = sizeof avx2_linear_int8, .encoding = "int8", .integer = true, .run = run,
    .scratch_bytes = scratch_bytes,
};
