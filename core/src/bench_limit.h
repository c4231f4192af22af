/* bench_limit.h - the read bandwidth that figures are compared with.              */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include <stdint.h>

enum { LIMIT_READERS = 5 };

/* What no cache holds: 128 MB, or four times the last cache                        */
int64_t limit_bytes(void);

typedef uint64_t reader(const uint8_t *, int64_t);
int limit_readers(reader *f[LIMIT_READERS]);            /* how many there are      */
/* Bytes per second of one pass over limit_bytes() by all threads of the pool         */
double limit_read_rate(reader *, const uint8_t *);
double bench_median(double *v, int64_t n);              /* sorts v                 */

#endif
