/* bench.c - training, prefill and decoding of one configuration, at one thread and at all,
 * in alternating steps of one process; see bench.h.                                       */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core.h"
#include "pool.h"
#include "rng.h"
#include "run.h"
#include "trainer.h"

enum { SAMPLES = 512 };
struct times { double s[SAMPLES]; int n; };

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void add_time(struct times *t, double s)
{
    if (t->n < SAMPLES) t->s[t->n++] = s;
}

static double median(struct times *t)
{
    qsort(t->s, (size_t)t->n, sizeof *t->s, rising);
    return t->n % 2 ? t->s[t->n / 2] : (t->s[t->n / 2 - 1] + t->s[t->n / 2]) / 2;
}

static double best(const struct times *t)
{
    double least = t->s[0];
    for (int i = 1; i < t->n; i++) least = fmin(least, t->s[i]);
    return least;
}

static double peak_rss_mb(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / 1024;
}

/* ---- the matrix product, for comparison ---------------------------------------------------- */

struct product_bench { const struct chi_kernels *k; float *a, *b, *c; };
enum { EDGE = 512, PIECES = 8 };

static void product_piece(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct product_bench *p = arg;
    (void)s;
    p->k->gemm(false, true, EDGE / PIECES, EDGE, EDGE, p->a + i * EDGE / PIECES * EDGE, EDGE, p->b, EDGE, 0,
               p->c + i * EDGE / PIECES * EDGE, EDGE);
}

/* GFLOP/s of gemm: the best of windows at 1 thread and at all                                  */
static chi_status product_rates(const struct spec *s, int threads, double rate[2])
{
    size_t bytes = EDGE * EDGE * sizeof(float);
    struct product_bench p = { s->kernels, mem_take(bytes, "a product"), mem_take(bytes, "a product"),
                               mem_take(bytes, "a product") };
    rate[0] = rate[1] = 0;
    if (!p.a || !p.b || !p.c) return CHI_ENOMEM;
    for (int i = 0; i < 40; i++) {
        pool_threads(i % 2 ? threads : 1);
        double begun = now_s();
        pool_run(PIECES, product_piece, &p);
        rate[i % 2] = fmax(rate[i % 2], 2e-9 * EDGE * EDGE * EDGE / (now_s() - begun));
    }
    mem_free(p.a);
    mem_free(p.b);
    mem_free(p.c);
    return CHI_OK;
}

/* Why n threads gain less than 1.6x per two: the machine, or our serial share (Amdahl)          */
static void explain(const struct spec *s, const struct bench *b, const char *what, double gain)
{
    double rate[2];
    if (b->threads < 2 || gain >= 1.6 || product_rates(s, b->threads, rate) != CHI_OK) return;
    double machine = rate[1] / rate[0], share = (b->threads / gain - 1) / (b->threads - 1);
    if (machine < 0.85 * b->threads)
        note("%s gains %.2fx from %d threads: a matrix product alone gains %.2fx here, so the cores are shared or "
             "slowed", what, gain, b->threads, machine);
    else
        note("%s gains %.2fx from %d threads while a matrix product gains %.2fx: %.0f %% of its time is serial or "
             "waits for memory", what, gain, b->threads, machine, 100 * share);
}

/* ---- training --------------------------------------------------------------------------------- */

void bench_batch(const struct spec *s, struct batch *b)
{
    int64_t n = s->train.batch_size * s->train.seq_len;
    *b = (struct batch){ .n_seq = s->train.batch_size, .seq_len = s->train.seq_len, .n_seg = s->train.batch_size,
                         .rows = n, .scored = n, .bytes = n };
    b->token = xcalloc((size_t)n, sizeof *b->token);
    b->target = xcalloc((size_t)n, sizeof *b->target);
    b->first_seg = xcalloc((size_t)b->n_seq + 1, sizeof *b->first_seg);
    b->seg = xcalloc((size_t)b->n_seq, sizeof *b->seg);
    for (int64_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_words(w, 1234, RNG_BENCH, 0, 0, (uint64_t)i);
        b->token[i] = (int32_t)(w[0] % (uint32_t)s->model.vocab_size);
        b->target[i] = (int32_t)(w[1] % (uint32_t)s->model.vocab_size);
    }
    for (int64_t i = 0; i < b->n_seq; i++) {
        b->seg[i] = (struct model_segment){ .tokens = b->token + i * b->seq_len, .rows = b->seq_len,
                                            .stream = (uint64_t)i, .fresh = true };
        b->first_seg[i + 1] = i + 1;
    }
}

static void print_rate(const struct bench *b, const char *what, int threads, double tokens, struct times *t)
{
    double m = median(t), least = best(t);
    if (b->json)
        printf("{\"bench\": \"%s\", \"threads\": %d, \"tok_s_median\": %.1f, \"tok_s_best\": %.1f, "
               "\"ms_median\": %.3f, \"samples\": %d, \"peak_rss_mb\": %.0f}\n",
               what, threads, tokens / m, tokens / least, 1e3 * m, t->n, peak_rss_mb());
    else
        printf("%-8s %2d thread%s  %9.1f tokens/s (best %9.1f)  %9.3f ms a call  peak memory %.0f MB\n", what,
               threads, threads == 1 ? " " : "s", tokens / m, tokens / least, 1e3 * m, peak_rss_mb());
    fflush(stdout);
}

static chi_status timed_step(struct trainer *t, const struct batch *batch, int threads, struct times *times)
{
    struct step_result r = { 0 };
    pool_threads(threads);
    double begun = now_s();
    TRY(train_on(t, batch, &r));
    TRY(train_update(t, &r));
    add_time(times, now_s() - begun);
    t->step++;
    return CHI_OK;
}

static chi_status train_rates(struct trainer *t, const struct bench *b, const struct batch *batch)
{
    struct times one = { .n = 0 }, all = { .n = 0 }, warm = { .n = 0 };
    TRY(model_init(t->model, 1));
    TRY(timed_step(t, batch, b->threads, &warm));
    for (int64_t i = 0; i < b->steps; i++) {
        if (b->compare && i % 2 == 0) TRY(timed_step(t, batch, 1, &one));
        TRY(timed_step(t, batch, b->threads, &all));
    }
    double tokens = (double)batch->scored;
    if (one.n) print_rate(b, "train", 1, tokens, &one);
    print_rate(b, "train", b->threads, tokens, &all);
    if (one.n) explain(t->spec, b, "training", median(&one) / median(&all));
    return CHI_OK;
}

static chi_status open_spec(const struct bench *b, int needs, struct spec **spec)
{
    return run_spec(b->subject, b->override, b->n_override, needs, spec);
}

chi_status bench_train(const struct bench *b)
{
    struct train_request none = { 0 };
    struct trainer t = { .request = &none };
    struct batch batch = { 0 };
    TRY(open_spec(b, SPEC_MODEL | SPEC_TRAIN, &t.spec));
    bench_batch(t.spec, &batch);
    chi_status st = trainer_open_model(&t, t.spec->train.batch_size);
    if (st == CHI_OK) st = train_rates(&t, b, &batch);
    batch_free(&batch);
    trainer_close_work(&t);
    return st;
}

/* ---- learning ----------------------------------------------------------------------------------- */

enum { LEARN_STEPS = 200, LEARN_MEAN = 20 };

static chi_status learn(struct trainer *t, const struct bench *b)
{
    double first = 0, last = 0;
    TRY(model_init(t->model, (uint64_t)t->spec->run.seed));
    for (t->step = 0; t->step < LEARN_STEPS; t->step++) {
        struct step_result r = { 0 };
        TRY(train_gradient(t, &r));
        if (!r.finite) return fail(CHI_ENUMERIC, "step %lld: the loss is %g", (long long)t->step + 1, r.loss);
        TRY(train_update(t, &r));
        if (t->step < LEARN_MEAN) first += r.loss / LEARN_MEAN;
        if (t->step >= LEARN_STEPS - LEARN_MEAN) last += r.loss / LEARN_MEAN;
    }
    printf(b->json ? "{\"bench\": \"learn\", \"steps\": %d, \"loss_first\": %.4f, \"loss_last\": %.4f}\n"
                   : "learn    %d steps: loss %.4f at the start, %.4f at the end\n", LEARN_STEPS, first, last);
    if (last < 0.9 * first) return CHI_OK;
    return fail(CHI_ENUMERIC, "the loss did not fall in %d steps: from %.4f to %.4f", LEARN_STEPS, first, last);
}

chi_status bench_learn(const struct bench *b)
{
    struct train_request none = { 0 };
    struct trainer t = { .request = &none };
    TRY(open_spec(b, SPEC_MODEL | SPEC_TRAIN | SPEC_DATA | SPEC_TOKENIZER, &t.spec));
    t.spec->train.steps = LEARN_STEPS;
    chi_status st = dataset_open(&t.data, t.spec);
    if (st == CHI_OK) st = dataset_can_train(t.data);
    if (st == CHI_OK)
        st = trainer_open_model(&t, dataset_max_segs(t.data, t.spec->train.micro_batch, t.spec->train.seq_len));
    if (st == CHI_OK) st = learn(&t, b);
    trainer_close_work(&t);
    return st;
}

/* ---- reading and writing --------------------------------------------------------------------------- */

enum { PREFILL = 256 };

struct reader { struct model *m; int32_t token[PREFILL]; unsigned char *state; float *hidden, *logits; };

static chi_status timed_call(struct reader *r, int64_t rows, int64_t pos, int threads, struct times *times)
{
    struct model_segment seg = { .tokens = r->token, .rows = rows, .pos = pos, .fresh = pos == 0, .state = r->state };
    if (!pos) memset(r->state, 0, (size_t)model_state_bytes(r->m));
    pool_threads(threads);
    double begun = now_s();
    TRY(model_forward(r->m, &seg, 1, r->hidden));
    TRY(model_logits(r->m, r->hidden + (rows - 1) * model_spec(r->m)->model.hidden_size, 1, r->logits));
    add_time(times, now_s() - begun);
    return CHI_OK;
}

static chi_status rates(struct reader *r, const struct bench *b, const char *what, int64_t rows)
{
    struct times one = { .n = 0 }, all = { .n = 0 }, warm = { .n = 0 };
    int64_t calls = rows > 1 ? b->steps : 20 * b->steps, pos = 0;
    TRY(timed_call(r, rows, 0, b->threads, &warm));
    for (int64_t i = 0; i < calls; i++) {
        pos += rows > 1 ? 0 : 1;
        if (b->compare) TRY(timed_call(r, rows, pos++, 1, &one));
        TRY(timed_call(r, rows, pos, b->threads, &all));
        if (rows > 1) pos = 0;
    }
    if (one.n) print_rate(b, what, 1, (double)rows, &one);
    print_rate(b, what, b->threads, (double)rows, &all);
    if (one.n && rows > 1) explain(model_spec(r->m), b, what, median(&one) / median(&all));
    return CHI_OK;
}

static void print_opening(const struct bench *b, const struct model *m, double seconds)
{
    struct model_counts c;
    model_count(m, &c);
    printf(b->json ? "{\"bench\": \"open\", \"ms\": %.2f, \"weight_bytes\": %lld, \"read_bytes_per_token\": %lld}\n"
                   : "open     %.2f ms; %lld bytes of weights, %lld read per token\n",
           1e3 * seconds, (long long)c.weight_bytes, (long long)c.read_bytes_per_token);
}

chi_status bench_open(const struct bench *b, int64_t rows, struct spec **spec, struct model **m)
{
    *spec = NULL;
    *m = NULL;
    if (run_has_weights(b->subject))
        return run_load_model(b->subject, b->override, b->n_override, NULL, SPEC_MODEL, rows, 1, spec, m);
    TRY(open_spec(b, SPEC_MODEL, spec));
    TRY(model_open(m, *spec, MODEL_INFER, rows, 1));
    return model_init(*m, 1);
}

chi_status bench_read(const struct bench *b)
{
    struct spec *spec;
    struct reader r = { 0 };
    double begun = now_s();
    chi_status st = bench_open(b, PREFILL, &spec, &r.m);
    if (st == CHI_OK) {
        if (run_has_weights(b->subject)) print_opening(b, r.m, now_s() - begun);
        r.state = mem_take((size_t)model_state_bytes(r.m) + 64, "a stream");
        r.hidden = mem_take((size_t)(PREFILL * spec->model.hidden_size) * sizeof(float), "hidden rows");
        r.logits = mem_take((size_t)spec->model.vocab_size * sizeof(float), "logits");
        for (int i = 0; i < PREFILL; i++) r.token[i] = (int32_t)(i * 7919 % spec->model.vocab_size);
        st = r.state && r.hidden && r.logits ? rates(&r, b, "prefill", PREFILL) : CHI_ENOMEM;
        if (st == CHI_OK) st = rates(&r, b, "decode", 1);
    }
    mem_free(r.state);
    mem_free(r.hidden);
    mem_free(r.logits);
    model_close(r.m);
    spec_close(spec);
    return st;
}
