/* gradient.h - sums over gradients whose order is fixed by sizes alone.              */
#ifndef GRADIENT_H
#define GRADIENT_H

#include <chimera/base.h>

/* The sum of a step's micro-batches as a binary tree: neighbours are added first, then
 * neighbouring pairs, and so on, whoever computed them and in whatever groups.       */
struct gradient_tree {
    int64_t n, count;                   /* floats; micro-batches so far               */
    float  *level[40];                  /* level k: the sum of 2^k of them            */
    double  loss[40];
};
/* Sums that it keeps: 0 if there is one micro-batch, whose gradient is the sum itself  */
int tree_levels(int64_t micro_batches);
chi_status tree_open(struct gradient_tree *, int64_t n, int64_t micro_batches) CHI_MUST_CHECK;
void tree_close(struct gradient_tree *);
/* Adds grad[n], the gradient of the next micro-batch; its content is used up         */
void tree_add(struct gradient_tree *, float *grad, double loss);
/* grad[n] = the sum of all, *loss likewise; ready for the next step                  */
void tree_sum(struct gradient_tree *, float *grad, double *loss);

/* sum of g[i]^2 over runs of values, in double: blocks of BLOCK values, eight chains in
 * a block, blocks in order                                                           */
struct gradient_run { const float *g; int64_t n; };
double gradient_squares(const struct gradient_run *, int64_t n_runs);

#endif
