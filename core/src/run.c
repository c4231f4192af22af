/* run.c - run folders: who may write one, what it says of itself, and its line files.
 *
 * A run folder belongs to one process at a time.  The lock is flock(), which the kernel
 * drops with the process, so that a killed run never leaves a stale one; the text in the
 * file only tells who.  Line files (metrics, samples) are appended one write a line; a
 * line torn by a kill is cut off when the run goes on.  A line that cannot be written
 * waits in memory for the next one: a disk that is full for an hour costs no line.
 * Checkpoints count only once every line before them is on the disk.              */
#include "run.h"
#include "core.h"
#include "crumb.h"
#include "fs.h"
#include "json.h"
#include "run_events.h"
#include "packed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct lines {                          /* a file of lines                         */
    const char *name;
    int     fd;
    int64_t bytes;                      /* whole lines in the file                 */
    char   *waiting;                    /* [n_waiting] lines that come behind them */
    int64_t n_waiting;
    bool    torn;                       /* the file may be longer than bytes       */
};
enum { WAITING_MAX = 16 << 20 };

struct run {
    char   *dir;
    int     lock;                       /* file descriptor                         */
    struct lines metrics, samples;
    struct run_events events;
    FILE   *log;
};

const char *run_dir(const struct run *r)
{
    return r->dir;
}

int64_t run_metrics_bytes(const struct run *r)
{
    return r->metrics.bytes + r->metrics.n_waiting;
}

int64_t run_samples_bytes(const struct run *r)
{
    return r->samples.bytes + r->samples.n_waiting;
}

static bool has(const char *dir, const char *name)
{
    char *path = fs_join(dir, name);
    bool there = fs_exists(path);
    free(path);
    return there;
}

static void now_text(char out[32])
{
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void host_text(char out[128])
{
    if (gethostname(out, 127) < 0) strcpy(out, "?");
    out[127] = 0;
}

/* ---- what a subject is ----------------------------------------------------- */

bool run_is_folder(const char *subject)
{
    return fs_is_dir(subject) && has(subject, "config.ini") && has(subject, "ckpt");
}

bool run_is_checkpoint(const char *subject)
{
    return fs_is_dir(subject) && has(subject, "MANIFEST.json");
}

/* A path that is not there: the neighbour that may have been meant               */
static chi_status no_subject(const char *subject)
{
    const char *slash = strrchr(subject, '/'), *base = slash ? slash + 1 : subject;
    char *folder = slash ? xprintf("%.*s/", (int)(slash - subject), subject) : xstrdup(".");
    char **name = NULL;
    int64_t n = 0;
    const char *meant = NULL;
    if (fs_entries(folder, &name, &n) == CHI_OK && n) {
        name = xrealloc(name, (size_t)(n + 1) * sizeof *name);
        name[n] = NULL;
        meant = closest(base, (const char *const *)name);
    }
    chi_status s = fail(CHI_ECONF,
                        "%s: no such file or folder; wanted is a configuration (FILE.ini) or a run folder%s%s%s%s",
                        subject, meant ? "; did you mean " : "", meant && slash ? folder : "",
                        meant ? meant : "", meant ? "?" : "");
    fs_list_free(name, n);
    free(folder);
    return s;
}

chi_status run_config(const char *subject, char *const *overrides, int n, struct config **out)
{
    *out = NULL;
    if (!fs_exists(subject)) return no_subject(subject);
    if (packed_is(subject))
        return fail(CHI_ECONF,
                    "%s is a packed model: its weights are for use, not for training; wanted is a configuration "
                    "(FILE.ini) or a run folder", subject);
    if (fs_begins(subject, "GGUF"))
        return fail(CHI_ECONF,
                    "%s is a GGUF file; wanted is a configuration (FILE.ini), a run folder or a packed model:"
                    " chimera import %s -o OUT makes one of it", subject, subject);
    if (!fs_is_dir(subject)) return config_load(out, subject, overrides, n);
    if (!has(subject, "config.ini"))
        return fail(CHI_ECONF, "%s is a folder without config.ini, so it is no run folder; wanted is a"
                    " configuration (FILE.ini) or a run folder", subject);
    char **all = xcalloc((size_t)n + 1, sizeof *all);
    bool moved = false;
    for (int i = 0; i < n; i++) {
        all[i] = overrides[i];
        moved = moved || !strncmp(overrides[i], "run.dir=", 8);
    }
    char *here = xprintf("run.dir=%s", subject), *path = fs_join(subject, "config.ini");
    if (!moved) all[n] = here;
    chi_status s = config_load(out, path, all, moved ? n : n + 1);
    free(path);
    free(here);
    free(all);
    return s;
}

/* ---- the lock --------------------------------------------------------------- */

static chi_status take_lock(struct run *r)
{
    char who[256] = "", start[32], host[128];
    char *path = fs_join(r->dir, "lock");
    chi_status s = CHI_OK;
    r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (r->lock < 0) s = fs_fail("create", path);
    else if (flock(r->lock, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK) {
            ssize_t k = read(r->lock, who, sizeof who - 1);
            if (k > 0 && who[k - 1] == '\n') who[k - 1] = 0;
            s = fail(CHI_EREFUSED,
                     "%s is being written by %s: wait until it ends, stop it, or choose another run.dir",
                     r->dir, *who ? who : "another process");
        } else s = fs_fail("lock", path);
    } else {
        now_text(start);
        host_text(host);
        int n = snprintf(who, sizeof who, "process %ld on %s, started %s\n", (long)getpid(), host, start);
        if (ftruncate(r->lock, 0) < 0 || !fs_write_all(r->lock, who, n)) s = fs_fail("write", path);
    }
    free(path);
    return s;
}

/* ---- line files ------------------------------------------------------------- */

/* Bytes of the file up to and with its last '\n'                                  */
static int64_t whole_lines(int fd, int64_t bytes)
{
    char buffer[4096];
    while (bytes > 0) {
        int64_t n = min_i64(bytes, (int64_t)sizeof buffer);
        if (pread(fd, buffer, (size_t)n, bytes - n) != n) return bytes;
        for (int64_t i = n; i > 0; i--)
            if (buffer[i - 1] == '\n') return bytes - n + i;
        bytes -= n;
    }
    return 0;
}

static bool cut_fd(int fd, int64_t bytes)
{
    while (ftruncate(fd, bytes) < 0)
        if (errno != EINTR) return false;
    return true;
}

static chi_status open_lines(const struct run *r, struct lines *l)
{
    struct stat st;
    char *path = fs_join(r->dir, l->name);
    chi_status s = CHI_OK;
    l->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (l->fd < 0 || fstat(l->fd, &st) < 0) s = fs_fail("open", path);
    else {
        l->bytes = whole_lines(l->fd, st.st_size);
        if (l->bytes < st.st_size && !cut_fd(l->fd, l->bytes)) s = fs_fail("cut", path);
    }
    free(path);
    return s;
}

static chi_status lines_fail(const struct run *r, const struct lines *l, const char *what)
{
    char *path = fs_join(r->dir, l->name);
    chi_status s = fs_fail(what, path);
    free(path);
    return s;
}

/* Writes what waits.  A part of it that got into the file is taken back            */
static chi_status write_waiting(const struct run *r, struct lines *l)
{
    if (!l->n_waiting) return CHI_OK;
    if (l->torn && !cut_fd(l->fd, l->bytes)) return lines_fail(r, l, "cut");
    l->torn = false;
    if (!fs_write_all(l->fd, l->waiting, l->n_waiting)) {
        chi_status s = lines_fail(r, l, "append to");
        l->torn = !cut_fd(l->fd, l->bytes);
        return s;
    }
    l->bytes += l->n_waiting;
    l->n_waiting = 0;
    return CHI_OK;
}

static chi_status append(const struct run *r, struct lines *l, const char *line)
{
    bool first = l->n_waiting == 0;
    int64_t n = (int64_t)strlen(line);
    l->waiting = xrealloc(l->waiting, (size_t)(l->n_waiting + n + 1));
    memcpy(l->waiting + l->n_waiting, line, (size_t)n);
    l->waiting[l->n_waiting + n] = '\n';
    l->n_waiting += n + 1;
    chi_status s = write_waiting(r, l);
    if (s == CHI_OK || l->n_waiting > WAITING_MAX) return s;
    if (first) warn("%s (the lines wait in memory until it works again)", fail_text());
    return CHI_OK;
}

chi_status run_metrics(struct run *r, const char *line)
{
    TRY(append(r, &r->metrics, line));
    run_events_add(&r->events, r->dir, line);
    return CHI_OK;
}

void run_tensorboard(struct run *r)
{
    r->events.on = true;
}

chi_status run_sample(struct run *r, const char *line)
{
    return append(r, &r->samples, line);
}

static chi_status cut_lines(struct run *r, struct lines *l, int64_t bytes)
{
    char end = '\n';
    if (bytes < 0 || bytes > l->bytes)
        return fail(CHI_EDATA, "%s/%s has %lld bytes of whole lines, the checkpoint was made at %lld:"
                    " was it edited or replaced?", r->dir, l->name, (long long)l->bytes, (long long)bytes);
    if (bytes && (pread(l->fd, &end, 1, (off_t)(bytes - 1)) != 1 || end != '\n'))
        return fail(CHI_EDATA, "%s/%s: no line ends at byte %lld, where the checkpoint was made:"
                    " was it edited or replaced?", r->dir, l->name, (long long)bytes);
    if (!cut_fd(l->fd, bytes)) return lines_fail(r, l, "cut");
    l->bytes = bytes;
    l->n_waiting = 0;
    l->torn = false;
    return CHI_OK;
}

chi_status run_cut(struct run *r, int64_t metrics_bytes, int64_t samples_bytes)
{
    TRY(cut_lines(r, &r->metrics, metrics_bytes));
    TRY(cut_lines(r, &r->samples, samples_bytes));
    TRY(run_sync(r));
    run_events_begin(&r->events, r->dir);
    return CHI_OK;
}

static chi_status sync_lines(const struct run *r, struct lines *l)
{
    TRY(write_waiting(r, l));
    while (fsync(l->fd) < 0)
        if (errno != EINTR) return lines_fail(r, l, "sync");
    return CHI_OK;
}

chi_status run_sync(struct run *r)
{
    TRY(sync_lines(r, &r->metrics));
    return sync_lines(r, &r->samples);
}

/* ---- what a run says of itself ---------------------------------------------- */

static chi_status write_config(const struct run *r, const struct config *c)
{
    char *text = NULL, *path = fs_join(r->dir, "config.ini");
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    chi_status s = CHI_OK;
    if (f) config_print(c, f, false);
    if (!f || fclose(f)) s = fail(CHI_ENOMEM, "no memory for the text of %s", path);
    if (s == CHI_OK) s = fs_write_atomic(path, text, (int64_t)n);
    free(text);
    free(path);
    return s;
}

/* One line per start, quoted for a shell where needed                             */
static chi_status write_command(const struct run *r, int argc, char *const *argv)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";
    char *text = NULL, *path = fs_join(r->dir, "command.txt");
    size_t n = 0;
    chi_status s = CHI_OK;
    FILE *f = open_memstream(&text, &n);
    for (int i = 0; f && i < argc; i++) {
        const char *a = argv[i];
        if (i) putc(' ', f);
        if (*a && !a[strspn(a, plain)]) {
            fputs(a, f);
            continue;
        }
        putc('\'', f);
        for (; *a; a++) {
            if (*a == '\'') fputs("'\\''", f);
            else putc(*a, f);
        }
        putc('\'', f);
    }
    if (f) putc('\n', f);
    if (!f || fclose(f)) s = fail(CHI_ENOMEM, "no memory for the text of %s", path);
    int fd = s == CHI_OK ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (s == CHI_OK && (fd < 0 || !fs_write_all(fd, text, (int64_t)n))) s = fs_fail("write", path);
    if (fd >= 0) close(fd);
    free(text);
    free(path);
    return s;
}

chi_status run_status(struct run *r, const char *state, const char *reason)
{
    char now[32], host[128], *text = NULL, *path = fs_join(r->dir, "status.json");
    size_t n = 0;
    chi_status s = CHI_OK;
    now_text(now);
    host_text(host);
    FILE *f = open_memstream(&text, &n);
    if (f) {
        fputs("{\"state\": ", f);
        json_quote(f, state);
        fputs(", \"reason\": ", f);
        json_quote(f, reason ? reason : "");
        fprintf(f, ", \"pid\": %ld, \"host\": ", (long)getpid());
        json_quote(f, host);
        fprintf(f, ", \"time\": \"%s\"}\n", now);
    }
    if (!f || fclose(f)) s = fail(CHI_ENOMEM, "no memory for the text of %s", path);
    if (s == CHI_OK) s = fs_write_atomic(path, text, (int64_t)n);
    free(text);
    free(path);
    return s;
}

/* ---- opening ---------------------------------------------------------------- */

static chi_status open_log(struct run *r)
{
    char *path = fs_join(r->dir, "log.txt");
    r->log = fopen(path, "ae");
    chi_status s = r->log ? CHI_OK : fs_fail("open", path);
    free(path);
    return s;
}

/* Everything that may refuse comes before the first write into an existing run.   */
static chi_status start(struct run *r, struct config *c, bool resume, int argc, char *const *argv)
{
    TRY(fs_mkdirs(r->dir));
    TRY(take_lock(r));
    if (!resume && (has(r->dir, "config.ini") || has(r->dir, "metrics.jsonl")))
        return fail(CHI_EREFUSED, "%s holds a run already: go on with it by --resume, or choose another run.dir",
                    r->dir);
    int64_t *step = NULL;
    bool begun = ckpt_steps(r->dir, &step) > 0;
    free(step);
    if (begun) TRY(ckpt_fits(r->dir, c));
    char *ckpt = fs_join(r->dir, "ckpt");
    chi_status s = fs_mkdirs(ckpt);
    free(ckpt);
    TRY(s);
    ckpt_sweep(r->dir);
    TRY(open_lines(r, &r->metrics));
    TRY(open_lines(r, &r->samples));
    if (!begun) TRY(run_cut(r, 0, 0));
    TRY(write_config(r, c));
    TRY(write_command(r, argc, argv));
    TRY(open_log(r));
    log_file(r->log);
    crash_log(r->log ? fileno(r->log) : -1);
    return fs_sync_dir(r->dir);
}

chi_status run_open(struct run **out, const char *dir, struct config *c, bool resume,
                    int argc, char *const *argv)
{
    struct run *r = xcalloc(1, sizeof *r);
    *r = (struct run){ .dir = xstrdup(dir), .lock = -1, .metrics = { .name = "metrics.jsonl", .fd = -1 },
                       .samples = { .name = "samples.jsonl", .fd = -1 }, .events = { .fd = -1 } };
    chi_status s = start(r, c, resume, argc, argv);
    if (s != CHI_OK) {
        run_close(r);
        r = NULL;
    }
    *out = r;
    return s;
}

void run_close(struct run *r)
{
    if (!r) return;
    if (r->log) {
        log_file(NULL);
        crash_log(-1);
        fclose(r->log);
    }
    if (r->metrics.fd >= 0) close(r->metrics.fd);
    if (r->samples.fd >= 0) close(r->samples.fd);
    if (r->events.fd >= 0) close(r->events.fd);
    free(r->metrics.waiting);
    free(r->samples.waiting);
    if (r->lock >= 0) close(r->lock);
    free(r->dir);
    free(r);
}
