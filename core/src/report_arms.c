/* report_arms.c - which runs repeat the same experiment, and what to call it.
 *
 * Two runs are of one arm if their resolved configurations agree in every key that can
 * change what is learnt, seeds aside.  An arm is named by the keys in which it differs
 * from the baseline; the baseline by its own values of the keys that differ anywhere.
 * Jobs of a sweep are called what the sweep calls them, unless two arms are called the same.  */
#include "report.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fs.h"
#include "run.h"

enum { NAMED = 2 };                         /* keys in a short name                   */

/* ---- grouping ----------------------------------------------------------------------- */

static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* Does the key stay out of the comparison?  Paths are told from data by their hash            */
static bool ignored(const struct report_key *k)
{
    static const char *const section[] = { "run.", "plugins.", "generate.", "declared." };
    static const char *const key[] = { "train.checkpoint_every", "train.keep", "train.log_every", "train.trace_steps",
                                       "train.eval_every", "train.micro_batch", "train.recompute" };
    for (int64_t i = 0; i < COUNT(section); i++)
        if (!strncmp(k->name, section[i], strlen(section[i]))) return true;
    for (int64_t i = 0; i < COUNT(key); i++)
        if (!strcmp(k->name, key[i])) return true;
    return !strcmp(last_part(k->name), "seed") || k->value[0] == '/';
}

static const struct report_key *next_key(const struct report_run *r, int64_t *i)
{
    while (*i < r->n_key && ignored(&r->key[*i])) ++*i;
    return *i < r->n_key ? &r->key[(*i)++] : NULL;
}

static bool same_arm(const struct report_run *a, const struct report_run *b)
{
    int64_t i = 0, j = 0;
    for (;;) {
        const struct report_key *x = next_key(a, &i), *y = next_key(b, &j);
        if (!x || !y) return !x && !y;
        if (strcmp(x->name, y->name) || strcmp(x->value, y->value)) return false;
    }
}

static void put_into_arm(struct report *rep, int64_t run)
{
    struct report_run *r = &rep->run[run];
    for (r->arm = 0; r->arm < rep->n_arm; r->arm++)
        if (same_arm(r, &rep->run[rep->arm[r->arm].first])) break;
    if (r->arm == rep->n_arm) {
        rep->arm = xrealloc(rep->arm, (size_t)(rep->n_arm + 1) * sizeof *rep->arm);
        rep->arm[rep->n_arm++] = (struct report_arm){ .first = run, .state_bytes = -1, .params = -1 };
    }
    rep->arm[r->arm].runs++;
}

/* ---- names ----------------------------------------------------------------------------- */

static const struct report_run *of(const struct report *rep, int64_t arm)
{
    return &rep->run[rep->arm[arm].first];
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

static bool differs_anywhere(const struct report *rep, const char *key)
{
    for (int64_t a = 1; a < rep->n_arm; a++)
        if (!same_text(report_value(of(rep, a), key), report_value(of(rep, 0), key))) return true;
    return false;
}

/* Is there another differing key with the same last part?                                     */
static bool ambiguous(const struct report *rep, const char *key)
{
    for (int64_t a = 0; a < rep->n_arm; a++) {
        const struct report_run *r = of(rep, a);
        for (int64_t i = 0; i < r->n_key; i++)
            if (strcmp(r->key[i].name, key) && !strcmp(last_part(r->key[i].name), last_part(key))
                && !ignored(&r->key[i]) && differs_anywhere(rep, r->key[i].name)) return true;
    }
    return false;
}

static bool has_section(const struct report_run *r, const char *key)
{
    size_t n = (size_t)(last_part(key) - key);
    for (int64_t i = 0; i < r->n_key; i++)
        if (!strncmp(r->key[i].name, key, n) && !strchr(r->key[i].name + n, '.')) return true;
    return false;
}

struct name {
    char *shorter, *all;
    const char *section;                    /* of the last item that stood for a section */
    int   n;
};

static void add_item(struct name *to, char *text)
{
    char *all = xprintf("%s%s%s", to->all, to->n ? ", " : "", text);
    if (to->n < NAMED) {
        free(to->shorter);
        to->shorter = xstrdup(all);
    }
    free(to->all);
    free(text);
    to->all = all;
    to->n++;
}

/* r's part of the difference in a key that r or the other has                                */
static void name_key(const struct report *rep, struct name *to, const struct report_run *r,
                     const struct report_run *other, const char *key)
{
    const char *value = report_value(r, key);
    size_t n = (size_t)(last_part(key) - key);
    bool whole = n && other && has_section(r, key) != has_section(other, key);
    if (whole) {
        if (to->section && !strncmp(to->section, key, n) && !strchr(to->section + n, '.')) return;
        to->section = key;
        add_item(to, xprintf("%s [%.*s]", value ? "with" : "without", (int)n - 1, key));
        return;
    }
    const char *shown = ambiguous(rep, key) ? key : last_part(key);
    add_item(to, value ? xprintf("%s=%s", shown, *value ? value : "none") : xprintf("no %s", shown));
}

/* Walks both lists of keys in order of names                                                   */
static void name_arm(const struct report *rep, int64_t arm, struct name *to)
{
    const struct report_run *r = of(rep, arm), *base = of(rep, 0);
    int64_t i = 0, j = 0;
    const struct report_key *x = next_key(r, &i), *y = next_key(base, &j);
    while (x || y) {
        int c = !x ? 1 : !y ? -1 : strcmp(x->name, y->name);
        const char *key = c <= 0 ? x->name : y->name;
        if (arm ? !same_text(report_value(r, key), report_value(base, key)) : differs_anywhere(rep, key))
            name_key(rep, to, r, arm ? base : NULL, key);
        if (c <= 0) x = next_key(r, &i);
        if (c >= 0) y = next_key(base, &j);
    }
}

/* What a sweep calls the arm, if no other arm is called that; else NULL                        */
static const char *own_label(const struct report *rep, int64_t arm)
{
    const char *label = of(rep, arm)->label;
    for (int64_t a = 0; label && a < rep->n_arm; a++)
        if (a != arm && same_text(label, of(rep, a)->label)) return NULL;
    return label && *label ? label : NULL;
}

static void name_arms(struct report *rep)
{
    for (int64_t a = 0; a < rep->n_arm; a++) {
        struct report_arm *arm = &rep->arm[a];
        struct name name = { .shorter = xstrdup(""), .all = xstrdup("") };
        name_arm(rep, a, &name);
        free(arm->name);
        free(arm->all);
        const char *label = own_label(rep, a);
        if (label) arm->name = xstrdup(label);
        else if (!name.n) arm->name = xstrdup(rep->n_arm > 1 ? "baseline" : "all runs");
        else if (name.n <= NAMED) arm->name = xstrdup(name.shorter);
        else arm->name = xprintf("%s, %d more", name.shorter, name.n - NAMED);
        arm->all = name.all;
        free(name.shorter);
    }
}

/* ---- the baseline ------------------------------------------------------------------------- */

/* "key=value,key=value": full names or their last parts                                       */
static bool fits(const struct report_run *r, const char *wanted)
{
    char *copy = xstrdup(wanted), *rest = copy, *item;
    bool good = strchr(wanted, '=') != NULL;
    while (good && (item = strsep(&rest, ","))) {
        char *value = strchr(item + strspn(item, " "), '=');
        bool found = false;
        item += strspn(item, " ");
        if (value) *value++ = 0;
        for (int64_t i = 0; value && i < r->n_key; i++)
            found = found || ((!strcmp(r->key[i].name, item) || !strcmp(last_part(r->key[i].name), item))
                              && !strcmp(r->key[i].value, value));
        good = found;
    }
    free(copy);
    return good;
}

static bool is_run_of(const struct report *rep, int64_t arm, const char *path)
{
    char wanted[PATH_MAX];
    bool found = false;
    for (int64_t i = 0; realpath(path, wanted) && i < rep->n_run; i++)
        found = found || (rep->run[i].arm == arm && !strcmp(wanted, rep->run[i].real));
    return found;
}

static chi_status find_baseline(const struct report *rep, int64_t *found)
{
    const char *wanted = rep->wish.baseline;
    *found = wanted ? -1 : 0;
    for (int64_t a = 0; wanted && a < rep->n_arm; a++)
        if (!strcmp(rep->arm[a].name, wanted) || is_run_of(rep, a, wanted)) *found = a;
    if (*found >= 0) return CHI_OK;
    for (int64_t a = 0; a < rep->n_arm; a++) {
        if (!fits(of(rep, a), wanted)) continue;
        if (*found >= 0)
            return fail(CHI_ECONF, "--baseline %s: more than one arm has it: \"%s\" and \"%s\"", wanted,
                        rep->arm[*found].name, rep->arm[a].name);
        *found = a;
    }
    if (*found < 0)
        return fail(CHI_ECONF,
                    "--baseline %s: no arm has this name, key=value or run folder; the first arm is \"%s\"",
                    wanted, rep->arm[0].name);
    return CHI_OK;
}

static void move_first(struct report *rep, int64_t arm)
{
    struct report_arm base = rep->arm[arm];
    memmove(rep->arm + 1, rep->arm, (size_t)arm * sizeof *rep->arm);
    rep->arm[0] = base;
    for (int64_t i = 0; i < rep->n_run; i++) {
        int64_t *a = &rep->run[i].arm;
        if (*a >= 0) *a = *a == arm ? 0 : *a < arm ? *a + 1 : *a;
    }
}

/* ---- sizes ---------------------------------------------------------------------------------- */

/* Counted from the plan that running the configuration would use                              */
static void count_model(struct report *rep, struct report_arm *arm)
{
    struct config *config;
    struct spec *spec = NULL;
    struct model_counts counts;
    const char *dir = rep->run[arm->first].dir;
    chi_status s = run_config(dir, NULL, 0, &config);
    if (s == CHI_OK) s = spec_open(&spec, config, SPEC_MODEL);
    if (s == CHI_OK) s = model_describe(spec, NULL, &counts);
    if (s == CHI_OK) {
        arm->state_bytes = counts.state_bytes;
        arm->params = counts.params;
    } else {
        int line = (int)strcspn(fail_text(), "\n");
        report_warn(rep, "%s: its state cannot be counted here: %.*s", dir, line, fail_text());
    }
    spec_close(spec);
}

chi_status report_group(struct report *rep)
{
    int64_t baseline;
    for (int64_t i = 0; i < rep->n_run; i++)
        if (rep->run[i].n_key) put_into_arm(rep, i);
    if (!rep->n_arm)
        return fail(CHI_EDATA, "%s: %s; none of %lld runs can be read", rep->run[0].dir, rep->run[0].left_out,
                    (long long)rep->n_run);
    name_arms(rep);
    TRY(find_baseline(rep, &baseline));
    move_first(rep, baseline);
    name_arms(rep);
    for (int64_t a = 0; a < rep->n_arm; a++) count_model(rep, &rep->arm[a]);
    return CHI_OK;
}
