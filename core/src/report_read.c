/* report_read.c - finds run folders and reads configuration, state and metrics.
 *
 * A run may be at work, killed or damaged: whatever cannot be read becomes the reason why
 * the run does not count, and the report goes on.  metrics.jsonl ends where its last whole
 * line ends.  A step that comes again replaces what followed it (a run that went on from an
 * older checkpoint without cutting its file back).                                */
#include "report.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config_store.h"
#include "core.h"
#include "fs.h"
#include "json.h"

enum { DEPTH = 5 };                         /* folders of folders of runs             */

static bool holds(const char *dir, const char *name)
{
    char *path = fs_join(dir, name);
    bool there = fs_exists(path);
    free(path);
    return there;
}

static void *grow(void *v, int64_t n, size_t size)     /* room for one more at powers of two */
{
    return n & (n - 1) ? v : xrealloc(v, (size_t)max_i64(1, 2 * n) * size);
}

static void leave_out(struct report_run *r, char *why)
{
    if (r->left_out) free(why);
    else r->left_out = why;
}

/* ---- config.ini ------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct report_key *)a)->name, ((const struct report_key *)b)->name);
}

static void take_keys(struct report_run *r, const struct config *c)
{
    for (const struct entry *e = c->entries; e; e = e->hh.next) {
        r->key = grow(r->key, r->n_key, sizeof *r->key);
        r->key[r->n_key++] = (struct report_key){ xprintf("%s.%s", e->section->name, e->key), xstrdup(e->value) };
    }
    if (r->n_key) qsort(r->key, (size_t)r->n_key, sizeof *r->key, by_name);
}

static void read_config(struct report_run *r)
{
    struct config *c = NULL;
    char *path = fs_join(r->dir, "config.ini"), *end;
    if (!fs_exists(path)) leave_out(r, xstrdup("it has no config.ini"));
    else if (config_load(&c, path, NULL, 0) != CHI_OK) leave_out(r, xstrdup(fail_text()));
    else if (config_errors(c)) leave_out(r, xprintf("its config.ini is damaged (chimera config %s lists where)",
                                                    path));
    else if (!c->entries) leave_out(r, xstrdup("its config.ini says nothing"));
    else take_keys(r, c);
    if (c) config_free(c);
    free(path);
    const char *seed = report_value(r, "run.seed");
    if (!seed) return;
    r->seed = strtoll(seed, &end, 10);
    r->has_seed = end != seed && !*end;
}

const char *report_value(const struct report_run *r, const char *key)
{
    const struct report_key want = { .name = (char *)(uintptr_t)key };
    const struct report_key *k = r->n_key ? bsearch(&want, r->key, (size_t)r->n_key, sizeof want, by_name) : NULL;
    return k ? k->value : NULL;
}

/* ---- status.json, env.json --------------------------------------------------------- */

static cJSON *read_json(const char *dir, const char *name)
{
    unsigned char *text = NULL;
    int64_t n = 0;
    cJSON *j = NULL;
    char *path = fs_join(dir, name);
    if (fs_exists(path) && fs_read(path, &text, &n) == CHI_OK)
        if (json_parse(path, (const char *)text, n, 16, &j) != CHI_OK) j = NULL;
    mem_free(text);
    free(path);
    return j;
}

static void read_state(struct report_run *r)
{
    cJSON *status = read_json(r->dir, "status.json"), *env = read_json(r->dir, "env.json");
    const char *state = json_text(status, "state"), *reason = json_text(status, "reason");
    const char *hash = json_text(env, "data_hash");
    r->state = xstrdup(state ? state : "unknown");
    r->reason = xstrdup(reason ? reason : "");
    if (hash) r->data_hash = xstrdup(hash);
    cJSON_Delete(status);
    cJSON_Delete(env);
}

/* ---- metrics.jsonl ------------------------------------------------------------------ */

const struct report_curve *report_curve(const struct report_run *r, const char *name)
{
    for (int64_t i = 0; i < r->n_curve; i++)
        if (!strcmp(r->curve[i].name, name)) return &r->curve[i];
    return NULL;
}

static struct report_curve *curve_of(struct report_run *r, const char *name, int64_t *guess)
{
    if (*guess < r->n_curve && !strcmp(r->curve[*guess].name, name)) return &r->curve[(*guess)++];
    for (int64_t i = 0; i < r->n_curve; i++)
        if (!strcmp(r->curve[i].name, name)) return *guess = i + 1, &r->curve[i];
    r->curve = grow(r->curve, r->n_curve, sizeof *r->curve);
    r->curve[r->n_curve] = (struct report_curve){ .name = xstrdup(name) };
    return &r->curve[r->n_curve++];
}

static void add_point(struct report_curve *c, int64_t step, double value)
{
    while (c->n && c->point[c->n - 1].step >= step) c->n--;
    if (c->n == c->room) {
        c->room = max_i64(16, 2 * c->room);
        c->point = xrealloc(c->point, (size_t)c->room * sizeof *c->point);
    }
    c->point[c->n++] = (struct report_point){ step, value };
}

/* Other writers put NaN and Infinity, which JSON does not have: null instead.  Caller frees  */
static char *without_nan(const char *line, int64_t n, int64_t *n_out)
{
    static const char *const word[] = { "-Infinity", "Infinity", "-inf", "-nan", "NaN", "nan", "inf" };
    char *out = xcalloc((size_t)n * 2 + 1, 1);
    bool quoted = false, escaped = false;
    *n_out = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = quoted ? COUNT(word) : 0;
        while (k < COUNT(word) && strncmp(line + i, word[k], strlen(word[k]))) k++;
        if (k < COUNT(word)) {
            memcpy(out + *n_out, "null", 4);
            *n_out += 4;
            i += (int64_t)strlen(word[k]) - 1;
            continue;
        }
        if (line[i] == '"' && !escaped) quoted = !quoted;
        escaped = line[i] == '\\' && !escaped;
        out[(*n_out)++] = line[i];
    }
    return out;
}

static bool read_line(struct report_run *r, const char *line, int64_t n)
{
    cJSON *j = NULL;
    int64_t step, guess = 0;
    char *text = without_nan(line, n, &n);
    bool good = json_parse("metrics.jsonl", text, n, 16, &j) == CHI_OK && cJSON_IsObject(j)
                && json_int(cJSON_GetObjectItemCaseSensitive(j, "step"), &step);
    for (const cJSON *v = good ? j->child : NULL; v; v = v->next) {
        if (!strcmp(v->string, "step")) continue;
        if (cJSON_IsNumber(v)) add_point(curve_of(r, v->string, &guess), step, v->valuedouble);
        else if (cJSON_IsNull(v)) add_point(curve_of(r, v->string, &guess), step, NAN);
    }
    cJSON_Delete(j);
    free(text);
    return good;
}

static void read_metrics(struct report_run *r)
{
    unsigned char *text = NULL;
    int64_t n = 0;
    char *path = fs_join(r->dir, "metrics.jsonl"), *end;
    if (!fs_exists(path)) leave_out(r, xstrdup("it has no metrics.jsonl"));
    else if (fs_read(path, &text, &n) != CHI_OK) leave_out(r, xstrdup(fail_text()));
    else
        for (char *line = (char *)text; (end = memchr(line, '\n', (size_t)((char *)text + n - line))); line = end + 1)
            if (end > line && !read_line(r, line, end - line)) r->bad_lines++;
    mem_free(text);
    free(path);
}

/* ---- folders -------------------------------------------------------------------------- */

static void add_run(struct report *rep, const char *dir)
{
    char here[PATH_MAX];
    const char *real = realpath(dir, here) ? here : dir;
    for (int64_t i = 0; i < rep->n_run; i++)
        if (!strcmp(real, rep->run[i].real)) return;
    rep->run = grow(rep->run, rep->n_run, sizeof *rep->run);
    struct report_run *r = &rep->run[rep->n_run++];
    *r = (struct report_run){ .dir = xstrdup(dir), .real = xstrdup(real), .arm = -1, .value = NAN };
    r->label = report_label(real, &r->place);
    read_state(r);
    read_config(r);
    read_metrics(r);
    if (r->bad_lines)
        report_warn(rep, "%s: %lld lines of metrics.jsonl are no JSON objects with a step and are left out", dir,
                    (long long)r->bad_lines);
}

static bool is_run(const char *dir)
{
    return holds(dir, "config.ini") || holds(dir, "metrics.jsonl") || holds(dir, "status.json");
}

/* What --fresh moved aside has ".old-N" at its end                                            */
static bool moved_aside(const char *name)
{
    const char *old = strstr(name, ".old-");
    return old && old[5] && strspn(old + 5, "0123456789") == strlen(old + 5);
}

static chi_status find_runs(struct report *rep, const char *dir, int depth)
{
    char **name;
    int64_t n;
    if (is_run(dir)) {
        add_run(rep, dir);
        return CHI_OK;
    }
    TRY(fs_entries(dir, &name, &n));
    chi_status s = CHI_OK;
    for (int64_t i = 0; s == CHI_OK && depth && i < n; i++) {
        char *path = fs_join(dir, name[i]);
        if (fs_is_dir(path)) {
            int64_t before = rep->n_run;
            s = find_runs(rep, path, depth - 1);
            if (moved_aside(name[i]) && rep->n_run == before + 1)
                leave_out(&rep->run[before], xstrdup("moved aside by --fresh; name its folder to count it"));
        }
        free(path);
    }
    fs_list_free(name, n);
    return s;
}

static bool same_sweep(const struct report_run *a, const struct report_run *b)
{
    size_t n = (size_t)(strrchr(a->real, '/') - a->real);
    return a->label && b->label && !strncmp(a->real, b->real, n + 1) && !strchr(b->real + n + 1, '/');
}

/* Jobs of a sweep in the order in which it planned them, whatever their folders are called      */
static void in_planned_order(struct report *rep)
{
    for (int64_t i = 1; i < rep->n_run; i++)
        for (int64_t j = i; j > 0; j--) {
            struct report_run *a = &rep->run[j - 1], *b = &rep->run[j], swap = *a;
            if (!same_sweep(a, b) || a->place <= b->place) break;
            *a = *b;
            *b = swap;
        }
}

chi_status report_read(struct report *rep, char *const *folder, int n)
{
    for (int i = 0; i < n; i++) {
        int64_t before = rep->n_run;
        if (!fs_exists(folder[i]))
            return fail(CHI_ECONF, "%s: no such folder; wanted is a run folder or a folder of them", folder[i]);
        if (!fs_is_dir(folder[i]))
            return fail(CHI_ECONF, "%s is a file; wanted is a run folder or a folder of them", folder[i]);
        TRY(find_runs(rep, folder[i], DEPTH));
        if (rep->n_run == before && !before)
            return fail(CHI_ECONF, "%s holds no run (a folder with config.ini and metrics.jsonl)", folder[i]);
    }
    in_planned_order(rep);
    return CHI_OK;
}

void report_close(struct report *rep)
{
    for (int64_t i = 0; i < rep->n_run; i++) {
        struct report_run *r = &rep->run[i];
        for (int64_t k = 0; k < r->n_key; k++) free(r->key[k].name), free(r->key[k].value);
        for (int64_t k = 0; k < r->n_curve; k++) free(r->curve[k].name), free(r->curve[k].point);
        free(r->dir), free(r->real), free(r->state), free(r->reason), free(r->data_hash), free(r->left_out),
            free(r->label);
        free(r->key), free(r->curve);
    }
    for (int64_t i = 0; i < rep->n_arm; i++) free(rep->arm[i].name), free(rep->arm[i].all);
    for (int64_t i = 0; i < rep->n_slice; i++) free(rep->slice[i]);
    for (int64_t i = 0; i < rep->n_warning; i++) free(rep->warning[i]);
    free(rep->run), free(rep->arm), free(rep->slice), free(rep->warning), free(rep->metric);
}
