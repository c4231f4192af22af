/* inspect_plugin.c - a plugin's components, options and sources as text.
 *
 * Everything comes from the manifest.  The registry loads each file in a child process
 * first, so a plugin that crashes while it is loaded ends as a line of refusal.  */
#include "cli.h"
#include "core.h"
#include "inspect_plugin.h"
#include "packed.h"
#include "registry.h"
#include "run.h"
#include "spec.h"

#include <chimera/train.h>
#include <chimera/format.h>
#include <chimera/loop.h>
#include <stdlib.h>
#include <string.h>

static const char *const type_names[] = { "?", "int", "float", "bool", "enum", "string", "path", "list", "ref" };

/* "1..256", "none|l2", "yes|no", "" ; caller frees                              */
static char *range_text(const struct chi_option *o)
{
    switch (o->type) {
    case CHI_OPT_INT:  return xprintf("%.0f..%.0f", o->min, o->max);
    case CHI_OPT_FLOAT:
    case CHI_OPT_LIST: return xprintf("%g..%g", o->min, o->max);
    case CHI_OPT_BOOL: return xstrdup("yes|no");
    case CHI_OPT_ENUM:
    case CHI_OPT_REF:  return xstrdup(o->choices);
    default:           return xstrdup("");
    }
}

static void print_option(const struct chi_option *o)
{
    static const struct { uint32_t flag; const char *text; } flags[] = {
        { CHI_OPT_REQUIRED, "required" }, { CHI_OPT_SHAPE, "shape" },
        { CHI_OPT_RUNTIME, "runtime" }, { CHI_OPT_DEPRECATED, "deprecated" }
    };
    char *range = range_text(o);
    char *def = o->fallback ? xprintf("default %s", *o->fallback ? o->fallback : "(empty)") : xstrdup("no default");
    printf("    %-24s %-6s  %-16s %-18s  %s", o->name, type_names[o->type], range, def, o->doc);
    for (int64_t i = 0; i < COUNT(flags); i++)
        if (o->flags & flags[i].flag) printf("  [%s]", flags[i].text);
    putchar('\n');
    free(range);
    free(def);
}

static void print_caps(const struct chi_component *c)
{
    static const char *const layer[] = { "causal", "stateless", "split-free", "no-gradient" };
    const char *between = "    caps:   ";
    for (unsigned bit = 0; c->kind == CHI_LAYER && bit < 4; bit++)
        if (c->caps >> bit & 1) printf("%s%s", between, layer[bit]), between = ", ";
    if (*between == ',') putchar('\n');
}

/* What only one kind has                                                        */
static void print_ops(const struct chi_component *c)
{
    if (c->kind == CHI_LAYER) {
        const struct chi_layer_ops *o = c->ops;
        printf("    has:    open forward%s%s%s%s\n", o->backward ? " backward" : "",
               CHI_HAS(struct chi_layer_ops, o, step) ? " step" : "",
               CHI_HAS(struct chi_layer_ops, o, tree) ? " tree" : "",
               CHI_HAS(struct chi_layer_ops, o, settle) ? " settle" : "");
    } else if (c->kind == CHI_LOOP) {
        const struct chi_loop_ops *o = c->ops;
        printf("    has:    open enter inject leave%s%s\n", CHI_HAS(struct chi_loop_ops, o, depth) ? " depth" : "",
               CHI_HAS(struct chi_loop_ops, o, change) ? " change" : "");
    } else if (c->kind == CHI_BACKEND) {
        const struct chi_backend_ops *o = c->ops;
        printf("    rank:   %d\n", o->rank);
        for (int i = 0; o->linears && o->linears[i]; i++)
            printf("    linear: %s%s\n", o->linears[i]->encoding,
                   o->linears[i]->integer ? " (int8 activations)" : "");
    } else if (c->kind == CHI_QUANTIZER) {
        printf("    values: %s\n", ((const struct chi_quantizer_ops *)c->ops)->values);
    } else if (c->kind == CHI_ENCODING) {
        printf("    values: %s\n", ((const struct chi_encoding_ops *)c->ops)->values);
    } else if (c->kind == CHI_ADAPTER) {
        const struct chi_adapter_ops *o = c->ops;
        printf("    has:    open forward backward%s%s\n", CHI_HAS(struct chi_adapter_ops, o, freezes) ? " freezes"
               : "", CHI_HAS(struct chi_adapter_ops, o, steer) ? " steer" : "");
    } else if (c->kind == CHI_OPTIMIZER)
        printf("    moments: %d\n", ((const struct chi_optimizer_ops *)c->ops)->moments);
}

static void print_component(const struct chi_component *c)
{
    char names[128];
    printf("\n  %s %s  revision %u: %s\n", kind_name(c->kind), c->name, c->revision, c->summary);
    print_caps(c);
    print_ops(c);
    if (c->papers) printf("    papers: %s\n", c->papers);
    if (c->needs) {
        cpu_feature_names(c->needs, names);
        printf("    needs:  %s%s\n", names, component_fits(c) == CHI_OK ? "" : "  (not on this CPU: not used)");
    }
    for (int i = 0; c->meters && c->meters[i]; i++) printf("    meter:  %s\n", c->meters[i]);
    if (c->options && c->options->name) puts("    options:");
    for (const struct chi_option *o = c->options; o && o->name; o++) print_option(o);
}

static void print_plugin(const struct plugin_info *info)
{
    const struct chi_plugin *p = info->plugin;
    printf("%s %s (%s): %s\n", p->name, p->version, p->license, p->summary);
    if (p->url) printf("  url:  %s\n", p->url);
    printf("  file: %s\n", info->path);
    if (info->hash) printf("  XXH3: %016llx\n", (unsigned long long)info->hash);
    printf("  ABI:  %u.%u\n", (unsigned)p->abi_major, (unsigned)p->abi_minor);
    if (info->reason) printf("  note: %s\n", info->reason);
    for (int i = 0; p->components[i]; i++) print_component(p->components[i]);
}

static bool brings(const struct chi_plugin *p, const char *name)
{
    if (!strcmp(p->name, name)) return true;
    for (int i = 0; p->components[i]; i++)
        if (!strcmp(p->components[i]->name, name)) return true;
    return false;
}

static bool is_file_of(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strlen(name);
    return !strncmp(base, name, n) && !strcmp(base + n, ".so");
}

/* By the plugin's name, else by a component's; a refused file of that name fails  */
static chi_status by_name(struct registry *r, const char *name, const struct plugin_info **out)
{
    const struct plugin_info *info;
    registry_scan(r);
    for (int exact = 1; exact >= 0; exact--)
        for (int64_t i = 0; (info = registry_plugin(r, i)); i++) {
            if (!info->plugin && !info->shadowed && is_file_of(info->path, name))
                return fail(CHI_EPLUGIN, "%s", info->reason);
            if (!info->plugin || !(exact ? !strcmp(info->plugin->name, name) : brings(info->plugin, name))) continue;
            *out = info;
            return CHI_OK;
        }
    const char **names = xcalloc(1, sizeof *names);
    int64_t n = 0;
    for (int64_t i = 0; (info = registry_plugin(r, i)); i++)
        for (int k = 0; info->plugin && info->plugin->components[k]; k++) {
            names = xrealloc(names, (size_t)(n + 2) * sizeof *names);
            names[n++] = info->plugin->components[k]->name;
            names[n] = NULL;
        }
    const char *near = closest(name, names);
    fail(CHI_EPLUGIN, "no plugin or component is called '%s'%s%s%s", name, near ? ", did you mean " : "",
         near ? near : " - `chimera plugins` lists what there is; a path needs a slash", near ? "?" : "");
    free(names);
    return CHI_EPLUGIN;
}

chi_status plugin_find(struct registry *r, const char *path_or_name, const struct plugin_info **out)
{
    if (!strchr(path_or_name, '/')) return by_name(r, path_or_name, out);
    char *path = realpath(path_or_name, NULL);
    if (!path) return fail_errno(CHI_EPLUGIN, "%s", path_or_name);
    chi_status s = registry_load(r, path, out);
    free(path);
    return s;
}

chi_status inspect_plugin(struct registry *r, const char *path_or_name)
{
    const struct plugin_info *info = NULL;
    TRY(plugin_find(r, path_or_name, &info));
    print_plugin(info);
    return CHI_OK;
}

/* The configuration inside a packed model                                                */
static chi_status packed_config_load(const char *path, char *const *override, int n, struct config **config)
{
    struct packed *p;
    TRY(packed_open(&p, path));
    chi_status s = config_load_text(config, path, packed_config(p), override, n);
    packed_close(p);
    return s;
}

/* Errors of [plugins] alone: the rest of the file is other verbs' concern                */
chi_status plugins_open(struct registry **r, const char *conf, const struct cli_args *a, const char *extra)
{
    struct plugin_options o;
    struct config *config;
    *r = NULL;
    if (conf && packed_is(conf)) TRY(packed_config_load(conf, a->override, a->n_override, &config));
    else if (conf) TRY(run_config(conf, a->override, a->n_override, &config));
    else TRY(config_load(&config, NULL, a->override, a->n_override));
    chi_status s = spec_registry(r, config, &o, extra);
    const char *section;
    for (int64_t i = 0; (section = config_section(config, "", i)); i++)
        if (strcmp(section, "plugins") != 0) config_ignore(config, section);
    if (s == CHI_OK) s = config_finish(config);
    if (s != CHI_OK) {
        registry_close(*r);
        *r = NULL;
    }
    config_free(config);
    return s;
}
