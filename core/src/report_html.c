/* report_html.c - one page that needs nothing else: verdicts in words, plots, tables.
 * Light or dark as the reader's system is; one column on a phone.                   */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

static const char style[] =
    ":root{color-scheme:light dark;--paper:#fcfcfa;--ink:#23252b;--soft:#666b76;--rule:#e2e2dc;--card:#fff;"
    "--good:#1d7a52;--bad:#b23a2f}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#16181d;--ink:#e4e5e9;--soft:#9aa0ac;--rule:#30343d;--card:#1c1f26;"
    "--good:#5cc795;--bad:#ef8579}}\n"
    "*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}\n"
    "body{margin:0 auto;max-width:66rem;padding:2.2rem 1.1rem 4rem;background:var(--paper);color:var(--ink);"
    "font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "h1{font-size:1.6rem;line-height:1.25;font-weight:600;margin:0 0 .3rem;overflow-wrap:anywhere}"
    "h2{font-size:1.08rem;font-weight:600;margin:2.6rem 0 .7rem}p{margin:.3rem 0}.soft{color:var(--soft)}\n"
    ".arms{list-style:none;margin:1.6rem 0 0;padding:0}"
    ".arms li{display:grid;grid-template-columns:2rem minmax(0,1fr) auto;gap:.15rem .8rem;padding:.75rem 0;"
    "border-top:1px solid var(--rule)}.arms li:last-child{border-bottom:1px solid var(--rule)}\n"
    ".chip{display:inline-block;width:1.65rem;height:1.65rem;border-radius:50%;color:#fff;font-size:.8rem;font-weight:600;"
    "line-height:1.65rem;text-align:center;background:var(--c)}"
    ".d1,.d2{background:none;color:var(--c);line-height:1.4rem;border:.13rem dashed var(--c);border-radius:.3rem}"
    ".d2{border-style:dotted;border-radius:50%}.name{font-weight:600;overflow-wrap:anywhere}\n"
    ".mean{font-variant-numeric:tabular-nums;text-align:right;white-space:nowrap}.mean small{color:var(--soft)}"
    ".says{grid-column:2/-1;color:var(--soft);font-size:.93rem}.says b{color:var(--ink);font-weight:600}"
    ".says b.better{color:var(--good)}.says b.worse{color:var(--bad)}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1.2rem;margin-top:2rem}"
    ".broad{grid-column:1/-1}figure{margin:0;background:var(--card);border:1px solid "
    "var(--rule);border-radius:.6rem;padding:.9rem .9rem .4rem}"
    "figcaption{font-weight:600;font-size:.95rem}figcaption span{display:block;font-weight:400;font-size:.84rem;"
    "color:var(--soft)}figure svg{display:block;width:100%;height:auto;margin-top:.3rem}"
    "figure svg text{fill:var(--soft)}"
    "figure svg g[font-size=\"11.00\"] text{fill:inherit}\n"           /* letters of curves */
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}"
    "th,td{padding:.42rem .65rem;border-bottom:1px solid var(--rule);text-align:left;white-space:nowrap}"
    "th{font-weight:500;color:var(--soft)}.r{text-align:right}td.t{white-space:normal;min-width:9rem;overflow-wrap:anywhere}\n"
    ".heat td.r{text-align:center;border:2px solid var(--paper);border-radius:.4rem;"
    "background:color-mix(in srgb,#3b82c4 calc(var(--v)*70%),var(--card))}.heat th.r{text-align:center}\n"
    "@media(max-width:34rem){.broad{overflow-x:auto}.broad svg{min-width:38rem}.heat td.t,.heat th:nth-child(2){display:none}td,th{padding:.4rem .45rem}}\n"
    "ul.mind{padding-left:1.1rem;color:var(--soft);font-size:.93rem}summary{cursor:pointer;color:var(--soft)}\n";

static void put(FILE *f, const char *text)
{
    for (; *text; text++) switch (*text) {
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '&': fputs("&amp;", f); break;
        case '"': fputs("&quot;", f); break;
        default: putc(*text, f);
    }
}

static void chip(FILE *f, int64_t arm)
{
    char letter[8];
    report_letter(letter, arm);
    fprintf(f, "<span class=\"chip d%d\" style=\"--c:%s\">%s</span>", report_dash(arm), report_colour(arm), letter);
}

/* ---- verdicts ------------------------------------------------------------------------ */

static void put_test(FILE *f, const struct stat_test *t, double adjusted)
{
    char diff[32], lo[32], hi[32];
    report_number(diff, t->diff);
    report_number(lo, t->lo);
    report_number(hi, t->hi);
    if (isnan(t->p)) return;
    fprintf(f, ". Difference %s%s, 95&nbsp;%% interval %s to %s; ", t->diff > 0 ? "+" : "", diff, lo, hi);
    if (adjusted < 1e-4) fputs("p &lt; 0.0001", f);
    else fprintf(f, "p = %.4f", adjusted);
    fprintf(f, " after Holm, %s t-test of %" PRId64 " %s", t->paired ? "paired" : "Welch's", t->n,
            t->paired ? "pairs" : "runs");
}

static void put_arm(FILE *f, const struct report *rep, int64_t i)
{
    const struct report_arm *a = &rep->arm[i];
    static const char *const class[] = { "", "better", "worse", "" };
    char verdict[REPORT_CELL], mean[32], half[32];
    bool one = isnan(a->sample.hi);         /* run: no interval                         */
    report_verdict(a, verdict);
    report_number(mean, a->sample.mean);
    report_number(half, a->sample.hi - a->sample.mean);
    fputs("<li>", f);
    chip(f, i);
    fputs("<span class=\"name\">", f);
    put(f, a->name);
    fprintf(f, "</span><span class=\"mean\">%s%s%s%s</span><span class=\"says\"><b class=\"%s\">", mean,
            one ? "" : " <small>± ", one ? "" : half, one ? "" : "</small>", class[a->verdict]);
    put(f, verdict);
    fputs("</b>", f);
    if (i) put_test(f, &a->test, a->adjusted);
    fprintf(f, ". %" PRId64 " run%s", a->sample.n, a->sample.n == 1 ? "" : "s");
    if (a->left_out) fprintf(f, ", %" PRId64 " more do not count", a->left_out);
    if (a->state_bytes >= 0) {
        char size[32];
        human_bytes(size, a->state_bytes);
        fprintf(f, ", state %s", size);
    }
    fputs(".</span></li>\n", f);
}

/* ---- plots ------------------------------------------------------------------------------ */

static void figure(FILE *f, const struct report *rep, enum report_plot which, const char *title, const char *what)
{
    char *svg = report_plot(rep, which);
    if (!svg) return;
    fprintf(f, "<figure%s><figcaption>%s<span>%s</span></figcaption>%s</figure>\n",
            which == REPORT_STATE ? " class=\"broad\"" : "", title, what, svg);
    free(svg);
}

static void put_plots(FILE *f, const struct report *rep)
{
    if (!report_can_plot()) {
        fputs("<p class=\"soft\">gnuplot was not found when this page was made, so it has no plots.</p>\n", f);
        return;
    }
    fputs("<div class=\"plots\">\n", f);
    figure(f, rep, REPORT_FINAL, "Every arm",
           "Mean and 95&nbsp;% interval; rings are single runs; dashed: the baseline");
    figure(f, rep, REPORT_CURVES, "While training", report_bands(rep)
           ? "Mean over seeds; the band is its 95&nbsp;% interval"
           : "Mean over seeds; dashed and dotted as its letter's frame above");
    figure(f, rep, REPORT_STATE, "Against the size of the state",
           "Bytes that a stream carries; bars are 95&nbsp;% intervals; lines join arms whose names differ in the "
           "number behind the dash");
    fputs("</div>\n", f);
}

/* ---- tables ------------------------------------------------------------------------------- */

/* Without columns that have no side                                                             */
static void put_table(FILE *f, const struct report_table *t)
{
    fputs("<div class=\"wide\"><table><thead><tr>", f);
    for (int64_t i = 0; i < t->columns; i++) {
        if (!t->side[i]) continue;
        fprintf(f, "<th%s>", t->side[i] == 'r' ? " class=\"r\"" : "");
        put(f, strcmp(t->head[i], "+-") ? t->head[i] : "±");
        fputs("</th>", f);
    }
    fputs("</tr></thead><tbody>\n", f);
    for (int64_t r = 0; r < t->rows; r++) {
        fputs("<tr>", f);
        for (int64_t i = 0; i < t->columns; i++) {
            const char *text = t->cell[r * t->columns + i];
            if (!t->side[i]) continue;
            fprintf(f, "<td class=\"%s\">", t->side[i] == 'r' ? "r" : strlen(text) > 20 ? "t" : "");
            put(f, text);
            fputs("</td>", f);
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

/* A cell's depth of colour: where it lies between the least and the greatest, or in 0..1 for accuracies  */
static void put_heat(FILE *f, const struct report *rep)
{
    double lo = INFINITY, hi = -INFINITY;
    for (int64_t a = 0; a < rep->n_arm; a++)
        for (int64_t s = 0; s < rep->n_slice; s++) {
            double x = report_slice(rep, a, s);
            lo = fmin(lo, isnan(x) ? lo : x);
            hi = fmax(hi, isnan(x) ? hi : x);
        }
    if (!strncmp(rep->metric, "acc", 3)) lo = 0, hi = 1;
    fputs("<h2>Slices</h2><div class=\"wide\"><table class=\"heat\"><thead><tr><th></th><th>arm</th>", f);
    for (int64_t s = 0; s < rep->n_slice; s++) {
        fputs("<th class=\"r\">", f);
        put(f, rep->slice[s]);
        fputs("</th>", f);
    }
    fputs("</tr></thead><tbody>\n", f);
    for (int64_t a = 0; a < rep->n_arm; a++) {
        fputs("<tr><td>", f);
        chip(f, a);
        fputs("</td><td class=\"t\">", f);
        put(f, rep->arm[a].name);
        fputs("</td>", f);
        for (int64_t s = 0; s < rep->n_slice; s++) {
            double x = report_slice(rep, a, s);
            if (isnan(x)) fputs("<td class=\"r\" style=\"--v:0\">-</td>", f);
            else fprintf(f, "<td class=\"r\" style=\"--v:%.3f\">%.3f</td>", hi > lo ? (x - lo) / (hi - lo) : 0.5, x);
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

static void put_part(FILE *f, const struct report *rep, const char *title,
                     void make(const struct report *, struct report_table *))
{
    struct report_table t;
    make(rep, &t);
    if (t.columns && !strcmp(t.head[t.columns - 1], "verdict")) t.side[t.columns - 1] = 0;  /* said above   */
    if (t.rows) {
        fputs(title, f);
        put_table(f, &t);
    }
    report_table_free(&t);
}

static void put_keys(FILE *f, const struct report *rep)
{
    fputs("<h2>What differs</h2>\n<div class=\"wide\"><table><tbody>\n", f);
    for (int64_t a = 0; a < rep->n_arm; a++) {
        fputs("<tr><td>", f);
        chip(f, a);
        fputs("</td><td class=\"t\">", f);
        put(f, *rep->arm[a].all ? rep->arm[a].all : "nothing");
        fputs("</td></tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

void report_html(const struct report *rep, FILE *f)
{
    char *title = report_title(rep);
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>", f);
    put(f, title);
    fprintf(f, "</title><style>\n%s</style></head><body>\n<h1>", style);
    put(f, rep->metric);
    fputs("</h1><p class=\"soft\">", f);
    put(f, title + strlen(rep->metric) + 1);
    fputs("</p>\n<ul class=\"arms\">\n", f);
    free(title);
    for (int64_t a = 0; a < rep->n_arm; a++) put_arm(f, rep, a);
    fputs("</ul>\n", f);
    put_plots(f, rep);
    if (rep->n_slice) put_heat(f, rep);
    put_part(f, rep, "<h2>Numbers</h2>\n", report_table_arms);
    if (rep->n_arm > 1) put_keys(f, rep);
    put_part(f, rep, "<h2>Runs that do not count</h2>\n", report_table_out);
    if (rep->n_warning) fputs("<h2>Mind</h2>\n<ul class=\"mind\">\n", f);
    for (int64_t i = 0; i < rep->n_warning; i++) {
        fputs("<li>", f);
        put(f, rep->warning[i]);
        fputs("</li>\n", f);
    }
    if (rep->n_warning) fputs("</ul>\n", f);
    put_part(f, rep, "<h2>Runs</h2>\n<details><summary>every run that counts</summary>\n", report_table_runs);
    fputs("</details>\n</body></html>\n", f);
}
