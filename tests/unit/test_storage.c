/* test_storage.c - a packed model on disk: two files that belong together, pages used where they are mapped, and
 * data that are checked once.                                                                              */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "convert.h"
#include "core.h"
#include "export.h"
#include "fs.h"
#include "network.h"
#include "packed.h"
#include "run.h"
#include "signals.h"
#include "tune.h"

enum { ROWS = 5, VOCAB = 41, LOGITS = ROWS * VOCAB };

static char dir[64];

static void setup(void)
{
    strcpy(dir, "/tmp/chi-storage-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(chdir(dir), 0);
    char *cache = fs_join(dir, "cache");
    setenv("XDG_CACHE_HOME", cache, 1);
    free(cache);
    if (!freopen("messages", "w", stderr)) cr_assert_fail("stderr");
}

static void teardown(void)
{
    cr_assert_eq(fs_remove_tree(dir), CHI_OK);
}

TestSuite(storage, .init = setup, .fini = teardown);

static const char *const moe = "ffn_pattern = MOE\n[layer.MOE]\nuse = moe\nmoe_intermediate_size = "
    "32\nn_routed_experts = 3\n";
static const char *const mlp = "ffn_pattern = MLP\n[layer.MLP]\nuse = swiglu\nintermediate_size = 64\n";

static struct spec *open_spec(const char *ffn)
{
    struct config *c;
    struct spec *spec;
    char *text = xprintf("[run]\nthreads = 1\n[model]\nhidden_size = 64\nnum_hidden_layers = 1\nvocab_size = 41\n"
                         "initializer_range = 0.2\nlayer_pattern = GD\n%s[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\n"
                         "head_dim = 32\n[linear]\nquantizer = ternary\n[linear.embed]\nquantizer = int8\n", ffn);
    cr_assert_eq(config_load_text(&c, "test", text, NULL, 0), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&spec, c, SPEC_MODEL), CHI_OK, "%s", fail_text());
    free(text);
    return spec;
}

/* A run with start weights, and what convert makes of it                                                  */
static void make(const char *name, const char *ffn, uint64_t seed, const char *encoding)
{
    char *argv[] = { "chimera", NULL }, *run = xprintf("%s.run", name), *out = xprintf("%s.b158", name);
    struct ckpt_meta meta = { .step = 3 };
    struct model *m;
    struct run *r;
    if (!fs_exists(run)) {
        struct spec *spec = open_spec(ffn);
        cr_assert_eq(model_open(&m, spec, MODEL_TRAIN, 8, 1), CHI_OK, "%s", fail_text());
        cr_assert_eq(model_init(m, seed), CHI_OK, "%s", fail_text());
        cr_assert_eq(run_open(&r, run, spec->config, false, 1, argv), CHI_OK, "%s", fail_text());
        cr_assert_eq(ckpt_save(r, m, NULL, &meta, 1), CHI_OK, "%s", fail_text());
        run_close(r);
        model_close(m);
        spec_close(spec);
    }
    FILE *report = fopen("report", "w");
    struct convert_request q = { .subject = run, .encoding = &encoding, .n_encoding = 1, .out = out };
    cr_assert_eq(convert(&q, report), CHI_OK, "%s", fail_text());
    fclose(report);
    free(run), free(out);
}

static chi_status load(const char *subject, const char *override, struct spec **spec, struct model **m)
{
    char *words[] = { (char *)(uintptr_t)override };
    return run_load_model(subject, words, override != NULL, NULL, 0, ROWS, 1, spec, m);
}

static void refused(const char *subject, const char *override, const char *words)
{
    struct spec *spec;
    struct model *m;
    chi_status s = load(subject, override, &spec, &m);
    cr_expect_eq(s, CHI_EDATA, "%s: %d %s", subject, s, s ? fail_text() : "");
    cr_expect(strstr(fail_text(), words), "%s lacks: %s", fail_text(), words);
    if (s == CHI_OK) model_close(m), spec_close(spec);
}

static void logits_of(struct model *m, const struct spec *spec, float *y)
{
    static const int32_t tokens[ROWS] = { 40, 3, 3, 17, 0 };
    unsigned char *state = mem_take((size_t)model_state_bytes(m), "state");
    float *hidden = mem_take((size_t)(ROWS * spec->model.hidden_size) * sizeof *hidden, "hidden");
    const struct model_segment s = { .tokens = tokens, .rows = ROWS, .fresh = true, .state = state };
    cr_assert_eq(model_forward(m, &s, 1, hidden), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_logits(m, hidden, ROWS, y), CHI_OK, "%s", fail_text());
    mem_free(hidden);
    mem_free(state);
}

static void logits(const char *subject, const char *override, float *y)
{
    struct spec *spec;
    struct model *m;
    cr_assert_eq(load(subject, override, &spec, &m), CHI_OK, "%s", fail_text());
    logits_of(m, spec, y);
    model_close(m);
    spec_close(spec);
}

static void move(const char *from, const char *to)
{
    cr_assert_eq(rename(from, to), 0, "%s", from);
}

static void copy(const char *from, const char *to)
{
    unsigned char *b;
    int64_t n;
    cr_assert_eq(fs_read(from, &b, &n), CHI_OK, "%s", fail_text());
    FILE *f = fopen(to, "wb");
    cr_assert(f && fwrite(b, 1, (size_t)n, f) == (size_t)n && fclose(f) == 0);
    mem_free(b);
}

/* ---- the pair ------------------------------------------------------------------------------------------- */

static char *meta_of(const char *path, const char *key)
{
    struct st_file *f;
    cr_assert_eq(st_open(&f, path), CHI_OK, "%s", fail_text());
    char *text = xstrdup(st_meta(f, key) ? st_meta(f, key) : "");
    st_close(f);
    return text;
}

Test(storage, experts_lie_in_the_second_file)
{
    struct packed *p;
    const struct packed_tensor *t;
    int64_t n[2] = { 0, 0 };
    make("a", moe, 7, "tl2");
    make("plain", mlp, 7, "tl2");
    cr_expect(fs_exists("a_experts.b158") && fs_exists("plain.b158") && !fs_exists("plain_experts.b158"));
    cr_assert_eq(packed_open(&p, "a.b158"), CHI_OK, "%s", fail_text());
    for (int64_t i = 0; (t = packed_at(p, i)); i++) {
        bool expert = strstr(t->t->name, ".ffn.experts.");
        cr_expect_str_eq(t->path, expert ? "a_experts.b158" : "a.b158", "%s", t->t->name);
        cr_expect_eq(packed_find(p, t->t->name), t);
        n[expert]++;
    }
    cr_expect(n[1] == 3 * 3 && n[0] > 5, "%ld experts, %ld others", n[1], n[0]);
    packed_close(p);
}

Test(storage, model_hash)
{
    make("a", moe, 7, "tl2");
    move("a.b158", "b.b158"), move("a_experts.b158", "b_experts.b158");
    make("a", moe, 7, "ternary2");
    make("c", moe, 8, "tl2");
    make("d", "ffn_pattern = MOE\n[layer.MOE]\nuse = moe\nmoe_intermediate_size = 32\nn_routed_experts = 3\n"
         "route_scale = 2\n", 7, "tl2");
    char *a = meta_of("a.b158", "model_hash"), *b = meta_of("b.b158", "model_hash"),
        *e = meta_of("a_experts.b158", "model_hash");
    char *c = meta_of("c.b158", "model_hash"), *d = meta_of("d.b158", "model_hash"),
        *was = meta_of("a.b158", "manifest");
    char *values = meta_of("a.b158", "values");
    uint64_t hash;
    cr_expect(strlen(a) == 16 && !strcmp(a, e), "both files say the same");
    cr_expect_str_eq(a, b, "whatever the encoding");
    cr_expect(strcmp(a, c) && strcmp(a, d) && strcmp(c, d), "other numbers or another network: %s %s %s", a, c, d);
    cr_assert_eq(packed_model_hash(was, strtoull(values, NULL, 16), &hash), CHI_OK);
    cr_expect_eq(hash, strtoull(a, NULL, 16));
    free(a), free(b), free(c), free(d), free(e), free(was), free(values);
}

static uint64_t hash_with(const char *kind, const char *name, const char *section, int revision)
{
    uint64_t hash;
    char *text = xprintf("{\"components\":[{\"kind\":\"%s\",\"name\":\"%s\",\"section\":\"%s\",\"revision\":%d}]}",
                         kind, name, section, revision);
    cr_assert_eq(packed_model_hash(text, 1, &hash), CHI_OK, "%s", fail_text());
    free(text);
    return hash;
}

/* Of the components those that decide what a model says, with all that tells them apart                          */
Test(storage, model_hash_of_components)
{
    static const char *const in[] = { "layer", "loop", "adapter", "quantizer", "tokenizer" },
        *const out[] = { "optimizer", "objective", "task", "backend", "encoding" };
    uint64_t none;
    cr_assert_eq(packed_model_hash("{}", 1, &none), CHI_OK, "%s", fail_text());
    for (int i = 0; i < (int)COUNT(in); i++) {
        uint64_t h = hash_with(in[i], "a", "s", 1);
        cr_expect_neq(h, none, "%s", in[i]);
        cr_expect(h != hash_with(in[i], "b", "s", 1) && h != hash_with(in[i], "a", "t", 1)
                  && h != hash_with(in[i], "a", "s", 2), "%s", in[i]);
        cr_expect_eq(hash_with(out[i], "a", "s", 1), none, "%s", out[i]);
    }
}

Test(storage, a_pair_stays_together)
{
    float want[LOGITS], got[LOGITS];
    make("a", moe, 7, "tl2");
    make("c", moe, 8, "tl2");
    logits("a.b158", NULL, want);
    copy("a.b158", "d.b158"), copy("c_experts.b158", "d_experts.b158");
    logits("d.b158", NULL, got);                            /* the file that it names comes first             */
    cr_expect_eq(memcmp(want, got, sizeof want), 0);
    refused("a_experts.b158", NULL, "holds the experts of a packed model");
    move("a_experts.b158", "kept");
    refused("a.b158", NULL, "a_experts.b158, which is missing");
    copy("c_experts.b158", "a_experts.b158");
    refused("a.b158", NULL, "holds the experts of another model");
    copy("a.b158", "a_experts.b158");
    refused("a.b158", NULL, "a_experts.b158 is no file of experts for a.b158");
    cr_assert_eq(truncate("a_experts.b158", 0), 0);
    refused("a.b158", NULL, "too short");
    unlink("a_experts.b158");
    move("kept", "other_experts.b158"), move("a.b158", "other.b158");
    logits("other.b158", NULL, got);                        /* both got another name                          */
    cr_expect_eq(memcmp(want, got, sizeof want), 0);
    cr_assert_eq(mkdir("folder", 0777), 0);
    move("other.b158", "folder/model.b158"), move("other_experts.b158", "folder/model_experts.b158");
    logits("folder", NULL, got);
    cr_expect_eq(memcmp(want, got, sizeof want), 0);
    cr_assert_eq(mkdir("folder/ckpt", 0777), 0);
    cr_expect(!packed_is("folder"), "a run that was packed into its own folder goes on as a run");
    cr_assert_eq(rmdir("folder/ckpt"), 0);
    struct convert_request q = { .subject = "a.run", .out = "folder/model.b158" };
    cr_expect_eq(convert(&q, stdout), CHI_ECONF);
    unlink("folder/model.b158");
    cr_expect_eq(convert(&q, stdout), CHI_ECONF, "its experts would be replaced");
    cr_expect(strstr(fail_text(), "folder/model_experts.b158 is there already"), "%s", fail_text());
}

/* ---- the writer -------------------------------------------------------------------------------------------- */

enum { N = 50, D = 64 };

/* Two matrices in pieces of so many rows up to row stop, and a vector                                         */
static chi_status put_rows(struct packed_writer *w, int64_t piece, int64_t stop)
{
    int8_t q[N * D];
    float scale[N], norm[D];
    for (int i = 0; i < N * D; i++) q[i] = (int8_t)(i * i % 7 % 3 - 1);
    for (int i = 0; i < N; i++) scale[i] = (float)(i + 1) / 64;
    for (int i = 0; i < D; i++) norm[i] = (float)i;
    for (int k = 2; k >= 0; k -= 2)
        for (int64_t r = 0; r < stop; r += piece)
            TRY(packed_put(w, k, r, min_i64(r + piece, N), q + r * D, scale + r));
    cr_expect_eq(packed_put(w, 0, 16, 32, q, scale), CHI_EBUG, "rows that are there already, or come too early");
    return packed_put(w, 1, 0, D, NULL, norm);
}

static chi_status write_rows(const char *path, int64_t piece, int64_t stop)
{
    struct spec *spec = open_spec(mlp);
    const struct chi_component *tl2;
    struct packed_writer *w;
    cr_assert_eq(registry_find(spec->registry, CHI_ENCODING, "tl2", &tl2), CHI_OK);
    const struct packed_entry e[] = {
        { "a.weight", tl2, 128, { N, D } }, { "norm.weight", NULL, 0, { D } },
            { "b.experts.0.weight", tl2, 128, { N, D } } };
    cr_assert_eq(packed_create(&w, path, "[model]\n", "{}", e, 3), CHI_OK, "%s", fail_text());
    chi_status s = put_rows(w, piece, stop);
    if (s == CHI_OK) s = packed_finish(w);
    else packed_abandon(w);
    spec_close(spec);
    return s;
}

Test(storage, rows_in_any_pieces)
{
    unsigned char *a[2], *b[2];
    int64_t na[2], nb[2];
    cr_assert_eq(write_rows("a.b158", 50, 50), CHI_OK, "%s", fail_text());
    cr_assert_eq(mkdir("x", 0777), 0);
    cr_assert_eq(write_rows("x/a.b158", 16, 50), CHI_OK, "%s", fail_text());
    for (int k = 0; k < 2; k++) {
        cr_assert_eq(fs_read(k ? "a_experts.b158" : "a.b158", &a[k], &na[k]), CHI_OK);
        cr_assert_eq(fs_read(k ? "x/a_experts.b158" : "x/a.b158", &b[k], &nb[k]), CHI_OK);
        cr_expect(na[k] == nb[k] && !memcmp(a[k], b[k], (size_t)na[k]));
        mem_free(a[k]), mem_free(b[k]);
    }
    cr_expect_eq(write_rows("y.b158", 16, 16), CHI_EBUG, "half a tensor");
    cr_expect_not(fs_exists("y.b158") || fs_exists("y.b158.tmp") || fs_exists("y_experts.b158.tmp")
                  || fs_exists("y_experts.b158"));
}

static struct packed_writer *new_writer(const struct packed_entry *e, chi_status want)
{
    struct packed_writer *w;
    cr_assert_eq(packed_create(&w, "a.b158", "[model]\n", "{}", e, 2), want, "%s", fail_text());
    return w;
}

/* Two writers of one model: the second is told, and neither harms the other                                     */
Test(storage, one_writer_a_file)
{
    const struct packed_entry e[] = { { "x", NULL, 0, { 16, 4 } }, { "y.experts.0", NULL, 0, { 16, 4 } } };
    float row[64] = { 1 };
    FILE *left = fopen("a.b158.tmp", "w");                  /* by a process that was killed                       */
    cr_assert(left && fputs("half a model, and long enough to be seen", left) >= 0 && fclose(left) == 0);
    struct packed_writer *w = new_writer(e, CHI_OK);
    new_writer(e, CHI_ECONF);
    cr_assert(strstr(fail_text(), "a.b158 is being written by another process"), "%s", fail_text());
    cr_expect_eq(fs_can_write("a.b158"), CHI_OK, "who only asks takes nothing away");
    for (int k = 0; k < 2; k++) cr_assert_eq(packed_put(w, k, 0, 16, NULL, row), CHI_OK, "%s", fail_text());
    cr_assert_eq(packed_finish(w), CHI_OK, "%s", fail_text());
    new_writer(e, CHI_ECONF);
    cr_assert(strstr(fail_text(), "is there already"), "%s", fail_text());
    struct packed *p;
    cr_assert_eq(packed_open(&p, "a.b158"), CHI_OK, "%s", fail_text());
    for (int k = 0; k < 2; k++) cr_expect_eq(packed_check(packed_at(p, k)), CHI_OK);
    packed_close(p);
}

/* Ours before libc's: what a writer does with its files, and another one that ends between its open() and flock()   */
static ino_t synced[8];
static int n_synced;
static const char *another_ends;               /* and gives its file this name                                      */

int fsync(int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && n_synced < (int)COUNT(synced)) synced[n_synced++] = st.st_ino;
    return (int)syscall(SYS_fsync, fd);
}

int flock(int fd, int how)
{
    char *tmp = xprintf("%s.tmp", another_ends ? another_ends : "");
    if (another_ends) move(tmp, another_ends);
    another_ends = NULL;
    free(tmp);
    return (int)syscall(SYS_flock, fd, how);
}

static bool was_synced(const char *path)
{
    struct stat st;
    bool was = false;
    cr_assert_eq(stat(path, &st), 0, "%s", path);
    for (int i = 0; i < n_synced; i++) was |= synced[i] == st.st_ino;
    return was;
}

static const char whole[] = "what the other one wrote";

static void still_whole(const char *path)
{
    char *said;
    int64_t n;
    cr_assert_eq(fs_read(path, (unsigned char **)&said, &n), CHI_OK, "%s", fail_text());
    cr_expect(n == sizeof whole && !strcmp(said, whole), "%ld bytes are left of %s", n, path);
    mem_free(said);
}

/* Who waited for the name of a file meanwhile has the whole model open, and leaves it as it is                   */
Test(storage, a_writer_that_comes_late_harms_nothing)
{
    const struct packed_entry e[] = { { "x", NULL, 0, { 16, 4 } }, { "y.experts.0", NULL, 0, { 16, 4 } } };
    cr_assert_eq(fs_write_atomic("a.b158.tmp", whole, sizeof whole), CHI_OK);
    another_ends = "a.b158";
    new_writer(e, CHI_ECONF);
    cr_expect(!another_ends && strstr(fail_text(), "a.b158 is there already"), "%s", fail_text());
    still_whole("a.b158");
    cr_expect(!fs_exists("a.b158.tmp") && !fs_exists("a_experts.b158.tmp"));
}

Test(storage, one_export_a_file)
{
    int fd;
    struct export_request x = { .subject = "a.b158", .out = "x.gguf" };
    make("a", mlp, 7, "tl2");
    cr_assert_eq(fs_open_alone("x.gguf.tmp", "x.gguf", &fd), CHI_OK, "%s", fail_text());
    cr_assert_eq(write(fd, whole, sizeof whole), (ssize_t)sizeof whole);
    cr_assert_eq(export_model(&x, stdout), CHI_ECONF);
    cr_expect(strstr(fail_text(), "x.gguf is being written by another process"), "%s", fail_text());
    still_whole("x.gguf.tmp");
    close(fd);
    another_ends = "x.gguf";
    cr_assert_eq(export_model(&x, stdout), CHI_ECONF);
    cr_expect(!another_ends && strstr(fail_text(), "x.gguf is there already"), "%s", fail_text());
    still_whole("x.gguf");
    cr_expect(!fs_exists("x.gguf.tmp"));
}

Test(storage, a_tensor_that_nobody_wrote)
{
    const struct packed_entry e[] = { { "x", NULL, 0, { 16, 4 } }, { "y", NULL, 0, { 16, 4 } } };
    struct packed_writer *w = new_writer(e, CHI_OK);
    cr_assert_eq(packed_put(w, 0, 0, 16, NULL, (float[64]){ 1 }), CHI_OK, "%s", fail_text());
    cr_assert_eq(packed_finish(w), CHI_EBUG);
    cr_expect(!fs_exists("a.b158") && !fs_exists("a.b158.tmp"));
}

Test(storage, both_files_are_on_the_disk_before_they_have_their_names)
{
    cr_assert_eq(write_rows("a.b158", 50, 50), CHI_OK, "%s", fail_text());
    cr_expect(was_synced("a.b158") && was_synced("a_experts.b158"));
}

Test(storage, no_experts_without_a_main_file)
{
    const struct packed_entry e[] = { { "x", NULL, 0, { 16, 4 } }, { "y.experts.0", NULL, 0, { 16, 4 } } };
    float row[64] = { 1 };
    struct packed_writer *w = new_writer(e, CHI_OK);
    for (int k = 0; k < 2; k++) cr_assert_eq(packed_put(w, k, 0, 16, NULL, row), CHI_OK, "%s", fail_text());
    cr_assert_eq(mkdir("a.b158", 0777), 0);                 /* in the way of its name                             */
    cr_assert_eq(packed_finish(w), CHI_EIO);
    cr_assert(strstr(fail_text(), "a.b158"), "%s", fail_text());
    cr_expect(!fs_exists("a_experts.b158") && !fs_exists("a.b158.tmp") && !fs_exists("a_experts.b158.tmp"));
    cr_assert_eq(rmdir("a.b158"), 0);
    w = new_writer(e, CHI_OK);
    for (int k = 0; k < 2; k++) cr_assert_eq(packed_put(w, k, 0, 16, NULL, row), CHI_OK, "%s", fail_text());
    cr_assert_eq(mkdir("a_experts.b158", 0777), 0);         /* nor the other way about                            */
    cr_assert_eq(packed_finish(w), CHI_EIO);
    cr_expect(!fs_exists("a.b158") && !fs_exists("a.b158.tmp") && !fs_exists("a_experts.b158.tmp"));
}

static chi_status interrupted(const char *out, const char *gguf)
{
    struct convert_request q = { .subject = "a.b158", .out = out, .quiet = true };
    struct export_request x = { .subject = "a.b158", .out = gguf };
    FILE *report = fopen("report", "w");
    chi_status s = out ? convert(&q, report) : export_model(&x, report);
    fclose(report);
    return s;
}

/* Nor of the packed model by way of which a run goes out                                                        */
Test(storage, an_export_of_a_run_cleans_up)
{
    struct export_request x = { .subject = "a.run", .out = "x.gguf" };
    FILE *report = fopen("report", "w");
    make("a", moe, 7, "tl2");
    cr_assert_eq(export_model(&x, report), CHI_OK, "%s", fail_text());
    fclose(report);
    cr_expect(fs_exists("x.gguf") && !fs_exists("x.gguf.tmp.b158") && !fs_exists("x.gguf.tmp_experts.b158"));
}

/* Nothing stays of what a signal stops                                                                          */
Test(storage, a_signal_ends_writing)
{
    make("a", mlp, 7, "tl2");
    signals_catch();
    cr_assert_eq(raise(SIGTERM), 0);
    cr_expect_eq(interrupted("b.b158", NULL), CHI_EREFUSED);
    cr_expect(strstr(fail_text(), "SIGTERM came"), "%s", fail_text());
    cr_expect_eq(interrupted(NULL, "b.gguf"), CHI_EREFUSED);
    signals_release();
    const char *const gone[] = { "b.b158", "b.b158.tmp", "b.gguf", "b.gguf.tmp" };
    for (int i = 0; i < COUNT(gone); i++) cr_expect(!fs_exists(gone[i]), "%s", gone[i]);
}

/* A file system that stamps whole seconds, or every second one, needs longer                                    */
Test(storage, a_coarse_clock_is_waited_for)
{
    struct stat st = { .st_ctim = { 1000, 1 } };
    const struct timespec soon = { 1000, 90000000 }, later = { 1000, 200000000 }, much_later = { 1002, 200000000 };
    cr_expect_not(packed_settled(&st, &soon));
    cr_expect(packed_settled(&st, &later));
    st.st_ctim.tv_nsec = 0;
    cr_expect_not(packed_settled(&st, &later));
    cr_expect(packed_settled(&st, &much_later));
}

/* What has been put is the file's, not ours                                                                    */
Test(storage, writing_takes_little_memory)
{
    enum { MANY = 96, WIDE = 1 << 18 };                     /* 96 rows of 1 MB                                   */
    struct packed_writer *w;
    float *row = xcalloc(WIDE * CHI_TILE, sizeof *row);
    const struct packed_entry e[] = { { "x", NULL, 0, { MANY, WIDE } } };
    for (int64_t i = 0; i < WIDE * CHI_TILE; i++) row[i] = (float)i;
    cr_assert_eq(packed_create(&w, "a.b158", "[model]\n", "{}", e, 1), CHI_OK, "%s", fail_text());
    int64_t before = rss_bytes(), most = 0;
    for (int64_t r = 0; r + CHI_TILE < MANY; r += CHI_TILE) {
        cr_assert_eq(packed_put(w, 0, r, r + CHI_TILE, NULL, row), CHI_OK, "%s", fail_text());
        most = max_i64(most, rss_bytes() - before);
    }
    cr_expect_lt(most, 24 << 20, "%ld bytes more", most);
    packed_abandon(w);
    cr_expect_not(fs_exists("a.b158.tmp"));
    free(row);
}

/* ---- mapped or copied ---------------------------------------------------------------------------------------- */

static int64_t mapped_linears(const struct model *m)
{
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) {
            const struct chi_linear *l = m->all[i]->param[j].linear;
            char *name = l ? xprintf("%s.weight", l->name) : NULL;
            const struct packed_tensor *t = l ? packed_find(m->spec->packed, name) : NULL;
            cr_expect(!t || l->mapped == (l->bytes == t->t->data));
            n += t && l->mapped;
            free(name);
        }
    return n;
}

Test(storage, mapping_is_copying)
{
    static const char *const encoding[] = { "tl2", "ternary2", "base3" };
    for (int k = 0; k < COUNT(encoding); k++) {
        float y[2][LOGITS], run[LOGITS];
        fs_remove_tree("a.b158"), fs_remove_tree("a_experts.b158");
        make("a", moe, 7, encoding[k]);
        logits("a.run", NULL, run);
        for (int how = 0; how < 2; how++) {
            struct spec *spec;
            struct model *m;
            cr_assert_eq(load("a.b158", how ? "run.weights=copy" : "run.weights=map", &spec, &m), CHI_OK, "%s",
                         fail_text());
            int64_t n = mapped_linears(m);
            cr_expect(how ? n == 0 : n > 15, "%ld linears are mapped", n);
            logits_of(m, spec, y[how]);
            model_close(m);
            spec_close(spec);
        }
        cr_expect(!memcmp(y[0], run, sizeof run) && !memcmp(y[1], run, sizeof run), "%s", encoding[k]);
    }
}

/* ---- verification ----------------------------------------------------------------------------------------------- */

static bool looks(const char *path, int level)
{
    struct packed *p;
    struct model *plan;
    bool looked = false;
    cr_assert_eq(packed_open(&p, path), CHI_OK, "%s", fail_text());
    struct spec *spec = open_spec(packed_file(p, 1) ? moe : mlp);
    spec->packed = p;
    cr_assert_eq(model_open(&plan, spec, MODEL_PLAN, 1, 1), CHI_OK, "%s", fail_text());
    cr_expect_eq(model_verify(plan, level, &looked), CHI_OK, "%s", fail_text());
    model_close(plan);
    spec_close(spec);
    return looked;
}

static void flip(const char *path, int64_t from_end)
{
    struct stat st;
    unsigned char b;
    int fd = open(path, O_RDWR);
    cr_assert(fd >= 0 && fstat(fd, &st) == 0 && pread(fd, &b, 1, st.st_size - from_end) == 1);
    b ^= 4;
    cr_assert_eq(pwrite(fd, &b, 1, st.st_size - from_end), 1);
    close(fd);
}

Test(storage, verified_once)
{
    float y[LOGITS];
    make("a", moe, 7, "ternary2");
    bool young = false;
    /* a busy machine may need longer than a tenth of a second */
    for (int tries = 0; tries < 20 && !young; tries++) {
        cr_assert_eq(chmod("a.b158", 0600 + tries), 0);
        cr_assert(looks("a.b158", VERIFY_ONCE), "the ctime has moved");
        young = looks("a.b158", VERIFY_ONCE);
    }
    cr_expect(young, "what changed just now is remembered");
    cr_assert_eq(chmod("a.b158", 0644), 0);
    usleep(150000);
    cr_expect_not(looks("a.b158", VERIFY_NO));
    cr_expect(looks("a.b158", VERIFY_ONCE), "the first time");
    cr_expect_not(looks("a.b158", VERIFY_ONCE), "the second time");
    cr_expect(looks("a.b158", VERIFY_FULL));
    copy("a.b158", "b.b158"), copy("a_experts.b158", "b_experts.b158");
    usleep(150000);
    cr_expect(looks("b.b158", VERIFY_ONCE), "a copy is another file");
    cr_expect_not(looks("b.b158", VERIFY_ONCE));
    struct stat st;
    cr_assert_eq(stat("a_experts.b158", &st), 0);
    flip("a_experts.b158", 2000);
    const struct timespec times[] = { st.st_atim, st.st_mtim };
    cr_assert_eq(utimensat(AT_FDCWD, "a_experts.b158", times, 0), 0);  /* only its ctime tells                  */
    refused("a.b158", NULL, "a_experts.b158: tensor layers.0.ffn.experts.");
    refused("a.b158", "run.verify=full", "is damaged");
    logits("a.b158", "run.verify=no", y);
}

/* Where a line of the file stands in the cache nobody looks, and only there                                        */
Test(storage, what_is_remembered_is_an_identity)
{
    struct stat st;
    make("a", mlp, 7, "ternary2");
    usleep(150000);
    cr_expect(looks("a.b158", VERIFY_ONCE));
    flip("a.b158", 2000);
    refused("a.b158", NULL, "is damaged");
    cr_assert_eq(stat("a.b158", &st), 0);
    char *seal = meta_of("a.b158", "header_xxh3");
    FILE *f = fopen("cache/chimera/verified", "w");
    cr_assert(f);
    fprintf(f, "%s %llu %llu %lld %lld.%09ld %lld.%09ld %s %s/a.b158\n", CHIMERA_VERSION,
            (unsigned long long)st.st_dev,
            (unsigned long long)st.st_ino, (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
            (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec, seal, dir);
    fclose(f);
    cr_expect_not(looks("a.b158", VERIFY_ONCE), "data are read though they are remembered");
    refused("a.b158", "run.verify=full", "is damaged");
    free(seal);
}

/* Bytes that nobody verified: whatever they are, a kernel and decode() stay inside the matrix */
static void check_wild(const struct spec *spec, const struct chi_component *c, int64_t d_out, int64_t d_in)
{
    const struct chi_encoding_ops *e = c->ops;
    struct contender by[CONTENDERS_MAX];
    enum { BATCH = 5, MOST = 512 };
    static float x[BATCH * MOST], step[BATCH * MOST / 64], y[BATCH * 64], scale[MOST * 64];
    static int8_t q[BATCH * MOST], w[64 * MOST];
    static int16_t sum[BATCH * MOST / 64];
    int64_t group = !e->portable->integer ? 1 : !strcmp(e->values, "int8") ? d_in : 256,
        n = e->bytes(d_out, d_in, group);
    if (!n) return;
    int64_t page = sysconf(_SC_PAGESIZE), room = round_up(n, page);
    unsigned char *map = mmap(NULL, (size_t)(room + page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                              0);
    cr_assert(map != MAP_FAILED && mprotect(map + room, (size_t)page, PROT_NONE) == 0);
    unsigned char *b = map + room - n;
    for (int i = 0; i < BATCH * d_in; i++) x[i] = 1, q[i] = (int8_t)(i % 255 - 127);
    for (int i = 0; i < BATCH * MOST / 64; i++) step[i] = 1, sum[i] = 3;
    int k = contenders(spec, c, d_out, d_in, group, false, by);
    for (int fill = 0; fill < 4; fill++) {
        for (int64_t i = 0; i < n; i++) b[i] = (unsigned char)(fill == 3 ? i * i * 31 + i / 7 : fill == 2 ? 0
                                                               : fill ? 0xff : 0xe7);
        e->decode(b, e->portable->integer ? w : NULL, scale, d_out, d_in, group, 0, d_out);
        for (int i = 0; i < k; i++)
            for (int64_t rows = 1; rows <= BATCH; rows += BATCH - 1) {
                struct chi_act act = { rows, d_in, x, d_in, q, round_up(d_in, 64), step, sum };
                struct chi_matrix m = { b, d_out, d_in, group };
                const struct chi_linear_kernel *f = by[i].kernel;
                int64_t bytes = f->scratch_bytes ? f->scratch_bytes(rows, d_in) : 0;
                void *packed = f->pack_bytes ? mem_take((size_t)f->pack_bytes(d_out, d_in, group), "pack") : NULL;
                void *scratch = mem_take((size_t)bytes + 64, "scratch");
                if (packed) f->pack(packed, &m), m.bytes = packed;
                f->run(y, d_out, &act, &m, 0, d_out, scratch);
                mem_free(scratch);
                mem_free(packed);
            }
    }
    munmap(map, (size_t)(room + page));
}

Test(storage, wild_bytes_stay_inside)
{
    struct spec *spec = open_spec(mlp);
    const struct chi_component *c;
    int64_t n = 0;
    for (; (c = registry_component(spec->registry, CHI_ENCODING, n)); n++) {
        check_wild(spec, c, 32, 512);
        check_wild(spec, c, 41, 256);
    }
    cr_expect_geq(n, 8);
    spec_close(spec);
}
