/* half.h - IEEE 754 binary16 and floats.                                                                     */
#ifndef HALF_H
#define HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Exact: every half is a float.  Infinities and NaNs stay what they are                                      */
static inline float half_value(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, f = h & 1023, u;
    float v;
    if (e == 0) {
        v = (float)f * 0x1p-24f;                        /* subnormal halves are normal floats                 */
        memcpy(&u, &v, sizeof u);
        u |= sign;
    } else
        u = sign | (e == 31 ? 255 : e + 112) << 23 | f << 13;
    memcpy(&v, &u, sizeof v);
    return v;
}

/* The half that is v, if there is one: 11 significant bits, none below 2^-24                                  */
static inline bool half_exact(float v, uint16_t *h)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, e = u >> 23 & 255, f = u & 0x7fffff;
    if (e >= 113 && e <= 142) *h = (uint16_t)(sign | (e - 112) << 10 | f >> 13);
    else if (e >= 103 && e < 113) *h = (uint16_t)(sign | (f | 0x800000) >> (126 - e));
    else *h = (uint16_t)sign;
    float back = half_value(*h);
    return !memcmp(&back, &v, sizeof v);
}

#endif
