/* chimera/math.h - the transcendental functions of layers and kernels.
 *
 * libm picks other code, with other last bits, on other CPUs and versions; these
 * give the same bits wherever float is IEEE 754 and a*b+c is not contracted
 * (-ffp-contract=off).  Set-up code, which runs once, may use libm.  Polynomials
 * are the minimax ones of Cephes (Moshier, 1984-), expf and logf.              */
#ifndef CHIMERA_MATH_H
#define CHIMERA_MATH_H

#include <math.h>
#include <string.h>
#include "base.h"

static inline uint32_t chi_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float chi_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2, e^r by a polynomial of degree
 * 7; within 2 ulp.  2^n is applied in two halves so that denormals come out.   */
static inline float chi_exp(float x)
{
    if (!(x < 88.72f)) return x * INFINITY;                 /* NaN stays NaN    */
    if (x < -103.9f) return 0;
    int32_t n = (int32_t)(x * 1.44269504f + (x < 0 ? -0.5f : 0.5f));
    float r = x - (float)n * 0.693359375f;
    r = r + (float)n * 2.12194440e-4f;
    float p = 1.98756915e-4f;
    p = p * r + 1.39819995e-3f;
    p = p * r + 8.33345191e-3f;
    p = p * r + 4.16657959e-2f;
    p = p * r + 1.66666655e-1f;
    p = p * r + 5.00000012e-1f;
    p = (p * (r * r) + r) + 1.0f;
    int32_t a = n / 2, b = n - a;
    p *= chi_float((uint32_t)(a + 127) << 23);
    return p * chi_float((uint32_t)(b + 127) << 23);
}

/* ln x = ln m + e ln 2 with m in [sqrt(1/2), sqrt(2)); within 2 ulp.           */
static inline float chi_log(float x)
{
    if (!(x > 0)) return x == 0 ? -INFINITY : NAN;
    if (x > 3.4028235e38f) return x;
    int32_t e = 0;
    if (x < 1.17549435e-38f) { x *= 8388608.0f; e = -23; }  /* denormal         */
    uint32_t u = chi_bits(x);
    e += (int32_t)(u >> 23) - 126;
    float m = chi_float((u & 0x007fffffu) | 0x3f000000u);   /* [1/2, 1)         */
    if (m < 0.707106781f) { e--; m = m + m; }
    m = m - 1.0f;
    float z = m * m, p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * z;
    p = p + (float)e * -2.12194440e-4f;
    p = p - 0.5f * z;
    return (m + p) + (float)e * 0.693359375f;
}

static inline float chi_sigmoid(float x)
{
    float e = chi_exp(x < 0 ? x : -x);                      /* never overflows  */
    return x < 0 ? e / (1.0f + e) : 1.0f / (1.0f + e);
}

static inline float chi_silu(float x)
{
    return x * chi_sigmoid(x);
}

/* silu'(x) = s (1 + x (1 - s)), s = sigmoid(x)                                 */
static inline float chi_silu_slope(float x)
{
    float s = chi_sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

/* ln(1 + e^x) = max(x, 0) + log1p(e^-|x|); log1p(e) = log(u) e / (u - 1), u = 1 + e
 * rounded, which repairs the rounding of u.                                    */
static inline float chi_softplus(float x)
{
    float e = chi_exp(x < 0 ? x : -x), u = 1.0f + e;
    float l = u == 1.0f ? e : chi_log(u) * (e / (u - 1.0f));
    return (x > 0 ? x : 0) + l;
}

#endif
