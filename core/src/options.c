/* options.c - one option: its text to a field of a struct, and back.
 *
 * Defaults are text, too, and take the same way; so a table that the validator
 * accepts cannot hold a default that a file could not say.                     */
#include "options.h"
#include "core.h"
#include "dialect.h"
#include "registry.h"

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { LIST_MAX = 65536 };

const char *option_type_name(const struct chi_option *o)
{
    static const char *const name[] = { "?", "int", "float", "bool", "enum", "string", "path", "list",
                                        "component" };
    return o->type > 0 && o->type < COUNT(name) ? name[o->type] : name[0];
}

static void *field(const struct chi_option *o, void *conf)
{
    return (unsigned char *)conf + o->offset;
}

/* ---- what is legal, in words ------------------------------------------------- */

static void bound(char out[32], double x)
{
    snprintf(out, 32, fabs(x) < 1e15 && x == floor(x) ? "%.0f" : "%g", x);
}

/* "1..256", "at least 0", "l2 or none", "yes or no"; "" if anything is legal.
 * Caller frees.                                                                */
char *option_range(const struct chi_option *o)
{
    char lo[32], hi[32];
    if (o->type == CHI_OPT_BOOL) return xstrdup("yes or no");
    if (o->type == CHI_OPT_ENUM) {
        char *s = xstrdup("");
        for (const char *c = o->choices; c && *c; c += *c == '|') {
            int n = (int)strcspn(c, "|");
            char *t = xprintf("%s%s%.*s", s, !*s ? "" : c[n] ? ", " : " or ", n, c);
            free(s);
            s = t;
            c += n;
        }
        return s;
    }
    if (o->type != CHI_OPT_INT && o->type != CHI_OPT_FLOAT && o->type != CHI_OPT_LIST) return xstrdup("");
    double top = o->type == CHI_OPT_FLOAT ? DBL_MAX : 9e18;
    bound(lo, o->min);
    bound(hi, o->max);
    if (o->max >= top) return o->min <= -top ? xstrdup("") : xprintf("at least %s", lo);
    return o->min <= -top ? xprintf("at most %s", hi) : xprintf("%s..%s", lo, hi);
}

/* "must be <what> <range> (doc; default d)"                                    */
static bool refuse(const struct chi_option *o, char **why, const char *what)
{
    char *range = option_range(o);
    bool both = *what && *range;
    if (why)
        *why = xprintf("must be %s%s%s (%s%s%s)", what, both ? ", " : "", range,
                       o->doc ? o->doc : option_type_name(o),
                       o->fallback && *o->fallback ? "; default " : "", o->fallback ? o->fallback : "");
    free(range);
    return false;
}

/* ---- numbers ------------------------------------------------------------------ */

static bool in_range(const struct chi_option *o, double x)
{
    return x >= o->min && x <= o->max;
}

/* Decimal digits with an optional suffix k, M or G (10^3, 6, 9)                */
static bool parse_int(const char *s, int64_t *out)
{
    char *end;
    int64_t scale = 1;
    if (!isdigit((unsigned char)s[*s == '-' || *s == '+'])) return false;
    errno = 0;
    long long x = strtoll(s, &end, 10);
    if (errno) return false;
    if (*end == 'k') scale = 1000, end++;
    else if (*end == 'M') scale = 1000000, end++;
    else if (*end == 'G') scale = 1000000000, end++;
    return !*end && !__builtin_mul_overflow((int64_t)x, scale, out);
}

/* A finite decimal number; returns its end or NULL         */
static const char *parse_float(const char *s, double *out)
{
    char *end;
    if (!isdigit((unsigned char)*s) && (!*s || !strchr("+-.", *s))) return NULL;
    size_t digits = strspn(s, "0123456789+-.eE");
    if (s[digits] == 'x' || s[digits] == 'X') return NULL;
    *out = strtod(s, &end);             /* nothing here calls setlocale()        */
    return end == s || !isfinite(*out) ? NULL : end;
}

static bool set_int(const struct chi_option *o, const char *text, void *conf, char **why)
{
    int64_t x;
    if (!parse_int(text, &x)) return refuse(o, why, "a whole number");
    if (!in_range(o, (double)x)) return refuse(o, why, "");
    *(int64_t *)field(o, conf) = x;
    return true;
}

static bool set_float(const struct chi_option *o, const char *text, void *conf, char **why)
{
    double x;
    const char *end = parse_float(text, &x);
    if (!end || *end) return refuse(o, why, "a finite number");
    if (!in_range(o, x)) return refuse(o, why, "");
    *(double *)field(o, conf) = x;
    return true;
}

/* Items with commas between; a-b stands for all whole numbers from a to b       */
static bool set_list(const struct chi_option *o, const char *text, struct config *owner, void *conf,
                     char **why)
{
    static const char form[] = "numbers with commas between, like 1, 2, 4-8";
    struct chi_list *list = field(o, conf);
    double *v = NULL, a, b;
    size_t n = 0;
    for (const char *s = text + strspn(text, " \t"); *s; ) {
        const char *end = parse_float(s, &a);
        if (!end) goto malformed;
        b = a;
        if (*end == '-' && (a != floor(a) || !(end = parse_float(end + 1, &b)) || b != floor(b)))
            goto malformed;
        end += strspn(end, " \t");
        if ((*end && *end != ',') || (*end == ',' && !end[1 + strspn(end + 1, " \t")]) || b < a) goto malformed;
        if (!in_range(o, a) || !in_range(o, b) || b - a >= LIST_MAX - (double)n) {
            free(v);
            bool too_many = in_range(o, a) && in_range(o, b);
            return refuse(o, why, too_many ? "a list of at most 65536 numbers" : "a list of numbers");
        }
        int64_t items = (int64_t)(b - a) + 1;
        v = xrealloc(v, (n + (size_t)items) * sizeof *v);
        for (int64_t i = 0; i < items; i++) v[n++] = a + (double)i;
        s = end + (*end == ',');
        s += strspn(s, " \t");
    }
    list->v = v ? config_own(owner, v) : NULL;
    list->n = n;
    return true;
malformed:
    free(v);
    return refuse(o, why, form);
}

/* ---- words -------------------------------------------------------------------- */

static bool set_bool(const struct chi_option *o, const char *text, void *conf, char **why)
{
    static const char *const no_yes[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };
    for (int i = 0; i < COUNT(no_yes); i++)
        if (!strcasecmp(text, no_yes[i])) {
            *(bool *)field(o, conf) = i & 1;
            return true;
        }
    return refuse(o, why, "");
}

static const char *closest_choice(const char *text, const char *choices)
{
    static _Thread_local char found[64];
    const char *name[64] = { 0 };
    char *all = xstrdup(choices ? choices : ""), *rest = all;
    for (int n = 0; n < 63 && rest; n++) name[n] = strsep(&rest, "|");
    const char *c = closest(text, name);
    if (c) snprintf(found, sizeof found, "%s", c);
    free(all);
    return c ? found : NULL;
}

static bool set_enum(const struct chi_option *o, const char *text, void *conf, char **why)
{
    int32_t i = 0;
    size_t len = strlen(text);
    for (const char *c = o->choices; c && *c; i++) {
        size_t n = strcspn(c, "|");
        if (n == len && !memcmp(c, text, n)) {
            *(int32_t *)field(o, conf) = i;
            return true;
        }
        c += n + (c[n] == '|');
    }
    const char *near = closest_choice(text, o->choices);
    refuse(o, why, "");
    if (near && why) {
        char *said = *why;
        *why = xprintf("%s: did you mean %s?", said, near);
        free(said);
    }
    return false;
}

char *path_absolute(const char *path, const char *base_dir)
{
    if (path[0] == '/') return xstrdup(path);
    char *dir = base_dir ? path_absolute(base_dir, NULL) : getcwd(NULL, 0);
    if (!dir) dir = xstrdup(".");
    while (path[0] == '.' && path[1] == '/') path += 2 + strspn(path + 2, "/");
    if (!*path || !strcmp(path, ".")) return dir;
    char *full = xprintf("%s%s%s", dir, dir[strlen(dir) - 1] == '/' ? "" : "/", path);
    free(dir);
    return full;
}

bool option_set(const struct chi_option *o, const char *text, const char *base_dir,
                struct config *owner, void *conf, char **why)
{
    char *copy;
    if (why) *why = NULL;
    switch (o->type) {
    case CHI_OPT_INT:   return set_int(o, text, conf, why);
    case CHI_OPT_FLOAT: return set_float(o, text, conf, why);
    case CHI_OPT_BOOL:  return set_bool(o, text, conf, why);
    case CHI_OPT_ENUM:  return set_enum(o, text, conf, why);
    case CHI_OPT_LIST:  return set_list(o, text, owner, conf, why);
    case CHI_OPT_STRING: case CHI_OPT_REF: case CHI_OPT_PATH:
        copy = o->type == CHI_OPT_PATH && *text ? path_absolute(text, base_dir) : xstrdup(text);
        *(const char **)field(o, conf) = config_own(owner, copy);
        return true;
    default:
        if (why) *why = xprintf("has type %d, which this core does not know: rebuild the plugin", (int)o->type);
        return false;
    }
}

void option_clear(const struct chi_option *o, void *conf)
{
    switch (o->type) {
    case CHI_OPT_INT:   *(int64_t *)field(o, conf) = 0; break;
    case CHI_OPT_FLOAT: *(double *)field(o, conf) = 0; break;
    case CHI_OPT_BOOL:  *(bool *)field(o, conf) = false; break;
    case CHI_OPT_ENUM:  *(int32_t *)field(o, conf) = 0; break;
    case CHI_OPT_LIST:  *(struct chi_list *)field(o, conf) = (struct chi_list){ NULL, 0 }; break;
    case CHI_OPT_STRING: case CHI_OPT_REF: case CHI_OPT_PATH: *(const char **)field(o, conf) = ""; break;
    default: break;
    }
}

/* ---- back to text --------------------------------------------------------------- */

/* The shortest decimal that reads back as x                                     */
static void float_text(char out[40], double x)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 40, "%.*g", digits, x);
        double back;
        if (parse_float(out, &back) && back == x) return;
    }
}

/* Runs of whole numbers become a-b again                                       */
static char *list_text(const struct chi_list *l)
{
    char *s = xstrdup(""), a[40], b[40];
    for (size_t i = 0, j; i < l->n; i = j) {
        for (j = i + 1; j < l->n && l->v[j] == l->v[j - 1] + 1 && l->v[i] == floor(l->v[i]); j++) {}
        if (j - i < 3) j = i + 1;
        float_text(a, l->v[i]);
        float_text(b, l->v[j - 1]);
        char *t = xprintf("%s%s%s%s%s", s, i ? ", " : "", a, j - i > 1 ? "-" : "", j - i > 1 ? b : "");
        free(s);
        s = t;
    }
    return s;
}

char *option_text(const struct chi_option *o, const void *conf)
{
    const void *p = (const unsigned char *)conf + o->offset;
    char number[40];
    switch (o->type) {
    case CHI_OPT_INT:   return xprintf("%lld", (long long)*(const int64_t *)p);
    case CHI_OPT_FLOAT: float_text(number, *(const double *)p); return xstrdup(number);
    case CHI_OPT_BOOL:  return xstrdup(*(const bool *)p ? "yes" : "no");
    case CHI_OPT_LIST:  return list_text(p);
    case CHI_OPT_ENUM: {
        const char *c = o->choices ? o->choices : "";
        for (int32_t i = *(const int32_t *)p; i > 0 && *c; i--) c += strcspn(c, "|") + (strchr(c, '|') != NULL);
        return xprintf("%.*s", (int)strcspn(c, "|"), c);
    }
    case CHI_OPT_STRING: case CHI_OPT_REF: case CHI_OPT_PATH: return ini_quote(*(const char *const *)p);
    default: return xstrdup("");
    }
}

void option_print(const struct chi_option *o, FILE *f)
{
    char *range = o->type == CHI_OPT_REF ? xprintf("%s", o->choices ? o->choices : "") : option_range(o);
    fprintf(f, "  %-22s %-9s %s%s", o->name, option_type_name(o), range, *range ? ", " : "");
    if (o->flags & CHI_OPT_REQUIRED) fprintf(f, "required");
    else fprintf(f, "default %s", o->fallback && *o->fallback ? o->fallback : "(empty)");
    fprintf(f, "\n  %-22s %s%s%s%s\n", "", o->doc ? o->doc : "",
            o->flags & CHI_OPT_SHAPE ? " [shape]" : "", o->flags & CHI_OPT_RUNTIME ? " [runtime]" : "",
            o->flags & CHI_OPT_DEPRECATED ? " [deprecated]" : "");
    free(range);
}
