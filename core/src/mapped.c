/* mapped.c - see mapped.h.  The handler calls nothing but isatty(), write(), unlink(), pause(), sigaction(), raise()
 * and _exit().                                                                                               */
#include "mapped.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core.h"
#include "fs.h"

enum { MAPPINGS = 256, EXIT_DATA = 3, EXIT_DISK = 5 };

struct mapping {
    _Atomic(uintptr_t) from;                /* 0: free; set last, cleared first                                */
    uintptr_t to;
    const char *path;
    int how;
};

static struct mapping mapping[MAPPINGS];
static atomic_flag caught = ATOMIC_FLAG_INIT, telling = ATOMIC_FLAG_INIT;
static struct sigaction former;

static const struct mapping *mapping_of(uintptr_t at)
{
    for (int i = 0; i < MAPPINGS; i++) {
        uintptr_t from = atomic_load(&mapping[i].from);
        if (from && at >= from && at < mapping[i].to) return &mapping[i];
    }
    return NULL;
}

static void tell(const struct mapping *m)
{
    const char *why = m->how == MAPPED_WRITE ? " cannot be written any more: is its disk full, or did it fail?\n"
                    : " cannot be read any more: it became shorter while it was in use, or its disk failed; put the "
                      "whole file back and start again\n";
    char line[4600];
    size_t n = strlen("chimera: "), more = strnlen(m->path, 4096);
    memcpy(line, "chimera: ", n);
    memcpy(line + n, m->path, more);
    n += more;
    more = strlen(why);
    memcpy(line + n, why, more);
    ssize_t told = isatty(2) ? write(2, "\n", 1) : 0;       /* off the status line                            */
    told += write(2, line, n + more);
    (void)told;
}

static void on_bus(int number, siginfo_t *info, void *context)
{
    const struct mapping *m = info->si_code > 0 ? mapping_of((uintptr_t)info->si_addr) : NULL;
    (void)context;
    if (m) {
        while (atomic_flag_test_and_set(&telling)) pause();             /* another thread says it and ends us       */
        tell(m);
        if (m->how == MAPPED_WRITE) unlink(m->path);
        _exit(m->how == MAPPED_WRITE ? EXIT_DISK : EXIT_DATA);
    }
    sigaction(SIGBUS, &former, NULL);
    if (info->si_code <= 0) raise(number);  /* somebody sent it; else the access is made again                 */
}

static void catch_bus(void)
{
    struct sigaction a;
    if (atomic_flag_test_and_set(&caught)) return;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on_bus;
    a.sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_NODEFER);
    sigemptyset(&a.sa_mask);
    sigaction(SIGBUS, &a, &former);
}

void mapped_add(const void *from, int64_t bytes, const char *path, int how)
{
    catch_bus();
    for (int i = 0; i < MAPPINGS; i++) {
        if (atomic_load(&mapping[i].from)) continue;
        mapping[i].to = ((uintptr_t)from + (uintptr_t)bytes + 4095) & ~(uintptr_t)4095;
        mapping[i].path = path;
        mapping[i].how = how;
        atomic_store(&mapping[i].from, (uintptr_t)from);
        return;
    }
}

void mapped_drop(const void *from)
{
    for (int i = 0; i < MAPPINGS; i++)
        if (atomic_load(&mapping[i].from) == (uintptr_t)from) atomic_store(&mapping[i].from, 0);
}

void mapped_let_go(const void *from, int64_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)from & ~(page - 1);
    const struct mapping *m = mapping_of((uintptr_t)from);
    if (!WEBASSEMBLY && m && m->how == MAPPED_READ && bytes > 0)
        madvise((void *)begin, (size_t)((uintptr_t)from + (uintptr_t)bytes - begin), MADV_DONTNEED);
}

chi_status mapped_open(const char *path, unsigned char **bytes, struct stat *identity)
{
    struct stat again;
    void *p = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);             /* a pipe is no reason to wait */
    *bytes = NULL;
    if (fd < 0) return fs_fail_open(path);
    chi_status s = CHI_OK;
    if (fstat(fd, identity) < 0) s = fs_fail("read", path);
    else if (!S_ISREG(identity->st_mode)) s = fail(CHI_EDATA, "%s is no regular file", path);
    if (s == CHI_OK && identity->st_size > 0) {
        p = mmap(NULL, (size_t)identity->st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) s = fs_fail("map", path), p = NULL;
    }
    if (s == CHI_OK && (fstat(fd, &again) < 0 || again.st_size != identity->st_size))
        s = fail(CHI_EDATA, "%s changes while it is read", path);
    close(fd);
    if (s != CHI_OK && p) munmap(p, (size_t)identity->st_size);
    else if (p) mapped_add(p, identity->st_size, path, MAPPED_READ), *bytes = p;
    return s;
}
