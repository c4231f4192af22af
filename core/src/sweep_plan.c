/* sweep_plan.c - every combination of the axes to a resolved configuration, counted, with an id.
 *
 * The id is the hash of the resolved configuration as a run stores it, with run.dir empty: the
 * same job has the same id wherever the sweep lies and whatever other jobs there are.       */
#include "core.h"
#include "dataset.h"
#include "fs.h"
#include "spec.h"
#include "sweep.h"

#include <stdlib.h>
#include <string.h>

enum { NEEDS = SPEC_MODEL | SPEC_TRAIN | SPEC_DATA | SPEC_TOKENIZER, SHOWN_MAX = 50 };

/* ---- one job -------------------------------------------------------------------- */

static void set_key(struct config *c, const char *word, const char *value, const char *at)
{
    const char *dot = strrchr(word, '.');
    char *section = xprintf("%.*s", (int)(dot - word), word);
    config_set(c, section, dot + 1, value, "sweep", at);
    free(section);
}

static void apply(struct config *c, const struct sweep_case *k)
{
    const struct sweep_options *o = &k->axes->o;
    char minutes[32];
    for (int64_t i = 0; k->job >= 0 && i < k->axes->n_axis; i++) {
        const struct sweep_choice *choice = sweep_axes_choice(k->axes, i, k->job);
        for (int64_t j = 0; j < choice->n_set; j++) {
            const struct sweep_set *s = &choice->set[j];
            config_set(c, s->section, s->key, s->value, "sweep", s->at);
        }
    }
    if (k->matched) set_key(c, o->match_key, k->matched, "match_key");
    snprintf(minutes, sizeof minutes, "%g", o->minutes);
    if (o->match == MATCH_TIME) set_key(c, "train.minutes", minutes, "minutes");
}

chi_status sweep_case_open(const struct sweep_case *k, struct spec **spec, struct model_counts *n)
{
    struct config *c;
    TRY(config_load(&c, k->path, k->override, k->n_override));
    apply(c, k);
    TRY(spec_open(spec, c, NEEDS));
    chi_status s = model_describe(*spec, NULL, n);
    if (s != CHI_OK) spec_close(*spec);
    return s;
}

static char *printed(const struct config *c)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) return xstrdup("");
    config_print(c, f, false);
    fclose(f);
    return text;
}

static void fill_labels(struct sweep_job *j, const struct sweep_case *k, int64_t n_column)
{
    int64_t n = 0;
    j->label = xcalloc((size_t)n_column + 1, sizeof *j->label);
    for (int64_t i = 0; i < k->axes->n_axis; i++)
        for (int64_t p = 0; p < k->axes->axis[i].n_column; p++)
            j->label[n++] = xstrdup(sweep_axes_choice(k->axes, i, k->job)->label[p]);
    if (n < n_column) j->label[n] = xstrdup(k->matched ? k->matched : "");
}

static void fill_job(struct sweep_job *j, const struct sweep_case *k, struct spec *spec,
                     const struct model_counts *n, const struct sweep_journal *plan)
{
    *j = (struct sweep_job){ .params = n->params, .state_bytes = n->state_bytes, .flops = n->flops_per_token,
                             .steps = spec->train.steps,
                                 .tokens = spec->train.batch_size * spec->train.seq_len,
                             .reason = xstrdup("") };
    config_show(spec->config, "run", "dir", "");
    j->id = xprintf("%016llx", (unsigned long long)config_hash(spec->config));
    char *dir = fs_join(plan->dir, j->id);
    config_show(spec->config, "run", "dir", dir);
    j->config = printed(spec->config);
    free(dir);
    fill_labels(j, k, plan->n_column);
}

/* ---- equal budgets ----------------------------------------------------------------- */

struct matching {                       /* jobs that differ in the seed alone match alike */
    double  target;
    uint64_t *hash; char **value; int64_t n;
};

static double scaled(const char *text)
{
    char *end;
    double x = strtod(text, &end);
    return x * (*end == 'k' ? 1e3 : *end == 'M' ? 1e6 : *end == 'G' ? 1e9 : 1);
}

static chi_status matched(struct matching *m, struct sweep_case *k, struct spec *spec)
{
    struct config *c = spec->config;
    config_show(c, "run", "seed", "");
    config_show(c, "run", "dir", "");
    uint64_t hash = config_hash(c);
    for (int64_t i = 0; i < m->n && !k->matched; i++)
        if (m->hash[i] == hash) k->matched = m->value[i];
    if (k->matched) return CHI_OK;
    char *value;
    TRY(sweep_match(k, m->target, &value));
    m->hash = xrealloc(m->hash, (size_t)(m->n + 1) * sizeof *m->hash);
    m->value = xrealloc(m->value, (size_t)(m->n + 1) * sizeof *m->value);
    m->hash[m->n] = hash;
    k->matched = m->value[m->n++] = value;
    return CHI_OK;
}

static bool counted(const struct sweep_axes *a)
{
    return a->o.match != MATCH_NONE && a->o.match != MATCH_TIME;
}

static chi_status plan_job(const struct sweep_case *base, struct matching *m, struct sweep_journal *plan,
                           struct sweep_job *j)
{
    struct sweep_case k = *base;
    struct spec *spec;
    struct model_counts n;
    TRY(sweep_case_open(&k, &spec, &n));
    if (counted(k.axes)) {
        chi_status s = matched(m, &k, spec);
        spec_close(spec);
        TRY(s);
        TRY(sweep_case_open(&k, &spec, &n));
    }
    fill_job(j, &k, spec, &n, plan);
    spec_close(spec);
    return CHI_OK;
}

/* ---- all jobs --------------------------------------------------------------------- */

struct complaints { char **line; int64_t *jobs; int64_t n, n_job; chi_status status; };

/* The lines of fail_text(), each once, with the number of jobs that have it              */
static void complain(struct complaints *c, chi_status s)
{
    int64_t n;
    char **line = sweep_split(fail_text(), "\n", &n);
    c->status = c->n_job++ && c->status != s ? CHI_ECONF : s;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = 0;
        while (k < c->n && strcmp(c->line[k], line[i])) k++;
        if (k == c->n) {
            c->line = xrealloc(c->line, (size_t)(c->n + 1) * sizeof *c->line);
            c->jobs = xrealloc(c->jobs, (size_t)(c->n + 1) * sizeof *c->jobs);
            c->line[c->n] = xstrdup(line[i]);
            c->jobs[c->n++] = 0;
        }
        c->jobs[k]++;
    }
    sweep_split_free(line, n);
}

static chi_status complained(struct complaints *c, int64_t n_job)
{
    chi_status s = CHI_OK;
    char *text = NULL;
    size_t size = 0;
    FILE *f = c->n ? open_memstream(&text, &size) : NULL;
    for (int64_t i = 0; f && i < min_i64(c->n, SHOWN_MAX); i++)
        fprintf(f, "%s (%lld of %lld jobs)\n", c->line[i], (long long)c->jobs[i], (long long)n_job);
    if (f) fprintf(f, "nothing was started: %lld of %lld jobs are not valid", (long long)c->n_job,
                   (long long)n_job);
    if (f) fclose(f);
    if (c->n) s = fail(c->status, "%s", text ? text : "jobs are not valid");
    free(text);
    sweep_split_free(c->line, c->n);
    free(c->jobs);
    return s;
}

static void fill_columns(const struct sweep_axes *a, struct sweep_journal *plan)
{
    for (int64_t i = 0; i < a->n_axis; i++)
        for (int64_t p = 0; p < a->axis[i].n_column; p++) {
            plan->column = xrealloc(plan->column, (size_t)(plan->n_column + 2) * sizeof *plan->column);
            plan->column[plan->n_column++] = xstrdup(a->axis[i].column[p]);
        }
    if (!counted(a)) return;
    plan->column = xrealloc(plan->column, (size_t)(plan->n_column + 1) * sizeof *plan->column);
    plan->column[plan->n_column++] = xprintf("%s (matched)", a->o.match_key);
}

/* The budget of the file without its axes, and the sweep's folder                           */
static chi_status base_case(struct sweep_axes *a, const struct sweep_case *k, struct sweep_journal *plan,
                            double *target)
{
    struct spec *spec;
    struct model_counts n;
    TRY(sweep_case_open(k, &spec, &n));
    plan->dir = xstrdup(spec->run.dir);
    *target = *a->o.match_to ? scaled(a->o.match_to) : sweep_budget(a, &n);
    struct dataset *data = NULL;
    chi_status s = dataset_open(&data, spec);
    if (s == CHI_OK) s = dataset_can_train(data);
    dataset_close(data);
    spec_close(spec);
    TRY(s);
    if (counted(a) && *target < 1)
        return fail(CHI_ECONF, "%s: match: the file without its axes has none of it, so there is nothing"
                    " to match", k->path);
    return CHI_OK;
}

static void add_job(struct sweep_journal *plan, struct sweep_job j)
{
    struct sweep_job *same = sweep_job_find(plan, j.id);
    if (!same) {
        plan->job[plan->n_job++] = j;
        return;
    }
    warn("two jobs are the same, %s: it is run once", j.id);
    sweep_split_free(j.label, plan->n_column);
    free(j.id);
    free(j.reason);
    free(j.config);
}

chi_status sweep_plan(struct sweep_axes *a, const char *path, char *const *overrides, int n,
                      struct sweep_journal *plan)
{
    struct sweep_case k = { a, path, overrides, n, -1, NULL };
    struct matching m = { 0 };
    struct complaints wrong = { 0 };
    *plan = (struct sweep_journal){ .metric = xstrdup(a->o.metric), .stop = xstrdup(a->o.stop),
                                    .stop_after = a->o.stop_after };
    TRY(base_case(a, &k, plan, &m.target));
    int64_t jobs = sweep_axes_jobs(a);
    fill_columns(a, plan);
    plan->job = xcalloc((size_t)jobs + 1, sizeof *plan->job);
    for (k.job = 0; k.job < jobs; k.job++) {
        struct sweep_job j;
        chi_status s = plan_job(&k, &m, plan, &j);
        if (s == CHI_OK) add_job(plan, j);
        else complain(&wrong, s);
    }
    sweep_split_free(m.value, m.n);
    free(m.hash);
    return complained(&wrong, jobs);
}
