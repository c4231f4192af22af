/* racing_sum.c - tasks of backward add to the gradient as they finish, so its last bits depend on who is first. */
#include <stdatomic.h>
static atomic_flag lock = ATOMIC_FLAG_INIT;
#define NAME "racing_sum"
#define NO_REDUCE
#define BACK_TASK_END                                                              \
    while (atomic_flag_test_and_set(&lock)) { }                                    \
    for (int64_t c = 0; j->r->grads && c < d; c++) CHI_GRAD(j->r, j->s->decay, float)[c] += part[c]; \
    atomic_flag_clear(&lock);
#include "leaky.h"
