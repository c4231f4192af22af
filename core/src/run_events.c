/* run_events.c - see run_events.h.  wall_time is base + wall_s, and base stays what the file
 * says, so that a run that goes on continues its own clock, without the pause.            */
#include "run_events.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "events.h"
#include "fs.h"

static double unix_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static char *path_of(const char *dir)
{
    return xprintf("%s/tensorboard/events.out.tfevents.chimera", dir);
}

static void complain(struct run_events *e)
{
    if (e->fd >= 0) close(e->fd);
    e->fd = -1;
    if (!e->warned) warn("%s (the run goes on; the events are made anew from metrics.jsonl)", fail_text());
    e->warned = true;
}

/* All records of these lines; the last line's clock shows when the first began, if nothing else does */
static chi_status write_all(struct run_events *e, const char *path, const char *lines, int64_t n)
{
    unsigned char *old = NULL;
    int64_t n_old = 0;
    char *text = NULL;
    size_t size = 0;
    const char *last = lines;
    for (int64_t i = 0; i + 1 < n; i++)
        if (lines[i] == '\n') last = lines + i + 1;
    e->base = n && fs_exists(path) && fs_read(path, &old, &n_old) == CHI_OK ? events_base(old, n_old) : 0;
    mem_free(old);
    if (e->base <= 0) e->base = unix_time() - (n ? events_wall(last, lines + n - last) : 0);
    FILE *f = open_memstream(&text, &size);
    if (!f) return fail(CHI_ENOMEM, "no memory for %s", path);
    events_begin(f, e->base);
    for (const char *p = lines, *end; p < lines + n; p = end + 1) {
        end = memchr(p, '\n', (size_t)(lines + n - p));
        if (!end) break;
        events_line(f, p, end - p, e->base);
    }
    chi_status s = !fclose(f) ? fs_write_atomic(path, text, (int64_t)size)
        : fail(CHI_ENOMEM, "no memory for %s", path);
    free(text);
    return s;
}

static chi_status begin(struct run_events *e, const char *dir, const char *path)
{
    unsigned char *lines = NULL;
    int64_t n = 0;
    char *folder = xprintf("%s/tensorboard", dir), *metrics = fs_join(dir, "metrics.jsonl");
    chi_status s = fs_mkdirs(folder);
    if (s == CHI_OK) s = fs_read(metrics, &lines, &n);
    if (s == CHI_OK) s = write_all(e, path, (const char *)lines, n);
    mem_free(lines);
    free(metrics);
    free(folder);
    if (s != CHI_OK) return s;
    e->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    return e->fd < 0 ? fs_fail("open", path) : CHI_OK;
}

void run_events_begin(struct run_events *e, const char *dir)
{
    if (!e->on) return;
    if (e->fd >= 0) close(e->fd);
    e->fd = -1;
    char *path = path_of(dir);
    if (begin(e, dir, path) != CHI_OK) complain(e);
    else e->warned = false;
    free(path);
}

void run_events_add(struct run_events *e, const char *dir, const char *line)
{
    if (!e->on) return;
    if (e->fd < 0) {                    /* the line is in metrics.jsonl already             */
        run_events_begin(e, dir);
        return;
    }
    char *text = NULL, *path = path_of(dir);
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (f) events_line(f, line, (int64_t)strlen(line), e->base);
    if (!f || fclose(f)) {
        fail(CHI_ENOMEM, "no memory for an event of %s", path);
        complain(e);
    } else if (n && !fs_write_all(e->fd, text, (int64_t)n)) {
        fs_fail("append to", path);
        complain(e);
    }
    free(text);
    free(path);
}
