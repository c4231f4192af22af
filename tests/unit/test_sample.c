/* The sampler against a plain quadratic one, its statistics, ties and refusals.   */
#include "rng.h"
#include "sample.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { MAX_V = 300 };

static struct sampler open_sampler(int64_t vocab)
{
    struct sampler s;
    cr_assert_eq(sampler_open(&s, vocab), CHI_OK);
    return s;
}

static double uniform(uint64_t seed, uint64_t stream, uint64_t position)
{
    uint32_t w[4];
    rng_words(w, seed, RNG_SAMPLE, 0, (uint32_t)stream, position);
    return rng_uniform(w[0]);
}

/* p[v]: the final probabilities, by the definition and nothing else               */
static void reference(const struct sample_options *o, const float *logits, int v,
                      const int32_t *recent, int n_recent, double *p)
{
    double l[MAX_V], max = -INFINITY, sum = 0, mass = 0, total = 0;
    bool in[MAX_V] = { false };
    for (int i = 0; i < v; i++) {
        bool hit = false;
        for (int j = 0; j < n_recent; j++) hit |= recent[j] == i;
        l[i] = logits[i];
        if (hit) l[i] = l[i] > 0 ? l[i] / o->repetition_penalty : l[i] * o->repetition_penalty;
        if (l[i] > max) max = l[i];
    }
    for (int i = 0; i < v; i++) sum += p[i] = exp((l[i] - max) / o->temperature);
    for (int i = 0; i < v; i++) p[i] /= sum;
    for (int k = 0; k < v && (!o->top_k || k < o->top_k); k++) {
        int best = -1;
        for (int i = 0; i < v; i++)
            if (!in[i] && (best < 0 || p[i] > p[best])) best = i;
        in[best] = true;
        mass += p[best];
        if (o->top_p < 1 && mass >= o->top_p) break;
    }
    for (int i = 0; i < v; i++) total += p[i] = in[i] ? p[i] : 0;
    for (int i = 0; i < v; i++) p[i] /= total;
}

static int32_t invert(const double *p, int v, double u)
{
    double sum = 0;
    int32_t last = 0;
    for (int32_t i = 0; i < v; i++) {
        if (p[i] > 0) last = i;
        if (p[i] > 0 && (sum += p[i]) > u) return i;
    }
    return last;
}

/* Logits of few values have ties everywhere                                       */
static void random_logits(float *l, int v, uint64_t which, bool ties)
{
    for (int i = 0; i < v; i++) {
        double x = 3 * rng_normal(7, RNG_BENCH, (uint32_t)which, (uint64_t)i);
        l[i] = (float)(ties ? rint(x) : x);
    }
}

Test(sample, equals_the_definition)
{
    static const double temperature[] = { 0.3, 1, 2 }, top_p[] = { 0, 0.3, 0.9, 1 }, rho[] = { 1, 1.3 };
    static const int64_t top_k[] = { 0, 1, 5, 1000 };
    static const int vocab[] = { 1, 2, 17, 257 };
    int32_t recent[40];
    float l[MAX_V];
    double p[MAX_V];
    uint64_t at = 0;
    for (int c = 0; c < 3 * 4 * 2 * 4 * 4 * 2; c++) {
        int v = vocab[c / 96 % 4];
        struct sample_options o = { temperature[c % 3], top_p[c / 3 % 4], rho[c / 12 % 2],
                                    top_k[c / 24 % 4], 5 };
        struct sampler s = open_sampler(v);
        for (int turn = 0; turn < 8; turn++, at++) {
            int32_t got;
            random_logits(l, v, at, c >= 384);
            for (int j = 0; j < 40; j++) recent[j] = (int32_t)(at * 31 + (uint64_t)j * j) % (v + 2);
            cr_assert_eq(sample(&s, &o, l, recent, 40, 3, at, &got), CHI_OK);
            reference(&o, l, v, recent, 40, p);
            int32_t want = invert(p, v, uniform(5, 3, at));
            cr_assert_eq(got, want, "case %d, turn %d: %d, not %d", c, turn, got, want);
        }
        sampler_close(&s);
    }
}

Test(sample, draws_follow_the_probabilities)
{
    enum { V = 24, N = 40000 };
    struct sample_options o = { 0.8, 0.95, 1.2, 20, 11 };
    struct sampler s = open_sampler(V);
    int32_t recent[] = { 3, 3, 9 }, got;
    int64_t count[V] = { 0 };
    float l[V];
    double p[V], chi = 0;
    random_logits(l, V, 1, false);
    for (int i = 0; i < V; i++) l[i] *= 0.4f;
    reference(&o, l, V, recent, 3, p);
    for (uint64_t n = 0; n < N; n++) {
        cr_assert_eq(sample(&s, &o, l, recent, 3, 0, n, &got), CHI_OK);
        count[got]++;
    }
    for (int i = 0; i < V; i++) {
        double want = p[i] * N, d = (double)count[i] - want;
        cr_assert(p[i] > 0 || count[i] == 0, "token %d is outside of the set", i);
        if (want > 0) chi += d * d / want;
    }
    cr_assert_lt(chi, 55, "chi-square of at most 23 degrees is %g", chi);
    sampler_close(&s);
}

Test(sample, zero_temperature_takes_the_first_of_the_largest)
{
    struct sample_options o = { 0, 0.1, 1, 1, 0 };
    struct sampler s = open_sampler(5);
    float l[] = { 1, 4, 2, 4, -1 };
    int32_t got = -1, recent[] = { 1, 7, -1 };
    cr_assert_eq(sample(&s, &o, l, recent, 3, 0, 0, &got), CHI_OK);
    cr_assert_eq(got, 1);
    o.repetition_penalty = 1.5;         /* ids outside the vocabulary are passed over */
    cr_assert_eq(sample(&s, &o, l, recent, 3, 0, 0, &got), CHI_OK);
    cr_assert_eq(got, 3);
    sampler_close(&s);
}

Test(sample, a_token_is_penalised_once_and_in_the_right_direction)
{
    struct sample_options o = { 0, 1, 2, 0, 0 };
    struct sampler s = open_sampler(3);
    float below[] = { -1, -1.5f, -9 }, above[] = { 3, 1, 1.6f };
    int32_t got, recent[] = { 0, 0, 0, 0 };
    cr_assert_eq(sample(&s, &o, below, recent, 4, 0, 0, &got), CHI_OK);
    cr_assert_eq(got, 1);               /* -1 became -2                            */
    cr_assert_eq(sample(&s, &o, above, recent, 4, 0, 0, &got), CHI_OK);
    cr_assert_eq(got, 2);               /* 3 became 1.5, not 3/16                  */
    above[2] = 1.4f;
    cr_assert_eq(sample(&s, &o, above, recent, 4, 0, 0, &got), CHI_OK);
    cr_assert_eq(got, 0);
    sampler_close(&s);
}

Test(sample, depends_on_seed_stream_and_position_only)
{
    enum { V = 257, N = 64 };
    struct sample_options o = { 1, 1, 1, 0, 1 };
    struct sampler a = open_sampler(V), b = open_sampler(V);
    float l[V] = { 0 };
    int32_t first[N], again, other;
    int differ[3] = { 0 };
    for (uint64_t n = 0; n < N; n++) cr_assert_eq(sample(&a, &o, l, NULL, 0, 4, n, &first[n]), CHI_OK);
    for (uint64_t n = N; n-- > 0;) {
        cr_assert_eq(sample(&b, &o, l, NULL, 0, 4, n, &again), CHI_OK);
        cr_assert_eq(again, first[n]);
        struct sample_options seed = o;
        seed.seed = 2;
        cr_assert_eq(sample(&b, &seed, l, NULL, 0, 4, n, &other), CHI_OK);
        differ[0] += other != again;
        cr_assert_eq(sample(&b, &o, l, NULL, 0, 5, n, &other), CHI_OK);
        differ[1] += other != again;
        cr_assert_eq(sample(&b, &o, l, NULL, 0, 4, n + 1, &other), CHI_OK);
        differ[2] += other != again;
    }
    for (int i = 0; i < 3; i++) cr_assert_gt(differ[i], N / 2);
    sampler_close(&a);
    sampler_close(&b);
}

Test(sample, ties_at_the_edge_of_a_set_go_to_lower_ids)
{
    struct sample_options k = { 1, 1, 1, 3, 0 }, p = { 1, 0.375, 1, 0, 0 };
    struct sampler s = open_sampler(8);
    float l[8] = { 0 };                 /* each token has 1/8                      */
    int32_t got;
    for (uint64_t n = 0; n < 200; n++) {
        cr_assert_eq(sample(&s, &k, l, NULL, 0, 0, n, &got), CHI_OK);
        cr_assert_leq(got, 2);
        cr_assert_eq(sample(&s, &p, l, NULL, 0, 0, n, &got), CHI_OK);
        cr_assert_leq(got, 2);
    }
    sampler_close(&s);
}

Test(sample, refuses_what_is_no_number)
{
    struct sample_options o = { 1, 1, 1, 0, 0 };
    struct sampler s = open_sampler(3);
    float bad[][3] = { { 0, NAN, 0 }, { 0, 0, INFINITY }, { -INFINITY, -INFINITY, -INFINITY } };
    float one[] = { -INFINITY, 0, -INFINITY };
    int32_t got;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(sample(&s, &o, bad[i], NULL, 0, 0, 0, &got), CHI_ENUMERIC);
    for (uint64_t n = 0; n < 50; n++) {
        cr_assert_eq(sample(&s, &o, one, NULL, 0, 0, n, &got), CHI_OK);
        cr_assert_eq(got, 1);
    }
    sampler_close(&s);
}

Test(sample, exp_is_close_to_libm)
{
    for (double x = 0; x > -750; x -= 0.0137) {
        double want = exp(x), got = sample_exp(x);
        cr_assert_leq(fabs(got - want), want * 5e-16 + 5e-324, "e^%g = %g, not %g", x, got, want);
    }
    cr_assert_eq(sample_exp(0), 1.0);
    cr_assert_eq(sample_exp(-INFINITY), 0.0);
}
