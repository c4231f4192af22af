/* config_print.c - the resolved configuration as an INI file, its hash, the part of
 * it that decides shapes, and the documentation of single keys.                  */
#include "config_store.h"
#include "dialect.h"
#include "options.h"

#include <string.h>

static const struct section *used(const struct config *c, int rank)
{
    const struct section *s = c->sections;
    while (s && s->used != rank) s = s->hh.next;
    return s;
}

static const struct parsed *parsed(const struct section *s, const char *key)
{
    for (int i = 0; i < s->n_parsed; i++)
        if (!strcmp(s->parsed[i].name, key)) return &s->parsed[i];
    return NULL;
}

static void print_value(const struct config *c, const struct section *s, const char *key, FILE *f,
                        bool origins)
{
    const struct entry *e = config_find(c, s->name, key);
    const struct parsed *p = parsed(s, key);
    if (p ? !p->set : !e) return;
    char *value = p ? xstrdup(p->text) : ini_quote(e->value);
    char *from = origin_text(e ? e->source : NULL, e ? e->line : 0);
    if (origins) fprintf(f, "%-24s = %-24s ; %s\n", key, value, from);
    else fprintf(f, "%s = %s\n", key, value);
    free(value);
    free(from);
}

void config_print(const struct config *c, FILE *f, bool origins)
{
    bool first = true;
    for (int rank = 1; rank <= c->n_used; rank++) {
        const struct section *s = used(c, rank);
        if (s->skipped || (!s->tables && !config_has(c, s->name))) continue;  /* looked for in vain */
        fprintf(f, "%s[%s]\n", first ? "" : "\n", s->name);
        for (int i = 0; i < s->n_key; i++) print_value(c, s, s->key[i], f, origins);
        first = false;
    }
}

void config_show(struct config *c, const char *section, const char *key, const char *text)
{
    const struct section *s;
    HASH_FIND_STR(c->sections, section, s);
    for (int i = 0; s && i < s->n_parsed; i++)
        if (!strcmp(s->parsed[i].name, key)) {
            free(s->parsed[i].text);
            s->parsed[i].text = ini_quote(text);
        }
}

uint64_t config_hash(const struct config *c)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) return 0;
    config_print(c, f, false);
    fclose(f);
    uint64_t h = xxh3(text, n);
    free(text);
    return h;
}

char *config_shape_text(const struct config *c)
{
    char *all = xstrdup("");
    for (int rank = 1; rank <= c->n_used; rank++) {
        const struct section *s = used(c, rank);
        for (int i = 0; i < s->n_parsed; i++) {
            const struct parsed *p = &s->parsed[i];
            if (!(p->flags & CHI_OPT_SHAPE)) continue;
            char *t = xprintf("%s%s.%s = %s\n", all, s->name, p->name, p->text);
            free(all);
            all = t;
        }
    }
    return all;
}

bool config_is_default(const struct config *c, const char *line)
{
    size_t n = strcspn(line, "= ");
    char *word = xprintf("%.*s", (int)n, line), *dot = strrchr(word, '.');
    const struct section *s = NULL;
    const struct parsed *p = NULL;
    if (dot) {
        *dot = 0;
        HASH_FIND_STR(c->sections, word, s);
    }
    if (s) p = parsed(s, dot + 1);
    bool is = p && p->option && p->option->fallback && !strcmp(p->text, p->option->fallback);
    free(word);
    return is;
}

/* The sections' names, then those of one section's keys, for the error           */
static chi_status no_such_key(const struct config *c, const struct section *s, const char *word,
                              const char *key)
{
    const char **names = xcalloc((size_t)(s ? s->n_key : c->n_used) + 1, sizeof *names);
    for (int i = 0; i < (s ? s->n_key : c->n_used); i++) names[i] = s ? s->key[i] : used(c, i + 1)->name;
    char *section = xprintf("%.*s", (int)(strlen(word) - strlen(key)) - 1, word);
    const char *near = closest(s ? key : section, names);
    chi_status status = near
        ? fail(CHI_ECONF, "%s: no such %s: did you mean %s?", word, s ? "key" : "section", near)
        : fail(CHI_ECONF, "%s: no such %s: chimera config CONF without it lists them", word,
               s ? "key" : "section");
    free(section);
    free(names);
    return status;
}

chi_status config_explain(const struct config *c, const char *word, FILE *f)
{
    const char *dot = strrchr(word, '.');
    if (!dot || dot == word || !dot[1]) return fail(CHI_ECONF, "'%s': a key is section.key", word);
    char *section = xprintf("%.*s", (int)(dot - word), word);
    const struct section *s;
    HASH_FIND_STR(c->sections, section, s);
    free(section);
    if (s && !s->used) s = NULL;
    if (!s || !config_knows(s, dot + 1)) return no_such_key(c, s, word, dot + 1);
    const struct parsed *p = parsed(s, dot + 1);
    fprintf(f, "[%s]\n", s->name);
    if (p) option_print(p->option, f);
    print_value(c, s, dot + 1, f, true);
    return CHI_OK;
}
