/* cmd_report.c - `chimera report`: runs in, arms with verdicts out.                       */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "core.h"
#include "fs.h"
#include "report.h"

static const char *baseline, *metric, *at = "last", *markdown, *csv, *html;
static bool higher, lower, any_data, any_steps;

static const struct cli_flag flags[] = {
    { "baseline", 'b', CLI_TEXT, &baseline, "ARM",
      "what the others are compared with: a name, key=value, or a run; else the first arm" },
    { "metric", 'm', CLI_TEXT, &metric, "NAME",
      "a number of metrics.jsonl; else the first that a run has of heldout_bpb, accuracy, acc" },
    { "at", 0, CLI_TEXT, &at, "WHEN", "last, last:STEPS (the mean over so many), best, or a step" },
    { "higher", 0, CLI_SWITCH, &higher, NULL, "higher is better (accuracies and tok_s need no telling)" },
    { "lower", 0, CLI_SWITCH, &lower, NULL, "lower is better" },
    { "any-data", 0, CLI_SWITCH, &any_data, NULL, "compare runs on different data" },
    { "any-steps", 0, CLI_SWITCH, &any_steps, NULL, "compare runs at different steps" },
    { "markdown", 0, CLI_TEXT, &markdown, "FILE", "write the tables as Markdown" },
    { "csv", 0, CLI_TEXT, &csv, "FILE", "write a line for each arm, with all digits" },
    { "html", 0, CLI_TEXT, &html, "FILE", "write one page with plots (gnuplot), which needs no other file" },
    CLI_FLAGS_END
};

static chi_status read_wish(struct report_wish *w)
{
    char *end;
    *w = (struct report_wish){ .metric = metric, .baseline = baseline, .direction = higher - lower,
                               .any_data = any_data, .any_steps = any_steps };
    if (higher && lower) return fail(CHI_ECONF, "--higher and --lower exclude each other");
    const char *tail = !strncmp(at, "last:", 5) ? at + 5 : NULL;
    if (!strcmp(at, "last")) w->at = REPORT_LAST;
    else if (!strcmp(at, "best")) w->at = REPORT_BEST;
    else {
        errno = 0;
        int64_t n = strtoll(tail ? tail : at, &end, 10);
        if (end == (tail ? tail : at) || *end || errno || n < (tail ? 1 : 0))
            return fail(CHI_ECONF, "--at %s: want last, last:STEPS, best, or a step", at);
        w->at = tail ? REPORT_LAST : n;
        w->tail = tail ? n : 0;
    }
    return CHI_OK;
}

static chi_status write_file(const struct report *rep, const char *path, void print(const struct report *, FILE *))
{
    char *text = NULL;
    size_t n = 0;
    if (!path) return CHI_OK;
    FILE *f = open_memstream(&text, &n);
    if (!f) return fail(CHI_ENOMEM, "no memory for the text of %s", path);
    print(rep, f);
    chi_status s = fclose(f) ? fail(CHI_ENOMEM, "no memory for the text of %s", path)
                             : fs_write_atomic(path, text, (int64_t)n);
    if (s == CHI_OK) note("%s is written", path);
    free(text);
    return s;
}

static chi_status make(struct report *rep, const struct cli_args *a)
{
    int64_t counted = 0;
    TRY(read_wish(&rep->wish));
    const char *out[] = { markdown, csv, html };
    for (int i = 0; i < 3; i++)
        if (out[i]) TRY(fs_can_write(out[i]));
    TRY(report_read(rep, a->word, a->n_word));
    TRY(report_metric(rep));
    TRY(report_group(rep));
    TRY(report_compare(rep));
    report_text(rep, stdout);
    if (html && !report_can_plot()) note("gnuplot is not in PATH: %s has tables, but no plots", html);
    TRY(write_file(rep, markdown, report_markdown));
    TRY(write_file(rep, csv, report_csv));
    TRY(write_file(rep, html, report_html));
    for (int64_t i = 0; i < rep->n_run; i++) counted += !rep->run[i].left_out;
    return counted ? CHI_OK : fail(CHI_EDATA, "none of %lld runs counts: nothing is compared", (long long)rep->n_run);
}

static chi_status run_report(const struct cli_args *a)
{
    struct report rep = { 0 };
    if (a->n_override) return fail(CHI_ECONF, "%s: report takes run folders and no overrides", a->override[0]);
    chi_status s = make(&rep, a);
    report_close(&rep);
    return s;
}

const struct verb verb_report = {
    .name = "report", .usage = "RUNS...",
    .summary = "compare runs: means, intervals, tests, plots and a verdict",
    .doc = "Takes run folders, or folders that hold them.  Runs whose configurations differ in nothing but seeds,\n"
           "paths and bookkeeping form an arm; each arm is compared with the baseline, paired by run.seed where\n"
           "seeds are common.  The verdict is better, worse, or cannot tell with the smallest effect that so many\n"
           "runs could see.  Runs that are not done or have no value are listed, never dropped in silence.\n"
           "doc/report.md says what each number is.\n",
    .examples = "chimera report runs/sweep\n"
                "chimera report runs/a-1 runs/a-2 runs/b-1 runs/b-2 --baseline runs/a-1\n"
                "chimera report runs/sweep --baseline lr=1e-3 --at best\n"
                "chimera report runs/mqar --metric accuracy --html report.html --csv report.csv\n",
    .flags = flags, .min_words = 1, .max_words = 4096, .run = run_report,
};
