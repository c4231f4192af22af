/* pool.c - parallel loops over pieces that do not depend on who runs them.
 *
 * What a piece computes depends on its size, never on the number of threads, so any number
 * gives the same bits.  Pieces are handed out one at a time from a shared counter.         */
#include "pool.h"
#include "core.h"
#include "crumb.h"

#include <sched.h>
#include <stdlib.h>
#ifdef CHI_THREADS
# include <pthread.h>
# include <signal.h>
# include <stdatomic.h>
# include <sys/resource.h>
#endif

enum { THREADS_MAX = 1024 };
static int threads;                         /* 0: not decided yet                */
static struct chi_scratch *scratch;         /* one a thread                      */
static int n_scratch;
static int64_t scratch_bytes;
static _Thread_local bool inside;           /* in a task                         */

static int usable_cores(void)
{
#ifdef CHI_THREADS
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return 1;
}

void pool_threads(int n)
{
    threads = n > 0 ? n : usable_cores();
#ifndef CHI_THREADS
    threads = 1;
#else
    if (threads > THREADS_MAX) threads = THREADS_MAX;
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

/* ---- workers ------------------------------------------------------------------- *
 *
 * A call is a number that goes up, in one word with the size of its team: who reads
 * the word knows at once whether the call is his.  Then he must get through the door,
 * which the caller shuts when no piece is left: it waits for members inside, never for
 * one who is still asleep or has no core.  Nobody outside ever looks at the job.
 *
 * Who waits spins for SHORT, since a decode step is hundreds of loops a few microseconds
 * apart, and waking a thread takes longer than one of them.  Unless the machine took a
 * core from the process within CALM, it goes on until LONG; then it sleeps.  On a busy
 * machine a spinning thread takes the time of the very one that it waits for.  The caller
 * wakes one sleeper, who wakes the next.                                                */

#ifdef CHI_THREADS
enum { SHORT_NS = 20000, LONG_NS = 1000000, CALM_NS = 5000000, TEAM_BITS = 16 };

struct gate {                               /* waiting for a word to change            */
    pthread_mutex_t lock;
    pthread_cond_t  moved;
    atomic_int      sleepers;
};

static struct {
    chi_task *task;
    void     *arg;
    int64_t   n;
    const struct crumb *crumb;
    _Alignas(64) atomic_llong next;         /* the first piece that nobody has          */
    _Alignas(64) atomic_uint_least64_t word; /* number of the call << TEAM_BITS | team  */
    _Alignas(64) atomic_uint_least64_t door; /* number << TEAM_BITS | members that came in; 0: shut */
    _Alignas(64) atomic_uint_least64_t gone; /* of those that are done                  */
    struct gate start, end;
    int workers;
} pool = { .start = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 },
           .end = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 } };

static void rest(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Was a core taken from this process a moment ago?                                      */
static bool disturbed(double now)
{
    static _Thread_local long was;
    static _Thread_local double until;
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    if (u.ru_nivcsw != was) until = now + CALM_NS * 1e-9;
    was = u.ru_nivcsw;
    return now < until;
}

/* Until the word is (equal) or is no longer (not equal) this value                      */
static bool there(atomic_uint_least64_t *word, uint64_t value, bool equal)
{
    return (atomic_load_explicit(word, memory_order_acquire) == value) == equal;
}

static bool spin(atomic_uint_least64_t *word, uint64_t value, bool equal)
{
    double begun = 0, limit = SHORT_NS * 1e-9;
    for (;;) {
        for (int i = 0; i < 64; i++) {
            if (there(word, value, equal)) return true;
            rest();
        }
        double now = now_s();
        if (begun == 0) begun = now;
        if (now - begun < limit) continue;
        if (limit > SHORT_NS * 1e-9 || disturbed(now)) return false;
        limit = LONG_NS * 1e-9;
    }
}

/* Returns whether it slept                                                              */
static bool await(struct gate *g, atomic_uint_least64_t *word, uint64_t value, bool equal)
{
    if (spin(word, value, equal)) return false;
    pthread_mutex_lock(&g->lock);
    atomic_fetch_add(&g->sleepers, 1);
    while ((atomic_load(word) == value) != equal) pthread_cond_wait(&g->moved, &g->lock);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->lock);
    return true;
}

/* One sleeper, after the word has changed; both are sequentially consistent, so a sleeper is seen
 * or sees                                                                               */
static void wake(struct gate *g)
{
    if (!atomic_load(&g->sleepers)) return;
    pthread_mutex_lock(&g->lock);
    pthread_cond_signal(&g->moved);
    pthread_mutex_unlock(&g->lock);
}

static void pieces(int member)
{
    inside = true;
    mine = scratch + member;
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed);
        if (i >= pool.n) break;
        mine->used = 0;
        pool.task(pool.arg, i, mine);
    }
    mine->used = 0;
    inside = false;
}

static bool enter(uint64_t number)
{
    uint64_t door = atomic_load(&pool.door);
    while (door >> TEAM_BITS == number)
        if (atomic_compare_exchange_weak(&pool.door, &door, door + 1)) return true;
    return false;
}

static void *worker(void *arg)
{
    uint64_t member = (uint64_t)(intptr_t)arg, seen = 0;
    for (;;) {
        bool slept = await(&pool.start, &pool.word, seen, false);
        seen = atomic_load(&pool.word);
        if (member >= (seen & ((1 << TEAM_BITS) - 1)) || !enter(seen >> TEAM_BITS)) continue;
        if (slept && atomic_load_explicit(&pool.next, memory_order_relaxed) < pool.n) wake(&pool.start);
        crumb_adopt(pool.crumb);            /* a worker crashes in this call, or idle    */
        pieces((int)member);
        crumb_adopt(NULL);                  /* it lies on the caller's stack             */
        atomic_fetch_add(&pool.gone, 1);
        wake(&pool.end);
    }
    return NULL;
}

/* A child of fork() has none of its parent's threads                                  */
static void forget_workers(void)
{
    pool.workers = 0;
    atomic_store(&pool.word, 0);
    atomic_store(&pool.door, 0);
    pool.start = pool.end = (struct gate){ PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };
}

/* How large a team there can be, at most the one that is wanted.  Signals from outside stay the
 * caller's, crashes a worker's own                                                        */
static int hire(int team)
{
    static const int crash[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };
    static bool once;
    pthread_attr_t attr;
    sigset_t outside, was;
    if (pool.workers + 1 >= team) return team;
    if (!once) once = pthread_atfork(NULL, NULL, forget_workers) == 0;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&outside);
    for (int64_t i = 0; i < COUNT(crash); i++) sigdelset(&outside, crash[i]);
    pthread_sigmask(SIG_SETMASK, &outside, &was);
    for (pthread_t t; pool.workers + 1 < team; pool.workers++)
        if (pthread_create(&t, &attr, worker, (void *)(intptr_t)(pool.workers + 1))) break;
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    pthread_attr_destroy(&attr);
    return pool.workers + 1;
}

static void run_team(int team, int64_t n, chi_task *task, void *arg)
{
    pool.task = task;
    pool.arg = arg;
    pool.n = n;
    pool.crumb = crumb_now();
    atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
    atomic_store_explicit(&pool.gone, 0, memory_order_relaxed);
    uint64_t number = (atomic_load_explicit(&pool.word, memory_order_relaxed) >> TEAM_BITS) + 1;
    atomic_store(&pool.door, number << TEAM_BITS);
    atomic_store(&pool.word, number << TEAM_BITS | (uint64_t)team);
    wake(&pool.start);
    pieces(0);
    uint64_t inside_now = atomic_exchange(&pool.door, 0) & ((1 << TEAM_BITS) - 1);
    await(&pool.end, &pool.gone, inside_now, true);
}
#endif

void pool_run(int64_t n, chi_task *task, void *arg)
{
    if (n <= 0) return;
    if (inside) {
        serial(n, task, arg, mine);
        return;
    }
    bool ready = n_scratch >= pool_size() || pool_scratch(64) == CHI_OK;
#ifdef CHI_THREADS
    int team = ready ? hire((int)min_i64(pool_size(), n)) : 1;
    if (team > 1) {
        run_team(team, n, task, arg);
        return;
    }
#endif
    (void)ready;                            /* without scratch nobody takes any          */
    inside = true;
    mine = n_scratch ? scratch : NULL;
    serial(n, task, arg, mine);
    inside = false;
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
