/* sample.c - the sampler; the order of operations is the contract's (sample.h).
 *
 *     l_i  = l_i > 0 ? l_i / rho : l_i rho      for each distinct recent token i
 *     p_i  = exp((l_i - max l) / T) / sum         in float64, summed in id order
 *     K    = the k most probable ids            ties: the lower id
 *     S    = the shortest run of K, by falling p, with sum p >= top_p
 *     token = min { i in S : sum_{j <= i, j in S} p_j / p(S) > u }
 *
 * rho: Keskar et al., arXiv:1909.05858, 4.1; top-k: arXiv:1805.04833; top-p:
 * arXiv:1904.09751.  S comes off a binary heap, O(V + |S| log V); nothing is
 * allocated per token.                                                           */
#include "sample.h"

#include "core.h"
#include "rng.h"

#include <math.h>
#include <string.h>

chi_status sampler_open(struct sampler *s, int64_t vocab)
{
    size_t v = (size_t)round_up(vocab, 16);
    unsigned char *b = mem_take(v * (2 * sizeof(double) + 2 * sizeof(int32_t)), "the sampler");
    if (!b) return CHI_ENOMEM;
    *s = (struct sampler){ .vocab = vocab, .block = b };
    s->p = (double *)(void *)b;
    s->kept = s->p + v;
    s->heap = (int32_t *)(void *)(s->kept + v);
    s->seen = (uint32_t *)(void *)(s->heap + v);
    return CHI_OK;
}

void sampler_close(struct sampler *s)
{
    mem_free(s->block);
    *s = (struct sampler){ 0 };
}

/* e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2; e^r by its series to r^13, whose
 * rest is below 5e-18.  ln 2 in two parts (Cody and Waite), the first with 20 zero
 * bits at its end so that n ln2_hi is exact; 2^n in two halves for denormals.     */
double sample_exp(double x)
{
    static const double over_factorial[] = {            /* 1/13!, 1/12!, ... 1/0! */
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880,
        1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1
    };
    if (x < -745.2) return 0;
    int n = (int)(x * 1.4426950408889634 - 0.5);
    double r = x - n * 6.93147180369123816490e-01;
    r -= n * 1.90821492927058770002e-10;
    double e = over_factorial[0];
    for (int i = 1; i < COUNT(over_factorial); i++) e = e * r + over_factorial[i];
    for (int half = 0, m = n / 2; half < 2; half++, m = n - n / 2) {
        uint64_t bits = (uint64_t)(m + 1023) << 52;
        double scale;
        memcpy(&scale, &bits, sizeof scale);
        e *= scale;
    }
    return e;
}

/* ---- steps ------------------------------------------------------------------ */

static chi_status take_logits(struct sampler *s, const float *logits)
{
    bool any = false;
    for (int64_t i = 0; i < s->vocab; i++) {
        if (!(logits[i] < INFINITY))
            return fail(CHI_ENUMERIC, "the logit of token %lld is %s: the model's weights are not "
                        "usable", (long long)i, isnan(logits[i]) ? "NaN" : "infinite");
        any |= logits[i] > -INFINITY;
        s->p[i] = logits[i];
    }
    return any ? CHI_OK : fail(CHI_ENUMERIC, "the logits of all tokens are -infinity");
}

static void penalise(struct sampler *s, double rho, const int32_t *recent, int64_t n)
{
    if (!++s->stamp) {                                  /* came round to 0         */
        memset(s->seen, 0, (size_t)s->vocab * sizeof *s->seen);
        s->stamp = 1;
    }
    for (int64_t j = 0; j < n; j++) {
        int32_t i = recent[j];
        if (i < 0 || i >= s->vocab || s->seen[i] == s->stamp) continue;
        s->seen[i] = s->stamp;
        s->p[i] = s->p[i] > 0 ? s->p[i] / rho : s->p[i] * rho;
    }
}

static int32_t largest(const struct sampler *s)
{
    int32_t best = 0;
    for (int32_t i = 1; i < s->vocab; i++)
        if (s->p[i] > s->p[best]) best = i;
    return best;
}

static void softmax(struct sampler *s, double temperature)
{
    double max = s->p[largest(s)], sum = 0;
    for (int64_t i = 0; i < s->vocab; i++) {
        s->p[i] = sample_exp((s->p[i] - max) / temperature);
        sum += s->p[i];
    }
    for (int64_t i = 0; i < s->vocab; i++) s->p[i] /= sum;
}

/* ---- the heap: its root is the most probable id, the lowest on ties ----------- */

static bool before(const struct sampler *s, int32_t a, int32_t b)
{
    return s->p[a] != s->p[b] ? s->p[a] > s->p[b] : a < b;
}

static void sift(struct sampler *s, int64_t at, int64_t n)
{
    int32_t id = s->heap[at];
    for (int64_t kid; (kid = 2 * at + 1) < n; at = kid) {
        if (kid + 1 < n && before(s, s->heap[kid + 1], s->heap[kid])) kid++;
        if (!before(s, s->heap[kid], id)) break;
        s->heap[at] = s->heap[kid];
    }
    s->heap[at] = id;
}

static int32_t pop(struct sampler *s, int64_t n)
{
    int32_t top = s->heap[0];
    s->heap[0] = s->heap[n - 1];
    sift(s, 0, n - 1);
    return top;
}

/* kept[i] = p[i] for ids of S, else 0; at least one id stays                     */
static void choose_set(struct sampler *s, int64_t top_k, double top_p)
{
    int64_t n = s->vocab, most = top_k > 0 ? min_i64(top_k, n) : n;
    if (most == n && top_p >= 1) {
        memcpy(s->kept, s->p, (size_t)n * sizeof *s->p);
        return;
    }
    memset(s->kept, 0, (size_t)n * sizeof *s->kept);
    for (int64_t i = 0; i < n; i++) s->heap[i] = (int32_t)i;
    for (int64_t i = n / 2; i-- > 0;) sift(s, i, n);
    double mass = 0;
    for (int64_t taken = 0; taken < most; taken++) {
        int32_t id = pop(s, n - taken);
        s->kept[id] = s->p[id];
        mass += s->p[id];
        if (top_p < 1 && mass >= top_p) break;
    }
}

static int32_t draw(const struct sampler *s, double u)
{
    double total = 0, sum = 0;
    int32_t last = 0;
    for (int32_t i = 0; i < s->vocab; i++) total += s->kept[i];
    for (int32_t i = 0; i < s->vocab; i++) {
        if (s->kept[i] == 0) continue;
        sum += s->kept[i] / total;
        last = i;
        if (sum > u) break;
    }
    return last;                        /* the last one, too, if rounding left sum <= u */
}

chi_status sample(struct sampler *s, const struct sample_options *o, const float *logits,
                  const int32_t *recent, int64_t n_recent, uint64_t stream, uint64_t position,
                  int32_t *token)
{
    TRY(take_logits(s, logits));
    if (o->repetition_penalty != 1) penalise(s, o->repetition_penalty, recent, n_recent);
    if (o->temperature <= 0) {
        *token = largest(s);
        return CHI_OK;
    }
    softmax(s, o->temperature);
    choose_set(s, o->top_k, o->top_p);
    uint32_t word[4];
    rng_words(word, o->seed, RNG_SAMPLE, 0, (uint32_t)stream, position);
    *token = draw(s, rng_uniform(word[0]));
    return CHI_OK;
}
