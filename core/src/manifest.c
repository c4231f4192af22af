/* manifest.c - is this manifest one that the core can work with?
 *
 * Two stages: the head, read from the file before anything runs (numbers only), and
 * the rest after loading (names, kinds, option tables).  What each kind must fill in is
 * in manifest_ops.c.  Every refusal is one line: file, field, found, wanted, what to do. */
#include "config.h"
#include "core.h"
#include "plugin_file.h"
#include "registry.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_ = 63, COMPONENTS_MAX = 256, OPTIONS_MAX = 256 };

chi_status manifest_head(const char *name, const struct chi_plugin *p, int64_t size)
{
    if (p->magic != CHI_MAGIC)
        return fail(CHI_EPLUGIN, "%s: magic is 0x%08x, wanted 0x%08x - define the symbol with CHI_PLUGIN(...)",
                    name, p->magic, CHI_MAGIC);
    if (p->abi_major != CHI_ABI_MAJOR || p->abi_minor > CHI_ABI_MINOR)
        return fail(CHI_EPLUGIN, "%s: built for plugin ABI %u.%u, this chimera provides %d.%d - rebuild it against"
                    " these headers", name, (unsigned)p->abi_major, (unsigned)p->abi_minor, CHI_ABI_MAJOR,
                    CHI_ABI_MINOR);
    if (p->struct_size != sizeof *p || size < (int64_t)sizeof *p)
        return fail(CHI_EPLUGIN, "%s: struct_size of its manifest is %u (%lld bytes in the file), wanted %zu"
                    " - rebuild it against these headers", name, p->struct_size, (long long)size, sizeof *p);
    if (p->layout != CHI_LAYOUT)
        return fail(CHI_EPLUGIN, "%s: layout fingerprint is 0x%08x, wanted 0x%08x - rebuild it against these"
                    " headers, with the same compiler options (no packed structs)", name, p->layout,
                    (unsigned)CHI_LAYOUT);
    return CHI_OK;
}

static bool good_name(const char *s)
{
    size_t n = s ? strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") : 0;
    return n && !s[n] && n <= NAME_MAX_;
}

/* Text that fits in one line of output                                          */
static bool good_line(const char *s)
{
    if (!s || !*s) return false;
    for (; *s; s++)
        if ((unsigned char)*s < 32 || *s == 127) return false;
    return true;
}

/* For messages: a name that may hold anything                                   */
static const char *shown(const char *s, char out[NAME_MAX_ + 1])
{
    size_t n = 0;
    for (; s && s[n] && n < NAME_MAX_; n++)
        out[n] = s[n] >= 32 && s[n] < 127 ? s[n] : '?';
    out[n] = 0;
    return s ? out : "(none)";
}

/* ---- options -------------------------------------------------------------- */

static uint32_t field_size(int type)
{
    switch (type) {
    case CHI_OPT_INT:    return sizeof(int64_t);
    case CHI_OPT_FLOAT:  return sizeof(double);
    case CHI_OPT_BOOL:   return sizeof(bool);
    case CHI_OPT_ENUM:   return sizeof(int32_t);
    case CHI_OPT_STRING:
    case CHI_OPT_PATH:
    case CHI_OPT_REF:    return sizeof(const char *);
    case CHI_OPT_LIST:   return sizeof(struct chi_list);
    default:             return 0;
    }
}

static bool is_number(int type)
{
    return type == CHI_OPT_INT || type == CHI_OPT_FLOAT || type == CHI_OPT_LIST;
}

static uint32_t field_align(int type)
{
    return type == CHI_OPT_LIST ? (uint32_t)_Alignof(struct chi_list) : field_size(type);
}

/* "none|l2": two or more different words                                        */
static bool good_choices(const char *text)
{
    if (!text || !*text) return false;
    for (const char *a = text; a; a = strchr(a, '|') ? strchr(a, '|') + 1 : NULL) {
        size_t n = strcspn(a, "|");
        if (!n) return false;
        for (const char *b = strchr(a, '|'); b; b = strchr(b, '|')) {
            b++;
            if (strcspn(b, "|") == n && !memcmp(a, b, n)) return false;
        }
    }
    return true;
}

static const char *option_fault(const struct chi_option *o, uint32_t conf_size)
{
    uint32_t size = field_size(o->type);
    if (!size) return "its type is unknown";
    if (o->offset > conf_size || size > conf_size - o->offset)
        return "its field lies outside of conf_size - set .conf_size = sizeof(struct conf)";
    if (o->offset % field_align(o->type)) return "its field is misaligned - use CHI_INT and its like";
    if (!good_line(o->doc)) return "it has no doc of one line";
    if (o->flags & ~(uint32_t)(CHI_OPT_REQUIRED | CHI_OPT_SHAPE | CHI_OPT_RUNTIME | CHI_OPT_DEPRECATED))
        return "it has unknown flags";
    if (is_number(o->type) && !(o->min <= o->max)) return "its min exceeds its max";
    if (o->type == CHI_OPT_ENUM && !good_choices(o->choices))
        return "its choices are not different words with | between";
    if (o->type == CHI_OPT_REF && (!o->choices || !kind_from_name(o->choices)))
        return "its choices name no kind of component";
    if (!o->fallback && !(o->flags & CHI_OPT_REQUIRED) && (o->type <= CHI_OPT_ENUM))
        return "it has no default and is not CHI_OPT_REQUIRED";
    return NULL;
}

/* The default goes through the parser that reads the file                       */
static chi_status check_default(const char *file, const struct chi_component *c, const struct chi_option *o)
{
    char *why = NULL;
    if (!o->fallback) return CHI_OK;
    void *conf = xcalloc(1, c->conf_size);
    struct config *owner = NULL;
    chi_status s = config_load_text(&owner, file, "", NULL, 0);
    if (s == CHI_OK && !option_set(o, o->fallback, "/", owner, conf, &why))
        s = fail(CHI_EPLUGIN, "%s: %s %s: default of option %s is '%s': %s - correct its table", file,
                 kind_name(c->kind), c->name, o->name, o->fallback, why ? why : "not accepted");
    config_free(owner);
    free(why);
    free(conf);
    return s;
}

static chi_status check_options(const char *file, const struct chi_component *c)
{
    const struct chi_option *o = c->options;
    for (int64_t i = 0; o && o[i].name; i++) {
        char name[NAME_MAX_ + 1];
        const char *fault = i >= OPTIONS_MAX ? "the table has no CHI_OPTIONS_END" : NULL;
        if (!fault && !good_name(o[i].name)) fault = "its name must be of a-z, 0-9 and _";
        for (int64_t k = 0; !fault && k < i; k++)
            if (!strcmp(o[k].name, o[i].name)) fault = "the table has it twice";
        if (!fault) fault = option_fault(&o[i], c->conf_size);
        if (fault)
            return fail(CHI_EPLUGIN, "%s: %s %s: option %s: %s", file, kind_name(c->kind), c->name,
                        shown(o[i].name, name), fault);
        TRY(check_default(file, c, &o[i]));
    }
    return CHI_OK;
}

/* ---- components ----------------------------------------------------------- */

static chi_status check_component(const char *file, const struct chi_component *c)
{
    char name[NAME_MAX_ + 1];
    if (c->struct_size != sizeof *c)
        return fail(CHI_EPLUGIN, "%s: struct_size of a component is %u, wanted %zu - set it to sizeof(struct"
                    " chi_component) and rebuild", file, c->struct_size, sizeof *c);
    if (c->kind <= 0 || c->kind >= CHI_KINDS)
        return fail(CHI_EPLUGIN,
                    "%s: component %s has the unknown kind %d, wanted 1..%d - use CHI_LAYER and its like",
                    file, shown(c->name, name), c->kind, CHI_KINDS - 1);
    if (!good_name(c->name))
        return fail(CHI_EPLUGIN, "%s: %s has the name '%s', wanted 1..%d of a-z, 0-9 and _", file,
                    kind_name(c->kind), shown(c->name, name), NAME_MAX_);
    if (!good_line(c->summary))
        return fail(CHI_EPLUGIN, "%s: %s %s has no summary of one line", file, kind_name(c->kind), c->name);
    if (c->papers && !good_line(c->papers))
        return fail(CHI_EPLUGIN, "%s: %s %s: papers is no line of numbers such as 2412.06464 - or leave it NULL",
                    file, kind_name(c->kind), c->name);
    for (int i = 0; c->meters && c->meters[i]; i++)
        if (!good_name(c->meters[i]))
            return fail(CHI_EPLUGIN, "%s: %s %s: meter '%s' must be of a-z, 0-9 and _", file, kind_name(c->kind),
                        c->name, shown(c->meters[i], name));
    TRY(manifest_ops(file, c));
    return check_options(file, c);
}

static chi_status check_texts(const char *file, const struct chi_plugin *p)
{
    const char *missing = !good_line(p->version) ? "version" : !good_line(p->license) ? "license"
                        : !good_line(p->summary) ? "summary" : p->url && !good_line(p->url) ? "url" : NULL;
    if (missing)
        return fail(CHI_EPLUGIN, "%s: its %s is no line of text - add .%s = \"...\" to CHI_PLUGIN", file, missing, missing);
    if (!p->components || !p->components[0])
        return fail(CHI_EPLUGIN, "%s: brings no components - add .components = CHI_COMPONENTS(...)", file);
    return CHI_OK;
}

chi_status manifest_check(const char *file, const char *base, const struct chi_plugin *p)
{
    char name[NAME_MAX_ + 1];
    TRY(manifest_head(file, p, sizeof *p));
    if (!good_name(p->name))
        return fail(CHI_EPLUGIN, "%s: plugin name is '%s', wanted 1..%d of a-z, 0-9 and _", file,
                    shown(p->name, name), NAME_MAX_);
    if (base && strcmp(base, p->name) != 0)
        return fail(CHI_EPLUGIN, "%s: plugin name is %s, wanted %s like the file - rename one of them", file, p->name,
                    base);
    TRY(check_texts(file, p));
    for (int i = 0; p->components[i]; i++) {
        const struct chi_component *c = p->components[i];
        if (i >= COMPONENTS_MAX)
            return fail(CHI_EPLUGIN, "%s: more than %d components - is the list's NULL missing?", file, COMPONENTS_MAX);
        TRY(check_component(file, c));
        for (int k = 0; k < i; k++)
            if (p->components[k]->kind == c->kind && !strcmp(p->components[k]->name, c->name))
                return fail(CHI_EPLUGIN, "%s: brings %s %s twice - remove one", file, kind_name(c->kind), c->name);
    }
    return CHI_OK;
}
