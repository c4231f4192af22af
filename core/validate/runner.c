/* runner.c - starts children, waits for them, judges how they ended; see runner.h.       */
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core.h"

enum { AT_ONCE_MAX = 64, WALL = 3, QUOTE = 3 };     /* WALL: clock time over processor time */

struct child {
    struct job *job;
    pid_t   pid;                        /* 0: free                                      */
    int     out, err;                   /* what it printed                              */
    struct report *report;
    double  begun, patience;
    bool    killed;                     /* by us: it took too long                      */
};
enum { ENOUGH = 3 };                    /* hangs, after which the rest is not waited for */

struct runner {
    const struct bench_plan *plan;
    struct job *job;
    int64_t n, started, told;
    bool   *finished;
    int64_t hangs;                      /* so far                                       */
    struct child child[AT_ONCE_MAX];
    char   *argv_text, **argv;          /* our own command line                         */
    sigset_t waiting, before;
};

/* ---- starting ------------------------------------------------------------------------- */

static chi_status own_arguments(struct runner *r)
{
    size_t n = 0, room = 0, words = 0;
    FILE *f = fopen("/proc/self/cmdline", "rb");
    if (!f) return fail_errno(CHI_EIO, "/proc/self/cmdline");
    for (int c; (c = getc(f)) != EOF; r->argv_text[n++] = (char)c)
        if (n + 1 >= room) r->argv_text = xrealloc(r->argv_text, room = 2 * room + 4096);
    fclose(f);
    if (!n) return fail(CHI_EIO, "/proc/self/cmdline is empty: is /proc mounted?");
    r->argv_text[n] = 0;
    r->argv = xcalloc(n + 1, sizeof *r->argv);
    for (size_t at = 0; at < n; at += strlen(r->argv_text + at) + 1) r->argv[words++] = r->argv_text + at;
    return CHI_OK;
}

static int hidden_file(const char *name, off_t bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd >= 0 && bytes && ftruncate(fd, bytes) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* After fork(): only what may be called between it and exec                             */
static void become(struct runner *r, const struct child *c, int report, int null, char **env)
{
    setpgid(0, 0);
    sigprocmask(SIG_SETMASK, &r->before, NULL);
    dup2(null, 0);
    dup2(c->out, 1);
    dup2(c->err, 2);
    fcntl(report, F_SETFD, 0);
    execve("/proc/self/exe", r->argv, env);
    _exit(127);
}

static char **child_environment(const struct runner *r, const struct job *j, int report, int64_t seconds,
                                char *own[2])
{
    extern char **environ;
    int64_t n = 0;
    while (environ[n]) n++;
    char **env = xcalloc((size_t)n + 3, sizeof *env);
    memcpy(env, environ, (size_t)n * sizeof *env);
    env[n] = own[0] = xprintf("CHIMERA_TRIAL=%d %lld %lld %d %s", report, (long long)seconds,
                              j->check ? (long long)j->index : -1LL, j->kind, j->name ? j->name : "");
    env[n + 1] = own[1] = xprintf("CHIMERA_TRIAL_PLUGIN=%s", r->plan->subject);
    return env;
}

static chi_status start(struct runner *r, struct child *c, struct job *j)
{
    int64_t seconds = r->plan->seconds ? r->plan->seconds : j->check ? j->check->seconds : 30;
    int report = hidden_file("report", sizeof(struct report)), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    *c = (struct child){ .job = j, .out = hidden_file("out", 0), .err = hidden_file("err", 0),
                         .begun = now_s(), .patience = WALL * (double)seconds };
    if (report < 0 || null < 0 || c->out < 0 || c->err < 0) return fail_errno(CHI_EIO, "a file in memory");
    c->report = mmap(NULL, sizeof *c->report, PROT_READ | PROT_WRITE, MAP_SHARED, report, 0);
    if (c->report == MAP_FAILED) return fail_errno(CHI_EIO, "memory to share with a child");
    char *own[2], **env = child_environment(r, j, report, seconds, own);
    fflush(NULL);
    c->pid = fork();
    if (c->pid == 0) become(r, c, report, null, env);
    close(report);
    close(null);
    free(own[0]);
    free(own[1]);
    free(env);
    if (c->pid > 0) return CHI_OK;
    c->pid = 0;
    return fail_errno(CHI_EIO, "no process to run a check in");
}

/* ---- judging --------------------------------------------------------------------------- */

static const char *signal_name(int n)
{
    static const struct { int n; const char *name; } known[] = {
        { SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGFPE, "SIGFPE" }, { SIGILL, "SIGILL" },
        { SIGABRT, "SIGABRT" }, { SIGKILL, "SIGKILL" }, { SIGXFSZ, "SIGXFSZ" }, { SIGTERM, "SIGTERM" },
        { SIGTRAP, "SIGTRAP" }, { SIGSYS, "SIGSYS" }, { SIGALRM, "SIGALRM" }, { SIGPIPE, "SIGPIPE" },
    };
    for (int64_t i = 0; i < COUNT(known); i++)
        if (known[i].n == n) return known[i].name;
    return strsignal(n);
}

static void add_line(struct job *j, enum outcome outcome, const char *fmt, ...) CHI_PRINTF(3, 4);
static void add_line(struct job *j, enum outcome outcome, const char *fmt, ...)
{
    va_list a;
    char line[1024];
    va_start(a, fmt);
    vsnprintf(line, sizeof line, fmt, a);
    va_end(a);
    if (outcome > j->outcome) j->outcome = outcome;
    char *all = xprintf("%s%s\n", j->text ? j->text : "", line);
    free(j->text);
    j->text = all;
}

/* What was written where nothing should be: the core's own messages begin with "chimera:"  */
static void judge_output(struct job *j, int fd, const char *where, bool crashed)
{
    int64_t said = 0;
    FILE *f = lseek(fd, 0, SEEK_SET) == 0 ? fdopen(fd, "r") : NULL;
    char line[240];
    while (f && fgets(line, sizeof line, f) && said < QUOTE) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "chimera: ", 9) || !*line) continue;
        for (char *c = line; *c; c++)
            if ((unsigned char)*c < 32) *c = '?';
        if (crashed) add_line(j, TRIAL_CRASHED, "%s: %s", where, line);
        else add_line(j, TRIAL_FAILED, "it writes to %s, which belongs to the program (use host->log): '%s'", where,
                      line);
        said++;
    }
    if (f) fclose(f);
    else close(fd);
}

/* How it ended, if it did not end by itself                                              */
static void judge_end(struct child *c, int status, const struct rusage *used)
{
    struct job *j = c->job;
    const char *where = *c->report->doing ? c->report->doing : "before the plugin was loaded";
    int n = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (c->killed || n == SIGXCPU || (n == SIGKILL && now_s() - c->begun > c->patience / WALL)) {
        j->ending = xprintf("no end after %.0f seconds %s", c->killed ? c->patience : c->patience / WALL, where);
        add_line(j, TRIAL_FAILED,
                 "it hangs, or is much too slow: stopped %s - `--only %s --in-process` under gdb shows where",
                 where, j->check ? j->check->name : "manifest");
    } else if (n) {
        j->ending = xprintf("%s %s", signal_name(n), where);
        add_line(j, TRIAL_CRASHED, "the process died of %s %s", signal_name(n), where);
    } else if (WEXITSTATUS(status) == 5) {
        j->ending = xprintf("out of memory %s", where);
        add_line(j, TRIAL_FAILED, "it allocates without limit: memory ran out %s", where);
    } else {
        j->ending = xprintf("exit code %d %s", WEXITSTATUS(status), where);
        add_line(j, TRIAL_CRASHED, "it ended the process with exit code %d %s", WEXITSTATUS(status), where);
    }
    if (used->ru_maxrss > (SPACE_LIMIT_GB << 20) / 2)               /* kB              */
        add_line(j, j->outcome, "it held %.1f GB of the %d GB that it may take: does it allocate without limit?",
                 (double)used->ru_maxrss / 1048576, SPACE_LIMIT_GB);
}

/* True if it hung                                                                        */
static bool finish(struct child *c, int status, const struct rusage *used)
{
    struct job *j = c->job;
    bool well = c->report->complete && WIFEXITED(status) && WEXITSTATUS(status) == 0, hung;
    c->report->text[REPORT_TEXT - 1] = 0;
    c->report->doing[CRUMB_PAGE - 1] = 0;
    j->seconds = now_s() - c->begun;
    if (*c->report->text && c->report->complete) j->text = xstrdup(c->report->text);
    if (well) j->outcome = (enum outcome)c->report->outcome;
    else judge_end(c, status, used);
    hung = j->ending && !strncmp(j->ending, "no end", 6);
    judge_output(j, c->out, "standard output", !well);
    judge_output(j, c->err, "standard error", !well);
    munmap(c->report, sizeof *c->report);
    *c = (struct child){ 0 };
    return hung;
}

/* ---- waiting --------------------------------------------------------------------------- */

static void tell(struct runner *r)
{
    for (; r->told < r->n && r->finished[r->told]; r->told++)
        if (r->plan->done) r->plan->done(&r->job[r->told], r->told, r->plan->ctx);
}

static void reap(struct runner *r)
{
    for (int i = 0; i < AT_ONCE_MAX; i++) {
        struct child *c = &r->child[i];
        struct rusage used;
        int status;
        if (!c->pid) continue;
        if (!c->killed && now_s() - c->begun > c->patience) {
            c->killed = true;
            kill(-c->pid, SIGKILL);
        }
        if (wait4(c->pid, &status, WNOHANG, &used) != c->pid) continue;
        kill(-c->pid, SIGKILL);         /* what it may have started                     */
        int64_t index = c->job - r->job;
        r->hangs += finish(c, status, &used);
        r->finished[index] = true;
    }
}

static struct child *free_place(struct runner *r)
{
    for (int64_t i = 0; i < min_i64(max_i64(r->plan->at_once, 1), AT_ONCE_MAX); i++)
        if (!r->child[i].pid) return &r->child[i];
    return NULL;
}

static chi_status start_some(struct runner *r)
{
    struct child *c;
    while (r->started < r->n && (c = free_place(r))) {
        struct job *j = &r->job[r->started++];
        if (!j->skip && r->hangs < ENOUGH) {
            TRY(start(r, c, j));
            continue;
        }
        add_line(j, TRIAL_SKIP, "%s", j->skip ? j->skip : "not run: three checks hung already");
        r->finished[j - r->job] = true;
    }
    return CHI_OK;
}

static chi_status run_all(struct runner *r)
{
    const struct timespec tick = { .tv_nsec = 100000000 };
    while (r->told < r->n) {
        TRY(start_some(r));
        tell(r);
        if (r->told == r->n) break;
        sigtimedwait(&r->waiting, NULL, &tick);
        reap(r);
        tell(r);
    }
    return CHI_OK;
}

chi_status runner_run(const struct bench_plan *plan, struct job *job, int64_t n)
{
    struct runner r = { .plan = plan, .job = job, .n = n };
    TRY(own_arguments(&r));
    r.finished = xcalloc((size_t)n + 1, sizeof *r.finished);
    sigemptyset(&r.waiting);
    sigaddset(&r.waiting, SIGCHLD);
    sigprocmask(SIG_BLOCK, &r.waiting, &r.before);
    chi_status s = run_all(&r);
    for (int i = 0; i < AT_ONCE_MAX; i++)
        if (r.child[i].pid) kill(-r.child[i].pid, SIGKILL);
    sigprocmask(SIG_SETMASK, &r.before, NULL);
    free(r.finished);
    free(r.argv_text);
    free(r.argv);
    return s;
}

void job_drop(struct job *j)
{
    free(j->text);
    free(j->ending);
}
