/* sample.h - from logits to the next token.
 *
 * One order of operations, fixed by the contract: repetition penalty, temperature,
 * softmax in float64, top-k, top-p, renormalisation, inverse CDF in id order at a
 * random number that is a function of (seed, stream, position).  So a token depends
 * on nothing but its own stream: not on threads, batches or calls before it.     */
#ifndef SAMPLE_H
#define SAMPLE_H

#include <chimera/base.h>

struct sample_options {
    double   temperature;               /* 0: the largest logit, lowest id on ties */
    double   top_p;                     /* >= 1: off                               */
    double   repetition_penalty;        /* 1: off                                  */
    int64_t  top_k;                     /* 0: off                                  */
    uint64_t seed;
};

struct sampler {                        /* work space; one user at a time          */
    int64_t   vocab;
    uint32_t  stamp;                    /* of the current call, in seen            */
    uint32_t *seen;                     /* [vocab]                                 */
    double   *p, *kept;                 /* [vocab]                                 */
    int32_t  *heap;                     /* [vocab]                                 */
    void     *block;
};
chi_status sampler_open(struct sampler *, int64_t vocab) CHI_MUST_CHECK;
void sampler_close(struct sampler *);

/* logits[vocab]; recent[n_recent]: the tokens that the penalty looks at, in any order,
 * ids outside the vocabulary are passed over.  position: the place that the token will
 * have in its stream, counted from 0.  NaN, +inf or nothing but -inf: CHI_ENUMERIC. */
chi_status sample(struct sampler *, const struct sample_options *, const float *logits,
                  const int32_t *recent, int64_t n_recent, uint64_t stream,
                  uint64_t position, int32_t *token) CHI_MUST_CHECK;

/* e^x for x <= 0, the same bits on every machine; within 1 ulp or so             */
double sample_exp(double x);

#endif
