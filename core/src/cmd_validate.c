/* cmd_validate.c - `chimera validate PLUGIN`: proves what a plugin promises, check by check. */
#include "cli.h"
#include "core.h"
#include "inspect_plugin.h"
#include "validate.h"
#include "vectors_run.h"

#include <stdlib.h>
#include <string.h>

static const char *only;
static bool list, in_process;
static int64_t seed = 1;
static struct cli_texts vectors;

static const struct cli_flag flags[] = {
    { "only", 0, CLI_TEXT, &only, "NAME", "run the check or the family of this name" },
    { "list", 0, CLI_SWITCH, &list, NULL, "print the checks and what they prove" },
    { "in-process", 0, CLI_SWITCH, &in_process, NULL, "run the checks in this process, for a debugger" },
    { "seed", 0, CLI_INT, &seed, "N", "draw other options, sizes and numbers" },
    { "vectors", 0, CLI_TEXTS, &vectors, "FILE...", "run reference vectors, with PLUGIN's components if it is given" },
    CLI_FLAGS_END
};

static bool chosen(const struct check *c)
{
    size_t n = only ? strlen(only) : 0;
    return !only || (!strncmp(c->name, only, n) && (!c->name[n] || c->name[n] == '.'));
}

static void print(const struct check *c, const struct trial *t, int64_t number)
{
    static const char *const tail[] = { "", " # SKIP", "", "", "" };
    printf("%s %lld - %s%s%s%s\n", t->outcome >= TRIAL_FAILED ? "not ok" : "ok", (long long)number,
           t->component ? t->component->name : t->plugin->plugin->name, " ", c->name, tail[t->outcome]);
    for (const char *at = t->text; at && *at; at += strcspn(at, "\n") + 1) printf("# %.*s\n", (int)strcspn(at, "\n"), at);
    fflush(stdout);
}

static chi_status run(const struct cli_args *a)
{
    const struct check *c;
    if (vectors.n) return vectors_run(&vectors, a->word, a->n_word, stdout);
    if (a->n_word != 1) return fail(CHI_ECONF, "validate: %d plugins given, wanted one: chimera validate PLUGIN.so|NAME", a->n_word);
    if (list) {
        for (int64_t i = 0; (c = check_at(i)); i++) printf("%-20s %s\n", c->name, c->doc);
        return CHI_OK;
    }
    struct registry *r;
    const struct plugin_info *info;
    int64_t number = 0, failed = 0;
    TRY(registry_open(&r, NULL));
    TRY(plugin_find(r, a->word[0], &info));
    for (int64_t i = 0; (c = check_at(i)); i++)
        for (int k = 0; chosen(c) && info->plugin->components[k]; k++) {
            const struct chi_component *component = info->plugin->components[k];
            if (c->kind && c->kind != component->kind) continue;
            if (!c->kind && k) continue;
            struct trial t = { .registry = r, .plugin = info, .component = c->kind ? component : NULL,
                               .seed = (uint64_t)seed };
            check_run(c, &t);
            print(c, &t, ++number);
            failed += t.outcome >= TRIAL_FAILED;
            free(t.text);
        }
    printf("1..%lld\n", (long long)number);
    registry_close(r);
    return failed ? fail(CHI_EPLUGIN, "%s: %lld of %lld checks failed", a->word[0], (long long)failed, (long long)number)
                  : CHI_OK;
}

const struct verb verb_validate = {
    .name = "validate",
    .usage = "PLUGIN.so|NAME | [PLUGIN.so|NAME] --vectors FILE...",
    .summary = "prove a plugin: gradients, cuts, threads, memory, bad options",
    .doc = "Runs every check that fits the plugin's components and prints a TAP line for each.\n"
           "--vectors runs files of inputs and exact results (doc/vectors.md) instead: a line per tensor with its\n"
           "error and tolerance.  The first file that misses ends it with exit code 4; a file whose component is\n"
           "not there is skipped, and it is a failure (4) if all are.\n",
    .examples = "chimera validate ./my_layer.so\n"
                "chimera validate gated_deltanet --only grad\n"
                "chimera validate x --list\n"
                "chimera validate ./my_layer.so --vectors my_layer.safetensors\n",
    .flags = flags, .min_words = 0, .max_words = 10000,
    .run = run
};
