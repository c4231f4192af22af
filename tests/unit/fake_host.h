/* fake_host.h - a host for a plugin that is tested alone: real threads and kernels, and
 * the text of the last failure.                                                      */
#ifndef FAKE_HOST_H
#define FAKE_HOST_H

#include <chimera/host.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "pool.h"
#include "reference.h"

static char fake_failure[1024];

static chi_status fake_fail(const struct chi_host *h, chi_status s, const char *fmt, ...)
{
    va_list a;
    (void)h;
    va_start(a, fmt);
    vsnprintf(fake_failure, sizeof fake_failure, fmt, a);
    va_end(a);
    return s;
}

static void fake_parallel(const struct chi_host *h, int64_t n, chi_task *task, void *arg)
{
    (void)h;
    pool_run(n, task, arg);
}

static void *fake_alloc(const struct chi_host *h, size_t bytes)
{
    (void)h;
    return calloc(bytes ? bytes : 1, 1);        /* a test's process ends soon         */
}

static inline struct chi_host fake_host(void)
{
    return (struct chi_host){
        .struct_size = sizeof(struct chi_host), .instance = "test", .fail = fake_fail,
        .parallel = fake_parallel, .alloc = fake_alloc, .k = &reference_kernels,
    };
}

/* Numbers in [-1, 1) from a counter (splitmix64)                                      */
static inline double fake_number(uint64_t i)
{
    uint64_t z = (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (double)((z ^ z >> 31) >> 11) / 4503599627370496.0 - 1;
}

#endif
