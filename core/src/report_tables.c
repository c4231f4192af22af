/* report_tables.c - a report's tables as texts of cells, for whoever prints them.     */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

void report_letter(char out[8], int64_t arm)
{
    if (arm < 26) snprintf(out, 8, "%c", (char)('A' + arm));
    else snprintf(out, 8, "%c%c", (char)('A' + (arm / 26 - 1) % 26), (char)('A' + arm % 26));
}

void report_number(char out[32], double x)
{
    double size = fabs(x);
    if (isnan(x)) snprintf(out, 32, "-");
    else if (size == 0 || (size >= 1e-3 && size < 1e4)) snprintf(out, 32, "%.4f", x);
    else snprintf(out, 32, "%.3g", x);
}

static char *number(double x)
{
    char text[32];
    report_number(text, x);
    return xstrdup(text);
}

static char *probability(double p)
{
    return isnan(p) ? xstrdup("-") : p < 1e-4 ? xstrdup("<0.0001") : xprintf("%.4f", p);
}

void report_verdict(const struct report_arm *a, char out[REPORT_CELL])
{
    char size[32];
    report_number(size, fabs(a->test.diff));
    switch (a->verdict) {
    case STAT_BASELINE: snprintf(out, REPORT_CELL, "baseline"); return;
    case STAT_BETTER:   snprintf(out, REPORT_CELL, "better by %s", size); return;
    case STAT_WORSE:    snprintf(out, REPORT_CELL, "worse by %s", size); return;
    case STAT_UNSURE:   break;
    }
    report_number(size, a->test.least);
    if (a->test.flat) snprintf(out, REPORT_CELL, "cannot tell: seeds make no difference");
    else if (isnan(a->test.p)) snprintf(out, REPORT_CELL, "cannot tell: too few runs");
    else snprintf(out, REPORT_CELL, "cannot tell: only %s or more would show", size);
}

char *report_title(const struct report *rep)
{
    int64_t counted = 0;
    char at[48];
    for (int64_t i = 0; i < rep->n_run; i++) counted += !rep->run[i].left_out;
    if (rep->wish.at >= 0) snprintf(at, sizeof at, "at step %" PRId64, rep->wish.at);
    else if (rep->wish.tail) snprintf(at, sizeof at, "over the last %" PRId64 " steps", rep->wish.tail);
    else snprintf(at, sizeof at, "%s", rep->wish.at == REPORT_BEST ? "at each run's best step" : "at the last step");
    return xprintf("%s %s, %s is better: %" PRId64 " arm%s, %" PRId64 " of %" PRId64 " runs count", rep->metric, at,
                   rep->higher ? "higher" : "lower", rep->n_arm, rep->n_arm == 1 ? "" : "s", counted, rep->n_run);
}

/* ---- tables ------------------------------------------------------------------------- */

static void table_begin(struct report_table *t, int64_t columns, int64_t rows)
{
    *t = (struct report_table){ .columns = columns, .head = xcalloc((size_t)columns, sizeof *t->head),
                                .side = xcalloc((size_t)columns + 1, 1),
                                .cell = xcalloc((size_t)max_i64(rows * columns, 1), sizeof *t->cell) };
}

void report_table_free(struct report_table *t)
{
    for (int64_t i = 0; i < t->rows * t->columns; i++) free(t->cell[i]);
    free(t->cell);
    free(t->head);
    free(t->side);
}

static void heads(struct report_table *t, const char *side, const char *const *head)
{
    memcpy(t->side, side, (size_t)t->columns);
    memcpy(t->head, head, (size_t)t->columns * sizeof *head);
}

static char **table_row(struct report_table *t)
{
    return t->cell + t->rows++ * t->columns;
}

static char *between(double lo, double hi)
{
    char a[32], b[32];
    report_number(a, lo);
    report_number(b, hi);
    return isnan(lo) ? xstrdup("-") : xprintf("%s to %s", a, b);
}

static void arm_row(const struct report *rep, int64_t i, char **cell)
{
    const struct report_arm *a = &rep->arm[i];
    char letter[8], verdict[REPORT_CELL];
    report_letter(letter, i);
    report_verdict(a, verdict);
    cell[0] = xstrdup(letter);
    cell[1] = xstrdup(a->name);
    cell[2] = xprintf("%" PRId64, a->sample.n);
    cell[3] = number(a->sample.mean);
    cell[4] = isnan(a->sample.hi) ? xstrdup("-") : number(a->sample.hi - a->sample.mean);
    cell[5] = number(a->sample.sd);
    cell[6] = number(i ? a->test.diff : NAN);
    cell[7] = i ? between(a->test.lo, a->test.hi) : xstrdup("-");
    cell[8] = probability(a->adjusted);
    cell[9] = probability(i ? a->test.flip : NAN);
    cell[10] = !i || isnan(a->test.d) ? xstrdup("-") : xprintf("%.2f", a->test.d);
    cell[11] = xstrdup(verdict);
}

void report_table_arms(const struct report *rep, struct report_table *t)
{
    static const char *const head[] = { "", "arm", "n", "mean", "+-", "std", "difference", "95 % interval",
                                        "p (Holm)", "sign flip", "effect", "verdict" };
    table_begin(t, COUNT(head), rep->n_arm);
    heads(t, "llrrrrrrrrrl", head);
    for (int64_t i = 0; i < rep->n_arm; i++) arm_row(rep, i, table_row(t));
}

void report_table_runs(const struct report *rep, struct report_table *t)
{
    static const char *const head[] = { "arm", "seed", "step", "value", "run" };
    table_begin(t, COUNT(head), rep->n_run);
    heads(t, "lrrrl", head);
    for (int64_t a = 0; a < rep->n_arm; a++)
        for (int64_t i = 0; i < rep->n_run; i++) {
            const struct report_run *r = &rep->run[i];
            if (r->left_out || r->arm != a) continue;
            char letter[8], **cell = table_row(t);
            report_letter(letter, a);
            cell[0] = xstrdup(letter);
            cell[1] = r->has_seed ? xprintf("%" PRId64, r->seed) : xstrdup("-");
            cell[2] = xprintf("%" PRId64, r->step);
            cell[3] = number(r->value);
            cell[4] = xstrdup(r->dir);
        }
}

void report_table_out(const struct report *rep, struct report_table *t)
{
    static const char *const head[] = { "arm", "run", "why it does not count" };
    table_begin(t, COUNT(head), rep->n_run);
    heads(t, "lll", head);
    for (int64_t i = 0; i < rep->n_run; i++) {
        const struct report_run *r = &rep->run[i];
        if (!r->left_out) continue;
        char letter[8] = "-", **cell = table_row(t);
        if (r->arm >= 0) report_letter(letter, r->arm);
        cell[0] = xstrdup(letter);
        cell[1] = xstrdup(r->dir);
        cell[2] = xstrdup(r->left_out);
    }
}

void report_table_slices(const struct report *rep, struct report_table *t)
{
    table_begin(t, rep->n_slice + 2, rep->n_arm);
    t->head[0] = "";
    t->head[1] = "arm";
    memset(t->side, 'r', (size_t)t->columns);
    memset(t->side, 'l', 2);
    for (int64_t s = 0; s < rep->n_slice; s++) t->head[s + 2] = rep->slice[s];
    for (int64_t a = 0; a < rep->n_arm; a++) {
        char letter[8], **cell = table_row(t);
        report_letter(letter, a);
        cell[0] = xstrdup(letter);
        cell[1] = xstrdup(rep->arm[a].name);
        for (int64_t s = 0; s < rep->n_slice; s++) {
            double x = report_slice(rep, a, s);
            cell[s + 2] = isnan(x) ? xstrdup("-") : xprintf("%.3f", x);
        }
    }
}
