/* cmd_validate.c - `chimera validate PLUGIN`: proves what a plugin promises, check by check.
 *
 * Output is TAP: a plan, a line a check, its findings after it as comments.  Checks run in
 * children (runner.h); the plugin is never loaded here, unless --in-process asks for it. */
#include "cli.h"
#include "core.h"
#include "inspect_plugin.h"
#include "pool.h"
#include "registry.h"
#include "runner.h"
#include "vectors_run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *only;
static bool list, in_process, perf;
static int64_t seed = 1, jobs, seconds;
static struct cli_texts vectors;

static const struct cli_flag flags[] = {
    { "only", 0, CLI_TEXT, &only, "NAME", "run the check or the family of this name" },
    { "list", 0, CLI_SWITCH, &list, NULL, "print the checks and what they prove" },
    { "in-process", 0, CLI_SWITCH, &in_process, NULL, "run the checks in this process, for a debugger" },
    { "seed", 0, CLI_INT, &seed, "N", "draw other options, sizes and numbers" },
    { "jobs", 'j', CLI_INT, &jobs, "N", "checks at a time; default: one a core" },
    { "limit", 0, CLI_INT, &seconds, "SECONDS", "processor time of a check, instead of its own limit" },
    { "perf", 0, CLI_SWITCH, &perf, NULL, "measure layers instead of checking them" },
    { "vectors", 0, CLI_TEXTS, &vectors, "FILE...",
      "run reference vectors, with PLUGIN's components if it is given" },
    CLI_FLAGS_END
};

struct validation {
    char   *subject, *name;             /* path or name to load; name in the output     */
    struct job *job; int64_t n;
    int64_t count[TRIAL_CRASHED + 1];
    double  begun;
};

/* ---- what to check ------------------------------------------------------------------- */

static bool ends_in(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n > m && !strcmp(s + n - m, tail);
}

/* libtool's names: dir/x.la is dir/.libs/x.so, dir/libx_static.la is the linked-in x.
 * Caller frees.                                                                        */
static char *subject_of(const char *word)
{
    const char *slash = strrchr(word, '/'), *base = slash ? slash + 1 : word;
    int dir = (int)(base - word);
    if (ends_in(word, "_static.la") && !strncmp(base, "lib", 3))
        return xprintf("%.*s", (int)(strlen(base) - 3 - strlen("_static.la")), base + 3);
    if (ends_in(word, ".la"))
        return xprintf("%s%.*s.libs/%.*s.so", slash ? "" : "./", dir, word, (int)strlen(base) - 3, base);
    if (ends_in(word, ".so") && !slash) return xprintf("./%s", word);
    return xstrdup(word);
}

static char *plain_name(const char *subject)
{
    const char *slash = strrchr(subject, '/');
    char *name = xstrdup(slash ? slash + 1 : subject);
    if (ends_in(name, ".so")) name[strlen(name) - 3] = 0;
    return name;
}

static chi_status check_only(void)
{
    const struct check *c;
    int64_t n = 0;
    for (int64_t i = 0; (c = check_at(i)); i++, n++)
        if (check_is(c, only)) return CHI_OK;
    const char **names = xcalloc((size_t)(2 * n + 1), sizeof *names);
    char **family = xcalloc((size_t)n + 1, sizeof *family);
    for (int64_t i = 0; (c = check_at(i)); i++) {
        names[2 * i] = c->name;
        names[2 * i + 1] = family[i] = xprintf("%.*s", (int)strcspn(c->name, "."), c->name);
    }
    const char *near = closest(only, names);
    chi_status s = fail(CHI_ECONF, "no check or family is called '%s'%s%s - `chimera validate --list` shows them",
                        only, near ? ", did you mean " : "", near ? near : "");
    for (int64_t i = 0; i < n; i++) free(family[i]);
    free(family);
    free(names);
    return s;
}

static bool chosen(const struct check *c)
{
    return check_is(c, only) && check_is(c, "perf") == perf;
}

/* A line a name: "layer", "file", or how many kinds have a check of that name            */
static void print_list(void)
{
    const struct check *c, *d;
    for (int64_t i = 0; (c = check_at(i)); i++) {
        int kinds = 0;
        bool first = true;
        for (int64_t k = 0; (d = check_at(k)); k++) {
            if (strcmp(c->name, d->name) != 0) continue;
            first = first && k >= i;
            kinds++;
        }
        const char *of = !c->kind ? "file" : kinds > 1 ? "component" : kind_name(c->kind);
        if (first && chosen(c)) printf("%-24s %-10s %s\n", c->name, of, c->doc);
    }
}

static void add_jobs(struct validation *v, int kind, const char *name, const char *skip)
{
    const struct check *c;
    for (int64_t i = 0; (c = check_at(i)); i++) {
        if (c->kind != kind || !chosen(c)) continue;
        v->job = xrealloc(v->job, (size_t)(v->n + 1) * sizeof *v->job);
        v->job[v->n++] = (struct job){ .check = c, .index = i, .kind = kind, .name = name ? xstrdup(name) : NULL,
                                       .skip = skip ? xstrdup(skip) : NULL };
    }
}

/* Lines of the job that looked at the file, see runner.h                               */
static void plan_jobs(struct validation *v, char *lines)
{
    int kind = 0;
    char *name = NULL;
    const char *skip = NULL;
    for (char *line; (line = strsep(&lines, "\n")) && *line;) {
        char *rest = line + strcspn(line, " ");
        if (*rest) *rest++ = 0;
        if (!strcmp(line, "unfit")) skip = rest;
        if (!strcmp(line, "component")) {
            if (name) add_jobs(v, kind, name, skip);
            skip = NULL;
            kind = (int)strtol(rest, &name, 10);
            name++;
        }
        if (!strcmp(line, "name")) {
            free(v->name);
            v->name = xstrdup(rest);
            add_jobs(v, 0, NULL, NULL);
        }
        if (!strcmp(line, "path") && *rest == '/') {
            free(v->subject);
            v->subject = xstrdup(rest);
        }
    }
    if (name) add_jobs(v, kind, name, skip);
}

/* ---- what to say ----------------------------------------------------------------------- */

static void print_lines(const char *text)
{
    for (const char *at = text; at && *at; at += strcspn(at, "\n") + 1)
        printf("# %.*s\n", (int)strcspn(at, "\n"), at);
}

static void print_job(const struct job *j, int64_t i, void *ctx)
{
    static const char *const word[] = { "", " # SKIP ", ": warn", ": FAILED", ": CRASHED" };
    struct validation *v = ctx;
    bool skipped = j->outcome == TRIAL_SKIP;
    status_line(NULL);
    printf("%s %lld - %s%s%s %s%s", j->outcome >= TRIAL_FAILED ? "not ok" : "ok", (long long)i + 1,
           j->name ? kind_name(j->kind) : "", j->name ? "/" : "", j->name ? j->name : v->name,
           j->check ? j->check->name : "manifest", word[j->outcome]);
    if (skipped) printf("%.*s", (int)strcspn(j->text, "\n"), j->text);
    else if (j->ending) printf(" (%s)", j->ending);
    putchar('\n');
    if (!skipped) print_lines(j->text);
    fflush(stdout);
    v->count[j->outcome]++;
    if (now_s() - v->begun < 2 || !isatty(2) || i + 1 >= v->n) return;
    char *line = xprintf("%s: %lld of %lld checks", v->name, (long long)i + 1, (long long)v->n);
    status_line(line);
    free(line);
}

static chi_status verdict(const struct validation *v)
{
    int64_t bad = v->count[TRIAL_FAILED] + v->count[TRIAL_CRASHED];
    printf("# %s: %lld checks in %.1f s: %lld ok, %lld warned, %lld skipped, %lld failed, %lld crashed\n", v->name,
           (long long)v->n, now_s() - v->begun, (long long)v->count[TRIAL_OK], (long long)v->count[TRIAL_WARN],
           (long long)v->count[TRIAL_SKIP], (long long)v->count[TRIAL_FAILED], (long long)v->count[TRIAL_CRASHED]);
    return bad ? fail(CHI_EPLUGIN, "%s: %lld of %lld checks failed", v->name, (long long)bad, (long long)v->n)
        : CHI_OK;
}

/* ---- running ---------------------------------------------------------------------------- */

/* Learns what the plugin brings, or prints why it is refused                            */
static chi_status look(struct validation *v, const struct bench_plan *plan)
{
    struct job j = { .check = NULL };
    struct bench_plan quiet = *plan;
    quiet.done = NULL;
    TRY(runner_run(&quiet, &j, 1));
    if (j.outcome >= TRIAL_FAILED) {
        v->n = 1;
        puts("1..1");
        print_job(&j, 0, v);
    } else
        plan_jobs(v, j.text);
    job_drop(&j);
    return CHI_OK;
}

static chi_status run_children(struct validation *v)
{
    struct bench_plan plan = { .subject = v->subject, .at_once = perf ? 1 : jobs ? jobs
                               : sysconf(_SC_NPROCESSORS_ONLN),
                               .seconds = seconds, .done = print_job, .ctx = v };
    TRY(look(v, &plan));
    if (v->count[TRIAL_FAILED] + v->count[TRIAL_CRASHED]) return CHI_OK;
    if (!v->n) printf("1..0 # SKIP no check of that name fits %s\n", v->name);
    else printf("1..%lld\n", (long long)v->n);
    fflush(stdout);
    plan.subject = v->subject;
    return runner_run(&plan, v->job, v->n);
}

static void run_here(struct validation *v, struct registry *r, const struct plugin_info *info)
{
    add_jobs(v, 0, NULL, NULL);
    for (int k = 0; info->plugin->components[k]; k++) {
        const struct chi_component *c = info->plugin->components[k];
        add_jobs(v, c->kind, c->name, component_fits(c) == CHI_OK ? NULL : fail_text());
    }
    printf("1..%lld\n", (long long)v->n);
    for (int64_t i = 0; i < v->n; i++) {
        struct job *j = &v->job[i];
        struct trial t = { .registry = r, .plugin = info, .seed = (uint64_t)seed };
        if (j->name) t.component = component_of(info, j->kind, j->name);
        pool_threads(1);
        if (j->skip) trial_skip(&t, "%s", j->skip);
        else check_run(j->check, &t);
        j->outcome = t.outcome;
        j->text = t.text;
        print_job(j, i, v);
    }
}

static chi_status run_in_process(struct validation *v)
{
    struct registry *r;
    const struct plugin_info *info;
    TRY(registry_open(&r, NULL));
    chi_status s = plugin_find(r, v->subject, &info);
    if (s == CHI_OK && info->path[0] == '/') registry_prefer(info->path);
    if (s == CHI_OK) run_here(v, r, info);
    registry_close(r);
    return s;
}

static chi_status run(const struct cli_args *a)
{
    child_run((uint64_t)seed);
    if (only && perf) return fail(CHI_ECONF, "validate: --only and --perf exclude each other");
    if (only) TRY(check_only());
    if (vectors.n) return vectors_run(&vectors, a->word, a->n_word, in_process, stdout);
    if (list) {
        print_list();
        return CHI_OK;
    }
    if (a->n_word != 1)
        return fail(CHI_ECONF, "validate: %d plugins given, wanted is one: chimera validate PLUGIN.so|NAME",
                    a->n_word);
    if (jobs < 0 || seconds < 0)
        return fail(CHI_ECONF, "validate --%s: must be at least 1", jobs < 0 ? "jobs" : "limit");
    if (WEBASSEMBLY && !in_process) {
        note("there is one process here: all checks run in it, without limits and forbidden pages");
        in_process = true;
    }
    struct validation v = { .subject = subject_of(a->word[0]), .begun = now_s() };
    v.name = plain_name(v.subject);
    chi_status s = in_process ? run_in_process(&v) : run_children(&v);
    if (s == CHI_OK) s = verdict(&v);
    for (int64_t i = 0; i < v.n && v.job; i++) {
        job_drop(&v.job[i]);
        free((char *)(uintptr_t)v.job[i].name);
        free((char *)(uintptr_t)v.job[i].skip);
    }
    free(v.job);
    free(v.subject);
    free(v.name);
    return s;
}

const struct verb verb_validate = {
    .name = "validate",
    .usage = "PLUGIN.so|NAME | [PLUGIN.so|NAME] --vectors FILE...",
    .summary = "prove a plugin: gradients, cuts, threads, memory, bad options",
    .doc = "Runs every check that fits the plugin's components, each in a process of its own with limits on time\n"
           "and memory, and prints TAP: a line for each check, and after a failed one what was found and wanted.\n"
           "The exit code is 4 if a check failed or crashed. doc/validate.md says what each family proves.\n\n"
           "--vectors runs files of inputs and exact results (doc/vectors.md) instead: a line per tensor with its\n"
           "error and tolerance.  The first file that misses ends it with exit code 4; a file whose component is\n"
           "not there is skipped, and it is a failure (4) if all are.\n",
    .examples = "chimera validate ./my_layer.so\n"
                "chimera validate gated_deltanet --only grad\n"
                "chimera validate --list\n"
                "chimera validate ./my_layer.so --vectors my_layer.safetensors\n"
                "gdb --args chimera validate ./my_layer.so --only causal --in-process\n",
    .flags = flags, .min_words = 0, .max_words = 10000,
    .run = run
};
