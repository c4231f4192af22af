/* test_rng.c - Philox against the known answers of its authors (Random123, kat_vectors), and what
 * is drawn from it against the distributions.                                                 */
#include <criterion/criterion.h>
#include <math.h>

#include "rng.h"

Test(rng, philox_known_answers)
{
    static const struct { uint32_t counter[4], key[2], want[4]; } c[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { ~0u, ~0u, ~0u, ~0u }, { ~0u, ~0u }, { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (int i = 0; i < 3; i++) {
        uint32_t got[4];
        philox(got, c[i].counter, c[i].key);
        for (int j = 0; j < 4; j++) cr_expect_eq(got[j], c[i].want[j], "case %d, word %d", i, j);
    }
}

/* The counter's layout is a promise: index, who, purpose | draw << 8 under the seed           */
Test(rng, words_are_philox_of_the_stated_counter)
{
    uint32_t got[4], want[4];
    rng_words(got, 0x1122334455667788u, RNG_INIT, 3, 0xabcdef01u, 0x99aabbccddeeff00u);
    philox(want, (uint32_t[]){ 0xddeeff00u, 0x99aabbccu, 0xabcdef01u, RNG_INIT | 3 << 8 },
           (uint32_t[]){ 0x55667788u, 0x11223344u });
    for (int j = 0; j < 4; j++) cr_expect_eq(got[j], want[j]);
}

Test(rng, uniform_takes_24_bits)
{
    cr_expect_eq(rng_uniform(0), 0.0);
    cr_expect_eq(rng_uniform(0xffffffffu), 1 - 0x1p-24);
    cr_expect_eq(rng_uniform(0x80000000u), 0.5);
    cr_expect_eq(rng_uniform(0x000000ffu), 0.0);
}

/* Mean, variance, third and fourth moments of 10^5 normals, within 5 standard errors          */
Test(rng, normals_have_the_moments_of_a_normal)
{
    enum { N = 100000 };
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
    for (int i = 0; i < N; i++) {
        double x = rng_normal(9, RNG_BENCH, 1, (uint64_t)i);
        m1 += x / N;
        m2 += x * x / N;
        m3 += x * x * x / N;
        m4 += x * x * x * x / N;
    }
    cr_expect_lt(fabs(m1), 5 / sqrt(N));
    cr_expect_lt(fabs(m2 - 1), 5 * sqrt(2.0 / N));
    cr_expect_lt(fabs(m3), 5 * sqrt(15.0 / N));
    cr_expect_lt(fabs(m4 - 3), 5 * sqrt(96.0 / N));
}

Test(rng, permutations_are_permutations_and_differ)
{
    enum { N = 101 };
    int64_t p[N], q[N], seen[N] = { 0 }, moved = 0, same = 0;
    rng_permutation(p, N, 5, 0);
    rng_permutation(q, N, 5, 1);
    for (int i = 0; i < N; i++) {
        cr_assert(p[i] >= 0 && p[i] < N);
        seen[p[i]]++;
        moved += p[i] != i;
        same += p[i] == q[i];
    }
    for (int i = 0; i < N; i++) cr_expect_eq(seen[i], 1);
    cr_expect_gt(moved, N / 2);
    cr_expect_lt(same, N / 4);
}

/* Every element is equally likely to come first: 6 orders of 3, 6000 draws, chi-square        */
Test(rng, all_orders_are_equally_likely)
{
    int count[6] = { 0 };
    for (uint64_t e = 0; e < 6000; e++) {
        int64_t p[3];
        rng_permutation(p, 3, 77, e);
        count[p[0] * 2 + (p[1] > p[2])]++;
    }
    double chi = 0;
    for (int i = 0; i < 6; i++) chi += (count[i] - 1000.0) * (count[i] - 1000.0) / 1000.0;
    cr_expect_lt(chi, 20.5, "chi-square %g (0.1 %% point 20.5)", chi);
}
