/* rng.c - Philox4x32-10; see rng.h.
 *
 * A round maps the counter (c0, c1, c2, c3) with key (k0, k1) to
 *     (hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0));
 * ten rounds, the key growing by Weyl constants in between.                     */
#include "rng.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

void philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];

    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0; out[1] = c1; out[2] = c2; out[3] = c3;
}

void rng_words(uint32_t out[4], uint64_t seed, uint32_t purpose, uint32_t draw,
               uint32_t who, uint64_t index)
{
    uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    uint32_t counter[4] = { (uint32_t)index, (uint32_t)(index >> 32), who, purpose | draw << 8 };
    philox(out, counter, key);
}

uint32_t rng_who(const char *name)
{
    return (uint32_t)XXH3_64bits(name, strlen(name));
}

double rng_uniform(uint32_t word)
{
    return (double)(word >> 8) * 0x1p-24;
}

/* Box-Muller: sqrt(-2 ln u) cos(2 pi v), u in (0,1].  Start values only: libm's double
 * precision is rounded to float by the caller, which hides its last bits.        */
double rng_normal(uint64_t seed, uint32_t purpose, uint32_t who, uint64_t index)
{
    uint32_t w[4];
    rng_words(w, seed, purpose, 0, who, index);
    double u = ((double)w[0] + 1) * 0x1p-32, v = (double)w[1] * 0x1p-32;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Unbiased enough for an order: 64 random bits modulo i+1.                       */
void rng_permutation(int64_t *p, int64_t n, uint64_t seed, uint64_t epoch)
{
    for (int64_t i = 0; i < n; i++) p[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        uint32_t w[4];
        rng_words(w, seed, RNG_ORDER, 0, (uint32_t)epoch, (uint64_t)i);
        uint64_t r = (uint64_t)w[0] << 32 | w[1];
        int64_t j = (int64_t)(r % (uint64_t)(i + 1)), t = p[i];
        p[i] = p[j];
        p[j] = t;
    }
}
