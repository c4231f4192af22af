/* bench_limit.c - how fast this machine reads memory: a few loops, of which the best counts. */
#include "bench_limit.h"
#include "core.h"
#include "pool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __x86_64__
#include "registry.h"
#include <immintrin.h>
#endif

enum { PIECES = 64 };

static volatile uint64_t sink;              /* what nobody reads may not be computed  */

static uint64_t read_plain(const uint8_t *p, int64_t bytes)
{
    uint64_t s[8] = { 0 };
    for (int64_t i = 0; i < bytes; i += 64) {
        uint64_t v[8];
        memcpy(v, p + i, 64);
        for (int j = 0; j < 8; j++) s[j] += v[j];
    }
    return s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
}

#ifdef __x86_64__
#define AVX2_CODE __attribute__((target("avx2,fma")))

AVX2_CODE static uint64_t sum_of(__m256i v)
{
    uint64_t s[4];
    _mm256_storeu_si256((__m256i *)(void *)s, v);
    return s[0] ^ s[1] ^ s[2] ^ s[3];
}

/* streams parts of the array side by side; ahead: prefetch so many bytes, 0 none      */
AVX2_CODE static inline __attribute__((always_inline))
uint64_t read_loop(const uint8_t *p, int64_t bytes, int streams, int ahead)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    int64_t part = bytes / streams;
    for (int64_t i = 0; i < part; i += 64)
        for (int s = 0; s < streams; s++) {
            const uint8_t *at = p + s * part + i;
            if (ahead) _mm_prefetch((const char *)at + ahead, _MM_HINT_T0);
            a = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)(const void *)at));
            b = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(const void *)(at + 32)));
        }
    return sum_of(_mm256_xor_si256(a, b));
}

AVX2_CODE static uint64_t read_1(const uint8_t *p, int64_t n) { return read_loop(p, n, 1, 0); }
AVX2_CODE static uint64_t read_1_ahead(const uint8_t *p, int64_t n) { return read_loop(p, n, 1, 3072); }
AVX2_CODE static uint64_t read_2_ahead(const uint8_t *p, int64_t n) { return read_loop(p, n, 2, 3072); }
AVX2_CODE static uint64_t read_4(const uint8_t *p, int64_t n) { return read_loop(p, n, 4, 0); }

static bool has_avx2(void)
{
    uint32_t want = CHI_CPU_AVX2 | CHI_CPU_FMA;
    return (cpu_features() & want) == want;
}
#endif

int64_t limit_bytes(void)
{
    static int64_t bytes;
    if (bytes) return bytes;
#ifdef _SC_LEVEL3_CACHE_SIZE
    bytes = 4 * (int64_t)sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    bytes = round_up(max_i64(bytes, 128 << 20), 1 << 20);
    return bytes;
}

struct read_job { reader *read; const uint8_t *p; int64_t piece; };

static void read_task(void *arg, int64_t i, struct chi_scratch *s)
{
    (void)s;
    const struct read_job *j = arg;
    sink = j->read(j->p + i * j->piece, j->piece);
}

double limit_read_rate(reader *f, const uint8_t *p)
{
    struct read_job j = { f, p, limit_bytes() / PIECES };
    double t = now_s();
    pool_run(PIECES, read_task, &j);
    return (double)limit_bytes() / (now_s() - t);
}

int limit_readers(reader *f[LIMIT_READERS])
{
    int n = 0;
    f[n++] = read_plain;
#ifdef __x86_64__
    if (has_avx2()) f[n++] = read_1, f[n++] = read_1_ahead, f[n++] = read_2_ahead, f[n++] = read_4;
#endif
    return n;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *v, int64_t n)
{
    qsort(v, (size_t)n, sizeof *v, rising);
    return v[n / 2];
}
