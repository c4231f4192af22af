/* modes.c - named ways to use a model: with run.mode = fast (generate --mode fast), each line of [mode.fast]
 *
 *     section.key = value
 *
 * counts as if it stood in the configuration, and what the command line says counts more.  A mode may only change
 * what may change later (CHI_OPT_RUNTIME): the model stays what it is.  Lines of the modes that are not in use are
 * checked, too, so that nobody finds out on the day that he needs one.                                       */
#include "core.h"
#include "spec.h"

#include <stdlib.h>
#include <string.h>

static const char prefix[] = "mode.";

/* "loop.loops" -> "loop" (caller frees) and "loops"; NULL: there is no dot between two names                   */
static char *section_of(const char *line, const char **key)
{
    const char *dot = strrchr(line, '.');
    *key = dot ? dot + 1 : line;
    return dot && dot > line && dot[1] ? xprintf("%.*s", (int)(dot - line), line) : NULL;
}

static void no_such_mode(struct config *c, const char *name)
{
    const char **names = NULL, *section;
    int64_t n = 0;
    char *list = xstrdup("");
    for (; (section = config_section(c, prefix, n)); n++) {
        names = xrealloc(names, (size_t)(n + 2) * sizeof *names);
        names[n] = section + strlen(prefix);
        char *more = xprintf("%s%s%s", list, n ? ", " : "", names[n]);
        free(list);
        list = more;
    }
    if (n) names[n] = NULL;
    const char *near = n ? closest(name, names) : NULL;
    config_error(c, "run", "mode", "there is no section [mode.%s]%s%s%s%s%s", name,
                 n ? "; there are: " : "; there is none", list, near ? "; did you mean " : "", near ? near : "",
                 near ? "?" : "");
    free(list);
    free(names);
}

void mode_apply(struct config *c)
{
    const char *mode = config_get(c, "run", "mode"), *line, *value, *key;
    if (!mode || !*mode) return;
    char *from = xprintf("%s%s", prefix, mode);
    if (!config_has(c, from)) no_such_mode(c, mode);
    for (int64_t i = 0; (line = config_key(c, from, i, &value)); i++) {
        char *section = section_of(line, &key);
        if (section && strcmp(line, "run.mode") != 0 && !config_overridden(c, section, key))
            config_set(c, section, key, value, from, line);
        free(section);
    }
    free(from);
}

/* all: every section that a model in use reads was parsed.  used: config_finish() tells of keys that nobody reads */
static void check_line(struct config *c, const char *mode, const char *line, bool all, bool used)
{
    const char *key;
    char *section = section_of(line, &key);
    int flags = section ? config_option_flags(c, section, key) : CONFIG_NO_KEY;
    if (section && used && flags < 0) { /* told */ }
    else if (!section) config_error(c, mode, line, "wanted is section.key = value");
    else if (!strcmp(line, "run.mode")) config_error(c, mode, line, "a mode cannot choose a mode");
    else if (flags == CONFIG_NO_KEY || (flags == CONFIG_NO_SECTION && all))
        config_error(c, mode, line, flags == CONFIG_NO_KEY ? "[%s] takes no such key" : "nothing reads [%s]",
                     section);
    else if (flags >= 0 && !(flags & CHI_OPT_RUNTIME))
        config_error(c, mode, line, "%s.%s is part of the model or of its training: a mode changes only what a model "
                     "in use may change", section, key);
    free(section);
}

void mode_check(struct config *c, bool all)
{
    const char *mode, *line, *value, *used = config_get(c, "run", "mode");
    for (int64_t i = 0; (mode = config_section(c, prefix, i)); i++) {
        config_ignore(c, mode);
        bool is = used && !strcmp(mode + strlen(prefix), used);
        for (int64_t k = 0; (line = config_key(c, mode, k, &value)); k++) check_line(c, mode, line, all, is);
    }
}

chi_status mode_refuse(const struct spec *s)
{
    if (!s->run.mode || !*s->run.mode) return CHI_OK;
    return fail(CHI_ECONF,
                "run.mode = %s: a mode is for a model in use; what is written here keeps all of its modes, "
                "and is in none of them", s->run.mode);
}
