/* test_seed.c - conf/chimera-5.1.ini gives every key of the seed a home, and the homes hold what
 * they say; layer patterns; numbers declared beside numbers counted.
 *
 * The lines are "; seed: PATH = VALUE -> HOME"; their forms stand at the top of that file.  The
 * checker is tried on damaged copies, too: each damage must be noticed.               */
#include "core.h"
#include "json.h"
#include "model.h"
#include "registry.h"
#include "seed_later.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEYS = 2000 };

/* ---- files ---------------------------------------------------------------------------- */

static char *path_of(const char *name)
{
    const char *source = getenv("srcdir");
    cr_assert(source, "run me through make check");
    return xprintf("%s/%s", source, name);
}

static char *text_of(const char *name)
{
    char *path = path_of(name), *text = NULL;
    size_t size = 0;
    FILE *f = fopen(path, "r");
    cr_assert(f, "%s", path);
    ssize_t n = getdelim(&text, &size, '\0', f);
    cr_assert_gt(n, 0);
    fclose(f);
    free(path);
    return text;
}

static cJSON *json_of(const char *text)
{
    cJSON *j;
    cr_assert_eq(json_parse("seed", text, (int64_t)strlen(text), 16, &j), CHI_OK, "%s", fail_text());
    return j;
}

/* ---- the seed's keys -------------------------------------------------------------------- */

/* A leaf is what is neither an object nor a list that holds one                            */
struct keys { int64_t n; char *path[MAX_KEYS]; const cJSON *value[MAX_KEYS]; };

static bool is_leaf(const cJSON *v)
{
    const cJSON *item;
    bool leaf = !cJSON_IsObject(v);
    if (cJSON_IsArray(v)) cJSON_ArrayForEach(item, v) leaf = leaf && !cJSON_IsObject(item);
    return leaf;
}

static void walk(const cJSON *v, const char *path, struct keys *k)
{
    const cJSON *item;
    int64_t i = 0;
    if (is_leaf(v)) {
        cr_assert_lt(k->n, MAX_KEYS);
        k->path[k->n] = xstrdup(path);
        k->value[k->n++] = v;
        return;
    }
    cJSON_ArrayForEach(item, v) {
        char *below = cJSON_IsArray(v) ? xprintf("%s%s%lld", path, *path ? "." : "", (long long)i++)
                                       : xprintf("%s%s%s", path, *path ? "." : "", item->string);
        walk(item, below, k);
        free(below);
    }
}

static int64_t key_at(const struct keys *k, const char *path)
{
    for (int64_t i = 0; i < k->n; i++)
        if (!strcmp(k->path[i], path)) return i;
    return -1;
}

static void keys_free(struct keys *k)
{
    for (int64_t i = 0; i < k->n; i++) free(k->path[i]);
}

/* ---- comparing ----------------------------------------------------------------------------- */

/* 2.65B, 350M, 4k, 3e-4; false if the text is no number                                       */
static bool number(const char *text, double *x)
{
    static const struct { char unit; double factor; } u[] = { { 'k', 1e3 }, { 'M', 1e6 }, { 'G', 1e9 }, { 'B', 1e9 }, { 'T', 1e12 } };
    char *end;
    *x = strtod(text, &end);
    if (end == text) return false;
    for (int64_t i = 0; i < COUNT(u) && *end; i++)
        if (*end == u[i].unit && !end[1]) {
            *x *= u[i].factor;
            end++;
        }
    return !*end;
}

/* Does a key of the configuration hold the seed's value?                                       */
static bool same_value(const cJSON *want, const char *text)
{
    double a, b;
    if (cJSON_IsBool(want)) return !strcmp(text, cJSON_IsTrue(want) ? "yes" : "no");
    if (cJSON_IsNumber(want)) return number(text, &a) && fabs(a - want->valuedouble) <= 1e-9 * fabs(a);
    if (!cJSON_IsString(want)) return false;
    if (number(text, &a) && number(want->valuestring, &b)) return fabs(a - b) <= 1e-9 * fabs(a);
    return !strcmp(text, want->valuestring);
}

/* The value as a line quotes it, cut short by "..." or whole                                   */
static bool same_quote(const cJSON *want, const char *quote)
{
    char *text = cJSON_PrintUnformatted(want);
    size_t n = strlen(quote);
    bool same;
    if (n > 3 && !strcmp(quote + n - 3, "..."))
        same = n - 3 < strlen(text) && !strncmp(text, quote, n - 3);
    else {
        cJSON *got = cJSON_Parse(quote);
        same = got && cJSON_Compare(got, want, true);
        cJSON_Delete(got);
    }
    cJSON_free(text);
    return same;
}

/* ---- homes ----------------------------------------------------------------------------------- */

struct check { struct config *config; struct registry *registry; const struct keys *keys; bool *has, *waits; FILE *out; int papers; };

static const struct chi_component *component(const struct check *c, const char *name)
{
    const struct chi_component *found;
    for (int kind = 1; kind < CHI_KINDS; kind++)
        for (int64_t i = 0; (found = registry_component(c->registry, kind, i)); i++)
            if (!strcmp(found->name, name)) return found;
    return NULL;
}

/* Is WHO the core or what a section of the configuration uses?                                 */
static bool in_use(const struct check *c, const char *who)
{
    static const char *const at[][2] = { { "linear", "quantizer" }, { "linear", "encoding" }, { "loop", "use" } };
    const char *section, *use;
    bool found = !strcmp(who, "core");
    for (int64_t i = 0; (section = config_section(c->config, "layer.", i)); i++)
        found = found || ((use = config_get(c->config, section, "use")) && !strcmp(use, who));
    for (int64_t i = 0; i < COUNT(at); i++)
        found = found || ((use = config_get(c->config, at[i][0], at[i][1])) && !strcmp(use, who));
    return found;
}

static void check_key_home(struct check *c, int64_t k, const char *home, bool literally)
{
    bool mode = !strncmp(home, "mode.", 5) && strchr(home + 5, '.');    /* whose keys have dots                */
    const char *dot = mode ? strchr(home + 5, '.') : strrchr(home, '.');
    char *section = xprintf("%.*s", (int)(dot - home), home);
    const char *value = config_get(c->config, section, dot + 1);
    if (!value) fprintf(c->out, "%s: its home %s is not set\n", c->keys->path[k], home);
    else if (literally && !same_value(c->keys->value[k], value))
        fprintf(c->out, "%s: its home %s says %s\n", c->keys->path[k], home, value);
    free(section);
}

static void check_papers(struct check *c, int64_t k, const char *who)
{
    const struct chi_component *p = component(c, who);
    const cJSON *v = c->keys->value[k];
    if (!in_use(c, who)) fprintf(c->out, "%s: nothing here uses %s\n", c->keys->path[k], who);
    if (!p) return;                                 /* not in this build                   */
    c->papers++;
    if (!cJSON_IsString(v) || !p->papers || !strstr(p->papers, v->valuestring))
        fprintf(c->out, "%s: %s does not name this paper\n", c->keys->path[k], who);
}

static void check_home(struct check *c, int64_t k, const char *home)
{
    const char *path = c->keys->path[k], *colon = strchr(home, ':');
    char *kind = xprintf("%.*s", colon ? (int)(colon - home) : (int)strlen(home), home);
    const char *why = colon ? colon + 1 + strspn(colon + 1, " ") : "";
    char *who = xprintf("%.*s", (int)strcspn(why, ","), why);
    if (strchr(kind, '.')) check_key_home(c, k, kind, !colon);
    else if (!*why) fprintf(c->out, "%s: its home '%s' has no reason\n", path, home);
    else if (!strcmp(kind, "papers")) check_papers(c, k, who);
    else if (!strcmp(kind, "always")) {
        if (!in_use(c, who)) fprintf(c->out, "%s: nothing here uses %s\n", path, who);
    } else if (!strcmp(kind, "later")) {
        c->waits[k] = true;
        if (component(c, who)) fprintf(c->out, "%s: %s exists now: give the key a home\n", path, who);
    } else if (strcmp(kind, "cannot"))
        fprintf(c->out, "%s: no home has the form '%s'\n", path, home);
    free(kind);
    free(who);
}

/* line: "PATH = VALUE -> HOME"                                                                 */
static void check_line(struct check *c, char *line)
{
    char *value = strstr(line, " = "), *home = NULL;
    for (char *p = line; (p = strstr(p, " -> ")); p += 4) home = p;
    if (!value || !home || home < value) {
        fprintf(c->out, "; seed: %s: wanted is PATH = VALUE -> HOME\n", line);
        return;
    }
    *value = *home = '\0';
    int64_t k = key_at(c->keys, line);
    if (k < 0) fprintf(c->out, "%s: the seed has no such key\n", line);
    else if (c->has[k]) fprintf(c->out, "%s: has two homes\n", line);
    else if (!same_quote(c->keys->value[k], value + 3)) fprintf(c->out, "%s: the seed does not say %s\n", line, value + 3);
    else check_home(c, k, home + 4);
    if (k >= 0) c->has[k] = true;
}

static bool is_later(const char *path)
{
    bool found = false;
    for (int64_t i = 0; i < COUNT(later); i++) found = found || !strcmp(later[i], path);
    return found;
}

/* All complaints about the lines of text, one each; "" if there are none.  Caller frees        */
static char *complaints(const char *text, const char *seed)
{
    static const char mark[] = "; seed: ";
    struct keys keys = { 0 };
    struct check c = { .keys = &keys };
    cJSON *j = json_of(seed);
    char *out = NULL, *path = path_of("conf/chimera-5.1.ini"), *copy = xstrdup(text);
    size_t size;
    walk(j, "", &keys);
    c.has = xcalloc((size_t)keys.n, sizeof *c.has);
    c.waits = xcalloc((size_t)keys.n, sizeof *c.waits);
    c.out = open_memstream(&out, &size);
    cr_assert_eq(config_load(&c.config, path, NULL, 0), CHI_OK, "%s", fail_text());
    static struct registry *registry;               /* to open it takes a third of a second        */
    if (!registry) cr_assert_eq(registry_open(&registry, NULL), CHI_OK, "%s", fail_text());
    c.registry = registry;
    for (char *save, *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!strncmp(line, mark, strlen(mark))) check_line(&c, line + strlen(mark));
    for (int64_t k = 0; k < keys.n; k++) {
        if (!c.has[k]) fprintf(c.out, "%s: no home in conf/chimera-5.1.ini\n", keys.path[k]);
        else if (c.waits[k] && !is_later(keys.path[k])) fprintf(c.out, "%s: waits, but not by name in seed_later.h\n", keys.path[k]);
        else if (!c.waits[k] && is_later(keys.path[k])) fprintf(c.out, "%s: has a home: take it out of seed_later.h\n", keys.path[k]);
    }
    for (int64_t i = 0; i < COUNT(later); i++)
        if (key_at(&keys, later[i]) < 0) fprintf(c.out, "%s: stands in seed_later.h, not in the seed\n", later[i]);
    fclose(c.out);
    cr_expect_geq(c.papers, 4, "papers of %d components were looked at", c.papers);
    config_free(c.config);
    cJSON_Delete(j);
    keys_free(&keys);
    free(c.has);
    free(c.waits);
    free(copy);
    free(path);
    return out;
}

static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    cr_assert(at, "%s", from);
    return xprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

/* ---- the seed ------------------------------------------------------------------------------- */

Test(seed, every_key_has_a_home)
{
    char *conf = text_of("conf/chimera-5.1.ini"), *seed = text_of("conf/seed/chimera-5.1.json");
    char *wrong = complaints(conf, seed);
    cr_assert_str_empty(wrong, "%s", wrong);
    free(conf);
    free(seed);
    free(wrong);
}

Test(seed, the_list_of_what_waits_only_shrinks)
{
    enum { BEFORE = 228 };                  /* 252 at first; lower it with LATER_KEYS, never raise it */
    cr_assert_eq(COUNT(later), LATER_KEYS);
    cr_assert_leq(LATER_KEYS, BEFORE);
}

Test(seed, every_damage_is_noticed)
{
    static const struct { bool in_seed; const char *from, *to, *says; } c[] = {
        { true, "\"hidden_size\": 2560", "\"hidden_size\": 2561", "hidden_size: the seed does not say 2560" },
        { true, "\"hidden_size\": 2560", "\"hidden_size\": 2560, \"colour\": 3", "colour: no home" },
        { true, "\"beta\": 0.1", "\"gamma\": 0.1", "training.phases.3.gamma: no home" },
        { false, "; seed: hidden_size = 2560 -> model.hidden_size\n", "", "hidden_size: no home" },
        { false, "hidden_size = 2560 -> model.hidden_size", "hidden_size = 2560 -> model.vocab_size", "hidden_size: its home model.vocab_size says 200073" },
        { false, "hidden_size = 2560 -> model.hidden_size", "hidden_size = 2560 -> model.size", "hidden_size: its home model.size is not set" },
        { false, "hidden_size = 2560 -> model.hidden_size", "hidden_size = 2560 -> later: it", "hidden_size: waits, but not by name" },
        { false, "hidden_size = 2560 -> model.hidden_size", "hidden_size = 2560 -> cannot:", "has no reason" },
        { false, "hidden_size = 2560 -> model.hidden_size", "hidden_size = 2560 -> model", "hidden_size: its home 'model' has no reason" },
        { false, "hidden_size = 2560 -> model.hidden_size", "hidden_size = 2560 -> maybe: it", "no home has the form" },
        { false, "hidden_size = 2560 -> model.hidden_size", "hidden_size: 2560", "wanted is PATH = VALUE -> HOME" },
        { false, "; seed: vocab_size = ", "; seed: hidden_size = 2560 -> model.hidden_size\n; seed: vocab_size = ", "hidden_size: has two homes" },
        { false, "mode.fast.loop.loops", "mode.balanced.loop.loops", "modes.fast.loops: its home mode.balanced.loop.loops says 2" },
        { false, "always: moe", "always: attention", "nothing here uses attention" },
        { false, "papers: moe", "papers: gated_deltanet", "gated_deltanet does not name this paper" },
        { false, "later: mezo", "later: ternary", "ternary exists now" },
        { false, "later: mezo", "cannot: be", "take it out of seed_later.h" },
        { false, "; seed: hidden_size = ", "; seed: hidden.size = ", "hidden.size: the seed has no such key" },
    };
    char *conf = text_of("conf/chimera-5.1.ini"), *seed = text_of("conf/seed/chimera-5.1.json");
    for (int64_t i = 0; i < COUNT(c); i++) {
        char *damaged = replaced(c[i].in_seed ? seed : conf, c[i].from, c[i].to);
        char *wrong = c[i].in_seed ? complaints(conf, damaged) : complaints(damaged, seed);
        cr_expect(strstr(wrong, c[i].says), "%s: wanted '%s', got '%s'", c[i].to, c[i].says, wrong);
        free(damaged);
        free(wrong);
    }
    free(conf);
    free(seed);
}

/* Where the reference folder is there, the copy is the same                                      */
Test(seed, the_copy_is_the_seed)
{
    char *path = path_of("../shared/seed/chimera-5.1.json"), *copy = text_of("conf/seed/chimera-5.1.json");
    if (fopen(path, "r")) {
        char *original = text_of("../shared/seed/chimera-5.1.json");
        cr_assert_str_eq(original, copy);
        free(original);
    }
    free(path);
    free(copy);
}

/* ---- patterns ---------------------------------------------------------------------------------- */

/* A small model with the patterns of conf/chimera-5.1.ini; every alias is a layer that exists     */
static struct spec *pattern_spec(char *const *overrides, int n)
{
    struct config *real, *c;
    struct spec *s;
    char *path = path_of("conf/chimera-5.1.ini");
    cr_assert_eq(config_load(&real, path, NULL, 0), CHI_OK, "%s", fail_text());
    char *text = xprintf("[model]\nhidden_size = 16\nnum_hidden_layers = %s\nvocab_size = 40\nlayer_pattern = %s\nffn_pattern = %s\n"
                         "[layer.GD]\nuse = gated_deltanet\nhead_dim = 4\n[layer.XM]\nuse = gated_deltanet\nhead_dim = 5\n"
                         "[layer.TM]\nuse = gated_deltanet\nhead_dim = 6\n[layer.SK]\nuse = gated_deltanet\nhead_dim = 7\n"
                         "[layer.MLP]\nuse = swiglu\nintermediate_size = 8\n[layer.MOE]\nuse = moe\nmoe_intermediate_size = 8\n",
                         config_get(real, "model", "num_hidden_layers"), config_get(real, "model", "layer_pattern"),
                         config_get(real, "model", "ffn_pattern"));
    cr_assert_eq(config_load_text(&c, "test", text, overrides, n), CHI_OK, "%s", fail_text());
    if (spec_open(&s, c, SPEC_MODEL | SPEC_TRAIN) != CHI_OK) s = NULL;
    config_free(real);
    free(text);
    free(path);
    return s;
}

Test(seed, the_pattern_comes_to_the_seeds_layers)
{
    char *text = text_of("conf/seed/chimera-5.1.json");
    cJSON *seed = json_of(text), *backbone = cJSON_GetObjectItem(seed, "backbone"), *item;
    struct spec *s = pattern_spec(NULL, 0);
    cr_assert(s, "%s", fail_text());
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(backbone, "layer_counts")) {
        int n = 0;
        for (int l = 0; l < 28; l++) n += !strcmp(s->mixer[l].section + strlen("layer."), item->string);
        cr_assert_eq(n, item->valueint, "%s: %d layers, the seed has %d", item->string, n, item->valueint);
    }
    const cJSON *moe = cJSON_GetObjectItem(cJSON_GetObjectItem(backbone, "moe"), "layers");
    int at = 0;
    for (int l = 0; l < 28; l++) {
        bool want = at < cJSON_GetArraySize(moe) && cJSON_GetArrayItem(moe, at)->valueint == l;
        cr_assert_eq(!strcmp(s->ffn[l].component->name, "moe"), want, "layer %d", l);
        at += want;
    }
    cr_assert_eq(at, 7);
    static const char *const last[] = { "layer.GD", "layer.XM", "layer.GD", "layer.TM" };
    for (int l = 24; l < 28; l++) cr_assert_str_eq(s->mixer[l].section, last[l - 24]);      /* the half        */
    spec_close(s);
    cJSON_Delete(seed);
    free(text);
}

Test(seed, a_wrong_word_in_a_pattern_is_told_what_was_meant)
{
    static const struct { const char *override, *says; } c[] = {
        { "model.layer_pattern=GD XN", "XN: there is no section [layer.XN] with use = COMPONENT: did you mean XM?" },
        { "model.ffn_pattern=MLP MEO", "MEO: there is no section [layer.MEO] with use = COMPONENT: did you mean MOE?" },
        { "model.layer_pattern=nothing", "nothing: there is no section [layer.nothing] with use = COMPONENT" },
        { "model.layer_pattern=", "must name sections, such as GD for [layer.GD]" },
        { "declared.MEO.state_mb=3", "no section [layer.MEO] to declare anything of: did you mean [declared.MOE]?" },
        { "declared.weight_mb=3", "did you mean weights_mb?" },
    };
    for (int64_t i = 0; i < COUNT(c); i++) {
        char *word = xstrdup(c[i].override);
        cr_assert_null(pattern_spec(&word, 1), "%s", word);
        cr_expect(strstr(fail_text(), c[i].says), "%s", fail_text());
        free(word);
    }
}

/* ---- declared beside counted ---------------------------------------------------------------------- */

Test(seed, inspect_counts_beside_what_is_declared)
{
    char *words[] = { "declared.parameters=2650M", "declared.state_mb=30", "declared.MOE.parameters=350k", "declared.MOE.active_parameters=44k" };
    struct spec *s = pattern_spec(words, COUNT(words));
    struct model_counts c;
    char *text = NULL;
    size_t size;
    cr_assert(s, "%s", fail_text());
    cr_assert_eq(model_describe(s, NULL, &c), CHI_OK, "%s", fail_text());
    int64_t ffn = 3 * 16 * 8, gate = 16 * 16 + 16;
    cr_assert_eq(s->n_declared, 2);
    cr_assert_eq(c.declared[1].params, 7 * (17 * ffn + gate));
    cr_assert_eq(c.declared[1].active_params, 7 * (3 * ffn + gate));
    cr_assert_eq(c.params - c.active_params, 7 * 14 * ffn);
    FILE *f = open_memstream(&text, &size);
    declared_print(s, &c, f);
    fclose(f);
    cr_expect(strstr(text, "  MOE: parameters                 47.60 k    350.00 k      0.14\n"), "%s", text);
    cr_expect(strstr(text, "  MOE: parameters a token meets     9.97 k     44.00 k      0.23\n"), "%s", text);
    cr_expect(strstr(text, "2.65 G") && strstr(text, "30 MB") && !strstr(text, "weights in memory"), "%s", text);
    free(text);
    spec_close(s);
}

/* What inspect says of another number of turns is what it says when the loop goes so often; classes add up to all */
Test(seed, turns_and_classes_add_up)
{
    static const char text[] =
        "[model]\nhidden_size = 64\nnum_hidden_layers = 4\nvocab_size = 40\nlayer_pattern = GD\nffn_pattern = MLP MOE\n"
        "[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 32\n[layer.MLP]\nuse = swiglu\nintermediate_size = 64\n"
        "[layer.MOE]\nuse = moe\nmoe_intermediate_size = 64\nn_routed_experts = 4\nnum_experts_per_tok = 2\n"
        "[linear]\nquantizer = int8\n[loop]\nuse = parcae\nprelude = 0\nloop = 1-2\ncoda = 3\n"
        "[declared.GD]\nstate_mb = 1\n";
    struct model_counts *c = xcalloc(3, sizeof *c);
    for (int k = 0; k < 3; k++) {
        struct config *config;
        struct spec *s;
        char *word = xprintf("loop.loops=%d", k + 1);
        cr_assert_eq(config_load_text(&config, "test", text, &word, 1), CHI_OK, "%s", fail_text());
        cr_assert_eq(spec_open(&s, config, SPEC_MODEL | SPEC_TRAIN), CHI_OK, "%s", fail_text());
        cr_assert_eq(model_describe(s, NULL, &c[k]), CHI_OK, "%s", fail_text());
        spec_close(s);
        free(word);
    }
    int64_t classes = 0, experts = 0;
    for (int64_t i = 0; i < c->n_weights; i++) {
        classes += c->weights[i].bytes;
        experts += strcmp(c->weights[i].name, "int8 of experts") ? 0 : c->weights[i].bytes;
    }
    cr_expect_eq(classes, c->weight_bytes);
    cr_expect_eq(experts, 2 * 5 * 3 * (64 * 64 + 64 * 4), "%lld", (long long)experts);     /* one is shared       */
    for (int k = 0; k < 3; k++) {
        cr_assert_eq(c[k].n_turns, 2);
        for (int i = 0; i < 2; i++) {
            cr_expect_eq(c[k].turns[i].turns, i + 1);
            cr_expect_eq(c[k].turns[i].state_bytes, c[i].state_bytes, "%d turns from %d", i + 1, k + 1);
            cr_expect_eq(c[k].turns[i].read_bytes, c[i].read_bytes_per_token, "%d turns from %d", i + 1, k + 1);
        }
        cr_expect_eq(c[k].declared[0].state_bytes, (2 + 2 * (k + 1)) * (c[0].declared[0].state_bytes / 4));
    }
    cr_expect(c[1].state_bytes > c[0].state_bytes && c[1].read_bytes_per_token > c[0].read_bytes_per_token);
    free(c);
}
