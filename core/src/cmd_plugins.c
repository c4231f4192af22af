/* cmd_plugins.c - `chimera plugins`: what is there, where it comes from, what was
 * refused and why.  A line a component; refusals and other remarks come after them. */
#include "cli.h"
#include "core.h"
#include "inspect_plugin.h"
#include "registry.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

static const char *folder, *format = "text";

static const struct cli_flag flags[] = {
    { "path", 0, CLI_TEXT, &folder, "FOLDER", "search this folder (or colon list), too, before all others" },
    { "output", 'o', CLI_TEXT, &format, "text|json", "how to print" },
    CLI_FLAGS_END
};

static const char *state_of(const struct plugin_info *info, const struct chi_component *c)
{
    if (info->shadowed) return "shadowed";
    if (!info->plugin) return "refused";
    return component_fits(c) == CHI_OK ? "" : "unfit for this CPU";
}

static void print_row(const struct plugin_info *info, const struct chi_component *c)
{
    const struct chi_plugin *p = info->plugin;
    const char *state = state_of(info, c);
    char abi[16], hash[20];
    snprintf(abi, sizeof abi, "%u.%u", (unsigned)p->abi_major, (unsigned)p->abi_minor);
    snprintf(hash, sizeof hash, info->hash ? "%016llx" : "-", (unsigned long long)info->hash);
    printf("%-10s %-20s %-8s %-4s %-10s %-16s  %s%s%s%s\n", kind_name(c->kind), c->name, p->version, abi, p->license,
           hash, info->path, *state ? "  (" : "", state, *state ? ")" : "");
}

/* Who comes first wins                                                           */
static void print_folders(const struct registry *r)
{
    const char *path, *from;
    bool exists;
    puts("\nSearched in this order; the first file of a name wins:");
    for (int64_t i = 0; (path = registry_folder(r, i, &from, &exists)); i++)
        printf("  %lld. %s  (%s%s)\n", (long long)i + 1, path, from, exists ? "" : "; does not exist");
}

static void print_text(const struct registry *r)
{
    const struct plugin_info *info;
    char names[128];
    bool head = false;
    printf("%-10s %-20s %-8s %-4s %-10s %-16s  %s\n", "KIND", "NAME", "VERSION", "ABI", "LICENCE", "XXH3", "FILE");
    for (int64_t i = 0; (info = registry_plugin(r, i)); i++)
        for (int k = 0; info->plugin && info->plugin->components[k]; k++)
            print_row(info, info->plugin->components[k]);
    for (int64_t i = 0; (info = registry_plugin(r, i)); i++) {
        if (!info->reason) continue;
        if (!head) putchar('\n');
        head = true;
        printf("%-9s %s\n", info->shadowed ? "shadowed" : info->plugin ? "unfit" : "refused", info->reason);
    }
    print_folders(r);
    cpu_feature_names(cpu_features(), names);
    printf("\nCPU: %s (%s)\n", cpu_name(), *names ? names : "no vector unit that chimera knows");
}

static void add_text(cJSON *to, const char *key, const char *value)
{
    if (value) cJSON_AddStringToObject(to, key, value);
    else cJSON_AddNullToObject(to, key);
}

static cJSON *component_json(const struct chi_component *c)
{
    cJSON *j = cJSON_CreateObject();
    char names[128];
    cpu_feature_names(c->needs, names);
    add_text(j, "kind", kind_name(c->kind));
    add_text(j, "name", c->name);
    cJSON_AddNumberToObject(j, "revision", c->revision);
    add_text(j, "summary", c->summary);
    add_text(j, "papers", c->papers);
    add_text(j, "needs", names);
    cJSON_AddBoolToObject(j, "fits", component_fits(c) == CHI_OK);
    return j;
}

static cJSON *plugin_json(const struct plugin_info *info)
{
    const struct chi_plugin *p = info->plugin;
    cJSON *j = cJSON_CreateObject();
    char text[32];
    add_text(j, "file", info->path);
    add_text(j, "state", info->shadowed ? "shadowed" : p ? "loaded" : "refused");
    add_text(j, "reason", info->reason);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)info->hash);
    add_text(j, "xxh3", info->hash ? text : NULL);
    if (!p) return j;
    add_text(j, "name", p->name);
    add_text(j, "version", p->version);
    add_text(j, "license", p->license);
    add_text(j, "summary", p->summary);
    snprintf(text, sizeof text, "%u.%u", (unsigned)p->abi_major, (unsigned)p->abi_minor);
    add_text(j, "abi", text);
    cJSON *list = cJSON_AddArrayToObject(j, "components");
    for (int k = 0; p->components[k]; k++) cJSON_AddItemToArray(list, component_json(p->components[k]));
    return j;
}

static cJSON *folders_json(const struct registry *r)
{
    const char *path, *from;
    bool exists;
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; (path = registry_folder(r, i, &from, &exists)); i++) {
        cJSON *j = cJSON_CreateObject();
        add_text(j, "folder", path);
        add_text(j, "from", from);
        cJSON_AddBoolToObject(j, "exists", exists);
        cJSON_AddItemToArray(list, j);
    }
    return list;
}

static chi_status print_json(const struct registry *r)
{
    const struct plugin_info *info;
    char names[128];
    cJSON *top = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(top, "plugins");
    for (int64_t i = 0; (info = registry_plugin(r, i)); i++) cJSON_AddItemToArray(list, plugin_json(info));
    cpu_feature_names(cpu_features(), names);
    cJSON_AddItemToObject(top, "searched", folders_json(r));
    add_text(top, "cpu", cpu_name());
    add_text(top, "cpu_features", names);
    char *text = cJSON_Print(top);
    cJSON_Delete(top);
    if (!text) return fail(CHI_ENOMEM, "no memory for the JSON text");
    puts(text);
    free(text);
    return CHI_OK;
}

static chi_status run(const struct cli_args *args)
{
    struct registry *r = NULL;
    bool json = !strcmp(format, "json");
    if (!json && strcmp(format, "text") != 0)
        return fail(CHI_ECONF, "--output %s: wanted text or json", format);
    TRY(plugins_open(&r, args->n_word ? args->word[0] : NULL, args, folder));
    registry_scan(r);
    chi_status s = CHI_OK;
    if (json) s = print_json(r);
    else print_text(r);
    registry_close(r);
    return s;
}

const struct verb verb_plugins = {
    .name = "plugins", .usage = "[CONF|RUN|FILE.b158] [--path FOLDER] [-o text|json]",
    .summary = "list plugins, where they come from and why some are refused",
    .doc = "Loads every plugin file of the search path, each in a process of its own first, and prints\n"
           "a line for each component. The first file of a name wins; later ones are listed as shadowed. A file\n"
           "that crashes while it is loaded is refused, and remembered in ~/.cache/chimera/scan, so that it is\n"
           "not tried again until it changes.\n\n"
           "Searched are: --path, the [plugins] path of a configuration (a file's, a run's or a packed model's), the folders of $CHIMERA_PLUGIN_PATH,\n"
           "and the installed plugins, each with the sub-folders layers, formats, kernels, train, tasks and\n"
           "tokenizers; never the current folder.",
    .examples = "chimera plugins\n"
                "chimera plugins my.ini\n"
                "chimera plugins --path $HOME/my_plugins\n"
                "chimera plugins -o json\n",
    .flags = flags, .min_words = 0, .max_words = 1, .run = run,
};
