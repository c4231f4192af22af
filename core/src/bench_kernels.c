/* bench_kernels.c - kernels against the limits of this machine, in the same process.
 *
 * Absolute rates move by a third with what the neighbours of a virtual machine do,
 * so each kernel is printed as a ratio to a limit measured beside it: bytes per
 * second of plain reading for one row of activations, vpmaddubsw or vfmadd on
 * registers alone for many rows, for matrices in the cache and for gemm.  Reading and
 * decoding alternate, one encoding after the other, and give medians; arithmetic gives
 * the best of many short windows on both sides.                                     */
#include "bench_kernels.h"
#include "bench_limit.h"
#include "core.h"
#include "linear.h"
#include "pool.h"

#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include "registry.h"
#include <immintrin.h>
#endif

enum { ROUNDS = 21 };

/* ---- limits ------------------------------------------------------------------------ */

#ifdef __x86_64__
#define AVX2_CODE __attribute__((target("avx2,fma")))

/* n turns of ten independent instructions on registers                                */
#define TEN(op) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)
#define INT8_OP(r) "vpmaddubsw %%ymm0, %%ymm1, %%ymm" #r "\n\t"
#define FMA_OP(r)  "vfmadd231ps %%ymm0, %%ymm1, %%ymm" #r "\n\t"
#define CLOBBERS "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", \
                 "ymm10", "ymm11", "cc"

AVX2_CODE static void int8_turns(int64_t n)
{
    __asm__ volatile("vpxor %%ymm0, %%ymm0, %%ymm0\n\tvpxor %%ymm1, %%ymm1, %%ymm1\n"
                     "1:\n\t" TEN(INT8_OP) "sub $1, %0\n\tjnz 1b" : "+r"(n) : : CLOBBERS);
}

AVX2_CODE static void fma_turns(int64_t n)
{
#define ZERO_OP(r) "vpxor %%ymm" #r ", %%ymm" #r ", %%ymm" #r "\n\t"
    __asm__ volatile("vpxor %%ymm0, %%ymm0, %%ymm0\n\tvpxor %%ymm1, %%ymm1, %%ymm1\n\t" TEN(ZERO_OP)
                     "\n1:\n\t" TEN(FMA_OP) "sub $1, %0\n\tjnz 1b" : "+r"(n) : : CLOBBERS);
}

static bool has_avx2(void)
{
    uint32_t want = CHI_CPU_AVX2 | CHI_CPU_FMA;
    return (cpu_features() & want) == want;
}
#endif

static void int8_task(void *arg, int64_t i, struct chi_scratch *s)
{
    (void)arg, (void)i, (void)s;
#ifdef __x86_64__
    int8_turns(1 << 20);
#endif
}

static void fma_task(void *arg, int64_t i, struct chi_scratch *s)
{
    (void)arg, (void)i, (void)s;
#ifdef __x86_64__
    fma_turns(1 << 20);
#endif
}

/* Multiply-adds per second of all threads, the best of 20 windows; 0: unknown         */
static double peak(chi_task *task, int per_instruction)
{
#ifdef __x86_64__
    if (!has_avx2()) return 0;
    double best = 0;
    for (int i = 0; i < 20; i++) {
        double t = now_s();
        pool_run(pool_size(), task, NULL);
        double rate = 10.0 * (1 << 20) * per_instruction * pool_size() / (now_s() - t);
        best = rate > best ? rate : best;
    }
    return best;
#else
    (void)task, (void)per_instruction;
    return 0;
#endif
}

double bench_fma_peak(void) { return peak(fma_task, 8); }
double bench_int8_peak(void) { return peak(int8_task, 32); }

/* ---- ternary products ----------------------------------------------------------------- */

struct room { uint8_t *pool; float *x, *y, *step; int8_t *q; int16_t *sum; };

struct ternary_job {
    const struct bench_kernels *b;
    const struct bench_linear *linear;
    const struct room *room;
    struct chi_matrix m;
    struct chi_act a;
    float *y;
    int64_t slice;                                      /* outputs a piece             */
};

static int64_t scratch_of(const struct chi_linear_kernel *k, int64_t rows, int64_t d_in)
{
    return k->scratch_bytes ? k->scratch_bytes(rows, d_in) : 0;
}

static void ternary_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct ternary_job *j = arg;
    const struct chi_linear_kernel *k = j->linear->kernel;
    int64_t o0 = i * j->slice, o1 = min_i64(o0 + j->slice, j->m.d_out);
    int64_t need = scratch_of(k, j->a.rows, j->m.d_in);
    k->run(j->y + o0, j->m.d_out, &j->a, &j->m, o0, o1, need ? chi_take(s, (size_t)need) : NULL);
}

enum { ACT_ROWS = 16 };                                 /* rows a task quantises       */

static void act_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct ternary_job *j = arg;
    const struct room *m = j->room;
    int64_t blocks = j->a.ldq / CHI_ACT_BLOCK;
    (void)s;
    for (int64_t r = i * ACT_ROWS; r < min_i64((i + 1) * ACT_ROWS, j->a.rows); r++)
        j->b->k->quantize_i8(m->q + r * j->a.ldq, m->step + r * blocks, m->sum + r * blocks,
                             m->x + r * j->a.d_in, j->a.d_in);
}

/* Seconds for one product with the matrix at bytes, quantising the rows included       */
static double multiply(struct ternary_job *j, const void *bytes)
{
    double t = now_s();
    pool_run(ceil_div(j->a.rows, ACT_ROWS), act_task, j);
    j->m.bytes = bytes;
    pool_run(ceil_div(j->m.d_out, j->slice), ternary_task, j);
    return now_s() - t;
}

static struct ternary_job job(const struct bench_kernels *b, const struct bench_linear *l, const struct room *m,
                              int64_t rows, int64_t d_out, int64_t d_in)
{
    return (struct ternary_job){
        .b = b, .linear = l, .room = m, .m = { m->pool, d_out, d_in, 128 }, .y = m->y,
        .slice = linear_slice(rows * d_out * d_in, rows, d_in),
        .a = { rows, d_in, m->x, d_in, m->q, round_up(d_in, 64), m->step, m->sum },
    };
}

/* ---- output ------------------------------------------------------------------------------ */

/* What is not known is 0 or NULL; weights a second, and their ratio to those of the first encoding */
struct figure { const char *what, *encoding, *shape, *unit, *limit; double rate, ratio, weights, versus; };

static void print_json(const struct bench_kernels *b, const struct figure *f)
{
    fprintf(b->out, "{\"kernel\":\"%s\",\"shape\":\"%s\",\"threads\":%d,\"rate\":%.4g,\"unit\":\"%s\"", f->what,
            f->shape, pool_size(), f->rate, f->unit);
    if (f->encoding) fprintf(b->out, ",\"encoding\":\"%s\"", f->encoding);
    if (f->ratio > 0) fprintf(b->out, ",\"ratio\":%.3f,\"limit\":\"%s\"", f->ratio, f->limit);
    if (f->weights > 0) fprintf(b->out, ",\"weights_per_s\":%.4g", f->weights);
    if (f->versus > 0) fprintf(b->out, ",\"versus\":%.3f,\"to\":\"%s\"", f->versus, b->linear[0].name);
    fprintf(b->out, "}\n");
}

static void print_text(const struct bench_kernels *b, const struct figure *f)
{
    fprintf(b->out, "%-10s %-10s %-16s %d threads  ", f->what, f->encoding ? f->encoding : "", f->shape, pool_size());
    if (f->rate > 0) fprintf(b->out, "%8.1f %s", f->rate, f->unit);
    else fprintf(b->out, " unknown");
    if (f->ratio > 0) fprintf(b->out, "  %.2f of %s", f->ratio, f->limit);
    if (f->weights > 0) fprintf(b->out, "  %.1f Gweights/s", f->weights / 1e9);
    if (f->versus > 0) fprintf(b->out, "  %.2f of %s", f->versus, b->linear[0].name);
    fprintf(b->out, "\n");
}

static void print(const struct bench_kernels *b, struct figure f)
{
    if (b->json) print_json(b, &f);
    else print_text(b, &f);
    fflush(b->out);
}

/* ---- what is measured -------------------------------------------------------------------- */

static reader *best_reader(const struct bench_kernels *b, const struct room *m)
{
    reader *f[LIMIT_READERS], *best;
    double top = 0;
    int n = limit_readers(f);
    best = f[0];
    for (int i = 0; i < n; i++) {
        double rate[7];
        for (int j = 0; j < COUNT(rate); j++) rate[j] = limit_read_rate(f[i], m->pool);
        double r = bench_median(rate, COUNT(rate));
        if (r > top) top = r, best = f[i];
    }
    char shape[48];
    snprintf(shape, sizeof shape, "%lld MB", (long long)(limit_bytes() >> 20));
    print(b, (struct figure){ .what = "read", .shape = shape, .rate = top / 1e9, .unit = "GB/s" });
    return best;
}

enum { LINEARS = BENCH_LINEARS };

/* One row: matrices one after the other through the pool, so each comes from memory.  Returns
 * weights per second                                                                       */
static double decode_pass(const struct bench_kernels *b, const struct bench_linear *l, const struct room *m,
                          int64_t d_out, int64_t d_in)
{
    struct ternary_job j = job(b, l, m, 1, d_out, d_in);
    int64_t bytes = l->encoding->bytes(d_out, d_in, 128), n = limit_bytes() / bytes;
    double t = 0;
    for (int64_t c = 0; c < n; c++) t += multiply(&j, m->pool + c * bytes);
    return (double)(n * d_out * d_in) / t;
}

static void bench_decode(const struct bench_kernels *b, const struct room *m, int64_t d_out, int64_t d_in)
{
    static double rate[LINEARS][ROUNDS], ratio[LINEARS][ROUNDS], read[LIMIT_READERS][ROUNDS];
    double limit = 0;
    reader *f[LIMIT_READERS];
    int nf = limit_readers(f), rounds = limit_bytes() > 256 << 20 ? 5 : ROUNDS;     /* long passes vary less  */
    for (int i = 0; i < rounds; i++) {
        for (int k = 0; k < b->n_linears; k++) {
            rate[k][i] = decode_pass(b, &b->linear[k], m, d_out, d_in);
            ratio[k][i] = rate[k][i] / rate[0][i];
        }
        for (int k = 0; k < nf; k++) read[k][i] = limit_read_rate(f[k], m->pool);
    }
    for (int k = 0; k < nf; k++) {                      /* the best loop, not the best pass */
        double r = bench_median(read[k], rounds);
        limit = r > limit ? r : limit;
    }
    char shape[48];
    snprintf(shape, sizeof shape, "%lldx%lld", (long long)d_out, (long long)d_in);
    for (int k = 0; k < b->n_linears; k++) {
        const struct bench_linear *l = &b->linear[k];
        double w = bench_median(rate[k], rounds), versus = bench_median(ratio[k], rounds);
        double got = w * (double)l->encoding->bytes(d_out, d_in, 128) / (double)(d_out * d_in);
        print(b, (struct figure){ .what = "decode", .encoding = l->name, .shape = shape, .rate = got / 1e9,
                                  .unit = "GB/s",
                                  .ratio = got / limit, .limit = "the best read loop (medians)", .weights = w,
                                  .versus = k ? versus : 0 });
    }
}

/* One row, each thread with a matrix of its own that fits its second cache                     */
enum { NEAR_OUT = 512, NEAR_IN = 2048, NEAR_TURNS = 32 };

static void near_task(void *arg, int64_t i, struct chi_scratch *s)
{
    struct ternary_job j = *(const struct ternary_job *)arg;
    int64_t bytes = j.linear->encoding->bytes(NEAR_OUT, NEAR_IN, 128);
    int64_t need = scratch_of(j.linear->kernel, 1, NEAR_IN);
    void *scratch = need ? chi_take(s, (size_t)need) : NULL;
    j.m.bytes = j.room->pool + i * bytes;
    for (int n = 0; n < NEAR_TURNS; n++)
        j.linear->kernel->run(j.y + i * NEAR_OUT, NEAR_OUT, &j.a, &j.m, 0, NEAR_OUT, scratch);
}

static void bench_near(const struct bench_kernels *b, const struct room *m, double limit)
{
    double best[LINEARS] = { 0 };
    for (int i = 0; i < 5 * ROUNDS; i++)                /* windows of about a millisecond      */
        for (int k = 0; k < b->n_linears; k++) {
            struct ternary_job j = job(b, &b->linear[k], m, 1, NEAR_OUT, NEAR_IN);
            pool_run(1, act_task, &j);
            double t = now_s();
            pool_run(pool_size(), near_task, &j);
            double w = (double)NEAR_TURNS * NEAR_OUT * NEAR_IN * pool_size() / (now_s() - t);
            best[k] = w > best[k] ? w : best[k];
        }
    for (int k = 0; k < b->n_linears; k++)
        print(b, (struct figure){ .what = "cached", .encoding = b->linear[k].name, .shape = "512x2048",
                                  .rate = best[k] / 1e9,
                                  .unit = "GMAC/s", .ratio = limit > 0 ? best[k] / limit : 0,
                                  .limit = "vpmaddubsw on registers (best)", .versus = k ? best[k] / best[0] : 0 });
}

static void bench_prefill(const struct bench_kernels *b, const struct room *m, int64_t d_out, int64_t d_in,
                          double limit)
{
    double best[LINEARS], all = 0, work = 128.0 * (double)d_out * (double)d_in;
    for (int k = 0; k < b->n_linears; k++) best[k] = 1e30;
    for (int i = 0; i < ROUNDS || all < 0.5; i++)       /* windows of some milliseconds */
        for (int k = 0; k < b->n_linears; k++) {
            struct ternary_job j = job(b, &b->linear[k], m, 128, d_out, d_in);
            double t = multiply(&j, m->pool);
            best[k] = t < best[k] ? t : best[k];
            all += t;
        }
    char shape[48];
    snprintf(shape, sizeof shape, "128 of %lldx%lld", (long long)d_out, (long long)d_in);
    for (int k = 0; k < b->n_linears; k++)
        print(b, (struct figure){ .what = "prefill", .encoding = b->linear[k].name, .shape = shape,
                                  .rate = work / best[k] / 1e9, .unit = "GMAC/s",
                                  .limit = "vpmaddubsw on registers (best)",
                                  .ratio = limit > 0 ? work / best[k] / limit : 0,
                                  .versus = k ? best[0] / best[k] : 0 });
}

struct gemm_job { const struct chi_kernels *k; int64_t m, n, d; const float *A, *B; float *C; };

/* Pieces of 256 x 1024: gemm's bits do not depend on them                                     */
static void gemm_task(void *arg, int64_t i, struct chi_scratch *s)
{
    (void)s;
    const struct gemm_job *g = arg;
    int64_t across = ceil_div(g->n, 1024), r = i / across * 256, c = i % across * 1024;
    g->k->gemm(false, false, min_i64(256, g->m - r), min_i64(1024, g->n - c), g->d, g->A + r * g->d, g->d,
               g->B + c, g->n, 0, g->C + r * g->n + c, g->n);
}

static void bench_gemm(const struct bench_kernels *b, const struct room *m, int64_t rows, int64_t n,
                       int64_t k, double limit)
{
    float *base = (float *)(void *)m->pool;
    struct gemm_job g = { b->k, rows, n, k, base, base + rows * k, base + rows * k + k * n };
    for (int64_t i = 0; i < rows * k + k * n; i++) base[i] = (float)(i % 251) / 251 - 0.5f;
    double best = 1e30;
    for (int i = 0; i < 9; i++) {
        double t = now_s();
        if (pool_size() == 1) b->k->gemm(false, false, rows, n, k, g.A, k, g.B, n, 0, g.C, n);
        else pool_run(ceil_div(rows, 256) * ceil_div(n, 1024), gemm_task, &g);
        t = now_s() - t;
        best = t < best ? t : best;
    }
    double work = (double)rows * (double)n * (double)k;
    char shape[48];
    snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)rows, (long long)n, (long long)k);
    print(b, (struct figure){ .what = "gemm", .shape = shape, .rate = 2 * work / best / 1e9, .unit = "GFLOP/s",
                              .ratio = limit > 0 ? work / best / limit : 0, .limit = "vfmadd on registers (best)" });
}

static void no_task(void *arg, int64_t i, struct chi_scratch *s)
{
    (void)arg, (void)i, (void)s;
}

/* What it costs to hand out a loop's pieces and to wait for their end                        */
static void bench_loop(const struct bench_kernels *b)
{
    enum { LOOPS = 1000 };
    double us[ROUNDS];
    char shape[48];
    int64_t n = 4 * pool_size();
    for (int i = 0; i < ROUNDS; i++) {
        double t = now_s();
        for (int k = 0; k < LOOPS; k++) pool_run(n, no_task, NULL);
        us[i] = (now_s() - t) / LOOPS * 1e6;
    }
    snprintf(shape, sizeof shape, "%lld empty pieces", (long long)n);
    print(b, (struct figure){ .what = "loop", .shape = shape, .rate = bench_median(us, ROUNDS), .unit = "us" });
}

/* Codes 0..2 in every two bits: read as scales they are finite, read as indices and as base 3 valid  */
static void fill_codes(uint8_t *p, int64_t bytes)
{
    uint64_t s = 1;
    for (int64_t i = 0; i < bytes; i += 8) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        uint64_t u = s ^ s >> 29, v = (u & 0x5555555555555555u) + (u >> 1 & 0x5555555555555555u);
        memcpy(p + i, &v, 8);
    }
}

struct bench_pass { const struct bench_kernels *b; const struct room *m; };

/* With its threads held, as a model's pass holds them                                         */
static void bench_at(void *arg)
{
    const struct bench_kernels *b = ((struct bench_pass *)arg)->b;
    const struct room *m = ((struct bench_pass *)arg)->m;
    static const int64_t shapes[][2] = { { 2560, 2560 }, { 6912, 2560 }, { 2560, 6912 } };
    static const int64_t products[][3] = { { 512, 2560, 2560 }, { 2048, 512, 512 }, { 512, 6912, 2560 } };
    bench_loop(b);
    best_reader(b, m);
    double int8 = peak(int8_task, 32), fma = peak(fma_task, 8);
    print(b, (struct figure){ .what = "int8 peak", .shape = "registers", .rate = int8 / 1e9, .unit = "GMAC/s" });
    print(b, (struct figure){ .what = "fma peak", .shape = "registers", .rate = 2 * fma / 1e9, .unit = "GFLOP/s" });
    bench_near(b, m, int8);
    for (int i = 0; i < COUNT(shapes); i++) bench_decode(b, m, shapes[i][0], shapes[i][1]);
    for (int i = 0; i < COUNT(shapes); i++) bench_prefill(b, m, shapes[i][0], shapes[i][1], int8);
    for (int i = 0; i < COUNT(products); i++)
        bench_gemm(b, m, products[i][0], products[i][1], products[i][2], fma);
    fill_codes(m->pool, limit_bytes());
}

chi_status bench_kernels(const struct bench_kernels *b)
{
    enum { WIDE = 6912, ROWS = 128 };
    int64_t need = 0;
    for (int k = 0; k < b->n_linears; k++) {
        need = max_i64(need, scratch_of(b->linear[k].kernel, ROWS, WIDE));
        need = max_i64(need, scratch_of(b->linear[k].kernel, 1, WIDE));
    }
    struct room m = {
        .pool = mem_take((size_t)limit_bytes() + 4096, "weights to measure with"),
        .x = mem_take(ROWS * WIDE * 4, "activations"), .y = mem_take(ROWS * WIDE * 4, "outputs"),
        .q = mem_take(ROWS * WIDE, "activations"), .step = mem_take(ROWS * WIDE / 16, "steps"),
        .sum = mem_take(ROWS * WIDE / 32, "sums"),
    };
    chi_status s = m.pool && m.x && m.y && m.q && m.step && m.sum ? CHI_OK : CHI_ENOMEM;
    for (int t = 1; s == CHI_OK; t = b->threads) {
        pool_threads(t);
        s = pool_scratch(need + 64);
        if (t == 1 && s == CHI_OK) {
            fill_codes(m.pool, limit_bytes());
            for (int64_t i = 0; i < ROWS * WIDE; i++) m.x[i] = (float)(i * 7919 % 509) / 254.0f - 1;
        }
        if (s == CHI_OK) pool_hold(bench_at, &(struct bench_pass){ b, &m });
        if (t == b->threads) break;
    }
    pool_threads(b->threads);
    mem_free(m.pool), mem_free(m.x), mem_free(m.y), mem_free(m.q), mem_free(m.step), mem_free(m.sum);
    return s;
}
