/* guard.c - see guard.h.  A block's pages: [forbidden | slack, bytes, slack | forbidden].    */
#include "guard.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "core.h"

struct block {
    char name[48];
    unsigned char *map, *at;                    /* first forbidden page; first byte       */
    int64_t bytes, room;                        /* room: of the pages between             */
};
static struct block *block;
static int64_t n_block;

static const unsigned char pattern[4] = { 0xa5, 0xa5, 0xc5, 0xff };     /* a NaN; -3824219 */

static int64_t page(void)
{
    return (int64_t)sysconf(_SC_PAGESIZE);
}

static void paint(unsigned char *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) p[i] = pattern[i % 4];
}

static bool painted(const unsigned char *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (p[i] != pattern[i % 4]) return false;
    return true;
}

static unsigned char *pages_of(const struct block *b)
{
    return b->map + page();
}

void *guard_take(int64_t bytes, int64_t align, bool at_end, const char *name)
{
    struct block b = { .bytes = bytes, .room = round_up(max_i64(bytes, 1), page()) };
    snprintf(b.name, sizeof b.name, "%s", name);
    b.map = mmap(NULL, (size_t)(b.room + 2 * page()), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b.map == MAP_FAILED) return NULL;
    if (mprotect(pages_of(&b), (size_t)b.room, PROT_READ | PROT_WRITE) != 0) {
        munmap(b.map, (size_t)(b.room + 2 * page()));
        return NULL;
    }
    int64_t before = at_end ? (b.room - bytes) / align * align : 0;
    b.at = pages_of(&b) + before;
    paint(pages_of(&b), before);
    paint(b.at + bytes, b.room - before - bytes);
    block = xrealloc(block, (size_t)(n_block + 1) * sizeof *block);
    block[n_block++] = b;
    return b.at;
}

static struct block *find(const void *p)
{
    for (int64_t i = n_block - 1; p && i >= 0; i--)
        if (block[i].at == p) return &block[i];
    return NULL;
}

static bool drop(void *p)
{
    struct block *b = find(p);
    if (!b) return false;
    munmap(b->map, (size_t)(b->room + 2 * page()));
    memmove(b, b + 1, (size_t)(block + --n_block - b) * sizeof *b);
    return true;
}

void guard_drop(void *p)
{
    drop(p);
}

void guard_spoil(void *p)
{
    const struct block *b = find(p);
    if (b) paint(b->at, b->bytes);
}

static void protect(const struct block *b, bool read_only)
{
    mprotect(pages_of(b), (size_t)b->room, read_only ? PROT_READ : PROT_READ | PROT_WRITE);
}

void guard_read_only(void *p, bool on)
{
    const struct block *b = find(p);
    if (b) protect(b, on);
}

void guard_read_only_all(const char *name, bool on)
{
    for (int64_t i = 0; i < n_block; i++)
        if (!strcmp(block[i].name, name)) protect(&block[i], on);
}

const char *guard_broken(void)
{
    for (int64_t i = 0; i < n_block; i++) {
        const struct block *b = &block[i];
        int64_t before = b->at - pages_of(b), after = b->room - before - b->bytes;
        if (painted(pages_of(b), before) && painted(b->at + b->bytes, after)) continue;
        paint(pages_of(b), before);
        paint(b->at + b->bytes, after);
        return b->name;
    }
    return NULL;
}

/* ---- the core's blocks -------------------------------------------------------------------- */

static bool mem_on, mem_at_end;

static void *source_take(size_t bytes, const char *what)
{
    return mem_on ? guard_take((int64_t)bytes, 64, mem_at_end, what) : NULL;
}

void guard_mem(bool on, bool at_end)
{
    static const struct mem_source source = { source_take, drop };
    mem_source(&source);
    mem_on = on;
    mem_at_end = at_end;
}

/* ---- faults ------------------------------------------------------------------------------- */

static sigjmp_buf back;
static volatile sig_atomic_t watching;
static unsigned char *volatile fault_at;
static volatile int fault_is_write;                 /* -1: the machine does not tell        */
static _Thread_local bool mine;                     /* this thread called guard_call()       */

static void on_fault(int sig, siginfo_t *info, void *context)
{
    if (!watching || !mine) {
        signal(sig, SIG_DFL);                       /* comes again as soon as we return      */
        return;
    }
    fault_at = info->si_addr;
    fault_is_write = -1;
#if defined(__x86_64__) && defined(REG_ERR)
    fault_is_write = (((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
    (void)context;
#endif
    siglongjmp(back, 1);
}

static void tell(char words[GUARD_WORDS])
{
    const char *does = fault_is_write < 0 ? "touches" : fault_is_write ? "writes" : "reads";
    for (int64_t i = 0; i < n_block; i++) {
        const struct block *b = &block[i];
        if (fault_at < b->map || fault_at >= b->map + b->room + 2 * page()) continue;
        if (fault_at >= b->at + b->bytes)
            snprintf(words, GUARD_WORDS, "%s at byte %lld of %s, which has %lld", does, (long long)(fault_at - b->at),
                     b->name, (long long)b->bytes);
        else if (fault_at < b->at)
            snprintf(words, GUARD_WORDS, "%s %lld bytes before %s", does, (long long)(b->at - fault_at), b->name);
        else
            snprintf(words, GUARD_WORDS, "%s %s at byte %lld, which it may only read", does, b->name,
                     (long long)(fault_at - b->at));
        return;
    }
    snprintf(words, GUARD_WORDS, "%s address %p, which lies in no block that it was given", does, (void *)fault_at);
}

bool guard_call(void (*f)(void *), void *arg, char words[GUARD_WORDS])
{
    struct sigaction act = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, was[2];
    volatile bool fine = false;
    sigemptyset(&act.sa_mask);
    sigaction(SIGSEGV, &act, &was[0]);
    sigaction(SIGBUS, &act, &was[1]);
    mine = true;
    if (sigsetjmp(back, 1) == 0) {
        watching = 1;
        f(arg);
        fine = true;
    }
    watching = 0;
    mine = false;
    sigaction(SIGSEGV, &was[0], NULL);
    sigaction(SIGBUS, &was[1], NULL);
    if (!fine) tell(words);
    return fine;
}
