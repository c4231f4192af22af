/* test_import.c - checkpoints of other programs: logits against those that tests/checkpoints.py computes in float64
 * from the public equations, and what is refused.                                                          */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "ckpt.h"
#include "core.h"
#include "export.h"
#include "fs.h"
#include "gguf.h"
#include "import_run.h"
#include "run.h"

static char dir[64];

static void setup(void)
{
    strcpy(dir, "/tmp/chi-import-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(chdir(dir), 0);
    if (!freopen("messages", "w", stderr)) cr_assert_fail("stderr");
}

static void teardown(void)
{
    cr_assert_eq(fs_remove_tree(dir), CHI_OK);
}

TestSuite(import, .init = setup, .fini = teardown);

/* Writes a checkpoint to the folder of that name; false: there is no python3                                */
static bool make(const char *variant)
{
    const char *src = getenv("srcdir");
    char *command = xprintf("python3 -B '%s/tests/checkpoints.py' %s %s >python 2>&1", src ? src : ".", variant,
                            variant);
    bool python = system("command -v python3 >/dev/null 2>&1") == 0;
    if (python) cr_assert_eq(system(command), 0, "checkpoints.py %s fails", variant);
    free(command);
    return python;
}

static chi_status bring(const char *from, const char *out, const char *override)
{
    char *word = xstrdup(override ? override : "run.threads=1");
    struct import_request r = { .subject = from, .out = out, .override = &word, .n_override = 1 };
    FILE *report = fopen("report", "w");
    cr_assert(report);
    chi_status s = import_model(&r, report);
    fclose(report);
    free(word);
    return s;
}

/* Logits of n tokens, one stream                                                                            */
static float *logits(const char *run, const int32_t *tokens, int64_t n, int64_t vocab)
{
    struct spec *spec;
    struct model *m;
    cr_assert_eq(run_load_model(run, NULL, 0, NULL, 0, n, 1, &spec, &m), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec->model.vocab_size, vocab);
    unsigned char *state = mem_take((size_t)model_state_bytes(m), "state");
    float *hidden = mem_take((size_t)(n * spec->model.hidden_size) * sizeof *hidden, "hidden");
    float *y = mem_take((size_t)(n * vocab) * sizeof *y, "logits");
    const struct model_segment s = { .tokens = tokens, .rows = n, .fresh = true, .state = state };
    cr_assert_eq(model_forward(m, &s, 1, hidden), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_logits(m, hidden, n, y), CHI_OK, "%s", fail_text());
    mem_free(hidden);
    mem_free(state);
    model_close(m);
    spec_close(spec);
    return y;
}

static void check(const char *variant)
{
    struct st_file *f;
    if (!make(variant)) cr_skip_test("no python3");
    cr_assert_eq(bring(variant, "run", NULL), CHI_OK, "%s: %s", variant, fail_text());
    char *path = fs_join(variant, "expect.safetensors");
    cr_assert_eq(st_open(&f, path), CHI_OK, "%s", fail_text());
    const struct st_tensor *want = st_find(f, "logits"), *tokens = st_find(f, "tokens");
    float *got = logits("run", tokens->data, tokens->n, want->dim[1]);
    double most = 0, worst = 0;
    for (int64_t i = 0; i < want->n; i++) {
        double w = ((const double *)want->data)[i];
        most = fmax(most, fabs(w));
        worst = fmax(worst, fabs(got[i] - w));
    }
    cr_assert(most > 0.5);
    cr_assert(worst <= 2e-5 * most, "%s: logits are wrong by %.3g of %.3g", variant, worst, most);
    mem_free(got);
    st_close(f);
    free(path);
}

Test(import, gated_deltanet)        { check("gdn"); }
Test(import, gated_deltanet_tied)   { check("gdn_tied"); }
Test(import, gated_deltanet_narrow) { check("gdn_narrow"); }
Test(import, gated_deltanet_grouped) { check("gdn_grouped"); }
Test(import, gated_deltanet_hybrid) { check("gdn_hybrid"); }
Test(import, gated_deltanet_hybrid_whole) { check("gdn_hybrid_whole"); }
Test(import, xlstm)                 { check("xlstm"); }
Test(import, xlstm_fused)           { check("xlstm_fused"); }
Test(import, xlstm_native)          { check("xlstm_native"); }
Test(import, xlstm_yaml)            { check("xlstm_yaml"); }

Test(import, yaml_that_is_not_flat)
{
    static const struct { const char *text, *says; } c[] = {
        { "a: 1\nb:\n  c: 2\n", "x.yaml:3: it is nested" }, { "a: 1\n- b\n", "x.yaml:2: it is nested, or a list" },
        { "a: [1, 2]\n", "x.yaml:1: its value is no plain one" }, { "a: {b: 1}\n", "no plain one" },
        { "a: |\n", "no plain one" }, { "a: &x 1\n", "no plain one" }, { "a: !!int 1\n", "no plain one" },
        { "a\n", "it is no key with a value" }, { "a:1\n", "it is no key" }, { ": 1\n", "it is no key" },
        { "a: 1\na: 2\n", "x.yaml:2: the key stands there twice" }, { "a: \"b\\n\"\n", "its quotes" },
        { "a: 'b\n", "its quotes" }, { "a: 'b' c\n", "its quotes" }, { "a: 1\n---\nb: 2\n", "x.yaml:2: it is no key" },
    };
    for (int i = 0; i < COUNT(c); i++) {
        cJSON *j;
        cr_expect_eq(yaml_flat("x.yaml", c[i].text, (int64_t)strlen(c[i].text), &j), CHI_EDATA, "%s", c[i].text);
        cr_expect(strstr(fail_text(), c[i].says), "%s: %s", c[i].text, fail_text());
        cJSON_Delete(j);
    }
    cJSON *j;
    static const char fine[] = "# c\na: ~\nb:\nc: 'x # y: z'   # c\nd: -1.5e-3\ne: true\nf: a#b c\ng: \"1\"";
    cr_assert_eq(yaml_flat("x.yaml", fine, sizeof fine - 1, &j), CHI_OK, "%s", fail_text());
    char *text = cJSON_PrintUnformatted(j);
    cr_expect_str_eq(text, "{\"a\":null,\"b\":null,\"c\":\"x # y: z\",\"d\":-0.0015,\"e\":true,\"f\":\"a#b c\",\"g\":\"1\"}");
    cJSON_free(text);
    cJSON_Delete(j);
    cr_expect_eq(yaml_flat("x.yaml", "a: 1\0", 5, &j), CHI_EDATA);
    cJSON_Delete(j);
}

static struct spec *spec_of(const char *more)
{
    struct config *c;
    struct spec *spec;
    char *text = xprintf("[model]\nhidden_size = 8\nlayer_pattern = A\nffn_pattern = A\n%s[layer.A]\nuse = swiglu\n"
                         "intermediate_size = 8\n", more);
    cr_assert_eq(config_load_text(&c, "test", text, NULL, 0), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&spec, c, SPEC_MODEL), CHI_OK, "%s", fail_text());
    free(text);
    return spec;
}

/* A checkpoint of a program without logit_soft_cap is one whose cap is the default                            */
Test(import, options_that_an_older_program_did_not_have)
{
    struct ckpt_meta meta = { .step = 1 };
    struct spec *plain = spec_of(""), *capped = spec_of("logit_soft_cap = 2\n");
    cJSON *j = manifest_new(plain, &meta), *list = cJSON_GetObjectItem(j, "shape");
    int n = cJSON_GetArraySize(list);
    for (int i = n - 1; i >= 0; i--)
        if (strstr(cJSON_GetStringValue(cJSON_GetArrayItem(list, i)), "logit_soft_cap"))
            cJSON_DeleteItemFromArray(list, i);
    cr_assert_eq(cJSON_GetArraySize(list), n - 1);
    char *text = cJSON_PrintUnformatted(j);
    cr_assert_eq(manifest_text_fits("old", text, plain), CHI_OK, "%s", fail_text());
    cr_assert_eq(manifest_text_fits("old", text, capped), CHI_ESHAPE);
    cr_assert(strstr(fail_text(), "model.logit_soft_cap = 2"), "%s", fail_text());
    cJSON_free(text);
    cJSON_Delete(j);
    spec_close(plain);
    spec_close(capped);
}

/* What checkpoint_config() makes of a config.json or config.yaml with this text                              */
static struct config *config_of(const char *text, const char *ignore)
{
    bool native = *text != '{';
    struct import_request r = { .subject = "test", .ignore = &ignore, .n_ignore = ignore != NULL };
    struct layout l;
    struct config *c;
    cJSON *j;
    char *ini;
    if (native) cr_assert_eq(yaml_flat("test", text, (int64_t)strlen(text), &j), CHI_OK, "%s", fail_text());
    else cr_assert_eq(json_parse("test", text, (int64_t)strlen(text), 8, &j), CHI_OK, "%s", fail_text());
    cr_assert_eq(checkpoint_config(&r, "test", j, native, &l, &ini), CHI_OK, "%s", fail_text());
    cr_assert_eq(config_load_text(&c, "test", ini, NULL, 0), CHI_OK, "%s", fail_text());
    cJSON_Delete(j);
    free(ini);
    return c;
}

struct want { const char *section, *key, *value; };

static void check_config(const char *json, const struct want *w)
{
    struct config *c = config_of(json, NULL);
    for (; w->section; w++) {
        const char *got = config_get(c, w->section, w->key);
        char *end;
        double v = strtod(w->value, &end);
        cr_assert(got, "%s: %s.%s is not there", json, w->section, w->key);
        bool same = end == w->value ? !strcmp(got, w->value) : fabs(strtod(got, NULL) - v) <= 1e-12 * fabs(v);
        cr_expect(same, "%s: %s.%s = %s, wanted %s", json, w->section, w->key, got, w->value);
    }
    config_free(c);
}

/* Keys that are not there have the values of GatedDeltaNetConfig and of transformers' xLSTMConfig; null is no value
 * of a size, and no cap of the logits                                                                           */
Test(import, defaults_are_those_of_the_other_programs)
{
    static const struct want gdn[] = {
        { "model", "hidden_size", "2048" }, { "model", "num_hidden_layers", "21" },
        { "model", "vocab_size", "32000" },
        { "model", "rms_norm_eps", "1e-6" }, { "model", "tie_word_embeddings", "no" },
        { "layer.GD", "num_heads", "6" },
        { "layer.GD", "head_dim", "256" }, { "layer.GD", "head_v_dim", "512" }, { "layer.GD", "conv_size", "4" },
        { "layer.GD", "allow_neg_eigval", "no" }, { "layer.GD", "use_gate", "yes" },
        { "layer.MLP", "intermediate_size", "5632" }, { NULL, NULL, NULL }
    }, xlstm[] = {
        { "model", "hidden_size", "4096" }, { "model", "num_hidden_layers", "32" },
        { "model", "vocab_size", "50304" },
        { "model", "rms_norm_eps", "1e-6" }, { "model", "tie_word_embeddings", "no" },
        { "model", "logit_soft_cap", "30" },
        { "layer.XM", "num_heads", "8" }, { "layer.XM", "head_dim", "256" }, { "layer.XM", "head_v_dim", "512" },
        { "layer.XM", "gate_soft_cap", "15" }, { "layer.XM", "norm_eps", "1e-6" }, { "layer.XM", "cell_eps", "1e-6" },
        { "layer.MLP", "intermediate_size", "10944" }, { NULL, NULL, NULL }
    }, native[] = {
        { "model", "num_hidden_layers", "3" }, { "model", "hidden_size", "4800" }, { "model", "vocab_size", "7" },
        { "model", "rms_norm_eps", "1e-4" }, { "model", "logit_soft_cap", "30" },
        { "layer.MLP", "intermediate_size", "12800" }, { NULL, NULL, NULL }    /* 2.6667; with 2.667: 12864 */
    }, others[] = {
        { "model", "num_hidden_layers", "3" }, { "model", "hidden_size", "1024" },
        { "model", "rms_norm_eps", "1e-4" },
        { "model", "logit_soft_cap", "0" }, { "layer.XM", "norm_eps", "1e-4" }, { "layer.XM", "cell_eps", "1e-3" },
        { "layer.MLP", "intermediate_size", "1100" }, { NULL, NULL, NULL }
    };
    check_config("{\"model_type\": \"gated_deltanet\"}", gdn);
    check_config(
        "{\"architectures\": [\"GatedDeltaNetForCausalLM\"], \"intermediate_size\": null, \"hidden_ratio\": null,"
        " \"num_v_heads\": null}",
        gdn);
    check_config("{\"model_type\": \"gated_deltanet\", \"norm_first\": false}", gdn);       /* as in 2024 */
    check_config("{\"model_type\": \"xlstm\"}", xlstm);
    check_config("---\nembedding_dim: 4800 # wide\nnum_heads: 8\n\n# blocks\nnum_blocks: 3\nvocab_size: 7\nnorm_eps: 1e-04\n"
                 "weight_mode: 'single'\nmode: \"train\"\nuse_bias: False\nstep_kernel: triton\r\n", native);
    check_config("{\"model_type\": \"xlstm\", \"num_hidden_layers\": null, \"num_blocks\": null}", xlstm);
    check_config(
        "{\"model_type\": \"xlstm\", \"num_blocks\": 3, \"embedding_dim\": 1024, \"norm_eps\": 1e-4, "
        "\"eps\": 1e-3, \"output_logit_soft_cap\": null, \"ffn_proj_factor\": 1.07, "
        "\"ffn_round_up_to_multiple_of\": 100}",
        others);
}

/* As transformers and xlstm do: parts are for a folder without the one file                                      */
Test(import, one_file_comes_before_its_parts)
{
    if (!make("xlstm")) cr_skip_test("no python3");
    cr_assert_eq(fs_write_atomic("xlstm/model.safetensors", "none", 4), CHI_OK, "%s", fail_text());
    cr_assert_eq(bring("xlstm", "run", NULL), CHI_EDATA);
    cr_assert(strstr(fail_text(), "xlstm/model.safetensors is 4 bytes"), "%s", fail_text());
}

/* The last value of the file is that of the head                                                                 */
Test(import, a_value_that_is_not_finite)
{
    static const uint32_t bad[] = { 0x7fc00000, 0x7f800000, 0xff800000 };
    unsigned char *bytes;
    int64_t n;
    if (!make("xlstm_native")) cr_skip_test("no python3");
    cr_assert_eq(fs_read("xlstm_native/model.safetensors", &bytes, &n), CHI_OK, "%s", fail_text());
    for (int i = 0; i < COUNT(bad); i++) {
        memcpy(bytes + n - 4, &bad[i], 4);
        cr_assert_eq(fs_write_atomic("xlstm_native/model.safetensors", bytes, n), CHI_OK, "%s", fail_text());
        cr_expect_eq(bring("xlstm_native", "run", NULL), CHI_EDATA);
        cr_expect(strstr(fail_text(), "tensor lm_head.weight holds a value that is not finite"), "%s", fail_text());
        cr_expect(!fs_exists("run") && !fs_exists("run.tmp"));
    }
    mem_free(bytes);
}

/* Nothing has the run's name before it is whole, and what lies in the way stays                                  */
Test(import, a_run_gets_its_name_at_the_end)
{
    if (!make("xlstm_native")) cr_skip_test("no python3");
    cr_assert_eq(fs_mkdirs("run.tmp/mine"), CHI_OK);
    cr_assert_eq(bring("xlstm_native", "run//", NULL), CHI_ECONF);
    cr_assert(strstr(fail_text(), "run.tmp is in the way"), "%s", fail_text());
    cr_assert(fs_is_dir("run.tmp/mine") && !fs_exists("run"));
    cr_assert_eq(fs_remove_tree("run.tmp"), CHI_OK);
    static const struct { const char *command, *metrics; } in[] = { { "chimera train", "" }, { "chimera import", "{}\n" } };
    for (int i = 0; i < 2; i++) {                       /* a run that somebody trained                          */
        cr_assert_eq(fs_mkdirs("run.tmp"), CHI_OK);
        cr_assert_eq(fs_write_atomic("run.tmp/command.txt", in[i].command, (int64_t)strlen(in[i].command)), CHI_OK);
        cr_assert_eq(fs_write_atomic("run.tmp/metrics.jsonl", in[i].metrics, (int64_t)strlen(in[i].metrics)), CHI_OK);
        cr_expect_eq(bring("xlstm_native", "run", NULL), CHI_ECONF);
        cr_expect(strstr(fail_text(), "run.tmp is in the way"), "%s", fail_text());
    }
    cr_assert_eq(fs_write_atomic("run.tmp/metrics.jsonl", "", 0), CHI_OK);
    int fd = open("run.tmp/lock", O_RDWR | O_CREAT, 0666);      /* of an import that goes on                    */
    cr_assert(fd >= 0 && flock(fd, LOCK_EX) == 0);
    cr_expect_eq(bring("xlstm_native", "run", NULL), CHI_ECONF);
    cr_expect(strstr(fail_text(), "run is being written by another process"), "%s", fail_text());
    close(fd);
    cr_assert_eq(bring("xlstm_native", "run//", NULL), CHI_OK, "%s", fail_text());
    cr_assert(fs_is_dir("run") && !fs_exists("run.tmp"));
}

static void replace(unsigned char *bytes, int64_t n, const char *was, const char *now)
{
    unsigned char *at = memmem(bytes, (size_t)n, was, strlen(was));
    cr_assert(at);
    memcpy(at, now, strlen(now));
}

/* A tied head may lie there once more, but another one is not left out without a word                            */
Test(import, a_tied_head_that_is_another)
{
    unsigned char *bytes, *config;
    struct st_file *f;
    int64_t n, m;
    if (!make("gdn")) cr_skip_test("no python3");
    cr_assert_eq(fs_read("gdn/config.json", &config, &m), CHI_OK, "%s", fail_text());
    replace(config, m, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true ");
    cr_assert_eq(fs_write_atomic("gdn/config.json", config, m), CHI_OK, "%s", fail_text());
    cr_assert_eq(bring("gdn", "run", NULL), CHI_EDATA);
    cr_expect(strstr(fail_text(), "nobody knows what these tensors do") && strstr(fail_text(), "lm_head.weight"), "%s",
              fail_text());
    cr_assert_eq(fs_read("gdn/model.safetensors", &bytes, &n), CHI_OK, "%s", fail_text());
    cr_assert_eq(st_open_bytes(&f, "gdn", bytes, n), CHI_OK, "%s", fail_text());
    const struct st_tensor *head = st_find(f, "lm_head.weight"), *e = st_find(f, "model.embeddings.weight");
    cr_assert(head && e && head->bytes == e->bytes);
    memcpy(bytes + ((const unsigned char *)head->data - bytes), e->data, (size_t)e->bytes);
    st_close(f);
    cr_assert_eq(fs_write_atomic("gdn/model.safetensors", bytes, n), CHI_OK, "%s", fail_text());
    cr_expect_eq(bring("gdn", "run", NULL), CHI_OK, "%s", fail_text());
    mem_free(config);
    mem_free(bytes);
}

/* Puts a NaN into a tensor of a GGUF file of ours, with hashes that are right                                   */
static void poison(const char *path, const char *name)
{
    const float nan = NAN;
    struct gguf_file *f;
    unsigned char *bytes;
    int64_t n;
    char was[17], now[17];
    cr_assert_eq(fs_read(path, &bytes, &n), CHI_OK, "%s", fail_text());
    cr_assert_eq(gguf_open_bytes(&f, path, bytes, n), CHI_OK, "%s", fail_text());
    const struct gguf_tensor *t = gguf_find(f, name);
    int64_t header = gguf_at(f, 0)->data - bytes;
    snprintf(was, sizeof was, "%016" PRIx64, xxh3(t->data, (size_t)t->bytes));
    memcpy(bytes + (t->data - bytes) + 4, &nan, sizeof nan);
    snprintf(now, sizeof now, "%016" PRIx64, xxh3(t->data, (size_t)t->bytes));
    replace(bytes, header, was, now);
    replace(bytes, header, gguf_text(f, GGUF_SEAL), "0000000000000000");
    snprintf(now, sizeof now, "%016" PRIx64, xxh3(bytes, (size_t)header));
    replace(bytes, header, "0000000000000000", now);
    cr_assert_eq(fs_write_atomic(path, bytes, n), CHI_OK, "%s", fail_text());
    gguf_close(f);
    mem_free(bytes);
}

Test(import, numbers_that_are_not_finite)
{
    static const char *const name[] = { "final_norm.weight", "lm_head.weight" };
    if (!make("xlstm_native")) cr_skip_test("no python3");
    cr_assert_eq(bring("xlstm_native", "one", NULL), CHI_OK, "%s", fail_text());
    for (int i = 0; i < COUNT(name); i++) {
        FILE *report = fopen("report", "w");
        struct export_request q = { .subject = "one", .out = "one.gguf" };
        cr_assert_eq(export_model(&q, report), CHI_OK, "%s", fail_text());
        fclose(report);
        poison("one.gguf", name[i]);
        cr_expect_eq(bring("one.gguf", "two", NULL), CHI_EDATA);
        cr_expect(strstr(fail_text(), name[i]), "%s", fail_text());
        cr_expect(!fs_exists("two"));
        cr_assert_eq(remove("one.gguf"), 0);
    }
}

/* Out as masters and in again: the same bits                                                                 */
Test(import, masters_there_and_back)
{
    static const int32_t tokens[] = { 3, 40, 7, 7, 0, 12 };
    if (!make("xlstm_native")) cr_skip_test("no python3");
    cr_assert_eq(bring("xlstm_native", "one", NULL), CHI_OK, "%s", fail_text());
    struct export_request q = { .subject = "one", .out = "masters.safetensors" };
    cr_assert_eq(export_model(&q, NULL), CHI_OK, "%s", fail_text());
    cr_assert_eq(bring("masters.safetensors", "two", NULL), CHI_OK, "%s", fail_text());
    float *a = logits("one", tokens, 6, 41), *b = logits("two", tokens, 6, 41);
    cr_assert_eq(memcmp(a, b, 6 * 41 * sizeof *a), 0);
    mem_free(a);
    mem_free(b);

    /* A bit of the last value, then one of the seal's own key                                                */
    static const struct { int64_t at; const char *words; } flip[] = { { -3, "is damaged: its XXH3" }, { 8 + 18, "lost its XXH3" } };
    for (int i = 0; i < 2; i++) {
        unsigned char *bytes;
        int64_t n;
        cr_assert_eq(fs_read("masters.safetensors", &bytes, &n), CHI_OK, "%s", fail_text());
        bytes[flip[i].at < 0 ? n + flip[i].at : flip[i].at] ^= 1;
        cr_assert_eq(fs_write_atomic("flipped.safetensors", bytes, n), CHI_OK, "%s", fail_text());
        cr_expect_eq(bring("flipped.safetensors", "three", NULL), CHI_EDATA);
        cr_expect(strstr(fail_text(), flip[i].words), "%s", fail_text());
        mem_free(bytes);
    }
}
