/* bench.h - how fast a configuration trains, reads and writes here.                      */
#ifndef BENCH_H
#define BENCH_H

#include "spec.h"

struct batch;
struct model;
/* A batch of random tokens of the configuration's sizes; batch_free()                     */
void bench_batch(const struct spec *, struct batch *);

struct bench {
    const char *subject;
    char *const *override;
    int   n_override;
    int64_t steps;                          /* timed ones of each measurement              */
    int64_t context;                        /* tokens that bench_context() reads    */
    bool  json;                             /* an object a line, else text                 */
    int   threads;
    bool  compare;                          /* with one thread, step by step               */
    const char *out;                        /* of bench_profile(): the trace's file, or NULL */
};

/* The subject's model to read with, and its weights: those of what has some, else start values.  The
 * caller closes both, also after a failure.                                               */
chi_status bench_open(const struct bench *, int64_t rows, struct spec **, struct model **) CHI_MUST_CHECK;
chi_status bench_train(const struct bench *) CHI_MUST_CHECK;
chi_status bench_read(const struct bench *) CHI_MUST_CHECK;     /* prefill and decode       */
chi_status bench_layers(const struct bench *) CHI_MUST_CHECK;   /* a decode step of each layer */
chi_status bench_model(const struct bench *) CHI_MUST_CHECK;    /* a whole one beside its limits */
chi_status bench_context(const struct bench *) CHI_MUST_CHECK;  /* 1 token of it to b->context */
chi_status bench_profile(const struct bench *) CHI_MUST_CHECK;  /* where the time goes  */
chi_status bench_learn(const struct bench *) CHI_MUST_CHECK;    /* 200 steps: does the loss fall? */

#endif
