/* sweep_axes.c - the section [sweep] as axes: what is varied, and with which values.
 *
 *   section.key = a | b | c          grid: each value with all others
 *   section.key = log 1e-4 .. 1e-2   random (also uniform, int): `samples` draws, all random
 *                                    keys drawn together, each a function of sample_seed
 *   pair = k1, k2                    those two grid keys run in step; also pair2, pair-NAME
 *   arm.NAME = k=v & k=v             explicit rows; all arms are one axis
 *   leave_out = GD>XM MOE loop       one component less in each arm (sweep_leave.c)
 *
 * The jobs are the product of the axes in the order of the file, the last fastest.  */
#include "core.h"
#include "dialect.h"
#include "rng.h"
#include "sweep.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RNG_SWEEP = 40 };

const struct chi_option sweep_table[] = {
    CHI_STRING(struct sweep_options, leave_out, "", "components, each left out of one arm: WORD or"
               " WORD>STAND_IN", 0),
    CHI_INT(struct sweep_options, samples, "8", 1, SWEEP_JOBS_MAX, "draws of the random keys", 0),
    CHI_INT(struct sweep_options, sample_seed, "1", 0, 9007199254740992.0, "of the random keys", 0),
    CHI_ENUM(struct sweep_options, match, "none", "none|params|flops|state|time",
             "what all jobs have equal", 0),
    CHI_STRING(struct sweep_options, match_key, "", "section.key of the width that is moved to match", 0),
    CHI_STRING(struct sweep_options, match_to, "", "the number to match; empty: that of the file without"
               " its axes", 0),
    CHI_FLOAT(struct sweep_options, match_tolerance, "0.01", 0, 1,
              "how far a matched number may be off, relative", 0),
    CHI_INT(struct sweep_options, match_step, "1", 1, 1 << 20, "match_key stays a multiple of it", 0),
    CHI_FLOAT(struct sweep_options, minutes, "0", 0, 1e6, "of each job, with match = time", 0),
    CHI_STRING(struct sweep_options, metric, "heldout_bpb", "field of metrics.jsonl whose last value the"
               " tables show", 0),
    CHI_STRING(struct sweep_options, stop, "", "end a job early: METRIC < X, METRIC > X, nan; '|' between",
               0),
    CHI_INT(struct sweep_options, stop_after, "0", 0, 1e15, "steps before which stop is not looked at", 0),
    CHI_OPTIONS_END
};

/* ---- text ------------------------------------------------------------------------ */

static char *trimmed(const char *s, size_t n)
{
    while (n && isspace((unsigned char)*s)) s++, n--;
    while (n && isspace((unsigned char)s[n - 1])) n--;
    return xprintf("%.*s", (int)n, s);
}

char **sweep_split(const char *text, const char *separators, int64_t *n)
{
    char **word = xcalloc(strlen(text) + 2, sizeof *word);
    *n = 0;
    for (;; text++) {
        size_t len = strcspn(text, separators);
        word[(*n)++] = trimmed(text, len);
        text += len;
        if (!*text) return word;
    }
}

void sweep_split_free(char **word, int64_t n)
{
    for (int64_t i = 0; i < n; i++) free(word[i]);
    free(word);
}

/* A label stands in tables: no tabs or line ends                                      */
static char *labelled(const char *text)
{
    char *s = xstrdup(text);
    for (char *p = s; *p; p++)
        if (iscntrl((unsigned char)*p)) *p = ' ';
    return s;
}

/* ---- building blocks ----------------------------------------------------------------- */

struct sweep_axis *sweep_axis_add(struct sweep_axes *a, int64_t n_column, int64_t n_choice)
{
    a->axis = xrealloc(a->axis, (size_t)(a->n_axis + 1) * sizeof *a->axis);
    struct sweep_axis *x = &a->axis[a->n_axis++];
    *x = (struct sweep_axis){ .n_column = n_column, .n_choice = n_choice,
                              .column = xcalloc((size_t)n_column + 1, sizeof *x->column),
                              .choice = xcalloc((size_t)n_choice + 1, sizeof *x->choice) };
    for (int64_t i = 0; i < n_choice; i++) x->choice[i].label = xcalloc((size_t)n_column + 1, sizeof(char *));
    return x;
}

bool sweep_set_add(struct sweep_axes *a, struct sweep_choice *c, char *word, char *value, const char *at)
{
    char *dot = strrchr(word, '.');
    bool good = dot && dot > word && dot[1] && strncmp(word, "sweep.", 6) && strcmp(word, "run.dir");
    for (const char *p = word; good && *p; p++) good = ini_name_char(*p);
    if (!good) {
        config_error(a->config, "sweep", at, "'%s' cannot be varied: wanted is section.key (and not"
                     " run.dir)", word);
        free(word);
        free(value);
        return false;
    }
    c->set = xrealloc(c->set, (size_t)(c->n_set + 1) * sizeof *c->set);
    *dot = 0;
    c->set[c->n_set++] = (struct sweep_set){ .section = word, .key = xstrdup(dot + 1), .value = value,
        .at = xstrdup(at) };
    return true;
}

static void choice_free(struct sweep_choice *c, int64_t n_column)
{
    for (int64_t i = 0; i < c->n_set; i++) {
        free(c->set[i].section);
        free(c->set[i].key);
        free(c->set[i].value);
        free(c->set[i].at);
    }
    sweep_split_free(c->label, n_column);
    free(c->set);
}

static void axis_free(struct sweep_axis *x)
{
    for (int64_t i = 0; i < x->n_choice; i++) choice_free(&x->choice[i], x->n_column);
    sweep_split_free(x->column, x->n_column);
    free(x->choice);
}

void sweep_axes_close(struct sweep_axes *a)
{
    for (int64_t i = 0; i < a->n_axis; i++) axis_free(&a->axis[i]);
    free(a->axis);
    config_free(a->config);
    *a = (struct sweep_axes){ 0 };
}

/* ---- grid ------------------------------------------------------------------------- */

/* One value of a grid: "" in quotes is the empty one                                    */
static char *grid_value(struct sweep_axes *a, const char *key, const char *piece)
{
    if (!*piece) config_error(a->config, "sweep", key, "an empty value between '|': write \"\" if that"
                              " is meant");
    return xstrdup(!strcmp(piece, "\"\"") ? "" : piece);
}

static void grid_axis(struct sweep_axes *a, const char *key, const char *value)
{
    int64_t n;
    char **piece = sweep_split(value, "|", &n);
    struct sweep_axis *x = sweep_axis_add(a, 1, n);
    x->column[0] = xstrdup(key);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < i; j++)
            if (!strcmp(piece[i], piece[j])) config_error(a->config, "sweep", key, "'%s' is there twice",
                                                          piece[i]);
        x->choice[i].label[0] = labelled(piece[i]);
        if (!sweep_set_add(a, &x->choice[i], xstrdup(key), grid_value(a, key, piece[i]), key)) break;
    }
    sweep_split_free(piece, n);
}

static struct sweep_axis *axis_of(struct sweep_axes *a, const char *key)
{
    for (int64_t i = 0; i < a->n_axis; i++)
        if (a->axis[i].n_column == 1 && !strcmp(a->axis[i].column[0], key)) return &a->axis[i];
    return NULL;
}

/* y's columns, labels and values join x's; y goes                                       */
static void axis_join(struct sweep_axes *a, struct sweep_axis *x, struct sweep_axis *y)
{
    x->column = xrealloc(x->column, (size_t)(x->n_column + 2) * sizeof *x->column);
    x->column[x->n_column] = xstrdup(y->column[0]);
    for (int64_t i = 0; i < x->n_choice; i++) {
        struct sweep_choice *c = &x->choice[i], *d = &y->choice[i];
        c->label = xrealloc(c->label, (size_t)(x->n_column + 2) * sizeof *c->label);
        c->label[x->n_column] = xstrdup(d->label[0]);
        c->set = xrealloc(c->set, (size_t)(c->n_set + d->n_set) * sizeof *c->set);
        memcpy(c->set + c->n_set, d->set, (size_t)d->n_set * sizeof *c->set);
        c->n_set += d->n_set;
        d->n_set = 0;
    }
    x->n_column++;
    axis_free(y);
    memmove(y, y + 1, (size_t)(a->axis + a->n_axis - y - 1) * sizeof *y);
    a->n_axis--;
}

static void pair(struct sweep_axes *a, const char *at, const char *value)
{
    int64_t n;
    char **key = sweep_split(value, ",", &n);
    struct sweep_axis *first = NULL;
    if (n < 2) config_error(a->config, "sweep", at, "wanted are two keys or more, such as pair ="
                            " model.hidden_size, train.lr");
    for (int64_t i = 0; n > 1 && i < n; i++) {
        struct sweep_axis *x = axis_of(a, key[i]);
        if (!x || x == first) {
            config_error(a->config, "sweep", at, "%s is no grid key of [sweep] that is not in a pair yet",
                         key[i]);
            break;
        }
        if (first && x->n_choice != first->n_choice) {
            config_error(a->config, "sweep", at, "%s has %lld values, %s %lld: a pair runs in step", key[i],
                         (long long)x->n_choice, key[0], (long long)first->n_choice);
            break;
        }
        if (!first) {
            first = x;
            continue;
        }
        axis_join(a, first, x);
        first = NULL;                   /* the array moved: the joined one has the first key */
        for (int64_t k = 0; k < a->n_axis; k++)
            if (!strcmp(a->axis[k].column[0], key[0])) first = &a->axis[k];
    }
    sweep_split_free(key, n);
}

/* ---- random ------------------------------------------------------------------------- */

struct range { char kind; double low, high; };      /* kind l, u or i                   */

/* Is the value "log A .. B", "uniform A .. B" or "int A .. B"?                           */
static bool read_range(const char *value, struct range *r)
{
    static const char *const kind[] = { "log ", "uniform ", "int " };
    for (int i = 0; i < 3; i++) {
        if (strncmp(value, kind[i], strlen(kind[i]))) continue;
        char *end, *dots = strstr(value, "..");
        const char *p = value + strlen(kind[i]);
        r->kind = *value;
        r->low = strtod(p, &end);
        while (*end == ' ') end++;
        if (!dots || end == p || (end != dots && end != dots + 1)) return false;   /* strtod takes "1." */
        r->high = strtod(dots + 2, &end);
        return end != dots + 2 && !*end;
    }
    return false;
}

static bool is_range(const char *value)
{
    return !strncmp(value, "log ", 4) || !strncmp(value, "uniform ", 8) || !strncmp(value, "int ", 4);
}

/* A function of seed, key and number of the sample alone                                 */
static char *draw(const struct range *r, uint64_t seed, const char *key, int64_t i)
{
    uint32_t word[4];
    rng_words(word, seed, RNG_SWEEP, 0, rng_who(key), (uint64_t)i);
    double u = rng_uniform(word[0]);
    if (r->kind == 'i') return xprintf("%.0f", floor(r->low + u * (r->high - r->low + 1)));
    double x = r->kind == 'l' ? r->low * pow(r->high / r->low, u) : r->low + u * (r->high - r->low);
    return xprintf("%.4g", x);
}

/* All random keys are one axis: a sample draws each of them                               */
static void random_key(struct sweep_axes *a, int64_t *at, const char *key, const char *value)
{
    struct range r = { 0 };
    if (!read_range(value, &r) || !(r.low < r.high) || !isfinite(r.low) || !isfinite(r.high)
        || (r.kind == 'l' && r.low <= 0) || (r.kind == 'i' && (r.low != floor(r.low)
            || r.high != floor(r.high)))) {
        config_error(a->config, "sweep", key, "wanted is log A .. B, uniform A .. B or int A .. B with A < B"
                     " (log: above 0; int: whole numbers)");
        return;
    }
    bool first = *at < 0;
    if (first) {
        sweep_axis_add(a, 0, a->o.samples);
        *at = a->n_axis - 1;
    }
    struct sweep_axis *x = &a->axis[*at];
    x->column = xrealloc(x->column, (size_t)(x->n_column + 1) * sizeof *x->column);
    x->column[x->n_column] = xstrdup(key);
    for (int64_t i = 0; i < x->n_choice; i++) {
        struct sweep_choice *c = &x->choice[i];
        char *text = draw(&r, (uint64_t)a->o.sample_seed, key, i);
        c->label = xrealloc(c->label, (size_t)(x->n_column + 1) * sizeof *c->label);
        c->label[x->n_column] = xstrdup(text);
        sweep_set_add(a, c, xstrdup(key), text, key);
    }
    x->n_column++;
}

/* ---- rows ----------------------------------------------------------------------------- */

static void arm_row(struct sweep_axes *a, struct sweep_choice *c, const char *key, const char *value)
{
    int64_t n;
    char **word = sweep_split(value, "&", &n);
    c->label[0] = xstrdup(key + strlen("arm."));
    for (int64_t i = 0; i < n; i++) {
        char *eq = strchr(word[i], '=');
        if (n == 1 && !*word[i]) break;             /* the file as it is                */
        if (!eq) {
            config_error(a->config, "sweep", key, "wanted is section.key=value & section.key=value,"
                         " found '%s'", word[i]);
            break;
        }
        char *name = trimmed(word[i], (size_t)(eq - word[i])), *text = trimmed(eq + 1, strlen(eq + 1));
        if (!sweep_set_add(a, c, name, text, key)) break;
    }
    sweep_split_free(word, n);
}

static bool is_arm(const char *key)
{
    return !strncmp(key, "arm.", 4) && key[4];
}

/* The axis of all arm.NAME lines, where the first stands                                   */
static void arms(struct sweep_axes *a)
{
    const char *key, *value;
    int64_t n = 0, c = 0;
    for (int64_t i = 0; (key = config_key(a->config, "sweep", i, &value)); i++) n += is_arm(key);
    struct sweep_axis *x = sweep_axis_add(a, 1, n);
    x->column[0] = xstrdup("arm");
    for (int64_t i = 0; (key = config_key(a->config, "sweep", i, &value)); i++)
        if (is_arm(key)) arm_row(a, &x->choice[c++], key, value);
}

/* ---- all of it --------------------------------------------------------------------------- */

static void read_axes(struct sweep_axes *a)
{
    const char *key, *value;
    int64_t random = -1;
    bool armed = false;
    for (int64_t i = 0; (key = config_key(a->config, "sweep", i, &value)); i++) {
        if (!strcmp(key, "leave_out") && *a->o.leave_out) sweep_leave_out(a);
        if (!strchr(key, '.')) continue;
        config_get(a->config, "sweep", key);            /* known                          */
        if (is_arm(key) && !armed) {
            arms(a);
            armed = true;
        } else if (is_arm(key)) continue;
        else if (is_range(value)) random_key(a, &random, key, value);
        else grid_axis(a, key, value);
    }
    for (int64_t i = 0; (key = config_key(a->config, "sweep", i, &value)); i++)
        if (!strncmp(key, "pair", 4) && !strchr(key, '.')) pair(a, key, config_get(a->config, "sweep", key));
}

/* Two axes that set one key would hide one another                                         */
static void check_twice(struct sweep_axes *a)
{
    for (int64_t i = 0; i < a->n_axis; i++)
        for (int64_t j = i + 1; j < a->n_axis; j++)
            for (int64_t p = 0; p < a->axis[i].n_column; p++)
                for (int64_t q = 0; q < a->axis[j].n_column; q++)
                    if (!strcmp(a->axis[i].column[p], a->axis[j].column[q]))
                        config_error(a->config, "sweep", NULL,
                                     "two axes vary %s: join arms and leave_out into one",
                                     a->axis[i].column[p]);
}

static void check_options(struct sweep_axes *a)
{
    const struct sweep_options *o = &a->o;
    char *why = NULL, *end;
    bool counted = o->match != MATCH_NONE && o->match != MATCH_TIME;
    if (counted && !strchr(o->match_key, '.'))
        config_error(a->config, "sweep", "match", "needs match_key = section.key of a width, such as"
                     " layer.MLP.intermediate_size");
    if (o->match == MATCH_TIME && !(o->minutes > 0))
        config_error(a->config, "sweep", "match", "needs minutes = N, the time of each job");
    if (counted && *o->match_to && (strtod(o->match_to, &end) <= 0 || (*end && !(strchr("kMG", *end)
        && !end[1]))))
        config_error(a->config, "sweep", "match_to", "wanted is a number above 0, such as 5.8M");
    if (!sweep_stop_legal(o->stop, &why)) config_error(a->config, "sweep", "stop", "%s", why);
    free(why);
}

int64_t sweep_axes_jobs(const struct sweep_axes *a)
{
    int64_t n = 1;
    for (int64_t i = 0; i < a->n_axis; i++) n = min_i64(n * a->axis[i].n_choice, 2 * (int64_t)SWEEP_JOBS_MAX);
    return n;
}

const struct sweep_choice *sweep_axes_choice(const struct sweep_axes *a, int64_t axis, int64_t job)
{
    for (int64_t i = a->n_axis - 1; i > axis; i--) job /= a->axis[i].n_choice;
    return &a->axis[axis].choice[job % a->axis[axis].n_choice];
}

chi_status sweep_axes_open(struct sweep_axes *a, struct config *c)
{
    const char *section;
    *a = (struct sweep_axes){ .config = c };
    if (!config_has(c, "sweep"))
        return fail(CHI_ECONF, "%s has no section [sweep]: it says what is varied, see doc/sweep.md",
                    config_path(c));
    for (int64_t i = 0; (section = config_section(c, "", i)); i++)
        if (strcmp(section, "sweep")) config_ignore(c, section);
    bool good = config_parse(c, "sweep", sweep_table, &a->o, NULL);
    if (good) {
        read_axes(a);
        check_twice(a);
        check_options(a);
        if (sweep_axes_jobs(a) > SWEEP_JOBS_MAX) config_error(c, "sweep", NULL, "more than %d jobs",
            SWEEP_JOBS_MAX);
    }
    return config_finish(c);
}
