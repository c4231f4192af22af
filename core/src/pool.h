/* pool.h - threads, which are OpenMP's.  Only pool.c asks for any, and one thread at a time calls
 * pool_run(); nested calls run where they are.                                 */
#ifndef POOL_H
#define POOL_H

#include <chimera/host.h>

/* First thing of a program that computes: may start it again, see pool.c        */
void pool_begin(char **argv);
void pool_threads(int n);               /* 0: one per core that we may use       */
int  pool_size(void);
/* Scratch that each task finds empty; grows only, between parallel loops.      */
chi_status pool_scratch(int64_t bytes_per_task);
int64_t pool_scratch_held(void);        /* bytes taken so far                    */
/* task(arg, i, scratch) for i = 0..n-1, in any order; serial inside a task.    */
void pool_run(int64_t n, chi_task *task, void *arg);
/* pass(arg), with the threads at hand for its many small loops                 */
void pool_hold(void (*pass)(void *arg), void *arg);
int64_t pool_regions(void);             /* how often threads were called together so far */

/* acc[len] += part[0][len] + ... in order, cut over len only                   */
void pool_reduce(float *acc, const float *part, int64_t n, int64_t len);

#endif
