/* sweep_stop.c - what metrics.jsonl of a job says: its metric, and whether it may end early.
 *
 * A job ends early by what is in its lines, never by when somebody looked: its metric is the last
 * one up to the first line in which the condition holds, however far it got before it stopped. */
#include "core.h"
#include "sweep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the condition ------------------------------------------------------------------ */

struct condition { char *name, sign; double bound; };   /* sign: '<', '>' or 'n' for nan   */

/* "loss > 8"; false: it is not of that form.  Caller frees name                            */
static bool read_condition(const char *text, struct condition *c)
{
    char *end;
    size_t n = strcspn(text, "<>");
    *c = (struct condition){ .sign = text[n] };
    if (!strcmp(text, "nan")) {
        c->sign = 'n';
        return true;
    }
    if (!text[n]) return false;
    c->bound = strtod(text + n + 1, &end);
    if (end == text + n + 1 || *end || !isfinite(c->bound)) return false;
    while (n && text[n - 1] == ' ') n--;
    if (!n || strcspn(text, " \"") < n) return false;
    c->name = xprintf("%.*s", (int)n, text);
    return true;
}

bool sweep_stop_legal(const char *text, char **why)
{
    int64_t n;
    struct condition c;
    char **word = sweep_split(text, "|", &n);
    bool good = true;
    for (int64_t i = 0; *text && good && i < n; i++) {
        good = read_condition(word[i], &c);
        free(c.name);
        if (!good) *why = xprintf("'%s': wanted is METRIC < X, METRIC > X or nan, with '|' between several",
                                  word[i]);
    }
    sweep_split_free(word, n);
    return good;
}

/* ---- lines ----------------------------------------------------------------------------- */

/* The number of a field of a line of metrics; null is NaN                                   */
static bool field(const char *line, const char *name, double *value)
{
    char *quoted = xprintf("\"%s\":", name), *end;
    const char *p = strstr(line, quoted);
    bool found = false;
    if (p) {
        p += strlen(quoted);
        p += strspn(p, " ");
        *value = strtod(p, &end);
        found = end != p;
        if (!strncmp(p, "null", 4)) {
            *value = NAN;
            found = true;
        }
    }
    free(quoted);
    return found;
}

static bool holds(const char *line, const struct condition *c)
{
    double x;
    if (c->sign == 'n') return field(line, "loss", &x) && isnan(x);
    return field(line, c->name, &x) && (c->sign == '<' ? x < c->bound : x > c->bound);
}

/* Does a line fulfil the sweep's condition?                                                  */
static bool stops(const struct sweep_journal *g, const char *line, double step)
{
    int64_t n;
    struct condition c;
    bool hit = false;
    if (!*g->stop || step < (double)g->stop_after) return false;
    char **word = sweep_split(g->stop, "|", &n);
    for (int64_t i = 0; i < n && !hit; i++) {
        hit = read_condition(word[i], &c) && holds(line, &c);
        free(c.name);
    }
    sweep_split_free(word, n);
    return hit;
}

static FILE *open_metrics(const struct sweep_journal *g, const struct sweep_job *j, int64_t offset)
{
    char *path = xprintf("%s/%s/metrics.jsonl", g->dir, j->id);
    FILE *f = fopen(path, "re");
    free(path);
    if (f && offset && fseek(f, (long)offset, SEEK_SET)) {
        fclose(f);
        return NULL;
    }
    return f;
}

/* The next whole line, without its end                                                       */
static bool next_line(FILE *f, char **line, size_t *room, int64_t *bytes)
{
    ssize_t n = getline(line, room, f);
    if (n <= 0 || (*line)[n - 1] != '\n') return false;
    (*line)[n - 1] = 0;
    *bytes += n;
    return true;
}

bool sweep_metric(const struct sweep_journal *g, const struct sweep_job *j, double *value, int64_t *step)
{
    FILE *f = open_metrics(g, j, 0);
    char *line = NULL;
    size_t room = 0;
    int64_t bytes = 0;
    double x, at;
    bool found = false, end = false;
    while (f && !end && next_line(f, &line, &room, &bytes)) {
        if (!field(line, "step", &at)) continue;
        if (field(line, g->metric, &x)) {
            found = true;
            *value = x;
            *step = (int64_t)at;
        }
        end = j->state == JOB_EARLY && stops(g, line, at);
    }
    free(line);
    if (f) fclose(f);
    return found;
}

bool sweep_should_stop(const struct sweep_journal *g, const struct sweep_job *j, int64_t *offset, char **why)
{
    FILE *f = *g->stop ? open_metrics(g, j, *offset) : NULL;
    char *line = NULL;
    size_t room = 0;
    double step;
    bool hit = false;
    while (f && !hit && next_line(f, &line, &room, offset))
        hit = field(line, "step", &step) && stops(g, line, step);
    if (hit) *why = xprintf("%s at step %.0f", g->stop, step);
    free(line);
    if (f) fclose(f);
    return hit;
}
