/* report_compare.c - which runs count, whether they may be compared, and the numbers.   */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

enum { FEW = 5 };                           /* seeds under which a warning is due      */

void report_warn(struct report *rep, const char *fmt, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0) return;
    rep->warning = xrealloc(rep->warning, (size_t)(rep->n_warning + 1) * sizeof *rep->warning);
    rep->warning[rep->n_warning++] = text;
}

/* ---- the metric ---------------------------------------------------------------------- */

static bool anywhere(const struct report *rep, const char *metric)
{
    for (int64_t i = 0; i < rep->n_run; i++)
        if (report_curve(&rep->run[i], metric)) return true;
    return false;
}

static chi_status no_metric(const struct report *rep, const char *metric)
{
    char *list = xstrdup("");
    int64_t best = -1, n = 0;
    for (int64_t i = 0; i < rep->n_run; i++)
        if (best < 0 || rep->run[i].n_curve > rep->run[best].n_curve) best = i;
    const struct report_run *r = &rep->run[best];
    const char **name = xcalloc((size_t)r->n_curve + 1, sizeof *name);
    for (int64_t i = 0; i < r->n_curve; i++) {
        char *more = xprintf("%s%s%s", list, n ? ", " : "", r->curve[i].name);
        name[n++] = r->curve[i].name;
        free(list);
        list = more;
    }
    const char *meant = closest(metric, name);
    chi_status s = fail(n ? CHI_ECONF : CHI_EDATA, "no run has the metric %s%s%s%s; %s%s", metric,
                        meant ? "; did you mean " : "", meant ? meant : "", meant ? "?" : "",
                        n ? "there are " : "no run has any", list);
    free(name);
    free(list);
    return s;
}

static void find_slices(struct report *rep)
{
    size_t n = strlen(rep->metric);
    for (int64_t i = 0; i < rep->n_run; i++)
        for (int64_t k = 0; k < rep->run[i].n_curve; k++) {
            const char *name = rep->run[i].curve[k].name;
            bool known = strncmp(name, rep->metric, n) || name[n] != '.';
            for (int64_t j = 0; j < rep->n_slice && !known; j++) known = !strcmp(rep->slice[j], name + n + 1);
            if (known) continue;
            rep->slice = xrealloc(rep->slice, (size_t)(rep->n_slice + 1) * sizeof *rep->slice);
            rep->slice[rep->n_slice++] = xstrdup(name + n + 1);
        }
}

chi_status report_metric(struct report *rep)
{
    const char *metric = rep->wish.metric;
    static const char *const usual[] = { "heldout_bpb", "accuracy", "acc", NULL };
    for (int i = 0; !metric && usual[i]; i++)
        if (anywhere(rep, usual[i])) metric = usual[i];
    if (!metric) metric = usual[0];
    if (!anywhere(rep, metric)) return no_metric(rep, metric);
    rep->metric = xstrdup(metric);
    bool by_name = strstr(metric, "accuracy") || !strcmp(metric, "tok_s") || !strcmp(metric, "acc")
                || !strcmp(metric, "acc_norm") || !strncmp(metric, "acc.", 4) || !strncmp(metric, "acc_norm.", 9);
    rep->higher = rep->wish.direction ? rep->wish.direction > 0 : by_name;
    find_slices(rep);
    return CHI_OK;
}

/* ---- the value of a run ---------------------------------------------------------------- */

/* Mean over the last `tail` steps: a value that jumps from step to step says little alone       */
static struct report_point tail_mean(const struct report_curve *c, int64_t tail)
{
    struct report_point last = c->point[c->n - 1];
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = c->n - 1; i >= 0 && c->point[i].step > last.step - tail; i--, n++) sum += c->point[i].value;
    last.value = sum / (double)n;
    return last;
}

static bool point_that_counts(const struct report *rep, const struct report_curve *c, struct report_point *out)
{
    const struct report_point *best = NULL;
    if (!c || !c->n) return false;
    if (rep->wish.tail) {
        *out = tail_mean(c, rep->wish.tail);
        return true;
    }
    if (rep->wish.at == REPORT_LAST) best = &c->point[c->n - 1];
    else
        for (int64_t i = 0; i < c->n; i++) {
            const struct report_point *p = &c->point[i];
            bool want = rep->wish.at == REPORT_BEST
                ? isfinite(p->value) && (!best || (rep->higher ? p->value > best->value : p->value < best->value))
                : p->step == rep->wish.at;
            if (want) best = p;
        }
    if (best) *out = *best;
    return best != NULL;
}

static char *why_not(const struct report *rep, struct report_run *r)
{
    struct report_point p;
    const struct report_curve *c = report_curve(r, rep->metric);
    bool done = !strcmp(r->state, "done");
    if (!done && rep->wish.at < 0)
        return xprintf("it is not done: %s%s%s", r->state, *r->reason ? ", " : "", r->reason);
    if (!c || !c->n) return xprintf("it has no %s", rep->metric);
    r->last_step = c->point[c->n - 1].step;
    if (!point_that_counts(rep, c, &p))
        return rep->wish.at >= 0 ? xprintf("it has no %s at step %" PRId64, rep->metric, rep->wish.at)
                                 : xprintf("its %s is never finite", rep->metric);
    if (!isfinite(p.value)) return xprintf("its %s is not finite at step %" PRId64, rep->metric, p.step);
    r->value = p.value;
    r->step = p.step;
    return NULL;
}

/* The same arm and seed a second time says nothing new                                        */
static char *twice(const struct report *rep, int64_t i)
{
    const struct report_run *r = &rep->run[i];
    for (int64_t j = 0; j < i; j++) {
        const struct report_run *o = &rep->run[j];
        if (!o->left_out && o->arm == r->arm && o->has_seed && r->has_seed && o->seed == r->seed)
            return xprintf("seed %" PRId64 " of this arm is counted already: %s", r->seed, o->dir);
    }
    return NULL;
}

static void choose_runs(struct report *rep)
{
    for (int64_t i = 0; i < rep->n_run; i++) {
        struct report_run *r = &rep->run[i];
        if (!r->left_out) r->left_out = why_not(rep, r);
        if (!r->left_out) r->left_out = twice(rep, i);
        if (r->left_out && r->arm >= 0) rep->arm[r->arm].left_out++;
    }
}

/* ---- may they be compared? ---------------------------------------------------------------- */

static bool share_seeds(const struct report *rep, int64_t a, int64_t b)
{
    for (int64_t i = 0; i < rep->n_run; i++)
        for (int64_t j = 0; j < rep->n_run; j++) {
            const struct report_run *x = &rep->run[i], *y = &rep->run[j];
            if (x->arm == a && y->arm == b && !x->left_out && !y->left_out && x->has_seed && y->has_seed
                && x->seed == y->seed) return true;
        }
    return false;
}

/* Data made from the seed differ between seeds, and may; between runs that face each other they must not   */
static bool face(const struct report *rep, const struct report_run *x, const struct report_run *y)
{
    if (x->has_seed && y->has_seed && x->seed == y->seed) return true;
    return x->arm != y->arm && !share_seeds(rep, x->arm, y->arm);
}

static chi_status other_data(const struct report *rep, const struct report_run *x, const struct report_run *y)
{
    if (x->has_seed && y->has_seed && x->seed != y->seed)
        return fail(CHI_EREFUSED,
                    "%s (seed %" PRId64 ") and %s (seed %" PRId64 ") were trained on different data, and "
                    "their arms, %s and %s, share no seed: not compared. Train both arms with the same run.seed: "
                    "their data "
                    "are the same then, and the test is paired; or --any-data compares them as they are", x->dir,
                    x->seed, y->dir, y->seed, rep->arm[x->arm].name, rep->arm[y->arm].name);
    return fail(CHI_EREFUSED,
                "%s and %s were trained on different data (%s and %s): not compared. Give runs of the same [task] "
                "and files; or --any-data compares them all the same", x->dir, y->dir, x->data_hash, y->data_hash);
}

static chi_status check_pair(struct report *rep, const struct report_run *x, const struct report_run *y)
{
    bool data = x->data_hash && y->data_hash && strcmp(x->data_hash, y->data_hash) && face(rep, x, y);
    if (data && !rep->wish.any_data) return other_data(rep, x, y);
    int64_t a = rep->wish.at == REPORT_BEST ? x->last_step : x->step;
    int64_t b = rep->wish.at == REPORT_BEST ? y->last_step : y->step;
    if (a != b && !rep->wish.any_steps)
        return fail(CHI_EREFUSED,
                    "%s reached step %" PRId64 " and %s step %" PRId64 ": not compared; give --at STEP, "
                    "or --any-steps compares them all the same", x->dir, a, y->dir, b);
    return CHI_OK;
}

static chi_status check_runs(struct report *rep)
{
    int64_t unknown = 0;
    for (int64_t i = 0; i < rep->n_run; i++) {
        if (rep->run[i].left_out) continue;
        unknown += !rep->run[i].data_hash;
        for (int64_t j = i + 1; j < rep->n_run; j++)
            if (!rep->run[j].left_out) TRY(check_pair(rep, &rep->run[i], &rep->run[j]));
    }
    if (unknown)
        report_warn(rep, "%" PRId64 " runs do not say what data they were trained on (env.json): whether it is the "
                    "same is not checked", unknown);
    return CHI_OK;
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* Values of an arm's runs that count, and, for pair >= 0, only those whose seed arm `pair` has, in
 * the order of the seeds: then y gets that arm's.                                               */
static int64_t values(const struct report *rep, int64_t arm, int64_t pair, double *x, double *y)
{
    int64_t n = 0;
    for (int64_t i = 0; i < rep->n_run; i++) {
        const struct report_run *r = &rep->run[i], *other = NULL;
        if (r->arm != arm || r->left_out) continue;
        for (int64_t j = 0; pair >= 0 && r->has_seed && j < rep->n_run && !other; j++) {
            const struct report_run *o = &rep->run[j];
            if (o->arm == pair && !o->left_out && o->has_seed && o->seed == r->seed) other = o;
        }
        if (pair >= 0 && !other) continue;
        x[n] = r->value;
        if (other) y[n] = other->value;
        n++;
    }
    return n;
}

/* Pairs where at least two seeds are common, else Welch's test of what there is                  */
static void test_arm(struct report *rep, int64_t a, double *x, double *y)
{
    struct report_arm *arm = &rep->arm[a];
    double alpha = 0.05 / (double)(rep->n_arm - 1);
    int64_t n = values(rep, a, 0, x, y), nx = arm->sample.n, ny = rep->arm[0].sample.n;
    if (n >= 2) {
        arm->test = stat_paired(x, y, n, alpha);
        if (n < nx || n < ny)
            report_warn(rep, "\"%s\": %" PRId64 " seeds are common with the baseline; its test leaves out the others",
                        arm->name, n);
        return;
    }
    values(rep, a, -1, x, NULL);
    values(rep, 0, -1, y, NULL);
    arm->test = stat_welch(x, nx, y, ny, alpha);
    if (nx > 1 && ny > 1)
        report_warn(rep, "\"%s\" shares no seeds with the baseline: Welch's test, not paired", arm->name);
}

static void warn_of_counts(struct report *rep)
{
    for (int64_t a = 0; a < rep->n_arm; a++) {
        struct report_arm *arm = &rep->arm[a];
        if (arm->sample.n < FEW)
            report_warn(rep, "\"%s\" has %" PRId64 " seed%s; use %d or more", arm->name, arm->sample.n,
                        arm->sample.n == 1 ? "" : "s", FEW);
        if (arm->left_out)
            report_warn(rep, "\"%s\": %" PRId64 " of %" PRId64 " runs do not count; if they failed because "
                        "of what the arm changes, its mean is too good", arm->name, arm->left_out, arm->runs);
        if (arm->test.flat)
            report_warn(rep, "\"%s\": the difference is the same for every seed, so the seeds say nothing of chance",
                        arm->name);
    }
}

chi_status report_compare(struct report *rep)
{
    int64_t n = rep->n_arm;
    choose_runs(rep);
    TRY(check_runs(rep));
    double *x = xcalloc((size_t)rep->n_run, sizeof *x), *y = xcalloc((size_t)rep->n_run, sizeof *y);
    double *p = xcalloc((size_t)n, sizeof *p), *adjusted = xcalloc((size_t)n, sizeof *adjusted);
    for (int64_t a = 0; a < n; a++) rep->arm[a].sample = stat_sample(x, values(rep, a, -1, x, NULL));
    for (int64_t a = 0; a < n; a++) {
        if (a) test_arm(rep, a, x, y);
        p[a] = a ? rep->arm[a].test.p : NAN;
    }
    stat_holm(p, n, adjusted);
    for (int64_t a = 0; a < n; a++) {
        rep->arm[a].adjusted = adjusted[a];
        rep->arm[a].verdict = a ? stat_verdict(&rep->arm[a].test, adjusted[a], rep->higher) : STAT_BASELINE;
    }
    free(x), free(y), free(p), free(adjusted);
    warn_of_counts(rep);
    return CHI_OK;
}

/* Where the run's metric was taken, too                                                            */
static double slice_of(const struct report_run *r, const char *name)
{
    const struct report_curve *c = report_curve(r, name);
    for (int64_t i = 0; c && i < c->n; i++)
        if (c->point[i].step == r->step) return c->point[i].value;
    return NAN;
}

double report_slice(const struct report *rep, int64_t arm, int64_t slice)
{
    double sum = 0;
    int64_t n = 0;
    char *name = xprintf("%s.%s", rep->metric, rep->slice[slice]);
    for (int64_t i = 0; i < rep->n_run; i++) {
        const struct report_run *r = &rep->run[i];
        double value = r->arm == arm && !r->left_out ? slice_of(r, name) : NAN;
        if (!isfinite(value)) continue;
        sum += value;
        n++;
    }
    free(name);
    return n ? sum / (double)n : NAN;
}
