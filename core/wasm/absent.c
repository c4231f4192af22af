/* absent.c - functions of the system that emscripten declares but does not have.
 *
 * WebAssembly has one process, one thread here and no signals.  Each of these answers ENOSYS,
 * so that the callers' own messages say what did not work; sigaltstack() is only a precaution.
 * Linked by tools/wasm.mk alone.                                                   */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int absent(void)
{
    errno = ENOSYS;
    return -1;
}

int memfd_create(const char *name, unsigned flags)
{
    (void)name, (void)flags;
    return absent();
}

int prctl(int what, ...)
{
    (void)what;
    return absent();
}

int sched_getaffinity(pid_t pid, size_t n, cpu_set_t *set)
{
    (void)pid, (void)n, (void)set;
    return absent();
}

int sched_setaffinity(pid_t pid, size_t n, const cpu_set_t *set)
{
    (void)pid, (void)n, (void)set;
    return absent();
}

int sigaltstack(const stack_t *restrict to, stack_t *restrict was)
{
    (void)to, (void)was;
    return absent();
}

pid_t wait4(pid_t pid, int *status, int options, struct rusage *used)
{
    (void)pid, (void)status, (void)options, (void)used;
    return absent();
}

int posix_spawnp(pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *restrict attributes, char *const *restrict argv, char *const *restrict env)
{
    (void)pid, (void)file, (void)actions, (void)attributes, (void)argv, (void)env;
    return ENOSYS;
}
