/* rng.h - Philox4x32-10 (Salmon et al., SC 2011): random numbers as a function.
 *
 * key = seed, counter = {index lo, index hi, who, purpose | draw << 8}; who = hash
 * of a tensor's or instance's name, or the stream.  No state: any thread can draw
 * any number, and a checkpoint stores none.                                    */
#ifndef RNG_H
#define RNG_H

#include <stdint.h>

enum {
    RNG_PLUGIN = 1,                     /* host->random                          */
    RNG_SAMPLE = 2,                     /* sampling of tokens                    */
    RNG_INIT = 16, RNG_ORDER = 17, RNG_ROUNDING = 18, RNG_BENCH = 63
};

void     philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);
void     rng_words(uint32_t out[4], uint64_t seed, uint32_t purpose, uint32_t draw,
                   uint32_t who, uint64_t index);
uint32_t rng_who(const char *name);                     /* hash of a name        */
double   rng_uniform(uint32_t word);                    /* [0,1): 24 bits        */
double   rng_normal(uint64_t seed, uint32_t purpose, uint32_t who, uint64_t index);
/* p[n] becomes a permutation of 0..n-1 (Fisher-Yates), a function of the seed
 * and epoch                                                                    */
void     rng_permutation(int64_t *p, int64_t n, uint64_t seed, uint64_t epoch);

#endif
