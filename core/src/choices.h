/* choices.h - answers to questions with several choices, from what the choices cost.
 *
 *     l_k        = log p(choice k | context) = -(sum of its nats)
 *     answer     = argmax over k of l_k            acc:      how often it is right
 *     answer per byte = argmax of l_k / bytes_k    acc_norm: likewise
 *     standard error of a rate p over n questions: sqrt(p (1 - p) / n)
 *
 * The first of equals is the answer; a choice whose l is NaN never is.                */
#ifndef CHOICES_H
#define CHOICES_H

#include <stdio.h>

#include "dataset.h"

/* nats[i] of held-out document i, for the first n_doc of them                          */
void choices_count(const struct dataset *, const double *nats, int64_t n_doc, struct eval_result *);
/* A line a question: {"question","name","slice","loglikelihood","bytes","answer","acc","acc_norm"}       */
void choices_write(const struct dataset *, const double *nats, int64_t n_doc, FILE *);
double rate_error(int64_t right, int64_t n);            /* 0 of 0: 0                    */

#endif
