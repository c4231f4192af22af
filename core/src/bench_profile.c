/* bench_profile.c - where the time of a training step, of a prefill and of a decode step goes.
 *
 * Each phase runs a warm-up and b->steps recorded steps with spans on (profile.h).  A row of the
 * table is one component and what was called: its own time without that of spans inside it, the
 * median of its calls times their number, so one call that the machine interrupted does not show;
 * shares add up to 100 %.  Bytes and FLOPs are counted, not measured (network.h); their rates
 * stand beside the bandwidth of reading and the peak of multiply-adds of all threads, measured in
 * the same process.  Data that stay in a cache move faster than memory is read: more than 1.     */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_kernels.h"
#include "bench_limit.h"
#include "core.h"
#include "fs.h"
#include "network.h"
#include "pool.h"
#include "profile.h"
#include "run.h"
#include "trainer.h"

enum { PREFILL = 256, TOKENS = 20, PASSES = 7 };

struct session {
    const struct bench *b;
    FILE *trace;                            /* or NULL                                       */
    int   tracks;
    double read, fma, int8;                 /* limits: bytes and FLOPs a second; 0: unknown  */
};

/* ---- limits --------------------------------------------------------------------------------- */

static chi_status measure_limits(struct session *s)
{
    reader *f[LIMIT_READERS];
    double rate[PASSES];
    int n = limit_readers(f);
    uint8_t *room = mem_take((size_t)limit_bytes(), "memory to read");
    if (!room) return CHI_ENOMEM;
    memset(room, 1, (size_t)limit_bytes());
    pool_threads(s->b->threads);
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < PASSES; i++) rate[i] = limit_read_rate(f[k], room);
        s->read = fmax(s->read, bench_median(rate, PASSES));
    }
    mem_free(room);
    s->fma = 2 * bench_fma_peak();
    s->int8 = 2 * bench_int8_peak();
    if (!s->b->json)
        printf("limits with %d thread(s): read %.1f GB/s, float %.1f GFLOP/s, int8 %.1f GFLOP/s (0: unknown here)\n",
               s->b->threads, s->read / 1e9, s->fma / 1e9, s->int8 / 1e9);
    return CHI_OK;
}

/* Does inference multiply whole numbers?  Then they are its limit                                */
static bool multiplies_int8(const struct model *m)
{
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) {
            const struct chi_linear *l = m->all[i]->param[j].linear;
            if (l && !l->plain && !l->f32_only && m->mode == MODEL_INFER && l->encoding
                && strcmp(l->quantizer->values, "bf16")) return true;
        }
    return false;
}

/* ---- the table --------------------------------------------------------------------------------- */

struct row { const char *name, *component, *op; int64_t ns, calls; double bytes, flops; };

static struct row *find(struct row *row, int64_t *n, const struct profile_span *s)
{
    for (int64_t i = 0; i < *n; i++)
        if (row[i].name == s->name && row[i].op == s->op) return &row[i];
    row[*n] = (struct row){ .name = s->name, .component = s->component, .op = s->op };
    return &row[(*n)++];
}

static int rising(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The median of what its calls took by themselves, times their number; own has room for them    */
static int64_t typical_ns(const struct row *r, const struct profile_span *span_of, int64_t n, int64_t *own)
{
    int64_t calls = 0;
    for (int64_t i = 0; i < n; i++)
        if (span_of[i].name == r->name && span_of[i].op == r->op)
            own[calls++] = span_of[i].end - span_of[i].begin - span_of[i].inner;
    qsort(own, (size_t)calls, sizeof *own, rising);
    return own[calls / 2] * calls;
}

static void print_row(const struct session *s, const struct row *r, const char *phase, int64_t steps, int64_t total,
                      double peak)
{
    double sec = (double)r->ns / 1e9, gb = r->bytes / sec / 1e9, gf = r->flops / sec / 1e9;
    double share = 100 * (double)r->ns / (double)total;
    if (s->b->json) {
        printf("{\"bench\": \"profile\", \"phase\": \"%s\", \"name\": \"%s\", \"component\": \"%s\", \"op\": \"%s\", "
               "\"calls\": %lld, \"ms\": %.6f, \"share\": %.4f, "
               "\"bytes\": %.0f, \"flops\": %.0f, \"of_read\": %.4f, \"of_peak\": %.4f}\n",
               phase, r->name, r->component, r->op, (long long)(r->calls / steps), 1e3 * sec / (double)steps,
               share / 100,
               r->bytes / (double)steps, r->flops / (double)steps, gb * 1e9 / s->read,
               peak > 0 ? gf * 1e9 / peak : 0);
        return;
    }
    printf("  %-18s %-19s %-16s %5lld %10.4f %6.2f", r->name, r->op, r->component, (long long)(r->calls / steps),
           1e3 * sec / (double)steps, share);
    if (r->bytes > 0) printf(" %9.3f %8.2f %5.2f", r->bytes / (double)steps / 1e6, gb, gb * 1e9 / s->read);
    else printf(" %9s %8s %5s", "-", "-", "-");
    if (r->flops > 0 && peak > 0) printf(" %9.3f %8.2f %6.3f\n", r->flops / (double)steps / 1e6, gf, gf * 1e9 / peak);
    else printf(" %9s %8s %6s\n", "-", "-", "-");
}

static void print_head(const struct session *s, const char *phase, int64_t steps, int64_t total, double tokens,
                       double peak)
{
    if (s->b->json) return;
    printf("\n%s: %.3f ms a step, %.1f tokens/s, %lld steps; the peak is that of %s\n", phase,
           (double)total / 1e6 / (double)steps, tokens * (double)steps / (double)total * 1e9, (long long)steps,
           peak == s->int8 ? "int8" : "float");
    printf("  %-18s %-19s %-16s %5s %10s %6s %9s %8s %5s %9s %8s %6s\n", "name", "what", "component", "calls", "ms",
           "%", "MB", "GB/s", "ratio", "MFLOP", "GFLOP/s", "ratio");
}

/* What was recorded of this many steps                                                            */
static void show(struct session *s, const char *phase, int64_t steps, double tokens, const struct model *m)
{
    const struct profile_span *span_of;
    int64_t n = profile_spans(&span_of), rows = 0, total = 0;
    struct row *row = xcalloc((size_t)n + 1, sizeof *row);
    double peak = multiplies_int8(m) ? s->int8 : s->fma;
    for (int64_t i = 0; i < n; i++) {
        struct row *r = find(row, &rows, &span_of[i]);
        r->calls++;
        r->bytes += span_of[i].bytes;
        r->flops += span_of[i].flops;
    }
    int64_t *own = xcalloc((size_t)n + 1, sizeof *own);
    for (int64_t i = 0; i < rows; i++) total += row[i].ns = max_i64(typical_ns(&row[i], span_of, n, own), 1);
    free(own);
    print_head(s, phase, steps, total, tokens, peak);
    for (int64_t i = 0; i < rows; i++) print_row(s, &row[i], phase, steps, max_i64(total, 1), peak);
    fflush(stdout);
    if (s->trace) profile_write(s->trace, ++s->tracks, phase);
    free(row);
}

/* ---- training ------------------------------------------------------------------------------------ */

static chi_status train_step(struct trainer *t, struct batch *batch)
{
    struct step_result r = { 0 };
    span("step", "core", "the rest");
    TRY(t->data ? train_gradient(t, &r) : train_on(t, batch, &r));
    TRY(train_update(t, &r));
    span_end();
    t->step++;
    return CHI_OK;
}

static chi_status train_steps(struct session *s, struct trainer *t, struct batch *batch)
{
    const struct train_options *o = &t->spec->train;
    TRY(model_init(t->model, 1));
    pool_threads(s->b->threads);
    TRY(train_step(t, batch));
    profile_start();
    chi_status st = CHI_OK;
    for (int64_t i = 0; st == CHI_OK && i < s->b->steps; i++) st = train_step(t, batch);
    profile_stop();
    if (st == CHI_OK) show(s, "train", s->b->steps, (double)(o->batch_size * o->seq_len), t->model);
    return st;
}

/* The configuration's data, or random tokens where they are not here                              */
static void open_data(struct trainer *t)
{
    if (dataset_open(&t->data, t->spec) == CHI_OK && dataset_can_train(t->data) == CHI_OK) return;
    note("random tokens are trained on: %s", fail_text());
    dataset_close(t->data);
    t->data = NULL;
}

static chi_status profile_training(struct session *s)
{
    const struct bench *b = s->b;
    struct train_request none = { 0 };
    struct trainer t = { .request = &none };
    struct batch batch = { 0 };
    struct config *config;
    TRY(run_config(b->subject, b->override, b->n_override, &config));
    TRY(spec_open(&t.spec, config, SPEC_MODEL | SPEC_TRAIN | SPEC_DATA | SPEC_TOKENIZER));
    open_data(&t);
    const struct train_options *o = &t.spec->train;
    int64_t micro = o->micro_batch ? min_i64(o->micro_batch, o->batch_size) : o->batch_size;
    if (!t.data) bench_batch(t.spec, &batch);
    chi_status st = trainer_open_model(&t, t.data ? dataset_max_segs(t.data, micro, o->seq_len) : o->batch_size);
    if (st == CHI_OK) st = train_steps(s, &t, &batch);
    batch_free(&batch);
    trainer_close_work(&t);
    return st;
}

/* ---- reading and writing --------------------------------------------------------------------------- */

struct stream_of { struct model *m; int32_t token[PREFILL]; unsigned char *state; float *hidden, *logits; };

static chi_status call(struct stream_of *r, int64_t rows, int64_t pos)
{
    struct model_segment seg = { .tokens = r->token, .rows = rows, .pos = pos, .fresh = pos == 0, .state = r->state };
    if (!pos) memset(r->state, 0, (size_t)model_state_bytes(r->m));
    span("step", "core", "the rest");
    TRY(model_forward(r->m, &seg, 1, r->hidden));
    TRY(model_logits(r->m, r->hidden + (rows - 1) * model_spec(r->m)->model.hidden_size, 1, r->logits));
    span_end();
    return CHI_OK;
}

static chi_status calls(struct session *s, struct stream_of *r, const char *phase, int64_t rows, int64_t n)
{
    TRY(call(r, rows, 0));
    profile_start();
    chi_status st = CHI_OK;
    for (int64_t i = 0; st == CHI_OK && i < n; i++) st = call(r, rows, rows > 1 ? 0 : i + 1);
    profile_stop();
    if (st == CHI_OK) show(s, phase, n, (double)rows, r->m);
    return st;
}

static chi_status profile_reading(struct session *s)
{
    const struct bench *b = s->b;
    struct stream_of r = { 0 };
    struct spec *spec;
    chi_status st = bench_open(b, PREFILL, &spec, &r.m);
    if (st == CHI_OK) {
        pool_threads(b->threads);
        r.state = mem_take((size_t)model_state_bytes(r.m) + 64, "a stream");
        r.hidden = mem_take((size_t)(PREFILL * spec->model.hidden_size) * sizeof(float), "hidden rows");
        r.logits = mem_take((size_t)spec->model.vocab_size * sizeof(float), "logits");
        for (int i = 0; i < PREFILL; i++) r.token[i] = (int32_t)(i * 7919 % spec->model.vocab_size);
        st = r.state && r.hidden && r.logits ? calls(s, &r, "prefill", PREFILL, b->steps) : CHI_ENOMEM;
    }
    if (st == CHI_OK) st = calls(s, &r, "decode", 1, TOKENS * b->steps);
    mem_free(r.state);
    mem_free(r.hidden);
    mem_free(r.logits);
    model_close(r.m);
    spec_close(spec);
    return st;
}

/* ---- all of it ---------------------------------------------------------------------------------------- */

chi_status bench_profile(const struct bench *b)
{
    struct session s = { .b = b };
    char *text = NULL;
    size_t n = 0;
    if (b->out) TRY(fs_can_write(b->out));
    if (b->out && !(s.trace = open_memstream(&text, &n))) return fail(CHI_ENOMEM, "no memory for %s", b->out);
    if (s.trace) profile_write_begin(s.trace);
    chi_status st = measure_limits(&s);
    if (st == CHI_OK && !run_has_weights(b->subject)) st = profile_training(&s);
    if (st == CHI_OK) st = profile_reading(&s);
    profile_drop();
    if (s.trace) {
        profile_write_end(s.trace);
        bool whole = !fclose(s.trace);
        if (st == CHI_OK) st = whole ? fs_write_atomic(b->out, text, (int64_t)n)
            : fail(CHI_ENOMEM, "no memory for %s", b->out);
        free(text);
    }
    return st;
}
