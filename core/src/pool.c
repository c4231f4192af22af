/* pool.c - parallel loops over pieces that do not depend on who runs them.
 *
 * What a piece computes depends on its size, never on the number of threads, so any number
 * gives the same bits.  Each thread has pieces of its own, and takes others' when it is done.  */
#include "pool.h"
#include "core.h"
#include "crumb.h"

#ifdef _OPENMP
# include <omp.h>
# include <pthread.h>
# include <stdatomic.h>
# include <sys/resource.h>
#endif
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

enum { THREADS_MAX = 1024, PIECES_MAX = INT32_MAX };
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
#ifdef _OPENMP
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return 1;
}

void pool_threads(int n)
{
    threads = n > 0 ? n : usable_cores();
#ifndef _OPENMP
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

/* ---- a team -------------------------------------------------------------------- *
 *
 * A pass through a large model is hundreds of loops a few microseconds apart, and opening a
 * parallel region for each takes longer than some of them.  pool_hold() opens one for all:
 * member 0 runs the pass and posts its loops, the others wait for them.
 *
 * A loop is a number that goes up, in one word with the size of its team: who reads
 * the word knows at once whether the loop is his.  He writes the number on his seat and
 * looks whether the loop is still open; member 0 shuts it when no piece is left, and then
 * looks at the seats: it waits for those who sat down in time, never for one who is
 * still asleep or has no core.  Each writes before it looks, so one of the two sees the
 * other; who came too late touches nothing of the loop.
 *
 * Each seat has a range of the pieces, the same in every loop of that size, so that a member
 * meets the same weights again in his core's cache.  He takes them from the front; who
 * has none left takes from the ends of the others'.  Sixteen members on one counter would
 * wait for its cache line longer than short pieces take.
 *
 * Who waits spins for SHORT, since waking a thread takes longer than many a loop.  Unless
 * the machine took a core from the process within CALM, it goes on until LONG; then it
 * sleeps.  On a busy machine a spinning thread takes the time of the very one that it
 * waits for.  Each sleeps at his seat: member 0 wakes the first sleeper of the loop's team,
 * who wakes the next, and those beyond the team sleep on.                               */

#ifdef _OPENMP
enum { SHORT_NS = 20000, LONG_NS = 1000000, CALM_NS = 5000000, TEAM_BITS = 16, RANGE_BITS = 32 };

struct seat {
    _Alignas(128) atomic_uint_least64_t pieces; /* of this loop, not taken yet: first << RANGE_BITS | end  */
    atomic_uint_least64_t in, out;          /* the last loop that its member came to, and left */
    _Alignas(128) atomic_bool asleep;       /* until a word changes                     */
    pthread_mutex_t lock;
    pthread_cond_t  moved;
};

static struct {
    int       team;                         /* of the region that is open; 0: none      */
    int       seats;                        /* of the loop                              */
    chi_task *task;
    void     *arg;
    const struct crumb *crumb;
    _Alignas(128) atomic_uint_least64_t word; /* number of the loop << TEAM_BITS | team, 0: go */
    atomic_uint_least64_t open;             /* number of the loop that may be joined; 0: none */
    struct seat seat[THREADS_MAX];
    int       ready;                        /* seats whose lock can be used             */
    int64_t   regions;                      /* that were opened                         */
} pool;

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
static bool await(struct seat *me, atomic_uint_least64_t *word, uint64_t value, bool equal)
{
    if (spin(word, value, equal)) return false;
    pthread_mutex_lock(&me->lock);
    atomic_store(&me->asleep, true);
    while ((atomic_load(word) == value) != equal) pthread_cond_wait(&me->moved, &me->lock);
    atomic_store(&me->asleep, false);
    pthread_mutex_unlock(&me->lock);
    return true;
}

/* The first sleeper of members from .. to - 1, after the word has changed; both are sequentially
 * consistent, so a sleeper is seen or sees                                              */
static void wake(int from, int to)
{
    while (from < to && !atomic_load(&pool.seat[from].asleep)) from++;
    if (from == to) return;
    pthread_mutex_lock(&pool.seat[from].lock);
    pthread_cond_signal(&pool.seat[from].moved);
    pthread_mutex_unlock(&pool.seat[from].lock);
}

static uint64_t range_of(uint64_t first, uint64_t end)
{
    return first << RANGE_BITS | end;
}

/* The first piece of a seat, or the last; -1: it has none                               */
static int64_t take_piece(struct seat *s, bool first)
{
    uint64_t r = atomic_load_explicit(&s->pieces, memory_order_relaxed);
    for (;;) {
        uint64_t i = r >> RANGE_BITS, end = r & UINT32_MAX;
        if (i >= end) return -1;
        uint64_t less = first ? range_of(i + 1, end) : range_of(i, end - 1);
        if (atomic_compare_exchange_weak_explicit(&s->pieces, &r, less, memory_order_relaxed, memory_order_relaxed))
            return (int64_t)(first ? i : end - 1);
    }
}

static void run_piece(int64_t i)
{
    mine->used = 0;
    pool.task(pool.arg, i, mine);
}

static void pieces(int member)
{
    inside = true;
    mine = scratch + member;
    for (int k = 0; k < pool.seats; k++) {
        struct seat *s = &pool.seat[(member + k) % pool.seats];
        for (int64_t i; (i = take_piece(s, k == 0)) >= 0;) run_piece(i);
    }
    mine->used = 0;
    inside = false;
}

static void post(uint64_t team)
{
    uint64_t number = (atomic_load_explicit(&pool.word, memory_order_relaxed) >> TEAM_BITS) + 1;
    atomic_store(&pool.open, team ? number : 0);
    atomic_store(&pool.word, number << TEAM_BITS | team);
}

static void dismiss(int team)
{
    post(0);
    for (int m = 1; m < team; m++) wake(m, m + 1);
}

/* Pieces of the loop, if it is still open                                               */
static void join(int me, int team, uint64_t number, bool slept)
{
    struct seat *s = &pool.seat[me];
    atomic_store(&s->in, number);
    if (atomic_load(&pool.open) == number) {
        if (slept) wake(me + 1, team);
        crumb_adopt(pool.crumb);            /* a member crashes in this loop, or idle    */
        pieces(me);
        crumb_adopt(NULL);                  /* it lies on the caller's stack             */
    }
    atomic_store(&s->out, number);
    wake(0, 1);
}

static void member(int me, uint64_t seen)
{
    for (;;) {
        bool slept = await(&pool.seat[me], &pool.word, seen, false);
        seen = atomic_load(&pool.word);
        int team = (int)(seen & ((1 << TEAM_BITS) - 1));
        if (!team) return;
        if (me < team) join(me, team, seen >> TEAM_BITS, slept);
    }
}

static void run_held(int team, int64_t n, chi_task *task, void *arg)
{
    pool.task = task;
    pool.arg = arg;
    pool.seats = team;
    pool.crumb = crumb_now();
    for (int m = 0; m < team; m++) {
        uint64_t pieces = range_of((uint64_t)(n * m / team), (uint64_t)(n * (m + 1) / team));
        atomic_store_explicit(&pool.seat[m].pieces, pieces, memory_order_relaxed);
    }
    post((uint64_t)team);
    wake(1, team);
    pieces(0);
    uint64_t number = atomic_exchange(&pool.open, 0);
    for (int m = 1; m < team; m++)
        if (atomic_load(&pool.seat[m].in) == number) await(&pool.seat[0], &pool.seat[m].out, number, true);
}

static int held(void) { return pool.team; }
int64_t pool_regions(void) { return pool.regions; }

static void in_region(int team, void (*pass)(void *), void *arg)
{
    uint64_t seen = atomic_load(&pool.word);
    for (; pool.ready < team; pool.ready++) {
        pthread_mutex_init(&pool.seat[pool.ready].lock, NULL);
        pthread_cond_init(&pool.seat[pool.ready].moved, NULL);
    }
    pool.regions++;
#pragma omp parallel num_threads(team)
    if (omp_get_thread_num()) {
        member(omp_get_thread_num(), seen);
    } else {
        pool.team = omp_get_num_threads();
        pass(arg);
        dismiss(pool.team);
        pool.team = 0;
    }
}
#else
static int held(void) { return 1; }
int64_t pool_regions(void) { return 0; }
static void run_held(int team, int64_t n, chi_task *task, void *arg) { (void)team, serial(n, task, arg, mine); }
static void in_region(int team, void (*pass)(void *), void *arg) { (void)team, pass(arg); }
#endif

void pool_hold(void (*pass)(void *), void *arg)
{
    if (inside || held() || pool_size() == 1) pass(arg);
    else in_region(pool_size(), pass, arg);
}

struct loop { int64_t n; chi_task *task; void *arg; };

static void one_loop(void *arg)
{
    const struct loop *l = arg;
    pool_run(l->n, l->task, l->arg);
}

void pool_run(int64_t n, chi_task *task, void *arg)
{
    if (n <= 0) return;
    if (inside) {
        serial(n, task, arg, mine);
        return;
    }
    bool ready = n_scratch >= pool_size() || pool_scratch(64) == CHI_OK;
    int team = ready && n <= PIECES_MAX ? (int)min_i64(pool_size(), n) : 1; /* without scratch nobody takes any */
    if (team > 1 && !held()) {
        in_region(team, one_loop, &(struct loop){ n, task, arg });
        return;
    }
    team = (int)min_i64(team, held() ? held() : 1);
    if (team > 1) {
        run_held(team, n, task, arg);
        return;
    }
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
