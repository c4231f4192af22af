/* report_text.c - the report for a terminal, as Markdown, and as CSV.                   */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

static int64_t width(const char *text)                 /* characters, not bytes       */
{
    int64_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void pad(FILE *f, const char *text, int64_t to, char side, bool last)
{
    int64_t blanks = to - width(text);
    if (side == 'r') fprintf(f, "%*s%s", (int)blanks, "", text);
    else if (last) fputs(text, f);
    else fprintf(f, "%s%*s", text, (int)blanks, "");
}

static void print_table(FILE *f, const struct report_table *t)
{
    int64_t *wide = xcalloc((size_t)t->columns, sizeof *wide);
    for (int64_t i = 0; i < t->columns; i++) {
        wide[i] = width(t->head[i]);
        for (int64_t r = 0; r < t->rows; r++) wide[i] = max_i64(wide[i], width(t->cell[r * t->columns + i]));
    }
    for (int64_t r = -1; r < t->rows; r++) {
        for (int64_t i = 0; i < t->columns; i++) {
            if (i) fputs("  ", f);
            pad(f, r < 0 ? t->head[i] : t->cell[r * t->columns + i], wide[i], t->side[i], i == t->columns - 1);
        }
        putc('\n', f);
    }
    free(wide);
}

static void part(FILE *f, const struct report *rep, const char *title,
                 void make(const struct report *, struct report_table *),
                 void print(FILE *, const struct report_table *))
{
    struct report_table t;
    make(rep, &t);
    if (t.rows) {
        fputs(title, f);
        print(f, &t);
    }
    report_table_free(&t);
}

void report_text(const struct report *rep, FILE *f)
{
    char *title = report_title(rep);
    fprintf(f, "%s\n\n", title);
    free(title);
    part(f, rep, "", report_table_arms, print_table);
    if (rep->n_slice) part(f, rep, "\nSlices\n", report_table_slices, print_table);
    part(f, rep, "\nRuns that do not count\n", report_table_out, print_table);
    if (rep->n_warning) fputs("\nMind\n", f);
    for (int64_t i = 0; i < rep->n_warning; i++) fprintf(f, "- %s\n", rep->warning[i]);
}

/* ---- Markdown -------------------------------------------------------------------------- */

static void put_escaped(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (strchr("|\\*_`<>[]", *text)) putc('\\', f);
        putc(*text == '\n' ? ' ' : *text, f);
    }
}

static void print_markdown(FILE *f, const struct report_table *t)
{
    for (int64_t r = -1; r < t->rows; r++) {
        for (int64_t i = 0; i < t->columns; i++) {
            fputs(i ? " | " : "| ", f);
            put_escaped(f, r < 0 ? t->head[i] : t->cell[r * t->columns + i]);
        }
        fputs(" |\n", f);
        for (int64_t i = 0; r < 0 && i < t->columns; i++) fputs(t->side[i] == 'r' ? "|---:" : "|---", f);
        if (r < 0) fputs("|\n", f);
    }
}

void report_markdown(const struct report *rep, FILE *f)
{
    char *title = report_title(rep);
    fputs("# ", f);
    put_escaped(f, title);
    fputs("\n\n", f);
    free(title);
    part(f, rep, "", report_table_arms, print_markdown);
    fputs("\nArms by all keys that differ:\n\n", f);
    for (int64_t a = 0; a < rep->n_arm; a++) {
        char letter[8];
        report_letter(letter, a);
        fprintf(f, "- %s: ", letter);
        put_escaped(f, *rep->arm[a].all ? rep->arm[a].all : "nothing differs");
        putc('\n', f);
    }
    if (rep->n_slice) part(f, rep, "\n## Slices\n\n", report_table_slices, print_markdown);
    part(f, rep, "\n## Runs\n\n", report_table_runs, print_markdown);
    part(f, rep, "\n## Runs that do not count\n\n", report_table_out, print_markdown);
    if (rep->n_warning) fputs("\n## Mind\n\n", f);
    for (int64_t i = 0; i < rep->n_warning; i++) {
        fputs("- ", f);
        put_escaped(f, rep->warning[i]);
        putc('\n', f);
    }
}

/* ---- CSV (RFC 4180): every number with nine digits, empty where there is none ------------- */

static void put_quoted(FILE *f, const char *text)
{
    putc('"', f);
    for (; *text; text++) {
        if (*text == '"') putc('"', f);
        putc(*text, f);
    }
    putc('"', f);
}

static void put_numbers(FILE *f, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        putc(',', f);
        if (!isnan(x[i])) fprintf(f, "%.9g", x[i]);
    }
}

void report_csv(const struct report *rep, FILE *f)
{
    static const char *const verdict[] = { "baseline", "better", "worse", "cannot tell" };
    fputs("arm,keys,metric,runs,left_out,n,mean,std,low,high,test,pairs_or_runs,difference,difference_low,"
          "difference_high,t,df,p,p_holm,p_sign_flip,effect,least_effect,verdict,state_bytes,parameters\n", f);
    for (int64_t i = 0; i < rep->n_arm; i++) {
        const struct report_arm *a = &rep->arm[i];
        const struct stat_sample *s = &a->sample;
        const struct stat_test *t = &a->test;
        put_quoted(f, a->name);
        putc(',', f);
        put_quoted(f, a->all);
        putc(',', f);
        put_quoted(f, rep->metric);
        fprintf(f, ",%" PRId64 ",%" PRId64 ",%" PRId64, a->runs, a->left_out, s->n);
        put_numbers(f, (const double[]){ s->mean, s->sd, s->lo, s->hi }, 4);
        fprintf(f, ",%s", !i || isnan(t->p) ? "none" : t->paired ? "paired t" : "Welch");
        if (i) fprintf(f, ",%" PRId64, t->n);
        else putc(',', f);
        const double test[] = { t->diff, t->lo, t->hi, t->t, t->df, t->p, a->adjusted, t->flip, t->d, t->least };
        if (i) put_numbers(f, test, COUNT(test));
        else fputs(",,,,,,,,,,", f);
        fprintf(f, ",%s,", verdict[a->verdict]);
        if (a->state_bytes >= 0) fprintf(f, "%" PRId64, a->state_bytes);
        putc(',', f);
        if (a->params >= 0) fprintf(f, "%" PRId64, a->params);
        putc('\n', f);
    }
}
