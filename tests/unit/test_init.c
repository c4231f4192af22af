/* test_init.c - chimera init writes what training begins with: the same files, byte for byte, as a fresh model's
 * checkpoint that is converted, for every kind of layer, quantizer, encoding, adapter and loop.              */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "convert.h"
#include "core.h"
#include "fs.h"
#include "init.h"
#include "packed.h"
#include "run.h"

static char dir[64];

static void setup(void)
{
    strcpy(dir, "/tmp/chi-init-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(chdir(dir), 0);
    if (!freopen("messages", "w", stderr)) cr_assert_fail("stderr");
}

static void teardown(void)
{
    cr_assert_eq(fs_remove_tree(dir), CHI_OK);
}

TestSuite(init, .init = setup, .fini = teardown);

static const char base[] =
    "[run]\nseed = 11\nthreads = 1\n[model]\nhidden_size = 64\nnum_hidden_layers = 4\nvocab_size = 301\n"
    "initializer_range = 0.05\nlayer_pattern = GD XM TM SK\nffn_pattern = MLP MLP MLP MOE\n"
    "[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 32\n[layer.XM]\nuse = mlstm\nnum_heads = 2\nhead_dim = 32\n"
    "[layer.TM]\nuse = titans_mac\nnum_heads = 2\nhead_dim = 32\n[layer.SK]\nuse = span_knot\nnum_heads = 2\nhead_dim = 32\n"
    "[layer.MLP]\nuse = swiglu\nintermediate_size = 96\n"
    "[layer.MOE]\nuse = moe\nn_routed_experts = 4\nnum_experts_per_tok = 2\nmoe_intermediate_size = 32\n";

/* A checkpoint before the first step, packed                                                                */
static void by_training(const char *conf, const char *out)
{
    char *argv[] = { "chimera", NULL };
    struct config *c;
    struct spec *spec;
    struct model *m;
    struct run *r;
    struct ckpt_meta meta = { 0 };
    cr_assert_eq(run_config(conf, NULL, 0, &c), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&spec, c, SPEC_MODEL | SPEC_TRAIN | SPEC_TOKENIZER), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&m, spec, MODEL_TRAIN, 8, 1), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(m, (uint64_t)spec->run.seed), CHI_OK, "%s", fail_text());
    cr_assert_eq(run_open(&r, "run", c, false, 1, argv), CHI_OK, "%s", fail_text());
    cr_assert_eq(ckpt_save(r, m, NULL, &meta, 1), CHI_OK, "%s", fail_text());
    run_close(r);
    model_close(m);
    spec_close(spec);
    struct convert_request request = { .subject = "run", .out = out };
    FILE *report = fopen("report", "w");
    cr_assert(report);
    cr_assert_eq(convert(&request, report), CHI_OK, "%s", fail_text());
    fclose(report);
}

/* Without the text of the manifest and the configuration, whose blanks nobody promises                       */
static void same_model(const char *a, const char *b)
{
    struct packed *p, *q;
    const struct packed_tensor *x, *y;
    uint64_t hash[2];
    cr_assert_eq(packed_open(&p, a), CHI_OK, "%s", fail_text());
    cr_assert_eq(packed_open(&q, b), CHI_OK, "%s", fail_text());
    for (int64_t i = 0; (x = packed_at(p, i)); i++) {
        cr_assert((y = packed_at(q, i)));
        cr_assert_str_eq(x->t->name, y->t->name);
        cr_assert_str_eq(x->encoding, y->encoding, "%s", x->t->name);
        cr_assert_eq(x->t->bytes, y->t->bytes, "%s", x->t->name);
        cr_assert_eq(x->group, y->group, "%s", x->t->name);
        cr_assert_eq(x->hash, y->hash, "%s", x->t->name);
        cr_assert_eq(memcmp(x->t->data, y->t->data, (size_t)x->t->bytes), 0, "%s", x->t->name);
        cr_assert_eq(packed_check(x), CHI_OK, "%s", fail_text());
    }
    cr_assert_null(packed_at(q, 0) ? packed_find(q, "no such tensor") : NULL);
    cr_assert_str_eq(packed_config(p), packed_config(q));
    cr_assert_eq(packed_model_hash(packed_manifest(p), 1, &hash[0]), CHI_OK);
    cr_assert_eq(packed_model_hash(packed_manifest(q), 1, &hash[1]), CHI_OK);
    cr_assert_eq(hash[0], hash[1]);
    packed_close(p);
    packed_close(q);
}

static void check(const char *more)
{
    int signal;
    char *text = xprintf("%s%s", base, more);
    cr_assert_eq(fs_write_atomic("conf.ini", text, (int64_t)strlen(text)), CHI_OK);
    free(text);
    struct init_request r = { .subject = "conf.ini", .out = "fresh" };
    cr_assert_eq(init_model(&r, &signal), CHI_OK, "%s: %s", more, fail_text());
    by_training("conf.ini", "trained.b158");
    same_model("fresh", "trained.b158");
    cr_assert_eq(fs_remove_tree("fresh"), CHI_OK);
    cr_assert_eq(fs_remove_tree("run"), CHI_OK);
    cr_assert_eq(fs_remove_tree("trained.b158"), CHI_OK);
    cr_assert_eq(fs_remove_tree("trained_experts.b158"), CHI_OK);
}

Test(init, is_what_training_begins_with)
{
    check("[linear]\nquantizer = ternary\nencoding = tl2\ngroup_size = 64\n[linear.*.ffn.*]\nencoding = base3\n"
          "[linear.layers.1.*]\nquantizer = int8\n[linear.embed]\nquantizer = bf16\n");
    check("[linear]\nquantizer = ternary\nextra_rmsnorm = yes\nadapter = hgf, lora\n[linear.embed]\nquantizer = int8\n"
          "[loop]\nuse = parcae\nprelude = 0\nloop = 1-2\ncoda = 3\n");
}

Test(init, seeds_and_names_count)
{
    int signal;
    uint64_t hash[3];
    char *seed[] = { "run.seed=12" };
    cr_assert_eq(fs_write_atomic("conf.ini", base, sizeof base - 1), CHI_OK);
    const struct init_request r[] = {
        { .subject = "conf.ini", .out = "a" }, { .subject = "conf.ini", .out = "b", .override = seed,
                                                 .n_override = 1 },
    };
    for (int64_t i = 0; i < COUNT(r); i++) {
        struct packed *p;
        cr_assert_eq(init_model(&r[i], &signal), CHI_OK, "%s", fail_text());
        cr_assert_eq(packed_open(&p, r[i].out), CHI_OK, "%s", fail_text());
        hash[i] = packed_find(p, "embed.weight")->hash;
        hash[2] = packed_find(p, "layers.0.mixer.q_proj.weight")->hash;
        packed_close(p);
    }
    cr_assert_neq(hash[0], hash[1]);
    cr_assert_neq(hash[1], hash[2]);
}

/* Bytes of mapped files that are in our memory                                                               */
static int64_t file_pages(void)
{
    char line[256];
    long long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    cr_assert(f);
    while (kb < 0 && fgets(line, sizeof line, f)) sscanf(line, "RssFile: %lld", &kb);
    fclose(f);
    return kb << 10;
}

/* Looking tokens up reads their rows of the mapped embedding, multiplying with it reads all of it             */
Test(init, lookup_reads_its_rows)
{
    enum { WIDE = 100000, BYTES = WIDE * 64, TOKENS = 3 };
    static const int32_t token[TOKENS] = { 5, 50000, 99000 };
    int signal;
    struct spec *spec;
    struct model *m;
    char *wide = xprintf("model.vocab_size=%d", WIDE), *override[] = { wide, "linear.embed.quantizer=int8" };
    cr_assert_eq(fs_write_atomic("conf.ini", base, sizeof base - 1), CHI_OK);
    struct init_request r = { .subject = "conf.ini", .out = "wide", .override = override, .n_override = 2 };
    cr_assert_eq(init_model(&r, &signal), CHI_OK, "%s", fail_text());
    char *unseen[] = { "run.verify=no" };
    cr_assert_eq(run_load_model("wide", unseen, 1, NULL, 0, TOKENS, 1, &spec, &m), CHI_OK, "%s", fail_text());
    unsigned char *state = mem_take((size_t)model_state_bytes(m), "state");
    float *hidden = mem_take((size_t)(TOKENS * 64) * sizeof *hidden, "hidden");
    float *logits = mem_take((size_t)WIDE * sizeof *logits, "logits");
    struct model_segment seg = { .tokens = token, .rows = TOKENS, .fresh = true, .state = state };
    int64_t before = file_pages();
    cr_assert_eq(model_forward(m, &seg, 1, hidden), CHI_OK, "%s", fail_text());
    int64_t looked = file_pages() - before;
    cr_assert_lt(looked, BYTES / 8, "%lld", (long long)looked);
    cr_assert_eq(model_logits(m, hidden, 1, logits), CHI_OK, "%s", fail_text());
    int64_t multiplied = file_pages() - before;
    cr_assert_gt(multiplied, BYTES * 3LL / 4, "%lld", (long long)multiplied);
    mem_free(logits);
    mem_free(hidden);
    mem_free(state);
    model_close(m);
    spec_close(spec);
    free(wide);
}
