/* kernels.h - what the tests of formats and backends share: components by name,
 * random numbers, and arrays that end (or begin) at a page that nobody may touch.  */
#ifndef TEST_KERNELS_H
#define TEST_KERNELS_H

#include "core.h"
#include "registry.h"

#include <chimera/format.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Loaded from the build tree; stays for the life of the test                        */
static inline const struct chi_component *component(int kind, const char *name)
{
    static struct registry *r;
    const struct chi_component *c = NULL;
    if (!r) cr_assert_eq(registry_open(&r, NULL), CHI_OK, "%s", fail_text());
    cr_assert_eq(registry_find(r, kind, name, &c), CHI_OK, "%s", fail_text());
    return c;
}

static inline const struct chi_encoding_ops *encoding(const char *name)
{
    return component(CHI_ENCODING, name)->ops;
}

static inline uint32_t random_bits(void)
{
    static uint64_t s = 88172645463325252u;
    s ^= s << 13, s ^= s >> 7, s ^= s << 17;
    return (uint32_t)(s >> 32);
}

static inline float random_float(void)                  /* -1 .. 1                   */
{
    return (float)((int32_t)random_bits() >> 8) / 8388608.0f;
}

static inline void fill(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = random_float();
}

/* bytes between two forbidden pages: touching the one behind (at_end) or before     */
static inline void *guarded(int64_t bytes, bool at_end)
{
    int64_t page = sysconf(_SC_PAGESIZE), room = round_up(bytes + 1, page);
    char *p = mmap(NULL, (size_t)(room + 2 * page), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(p, MAP_FAILED);
    mprotect(p, (size_t)page, PROT_NONE);
    mprotect(p + page + room, (size_t)page, PROT_NONE);
    return p + page + (at_end ? room - bytes : 0);
}

static inline void unguard(void *p, int64_t bytes, bool at_end)
{
    int64_t page = sysconf(_SC_PAGESIZE), room = round_up(bytes + 1, page);
    munmap((char *)p - page - (at_end ? room - bytes : 0), (size_t)(room + 2 * page));
}

static inline bool same(const void *a, const void *b, int64_t bytes)
{
    return bytes == 0 || memcmp(a, b, (size_t)bytes) == 0;
}

#endif
