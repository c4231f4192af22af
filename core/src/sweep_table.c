/* sweep_table.c - tables of jobs: the plan before anything runs, the state, results.tsv. */
#include "core.h"
#include "fs.h"
#include "json.h"
#include "sweep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- text in columns ------------------------------------------------------------------ */

struct table { char **cell; int64_t n, columns; };      /* row by row                         */

static void put(struct table *t, char *text)            /* takes text over                   */
{
    if ((t->n & (t->n - 1)) == 0) t->cell = xrealloc(t->cell, (size_t)max_i64(1, 2 * t->n) * sizeof *t->cell);
    t->cell[t->n++] = text;
}

static void print_table(struct table *t, FILE *f)
{
    int *width = xcalloc((size_t)t->columns + 1, sizeof *width);
    for (int64_t i = 0; i < t->n; i++) {
        int n = (int)strlen(t->cell[i]), *w = &width[i % t->columns];
        *w = n > *w ? n : *w;
    }
    for (int64_t i = 0; i < t->n; i++) {
        bool last = (i + 1) % t->columns == 0;
        fprintf(f, "%-*s%s", last ? 0 : width[i % t->columns], t->cell[i], last ? "\n" : "  ");
    }
    for (int64_t i = 0; i < t->n; i++) free(t->cell[i]);
    free(t->cell);
    free(width);
}

/* ---- the plan ---------------------------------------------------------------------------- */

/* Forward and backward of all steps: backward costs twice the forward pass                    */
static double job_flops(const struct sweep_job *j)
{
    return 3 * (double)j->flops * (double)j->tokens * (double)j->steps;
}

void sweep_print_plan(const struct sweep_journal *g, FILE *f)
{
    static const char *const counts[] = { "parameters", "state", "FLOPs/token", "training FLOPs" };
    struct table t = { .columns = 1 + g->n_column + COUNT(counts) };
    double sum = 0;
    put(&t, xstrdup("job"));
    for (int64_t i = 0; i < g->n_column; i++) put(&t, xstrdup(g->column[i]));
    for (int64_t i = 0; i < COUNT(counts); i++) put(&t, xstrdup(counts[i]));
    for (int64_t i = 0; i < g->n_job; i++) {
        const struct sweep_job *j = &g->job[i];
        char state[32];
        put(&t, xstrdup(j->id));
        for (int64_t c = 0; c < g->n_column; c++) put(&t, xstrdup(j->label[c]));
        human_bytes(state, j->state_bytes);
        put(&t, xprintf("%lld", (long long)j->params));
        put(&t, xstrdup(state));
        put(&t, xprintf("%lld", (long long)j->flops));
        put(&t, xprintf("%.3g", job_flops(j)));
        sum += job_flops(j);
    }
    print_table(&t, f);
    fprintf(f, "%lld jobs, %.3g FLOPs of training, in %s\n", (long long)g->n_job, sum, g->dir);
}

/* ---- the state ------------------------------------------------------------------------------ */

bool sweep_folder_is(const char *dir, const char *wanted)
{
    char *path = fs_join(dir, "status.json");
    unsigned char *text;
    int64_t n;
    cJSON *json = NULL;
    bool is = false;
    if (fs_exists(path) && fs_read(path, &text, &n) == CHI_OK) {
        if (json_parse(path, (const char *)text, n, 4, &json) == CHI_OK) {
            const char *state = json_text(json, "state");
            is = state && !strcmp(state, wanted);
            cJSON_Delete(json);
        }
        mem_free(text);
    }
    free(path);
    return is;
}

/* A job that saved and stopped, and waits for the same command: the journal has no line of that    */
static bool stopped(const struct sweep_journal *g, const struct sweep_job *j)
{
    char *dir = fs_join(g->dir, j->id);
    bool is = j->state == JOB_RUNNING && sweep_folder_is(dir, "stopped");
    free(dir);
    return is;
}

void sweep_print_status(const struct sweep_journal *g, FILE *f)
{
    static const char *const more[] = { "state", "starts", "step" };
    struct table t = { .columns = 1 + g->n_column + COUNT(more) + 2 };
    int64_t n[JOB_FAILED + 1] = { 0 }, n_stopped = 0;
    put(&t, xstrdup("job"));
    for (int64_t i = 0; i < g->n_column; i++) put(&t, xstrdup(g->column[i]));
    for (int64_t i = 0; i < COUNT(more); i++) put(&t, xstrdup(more[i]));
    put(&t, xstrdup(g->metric));
    put(&t, xstrdup("reason"));
    for (int64_t i = 0; i < g->n_job; i++) {
        const struct sweep_job *j = &g->job[i];
        double value;
        int64_t step;
        bool there = sweep_metric(g, j, &value, &step);
        bool waits = stopped(g, j);
        n[j->state] += !waits;
        n_stopped += waits;
        put(&t, xstrdup(j->id));
        for (int64_t c = 0; c < g->n_column; c++) put(&t, xstrdup(j->label[c]));
        put(&t, xstrdup(waits ? "stopped" : job_state_name(j->state)));
        put(&t, xprintf("%lld", (long long)j->starts));
        put(&t, there ? xprintf("%lld", (long long)step) : xstrdup("-"));
        put(&t, there ? xprintf("%.6g", value) : xstrdup("-"));
        put(&t, xstrdup(j->state == JOB_DONE ? "" : j->reason));
    }
    print_table(&t, f);
    fprintf(f, "%lld jobs:", (long long)g->n_job);
    for (int i = 0; i <= JOB_FAILED; i++)
        if (n[i]) fprintf(f, " %lld %s", (long long)n[i], job_state_name((enum job_state)i));
    if (n_stopped) fprintf(f, " %lld stopped", (long long)n_stopped);
    fputc('\n', f);
}

/* ---- results.tsv ------------------------------------------------------------------------------ */

static void put_row(const struct sweep_journal *g, const struct sweep_job *j, FILE *f)
{
    double value;
    int64_t step;
    fputs(j->id, f);
    for (int64_t c = 0; c < g->n_column; c++) fprintf(f, "\t%s", j->label[c]);
    fprintf(f, "\t%lld\t%lld\t%lld\t%s", (long long)j->params, (long long)j->state_bytes, (long long)j->flops,
            job_state_name(j->state));
    if (!sweep_metric(g, j, &value, &step)) fputs("\t\t\n", f);
    else if (isfinite(value)) fprintf(f, "\t%lld\t%.9g\n", (long long)step, value);
    else fprintf(f, "\t%lld\tnan\n", (long long)step);
}

chi_status sweep_write_tsv(const struct sweep_journal *g)
{
    char *text = NULL, *path = fs_join(g->dir, "results.tsv");
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    chi_status s = CHI_OK;
    if (f) {
        fputs("job", f);
        for (int64_t c = 0; c < g->n_column; c++) fprintf(f, "\t%s", g->column[c]);
        fprintf(f, "\tparameters\tstate_bytes\tflops_per_token\tstate\tstep\t%s\n", g->metric);
        for (int64_t i = 0; i < g->n_job; i++) put_row(g, &g->job[i], f);
    }
    if (!f || fclose(f)) s = fail(CHI_ENOMEM, "no memory for the text of %s", path);
    if (s == CHI_OK) s = fs_write_atomic(path, text, (int64_t)n);
    free(text);
    free(path);
    return s;
}
