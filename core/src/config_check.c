/* config_check.c - the errors of a configuration: collected, completed by unknown
 * sections and keys, sorted by place, and reported all at once.                  */
#include "config_store.h"
#include "dialect.h"

#include <string.h>

enum { SHOWN_MAX = 50 };

char *origin_text(const struct source *s, int line)
{
    if (!s) return xstrdup("default");
    return line ? xprintf("%s:%d", s->name, line) : xstrdup(s->name);
}

void config_message(struct config *c, const struct source *s, int line, char *text)
{
    if (!s && c->sources) s = c->sources;
    char *from = s ? origin_text(s, line) : xstrdup("configuration");
    if ((c->n_error & (c->n_error - 1)) == 0)
        c->message = xrealloc(c->message, (size_t)max_i64(1, 2 * c->n_error) * sizeof *c->message);
    c->message[c->n_error] = (struct message){ s ? s->rank : 0, line, c->n_error, CHI_ECONF,
                                               xprintf("%s: %s", from, text) };
    c->n_error++;
    free(from);
    free(text);
}

static void message_at(struct config *c, const char *section, const char *key, const char *text)
{
    char *value = NULL;
    const struct entry *e = section && key ? config_find(c, section, key) : NULL;
    const struct section *s = NULL;
    if (section) HASH_FIND_STR(c->sections, section, s);
    if (e) {
        value = shown(e->value);
        config_message(c, e->source, e->line, xprintf("%s.%s = %s: %s", section, key, value, text));
    } else if (section) {
        config_message(c, s ? s->source : NULL, s ? s->line : 0,
                       xprintf("[%s]%s%s: %s", section, key ? " " : "", key ? key : "", text));
    } else {
        config_message(c, NULL, 0, xstrdup(text));
    }
    free(value);
}

void config_error(struct config *c, const char *section, const char *key, const char *fmt, ...)
{
    char text[1024];
    va_list a;
    va_start(a, fmt);
    vsnprintf(text, sizeof text, fmt, a);
    va_end(a);
    message_at(c, section, key, text);
}

void config_failed(struct config *c, const char *section, const char *key, chi_status status)
{
    char *text = xstrdup(fail_text());
    message_at(c, section, key, text);
    c->message[c->n_error - 1].status = status;
    free(text);
}

int64_t config_errors(const struct config *c)
{
    return c->n_error;
}

/* "a, b, c"; caller frees                                                       */
static char *joined(const char *const *names, const char *before, const char *after)
{
    char *s = xstrdup("");
    for (int i = 0; names[i]; i++) {
        char *t = xprintf("%s%s%s%s%s", s, i ? ", " : "", before, names[i], after);
        free(s);
        s = t;
    }
    return s;
}

/* The section in which a stray key would be legal, or NULL                      */
static const char *home_of(const struct config *c, const char *key)
{
    for (const struct section *s = c->sections; s; s = s->hh.next)
        if (s->used && config_knows(s, key)) return s->name;
    return NULL;
}

static void unknown_key(struct config *c, const struct entry *e)
{
    struct section *s = e->section;
    const char **names = xcalloc((size_t)s->n_key + 1, sizeof *names);
    if (s->n_key) memcpy(names, s->key, (size_t)s->n_key * sizeof *names);
    const char *near = closest(e->key, names), *home = near ? NULL : home_of(c, e->key);
    char *legal = joined(names, "", ""), *value = shown(e->value);
    char *hint = near ? xprintf("did you mean %s? ", near)
               : !strcmp(e->key, "include") ? xstrdup("include stands at the top of a file; ")
               : home ? xprintf("it belongs to [%s]; ", home) : xstrdup("");
    config_message(c, e->source, e->line, xprintf("%s.%s = %s: unknown key: %s[%s] takes %s", s->name, e->key,
                                                  value, hint, s->name, *legal ? legal : "no keys"));
    free(hint);
    free(legal);
    free(value);
    free(names);
}

/* e: the override that names the section, or NULL if a file has its header       */
static void unknown_section(struct config *c, const struct section *s, const struct entry *e,
                            const char *const *names, const char *legal)
{
    const char *near = closest(s->name, names);
    char *what = e ? xprintf("%s.%s = ...", s->name, e->key) : xprintf("[%s]", s->name);
    config_message(c, e ? e->source : s->source, e ? e->line : s->line,
                   xprintf("%s: unknown section: %s%s%sknown here are %s", what, near ? "did you mean [" : "",
                           near ? near : "", near ? "]? " : "", legal));
    free(what);
}

static void find_unknown(struct config *c)
{
    const char **names = xcalloc((size_t)c->n_used + 1, sizeof *names);
    for (const struct section *s = c->sections; s; s = s->hh.next)
        if (s->used) names[s->used - 1] = s->name;
    char *legal = joined(names, "[", "]");
    for (const struct section *s = c->sections; s; s = s->hh.next)
        if (!s->used && *s->name && s->line) unknown_section(c, s, NULL, names, legal);
    for (const struct entry *e = c->entries; e; e = e->hh.next) {
        const struct section *s = e->section;
        if (!*s->name) continue;        /* include                               */
        if (s->used && !config_knows(s, e->key)) unknown_key(c, e);
        if (!s->used && !e->line) unknown_section(c, s, e, names, legal);
    }
    free(legal);
    free(names);
}

static int by_place(const void *pa, const void *pb)
{
    const struct message *a = pa, *b = pb;
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    if (a->line != b->line) return a->line < b->line ? -1 : 1;
    return a->n < b->n ? -1 : a->n > b->n;
}

chi_status config_finish(struct config *c)
{
    find_unknown(c);
    if (!c->n_error) return CHI_OK;
    qsort(c->message, (size_t)c->n_error, sizeof *c->message, by_place);
    char *all = NULL;
    size_t size;
    FILE *f = open_memstream(&all, &size);
    if (!f) return fail_errno(CHI_ENOMEM, "no memory for the messages of a configuration");
    chi_status s = c->message[0].status;
    for (int64_t i = 1; i < c->n_error; i++)
        if (c->message[i].status != s) s = CHI_ECONF;
    for (int64_t i = 0; i < min_i64(c->n_error, SHOWN_MAX); i++)
        fprintf(f, "%s%s", i ? "\n" : "", c->message[i].text);
    if (c->n_error > SHOWN_MAX) fprintf(f, "\n... and %lld more", (long long)(c->n_error - SHOWN_MAX));
    fclose(f);
    fail(s, "%s", all);
    free(all);
    return s;
}
