/* report_plot.c - SVG plots by gnuplot, which is looked for when it is needed.
 *
 * gnuplot gets a script with the numbers in it and answers on its standard output; both are
 * files without a name, so that neither side can wait for the other.  Nothing of a run's own
 * text goes into the script: arms are letters there, titles stand in the page.       */
#include "report.h"

#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"
#include "fs.h"

extern char **environ;
enum { CURVE_POINTS = 300, WIDE = 460, HIGH = 320, BROAD = 960, TALL = 430, BANDS = 8 };

static const char *const colour[] = { "#3b82c4", "#d9822b", "#2f9e6e", "#b0579e", "#c2493d", "#4aa3b5", "#8f8a3a",
                                      "#7a7f99" };
/* Of lines, and points, by report_dash()                                               */
static const char *const dash[] = { "1", "(14,6)", "(3,4)" };
static const int point[] = { 7, 5, 9 };                 /* disc, square, triangle        */

const char *report_colour(int64_t arm)
{
    return colour[arm % COUNT(colour)];
}

int report_dash(int64_t arm)
{
    return (int)(arm / COUNT(colour) % COUNT(dash));
}

/* ---- calling gnuplot --------------------------------------------------------------- */

bool report_can_plot(void)
{
    const char *path = getenv("PATH");
    char *copy = xstrdup(path ? path : ""), *rest = copy, *dir;
    bool found = false;
    while (!found && (dir = strsep(&rest, ":"))) {
        char *file = fs_join(*dir ? dir : ".", "gnuplot");
        found = access(file, X_OK) == 0 && !fs_is_dir(file);
        free(file);
    }
    free(copy);
    return found;
}

static bool run_gnuplot(FILE *in, FILE *out)
{
    static char *const argv[] = { "gnuplot", "-d", "-", NULL };
    posix_spawn_file_actions_t files;
    pid_t pid;
    int status = -1;
    if (posix_spawn_file_actions_init(&files)) return false;
    bool good = !posix_spawn_file_actions_adddup2(&files, fileno(in), 0)
             && !posix_spawn_file_actions_adddup2(&files, fileno(out), 1)
             && !posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0)
             && !posix_spawnp(&pid, "gnuplot", &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return good && waitpid(pid, &status, 0) == pid && status == 0;
}

/* From "<svg" on, without gnuplot's own title, and with names of its own: several plots share
 * one page, and gnuplot calls the parts of each by the same names ("gp...", "gnuplot_...")    */
static char *clean_svg(const char *svg, enum report_plot which)
{
    char *text = NULL;
    size_t n = 0;
    const char *title = strstr(svg, "<title>Gnuplot</title>");
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    for (const char *p = svg; *p; p++) {
        if (p == title) p += strlen("<title>Gnuplot</title>");
        if (p > svg && strchr("'\"#", p[-1]) && p[0] == 'g' && (p[1] == 'p' || !strncmp(p, "gnuplot_", 8)))
            fprintf(f, "p%d-", (int)which);
        putc(*p, f);
    }
    if (fclose(f)) return NULL;
    return text;
}

static char *draw(const char *script, enum report_plot which)
{
    FILE *in = tmpfile(), *out = tmpfile();
    char *svg = NULL, *text = NULL;
    if (in && out && fputs(script, in) >= 0 && !fflush(in)) {
        rewind(in);
        long n = run_gnuplot(in, out) && !fseek(out, 0, SEEK_END) ? ftell(out) : 0;
        rewind(out);
        text = xcalloc((size_t)n + 1, 1);
        const char *start = fread(text, 1, (size_t)n, out) == (size_t)n ? strstr(text, "<svg") : NULL;
        if (start && strstr(start, "</svg>")) svg = clean_svg(start, which);
    }
    free(text);
    if (in) fclose(in);
    if (out) fclose(out);
    if (!svg && report_can_plot()) warn("gnuplot could not draw one of the plots; the page goes without it");
    return svg;
}

bool report_bands(const struct report *rep)
{
    return rep->n_arm <= BANDS;
}

/* The end of an interval, or the middle where there is none.  Nothing is right less than never or more
 * often than always, whatever Student's distribution says of five seeds.                       */
static double edge(const struct report *rep, double x, double mean)
{
    if (isnan(x)) return mean;
    return strncmp(rep->metric, "acc", 3) || strstr(rep->metric, "stderr") ? x : fmax(0, fmin(1, x));
}

static void begin(FILE *f, int wide, int high)
{
    fprintf(f, "set terminal svg size %d,%d dynamic font 'sans-serif,13'\n"
               "set encoding utf8\nset border 3 lc rgb '#808080' lw 0.7\nset tics nomirror out scale 0.5\n"
               "set grid lc rgb '#808080' lw 0.25 dt 1\nunset key\nset lmargin 8\nset rmargin 4\n", wide, high);
}

/* ---- learning curves ------------------------------------------------------------------- */

/* Mean and interval at a step that all of the arm's runs have; n = 0 where one lacks it         */
static struct stat_sample at_step(const struct report *rep, int64_t arm, int64_t step, double *x)
{
    int64_t n = 0;
    for (int64_t i = 0; i < rep->n_run; i++) {
        const struct report_run *r = &rep->run[i];
        if (r->arm != arm || r->left_out) continue;
        const struct report_curve *c = report_curve(r, rep->metric);
        int64_t lo = 0, hi = c->n;
        while (lo < hi) {
            int64_t mid = (lo + hi) / 2;
            if (c->point[mid].step < step) lo = mid + 1;
            else hi = mid;
        }
        if (lo == c->n || c->point[lo].step != step || !isfinite(c->point[lo].value)) return stat_sample(x, 0);
        x[n++] = c->point[lo].value;
    }
    return stat_sample(x, n);
}

struct range { double lo, hi; };

static void widen(struct range *r, double x)
{
    if (isnan(x)) return;
    r->lo = fmin(r->lo, x);
    r->hi = fmax(r->hi, x);
}

/* A block "$cA": step mean low high.  The first third of a curve does not decide the scale       */
static int64_t put_curve(const struct report *rep, int64_t arm, FILE *f, struct range *y, double *x, double *end)
{
    const struct report_curve *c = NULL;
    int64_t points = 0;
    for (int64_t i = 0; i < rep->n_run && !c; i++)
        if (rep->run[i].arm == arm && !rep->run[i].left_out) c = report_curve(&rep->run[i], rep->metric);
    fprintf(f, "$c%lld << EOD\n", (long long)arm);
    int64_t stride = c ? ceil_div(c->n, CURVE_POINTS) : 1;
    for (int64_t i = 0; c && i < c->n; i++) {
        if ((c->n - 1 - i) % stride) continue;
        struct stat_sample s = at_step(rep, arm, c->point[i].step, x);
        if (!s.n) continue;
        bool early = c->n > 10 && c->point[i].step < c->point[c->n - 1].step / 3;
        if (!early) widen(y, s.mean);
        double lo = edge(rep, s.lo, s.mean), hi = edge(rep, s.hi, s.mean);
        if (report_bands(rep) && (c->n <= 10 || i > c->n / 2)) widen(y, lo), widen(y, hi);
        fprintf(f, "%lld %.9g %.9g %.9g\n", (long long)c->point[i].step, s.mean, lo, hi);
        *end = s.mean;
        points++;
    }
    fputs("EOD\n", f);
    return points;
}

static int64_t last_step(const struct report *rep)
{
    int64_t last = 0;
    for (int64_t i = 0; i < rep->n_run; i++)
        if (!rep->run[i].left_out) last = max_i64(last, rep->run[i].last_step);
    return last;
}

/* ---- letters at the ends of curves: in the order of the ends, and apart ---- */

struct end { int64_t arm; double y; };

static int by_height(const void *a, const void *b)
{
    const struct end *x = a, *y = b;
    return x->y != y->y ? (x->y > y->y) - (x->y < y->y) : (x->arm > y->arm) - (x->arm < y->arm);
}

enum { LETTER = 13, FRAME = 60 };                       /* pixels                           */

static int curves_high(const struct report *rep)
{
    return (int)max_i64(HIGH, FRAME + 2 * LETTER * rep->n_arm);
}

static void put_letters(FILE *f, struct end *e, int64_t n, struct range y, int high)
{
    double gap = fmin((y.hi - y.lo) * LETTER / (high - FRAME), (y.hi - y.lo) / (double)max_i64(n - 1, 1));
    qsort(e, (size_t)n, sizeof *e, by_height);
    for (int64_t i = 0; i < n; i++) e[i].y = fmax(fmin(e[i].y, y.hi), i ? e[i - 1].y + gap : y.lo);
    for (int64_t i = n - 1; i >= 0; i--) e[i].y = fmin(e[i].y, i < n - 1 ? e[i + 1].y - gap : y.hi);
    for (int64_t i = 0; i < n; i++) {
        char letter[8];
        report_letter(letter, e[i].arm);
        fprintf(f, "set label '%s' at graph 1.015, first %.9g font ',11' tc rgb '%s'\n", letter, e[i].y,
                report_colour(e[i].arm));
    }
}

static bool script_curves(const struct report *rep, FILE *f)
{
    struct range y = { INFINITY, -INFINITY };
    int64_t most = 0;
    double *x = xcalloc((size_t)rep->n_run, sizeof *x);
    int64_t *points = xcalloc((size_t)rep->n_arm, sizeof *points), n_end = 0;
    struct end *end = xcalloc((size_t)rep->n_arm, sizeof *end);
    begin(f, WIDE, curves_high(rep));
    for (int64_t a = 0; a < rep->n_arm; a++) {
        end[n_end].arm = a;
        most = max_i64(most, points[a] = put_curve(rep, a, f, &y, x, &end[n_end].y));
        n_end += points[a] > 0;
    }
    double room = (y.hi - y.lo) * 0.05;
    if (room > 0) fprintf(f, "set yrange [%.9g:%.9g]\n", y.lo - room, y.hi + room);
    if (room > 0) put_letters(f, end, n_end, y, curves_high(rep));
    free(end);
    int scale = last_step(rep) >= 5000 ? 1000 : 1;
    fprintf(f, "set xlabel '%s'\nplot ", scale > 1 ? "thousands of steps" : "step");
    for (int pass = 0; pass < 2; pass++)
        for (int64_t a = 0; a < rep->n_arm; a++) {
            if (!points[a] || (!pass && !report_bands(rep))) continue;
            long long i = (long long)a;
            const char *own = report_colour(a), *line = points[a] > 40 ? "lines" : "linespoints pt 7 ps 0.3";
            if (pass == 0) fprintf(f, "$c%lld using ($1/%d.):3:4 with filledcurves fc rgb '%s' "
                                   "fs transparent solid 0.16 noborder, ", i, scale, own);
            else fprintf(f, "$c%lld using ($1/%d.):2 with %s lc rgb '%s' lw 2 dt %s, ", i, scale, line, own,
                         dash[report_dash(a)]);
        }
    fputs("\n", f);
    free(x);
    free(points);
    return most > 1;
}

/* ---- the metric of each arm --------------------------------------------------------------- */

static void put_runs(const struct report *rep, int64_t arm, FILE *f, double x)
{
    fprintf(f, "$r%lld << EOD\n", (long long)arm);
    for (int64_t i = 0; i < rep->n_run; i++)
        if (rep->run[i].arm == arm && !rep->run[i].left_out) fprintf(f, "%.9g %.9g\n", rep->run[i].value, x);
    const struct stat_sample *s = &rep->arm[arm].sample;
    fprintf(f, "EOD\n$m%lld << EOD\n%.9g %.9g %.9g %.9g\nEOD\n", (long long)arm, s->mean, x,
            edge(rep, s->lo, s->mean), edge(rep, s->hi, s->mean));
}

static bool script_final(const struct report *rep, FILE *f)
{
    int64_t drawn = 0;
    begin(f, WIDE, (int)(80 + 36 * rep->n_arm));
    fprintf(f, "set yrange [%g:0.6]\nset ytics scale 0 (", 0.4 - (double)rep->n_arm);
    for (int64_t a = 0; a < rep->n_arm; a++) {
        char letter[8];
        report_letter(letter, a);
        fprintf(f, "%s'%s' %lld", a ? ", " : "", letter, -(long long)a);
    }
    fputs(")\nset lmargin 4\nset border 1\nset xtics autofreq\nset offsets graph 0.04, graph 0.04, 0, 0\n", f);
    for (int64_t a = 0; a < rep->n_arm; a++) put_runs(rep, a, f, -(double)a);
    if (rep->arm[0].sample.n)
        fprintf(f, "set arrow from %.9g, graph 0 to %.9g, graph 1 nohead lc rgb '#808080' dt 2 lw 1\n",
                rep->arm[0].sample.mean, rep->arm[0].sample.mean);
    fputs("plot ", f);
    for (int64_t a = 0; a < rep->n_arm; a++) {
        if (!rep->arm[a].sample.n) continue;
        long long i = (long long)a;
        const char *own = report_colour(a);
        fprintf(f, "$m%lld using 1:2:3:4 with xerrorbars lc rgb '%s' lw 2 pt %d ps 0.9, ", i, own,
                point[report_dash(a)]);
        fprintf(f, "$r%lld using 1:($2-0.2) with points pt 6 ps 0.6 lc rgb '%s' lw 1.6, ", i, own);
        drawn++;
    }
    fputs("\n", f);
    return drawn > 0;
}

/* ---- the metric against the state's size ----------------------------------------------------- */

static bool has_state(const struct report_arm *arm)
{
    return arm->state_bytes > 0 && arm->sample.n;
}

/* "GD" of "GD-16": arms that a number at the end tells apart are one family; else the whole name */
static int family(const char *name)
{
    const char *end = strrchr(name, '-');
    bool number = end && end > name && end[1] && strspn(end + 1, "0123456789.") == strlen(end + 1);
    return (int)(number ? (size_t)(end - name) : strlen(name));
}

static bool same_family(const char *a, const char *b)
{
    return family(a) == family(b) && !strncmp(a, b, (size_t)family(a));
}

/* The arm of a's family with the next larger state, or -1                                        */
static int64_t next_larger(const struct report *rep, int64_t a)
{
    int64_t next = -1;
    for (int64_t i = 0; i < rep->n_arm; i++) {
        const struct report_arm *arm = &rep->arm[i];
        if (!has_state(arm) || arm->state_bytes <= rep->arm[a].state_bytes
            || !same_family(arm->name, rep->arm[a].name))
            continue;
        if (next < 0 || arm->state_bytes < rep->arm[next].state_bytes) next = i;
    }
    return next;
}

static bool opens_family(const struct report *rep, int64_t a)
{
    for (int64_t i = 0; i < a; i++)
        if (same_family(rep->arm[i].name, rep->arm[a].name)) return false;
    return true;
}

/* From 0, in the order of the arms: a colour each; the arm's own if no arm has a family          */
static int64_t family_number(const struct report *rep, int64_t a)
{
    int64_t n = 0;
    for (int64_t i = 0; !same_family(rep->arm[i].name, rep->arm[a].name); i++) n += opens_family(rep, i);
    return n;
}

static bool script_state(const struct report *rep, FILE *f)
{
    int64_t sizes = 0, first = -1;
    begin(f, BROAD, TALL);
    fputs("set logscale x 2\nset format x '%.0b %BB'\nset xlabel 'bytes of state'\n"
          "set offsets graph 0.04, graph 0.04, graph 0.08, graph 0.08\n", f);
    for (int64_t a = 0; a < rep->n_arm; a++) {
        const struct report_arm *arm = &rep->arm[a];
        if (!has_state(arm)) continue;
        char letter[8];
        int64_t next = next_larger(rep, a);
        report_letter(letter, a);
        sizes += first >= 0 && arm->state_bytes != rep->arm[first].state_bytes;
        if (first < 0) first = a;
        fprintf(f, "$s%lld << EOD\n%lld %.9g %.9g %.9g %s\nEOD\n", (long long)a, (long long)arm->state_bytes,
                arm->sample.mean, edge(rep, arm->sample.lo, arm->sample.mean),
                edge(rep, arm->sample.hi, arm->sample.mean), letter);
        if (next >= 0)
            fprintf(f, "set arrow from %lld, %.9g to %lld, %.9g nohead lw 2 lc rgb '%s'\n",
                    (long long)arm->state_bytes,
                    arm->sample.mean, (long long)rep->arm[next].state_bytes, rep->arm[next].sample.mean,
                    report_colour(family_number(rep, a)));
    }
    fputs("plot ", f);
    for (int64_t a = 0; a < rep->n_arm; a++) {
        if (!has_state(&rep->arm[a])) continue;
        long long i = (long long)a, of = (long long)family_number(rep, a);
        fprintf(f, "$s%lld using 1:2:3:4 with yerrorbars lc rgb '%s' lw 1.2 pt %d ps 1, ", i, report_colour(of),
                point[report_dash(of)]);
        fprintf(f, "$s%lld using 1:2:5 with labels offset 1.6,0.5, ", i);
    }
    fputs("\n", f);
    return sizes > 0;
}

char *report_plot(const struct report *rep, enum report_plot which)
{
    static bool (*const script[])(const struct report *, FILE *) = { script_curves, script_final, script_state };
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    bool something = script[which](rep, f);
    char *svg = fclose(f) == 0 && something ? draw(text, which) : NULL;
    free(text);
    return svg;
}
