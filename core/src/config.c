/* config.c - collects (section, key, value, origin) from files, their includes and
 * the command line, and fills structs from it.
 *
 * Precedence: table default < include < file < command line.  Within one file a key
 * or a section that comes twice is an error, for it is nearly always a slip.       */
#include "config_store.h"
#include "dialect.h"
#include "options.h"
#include "sections.h"

#include <errno.h>
#include <string.h>

enum { INCLUDES_MAX = 32 };

/* ---- the store -------------------------------------------------------------- */

void *config_own(struct config *c, void *block)
{
    if ((c->n_owned & (c->n_owned - 1)) == 0)           /* full at powers of two */
        c->owned = xrealloc(c->owned, (size_t)max_i64(1, 2 * c->n_owned) * sizeof *c->owned);
    return c->owned[c->n_owned++] = block;
}

static struct section *section_get(const struct config *c, const char *name)
{
    struct section *s;
    HASH_FIND_STR(c->sections, name, s);
    return s;
}

static struct section *section_new(struct config *c, const char *name)
{
    struct section *s = section_get(c, name);
    if (s) return s;
    s = xcalloc(1, sizeof *s);
    s->name = xstrdup(name);
    HASH_ADD_KEYPTR(hh, c->sections, s->name, strlen(s->name), s);
    return s;
}

struct entry *config_find(const struct config *c, const char *section, const char *key)
{
    struct entry *e;
    char *id = xprintf("%s\n%s", section, key);
    HASH_FIND_STR(c->entries, id, e);
    free(id);
    return e;
}

static struct entry *entry_new(struct config *c, const char *section, const char *key)
{
    struct entry *e = config_find(c, section, key);
    if (e) return e;
    e = xcalloc(1, sizeof *e);
    e->id = xprintf("%s\n%s", section, key);
    e->key = e->id + strlen(section) + 1;
    e->section = section_new(c, section);
    HASH_ADD_KEYPTR(hh, c->entries, e->id, strlen(e->id), e);
    return e;
}

static void entry_set(struct entry *e, const char *value, const struct source *from, int line)
{
    free(e->value);
    e->value = xstrdup(value);
    e->source = from;
    e->line = line;
}

static void entry_drop(struct config *c, struct entry *e)
{
    if (!e) return;
    HASH_DEL(c->entries, e);
    free(e->id);
    free(e->value);
    free(e);
}

struct section *config_use(struct config *c, const char *name)
{
    struct section *s = section_new(c, name);
    if (!s->used) s->used = ++c->n_used;
    return s;
}

bool config_knows(const struct section *s, const char *key)
{
    for (int i = 0; i < s->n_key; i++)
        if (!strcmp(s->key[i], key)) return true;
    return false;
}

void config_know(struct section *s, const char *key)
{
    if (config_knows(s, key)) return;
    s->key = xrealloc(s->key, (size_t)(s->n_key + 1) * sizeof *s->key);
    s->key[s->n_key++] = key;
}

void config_free(struct config *c)
{
    if (!c) return;
    struct entry *e, *e_next;
    struct section *s, *s_next;
    HASH_ITER(hh, c->entries, e, e_next) {
        HASH_DEL(c->entries, e);
        free(e->id);
        free(e->value);
        free(e);
    }
    HASH_ITER(hh, c->sections, s, s_next) {
        HASH_DEL(c->sections, s);
        for (int i = 0; i < s->n_parsed; i++) free(s->parsed[i].text);
        free(s->name);
        free(s->parsed);
        free(s->key);
        free(s);
    }
    for (struct source *f = c->sources, *next; f; f = next) {
        next = f->next;
        free(f->name);
        free(f->dir);
        free(f->real);
        free(f);
    }
    for (int64_t i = 0; i < c->n_error; i++) free(c->message[i].text);
    for (int64_t i = 0; i < c->n_owned; i++) free(c->owned[i]);
    free(c->message);
    free(c->owned);
    free(c->path);
    free(c);
}

/* ---- reading one file -------------------------------------------------------- */

struct reading {
    struct config *config;
    const struct source *source;
    chi_status status;                  /* of an included file                   */
};

static chi_status read_file(struct config *, const char *path, const struct source *from, int line);

static void on_error(void *to, int line, const char *text)
{
    struct reading *r = to;
    config_message(r->config, r->source, line, xstrdup(text));
}

static void on_section(void *to, const char *name, int line)
{
    struct reading *r = to;
    struct section *s = section_new(r->config, name);
    if (s->source == r->source)
        config_message(r->config, r->source, line,
                       xprintf("[%s] stands in line %d already: join the two", name, s->line));
    else {
        s->source = r->source;
        s->line = line;
    }
}

/* a.ini -> b.ini -> a.ini                                                       */
static char *chain(const struct source *s, const char *last)
{
    char *text = xstrdup(last);
    for (; s; s = s->from) {
        char *t = xprintf("%s -> %s", s->name, text);
        free(text);
        text = t;
    }
    return text;
}

static void include(struct reading *r, const char *value, int line)
{
    int depth = 0;
    if (r->source->inside) {
        config_message(r->config, r->source, line,
                       xprintf("include = %s: a configuration inside another file reads no files", value));
        return;
    }
    char *base = xstrdup(r->source->name), *slash = strrchr(base, '/');
    while (value[0] == '.' && value[1] == '/') value += 2;
    if (slash) slash[1] = 0;
    char *path = xprintf("%s%s", *value == '/' || !slash ? "" : base, value);
    char *real = realpath(path, NULL);
    bool round = false;
    for (const struct source *s = r->source; s; s = s->from, depth++)
        round |= real && s->real && !strcmp(real, s->real);
    if (round || depth >= INCLUDES_MAX) {
        char *way = chain(r->source, path);
        config_message(r->config, r->source, line,
                       xprintf("include = %s: the files include %s: %s", value,
                               round ? "each other in a circle" : "too many others", way));
        free(way);
    } else if (r->status == CHI_OK) {
        r->status = read_file(r->config, path, r->source, line);
    }
    free(real);
    free(path);
    free(base);
}

static void on_pair(void *to, const char *section, const char *key, const char *value, int line)
{
    struct reading *r = to;
    struct entry *e;
    if (!*section && strcmp(key, "include")) {
        const char *const names[] = { "include", NULL };
        config_message(r->config, r->source, line,
                       xprintf("%s stands before the first [section]; only include = FILE may%s", key,
                               closest(key, names) ? ": did you mean include?" : ""));
        return;
    }
    e = entry_new(r->config, section, key);
    if (e->source == r->source) {
        config_message(r->config, r->source, line,
                       xprintf("%s%s%s stands in line %d already: keep one of them", section,
                               *section ? "." : "", key, e->line));
        return;
    }
    entry_set(e, value, r->source, line);
    if (!*section) include(r, value, line);
}

static struct source *source_new(struct config *c, const char *name, const struct source *from)
{
    struct source *s = xcalloc(1, sizeof *s), **last = &c->sources;
    s->name = xstrdup(name);
    s->dir = path_absolute(name, NULL);
    *strrchr(s->dir, '/') = 0;
    if (!*s->dir) memcpy(s->dir, "/", 2);
    s->from = from;
    s->rank = ++c->n_source;
    while (*last) last = &(*last)->next;
    return *last = s;
}

static chi_status read_text(struct config *c, struct source *s, const char *text, size_t n)
{
    struct reading r = { c, s, CHI_OK };
    const struct ini_events ev = { &r, on_section, on_pair, on_error };
    ini_read(text, n, &ev);
    return r.status;
}

static chi_status read_file(struct config *c, const char *path, const struct source *from, int line)
{
    char *by = from ? xprintf("%s:%d: include = ", from->name, line) : xstrdup("");
    FILE *f = fopen(path, "rb");
    char *text = f ? xcalloc(INI_FILE_MAX + 1, 1) : NULL;
    size_t n = f ? fread(text, 1, INI_FILE_MAX + 1, f) : 0;
    chi_status status = CHI_OK;
    if (!f || ferror(f)) {
        status = fail_errno(CHI_ECONF, "%s%s: cannot be read as a configuration", by, path);
    } else if (n > INI_FILE_MAX) {
        status = fail(CHI_ECONF, "%s%s: more than 4 MB: this is no configuration", by, path);
    } else {
        struct source *s = source_new(c, path, from);
        s->real = realpath(path, NULL);
        status = read_text(c, s, text, n);
    }
    if (f) fclose(f);
    free(text);
    free(by);
    return status;
}

/* ---- the command line --------------------------------------------------------- */

static void override(struct config *c, const struct source *line, const char *word)
{
    const char *eq = strchr(word, '='), *dot = eq;
    while (dot && dot > word && *dot != '.') dot--;
    bool good = eq && dot > word && dot + 1 < eq;
    for (const char *p = word; good && p < eq; p++) good = ini_name_char(*p);
    if (!good || eq - dot - 1 > INI_NAME_MAX || dot - word > INI_NAME_MAX || !utf8_valid(eq, strlen(eq))) {
        char *w = shown(word);
        config_message(c, line, 0, xprintf("'%s' is no override: write section.key=value", w));
        free(w);
        return;
    }
    char *section = xprintf("%.*s", (int)(dot - word), word);
    char *key = xprintf("%.*s", (int)(eq - dot - 1), dot + 1);
    entry_set(entry_new(c, section, key), eq + 1, line, 0);
    struct section *s = section_get(c, section);
    if (!s->source) s->source = line;
    free(section);
    free(key);
}

static void overrides(struct config *c, char *const *words, int n)
{
    struct source *line = n ? source_new(c, "command line", NULL) : NULL;
    for (int i = 0; i < n; i++) override(c, line, words[i]);
}

static chi_status done(struct config **out, struct config *c, chi_status status)
{
    if (status != CHI_OK) config_free(c);
    *out = status == CHI_OK ? c : NULL;
    return status;
}

chi_status config_load(struct config **out, const char *path, char *const *words, int n_words)
{
    struct config *c = xcalloc(1, sizeof *c);
    c->path = path ? xstrdup(path) : NULL;
    chi_status status = path ? read_file(c, path, NULL, 0) : CHI_OK;
    if (status == CHI_OK) overrides(c, words, n_words);
    return done(out, c, status);
}

/* What a model's own text says of plugins is a stranger's wish to have files of this machine run: it is left out.
 * "path = x, load = y" of what was not empty, or NULL; caller frees                                            */
static char *disarm(struct config *c)
{
    char *text = NULL;
    for (const struct chi_option *o = plugin_table; o->name; o++) {
        struct entry *e = config_find(c, "plugins", o->name);
        if (!e) continue;
        char *value = shown(e->value), *before = text;
        if (*e->value) text = xprintf("%s%s%s = %s", before ? before : "", before ? ", " : "", o->name, value);
        if (text != before) free(before);
        free(value);
        entry_drop(c, e);
    }
    return text;
}

static bool names_plugins(const struct config *c)
{
    bool named = false;
    for (const struct chi_option *o = plugin_table; o->name; o++) named = named || config_find(c, "plugins", o->name);
    return named;
}

chi_status config_load_text(struct config **out, const char *name, const char *text,
                            char *const *words, int n_words)
{
    struct config *c = xcalloc(1, sizeof *c);
    c->path = xstrdup(name);
    struct source *s = source_new(c, name, NULL);
    s->inside = true;
    chi_status status = read_text(c, s, text, strlen(text));
    char *plugins = disarm(c);
    if (status == CHI_OK) overrides(c, words, n_words);
    if (plugins && status == CHI_OK && !names_plugins(c))
        warn("%s names plugins of its own (%s), which are not loaded: if you trust them, say so with plugins.path=... "
             "or plugins.load=...", name, plugins);
    free(plugins);
    return done(out, c, status);
}

/* ---- asking ------------------------------------------------------------------- */

const char *config_path(const struct config *c)
{
    return c->path;
}

bool config_has(const struct config *c, const char *section)
{
    const struct section *s = section_get(c, section);
    return s && s->source;
}

const char *config_get(struct config *c, const char *section, const char *key)
{
    struct section *s = config_use(c, section);
    const struct entry *e = config_find(c, section, key);
    if (e) config_know(s, e->key);
    else if (!config_knows(s, key)) config_know(s, config_own(c, xstrdup(key)));
    return e ? e->value : NULL;
}

void config_ignore(struct config *c, const char *section)
{
    struct section *s = config_use(c, section);
    for (const struct entry *e = c->entries; e; e = e->hh.next)
        if (e->section == s) config_know(s, e->key);
}

void config_skip(struct config *c, const char *section)
{
    if (!config_has(c, section)) return;        /* whom it is unknown to may say so  */
    config_ignore(c, section);
    section_get(c, section)->skipped = true;
}

const char *config_key(const struct config *c, const char *section, int64_t i, const char **value)
{
    const struct section *s = section_get(c, section);
    for (const struct entry *e = c->entries; s && e; e = e->hh.next)
        if (e->section == s && i-- == 0) {
            *value = e->value;
            return e->key;
        }
    return NULL;
}

bool config_overridden(const struct config *c, const char *section, const char *key)
{
    const struct entry *e = config_find(c, section, key);
    return e && !e->line;
}

int config_option_flags(const struct config *c, const char *section, const char *key)
{
    const struct section *s = section_get(c, section);
    if (!s || !s->tables) return CONFIG_NO_SECTION;
    for (int i = 0; i < s->n_parsed; i++)
        if (!strcmp(s->parsed[i].name, key)) return (int)s->parsed[i].flags;
    return config_knows(s, key) ? 0 : CONFIG_NO_KEY;
}

void config_clear(struct config *c, const char *section)
{
    struct entry *e, *next;
    HASH_ITER(hh, c->entries, e, next)
        if (!strcmp(e->section->name, section) && e->line) entry_drop(c, e);
}

void config_set(struct config *c, const char *section, const char *key, const char *value,
                const char *at_section, const char *at_key)
{
    const struct entry *at = config_find(c, at_section, at_key);
    if (!value) {
        entry_drop(c, config_find(c, section, key));
        return;
    }
    const struct source *from = at ? at->source : c->sources;
    entry_set(entry_new(c, section, key), value, from, at ? at->line : 0);
    struct section *s = section_get(c, section);
    if (!s->source) {
        s->source = from;
        s->line = at ? at->line : 0;
    }
}

const char *config_section(const struct config *c, const char *prefix, int64_t i)
{
    for (const struct section *s = c->sections; s; s = s->hh.next)
        if (s->source && !strncmp(s->name, prefix, strlen(prefix)) && i-- == 0) return s->name;
    return NULL;
}

/* ---- filling a struct ----------------------------------------------------------- */

static bool parse_option(struct config *c, struct section *s, const struct chi_option *o, void *conf)
{
    const struct entry *e = config_find(c, s->name, o->name);
    char *why = NULL;
    option_clear(o, conf);
    if (o->fallback && !option_set(o, o->fallback, NULL, c, conf, &why)) {
        config_message(c, s->source, s->line, xprintf("%s.%s: its default '%s' %s", s->name, o->name,
                                                      o->fallback, why));
        free(why);
        return false;
    }
    if (!e) {
        if (!(o->flags & CHI_OPT_REQUIRED)) return true;
        char *range = option_range(o);
        config_message(c, s->source, s->line,
                       xprintf("[%s] needs %s = ... (%s%s%s)", s->name, o->name, o->doc ? o->doc : "",
                               *range ? ": " : "", range));
        free(range);
        return false;
    }
    if (!option_set(o, e->value, e->source->dir, c, conf, &why)) {
        char *value = shown(e->value);
        config_message(c, e->source, e->line, xprintf("%s.%s = %s: %s", s->name, o->name, value, why));
        free(value);
        free(why);
        return false;
    }
    if (o->flags & CHI_OPT_DEPRECATED) {
        char *from = origin_text(e->source, e->line);
        warn("%s: %s.%s is deprecated: %s", from, s->name, o->name, o->doc ? o->doc : "");
        free(from);
    }
    return true;
}

static void remember(struct section *s, const struct chi_option *o, const void *conf, bool set)
{
    int i = 0;
    while (i < s->n_parsed && strcmp(s->parsed[i].name, o->name)) i++;
    if (i == s->n_parsed) {
        s->parsed = xrealloc(s->parsed, (size_t)(++s->n_parsed) * sizeof *s->parsed);
        s->parsed[i].text = NULL;
    }
    free(s->parsed[i].text);
    s->parsed[i] = (struct parsed){ o->name, o, o->flags, set, option_text(o, conf) };
}

bool config_parse(struct config *c, const char *section, const struct chi_option *table, void *conf,
                  const char *const *extra)
{
    struct section *s = config_use(c, section);
    bool good = true;
    s->tables = true;
    for (; extra && *extra; extra++) config_know(s, *extra);
    for (const struct chi_option *o = table; o && o->name; o++) {
        config_know(s, o->name);
        good &= parse_option(c, s, o, conf);
        remember(s, o, conf, o->fallback || config_find(c, section, o->name));
    }
    return good;
}
