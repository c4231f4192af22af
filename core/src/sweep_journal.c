/* sweep_journal.c - what a sweep planned, began and ended, in lines that are only appended.
 *
 *   HASH plan  METRIC STOP STOP_AFTER N COLUMN ...
 *   HASH job   ID PARAMS STATE FLOPS STEPS TOKENS LABEL ...      N of them
 *   HASH start ID HOW_OFTEN
 *   HASH end   ID done|early|failed REASON
 *
 * Fields stand between tabs; HASH is XXH3-64 of the rest of the line.  Each append is one
 * write() and an fsync() under a lock of the file, so several processes (an array of Slurm) may
 * share a journal.  A kill can tear only the last line, which then has no line end: it does not
 * count, and the next append cuts it off.  A whole line with a wrong hash was changed.  */
#include "core.h"
#include "fs.h"
#include "sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char *const names[] = { "pending", "running", "done", "early", "failed" };

const char *job_state_name(enum job_state s)
{
    return names[s];
}

struct sweep_job *sweep_job_find(const struct sweep_journal *g, const char *id)
{
    for (int64_t i = 0; i < g->n_job; i++)
        if (!strcmp(g->job[i].id, id)) return &g->job[i];
    return NULL;
}

static void job_free(struct sweep_job *j, int64_t n_column)
{
    sweep_split_free(j->label, j->label ? n_column : 0);
    free(j->id);
    free(j->reason);
    free(j->config);
}

static void plan_free(struct sweep_journal *g)
{
    for (int64_t i = 0; i < g->n_job; i++) job_free(&g->job[i], g->n_column);
    sweep_split_free(g->column, g->n_column);
    free(g->job);
    free(g->metric);
    free(g->stop);
}

void sweep_journal_close(struct sweep_journal *g)
{
    plan_free(g);
    free(g->dir);
    free(g->path);
    *g = (struct sweep_journal){ 0 };
}

/* ---- reading ------------------------------------------------------------------------- */

struct seen { char *id, *reason; enum job_state state; int64_t starts; };
struct reading {
    struct sweep_journal *g;
    struct seen *seen; int64_t n_seen;  /* of every plan                               */
    int64_t wanted;                     /* jobs that the newest plan promised          */
};

static struct seen *seen_of(struct reading *r, const char *id)
{
    for (int64_t i = 0; i < r->n_seen; i++)
        if (!strcmp(r->seen[i].id, id)) return &r->seen[i];
    r->seen = xrealloc(r->seen, (size_t)(r->n_seen + 1) * sizeof *r->seen);
    r->seen[r->n_seen] = (struct seen){ .id = xstrdup(id), .reason = xstrdup("") };
    return &r->seen[r->n_seen++];
}

static bool take_plan(struct reading *r, char **f, int64_t n)
{
    struct sweep_journal *g = r->g;
    if (n < 5) return false;
    plan_free(g);
    g->metric = xstrdup(f[1]);
    g->stop = xstrdup(f[2]);
    g->stop_after = strtoll(f[3], NULL, 10);
    r->wanted = strtoll(f[4], NULL, 10);
    g->n_column = n - 5;
    g->column = xcalloc((size_t)n, sizeof *g->column);
    for (int64_t i = 5; i < n; i++) g->column[i - 5] = xstrdup(f[i]);
    g->job = NULL;
    g->n_job = 0;
    return r->wanted > 0;
}

static bool take_job(struct reading *r, char **f, int64_t n)
{
    struct sweep_journal *g = r->g;
    if (n != 7 + g->n_column || g->n_job >= r->wanted || sweep_job_find(g, f[1])) return false;
    g->job = xrealloc(g->job, (size_t)(g->n_job + 1) * sizeof *g->job);
    struct sweep_job *j = &g->job[g->n_job++];
    *j = (struct sweep_job){ .id = xstrdup(f[1]), .params = strtoll(f[2], NULL, 10),
                             .state_bytes = strtoll(f[3], NULL, 10), .flops = strtoll(f[4], NULL, 10),
                             .steps = strtoll(f[5], NULL, 10), .tokens = strtoll(f[6], NULL, 10),
                             .label = xcalloc((size_t)g->n_column + 1, sizeof *j->label),
                                 .reason = xstrdup("") };
    for (int64_t i = 0; i < g->n_column; i++) j->label[i] = xstrdup(f[7 + i]);
    return true;
}

static bool take_state(struct reading *r, char **f, int64_t n)
{
    struct seen *s = seen_of(r, n > 1 ? f[1] : "");
    if (!strcmp(f[0], "start") && n == 3) {
        s->state = JOB_RUNNING;
        s->starts = strtoll(f[2], NULL, 10);
        return true;
    }
    if (strcmp(f[0], "end") || n != 4) return false;
    for (int k = JOB_DONE; k <= JOB_FAILED; k++)
        if (!strcmp(f[2], names[k])) {
            s->state = (enum job_state)k;
            free(s->reason);
            s->reason = xstrdup(f[3]);
            return true;
        }
    return false;
}

static bool take_line(struct reading *r, const char *line, size_t size)
{
    char hash[24];
    if (size < 18 || memchr(line, 0, size)) return false;
    snprintf(hash, sizeof hash, "%016llx ", (unsigned long long)xxh3(line + 17, size - 17));
    if (memcmp(hash, line, 17)) return false;
    int64_t n;
    char *text = xprintf("%.*s", (int)(size - 17), line + 17), **f = sweep_split(text, "\t", &n);
    bool good = !strcmp(f[0], "plan") ? take_plan(r, f, n) : !strcmp(f[0], "job") ? take_job(r, f, n)
        : take_state(r, f, n);
    sweep_split_free(f, n);
    free(text);
    return good;
}

static chi_status take_all(struct reading *r, const char *text, int64_t size)
{
    const char *p = text, *end = text + size, *stop;
    for (int64_t line = 1; (stop = memchr(p, '\n', (size_t)(end - p))); line++, p = stop + 1)
        if (!take_line(r, p, (size_t)(stop - p)))
            return fail(CHI_EDATA, "%s:%lld: this line was changed. The jobs' folders are not touched by"
                        " it: move the journal"
                        " away and start the sweep again, what is done is not repeated", r->g->path,
                            (long long)line);
    for (int64_t i = 0; i < r->g->n_job; i++) {
        struct sweep_job *j = &r->g->job[i];
        const struct seen *s = seen_of(r, j->id);
        j->state = s->state;
        j->starts = s->starts;
        free(j->reason);
        j->reason = xstrdup(s->reason);
    }
    if (r->g->n_job < r->wanted) r->g->n_job = 0;       /* torn: planned anew          */
    return CHI_OK;
}

chi_status sweep_journal_open(struct sweep_journal *g, const char *dir)
{
    unsigned char *text;
    int64_t size;
    struct reading r = { .g = g };
    *g = (struct sweep_journal){ .dir = xstrdup(dir), .path = fs_join(dir, "journal"), .metric = xstrdup(""),
                                 .stop = xstrdup("") };
    if (!fs_exists(g->path)) return CHI_OK;
    chi_status s = fs_read(g->path, &text, &size);
    if (s != CHI_OK) return s;
    s = take_all(&r, (const char *)text, size);
    for (int64_t i = 0; i < r.n_seen; i++) {
        free(r.seen[i].id);
        free(r.seen[i].reason);
    }
    free(r.seen);
    mem_free(text);
    return s;
}

/* ---- appending --------------------------------------------------------------------------- */

/* Cuts what follows the last line end                                                        */
static bool cut_torn(int fd)
{
    char c;
    off_t size = lseek(fd, 0, SEEK_END), n = size;
    while (n > 0 && pread(fd, &c, 1, n - 1) == 1 && c != '\n') n--;
    return n == size || ftruncate(fd, n) == 0;
}

static chi_status append(const struct sweep_journal *g, const char *text, int64_t size)
{
    bool first = !fs_exists(g->path);
    int fd = open(g->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666), locked = -1;
    while (fd >= 0 && (locked = flock(fd, LOCK_EX)) < 0 && errno == EINTR) {}
    chi_status s = fd < 0 || locked < 0 || !cut_torn(fd) || !fs_write_all(fd, text, size) || fsync(fd) < 0
                 ? fs_fail("append to", g->path) : CHI_OK;
    if (fd >= 0) close(fd);
    return s == CHI_OK && first ? fs_sync_dir(g->dir) : s;
}

/* A line with its hash; takes payload over                                                    */
static void put_line(FILE *f, char *payload)
{
    fprintf(f, "%016llx %s\n", (unsigned long long)xxh3(payload, strlen(payload)), payload);
    free(payload);
}

static char *with_fields(char *line, char *const *field, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        char *t = xprintf("%s\t%s", line, field[i]);
        free(line);
        line = t;
    }
    return line;
}

static chi_status append_line(const struct sweep_journal *g, char *payload)
{
    char *text = xprintf("%016llx %s\n", (unsigned long long)xxh3(payload, strlen(payload)), payload);
    chi_status s = append(g, text, (int64_t)strlen(text));
    free(payload);
    free(text);
    return s;
}

static bool same_words(char *const *a, char *const *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (strcmp(a[i], b[i])) return false;
    return true;
}

static bool same_plan(const struct sweep_journal *a, const struct sweep_journal *b)
{
    bool same = a->n_job == b->n_job && a->n_column == b->n_column && !strcmp(a->metric, b->metric)
             && !strcmp(a->stop, b->stop) && a->stop_after == b->stop_after && same_words(a->column,
                 b->column, a->n_column);
    for (int64_t i = 0; same && i < a->n_job; i++)
        same = !strcmp(a->job[i].id, b->job[i].id) && same_words(a->job[i].label, b->job[i].label,
            a->n_column)
            && a->job[i].params == b->job[i].params && a->job[i].flops == b->job[i].flops;
    return same;
}

static chi_status write_configs(const struct sweep_journal *plan)
{
    for (int64_t i = 0; i < plan->n_job; i++) {
        char *path = xprintf("%s/%s.ini", plan->dir, plan->job[i].id);
        chi_status s = CHI_OK;          /* one that is there has the same content: see the id */
        if (!fs_exists(path)) s = fs_write_atomic(path, plan->job[i].config,
                                                  (int64_t)strlen(plan->job[i].config));
        free(path);
        TRY(s);
    }
    return CHI_OK;
}

static chi_status write_plan(const struct sweep_journal *g, const struct sweep_journal *plan)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) return fail(CHI_ENOMEM, "no memory for the text of %s", g->path);
    put_line(f, with_fields(xprintf("plan\t%s\t%s\t%lld\t%lld", plan->metric, plan->stop,
                                    (long long)plan->stop_after,
                                    (long long)plan->n_job), plan->column, plan->n_column));
    for (int64_t i = 0; i < plan->n_job; i++) {
        const struct sweep_job *j = &plan->job[i];
        put_line(f, with_fields(xprintf("job\t%s\t%lld\t%lld\t%lld\t%lld\t%lld", j->id, (long long)j->params,
                                        (long long)j->state_bytes, (long long)j->flops, (long long)j->steps,
                                        (long long)j->tokens), j->label, plan->n_column));
    }
    fclose(f);
    chi_status s = append(g, text, (int64_t)n);
    free(text);
    return s;
}

chi_status sweep_journal_plan(struct sweep_journal *g, const struct sweep_journal *plan)
{
    TRY(write_configs(plan));
    if (same_plan(g, plan)) return CHI_OK;
    TRY(write_plan(g, plan));
    char *dir = xstrdup(g->dir);
    sweep_journal_close(g);
    chi_status s = sweep_journal_open(g, dir);
    free(dir);
    return s;
}

chi_status sweep_journal_start(struct sweep_journal *g, struct sweep_job *j)
{
    j->state = JOB_RUNNING;
    return append_line(g, xprintf("start\t%s\t%lld", j->id, (long long)++j->starts));
}

chi_status sweep_journal_end(struct sweep_journal *g, struct sweep_job *j, enum job_state state,
                             const char *reason)
{
    j->state = state;
    free(j->reason);
    j->reason = xstrdup(reason);
    for (char *p = j->reason; *p; p++)
        if (*p == '\n' || *p == '\t') *p = ' ';
    return append_line(g, xprintf("end\t%s\t%s\t%s", j->id, names[state], j->reason));
}
