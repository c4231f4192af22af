/* test_tune.c - who multiplies: by rank, by times in the cache, by force; and times that cannot
 * be trusted.  The mock backends hare (rank 90) and snail (rank 1) sign what they compute. */
#include <stdatomic.h>

#include "mocks.h"

#include "bench_limit.h"
#include "fs.h"
#include "hosting.h"
#include "linear.h"
#include "network.h"
#include "pool.h"
#include "reference.h"
#include "tune.h"

TestSuite(tune, .init = mocks_setup, .fini = mocks_teardown);

enum { IN = 128, OUT = 32, ROWS = 3, HARE = 2000, SNAIL = 1000 };

static void must(chi_status s)
{
    cr_assert_eq(s, CHI_OK, "%s", fail_text());
}

/* Layers of a mixer whose gate is [OUT, IN] and a channel mixer so wide               */
static struct spec *open_wide(const char *backend, int64_t layers, int64_t wide)
{
    struct config *config;
    struct spec *s;
    char *mock = mock_path("racers");
    char *load = xprintf("plugins.load=%s", mock), *const set[] = { load };
    char *text = xprintf("[run]\nthreads = 1\n[backend]\n%s\n[model]\nhidden_size = %d\n"
                         "num_hidden_layers = %lld\nvocab_size = 9\nlayer_pattern = X\nffn_pattern = Y\n"
                         "[layer.X]\nuse = swiglu\nintermediate_size = %d\n[layer.Y]\nuse = swiglu\nintermediate_size = %lld\n"
                         "[linear]\nquantizer = ternary\nencoding = ternary2\n", backend, IN, (long long)layers, OUT,
                         (long long)wide);
    must(config_load_text(&config, "test", text, set, COUNT(set)));
    must(spec_open(&s, config, SPEC_MODEL));
    free(text);
    free(load);
    free(mock);
    return s;
}

static struct spec *open_with(const char *backend)
{
    return open_wide(backend, 1, 8);
}

/* The first output of a call with so many rows                                     */
static int answer(struct spec *s, int64_t rows)
{
    struct chi_linear l = { .name = "layers.0.mixer.a", .d_out = OUT, .d_in = IN };
    const struct chi_linear *lin = &l;
    static float w[OUT * IN], x[ROWS * IN], out[ROWS * OUT];
    float *y = out;
    for (int i = 0; i < OUT * IN; i++) w[i] = (float)(i % 7) - 3;
    for (int i = 0; i < ROWS * IN; i++) x[i] = (float)(i % 5) - 2;
    struct chi_host *h = host_open(s, "test");
    struct chi_run r = { .h = h, .rows = rows };
    must(linear_choose(&l, s));
    must(pool_scratch(linear_scratch(&l, ROWS)));
    must(linear_room(ROWS, IN, 0, false));
    must(linear_bind(&l, w, 1));
    must(linears(&lin, 1, &r, x, rows, &y));
    linear_drop(&l);
    linear_room_drop();
    host_close(h);
    return (int)out[OUT * rows - 1];
}

static void expect(const char *backend, int one, int many)
{
    struct spec *s = open_with(backend);
    int a = answer(s, 1), b = answer(s, ROWS);
    bool mine = a == HARE || a == SNAIL || b == HARE || b == SNAIL;
    if (one) cr_expect(a == one && b == many, "%s: %d and %d, wanted %d and %d", backend, a, b, one, many);
    else cr_expect(!mine, "%s: %d and %d, wanted neither's", backend, a, b);
    spec_close(s);
}

/* Times for every kernel that can serve: hare and snail as given, others hopeless; returns the file.
 * Times that lie there stay                                                                         */
static char *keep_of(int64_t threads, bool memory, double hare_one, double hare_many, double snail_one, double snail_many)
{
    struct spec *s = open_with("");         /* it reads them                                       */
    const struct chi_component *e;
    struct contender c[CONTENDERS_MAX];
    char *path;
    must(registry_find(s->registry, CHI_ENCODING, "ternary2", &e));
    int n = contenders(s, e, OUT, IN, 128, false, c);
    cr_assert_geq(n, 3);
    for (int i = 0; i < n; i++) {
        bool hare = !strcmp(c[i].backend, "hare"), snail = !strcmp(c[i].backend, "snail");
        struct tune_time t = { .encoding = "ternary2", .d_out = OUT, .d_in = IN, .group = 128, .threads = threads,
                               .memory = memory,
                               .one = hare ? hare_one : snail ? snail_one : 99,
                               .many = hare ? hare_many : snail ? snail_many : 99 };
        snprintf(t.backend, sizeof t.backend, "%s", c[i].backend);
        tune_put(&s->tune, &t);
    }
    must(tune_write(s->tune, s, &path));
    spec_close(s);
    return path;
}

static char *keep_times(int64_t threads, double hare_one, double hare_many, double snail_one, double snail_many)
{
    return keep_of(threads, false, hare_one, hare_many, snail_one, snail_many);
}

Test(tune, without_times_the_rank_decides)
{
    expect("", HARE, HARE);
}

Test(tune, times_decide_where_there_are_some)
{
    free(keep_times(1, 9, 90, 5, 50));
    expect("", SNAIL, SNAIL);
    expect("autotune = no", HARE, HARE);
    free(keep_times(1, 9, 50, 5, 90));                  /* each what it is better at           */
    expect("", SNAIL, HARE);
    free(keep_times(1, 9, 90, 8.9, 89));                /* within what a kernel differs from itself */
    expect("", HARE, HARE);
}

Test(tune, times_of_other_threads_are_no_times)
{
    free(keep_times(2, 9, 90, 5, 50));
    expect("", HARE, HARE);
}

/* Who multiplies by the first mixer's gate in a planned model, which fits the cache or does not     */
static void expect_gate(bool fits, const char *backend)
{
    int64_t wide = fits ? 8 : 1 << 20, layers = fits ? 1 : 1 + limit_bytes() / (IN * wide / 2);
    struct spec *s = open_wide("", layers, wide);
    struct contender c[CONTENDERS_MAX];
    const struct chi_component *e;
    const struct chi_linear *gate = NULL;
    struct model *m;
    must(registry_find(s->registry, CHI_ENCODING, "ternary2", &e));
    must(model_open(&m, s, MODEL_PLAN, 1, 1));
    for (int64_t i = 0; i < m->block[0].mixer.n_param; i++) {
        const struct chi_linear *l = m->block[0].mixer.param[i].linear;
        if (l && l->d_out == OUT) gate = l;
    }
    cr_assert_not_null(gate);
    int n = contenders(s, e, OUT, IN, 128, false, c);
    for (int i = 0; i < n; i++)
        if (c[i].kernel == gate->kernel) cr_expect_str_eq(c[i].backend, backend, "%s, %ld layers", c[i].backend, (long)layers);
    linear_room_drop();
    model_close(m);
    spec_close(s);
}

/* The same matrix in a model that the cache holds, and in one that comes from memory                */
Test(tune, cached_and_uncached_models_share_no_times)
{
    free(keep_of(1, true, 9, 90, 5, 50));
    expect_gate(true, "hare");                 /* the rank: there are no times yet                    */
    expect_gate(false, "snail");
    free(keep_of(1, false, 3, 30, 6, 60));
    expect_gate(true, "hare");
    expect_gate(false, "snail");
    free(keep_of(1, false, 6, 60, 3, 30));
    free(keep_of(1, true, 5, 50, 9, 90));
    expect_gate(true, "snail");
    expect_gate(false, "hare");
}

Test(tune, use_forces)
{
    expect("use = snail", SNAIL, SNAIL);
    expect("use = portable", 0, 0);
    free(keep_times(1, 9, 90, 5, 50));
    expect("use = hare, snail", HARE, HARE);
    expect("use = portable", 0, 0);
}

Test(tune, a_damaged_file_is_left_alone)
{
    char *path = keep_times(1, 9, 90, 5, 50);
    struct spec *s = open_with("autotune = no");
    unsigned char *bytes;
    int64_t n;
    log_file(NULL);
    must(fs_read(path, &bytes, &n));
    for (int64_t i = 0; i < n; i += 5) {
        bytes[i] ^= (unsigned char)(1 << i % 8);
        must(fs_write_atomic(path, bytes, n));
        cr_expect_null(tune_read(s), "byte %ld", (long)i);
        bytes[i] ^= (unsigned char)(1 << i % 8);
    }
    for (int64_t cut = 0; cut < n; cut += 7) {
        must(fs_write_atomic(path, bytes, cut));
        cr_expect_null(tune_read(s), "cut to %ld", (long)cut);
    }
    expect("", HARE, HARE);
    must(fs_write_atomic(path, bytes, n));
    struct tune *t = tune_read(s);
    cr_expect_not_null(t);
    tune_close(t);
    mem_free(bytes);
    spec_close(s);
    free(path);
    expect("", SNAIL, SNAIL);
}

/* Different bytes: one kernel has to do both                                        */
static int64_t some_bytes(int64_t d_out, int64_t d_in, int64_t group)
{
    (void)group;
    return d_out * d_in;
}

Test(tune, a_pack_serves_every_number_of_rows)
{
    static const struct tune_time fast_one = { .one = 1, .many = 100 }, fast_many = { .one = 3, .many = 10 };
    static const struct chi_linear_kernel plain = { .struct_size = sizeof plain },
        packs = { .pack_bytes = some_bytes };
    struct contender c[2] = { { "a", 2, &plain, &fast_one }, { "b", 1, &plain, &fast_many } };
    struct choice by = choose_kernels(c, 2);
    cr_expect(by.one == 0 && by.many == 1 && by.tuned);
    c[1].kernel = &packs;
    by = choose_kernels(c, 2);
    cr_expect(by.one == 1 && by.many == 1 && by.tuned, "%d %d", by.one, by.many);
    c[0].time = NULL;
    by = choose_kernels(c, 2);
    cr_expect(by.one == 0 && by.many == 0 && !by.tuned, "half of the times decided");
}

Test(tune, measuring_fills_every_time)
{
    struct spec *s = open_with("");
    struct chi_linear l = { .name = "layers.0.mixer.a", .d_out = OUT, .d_in = IN };
    struct contender c[CONTENDERS_MAX];
    struct tune_time t[CONTENDERS_MAX] = { 0 };
    must(linear_choose(&l, s));
    int n = contenders(s, l.rule->encoding, OUT, IN, l.group, false, c);
    must(tune_measure(&l, s, l.rule->encoding, c, n, NULL, t));
    for (int i = 0; i < n; i++) {
        cr_expect_str_eq(t[i].backend, c[i].backend);
        cr_expect(t[i].one > 0 && t[i].many > 0 && t[i].threads == 1 && t[i].d_out == OUT && t[i].d_in == IN
                  && !t[i].memory, "%s", t[i].backend);
        if (!strcmp(t[i].backend, "portable")) cr_expect_gt(t[i].many, 4 * t[i].one, "%d rows cost as much as one",
                                                            TUNE_ROWS);
    }
    linear_room_drop();
    spec_close(s);
}

static atomic_int calls;

static void counts(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0, int64_t o1,
                   void *work)
{
    (void)y, (void)ldy, (void)a, (void)m, (void)o1, (void)work;
    if (o0 == 0) atomic_fetch_add(&calls, 1);
}

/* From memory: a call to begin with and one a window, for one row and for many; in the cache windows have hundreds */
Test(tune, from_memory_a_window_is_a_call)
{
    static const struct chi_linear_kernel kernel = { .struct_size = sizeof kernel, .encoding = "ternary2",
                                                     .integer = true, .run = counts };
    struct spec *s = open_with("");
    struct chi_linear l = { .name = "layers.0.mixer.a", .d_out = OUT, .d_in = IN };
    struct tune_time t[1];
    must(linear_choose(&l, s));
    struct contender c = { .backend = "counts", .kernel = &kernel };
    uint8_t *others = mem_take((size_t)limit_bytes(), "other memory");
    cr_assert_not_null(others);
    memset(others, 1, (size_t)limit_bytes());
    must(tune_measure(&l, s, l.rule->encoding, &c, 1, others, t));
    cr_expect_eq(calls, 12, "%d calls", calls);
    cr_expect(t[0].one > 0 && t[0].many > 0 && t[0].memory);
    must(tune_measure(&l, s, l.rule->encoding, &c, 1, NULL, t));
    cr_expect_gt(calls, 30, "%d calls", calls);
    mem_free(others);
    linear_room_drop();
    spec_close(s);
}

Test(tune, every_member_comes_from_the_first_that_has_it)
{
    struct chi_kernels a = { .struct_size = offsetof(struct chi_kernels, softmax), .dot = reference_kernels.dot },
                       b = reference_kernels, out;
    b.dot = NULL;
    b.hebb_rule = NULL;
    b.gemm = (void (*)(bool, bool, int64_t, int64_t, int64_t, const float *, int64_t, const float *, int64_t, float,
                       float *, int64_t))(void (*)(void))must;
    const struct chi_kernels *table[] = { &a, &b };
    kernels_merge(&out, table, 2);
    cr_expect(out.dot == reference_kernels.dot && out.hebb_rule == reference_kernels.hebb_rule);
    cr_expect(out.gemm == b.gemm && out.struct_size == sizeof out);
    for (const struct kernel_member *m = kernel_members; m->name; m++) cr_expect(kernels_have(&out, m), "%s",
                                                                                 m->name);
    cr_expect(kernels_have(&a, &kernel_members[0]) && !kernels_have(&a, &kernel_members[1]));
}
