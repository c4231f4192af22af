/* pool.c - parallel loops over pieces that do not depend on who runs them.
 *
 * Work is cut by its size, never by the number of threads, so any number gives the
 * same bits.  Pieces are handed out one at a time from a shared counter.         */
#include "pool.h"
#include "core.h"
#include "crumb.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

static int threads;                         /* 0: not decided yet                */
static struct chi_scratch *scratch;         /* one a thread                      */
static int n_scratch;
static int64_t scratch_bytes;
static _Thread_local bool inside;           /* in a task                         */

/* GNU's OpenMP lets a thread that waits spin for about a millisecond before it sleeps, LLVM's for
 * 200.  On idle cores that gains nothing over some 30 us; beside other busy programs the spinning
 * takes the time of the very thread that is waited for, and training was 13 and 20 times slower
 * (doc/performance.md).  LLVM's counts in whole milliseconds: it gets none.  Either library reads
 * its variable from the environment before main() runs, so the program sets both, unless
 * somebody did, and becomes itself again.                                        */
void pool_begin(char **argv)
{
#ifdef _OPENMP
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME") || getenv("OMP_WAIT_POLICY") || n <= 0) return;
    self[n] = 0;
    if (setenv("GOMP_SPINCOUNT", "2000", 1) == 0 && setenv("KMP_BLOCKTIME", "0", 1) == 0) execv(self, argv);
    /* If that failed we only wait less well.                                     */
#else
    (void)argv;
#endif
}

static int usable_cores(void)
{
#if defined(_OPENMP)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    return omp_get_num_procs();
#else
    return 1;
#endif
}

void pool_threads(int n)
{
    threads = n > 0 ? n : usable_cores();
#ifndef _OPENMP
    threads = 1;
#endif
}

int pool_size(void)
{
    if (!threads) pool_threads(0);
    return threads;
}

static void drop_scratch(void)
{
    for (int i = 0; i < n_scratch; i++) mem_free(scratch[i].base);
    mem_free(scratch);
    scratch = NULL;
    n_scratch = 0;
}

int64_t pool_scratch_held(void)
{
    return n_scratch * scratch_bytes;
}

chi_status pool_scratch(int64_t bytes)
{
    int n = pool_size();
    if (n <= n_scratch && bytes <= scratch_bytes) return CHI_OK;
    bytes = max_i64(bytes, scratch_bytes);
    drop_scratch();
    scratch = mem_take((size_t)n * sizeof *scratch, "scratch of the workers");
    if (!scratch) return CHI_ENOMEM;
    for (; n_scratch < n; n_scratch++) {
        scratch[n_scratch].base = mem_take((size_t)bytes, "scratch of a worker");
        if (!scratch[n_scratch].base) return CHI_ENOMEM;
        scratch[n_scratch].size = (size_t)bytes;
    }
    scratch_bytes = bytes;
    return CHI_OK;
}

static void serial(int64_t n, chi_task *task, void *arg, struct chi_scratch *s)
{
    struct chi_scratch none = { NULL, 0, 0 };
    if (!s) s = &none;
    for (int64_t i = 0; i < n; i++) {
        size_t was = s->used;               /* nested loops stack their takes    */
        task(arg, i, s);
        s->used = was;
    }
}

static _Thread_local struct chi_scratch *mine;

void pool_run(int64_t n, chi_task *task, void *arg)
{
    if (n <= 0) return;
    if (inside) {
        serial(n, task, arg, mine);
        return;
    }
    int team = (int)min_i64(pool_size(), n);
    if (n_scratch < pool_size() && pool_scratch(64) != CHI_OK) team = 1;
    if (team == 1) {
        inside = true;
        mine = n_scratch ? scratch : NULL;
        serial(n, task, arg, mine);
        inside = false;
        return;
    }
#ifdef _OPENMP
    int64_t next = 0;
    const struct crumb *crumb = crumb_now();
#pragma omp parallel num_threads(team)
    {
        crumb_adopt(crumb);                 /* a worker crashes in this call, or idle */
        inside = true;
        mine = scratch + omp_get_thread_num();
        for (;;) {
            int64_t i;
#pragma omp atomic capture
            i = next++;
            if (i >= n) break;
            mine->used = 0;
            task(arg, i, mine);
        }
        mine->used = 0;
        inside = false;
        if (omp_get_thread_num()) crumb_adopt(NULL);    /* it lies on the caller's stack    */
    }
#endif
}

/* ---- sums in a fixed order ------------------------------------------------- */

enum { REDUCE_PIECE = 4096 };
struct reduce { float *acc; const float *part; int64_t n, len; };

static void reduce_piece(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct reduce *r = arg;
    (void)s;
    int64_t from = i * REDUCE_PIECE, to = min_i64(from + REDUCE_PIECE, r->len);
    for (int64_t p = 0; p < r->n; p++)
        for (int64_t j = from; j < to; j++) r->acc[j] += r->part[p * r->len + j];
}

void pool_reduce(float *acc, const float *part, int64_t n, int64_t len)
{
    struct reduce r = { acc, part, n, len };
    pool_run(ceil_div(len, REDUCE_PIECE), reduce_piece, &r);
}
