/* config.c - checks of options: whatever a configuration says, open() succeeds or refuses
 * with a reason.
 *
 * Options are drawn from all of their range, ends included, and sizes from 1, primes and
 * powers of two.  A layer that opens small enough runs a few rows, too.  What a table
 * forbids must not reach the component at all.                                           */
#include "rig.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "core.h"
#include "crumb.h"
#include "files.h"
#include "hosting.h"
#include "instance.h"
#include "tally.h"

enum { DRAWS = 60, LINE = 192, RUN_BYTES = 4 << 20, MOST_BYTES = 256 << 20 };
static const char silence[] = "nobody said why";

/* ---- draws ----------------------------------------------------------------------------- */

static int64_t draw_int(struct trial *t, const struct chi_option *o)
{
    static const int small[] = { 1, 2, 3, 5, 7, 8, 13, 16, 31, 64 };
    int64_t lo = o->min < -9e18 ? INT64_MIN / 2 : (int64_t)o->min,
        hi = o->max > 9e18 ? INT64_MAX / 2 : (int64_t)o->max;
    int64_t way = trial_between(t, 0, 9), v = small[trial_between(t, 0, COUNT(small) - 1)];
    if (way == 0) return lo;
    if (way == 1) return hi;
    if (way == 2) v = lo + (int64_t)pow(2, (double)trial_between(t, 0, 52) / 4);
    return v < lo ? lo : v > hi ? hi : v;
}

static double draw_float(struct trial *t, const struct chi_option *o)
{
    double lo = fmax(o->min, -DBL_MAX / 4), hi = fmin(o->max, DBL_MAX / 4), u = 0.5 + 0.5 * (double)trial_uniform(t);
    int64_t way = trial_between(t, 0, 4);
    return way == 0 ? lo : way == 1 ? hi : fmin(fmax(lo + u * (hi - lo), lo), hi);
}

static const char *draw_choice(struct trial *t, const char *choices, int *length)
{
    int64_t n = 1;
    for (const char *c = choices; *c; c++) n += *c == '|';
    for (n = trial_between(t, 0, n - 1); n; n--) choices = strchr(choices, '|') + 1;
    *length = (int)strcspn(choices, "|");
    return choices;
}

/* Up to five numbers, from the ends of the range and from between                         */
static void draw_list(struct trial *t, const struct chi_option *o, char line[LINE])
{
    int n = snprintf(line, LINE, "%s = ", o->name);
    for (int64_t i = trial_between(t, 0, 5); i > 0 && n < LINE - 32; i--)
        n += snprintf(line + n, LINE - (size_t)n, "%lld%s", (long long)draw_int(t, o), i > 1 ? ", " : "");
    snprintf(line + n, LINE - (size_t)n, "\n");
}

/* "name = value\n", or nothing: its default                                              */
static void draw_option(struct trial *t, const struct chi_option *o, char line[LINE])
{
    int n;
    const char *word;
    *line = 0;
    if (o->fallback && trial_between(t, 0, 1)) return;
    switch (o->type) {
    case CHI_OPT_INT:
        snprintf(line, LINE, "%s = %lld\n", o->name, (long long)draw_int(t, o));
        break;
    case CHI_OPT_FLOAT:
        snprintf(line, LINE, "%s = %.17g\n", o->name, draw_float(t, o));
        break;
    case CHI_OPT_BOOL:
        snprintf(line, LINE, "%s = %s\n", o->name, trial_between(t, 0, 1) ? "yes" : "no");
        break;
    case CHI_OPT_ENUM:
        word = draw_choice(t, o->choices, &n);
        snprintf(line, LINE, "%s = %.*s\n", o->name, n, word);
        break;
    case CHI_OPT_PATH:
        if (!o->fallback || trial_between(t, 0, 1)) snprintf(line, LINE, "%s = /nowhere/%s\n", o->name, o->name);
        break;
    case CHI_OPT_LIST:
        draw_list(t, o, line);
        break;
    default:
        if (o->fallback) break;
        snprintf(line, LINE, "%s = x\n", o->name);
    }
}

/* Fresh options: the defaults, or all drawn.  Required ones are always there.            */
static void draw_options(struct trial *t, bool defaults, char text[CASE_TEXT])
{
    size_t used = 0;
    *text = 0;
    for (const struct chi_option *o = t->component->options; o && o->name; o++) {
        char line[LINE] = "";
        if (!defaults || !o->fallback) draw_option(t, o, line);
        size_t n = strlen(line);
        if (used + n + 1 > CASE_TEXT) return;
        memcpy(text + used, line, n + 1);
        used += n;
    }
}

/* ---- opening ---------------------------------------------------------------------------- */

/* What a refusal must be; false if it was not                                            */
static bool good_refusal(struct trial *t, chi_status s, const char *op, const char *with)
{
    const char *text = fail_text();
    if (s > 0 || s < CHI_EPLUGIN)
        trial_fail(t, "%s returned %d, wanted CHI_OK or one of CHI_ENOMEM (%d) .. CHI_EPLUGIN (%d) (%s)", op, (int)s,
                   CHI_ENOMEM, CHI_EPLUGIN, with);
    else if (!strcmp(text, silence) || !*text)
        trial_fail(t, "%s refuses without a message, wanted is one that says what was found and what is wanted: "
                   "return h->fail(h, ...) (%s)", op, with);
    else if (strchr(text, '\n') && !strstr(text, "drawn options:"))
        trial_fail(t, "%s refuses with more than one line: '%s' (%s)", op, text, with);
    else
        return true;
    return false;
}

static const char *words(const char *options)
{
    static char text[CASE_TEXT];
    snprintf(text, sizeof text, "%s", *options ? options : "defaults");
    size_t n = strlen(text);
    if (n && text[n - 1] == '\n') text[n - 1] = 0;
    for (char *c = text; *c; c++)
        if (*c == '\n') *c = ',';
    return text;
}

static bool sane_plan(struct trial *t, const struct instance *in, const char *with)
{
    const int64_t most = (int64_t)1 << 56;
    bool fine = in->param_bytes >= 0 && in->param_bytes < most && in->state_bytes >= 0 && in->state_bytes < most
             && in->scratch_bytes >= 0 && in->scratch_bytes < most;
    if (!fine)
        trial_fail(t, "open accepts sizes that overflow: %lld bytes of parameters, %lld of state, %lld of scratch (%s)",
                   (long long)in->param_bytes, (long long)in->state_bytes, (long long)in->scratch_bytes, with);
    return fine;
}

/* A few rows, so that what only running would touch is touched                           */
static void run_rows(struct trial *t, const struct layer_case *c, bool training)
{
    struct rig r;
    if (!rig_open(&r, t, c, training, 5, 2)) return;
    struct chi_segment g = rig_segment(0, 5, 0, 1, rig_block(&r, r.state_bytes));
    float *x = rig_random_rows(&r, 5, 1), *y = rig_rows(&r, 5), *dx = rig_rows(&r, 5);
    unsigned char *before = rig_block(&r, r.state_bytes);
    fail(CHI_EBUG, "%s", silence);
    chi_status s = solo_forward(r.solo, &g, 1, training, x, y);
    if (s != CHI_OK) good_refusal(t, s, "forward", case_words(c));
    g.state = before;
    if (s == CHI_OK && training) rig_backward(&r, &g, 1, x, y, dx);
    rig_close(&r);
}

/* True if it opened                                                                      */
static bool open_layer(struct trial *t, const struct layer_case *c, bool training, int64_t rows, int64_t segs)
{
    struct spec *spec;
    struct instance in;
    int64_t weight = INT64_MAX;
    fail(CHI_EBUG, "%s", silence);
    chi_status s = case_spec(t, c, &spec);
    if (s != CHI_OK) {
        good_refusal(t, s, "check", case_words(c));
        return false;
    }
    mem_limit(MOST_BYTES);
    fail(CHI_EBUG, "%s", silence);
    s = instance_open(&in, spec, "", &spec->mixer[0], training ? MODEL_TRAIN : MODEL_INFER, rows, segs);
    if (s == CHI_EPLUGIN) trial_fail(t, "open plans what cannot be: %s (%s)", refusal(), case_words(c));
    else if (s != CHI_OK) good_refusal(t, s, "open", case_words(c));
    else if (sane_plan(t, &in, case_words(c))) {
        double kept, others;
        instance_array_bytes(&in, rows, segs, &kept, &others);
        weight = in.param_bytes + in.state_bytes + in.scratch_bytes + (int64_t)fmin(kept + others, 1e15);
        for (int64_t i = 0; i < in.n_param; i++)        /* master and bytes of each linear     */
            if (in.param[i].linear) weight += 8 * in.param[i].n;
    }
    instance_close(&in);                /* after a failed open, too                       */
    spec_close(spec);
    if (s == CHI_OK && weight < RUN_BYTES) run_rows(t, c, training);
    return s == CHI_OK;
}

/* Everything but layers: options, rules between them, and open() where the kind has one   */
static bool open_other(struct trial *t, const char *options)
{
    const struct chi_component *c = t->component;
    struct config *config;
    void *conf = xcalloc(1, c->conf_size ? c->conf_size : 1), *self = NULL;
    char *text = xprintf("[it]\n%s", options);
    chi_status s = config_load_text(&config, "drawn options", text, NULL, 0);
    static const struct chi_option none[] = { CHI_OPTIONS_END };
    if (s == CHI_OK && !config_parse(config, "it", c->options ? c->options : none, conf,
                                     NULL)) s = config_finish(config);
    if (s != CHI_OK) trial_fail(t, "its table refuses what lies in its range: %s", fail_text());
    struct chi_host *h = host_open(NULL, c->name);
    const char *op = "check";
    host_register_service("chimera.files/1", &files_service);
    fail(CHI_EBUG, "%s", silence);
    if (s == CHI_OK && c->check) {
        const struct crumb here = { c->name, c->name, "check" }, *was = crumb_set(&here);
        s = c->check(h, conf);
        crumb_set(was);
    }
    if (s == CHI_OK && (c->kind == CHI_TOKENIZER || c->kind == CHI_TASK)) {
        const struct chi_tokenizer_ops *k = c->ops;             /* both begin alike       */
        const struct chi_task_ops *d = c->ops;
        self = xcalloc(1, (c->kind == CHI_TASK ? d->self_size : k->self_size) + 1u);
        const struct crumb here = { c->name, c->name, op = "open" }, *was = crumb_set(&here);
        s = c->kind == CHI_TASK ? d->open(h, self, conf) : k->open(h, self, conf);
        crumb_set(was);
    }
    if (s != CHI_OK) good_refusal(t, s, op, words(options));
    host_close(h);
    config_free(config);
    free(self);
    free(conf);
    free(text);
    return s == CHI_OK;
}

/* ---- checks ------------------------------------------------------------------------------- */

static bool can_train(const struct trial *t)
{
    return ((const struct chi_layer_ops *)t->component->ops)->backward != NULL;
}

static void layer_defaults(struct trial *t)
{
    static const int width[] = { 256, 128, 64, 96 };
    struct layer_case c = { .linear = "quantizer = f32\n" };
    bool opened = false;
    draw_options(t, true, c.options);
    for (int64_t i = 0; i < COUNT(width) && t->outcome < TRIAL_FAILED; i++) {
        c.d = width[i];
        opened |= open_layer(t, &c, can_train(t), 8, 2);
        if (strstr(fail_text(), "are left of run.memory_limit_mb")) {
            trial_fail(t, "it allocates without limit: with its defaults open takes more than 256 MB: %s",
                       fail_text());
            return;
        }
    }
    if (!opened && t->outcome < TRIAL_FAILED)
        trial_warn(t, "its defaults open for none of the widths 256, 128, 64 and 96: %s", refusal());
}

static void defaults(struct trial *t)
{
    char options[CASE_TEXT];
    if (t->component->kind == CHI_LAYER) {
        layer_defaults(t);
        return;
    }
    draw_options(t, true, options);
    if (!open_other(t, options) && t->outcome < TRIAL_FAILED) trial_note(t, "refused: %s", fail_text());
}

static void random_layer(struct trial *t)
{
    static const int width[] = { 1, 2, 3, 5, 7, 8, 12, 13, 16, 31, 32, 64, 97, 128 };
    int opened = 0;
    for (int i = 0; i < DRAWS && t->outcome < TRIAL_FAILED; i++) {
        struct layer_case c = { .d = width[trial_between(t, 0, COUNT(width) - 1)], .linear = "quantizer = f32\n" };
        draw_options(t, false, c.options);
        opened += open_layer(t, &c, can_train(t) && i % 2, 5 + trial_between(t, 0, 30), 2 + trial_between(t, 0, 3));
    }
    trial_note(t, "%d of %d random draws opened", opened, DRAWS);
}

static void random_options(struct trial *t)
{
    char options[CASE_TEXT];
    if (t->component->kind == CHI_LAYER) {
        random_layer(t);
        return;
    }
    if (!t->component->options) trial_skip(t, "it has no options");
    for (int i = 0; i < DRAWS && t->outcome == TRIAL_OK; i++) {
        draw_options(t, false, options);
        open_other(t, options);
    }
}

/* Does the table let this value pass?                                                     */
static bool accepted(const struct chi_component *c, const char *name, const char *value)
{
    struct config *config;
    void *conf = xcalloc(1, c->conf_size ? c->conf_size : 1);
    char *text = xprintf("[it]\n%s = %s\n", name, value);
    bool fine = config_load_text(&config, "a bad option", text, NULL, 0) == CHI_OK
             && config_parse(config, "it", c->options, conf, NULL);
    config_free(config);
    free(text);
    free(conf);
    return fine;
}

static void refuse_value(struct trial *t, const struct chi_option *o, const char *value)
{
    if (accepted(t->component, o->name, value))
        trial_fail(t, "option %s accepts %s, wanted is a refusal before open()", o->name, value);
}

static void range(struct trial *t)
{
    char value[64];
    if (!t->component->options) trial_skip(t, "it has no options");
    for (const struct chi_option *o = t->component->options; o && o->name; o++) {
        bool number = o->type == CHI_OPT_INT || o->type == CHI_OPT_FLOAT;
        if (number || o->type == CHI_OPT_BOOL || o->type == CHI_OPT_ENUM) refuse_value(t, o, "no_such_value");
        if (number) refuse_value(t, o, "nan");
        if (number && o->min > -9e15) {
            snprintf(value, sizeof value, "%.17g", floor(o->min) - 1);
            refuse_value(t, o, value);
        }
        if (number && o->max < 9e15) {
            snprintf(value, sizeof value, "%.17g", ceil(o->max) + 1);
            refuse_value(t, o, value);
        }
    }
}

static bool lists_meter(const struct trial *t, const char *name)
{
    for (const char *const *m = t->component->meters; m && *m; m++)
        if (!strcmp(*m, name)) return true;
    return false;
}

/* Names that it gave to host->meter() and to the tally while it ran                       */
static void judge_meters(struct trial *t)
{
    const char *name;
    double value;
    for (int64_t i = 0; host_meter(i, &name, &value); i++)
        if (!lists_meter(t, name)) trial_fail(t, "it calls host->meter() with '%s', which its .meters does not list",
                                              name);
    for (int64_t i = 0; tally_value(i, &name, &value); i++)
        if (!lists_meter(t, name)) trial_fail(t, "it counts '%s' (chimera.tally/1), which its .meters does not list",
                                              name);
}

/* In forward and step, or in forward and backward                                          */
static void meters_of(struct trial *t, const struct layer_case *c, bool training)
{
    struct rig r;
    if (!rig_open(&r, t, c, training, 8, 2)) return;
    struct chi_segment g = rig_segment(0, 8, 0, 1, rig_block(&r, r.state_bytes));
    float *x = rig_random_rows(&r, 8, 1), *y = rig_rows(&r, 8), *dx = rig_rows(&r, 8);
    tally_begin();
    bool ok = rig_forward(&r, &g, 1, training, x, y);
    if (ok && training) {
        g.state = rig_block(&r, r.state_bytes);
        ok = rig_backward(&r, &g, 1, x, y, dx);
    } else if (ok) {
        struct chi_segment next = rig_segment(0, 1, 8, 1, g.state);
        ok = rig_step(&r, &next, 1, x, y);
    }
    tally_end();
    if (ok) judge_meters(t);            /* closing forgets them                            */
    rig_close(&r);
}

static void meters(struct trial *t)
{
    struct layer_case c;
    for (int64_t i = 0; i < 4 && t->outcome < TRIAL_FAILED; i++) {
        if (!layer_case(t, i, &c)) return;
        meters_of(t, &c, false);
        if (can_train(t) && t->outcome < TRIAL_FAILED) meters_of(t, &c, true);
    }
}

/* The case's options without NAME, then a line for it                                     */
static bool replace_option(struct layer_case *c, const char *name, const char *line)
{
    char kept[CASE_TEXT] = "";
    size_t n = 0, length = strlen(name);
    for (const char *at = c->options; *at; at += strcspn(at, "\n") + 1) {
        size_t m = strcspn(at, "\n") + 1;
        if (!strncmp(at, name, length) && at[length] == ' ') continue;
        memcpy(kept + n, at, m);
        kept[n += m] = 0;
    }
    return snprintf(c->options, sizeof c->options, "%s%s", kept, line) < CASE_TEXT;
}

/* Names and sizes of parameters as text; false: it does not open.  Caller frees            */
static bool parameters(struct trial *t, const struct layer_case *c, char **out)
{
    const struct model_tensor *w;
    struct spec *spec;
    struct solo *solo = NULL;
    if (case_spec(t, c, &spec) != CHI_OK) return false;
    bool ok = solo_open(&solo, spec, &spec->mixer[0], false, 8, 2) == CHI_OK;
    *out = xprintf("%s", "");
    for (int64_t i = 0; ok && (w = solo_tensor(solo, i)); i++) {
        char *all = xprintf("%s%s[%lld] ", *out, w->name, (long long)w->n);
        free(*out);
        *out = all;
    }
    solo_close(solo);
    spec_close(spec);
    if (!ok) free(*out);
    return ok;
}

static void changes_nothing(struct trial *t, const struct layer_case *c, const struct chi_option *o, const char *want)
{
    enum { VALUES = 8 };
    for (int i = 0; i < VALUES && t->outcome < TRIAL_FAILED; i++) {
        struct layer_case other = *c;
        char line[LINE], *got;
        draw_option(t, o, line);
        if (!*line || !replace_option(&other, o->name, line) || !parameters(t, &other, &got)) continue;
        if (strcmp(got, want) != 0)
            trial_fail(t, "option %s decides which parameters there are, but has no CHI_OPT_SHAPE, so checkpoints "
                       "do not keep it: %swith %s, else %s", o->name, got, words(line), want);
        free(got);
    }
}

/* Options that are not stored in checkpoints leave the parameters as they are               */
static void shape_flags(struct trial *t)
{
    struct layer_case c;
    char *want;
    if (!layer_case(t, 0, &c) || !parameters(t, &c, &want)) return;
    mem_limit(MOST_BYTES);
    for (const struct chi_option *o = t->component->options; o && o->name; o++)
        if (!(o->flags & CHI_OPT_SHAPE)) changes_nothing(t, &c, o, want);
    free(want);
}

#define FOR_KIND(k)                                                                          \
    { "config.defaults", k, 20, "defaults open, or are refused with a reason, in bounded memory", defaults }, \
    { "config.random",   k, 40, "random options and sizes open and run, or are refused in one line", random_options }, \
    { "config.range",    k, 20, "what lies outside of the table never reaches the component", range }

const struct check checks_config[] = {
    FOR_KIND(CHI_LAYER),
    { "config.shape", CHI_LAYER, 20, "options without CHI_OPT_SHAPE leave the parameters as they are", shape_flags },
    { "config.meters", CHI_LAYER, 20, "meters are those that the component lists", meters },
    FOR_KIND(CHI_BACKEND), FOR_KIND(CHI_QUANTIZER), FOR_KIND(CHI_ENCODING), FOR_KIND(CHI_OBJECTIVE),
    FOR_KIND(CHI_OPTIMIZER), FOR_KIND(CHI_TOKENIZER), FOR_KIND(CHI_TASK), FOR_KIND(CHI_LOOP), FOR_KIND(CHI_ADAPTER),
    { 0 }
};
