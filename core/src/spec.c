/* spec.c - from a configuration to components and typed options; see spec.h.       */
#include "spec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "hosting.h"
#include "options.h"
#include "packed.h"
#include "pool.h"
#include "reference.h"
#include "sections.h"
#include "tune.h"

/* ---- components ------------------------------------------------------------------ */

/* Finds the component and parses its section by its table of options; errors go to the config at
 * (section, key)                                                                        */
static void part_parse(struct spec *s, struct part *p, int kind, const char *name, const char *section,
                       const char *at_section, const char *at_key, const char *const *extra,
                       const struct chi_option *(*table_of)(struct spec *, const struct chi_component *))
{
    chi_status found = registry_find(s->registry, kind, name, &p->component);
    if (found != CHI_OK) {
        config_failed(s->config, at_section, at_key, found);
        config_ignore(s->config, section);  /* nobody knows which keys it would take   */
        return;
    }
    static const struct chi_option none[] = { CHI_OPTIONS_END };
    const struct chi_component *c = p->component;
    const struct chi_option *table = table_of ? table_of(s, c) : c->options;
    p->section = xstrdup(section);
    p->conf = xcalloc(1, c->conf_size ? c->conf_size : 1);
    bool fine = config_parse(s->config, section, table ? table : none, p->conf, extra);
    uint32_t missing = c->needs & ~cpu_features();
    if (missing) {
        char names[128];
        cpu_feature_names(missing, names);
        config_error(s->config, at_section, at_key, "%s %s needs a CPU with %s", kind_name(kind), name, names);
    } else if (fine && c->check) {
        struct chi_host *h = host_open(s, section);
        if (c->check(h, p->conf) != CHI_OK) {
            const char *text = fail_text();
            size_t n = strlen(section);
            if (!strncmp(text, section, n) && text[n] == ':') text += n + 2;
            config_error(s->config, section, NULL, "%s", text);
        }
        host_close(h);
    }
}

static void part_open(struct spec *s, struct part *p, int kind, const char *name, const char *section,
                      const char *at_section, const char *at_key, const char *const *extra)
{
    part_parse(s, p, kind, name, section, at_section, at_key, extra, NULL);
}

/* A component that [at] key names and whose options stand in [key].  A verb that does not
 * need it passes over it and its section.                                               */
static void option_part_open(struct spec *s, struct part *p, int kind, const char *name,
                             const char *key, const char *at, bool needed)
{
    if (needed) part_open(s, p, kind, name, key, at, key, NULL);
    else config_ignore(s->config, key);
}

static void part_close(struct part *p)
{
    free((char *)(uintptr_t)p->section);
    free(p->conf);
}

/* ---- patterns ---------------------------------------------------------------------- */

/* Words of text; n of them                                                             */
static char **split(const char *text, int64_t *n)
{
    char *copy = xstrdup(text), **word = NULL;
    *n = 0;
    for (char *save, *w = strtok_r(copy, " \t,", &save); w; w = strtok_r(NULL, " \t,", &save)) {
        word = xrealloc(word, (size_t)(*n + 1) * sizeof *word);
        word[(*n)++] = xstrdup(w);
    }
    free(copy);
    return word;
}

static void split_free(char **word, int64_t n)
{
    for (int64_t i = 0; i < n; i++) free(word[i]);
    free(word);
}

static void spare_add(struct spec *s, struct part p)
{
    s->spare = xrealloc(s->spare, (size_t)(s->n_spare + 1) * sizeof *s->spare);
    s->spare[s->n_spare++] = p;
}

const char *spec_near_alias(const struct config *c, const char *word)
{
    const char *section, *names[65];
    int n = 0;
    for (int64_t i = 0; n < COUNT(names) - 1 && (section = config_section(c, "layer.", i)); i++)
        names[n++] = section + strlen("layer.");
    names[n] = NULL;
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], word)) return names[i];
    return closest(word, names);
}

/* One part for each layer: pattern word i mod n names section [layer.WORD].  Layers of one
 * alias share the parsed options (parts are copies; the first owns them).              */
static struct part *pattern_open(struct spec *s, const char *key, const char *pattern)
{
    static const char *const use[] = { "use", NULL };
    int64_t n, layers = s->model.num_hidden_layers;
    char **word = split(pattern, &n);
    struct part *part = xcalloc((size_t)layers, sizeof *part);

    if (!n)
        config_error(s->config, "model", key, "must name sections, such as %s for [layer.%s]",
                     key[0] == 'l' ? "GD" : "MLP", key[0] == 'l' ? "GD" : "MLP");
    for (int64_t i = 0; i < n; i++) {
        struct part p = { 0 };
        char *section = xprintf("layer.%s", word[i]);
        bool again = false;
        for (int64_t j = 0; j < i; j++) again = again || !strcmp(word[i], word[j]);
        const char *name = config_get(s->config, section, "use");
        if (again) {
            /* opened already */
        } else if (!config_has(s->config, section)) {
            const char *near = spec_near_alias(s->config, word[i]);
            config_error(s->config, "model", key, "%s: there is no section [%s] with use = COMPONENT%s%s%s", word[i],
                         section, near ? ": did you mean " : "", near ? near : "", near ? "?" : "");
        } else if (!name) {
            config_error(s->config, section, NULL, "use is missing: which component is this? "
                         "(use = gated_deltanet, ...)");
        } else
            part_open(s, &p, CHI_LAYER, name, section, section, "use", use);
        for (int64_t l = 0; !again && l < layers; l++)
            if (!strcmp(word[l % n], word[i])) part[l] = p;
        if (!again && i >= layers) spare_add(s, p);         /* more words than layers        */
        free(section);
    }
    split_free(word, n);
    return part;
}

static bool has_word(const char *text, const char *word)
{
    int64_t n;
    bool found = false;
    char **words = split(text ? text : "", &n);
    for (int64_t i = 0; i < n; i++) found = found || !strcmp(words[i], word);
    split_free(words, n);
    return found;
}

/* Layers that no pattern names: a changed pattern leaves its sections behind.  Their options
 * are checked all the same.                                                                */
static void spare_open(struct spec *s)
{
    static const char *const use[] = { "use", NULL };
    const char *section;
    for (int64_t i = 0; (section = config_section(s->config, "layer.", i)); i++) {
        const char *alias = section + strlen("layer."), *name;
        if (has_word(s->model.layer_pattern, alias) || has_word(s->model.ffn_pattern, alias)) continue;
        if (!(name = config_get(s->config, section, "use"))) continue;
        struct part p = { 0 };
        part_open(s, &p, CHI_LAYER, name, section, section, "use", use);
        spare_add(s, p);
    }
}

static void pattern_close(struct part *part, int64_t layers)
{
    for (int64_t l = 0; part && l < layers; l++) {
        bool owned = part[l].conf != NULL;
        for (int64_t e = 0; e < l; e++) owned = owned && part[e].conf != part[l].conf;
        if (owned) {
            void *conf = part[l].conf;
            const char *section = part[l].section;
            for (int64_t e = l + 1; e < layers; e++)
                if (part[e].conf == conf) part[e].conf = NULL, part[e].section = NULL;
            part_close(&(struct part){ .section = section, .conf = conf });
        }
        part[l].conf = NULL;
    }
    free(part);
}

/* ---- weights --------------------------------------------------------------------- */

static bool makes(const struct chi_plugin *p, const char *values)
{
    for (const struct chi_component *const *c = p->components; *c; c++)
        if ((*c)->kind == CHI_QUANTIZER && !strcmp(((const struct chi_quantizer_ops *)(*c)->ops)->values, values)) return true;
    return false;
}

/* That of the quantizer's own plugin; else the first of its class whose plugin has a quantizer of the class, too: a
 * plugin that merely adds another encoding changes nobody's default; else the first         */
static const struct chi_component *usual_encoding(struct registry *r, const struct chi_component *quantizer)
{
    const struct chi_component *c, *best = NULL;
    const char *values = ((const struct chi_quantizer_ops *)quantizer->ops)->values;
    const struct plugin_info *own = registry_owner(r, quantizer);
    int best_rank = -1;
    for (int64_t i = 0; (c = registry_component(r, CHI_ENCODING, i)); i++) {
        if (strcmp(((const struct chi_encoding_ops *)c->ops)->values, values) != 0) continue;
        const struct plugin_info *from = registry_owner(r, c);
        int rank = from == own ? 2 : makes(from->plugin, values) ? 1 : 0;
        if (rank > best_rank) best = c, best_rank = rank;
    }
    return best;
}

static const struct chi_component *encoding_for(struct spec *s, const char *section,
                                                const struct linear_rule *r)
{
    const struct chi_component *c = NULL;
    const char *values = ((const struct chi_quantizer_ops *)r->quantizer.component->ops)->values;

    if (*r->o.encoding) {
        chi_status found = registry_find(s->registry, CHI_ENCODING, r->o.encoding, &c);
        if (found != CHI_OK) {
            config_failed(s->config, section, "encoding", found);
            return NULL;
        }
        const char *holds = ((const struct chi_encoding_ops *)c->ops)->values;
        if (!strcmp(holds, values)) return c;
        config_error(s->config, section, "encoding", "%s holds %s weights, but quantizer = %s makes %s ones",
                     c->name, holds, r->quantizer.component->name, values);
        return NULL;
    }
    if ((c = usual_encoding(s->registry, r->quantizer.component))) return c;
    config_error(s->config, section, "quantizer", "no plugin has an encoding for %s weights", values);
    return NULL;
}

/* The adapter that a word of an adapter key names: [adapter.WORD] says which component that is
 * with `use`, or it is the one of that name; its options stand there.  at: where the word is    */
static const struct part *adapter_open(struct spec *s, const char *word, const char *at_section, const char *at_key)
{
    static const char *const use[] = { "use", NULL };
    char *section = xprintf("adapter.%s", word);
    const char *name = config_get(s->config, section, "use");
    struct part *p = NULL;
    for (int64_t i = 0; i < s->n_adapter && !p; i++)
        if (!strcmp(s->adapter[i]->section, section)) p = s->adapter[i];
    if (!p) {
        p = xcalloc(1, sizeof *p);
        part_open(s, p, CHI_ADAPTER, name ? name : word, section, name ? section : at_section, name ? "use" : at_key, use);
        if (!p->section) p->section = xstrdup(section);
        s->adapter = xrealloc(s->adapter, (size_t)(s->n_adapter + 1) * sizeof(struct part *));
        s->adapter[s->n_adapter++] = p;
    }
    free(section);
    return p->component ? p : NULL;
}

static void rule_adapters(struct spec *s, const char *section, struct linear_rule *r)
{
    int64_t n;
    char **word = split(r->o.adapter ? r->o.adapter : "", &n);
    bool embed = !strcmp(r->pattern, "embed") || !strcmp(r->pattern, "lm_head");
    if (n && embed)
        config_error(s->config, section, "adapter", "embedding and head take no adapter");
    else if (n > ADAPTERS_MAX)
        config_error(s->config, section, "adapter", "%lld adapters, at most %d are possible", (long long)n, ADAPTERS_MAX);
    for (int64_t i = 0; !embed && i < min_i64(n, ADAPTERS_MAX); i++) {
        for (int64_t j = 0; j < i; j++)
            if (!strcmp(word[j], word[i]))
                config_error(s->config, section, "adapter", "%s stands there twice: name a second one with a section "
                             "[adapter.NAME] and use = %s", word[i], word[i]);
        r->adapter[i] = adapter_open(s, word[i], section, "adapter");
        r->n_adapter = i + 1;
    }
    split_free(word, n);
}

/* [adapter.X] that no linear has: its options are checked all the same                  */
static void spare_adapters(struct spec *s)
{
    const char *section;
    for (int64_t i = 0; (section = config_section(s->config, "adapter.", i)); i++)
        adapter_open(s, section + strlen("adapter."), section, NULL);
}

/* A quantizer's options with the values that they have in [linear] as defaults, if it is the quantizer
 * there, too; the config keeps the table                                                   */
static const struct chi_option *like_linear(struct spec *s, const struct chi_component *c)
{
    int64_t n = 0;
    if (c != s->rule[0].quantizer.component || !c->options) return c->options;
    while (c->options[n].name) n++;
    struct chi_option *table = config_own(s->config, xcalloc((size_t)n + 1, sizeof *table));
    memcpy(table, c->options, (size_t)(n + 1) * sizeof *table);
    for (int64_t i = 0; i < n; i++) {
        const void *conf = s->rule[0].quantizer.conf;
        table[i].fallback = table[i].type == CHI_OPT_STRING || table[i].type == CHI_OPT_PATH || table[i].type == CHI_OPT_REF
            ? *(const char *const *)(const void *)((const char *)conf + table[i].offset)
            : config_own(s->config, option_text(&table[i], conf));
        table[i].flags &= ~(uint32_t)CHI_OPT_REQUIRED;
    }
    return table;
}

static void rule_open(struct spec *s, const char *section, const char *pattern,
                      const struct linear_options *inherit)
{
    /* Another quantizer takes another encoding, unless the section names one.               */
    bool other = inherit && config_get(s->config, section, "quantizer");
    const struct chi_option table[] = {
        LINEAR_ROWS(inherit ? inherit->quantizer : "f32", inherit && !other ? inherit->encoding : "",
                    inherit && inherit->extra_rmsnorm ? "yes" : "no", inherit ? inherit->adapter : "")
    };
    static const char *const own[] = { "quantizer", "encoding", "extra_rmsnorm", "adapter", NULL };
    struct linear_rule *r = &s->rule[s->n_rule++];
    /* The config remembers table and struct for printing: both live as long as the spec. */
    struct chi_option *kept = xcalloc((size_t)COUNT(table), sizeof *kept);
    memcpy(kept, table, sizeof table);
    *r = (struct linear_rule){ .pattern = xstrdup(pattern), .table = kept };

    if (config_parse(s->config, section, kept, &r->o, own))
        part_parse(s, &r->quantizer, CHI_QUANTIZER, r->o.quantizer, section, section, "quantizer", own,
                   inherit ? like_linear : NULL);
    if (r->quantizer.component) r->encoding = encoding_for(s, section, r);
    rule_adapters(s, section, r);
}

/* [linear] first, then [linear.embed], then the others in the order of the files; later
 * and longer patterns win, see spec_linear().                                          */
static void rules_open(struct spec *s)
{
    int64_t n = 2;
    while (config_section(s->config, "linear.", n - 2)) n++;
    s->rule = xcalloc((size_t)n, sizeof *s->rule);
    rule_open(s, "linear", "*", NULL);
    struct linear_options inherit = s->rule[0].o;
    rule_open(s, "linear.embed", "embed", NULL);
    const char *section;
    for (int64_t i = 0; (section = config_section(s->config, "linear.", i)); i++)
        if (strcmp(section, "linear.embed")) rule_open(s, section, section + strlen("linear."), &inherit);
    spare_adapters(s);
}

/* ---- the loop --------------------------------------------------------------------- */

/* The range's first layer must be *next, which moves behind its last                   */
static bool take_range(struct spec *s, const char *key, const struct chi_list *range, int64_t *next, int64_t *n)
{
    *n = (int64_t)range->n;
    for (int64_t i = 0; i < *n; i++)
        if (range->v[i] != (double)(*next + i)) {
            config_error(s->config, "loop", key, "layer %g stands where %lld must: prelude, loop and coda are the layers "
                         "0-%lld in order, such as 0-1, 2-5 and 6-7", range->v[i], (long long)(*next + i),
                         (long long)s->model.num_hidden_layers - 1);
            return false;
        }
    *next += *n;
    return true;
}

static void check_ranges(struct spec *s)
{
    struct loop_spec *l = &s->loop;
    int64_t next = 0, layers = s->model.num_hidden_layers;
    if (!l->o.loop.n) {
        config_error(s->config, "loop", "loop", "names no layer: which ones are looped?");
        return;
    }
    if (!take_range(s, "prelude", &l->o.prelude, &next, &l->prelude)
        || !take_range(s, "loop", &l->o.loop, &next, &l->length)
        || !take_range(s, "coda", &l->o.coda, &next, &l->coda)) return;
    if (next != layers)
        config_error(s->config, "loop", l->coda ? "coda" : "loop", "%s %lld, but there are %lld layers: prelude, loop and "
                     "coda must cover them all", next < layers ? "ends with layer" : "goes on to layer",
                     (long long)next - 1, (long long)layers);
}

static void loop_open(struct spec *s)
{
    struct loop_spec *l = &s->loop;
    l->prelude = s->model.num_hidden_layers;
    if (!config_has(s->config, "loop")) return;
    if (!config_parse(s->config, "loop", loop_table, &l->o, NULL)) return;
    if (!*l->o.use) {
        config_ignore(s->config, "loop");
        return;
    }
    part_open(s, &l->part, CHI_LOOP, l->o.use, "loop", "loop", "use", NULL);
    check_ranges(s);
    l->turns = l->o.loops ? l->o.loops : l->o.loop_default;
    const struct chi_component *c = l->part.component;
    if (c && l->o.adaptive_exit > 0 && !CHI_HAS(struct chi_loop_ops, (const struct chi_loop_ops *)c->ops, change))
        config_error(s->config, "loop", "adaptive_exit", "%s cannot say how far a turn moves a token: set it to 0", c->name);
}

/* ---- backends ---------------------------------------------------------------------- */

static bool backend_usable(struct spec *s, const struct chi_component *c, bool named)
{
    const struct chi_backend_ops *ops = c->ops;
    uint32_t missing = c->needs & ~cpu_features();
    if (missing) {
        char names[128];
        cpu_feature_names(missing, names);
        if (named)
            config_error(s->config, "backend", "use", "%s needs a CPU with %s, this one is %s", c->name, names,
                         cpu_name());
        return false;
    }
    if (!CHI_HAS(struct chi_backend_ops, ops, open)) return true;
    struct chi_host *h = host_open(s, c->name);
    chi_status st = ops->open(h);
    host_close(h);
    if (st != CHI_OK && named) config_error(s->config, "backend", "use", "%s", fail_text());
    return st == CHI_OK;
}

/* Behind all of higher rank among those from index `from` on, unless it is there already   */
static void backend_add(struct spec *s, const struct chi_component *c, int64_t *n, int64_t from)
{
    int64_t at = from;
    for (int64_t i = 0; i < *n; i++)
        if (s->backend[i] == c) return;
    s->backend = xrealloc(s->backend, (size_t)(*n + 2) * sizeof *s->backend);
    while (at < *n && ((const struct chi_backend_ops *)s->backend[at]->ops)->rank
                      >= ((const struct chi_backend_ops *)c->ops)->rank) at++;
    memmove(s->backend + at + 1, s->backend + at, (size_t)(*n - at) * sizeof *s->backend);
    s->backend[at] = c;
    s->backend[++*n] = NULL;
}

bool backends_auto(const struct spec *s)
{
    return s->backends.use && !strcmp(s->backends.use, "auto");
}

/* In the order of the words; auto stands for all that are usable, by rank                   */
static void backends_open(struct spec *s)
{
    const struct chi_component *c;
    int64_t n = 0, n_word;
    s->backend = xcalloc(1, sizeof *s->backend);
    config_parse(s->config, "backend", backend_table, &s->backends, NULL);
    char **word = split(s->backends.use ? s->backends.use : "auto", &n_word);

    for (int64_t w = 0; w < n_word; w++) {
        int64_t from = n;
        chi_status found;
        if (!strcmp(word[w], "portable")) continue;
        if (!strcmp(word[w], "auto")) {
            for (int64_t i = 0; (c = registry_component(s->registry, CHI_BACKEND, i)); i++)
                if (((const struct chi_backend_ops *)c->ops)->rank >= 0 && backend_usable(s, c, false))
                    backend_add(s, c, &n, from);
        } else if ((found = registry_find(s->registry, CHI_BACKEND, word[w], &c)) != CHI_OK)
            config_failed(s->config, "backend", "use", found);
        else if (backend_usable(s, c, true))
            backend_add(s, c, &n, from);
    }
    split_free(word, n_word);

    const struct chi_kernels **table = xcalloc((size_t)n + 1, sizeof *table);
    int n_table = 0;
    for (int64_t i = 0; i < n; i++) {
        const struct chi_backend_ops *ops = s->backend[i]->ops;
        if (ops->kernels) table[n_table++] = ops->kernels;
    }
    struct chi_kernels *k = xcalloc(1, sizeof *k);
    kernels_merge(k, table, n_table);
    s->kernels = k;
    free(table);
    if (s->backends.autotune && backends_auto(s)) s->tune = tune_read(s);
}

/* ---- deployment --------------------------------------------------------------------- */

static void deployment_open(struct spec *s)
{
    struct deployment_options *d = &s->deployment;
    if (!config_parse(s->config, "deployment", deployment_table, d, NULL)) return;
    if (d->streams > d->max_streams && config_get(s->config, "deployment", "streams"))
        config_error(s->config, "deployment", "streams", "%lld at once, but deployment.max_streams = %lld: stream %lld is refused; "
                     "with fewer at once the others wait for their turn", (long long)d->streams,
                     (long long)d->max_streams, (long long)d->max_streams + 1);
    d->streams = min_i64(d->streams, d->max_streams);
}

/* ---- all of it --------------------------------------------------------------------- */

chi_status spec_registry(struct registry **r, struct config *config, struct plugin_options *o, const char *extra)
{
    config_parse(config, "plugins", plugin_table, o, NULL);
    const char *path = o->path && *o->path ? o->path : NULL;
    char *both = extra && path ? xprintf("%s:%s", extra, path) : NULL;
    chi_status opened = registry_open(r, both ? both : extra ? extra : path);
    free(both);
    TRY(opened);
    int64_t n;
    char **word = split(o->load ? o->load : "", &n);
    for (int64_t i = 0; i < n; i++) {
        const struct plugin_info *info;
        if (!strchr(word[i], '/')) {
            config_error(config, "plugins", "load", "%s: wanted is the path of a file; components are found "
                         "by name without it", word[i]);
            continue;
        }
        chi_status loaded = registry_load(*r, word[i], &info);
        if (loaded != CHI_OK) config_failed(config, "plugins", "load", loaded);
    }
    split_free(word, n);
    return CHI_OK;
}

chi_status spec_open(struct spec **out, struct config *config, int needs)
{
    struct spec *s = *out = xcalloc(1, sizeof *s);
    s->config = config;
    config_parse(config, "run", run_table, &s->run, NULL);
    pool_threads((int)s->run.threads);
    mem_limit(s->run.memory_limit_mb << 20);
    chi_status st = spec_registry(&s->registry, config, &s->plugins, NULL);
    if (st == CHI_OK) {
        config_parse(config, "model", model_table, &s->model, NULL);
        config_parse(config, "train", train_table, &s->train, NULL);
        config_parse(config, "data", data_table, &s->data, NULL);
        config_parse(config, "generate", generate_table, &s->generate, NULL);
        deployment_open(s);
        declared_open(s);
        config_skip(config, "sweep");           /* read by `chimera sweep` alone          */
        backends_open(s);
        if (needs & SPEC_MODEL) {
            rules_open(s);
            if (!config_errors(config) || s->model.num_hidden_layers) {
                s->mixer = pattern_open(s, "layer_pattern", s->model.layer_pattern ? s->model.layer_pattern : "");
                s->ffn = pattern_open(s, "ffn_pattern", s->model.ffn_pattern ? s->model.ffn_pattern : "");
                spare_open(s);
                loop_open(s);
            }
        }
        bool train = needs & SPEC_TRAIN;
        option_part_open(s, &s->optimizer, CHI_OPTIMIZER, s->train.optimizer, "optimizer", "train", train);
        option_part_open(s, &s->objective, CHI_OBJECTIVE, s->train.objective, "objective", "train", train);
        option_part_open(s, &s->task, CHI_TASK, s->data.task, "task", "data", needs & SPEC_DATA);
        option_part_open(s, &s->tokenizer, CHI_TOKENIZER, s->data.tokenizer, "tokenizer", "data", needs & SPEC_TOKENIZER);
        if (s->train.min_lr < 0) s->train.min_lr = 0.1 * s->train.lr;
        if (!s->train.micro_batch) s->train.micro_batch = s->train.batch_size;
        st = config_finish(config);
    }
    if (st != CHI_OK) {
        spec_close(s);
        *out = NULL;
    }
    return st;
}

void spec_close(struct spec *s)
{
    if (!s) return;
    packed_close(s->packed);
    free(s->vocabulary_of);
    pattern_close(s->mixer, s->model.num_hidden_layers);
    pattern_close(s->ffn, s->model.num_hidden_layers);
    for (int64_t i = 0; i < s->n_rule; i++) {
        part_close(&s->rule[i].quantizer);
        free((char *)(uintptr_t)s->rule[i].pattern);
        free((struct chi_option *)(uintptr_t)s->rule[i].table);
    }
    for (int64_t i = 0; i < s->n_adapter; i++) {
        part_close(s->adapter[i]);
        free(s->adapter[i]);
    }
    free(s->adapter);
    for (int64_t i = 0; i < s->n_spare; i++) part_close(&s->spare[i]);
    free(s->spare);
    part_close(&s->loop.part);
    part_close(&s->optimizer);
    part_close(&s->objective);
    part_close(&s->task);
    part_close(&s->tokenizer);
    free(s->rule);
    free(s->backend);
    tune_close(s->tune);
    free((struct chi_kernels *)(uintptr_t)s->kernels);
    config_free(s->config);
    registry_close(s->registry);
    free(s);
}
