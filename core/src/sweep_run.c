/* sweep_run.c - the processes of a sweep: each job is `chimera train SWEEP/ID.ini --resume` in its
 * own folder, on its own cores, with what it says in SWEEP/ID/job.log.
 *
 * Nothing here must survive a kill.  A child is asked to save and stop when this process dies,
 * however it dies; what it had done lies in its run folder; a job that somebody still writes is
 * waited for, one whose folder says done is not run again.                                  */
#include "core.h"
#include "fs.h"
#include "json.h"
#include "run.h"
#include "signals.h"
#include "sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DEATHS_MAX = 20, PAUSE_MS = 50 };

struct slot {                           /* a place for one process                     */
    struct sweep_job *job;              /* NULL: free                                  */
    pid_t    pid;
    cpu_set_t cores;
    int      n_core;
    int64_t  metrics_bytes;             /* looked at for the stop condition            */
    int64_t  step;                      /* of the newest checkpoint when it began      */
    bool     asked;                     /* to stop, for the sweep's sake               */
    bool     early;                     /* to stop, for its own                        */
};

struct runner {
    struct sweep_journal *g;
    const struct sweep_request *q;
    struct slot *slot; int64_t n_slot;
    int64_t *deaths;                    /* of each job in a row without a new checkpoint */
    bool    *todo;                      /* of each job                                 */
    int64_t failed, running, ended;
    bool    tty, stopping;
    double  said, begun;
    char    self[4096];
};

/* ---- folders ------------------------------------------------------------------------- */

bool sweep_run_busy(const char *dir)
{
    char *path = fs_join(dir, "lock");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    free(path);
    if (fd < 0) return false;
    bool taken = flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
    close(fd);
    return taken;
}

static char *job_dir(const struct runner *r, const struct sweep_job *j)
{
    return fs_join(r->g->dir, j->id);
}

static int64_t newest_step(const char *dir)
{
    int64_t *step = NULL, n = ckpt_steps(dir, &step), newest = n > 0 ? step[0] : -1;
    free(step);
    return newest;
}

/* Does status.json say that all steps are done?                                          */
/* The last line of job.log, without "chimera: "; caller frees                              */
static char *last_words(const char *dir)
{
    char *path = fs_join(dir, "job.log"), *line = NULL, *last = xstrdup("");
    size_t room = 0;
    ssize_t n;
    FILE *f = fopen(path, "re");
    while (f && (n = getline(&line, &room, f)) > 0) {
        if (line[n - 1] == '\n') line[n - 1] = 0;
        const char *text = !strncmp(line, "chimera: ", 9) ? line + 9 : line;
        if (!*text) continue;
        free(last);
        last = xprintf("%.400s", text);
    }
    if (f) fclose(f);
    free(line);
    free(path);
    return last;
}

/* ---- what a person sees ---------------------------------------------------------------------- */

static char *job_name(const struct runner *r, const struct sweep_job *j)
{
    char *name = xstrdup(j->id);
    for (int64_t i = 0; i < r->g->n_column; i++) {
        char *t = xprintf("%s%s%s = %s", name, i ? ", " : ": ", r->g->column[i], j->label[i]);
        free(name);
        name = t;
    }
    return name;
}

static void say(const struct runner *r, const struct sweep_job *j, const char *what)
{
    char *name = job_name(r, j);
    if (r->tty) status_line(NULL);
    note("%s (%s)", what, name);
    free(name);
}

static void show(struct runner *r)
{
    double now = now_s();
    int64_t waiting = 0;
    if (now - r->said < (r->tty ? 0.2 : 60)) return;
    r->said = now;
    for (int64_t i = 0; i < r->g->n_job; i++) waiting += r->todo[i];
    char *line = xprintf("sweep: %lld running, %lld waiting, %lld ended, %lld of them failed, %.0f min",
                         (long long)r->running,
                         (long long)waiting, (long long)r->ended, (long long)r->failed,
                             (now - r->begun) / 60);
    for (int64_t i = 0; i < r->n_slot; i++) {
        const struct sweep_job *j = r->slot[i].job;
        if (!j) continue;
        char *dir = job_dir(r, j);
        char *t = xprintf("%s  %.6s saved %lld/%lld", line, j->id, (long long)max_i64(0, newest_step(dir)),
                          (long long)j->steps);
        free(dir);
        free(line);
        line = t;
    }
    if (r->tty) status_line(line);
    else note("%s", line);
    free(line);
}

/* ---- the end of a job ------------------------------------------------------------------------- */

static chi_status ended(struct runner *r, struct sweep_job *j, enum job_state state, const char *reason)
{
    r->todo[j - r->g->job] = false;
    r->ended++;
    r->failed += state == JOB_FAILED;
    TRY(sweep_journal_end(r->g, j, state, reason));
    double value = 0;
    int64_t step = 0;
    bool there = sweep_metric(r->g, j, &value, &step);
    char *what = state == JOB_FAILED ? xprintf("failed: %s", reason)
               : there ? xprintf("%s: %s %.6g", job_state_name(state), r->g->metric, value)
                   : xstrdup(job_state_name(state));
    say(r, j, what);
    free(what);
    return CHI_OK;
}

/* Is it over, as its folder says?  Then its end is written down                                  */
static chi_status end_by_folder(struct runner *r, struct sweep_job *j, bool *over)
{
    int64_t offset = 0;
    char *why = NULL, *dir = job_dir(r, j);
    chi_status s = CHI_OK;
    *over = true;
    if (sweep_should_stop(r->g, j, &offset, &why)) s = ended(r, j, JOB_EARLY, why);
    else if (sweep_folder_is(dir, "done")) s = ended(r, j, JOB_DONE, "");
    else *over = false;
    free(why);
    free(dir);
    return s;
}

/* Signals that somebody else sent end a process, but not its job                                  */
static bool interrupted(int status)
{
    int n = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) - 128;
    return (WIFEXITED(status) && !WEXITSTATUS(status)) || n == SIGKILL || n == SIGTERM || n == SIGINT
        || n == SIGHUP
        || n == SIGUSR1;
}

static chi_status reaped(struct runner *r, struct slot *s, int status)
{
    struct sweep_job *j = s->job;
    char *dir = job_dir(r, j), *said = last_words(dir);
    int64_t *deaths = &r->deaths[j - r->g->job];
    bool over, asked = s->asked;
    *deaths = newest_step(dir) > s->step ? 0 : *deaths + 1;
    s->job = NULL;
    r->running--;
    chi_status st = end_by_folder(r, j, &over);
    if (st == CHI_OK && !over) {
        if (interrupted(status) && (asked || *deaths < DEATHS_MAX)) {
            r->todo[j - r->g->job] = true;
            if (!asked) say(r, j, "was killed, goes on");
        } else {
            char *why = WIFSIGNALED(status) ? xprintf("%s %s", strsignal(WTERMSIG(status)), said)
                                            : xprintf("exit code %d: %s", WEXITSTATUS(status), said);
            st = ended(r, j, JOB_FAILED, why);
            free(why);
        }
    }
    free(said);
    free(dir);
    return st;
}

/* ---- the beginning ------------------------------------------------------------------------------ */

/* In the child: nothing but system calls until exec                                               */
static void become(const struct slot *s, char *const *argv, int log, pid_t parent)
{
    int null = open("/dev/null", O_RDONLY);
    setpgid(0, 0);                      /* Ctrl-C comes to us alone, we pass it on             */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(128 + SIGTERM);
    sched_setaffinity(0, sizeof s->cores, &s->cores);
    if (null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0) _exit(126);
    execv(argv[0], argv);
    _exit(127);
}

static chi_status spawn(struct runner *r, struct slot *s, struct sweep_job *j, const char *dir)
{
    static char train[] = "train", resume[] = "--resume";
    char *log_path = fs_join(dir, "job.log"), *conf = xprintf("%s/%s.ini", r->g->dir, j->id);
    char *run_dir = xprintf("run.dir=%s", dir), *threads = xprintf("run.threads=%d", s->n_core);
    char *argv[] = { r->self, train, conf, run_dir, threads, resume, NULL };
    chi_status st = CHI_OK;
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log < 0) st = fs_fail("open", log_path);
    else {
        pid_t parent = getpid();
        fflush(NULL);
        s->pid = fork();
        if (s->pid == 0) become(s, argv, log, parent);
        if (s->pid < 0) st = fail_errno(CHI_ENOMEM, "no process for job %s", j->id);
        close(log);
    }
    free(log_path);
    free(conf);
    free(run_dir);
    free(threads);
    return st;
}

static chi_status start(struct runner *r, struct slot *s, struct sweep_job *j)
{
    char *dir = job_dir(r, j);
    int64_t step = newest_step(dir);
    chi_status st = fs_mkdirs(dir);
    if (st == CHI_OK) st = sweep_journal_start(r->g, j);
    if (st == CHI_OK) say(r, j, step < 0 ? "begins" : "goes on");
    if (st == CHI_OK) st = spawn(r, s, j, dir);
    free(dir);
    TRY(st);
    s->job = j;
    s->asked = s->early = false;
    s->metrics_bytes = 0;
    s->step = step;
    r->todo[j - r->g->job] = false;
    r->running++;
    return CHI_OK;
}

/* The next job that waits and that no process from before still writes                             */
static chi_status start_next(struct runner *r, struct slot *s, bool *started)
{
    *started = false;
    for (int64_t i = 0; i < r->g->n_job && !*started; i++) {
        struct sweep_job *j = &r->g->job[i];
        if (!r->todo[i]) continue;
        char *dir = job_dir(r, j);
        bool busy = sweep_run_busy(dir), over = false;
        free(dir);
        if (busy) continue;
        TRY(end_by_folder(r, j, &over));
        if (over) continue;
        TRY(start(r, s, j));
        *started = true;
    }
    return CHI_OK;
}

/* ---- the loop -------------------------------------------------------------------------------------- */

static void ask_all(struct runner *r)
{
    for (int64_t i = 0; i < r->n_slot; i++) {
        struct slot *s = &r->slot[i];
        if (!s->job || s->asked) continue;
        s->asked = true;
        if (!s->early) kill(s->pid, SIGTERM);
    }
}

static chi_status look_after(struct runner *r, struct slot *s)
{
    int status;
    char *why = NULL;
    pid_t got = waitpid(s->pid, &status, WNOHANG);
    if (got == s->pid) return reaped(r, s, status);
    if (!s->early && !s->asked && sweep_should_stop(r->g, s->job, &s->metrics_bytes, &why)) {
        s->early = true;
        kill(s->pid, SIGTERM);
    }
    free(why);
    return CHI_OK;
}

static bool work_left(const struct runner *r)
{
    for (int64_t i = 0; i < r->g->n_job; i++)
        if (r->todo[i]) return true;
    return false;
}

static void rest(void)
{
    struct timespec t = { 0, PAUSE_MS * 1000000L };
    nanosleep(&t, NULL);
}

static chi_status loop(struct runner *r)
{
    bool started;
    do {
        for (int64_t i = 0; i < r->n_slot; i++)
            if (r->slot[i].job) TRY(look_after(r, &r->slot[i]));
        r->stopping = r->stopping || signals_pending() || (r->q->fail_fast && r->failed);
        if (r->stopping) ask_all(r);
        for (int64_t i = 0; !r->stopping && i < r->n_slot; i++)
            if (!r->slot[i].job) TRY(start_next(r, &r->slot[i], &started));
        show(r);
        if (r->running || work_left(r)) rest();
    } while (r->running || (!r->stopping && work_left(r)));
    return CHI_OK;
}

/* An error of our own, such as a full disk: the jobs save and stop before we say it                  */
static void abandon(struct runner *r)
{
    ask_all(r);
    for (int64_t i = 0; i < r->n_slot; i++)
        if (r->slot[i].job) waitpid(r->slot[i].pid, NULL, 0);
}

/* Slot i of n gets the i-th part of the cores that we may use                                         */
static void share_cores(struct runner *r)
{
    cpu_set_t all;
    int core[CPU_SETSIZE], n = 0;
    CPU_ZERO(&all);
    sched_getaffinity(0, sizeof all, &all);
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &all)) core[n++] = c;
    if (!n) core[n++] = 0;
    for (int64_t i = 0; i < r->n_slot; i++) {
        struct slot *s = &r->slot[i];
        int64_t from = i * n / r->n_slot, to = (i + 1) * n / r->n_slot;
        if (r->n_slot > n) from = i % n, to = from + 1;
        CPU_ZERO(&s->cores);
        for (int64_t c = from; c < to; c++) CPU_SET(core[c], &s->cores);
        s->n_core = (int)(to - from);
    }
}

static void choose(struct runner *r)
{
    for (int64_t i = 0; i < r->g->n_job; i++) {
        const struct sweep_job *j = &r->g->job[i];
        bool over = j->state == JOB_DONE || j->state == JOB_EARLY || (j->state == JOB_FAILED && !r->q->retry);
        r->todo[i] = !over && (!r->q->only || !strcmp(r->q->only, j->id));
    }
}

/* Failed ones of earlier runs count, too, unless they are tried again                                  */
static int64_t count_failed(const struct runner *r)
{
    int64_t n = 0;
    for (int64_t i = 0; i < r->g->n_job; i++)
        n += r->g->job[i].state == JOB_FAILED && (!r->q->only || !strcmp(r->q->only, r->g->job[i].id));
    return n;
}

chi_status sweep_run(struct sweep_journal *g, const struct sweep_request *q, int *signal, int64_t *failed)
{
    struct runner r = { .g = g, .q = q, .n_slot = q->jobs, .tty = isatty(2), .begun = now_s(),
        .said = now_s() };
    ssize_t n = readlink("/proc/self/exe", r.self, sizeof r.self - 1);
    if (n <= 0) return fail_errno(CHI_EIO, "the program cannot find itself in /proc/self/exe");
    r.self[n] = 0;
    r.slot = xcalloc((size_t)r.n_slot, sizeof *r.slot);
    r.deaths = xcalloc((size_t)g->n_job + 1, sizeof *r.deaths);
    r.todo = xcalloc((size_t)g->n_job + 1, sizeof *r.todo);
    signals_catch();
    share_cores(&r);
    choose(&r);
    chi_status s = loop(&r);
    if (s != CHI_OK) {
        char *why = xstrdup(fail_text());
        abandon(&r);
        fail(s, "%s", why);
        free(why);
    }
    if (r.tty) status_line(NULL);
    *signal = signals_pending();
    *failed = count_failed(&r);
    signals_release();
    free(r.slot);
    free(r.deaths);
    free(r.todo);
    return s;
}
