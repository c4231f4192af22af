/* trits.h - what encodings of trits share: scales in fp16, and the product with rows that are unpacked first.
 *
 *     y = sum over groups g of alpha_g * sum over blocks b of g of float(sum t q) * step_b
 *
 * in the order of chimera/kernel.h.  The weights of an output are unpacked once for all rows of x.    */
#ifndef TRITS_H
#define TRITS_H

#include <chimera/format.h>
#include <chimera/kernel.h>
#include <chimera/math.h>

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t round_up(int64_t a, int64_t b)
{
    return ceil_div(a, b) * b;
}

/* ---- fp16: sign, 5 bits of exponent (bias 15), 10 of mantissa --------------------------------------- */

static inline double half_two_to(int e)                 /* -1022 <= e <= 1023                       */
{
    uint64_t u = (uint64_t)(e + 1023) << 52;
    double d;
    memcpy(&d, &u, sizeof d);
    return d;
}

/* Rounded to nearest even.  A unit in the last place of x is 2^(e - 10) with e = max(floor(log2 |x|), -14);
 * dividing by it is exact, adding 1.5 * 2^52 rounds to an integer, and a carry into the exponent comes
 * out right by itself.                                                                              */
static inline uint16_t half_from(float f)
{
    uint16_t sign = signbit(f) ? 0x8000 : 0;
    double x = (double)fabsf(f);
    int e = -14;
    if (!(x < 65520)) return sign | 0x7c00;
    while (x >= 2 * half_two_to(e)) e++;
    double ulps = (x * half_two_to(10 - e) + 6755399441055744.0) - 6755399441055744.0;
    return (uint16_t)(sign | ((int64_t)ulps + ((int64_t)(e + 14) << 10)));
}

static inline float half_to(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    float x = e == 31 ? (m ? NAN : INFINITY) : (float)((e ? m + 1024 : m) * half_two_to((e ? e : 1) - 25));
    return h & 0x8000 ? -x : x;
}

/* Is it a finite number that fp16 has?                                                               */
static inline bool half_holds(float f)
{
    uint16_t h = half_from(f);
    return (h & 0x7c00) != 0x7c00 && chi_bits(half_to(h)) == chi_bits(f);
}

/* ---- product ------------------------------------------------------------------------------------------ */

/* Trits of a row, zeros up to a multiple of 64, and at most one scale per block                       */
static inline int64_t trits_scratch(int64_t rows, int64_t d_in)
{
    (void)rows;
    int64_t cols = round_up(d_in, CHI_ACT_BLOCK);
    return cols + cols / CHI_ACT_BLOCK * (int64_t)sizeof(float);
}

static inline float trits_product(const int8_t *t, const float *alpha, const int8_t *q, const float *step,
                                  int64_t cols, int64_t group)
{
    float y = 0;
    for (int64_t g = 0; g * group < cols; g++) {
        float p = 0;
        int64_t end = (g + 1) * group < cols ? (g + 1) * group : cols;
        for (int64_t k0 = g * group; k0 < end; k0 += CHI_ACT_BLOCK) {
            int32_t sum = 0;
            for (int64_t k = k0; k < k0 + CHI_ACT_BLOCK; k++) sum += t[k] * q[k];
            p += (float)sum * step[k0 / CHI_ACT_BLOCK];
        }
        y += alpha[g] * p;
    }
    return y;
}

/* The portable kernel of an encoding, by its decode()                                                  */
static inline void trits_run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m,
                             int64_t o0, int64_t o1, void *scratch,
                             void (*decode)(const void *, int8_t *, float *, int64_t, int64_t, int64_t,
                                            int64_t, int64_t))
{
    int64_t cols = round_up(m->d_in, CHI_ACT_BLOCK), blocks = a->ldq / CHI_ACT_BLOCK;
    float *alpha = scratch;                              /* [groups], no more than blocks             */
    int8_t *t = (int8_t *)(alpha + cols / CHI_ACT_BLOCK);
    memset(t, 0, (size_t)cols);
    for (int64_t o = o0; o < o1; o++) {
        decode(m->bytes, t, alpha, m->d_out, m->d_in, m->group, o, o + 1);
        for (int64_t r = 0; r < a->rows; r++)
            y[r * ldy + o - o0] = trits_product(t, alpha, a->q + r * a->ldq, a->step + r * blocks, m->d_in,
                                                m->group);
    }
}

#endif
