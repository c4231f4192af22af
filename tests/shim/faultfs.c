/* faultfs.c - an LD_PRELOAD library that makes the N-th file operation fail, or kills
 * the process there.
 *
 *     FAULT=call:N:once:ERRNO     only the N-th counted call fails with errno ERRNO
 *     FAULT=call:N:from:ERRNO     that one and every later one
 *     FAULT=call:N:kill           SIGKILL before the N-th call
 *     FAULT=call:N:signal:NUMBER  that signal before the N-th call, which then goes on
 *     FAULT=call:N:short          a write stores half, then SIGKILL
 *     FAULT=call:N:part           from the N-th call on, a write stores half and says so
 *     FAULT_COUNT=FILE            at exit, the number of counted calls is written there
 *     FAULT_LOG=FILE              a line per counted call: its name, its path or paths
 *
 * Counted: write, pwrite, fsync, fdatasync, ftruncate, rename, renameat2, unlink, rmdir,
 * mkdir, and open for writing, on anything but standard input, output and error, by the
 * process itself: children that it forks are left alone.                          */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { NONE, ONCE, FROM, KILL, SIGNAL, SHORT, PART };
static long calls, target;
static int  mode = -1, code;
static pid_t self;                          /* the process that loaded this        */

__attribute__((constructor)) static void loaded(void)
{
    self = getpid();
}

static void setup(void)
{
    char how[16] = "";
    const char *text = getenv("FAULT");
    mode = NONE;
    if (!text || sscanf(text, "call:%ld:%15[a-z]:%d", &target, how, &code) < 2) return;
    mode = !strcmp(how, "once") ? ONCE : !strcmp(how, "from") ? FROM
         : !strcmp(how, "kill") ? KILL : !strcmp(how, "signal") ? SIGNAL : !strcmp(how, "short") ? SHORT
         : !strcmp(how, "part") ? PART : NONE;
}

/* Counts a call; true: it shall fail, errno is set                                */
static int fault(int fd, const void *bytes, size_t n)
{
    if (mode < 0) setup();
    if (getpid() != self) return 0;
    long now = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (mode == NONE || mode == PART || now < target || (now > target && mode != FROM)) return 0;
    if (mode == SHORT && bytes) syscall(SYS_write, fd, bytes, n / 2);
    if (mode == KILL || mode == SHORT) kill(getpid(), SIGKILL);
    if (mode == SIGNAL) return kill(getpid(), code);
    errno = code;
    return 1;
}

__attribute__((destructor)) static void report(void)
{
    const char *path = getenv("FAULT_COUNT");
    char text[32];
    if (!path || getpid() != self) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    int n = snprintf(text, sizeof text, "%ld\n", calls);
    if (fd >= 0) syscall(SYS_write, fd, text, n);
}

/* "CALL PATH [PATH]", the path of a file that is open already by its descriptor     */
static void note(const char *call, int fd, const char *a, const char *b)
{
    const char *log = getenv("FAULT_LOG");
    char name[64], path[512] = "", line[2048];
    if (!log || getpid() != self || (fd >= 0 && fd < 3)) return;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    if (fd >= 0 && readlink(name, path, sizeof path - 1) < 0) return;
    int n = snprintf(line, sizeof line, "%s %s%s%s\n", call, fd >= 0 ? path : a, b ? " " : "", b ? b : "");
    int out = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (out < 0 || syscall(SYS_write, out, line, n) < 0) return;
    syscall(SYS_close, out);
}

#define NEXT(f, name) do { *(void **)(void *)&(f) = dlsym(RTLD_NEXT, name); } while (0)

ssize_t write(int fd, const void *p, size_t n)
{
    if (fd > 2 && fault(fd, p, n)) return -1;
    note("write", fd, NULL, NULL);
    if (mode == PART && fd > 2 && n > 1 && calls >= target) n /= 2;
    return syscall(SYS_write, fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    ssize_t (*f)(int, const void *, size_t, off_t);
    NEXT(f, "pwrite");
    return fault(fd, NULL, 0) ? -1 : f(fd, p, n, at);
}

int fsync(int fd)
{
    if (fault(fd, NULL, 0)) return -1;
    note("fsync", fd, NULL, NULL);
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) { return fault(fd, NULL, 0) ? -1 : (int)syscall(SYS_fdatasync, fd); }

int ftruncate(int fd, off_t n)
{
    int (*f)(int, off_t);
    NEXT(f, "ftruncate");
    note("write", fd, NULL, NULL);
    return fault(fd, NULL, 0) ? -1 : f(fd, n);
}

int ftruncate64(int fd, off64_t n) { return ftruncate(fd, (off_t)n); }

int rename(const char *a, const char *b)
{
    int (*f)(const char *, const char *);
    NEXT(f, "rename");
    note("rename", -1, a, b);
    return fault(-1, NULL, 0) ? -1 : f(a, b);
}

int renameat2(int da, const char *a, int db, const char *b, unsigned flags)
{
    int (*f)(int, const char *, int, const char *, unsigned);
    NEXT(f, "renameat2");
    return fault(-1, NULL, 0) ? -1 : f(da, a, db, b, flags);
}

int unlink(const char *a)
{
    int (*f)(const char *);
    NEXT(f, "unlink");
    note("unlink", -1, a, NULL);
    return fault(-1, NULL, 0) ? -1 : f(a);
}

int rmdir(const char *a)
{
    int (*f)(const char *);
    NEXT(f, "rmdir");
    note("rmdir", -1, a, NULL);
    return fault(-1, NULL, 0) ? -1 : f(a);
}

int mkdir(const char *a, mode_t m)
{
    int (*f)(const char *, mode_t);
    NEXT(f, "mkdir");
    note("mkdir", -1, a, NULL);
    return fault(-1, NULL, 0) ? -1 : f(a, m);
}

static int do_open(const char *path, int flags, mode_t m)
{
    if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && fault(-1, NULL, 0)) return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, m);
}

static mode_t mode_of(int flags, va_list a)
{
    return flags & O_CREAT ? (mode_t)va_arg(a, int) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list a;
    va_start(a, flags);
    mode_t m = mode_of(flags, a);
    va_end(a);
    return do_open(path, flags, m);
}

int open64(const char *path, int flags, ...)
{
    va_list a;
    va_start(a, flags);
    mode_t m = mode_of(flags, a);
    va_end(a);
    return do_open(path, flags, m);
}
