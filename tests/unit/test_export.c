/* test_export.c - a matrix goes out in blocks of rows: its type, its scales and its bytes are those of all of them,
 * and memory holds a block.                                                                                  */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core.h"
#include "export.h"
#include "fs.h"
#include "gguf.h"
#include "import.h"
#include "init.h"
#include "network.h"
#include "packed.h"
#include "run.h"

enum { ROWS = 17000, COLS = 256 };                      /* a block has 16384 of these rows                      */

static char dir[64];

static void setup(void)
{
    strcpy(dir, "/tmp/chi-export-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(chdir(dir), 0);
    setenv("XDG_CACHE_HOME", dir, 1);
    if (!freopen("messages", "w", stderr)) cr_assert_fail("stderr");
}

static void teardown(void)
{
    cr_assert_eq(fs_remove_tree(dir), CHI_OK);
}

TestSuite(export, .init = setup, .fini = teardown);

/* m/model.b158: a small model with an embedding [rows, COLS] of that quantizer                                     */
static void make(const char *quantizer, int64_t rows)
{
    char *text = xprintf("[run]\nthreads = 1\n[model]\nhidden_size = %d\nnum_hidden_layers = 1\nvocab_size = "
                         "%lld\nlayer_pattern = GD\n"
                         "ffn_pattern = MLP\n[layer.GD]\nuse = gated_deltanet\nnum_heads = 1\nhead_dim = 16\n[layer.MLP]\n"
                         "use = swiglu\nintermediate_size = 32\n[linear]\nquantizer = f32\n[linear.embed]\nquantizer = %s\n",
                         COLS, (long long)rows, quantizer);
    int signal;
    const struct init_request q = { .subject = "m.ini", .out = "m" };
    cr_assert_eq(fs_write_atomic("m.ini", text, (int64_t)strlen(text)), CHI_OK, "%s", fail_text());
    cr_assert_eq(init_model(&q, &signal), CHI_OK, "%s", fail_text());
    free(text);
}

/* out: the model m with these numbers in its embedding, q NULL for floats                                          */
static void replace(const char *out, const int8_t *q, const float *scale)
{
    struct packed *p;
    struct packed_writer *w;
    struct packed_entry entry[64] = { { .name = NULL } };
    const struct packed_tensor *t;
    struct spec *spec;
    struct model *plan;
    int64_t n = 0;
    cr_assert_eq(run_packed_spec("m", NULL, 0, NULL, SPEC_MODEL, &spec), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&plan, spec, MODEL_PLAN, 1, 1), CHI_OK, "%s", fail_text());
    p = spec->packed;
    for (const struct model_tensor *m; (m = model_tensor(plan, n)); n++) {
        t = packed_find(p, m->name);
        entry[n] = (struct packed_entry){ .name = m->name, .group = t->group };
        memcpy(entry[n].shape, m->shape, sizeof m->shape);
        if (*t->encoding) cr_assert_eq(registry_find(spec->registry, CHI_ENCODING, t->encoding, &entry[n].encoding),
                                       CHI_OK);
    }
    cr_assert_eq(packed_create(&w, out, packed_config(p), packed_manifest(p), entry, n), CHI_OK, "%s", fail_text());
    for (int64_t i = 0; i < n; i++) {
        t = packed_find(p, entry[i].name);
        const float *values = (const float *)t->t->data;    /* f32 lies in memory as it is                        */
        bool embed = !strcmp(entry[i].name, "embed.weight");
        cr_assert_eq(packed_put(w, i, 0, entry[i].shape[0], embed ? q : NULL, embed ? scale : values), CHI_OK, "%s",
                     fail_text());
    }
    cr_assert_eq(packed_finish(w), CHI_OK, "%s", fail_text());
    model_close(plan);
    spec_close(spec);
}

/* Exports x.b158 and brings it back: the same file.  The type of the embedding; *scales: do they travel? */
static int there_and_back(bool *scales)
{
    unsigned char *a, *b;
    int64_t n, m;
    FILE *report = fopen("report", "w");
    const struct export_request out = { .subject = "x.b158", .out = "x.gguf" };
    const struct import_request in = { .subject = "x.gguf", .out = "back.b158" };
    cr_assert_eq(export_model(&out, report), CHI_OK, "%s", fail_text());
    cr_assert_eq(import_model(&in, report), CHI_OK, "%s", fail_text());
    fclose(report);
    cr_assert_eq(fs_read("x.b158", &a, &n), CHI_OK);
    cr_assert_eq(fs_read("back.b158", &b, &m), CHI_OK);
    cr_expect(n == m && !memcmp(a, b, (size_t)n), "another model comes back");
    mem_free(a);
    mem_free(b);
    struct gguf_file *g;
    cr_assert_eq(gguf_open(&g, "x.gguf"), CHI_OK, "%s", fail_text());
    cr_assert_eq(gguf_check_seal(g), CHI_OK, "%s", fail_text());
    int type = gguf_find(g, "embed.weight")->type;
    *scales = gguf_find(g, "embed.weight.scale");
    gguf_close(g);
    unlink("x.b158"), unlink("x.gguf"), unlink("back.b158");
    return type;
}

Test(export, one_row_of_the_last_block_decides_the_type)
{
    bool scales;
    float *x = xcalloc(ROWS * COLS, sizeof *x);
    for (int64_t i = 0; i < ROWS * COLS; i++) x[i] = (float)(i % 1000) / 64;
    make("f32", ROWS);
    replace("x.b158", NULL, x);
    cr_expect_eq(there_and_back(&scales), GGUF_F16);
    x[ROWS * COLS - 2] = 1.0f / 3;
    replace("x.b158", NULL, x);
    cr_expect_eq(there_and_back(&scales), GGUF_F32);
    cr_expect_not(scales);
    free(x);
}

/* Trits fit blocks of 256 as long as each scale is a half; ternary2 holds no others, so rows of -1, 0, 1 in int8: the
 * products tell the integers unless one row begins with a 2 */
Test(export, one_row_of_the_last_block_needs_its_scale)
{
    bool scales;
    int8_t *q = xcalloc(ROWS * COLS, 1);
    float *scale = xcalloc(ROWS, sizeof *scale);
    for (int64_t r = 0; r < ROWS; r++) scale[r] = (float)(1 + r % 7) / 8;
    for (int64_t i = 0; i < ROWS * COLS; i++) q[i] = (int8_t)(1 - i % 3);
    make("int8", ROWS);
    for (int64_t r = 0; r < ROWS; r++) q[r * COLS] = 1;
    replace("x.b158", q, scale);
    cr_expect_eq(there_and_back(&scales), GGUF_F16);
    cr_expect_not(scales);
    for (int64_t r = ROWS - 1; r >= 0; r -= ROWS - 1) {     /* nor of the first                                  */
        q[r * COLS] = 2;
        replace("x.b158", q, scale);
        cr_expect_eq(there_and_back(&scales), GGUF_F16);
        cr_expect(scales);
        q[r * COLS] = 1;
    }
    free(q);
    free(scale);
}

/* 10 MB of int8 that become 41 MB of floats */
Test(export, memory_holds_a_block)
{
    struct rusage before, after;
    make("int8", 40000);
    FILE *report = fopen("report", "w");
    const struct export_request out = { .subject = "m", .out = "x.safetensors" };
    getrusage(RUSAGE_SELF, &before);
    cr_assert_eq(export_model(&out, report), CHI_OK, "%s", fail_text());
    getrusage(RUSAGE_SELF, &after);
    fclose(report);
    cr_expect_lt(after.ru_maxrss - before.ru_maxrss, 40 << 10, "%ld kB more", after.ru_maxrss - before.ru_maxrss);
}
