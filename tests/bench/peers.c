/* peers.c - our ternary and int8 products beside llama.cpp's, in one process, in alternating windows.
 *
 *     peers CONF FOLDER [THREADS]     FOLDER has llama.cpp's shared libraries (make bench-peers fetches them)
 *
 * One row: matrices from memory, more of them in turn than a cache holds.  128 rows: one matrix.  Both sides
 * quantise the activations of every product, have their weights in pages of the same kind, and a window is one
 * call: a pass with the threads of our pool, a graph of llama.cpp's, which takes the library that it scores best
 * for this CPU.  All products are the same matrix, and what comes out is compared.  Every figure stands beside
 * reading or vpmaddubsw of the run.                                                                        */
#include "../ggml.h"
#include "bench_kernels.h"
#include "bench_limit.h"
#include "core.h"
#include "linear.h"
#include "pool.h"
#include "rng.h"
#include "run.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 21, ROWS = 128, GROUP = 128, WIDE = 6912, QUANT_ROWS = 16 };
enum { TERNARY2, BASE3, SHERRY125, INT8, OURS, TQ2_0 = OURS, TQ1_0, Q8_0, ALL };

/* rival: whom it is compared with                                                                          */
static const struct { const char *name; int type, rival; } list[ALL] = {
    [TERNARY2] = { "ternary2", 0, TQ2_0 }, [BASE3] = { "base3", 0, TQ1_0 },
    [SHERRY125] = { "sherry125", 0, TQ2_0 }, [INT8] = { "int8", 0, Q8_0 },
    [TQ2_0] = { "TQ2_0", GGML_TQ2_0, 0 }, [TQ1_0] = { "TQ1_0", GGML_TQ1_0, 0 }, [Q8_0] = { "Q8_0", GGML_Q8_0, 0 },
};

struct side {
    const char *name;
    const struct chi_kernels *k;                        /* ours                                             */
    const struct chi_linear_kernel *kernel;
    const struct chi_encoding_ops *encoding;
    struct chi_matrix m;
    struct chi_act a;
    int64_t slice;
    struct ggml_context *context;                       /* or theirs                                        */
    struct ggml_cgraph *graph;
    struct ggml_buffer *buffer, *rest;
    struct ggml_tensor *last;
    uint8_t *weights;                                   /* copies of one matrix                             */
    int64_t bytes, copies, turns;                       /* turns: how many of them a window takes           */
    double seconds[ROUNDS];                             /* a product                                        */
};

struct bench {
    struct spec *spec;
    struct ggml_backend *backend;
    void (*set_threads)(struct ggml_backend *, int);
    float *x, *y, *step;
    int8_t *q;
    int16_t *sum;
};

static int stop(const char *why)
{
    fprintf(stderr, "peers: %s\n", why);
    return 1;
}

/* ---- one matrix for all: one zero in four neighbours, so that sherry125 has it, too -------------------- */

static int trit(int64_t i)
{
    return i % 4 == i / 4 % 4 ? 0 : (uint64_t)i * 0x9e3779b97f4a7c15u >> 40 & 1 ? 1 : -1;
}

static void encode_ours(struct side *s, int64_t d_out, int64_t d_in)
{
    bool int8 = !strcmp(s->encoding->values, "int8");
    int64_t groups = d_in / s->m.group;
    int8_t *w = xcalloc((size_t)(d_out * d_in), 1);
    float *scale = xcalloc((size_t)(d_out * groups), sizeof *scale);
    for (int64_t i = 0; i < d_out * d_in; i++) w[i] = (int8_t)(trit(i) * (int8 ? 127 : 1));
    for (int64_t i = 0; i < d_out * groups; i++) scale[i] = int8 ? 0.5f / 127 : 0.5f;
    s->encoding->encode(s->weights, w, scale, d_out, d_in, s->m.group, 0, d_out);
    free(w), free(scale);
}

static void encode_theirs(struct side *s, int type, int64_t d_out, int64_t d_in)
{
    float *w = xcalloc((size_t)(d_out * d_in), sizeof *w);
    for (int64_t i = 0; i < d_out * d_in; i++) w[i] = 0.5f * (float)trit(i);
    ggml_quantize_chunk(type, w, s->weights, 0, d_out, d_in, NULL);
    free(w);
}

/* ---- ours ---------------------------------------------------------------------------------------------- */

static void quantise_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct side *s = arg;
    const struct chi_act *a = &s->a;
    int64_t blocks = a->ldq / CHI_ACT_BLOCK;
    (void)scratch;
    for (int64_t r = i * QUANT_ROWS; r < min_i64((i + 1) * QUANT_ROWS, a->rows); r++)
        s->k->quantize_i8((int8_t *)(uintptr_t)a->q + r * a->ldq, (float *)(uintptr_t)a->step + r * blocks,
                          (int16_t *)(uintptr_t)a->sum + r * blocks, a->x + r * a->ldx, a->d_in);
}

struct job { const struct side *s; struct chi_matrix m; float *y; };

static void product_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct chi_linear_kernel *k = j->s->kernel;
    int64_t o0 = i * j->s->slice, o1 = min_i64(o0 + j->s->slice, j->m.d_out);
    int64_t need = k->scratch_bytes ? k->scratch_bytes(j->s->a.rows, j->m.d_in) : 0;
    k->run(j->y + o0, j->m.d_out, &j->s->a, &j->m, o0, o1, need ? chi_take(scratch, (size_t)need) : NULL);
}

static void pass(void *arg)
{
    struct job *j = arg;
    const struct side *s = j->s;
    for (int64_t i = 0; i < s->turns; i++) {
        j->m.bytes = s->weights + i * s->bytes;
        pool_run(ceil_div(s->a.rows, QUANT_ROWS), quantise_task, (void *)(uintptr_t)s);
        pool_run(ceil_div(s->m.d_out, s->slice), product_task, j);
    }
}

/* The first usable backend's kernel, else the portable one                                                 */
static const struct chi_linear_kernel *kernel_for(const struct spec *spec, const char *encoding)
{
    for (const struct chi_component **c = spec->backend; *c; c++) {
        const struct chi_backend_ops *o = (*c)->ops;
        for (int i = 0; o->linears && o->linears[i]; i++)
            if (!strcmp(o->linears[i]->encoding, encoding) && !o->linears[i]->pack) return o->linears[i];
    }
    return NULL;
}

static chi_status open_ours(const struct bench *b, struct side *s, int64_t rows, int64_t d_out, int64_t d_in)
{
    const struct chi_component *c;
    TRY(registry_find(b->spec->registry, CHI_ENCODING, s->name, &c));
    s->encoding = c->ops;
    s->k = b->spec->kernels;
    s->kernel = kernel_for(b->spec, s->name);
    if (!s->kernel) s->kernel = s->encoding->portable;
    s->m = (struct chi_matrix){ NULL, d_out, d_in, strcmp(s->encoding->values, "int8") ? GROUP : d_in };
    s->a = (struct chi_act){ rows, d_in, b->x, d_in, b->q, round_up(d_in, CHI_ACT_BLOCK), b->step, b->sum };
    s->slice = linear_slice(rows * d_out * d_in, rows, d_in);
    s->bytes = s->encoding->bytes(d_out, d_in, s->m.group);
    return pool_scratch(64 + (s->kernel->scratch_bytes ? s->kernel->scratch_bytes(rows, d_in) : 0));
}

/* ---- theirs -------------------------------------------------------------------------------------------- */

/* A graph of turns products of the same rows, each with weights of its own                                 */
static bool open_graph(const struct bench *b, struct side *s, int type, int64_t rows, int64_t d_out,
                       int64_t d_in)
{
    size_t room = ggml_tensor_overhead() * (size_t)(2 * s->turns + 8) + ggml_graph_overhead();
    s->context = ggml_init((struct ggml_memory){ room, NULL, true });
    s->graph = ggml_new_graph(s->context);
    s->buffer = ggml_backend_cpu_buffer_from_ptr(s->weights, (size_t)(s->bytes * s->copies));
    struct ggml_tensor *x = ggml_new_tensor_2d(s->context, GGML_F32, d_in, rows);
    for (int64_t i = 0; i < s->turns; i++) {
        struct ggml_tensor *w = ggml_new_tensor_2d(s->context, type, d_in, d_out);
        ggml_backend_tensor_alloc(s->buffer, w, s->weights + i * s->bytes);
        s->last = ggml_mul_mat(s->context, w, x);
        ggml_build_forward_expand(s->graph, s->last);
    }
    s->rest = ggml_backend_alloc_ctx_tensors(s->context, b->backend);
    if (!s->rest) return false;
    ggml_backend_tensor_set(x, b->x, 0, (size_t)(rows * d_in) * sizeof(float));
    return true;
}

static void close_side(struct side *s)
{
    if (s->rest) ggml_backend_buffer_free(s->rest);
    if (s->buffer) ggml_backend_buffer_free(s->buffer);
    if (s->context) ggml_free(s->context);
    mem_free(s->weights);
    *s = (struct side){ .name = s->name };
}

/* ---- a shape ------------------------------------------------------------------------------------------- */

static bool open_side(const struct bench *b, struct side *s, int i, int64_t rows, int64_t d_out, int64_t d_in)
{
    *s = (struct side){ .name = list[i].name };
    if (i < OURS && open_ours(b, s, rows, d_out, d_in) != CHI_OK) return false;
    if (i >= OURS) {
        const struct ggml_traits *t = ggml_get_type_traits(list[i].type);
        s->bytes = d_out * d_in / t->block * (int64_t)t->bytes;
        if (s->bytes % 64) return false;                /* copies begin where our memory is aligned         */
    }
    s->copies = rows > 1 ? 1 : ceil_div(limit_bytes() + (8 << 20), s->bytes);
    s->turns = s->copies;
    s->weights = mem_take((size_t)(s->bytes * s->copies), "weights");
    if (!s->weights) return false;
    if (i < OURS) encode_ours(s, d_out, d_in);
    else encode_theirs(s, list[i].type, d_out, d_in);
    for (int64_t c = 1; c < s->copies; c++) memcpy(s->weights + c * s->bytes, s->weights, (size_t)s->bytes);
    return i < OURS || open_graph(b, s, list[i].type, rows, d_out, d_in);
}

static double window(const struct bench *b, struct side *s)
{
    struct job j = { .s = s, .m = s->m, .y = b->y };
    nanosleep(&(struct timespec){ 0, 3000000 }, NULL);  /* the other side's threads sleep by then           */
    double t = now_s();
    if (s->graph) ggml_backend_graph_compute(b->backend, s->graph);
    else pool_hold(pass, &j);
    return (now_s() - t) / (double)s->turns;
}

/* Largest difference to want, over the largest of want; the sides round activations differently            */
static double differs(const struct bench *b, struct side *s, const float *want, int64_t n)
{
    double far = 0, top = 0;
    window(b, s);
    if (s->graph) ggml_backend_tensor_get(s->last, b->y, 0, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        far = fmax(far, fabs((double)b->y[i] - (double)want[i]));
        top = fmax(top, fabs((double)want[i]));
    }
    return far / top;
}

static bool all_agree(const struct bench *b, struct side *side, int64_t n)
{
    float *want = xcalloc((size_t)n, sizeof *want);
    bool agree = true;
    window(b, &side[0]);
    memcpy(want, b->y, (size_t)n * sizeof *want);
    for (int i = 1; i < ALL; i++) {
        memset(b->y, 0, (size_t)n * sizeof *want);
        double d = differs(b, &side[i], want, n);
        if (d < 0.03) continue;
        printf("%s: another product, by %.3g of the largest\n", side[i].name, d);
        agree = false;
    }
    free(want);
    return agree;
}

/* What the figures of a shape stand beside: bytes a second of the best loop, or multiply-adds on registers */
struct limit { double read[LIMIT_READERS][ROUNDS], peak; };

static void measure_limit(struct limit *l, int round, int64_t rows, const uint8_t *bytes)
{
    reader *f[LIMIT_READERS];
    if (rows > 1) {
        if (round % 4 == 0) l->peak = fmax(l->peak, bench_int8_peak());
        return;
    }
    for (int k = 0, n = limit_readers(f); k < n; k++) l->read[k][round] = limit_read_rate(f[k], bytes);
}

static double limit_of(struct limit *l, int64_t rows)
{
    reader *f[LIMIT_READERS];
    double top = 0;
    if (rows > 1) return l->peak;
    for (int k = 0, n = limit_readers(f); k < n; k++) top = fmax(top, bench_median(l->read[k], ROUNDS));
    return top;
}

/* Medians, and behind them the best windows: neighbours on the machine only ever slow one                  */
static void print_side(const struct side *side, int i, int64_t rows, int64_t d_out, int64_t d_in,
                       double limit)
{
    const struct side *s = &side[i], *rival = &side[list[i].rival];
    double t[ROUNDS], other[ROUNDS], versus[ROUNDS], work = 2 * (double)(rows * d_out * d_in);
    memcpy(t, s->seconds, sizeof t);
    memcpy(other, rival->seconds, sizeof other);
    for (int r = 0; r < ROUNDS; r++) versus[r] = other[r] / t[r];
    double middle = bench_median(t, ROUNDS), amount = rows > 1 ? work : (double)s->bytes;
    limit *= rows > 1 ? 2 : 1;
    printf("  %-9s %5.2f bits %9.1f us %6.1f %s %.2f of %s, best %.2f", s->name,
           8 * (double)s->bytes / (double)(d_out * d_in), 1e6 * middle, amount / middle / 1e9,
           rows > 1 ? "GOPS" : "GB/s", amount / middle / limit, rows > 1 ? "the peak" : "reading",
           amount / t[0] / limit);
    bench_median(other, ROUNDS);
    if (i < OURS)
        printf("   %s's time / ours %.2f, best %.2f", rival->name, bench_median(versus, ROUNDS), other[0] / t[0]);
    printf("\n");
}

static int shape(const struct bench *b, int64_t rows, int64_t d_out, int64_t d_in)
{
    static struct side side[ALL];
    static struct limit l;
    bool fine = true;
    l.peak = 0;
    for (int i = 0; i < ALL && fine; i++) fine = open_side(b, &side[i], i, rows, d_out, d_in);
    if (fine) fine = all_agree(b, side, rows * d_out);
    for (int r = 0; r < ROUNDS && fine; r++) {
        for (int i = 0; i < ALL; i++) side[i].seconds[r] = window(b, &side[i]);
        measure_limit(&l, r, rows, side[TERNARY2].weights);
    }
    if (fine) {
        double limit = limit_of(&l, rows);
        printf("%lld x %lld, %lld row%s, %d thread%s; %s %.1f\n", (long long)d_out, (long long)d_in,
               (long long)rows, rows > 1 ? "s" : "", pool_size(), pool_size() > 1 ? "s" : "",
               rows > 1 ? "vpmaddubsw on registers, GOPS" : "reading, GB/s", (rows > 1 ? 2 : 1) * limit / 1e9);
        for (int i = 0; i < ALL; i++) print_side(side, i, rows, d_out, d_in, limit);
        fflush(stdout);
    }
    for (int i = 0; i < ALL; i++) close_side(&side[i]);
    return fine ? 0 : stop("a product cannot be measured");
}

/* Which of the libraries for this kind of CPU is loaded                                                    */
static void print_variant(void)
{
    char line[4096];
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f)) {
        const char *name = strstr(line, "libggml-cpu");
        if (!name) continue;
        printf("%s; llama.cpp runs %s", cpu_name(), name);
        break;
    }
    if (f) fclose(f);
}

static int open_bench(struct bench *b, const char *conf, const char *folder)
{
    if (!ggml_open(folder)) return 77;
    if (run_spec(conf, NULL, 0, SPEC_MODEL, &b->spec) != CHI_OK) return stop(fail_text());
    ggml_backend_load_all_from_path(folder);
    b->backend = ggml_backend_init_by_type(0, NULL);
    if (!b->backend) return stop("llama.cpp has no CPU backend here");
    void *reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(b->backend));
    void *f = ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads");
    memcpy(&b->set_threads, &f, sizeof f);
    b->x = mem_take(ROWS * WIDE * sizeof(float), "activations");
    b->y = mem_take(ROWS * WIDE * sizeof(float), "outputs");
    b->q = mem_take(ROWS * WIDE, "activations");
    b->step = mem_take(ROWS * WIDE / 16, "steps");
    b->sum = mem_take(ROWS * WIDE / 32, "sums");
    if (!f || !b->x || !b->y || !b->q || !b->step || !b->sum) return stop("no memory, or no threads");
    for (int64_t i = 0; i < ROWS * WIDE; i++) b->x[i] = (float)rng_normal(1, RNG_BENCH, 0, (uint64_t)i);
    return 0;
}

int main(int argc, char **argv)
{
    static const int64_t shapes[][2] = { { 2560, 2560 }, { 6912, 2560 }, { 2560, 6912 } };
    struct bench b = { .spec = NULL };
    pool_begin(argv);
    if (argc < 3 || argc > 4) return stop("usage: peers CONF FOLDER [THREADS]"), 2;
    int bad = open_bench(&b, argv[1], argv[2]);
    if (bad) return bad;
    print_variant();
    pool_threads(0);
    int only = argc > 3 ? atoi(argv[3]) : 0;
    for (int t = only > 0 ? only : 1, last = only > 0 ? only : pool_size(); t <= last && !bad; t++) {
        pool_threads(t);
        b.set_threads(b.backend, t);
        for (int i = 0; i < COUNT(shapes) && !bad; i++) bad = shape(&b, 1, shapes[i][0], shapes[i][1]);
        for (int i = 0; i < COUNT(shapes) && !bad; i++) bad = shape(&b, ROWS, shapes[i][0], shapes[i][1]);
    }
    return bad;
}
