/* test_convert.c - packed models: the same logits from any encoding that holds the numbers, a refusal by name from
 * the others, the least loss where one is asked for.                                                     */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "convert.h"
#include "core.h"
#include "export.h"
#include "fit.h"
#include "fs.h"
#include "packed.h"
#include "run.h"
#include "scratch.h"

enum { ROWS = 5, VOCAB = 41, LOGITS = ROWS * VOCAB };

static char dir[SCRATCH_SIZE];
static struct registry *registry;

static void setup(void)
{
    make_scratch(dir);
    cr_assert_eq(chdir(dir), 0);
    if (!freopen("messages", "w", stderr)) cr_assert_fail("stderr");
    cr_assert_eq(registry_open(&registry, NULL), CHI_OK, "%s", fail_text());
}

static void teardown(void)
{
    registry_close(registry);
    cr_assert_eq(fs_remove_tree(dir), CHI_OK);
}

TestSuite(convert, .init = setup, .fini = teardown);

/* A run folder with start weights; width is that of all its matrices but the embedding                    */
static void make_run(const char *run, int width, const char *linear)
{
    char *argv[] = { "chimera", NULL };
    struct config *c;
    struct spec *spec;
    struct model *m;
    struct run *r;
    struct ckpt_meta meta = { .step = 3 };
    char *text = xprintf("[run]\nthreads = 1\n[model]\nhidden_size = %d\nnum_hidden_layers = 1\nvocab_size = "
                         "41\ninitializer_range = 0.2\n"
                         "layer_pattern = GD\nffn_pattern = MLP\n[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\n"
                         "head_dim = %d\n[layer.MLP]\nuse = swiglu\nintermediate_size = %d\n%s", width, width / 2,
                         width, linear);
    cr_assert_eq(config_load_text(&c, "test", text, NULL, 0), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&spec, c, SPEC_MODEL), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&m, spec, MODEL_TRAIN, 8, 1), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(m, 7), CHI_OK, "%s", fail_text());
    cr_assert_eq(run_open(&r, run, c, false, 1, argv), CHI_OK, "%s", fail_text());
    cr_assert_eq(ckpt_save(r, m, NULL, &meta, 1), CHI_OK, "%s", fail_text());
    run_close(r);
    model_close(m);
    spec_close(spec);
    free(text);
}

static chi_status to(const char *subject, const char *const *encoding, int n, bool requantize, const char *out)
{
    struct convert_request r = { .subject = subject, .encoding = encoding, .n_encoding = n, .out = out,
                                 .requantize = requantize };
    FILE *report = fopen("report", "w");
    cr_assert(report);
    chi_status s = convert(&r, report);
    fclose(report);
    return s;
}

static chi_status to_one(const char *subject, const char *encoding, const char *out)
{
    return to(subject, &encoding, 1, false, out);
}

static void logits(const char *subject, float *y)
{
    static const int32_t tokens[ROWS] = { 40, 3, 3, 17, 0 };
    struct spec *spec;
    struct model *m;
    cr_assert_eq(run_load_model(subject, NULL, 0, NULL, 0, ROWS, 1, &spec, &m), CHI_OK, "%s", fail_text());
    unsigned char *state = mem_take((size_t)model_state_bytes(m), "state");
    float *hidden = mem_take((size_t)(ROWS * spec->model.hidden_size) * sizeof *hidden, "hidden");
    const struct model_segment s = { .tokens = tokens, .rows = ROWS, .fresh = true, .state = state };
    cr_assert_eq(model_forward(m, &s, 1, hidden), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_logits(m, hidden, ROWS, y), CHI_OK, "%s", fail_text());
    mem_free(hidden);
    mem_free(state);
    model_close(m);
    spec_close(spec);
}

static unsigned char *bytes_of(const char *path, int64_t *n)
{
    unsigned char *b;
    cr_assert_eq(fs_read(path, &b, n), CHI_OK, "%s", fail_text());
    return b;
}

static bool same_files(const char *a, const char *b)
{
    int64_t na, nb;
    unsigned char *x = bytes_of(a, &na), *y = bytes_of(b, &nb);
    bool same = na == nb && !memcmp(x, y, (size_t)na);
    mem_free(x);
    mem_free(y);
    return same;
}

/* ---- pairs --------------------------------------------------------------------------------------------- */

/* The i-th encoding of the class, or NULL                                                                  */
static const char *encoding_at(const char *values, int64_t i)
{
    const struct chi_component *c;
    for (int64_t j = 0; (c = registry_component(registry, CHI_ENCODING, j)); j++)
        if (!strcmp(((const struct chi_encoding_ops *)c->ops)->values, values) && !i--) return c->name;
    return NULL;
}

/* Every pair of the class: the logits of the run, and the very file that the run itself gives               */
static int64_t every_pair(const char *values)
{
    float want[LOGITS], got[LOGITS];
    const char *a, *b;
    int64_t held = 0;
    logits("run", want);
    for (int64_t i = 0; (a = encoding_at(values, i)); i++) {
        char *file = xprintf("%s.b158", a);
        chi_status s = to_one("run", a, file);
        if (s == CHI_OK) {
            held++;
            logits(file, got);
            cr_expect_eq(memcmp(want, got, sizeof want), 0, "%s: other logits than the run", a);
        } else
            cr_expect(s == CHI_ECONF && strstr(fail_text(), "layers.0.") && strstr(fail_text(), ": found "), "%s: %s",
                      a, fail_text());
        free(file);
    }
    for (int64_t i = 0; (a = encoding_at(values, i)); i++)
        for (int64_t j = 0; (b = encoding_at(values, j)); j++) {
            char *from = xprintf("%s.b158", a), *direct = xprintf("%s.b158", b), *out = xprintf("%s-%s.b158", a, b);
            if (fs_exists(from) && fs_exists(direct)) {
                cr_expect_eq(to_one(from, b, out), CHI_OK, "%s", fail_text());
                cr_expect(same_files(out, direct), "%s by way of %s is another file", b, a);
                unlink(out);
            }
            free(from), free(direct), free(out);
        }
    return held;
}

Test(convert, every_pair_of_ternary_encodings)
{
    make_run("run", 256, "[linear]\nquantizer = ternary\ngroup_size = 256\nextra_rmsnorm = yes\n"
             "[linear.layers.0.mixer.*]\nquantizer = int8\n");
    int64_t held = every_pair("ternary");
    cr_expect_geq(held, 4);
    for (int i = 0; i < 4; i++) {
        char *file = xprintf("%s.b158", (const char *[]){ "ternary2", "tl2", "tq1_0", "tq2_0" }[i]);
        cr_expect(fs_exists(file), "%s", file);
        free(file);
    }
}

/* Widths that are multiples of nothing, and groups that tq1_0 and tq2_0 have no form for                      */
Test(convert, odd_widths)
{
    make_run("run", 74, "[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n");
    cr_expect_geq(every_pair("ternary"), 2);
    cr_expect(fs_exists("tl2.b158") && fs_exists("ternary2.b158") && !fs_exists("tq2_0.b158"));
    float want[LOGITS], got[LOGITS];
    logits("run", want);                                /* 74 <= 128: one scale a row, so int8 is one, too     */
    cr_assert_eq(to_one("tl2.b158", "int8", "int8.b158"), CHI_OK, "%s", fail_text());
    logits("int8.b158", got);
    cr_expect_eq(memcmp(want, got, sizeof want), 0);
    cr_assert_eq(to_one("int8.b158", "tl2", "back.b158"), CHI_OK, "%s", fail_text());
    cr_expect(same_files("back.b158", "tl2.b158"));
}

/* What other runs can become, and what not                                                                     */
Test(convert, other_classes)
{
    static const char *const all[] = { "f32", "bf16", "int8", "ternary2", "tl2" };
    static const char *const table[][2] = {     /* quantizer; y: exact, n: refused, in the order above           */
        { "f32", "ynnnn" }, { "bf16", "yynnn" }, { "int8", "nnynn" }, { "ternary", "nnyyy" } };
    for (int64_t i = 0; i < COUNT(table); i++) {
        float want[LOGITS], got[LOGITS];
        char *linear = xprintf("[linear]\nquantizer = %s\n[linear.embed]\nquantizer = int8\n", table[i][0]);
        make_run("run", 64, linear);
        logits("run", want);
        for (int64_t j = 0; j < COUNT(all); j++) {
            chi_status s = to_one("run", all[j], "x.b158");
            cr_expect_eq(s, table[i][1][j] == 'y' ? CHI_OK : CHI_ECONF, "%s -> %s: %s", table[i][0], all[j],
                         fail_text());
            cr_expect_eq(fs_exists("x.b158"), s == CHI_OK);
            if (s == CHI_OK) {
                logits("x.b158", got);
                cr_expect_eq(memcmp(want, got, sizeof want), 0, "%s -> %s", table[i][0], all[j]);
                cr_expect_eq(to_one("x.b158", encoding_at(table[i][0], 0), "y.b158"), CHI_OK, "%s", fail_text());
                logits("y.b158", got);
                cr_expect_eq(memcmp(want, got, sizeof want), 0, "%s -> %s and back", table[i][0], all[j]);
            } else
                cr_expect(strstr(fail_text(), "layers.0."), "%s", fail_text());
            unlink("x.b158");
            unlink("y.b158");
        }
        fs_remove_tree("run");
        free(linear);
    }
}

static char *values_of(const char *path)
{
    struct st_file *f;
    cr_assert_eq(st_open(&f, path), CHI_OK, "%s", fail_text());
    char *values = xstrdup(st_meta(f, "values"));
    st_close(f);
    return values;
}

/* The hash of the numbers: of no encoding, but of every number                                                  */
Test(convert, values)
{
    make_run("run", 64, "[linear]\nquantizer = ternary\n");
    const char *embed = "embed=bf16";
    cr_assert_eq(to_one("run", "ternary2", "a.b158"), CHI_OK, "%s", fail_text());
    cr_assert_eq(to_one("run", "tl2", "b.b158"), CHI_OK, "%s", fail_text());
    cr_assert_eq(to("run", &embed, 1, true, "c.b158"), CHI_OK, "%s", fail_text());
    char *a = values_of("a.b158"), *b = values_of("b.b158"), *c = values_of("c.b158");
    cr_expect_str_eq(a, b);
    cr_expect_str_neq(a, c);
    free(a), free(b), free(c);
}

/* Data at 4096, each tensor at 64, packed ones in as many bytes as their encoding says                          */
Test(convert, alignment)
{
    struct st_file *f;
    const struct st_tensor *t;
    int64_t n, at = 0, pads = 0;
    make_run("run", 74, "[linear]\nquantizer = ternary\n");
    cr_assert_eq(to("run", NULL, 0, false, "a.b158"), CHI_OK, "%s", fail_text());
    unsigned char *b = bytes_of("a.b158", &n);
    cr_assert_eq(st_open_bytes(&f, "a", b, n), CHI_OK, "%s", fail_text());
    const unsigned char *data = st_at(f, 0)->data;
    cr_expect_eq((data - b) % 4096, 0);
    for (int64_t i = 0; (t = st_at(f, i)); i++) {
        bool pad = !strncmp(t->name, "pad.", 4);
        pads += pad;
        if (!pad) cr_expect_eq(at % 64, 0, "%s lies at %ld", t->name, at);
        at += t->bytes;
    }
    cr_expect_gt(pads, 0);
    cr_expect_eq(st_find(f, "layers.0.mixer.q_proj.weight")->bytes, 5 * 576);
    st_close(f);
    mem_free(b);
}

/* Numbers that every encoding of the class holds, one zero in four and one scale in 256: all pairs are exact, and
 * without one of the two properties those that need it refuse                                                  */
static void fill_sparse(struct weights *w)
{
    for (int64_t i = 0; i < w->rows * w->cols; i++) w->q[i] = (int8_t)(i % 4 == i / 4 % 4 ? 0 : i * i % 7 < 3 ? 1
                                                                       : -1);
    for (int64_t i = 0; i < w->rows * w->groups; i++) w->scale[i] = (float)(1 + i / w->groups) / 64;
}

Test(convert, every_pair_of_sparse_weights)
{
    struct weights w, back;
    const char *name;
    void *bytes;
    int64_t n = 0;
    cr_assert_eq(weights_take(&w, true, 18, 512, 128, "w"), CHI_OK);
    cr_assert_eq(weights_take(&back, true, 18, 512, 128, "back"), CHI_OK);
    fill_sparse(&w);
    for (; (name = encoding_at("ternary", n)); n++) {
        const struct chi_component *e;
        cr_assert_eq(registry_find(registry, CHI_ENCODING, name, &e), CHI_OK);
        cr_assert_eq(fit_exact(&w, "ternary", e, "w", &bytes), CHI_OK, "%s", fail_text());
        weights_decode(&back, e->ops, bytes);
        cr_expect(!memcmp(back.q, w.q, 18 * 512) && !memcmp(back.scale, w.scale, 18 * 4 * 4), "%s", name);
        mem_free(bytes);
        bool blocks = !strncmp(name, "tq", 2), sparse = !strcmp(name, "sherry125");
        w.scale[17 * 4 + 1] = 0.5f;
        cr_expect_eq(fit_exact(&w, "ternary", e, "w", &bytes), blocks ? CHI_ECONF : CHI_OK, "%s", name);
        mem_free(bytes);
        w.scale[17 * 4 + 1] = w.scale[17 * 4];
        w.q[511] = w.q[511] ? 0 : 1;
        cr_expect_eq(fit_exact(&w, "ternary", e, "w", &bytes), sparse ? CHI_ECONF : CHI_OK, "%s", name);
        mem_free(bytes);
        fill_sparse(&w);
    }
    cr_expect_geq(n, 4);
    weights_drop(&w);
    weights_drop(&back);
}

/* ---- which matrices -------------------------------------------------------------------------------------------- */

static const char *line_of(const struct packed *p, const char *name)
{
    const struct packed_tensor *t = packed_find(p, name);
    cr_assert(t, "%s", name);
    return t->encoding;
}

Test(convert, patterns)
{
    make_run("run", 64, "[linear]\nquantizer = ternary\n[linear.embed]\nquantizer = bf16\n[linear.layers.0.ffn.up*]\n"
             "quantizer = int8\n");
    struct packed *p;
    const char *some[] = { "tl2", "embed=f32", "*.v_proj=ternary2" };
    cr_assert_eq(to("run", some, 3, false, "x.b158"), CHI_OK, "%s", fail_text());
    cr_assert_eq(packed_open(&p, "x.b158"), CHI_OK, "%s", fail_text());
    cr_expect_str_eq(line_of(p, "embed.weight"), "f32");
    cr_expect_str_eq(line_of(p, "layers.0.mixer.q_proj.weight"), "tl2");
    cr_expect_str_eq(line_of(p, "layers.0.mixer.v_proj.weight"), "ternary2");
    cr_expect_str_eq(line_of(p, "layers.0.ffn.up_proj.weight"), "int8", "of another class than [linear]");
    cr_expect_str_eq(line_of(p, "layers.0.norm1.weight"), "");
    packed_close(p);
    const char *none[] = { "layers.1.*=tl2" }, *unknown[] = { "tl3" };
    cr_expect_eq(to("run", none, 1, false, "y.b158"), CHI_ECONF);
    cr_expect(strstr(fail_text(), "no weights of this model match"), "%s", fail_text());
    cr_expect_neq(to("run", unknown, 1, false, "y.b158"), CHI_OK);
    cr_expect_eq(to("run", some, 3, false, "x.b158"), CHI_ECONF, "the file is there already");
    cr_expect(strstr(fail_text(), "x.b158 is there already"), "%s", fail_text());
    cr_expect_not(fs_exists("y.b158"));
}

/* ---- losses ------------------------------------------------------------------------------------------------------ */

Test(convert, requantize)
{
    make_run("run", 256, "[linear]\nquantizer = ternary\n");
    const char *tq = "tq2_0";
    cr_expect_eq(to_one("run", tq, "x.b158"), CHI_ECONF);
    cr_expect(strstr(fail_text(), "layers.0.mixer.q_proj") && strstr(fail_text(), "--requantize"), "%s", fail_text());
    cr_assert_eq(to("run", &tq, 1, true, "x.b158"), CHI_OK, "%s", fail_text());
    char line[256];
    FILE *f = fopen("report", "r");
    int64_t lines = 0;
    while (fgets(line, sizeof line, f)) {
        double error = -1;
        bool embed = !strncmp(line, "embed ", 6);
        lines++;
        if (embed) cr_expect(strstr(line, "f32 -> f32") && strstr(line, "exact\n"), "%s", line);
        else cr_expect(sscanf(strstr(line, "error"), "error %lf", &error) == 1 && error > 1e-4 && error < 0.1, "%s",
                       line);
    }
    fclose(f);
    cr_expect_eq(lines, 9);
    float want[LOGITS], got[LOGITS];
    logits("x.b158", want);                             /* what was lost is lost: from here on it is exact       */
    cr_assert_eq(to_one("x.b158", "ternary2", "y.b158"), CHI_OK, "%s", fail_text());
    logits("y.b158", got);
    cr_expect_eq(memcmp(want, got, sizeof want), 0);
}

/* extra_rmsnorm belongs to integers: floats in their place would be another model                                 */
Test(convert, requantize_keeps_the_network)
{
    const char *f32 = "f32", *tl2 = "tl2";
    make_run("run", 64, "[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n");
    cr_expect_eq(to("run", &f32, 1, true, "x.b158"), CHI_ECONF);
    cr_expect(strstr(fail_text(), "extra_rmsnorm"), "%s", fail_text());
    make_run("plain", 64, "[linear]\nquantizer = f32\n");
    cr_assert_eq(to("plain", &tl2, 1, true, "y.b158"), CHI_OK, "%s", fail_text());
    float y[LOGITS];
    logits("y.b158", y);
    cr_expect(isfinite(y[0]));
}

Test(convert, what_a_class_holds)
{
    static const struct { const char *values; int8_t q; float scale; bool fits; } n[] = {
        { "ternary", -1, 1, true }, { "ternary", 1, -0.5f, true }, { "ternary", 2, 1, false },
        { "ternary", -2, 1, false }, { "ternary", -128, 1, false }, { "int8", 127, 1, true },
        { "int8", -127, 1, true }, { "int8", -128, 1, false }, { "int8", 0, INFINITY, false }, { "int8", 0, NAN, false },
    };
    for (int64_t i = 0; i < COUNT(n); i++)
        cr_expect_eq(values_fit(n[i].values, (int8_t[]){ 0, n[i].q, 0 }, (float[]){ 1, n[i].scale }, 3, 2), n[i].fits,
                     "%s: %d", n[i].values, n[i].q);
    cr_expect(values_fit("f32", NULL, (float[]){ -3 }, 0, 1) && !values_fit("f32", NULL, (float[]){ -INFINITY }, 0, 1));
}

/* ---- files that lie ---------------------------------------------------------------------------------------------- */

/* A changed packed file with hashes that fit again                                                                */
static void reseal(unsigned char *b, int64_t n, const char *name, int64_t at, int change)
{
    struct st_file *f;
    char was[20], is[20];
    cr_assert_eq(st_open_bytes(&f, "was", b, n), CHI_OK, "%s", fail_text());
    const struct st_tensor *t = st_find(f, name);
    unsigned char *data = (unsigned char *)(uintptr_t)t->data;
    snprintf(was, sizeof was, "%016llx", (unsigned long long)xxh3(data, (size_t)t->bytes));
    data[at] = (unsigned char)change;
    snprintf(is, sizeof is, "%016llx", (unsigned long long)xxh3(data, (size_t)t->bytes));
    unsigned char *place = memmem(b, (size_t)(b + n - data > 0 ? data - b : n), was, 16);
    cr_assert(place, "%s", was);
    memcpy(place, is, 16);
    st_close(f);
    cr_assert(st_seal(b, n));
}

static void refused(const char *path, chi_status status, const char *words)
{
    struct spec *spec;
    struct model *m;
    cr_expect_eq(run_load_model(path, NULL, 0, NULL, 0, ROWS, 1, &spec, &m), status, "%s: %s", path, fail_text());
    cr_expect(strstr(fail_text(), words), "%s lacks: %s", fail_text(), words);
    struct convert_request r = { .subject = path, .out = "never.b158" };
    cr_expect_eq(convert(&r, stdout), status, "%s", path);
    cr_expect_not(fs_exists("never.b158"));
}

static void write_file(const char *path, const unsigned char *b, int64_t n)
{
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(b, 1, (size_t)n, f) == (size_t)n && fclose(f) == 0);
}

/* Replaces text in the header by text of the same length                                                           */
static void edit(const char *from, const char *path, const char *old, const char *new)
{
    int64_t n;
    unsigned char *b = bytes_of(from, &n), *at = memmem(b, (size_t)n, old, strlen(old));
    cr_assert(at && strlen(old) == strlen(new), "%s", old);
    memcpy(at, new, strlen(new));
    cr_assert(st_seal(b, n));
    write_file(path, b, n);
    mem_free(b);
}

/* Hashes that fit do not make strange bytes weights, nor strange words a model */
Test(convert, well_sealed_lies)
{
    int64_t n;
    make_run("run", 64, "[linear]\nquantizer = ternary\n");
    const char *const q = "layers.0.mixer.q_proj.weight";
    static const struct { const char *encoding; int64_t at; int byte; } bad[] = {
        { "ternary2", 5, 0xff },        /* code 3                                                          */
        { "tl2", 0, 0xe0 },             /* index 14                                                        */
        { "base3", 0, 243 },
        { "tl2", 221, 0x7c },           /* a scale that is infinite                                        */
    };
    for (int64_t i = 0; i < COUNT(bad); i++) {
        cr_assert_eq(to_one("run", bad[i].encoding, "good.b158"), CHI_OK, "%s", fail_text());
        unsigned char *b = bytes_of("good.b158", &n);
        reseal(b, n, q, bad[i].at, bad[i].byte);
        write_file("bad.b158", b, n);
        refused("bad.b158", CHI_EDATA, "holds numbers that are no ternary weights");
        struct export_request x = { .subject = "bad.b158", .out = "never.gguf" };
        cr_expect_eq(export_model(&x, stdout), CHI_EDATA, "%s", bad[i].encoding);
        cr_expect(strstr(fail_text(), "holds numbers that are no ternary weights"), "%s", fail_text());
        mem_free(b);
        unlink("good.b158");
    }
    cr_assert_eq(to_one("run", "ternary2", "good.b158"), CHI_OK, "%s", fail_text());
    edit("good.b158", "bad.b158", "encoding=ternary2 shape=64x64", "encoding=ternary2 shape=32x64");
    refused("bad.b158", CHI_EDATA, "is 32 x 64, its configuration wants 64 x 64");
    edit("good.b158", "bad.b158", "encoding=ternary2 shape=64x64 group=128",
         "encoding=ternary2 shape=64x64 group=100");
    refused("bad.b158", CHI_EDATA, "its values is");    /* the same single group either way, but another model */
    edit("good.b158", "bad.b158", "shape=64x64 group=128 act_block=64", "shape=64x64 group=128 act_block=32");
    refused("bad.b158", CHI_EDATA, "wanted is \"encoding=NAME");
    edit("good.b158", "bad.b158", "shape=64x64 group=128", "shape=64x64 group=000");
    refused("bad.b158", CHI_EDATA, "wanted is \"encoding=NAME");
    edit("good.b158", "bad.b158", "encoding=ternary2", "encoding=ternary7");
    refused("bad.b158", CHI_EPLUGIN, "ternary7");
    edit("good.b158", "bad.b158", "encoding=ternary2", "encoding=../../x2");
    refused("bad.b158", CHI_EDATA, "wanted is \"encoding=NAME");
    edit("good.b158", "bad.b158", "chimera.packed 2", "chimera.packed 3");
    refused("bad.b158", CHI_EDATA, "format \"chimera.packed 3\"");
    edit("good.b158", "bad.b158", "head_dim = 32", "head_dim = 16");
    refused("bad.b158", CHI_ESHAPE, "layer.GD.head_dim");
    edit("good.b158", "bad.b158", "\\\"shape\\\":", "\\\"shapo\\\":");
    refused("bad.b158", CHI_EDATA, "its manifest");
}

/* ---- damage: every bit, every length
 * ------------------------------------------------------------------------------ */

/* A small packed file, by the writer alone */
static unsigned char *small_file(int64_t *n)
{
    unsigned char data[192];
    float norm[20];
    char *lines[2], *text = NULL;
    size_t len;
    for (int i = 0; i < 192; i++) data[i] = (unsigned char)(i * 7);
    for (int i = 0; i < 20; i++) norm[i] = (float)i;
    FILE *f = open_memstream(&text, &len);
    struct st_writer *w = st_create(f);
    lines[0] = xprintf("encoding=ternary2 shape=16x16 group=128 act_block=64 xxh3=%016llx",
                       (unsigned long long)xxh3(data, 192));
    lines[1] = xprintf("xxh3=%016llx", (unsigned long long)xxh3(norm, sizeof norm));
    st_want_seal(w);
    st_put_meta(w, "format", PACKED_FORMAT);
    st_put_meta(w, "model_hash", "0123456789abcdef");
    st_put_meta(w, "config", "[model]\n");
    st_put_meta(w, "manifest", "{}");
    st_put_meta(w, "values", "0123456789abcdef");
    st_put_meta(w, "a.weight", lines[0]);
    st_put_meta(w, "norm.weight", lines[1]);
    st_add(w, "a.weight", ST_U8, 1, (const int64_t[]){ 192 });
    st_add(w, "norm.weight", ST_F32, 1, (const int64_t[]){ 20 });
    st_add(w, "pad.1", ST_U8, 1, (const int64_t[]){ 48 });
    cr_assert_eq(st_begin(w), CHI_OK, "%s", fail_text());
    cr_assert_eq(st_write(w, data, 192), CHI_OK);
    cr_assert_eq(st_write(w, norm, sizeof norm), CHI_OK);
    memset(data, 0, 48);
    cr_assert_eq(st_write(w, data, 48), CHI_OK);
    cr_assert_eq(st_finish(w), CHI_OK);
    fclose(f);
    free(lines[0]), free(lines[1]);
    *n = (int64_t)len;
    unsigned char *aligned = mem_take(len + 64, "file");
    memcpy(aligned, text, len);
    free(text);
    return aligned;
}

/* Everything that is read before a kernel sees it */
static chi_status read_bytes(const unsigned char *b, int64_t n)
{
    struct st_file *f;
    struct packed *p;
    const struct packed_tensor *t;
    TRY(st_open_bytes(&f, "file", b, n));
    TRY(packed_from(&p, f, NULL));
    chi_status s = CHI_OK;
    for (int64_t i = 0; s == CHI_OK && (t = packed_at(p, i)); i++) s = packed_check(t);
    packed_close(p);
    return s;
}

Test(convert, every_flipped_bit)
{
    int64_t n;
    unsigned char *b = small_file(&n);
    cr_assert_eq(read_bytes(b, n), CHI_OK, "%s", fail_text());
    cr_assert_eq(n, 4096 + 320);
    for (int64_t bit = 0; bit < 8 * n; bit++) {
        b[bit / 8] ^= (unsigned char)(1 << bit % 8);
        cr_expect_eq(read_bytes(b, n), CHI_EDATA, "bit %ld of byte %ld goes unseen", bit % 8, bit / 8);
        b[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    cr_assert_eq(read_bytes(b, n), CHI_OK, "%s", fail_text());
    mem_free(b);
}

Test(convert, every_length)
{
    int64_t n;
    unsigned char *b = small_file(&n);
    for (int64_t less = 0; less < n; less++) cr_expect_eq(read_bytes(b, less), CHI_EDATA, "the first %ld bytes",
                                                          less);
    for (int64_t more = 1; more <= 64; more++) cr_expect_eq(read_bytes(b, n + more), CHI_EDATA, "%ld bytes more",
                                                            more);
    mem_free(b);
}
