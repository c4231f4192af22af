/* examples.h - tasks that make examples on the fly: no documents, no tokenizer.
 *
 * An example is a segment of its own, fresh, never cut.  A sequence of seq_len rows holds
 *
 *     k = floor(seq_len / rows of the longest training example)
 *
 * examples, and a step the next batch_size * k ones, so that every step of every arm has
 * the same examples, however long each is; rows behind them stay out of the computation.
 * A cursor's position is the number of the next example; where training has n of them, an
 * epoch is all n in an order of its own (rng_permutation).                            */
#ifndef EXAMPLES_H
#define EXAMPLES_H

#include "dataset.h"

struct examples {
    const struct spec *spec;
    const struct chi_task_ops *ops;
    const struct chi_host *h;
    const void *self;
    int64_t n[CHI_SPLITS], longest[CHI_SPLITS], vocab;
    int64_t n_slice;
    int64_t epoch, *order;                  /* whose order is cached; -1: none        */
    int32_t *slice;                         /* [longest of training] that nobody reads */
};

bool examples_made(const struct chi_task_ops *);            /* or documents read?     */
chi_status examples_open(struct examples *, const struct spec *, const struct chi_host *,
                         const void *self) CHI_MUST_CHECK;
void examples_close(struct examples *);
int64_t examples_a_sequence(const struct examples *);
uint64_t examples_hash(const struct examples *, chi_status *);     /* of the first ones */
/* Example i; room for longest rows at each; *rows says how many there are             */
chi_status examples_get(const struct examples *, int split, int64_t i, int32_t *token,
                        int32_t *target, int32_t *slice, int64_t *rows) CHI_MUST_CHECK;
/* Fills a batch that has room                                                          */
chi_status examples_batch(struct examples *, struct cursor *, struct batch *) CHI_MUST_CHECK;

#endif
