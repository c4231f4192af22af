/* head.h - logits of some tokens only: what a grammar or a list of ids leaves.
 *
 *     logits[r, i] = hidden[r] . embed[id[i]]
 *
 * Kernels work on tiles of CHI_TILE rows, so the cost is that of the tiles that hold an allowed id, and
 * not that of the vocabulary; each number has the bits that model_logits() gives it.                   */
#ifndef HEAD_H
#define HEAD_H

#include "model.h"

struct shortlist {
    int32_t *id; int64_t n;             /* rising, each once                        */
    int64_t *first; int64_t n_run;      /* run j: ids first[j] .. first[j+1]-1, all in a few
                                           tiles that follow each other             */
};
/* Of ids in any order, each maybe several times; one outside 0..vocab-1, or none: CHI_ECONF          */
chi_status shortlist_open(struct shortlist *, const int32_t *id, int64_t n, int64_t vocab) CHI_MUST_CHECK;
void shortlist_close(struct shortlist *);
/* "1,5,10-20 7", blanks and line ends as commas; at least one; name stands for the list in messages.
 * The caller frees *id                                                                               */
chi_status ids_parse(const char *text, const char *name, int32_t **id, int64_t *n) CHI_MUST_CHECK;
/* Which of its ids is this; -1: none                                                                 */
int64_t shortlist_find(const struct shortlist *, int32_t id);

/* logits[rows, n of the shortlist]                                                                   */
chi_status model_logits_of(struct model *, const float *hidden, int64_t rows, const struct shortlist *,
                           float *logits) CHI_MUST_CHECK;

#endif
