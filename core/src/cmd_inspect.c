/* cmd_inspect.c - `chimera inspect`: what a configuration, a run or a plugin is made of.    */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "core.h"
#include "fs.h"
#include "inspect_plugin.h"
#include "network.h"
#include "packed.h"
#include "pool.h"
#include "registry.h"
#include "run.h"
#include "spec.h"

static void line(const char *what, const char *value)
{
    printf("%-22s %s\n", what, value);
}

static void print_counts(const struct spec *s, const struct model_counts *c)
{
    char a[32], b[32], *text;
    human_count(a, c->params);
    human_count(b, c->linear_params);
    text = xprintf("%s (%lld), %s of them in linear maps", a, (long long)c->params, b);
    line("parameters", text);
    free(text);
    if (c->active_params != c->params) {
        human_count(a, c->active_params);
        text = xprintf("%s (%lld) on average", a, (long long)c->active_params);
        line("of which a token meets", text);
        free(text);
    }
    human_bytes(a, c->weight_bytes);
    line("weights in memory", a);
    for (int64_t i = 0; i < c->n_weights; i++) {
        human_bytes(a, c->weights[i].bytes);
        printf("  %-20s %s\n", c->weights[i].name, a);
    }
    human_bytes(a, c->state_bytes);
    line("state per stream", a);
    human_bytes(a, c->read_bytes_per_token);
    line("read per token", a);
    for (int64_t i = 0; i < c->n_turns; i++) {
        human_bytes(a, c->turns[i].read_bytes);
        human_bytes(b, c->turns[i].state_bytes);
        printf("  with %lld turn%s          %s, state per stream %s\n", (long long)c->turns[i].turns,
               c->turns[i].turns > 1 ? "s" : " ", a, b);
    }
    human_bytes(a, c->train_bytes);
    text = xprintf("%s at %lld x %lld rows, optimizer included", a, (long long)s->train.micro_batch,
                   (long long)s->train.seq_len);
    line("memory of training", text);
    free(text);
    human_bytes(a, c->saved_bytes_per_row);
    line("kept per row", s->train.recompute == RECOMPUTE_BLOCK ? "recomputed by block" : a);
}

static void print_backends(const struct spec *s)
{
    char *text = xstrdup("");
    for (const struct chi_component **b = s->backend; *b; b++) {
        char *more = xprintf("%s%s > ", text, (*b)->name);
        free(text);
        text = more;
    }
    char *all = xprintf("%sportable, %d thread%s", text, pool_size(), pool_size() == 1 ? "" : "s");
    line("computes with", all);
    free(text);
    free(all);
}

/* Its files, and its data against their hashes                    */
static chi_status show_packed(const struct spec *s)
{
    const struct st_file *f;
    struct model *plan;
    bool looked;
    TRY(model_open(&plan, s, MODEL_PLAN, 1, 1));
    chi_status verified = model_verify(plan, s->run.verify, &looked);
    model_close(plan);
    TRY(verified);
    for (int i = 0; (f = packed_file(s->packed, i)); i++) line(i ? "its experts" : "packed model", st_path(f));
    line("model_hash", st_meta(packed_file(s->packed, 0), "model_hash"));
    line("its data", looked ? "verified" : s->run.verify == VERIFY_NO ? "not verified" : "verified before");
    return CHI_OK;
}

static chi_status inspect_config(const char *subject, const struct cli_args *a)
{
    struct spec *spec;
    struct model_counts c;
    chi_status st = CHI_OK;
    TRY(run_spec(subject, a->override, a->n_override, SPEC_MODEL | SPEC_TRAIN | SPEC_TOKENIZER, &spec));
    if (spec->packed) st = show_packed(spec);
    else if (run_is_folder(subject)) {
        char *path = NULL;
        chi_status found = ckpt_latest(subject, &path);
        line("run", subject);
        line("newest checkpoint", found != CHI_OK ? fail_text() : path ? path : "none");
        free(path);
    } else
        line("configuration", subject);
    if (st == CHI_OK) st = model_describe(spec, stdout, &c);
    if (st == CHI_OK) {
        print_counts(spec, &c);
        declared_print(spec, &c, stdout);
        print_backends(spec);
    }
    spec_close(spec);
    return st;
}

static const struct cli_flag flags[] = {
    CLI_MODE,
    CLI_VERIFY,
    CLI_FLAGS_END
};

static bool is_plugin(const char *subject)
{
    size_t n = strlen(subject);
    return n > 3 && !strcmp(subject + n - 3, ".so");
}

/* Among the plugins that conf sees, or NULL                                              */
static chi_status show_plugin(const char *name, const char *conf, const struct cli_args *a)
{
    struct registry *r;
    TRY(plugins_open(&r, conf, a, NULL));
    chi_status s = inspect_plugin(r, name);
    registry_close(r);
    return s;
}

static chi_status run(const struct cli_args *a)
{
    const char *subject = a->word[0];
    if (a->n_word == 2) {
        /* PLUGIN CONF, or the other way; a folder may be called as the plugin that it holds     */
        bool second = fs_exists(a->word[1]) && !is_plugin(a->word[1]);
        bool first = fs_exists(subject) && !is_plugin(subject) && !second;
        return show_plugin(a->word[first], a->word[!first], a);
    }
    if (is_plugin(subject)) return show_plugin(subject, NULL, a);
    if (fs_exists(subject)) return inspect_config(subject, a);
    if (strchr(subject, '/') || strstr(subject, ".ini") || strstr(subject, ".b158"))
        return fail(CHI_ECONF,
                    "%s: there is no such file or folder; wanted is a FILE.ini, a run folder, a packed model, or a "
                    "plugin", subject);
    return show_plugin(subject, NULL, a);
}

const struct verb verb_inspect = {
    .name = "inspect",
    .usage = "CONF|RUN|FILE.b158|DIR|PLUGIN|PLUGIN CONF [section.key=value ...]",
    .summary = "count what a configuration or run is made of, or show a plugin",
    .doc = "For a configuration, a run folder or a packed model: every layer with its component, parameters, bytes and state,\n"
           "counted from the plan that running it would use, and beside it what [declared] says. For a plugin, by path or by\n"
           "name (of the plugin or of one of its components): version, ABI, licence, options and their defaults;\n"
           "with a configuration or run folder after it, among the plugins that its [plugins] section adds.\n",
    .examples = "chimera inspect conf/quickstart.ini\n"
                "chimera inspect runs/quickstart\n"
                "chimera inspect conf/quickstart.ini model.hidden_size=512\n"
                "chimera inspect gated_deltanet\n"
                "chimera inspect my_layer my.ini\n",
    .flags = flags, .min_words = 1, .max_words = 2,
    .run = run
};
