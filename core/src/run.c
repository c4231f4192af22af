/* run.c - run folders: who may write one, what it says of itself, and its line files.
 *
 * A run folder belongs to one process at a time.  The lock is flock(), which the kernel
 * drops with the process, so that a killed run never leaves a stale one; the text in the
 * file only tells who.  Line files (metrics, samples) are appended one write a line; a
 * line torn by a kill is cut off when the run goes on.                           */
#include "run.h"
#include "core.h"
#include "fs.h"
#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct run {
    char   *dir;
    int     lock, metrics, samples;     /* file descriptors                        */
    int64_t metrics_bytes, samples_bytes;
    FILE   *log;
};

const char *run_dir(const struct run *r)
{
    return r->dir;
}

int64_t run_metrics_bytes(const struct run *r)
{
    return r->metrics_bytes;
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
    chi_status s = fail(CHI_ECONF, "%s: no such file or folder; wanted is a configuration (FILE.ini) or a run folder%s%s%s%s",
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
            s = fail(CHI_EREFUSED, "%s is being written by %s: wait until it ends, stop it, or choose another run.dir",
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

static chi_status open_lines(const struct run *r, const char *name, int *fd, int64_t *bytes)
{
    struct stat st;
    char *path = fs_join(r->dir, name);
    chi_status s = CHI_OK;
    *fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (*fd < 0 || fstat(*fd, &st) < 0) s = fs_fail("open", path);
    else {
        *bytes = whole_lines(*fd, st.st_size);
        if (*bytes < st.st_size && ftruncate(*fd, *bytes) < 0) s = fs_fail("cut", path);
    }
    free(path);
    return s;
}

/* A line that could be written only in part is taken back                         */
static chi_status append(const struct run *r, int fd, int64_t *bytes, const char *name, const char *line)
{
    char *text = xprintf("%s\n", line);
    int64_t n = (int64_t)strlen(text);
    chi_status s = CHI_OK;
    if (fs_write_all(fd, text, n)) *bytes += n;
    else {
        char *path = fs_join(r->dir, name);
        s = fs_fail("append to", path);
        if (ftruncate(fd, *bytes) < 0) warn("%s may end with half a line", path);
        free(path);
    }
    free(text);
    return s;
}

chi_status run_metrics(struct run *r, const char *line)
{
    return append(r, r->metrics, &r->metrics_bytes, "metrics.jsonl", line);
}

chi_status run_sample(struct run *r, const char *line)
{
    return append(r, r->samples, &r->samples_bytes, "samples.jsonl", line);
}

chi_status run_cut_metrics(struct run *r, int64_t bytes)
{
    char end = '\n';
    if (bytes < 0 || bytes > r->metrics_bytes)
        return fail(CHI_EDATA, "%s/metrics.jsonl has %lld bytes of whole lines, the checkpoint was made at %lld:"
                    " was it edited or replaced?", r->dir, (long long)r->metrics_bytes, (long long)bytes);
    if (bytes && (pread(r->metrics, &end, 1, bytes - 1) != 1 || end != '\n'))
        return fail(CHI_EDATA, "%s/metrics.jsonl: no line ends at byte %lld, where the checkpoint was made:"
                    " was it edited or replaced?", r->dir, (long long)bytes);
    while (ftruncate(r->metrics, bytes) < 0)
        if (errno != EINTR) return fs_fail("cut metrics.jsonl of", r->dir);
    r->metrics_bytes = bytes;
    return run_sync(r);
}

chi_status run_sync(const struct run *r)
{
    while (fsync(r->metrics) < 0)
        if (errno != EINTR) return fs_fail("sync metrics.jsonl of", r->dir);
    return CHI_OK;
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
        return fail(CHI_EREFUSED, "%s holds a run already: go on with it by --resume, or choose another run.dir", r->dir);
    int64_t *step = NULL;
    bool begun = ckpt_steps(r->dir, &step) > 0;
    free(step);
    if (begun) TRY(ckpt_fits(r->dir, c));
    char *ckpt = fs_join(r->dir, "ckpt");
    chi_status s = fs_mkdirs(ckpt);
    free(ckpt);
    TRY(s);
    ckpt_sweep(r->dir);
    TRY(open_lines(r, "metrics.jsonl", &r->metrics, &r->metrics_bytes));
    TRY(open_lines(r, "samples.jsonl", &r->samples, &r->samples_bytes));
    if (!begun) {
        if (ftruncate(r->samples, 0) < 0) return fs_fail("cut samples.jsonl of", r->dir);
        r->samples_bytes = 0;
        TRY(run_cut_metrics(r, 0));
    }
    TRY(write_config(r, c));
    TRY(write_command(r, argc, argv));
    TRY(open_log(r));
    log_file(r->log);
    return fs_sync_dir(r->dir);
}

chi_status run_open(struct run **out, const char *dir, struct config *c, bool resume,
                    int argc, char *const *argv)
{
    struct run *r = xcalloc(1, sizeof *r);
    *r = (struct run){ .dir = xstrdup(dir), .lock = -1, .metrics = -1, .samples = -1 };
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
        fclose(r->log);
    }
    if (r->metrics >= 0) close(r->metrics);
    if (r->samples >= 0) close(r->samples);
    if (r->lock >= 0) close(r->lock);
    free(r->dir);
    free(r);
}
