/* bench_model.c - a whole model beside its limits, all measured in one process:
 *
 *     decode   1 turn and the configuration's, 1 thread and all; bytes of a token over the
 *              time that it takes, beside the best read loop
 *     where    what a token's time goes to, beside the time that its bytes take
 *     prefill  128 and 512 rows; batched decode of 1..16 streams; both beside
 *              max(bytes / reading, multiply-adds / int8 peak)
 *
 * Bytes and multiply-adds are those of the linears that were called (experts that nobody
 * chose were not), plus the streams' states as read and the lines of them that a step
 * changed as written.  Taps, gains and slots are not counted.  The head multiplies one row
 * of a prompt.  Steps at one thread and at all alternate with passes of reading; rates are
 * medians.  Tokens are random, and no token leaves the loop early.                       */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_kernels.h"
#include "bench_limit.h"
#include "bench_weights.h"
#include "core.h"
#include "network.h"
#include "pool.h"
#include "profile.h"
#include "run.h"

enum { ROWS = 512, STREAMS = 16, ROUNDS = 15, SEEN = 32, LINE = 64, SIDES = 2 };

struct cost { double bytes, macs; };            /* of the linears that a call met            */

struct whole {
    const struct bench *b;
    struct spec *spec;
    struct model *m;
    int64_t streams, turns;                     /* turns that the configuration has          */
    unsigned char *state[STREAMS];
    int64_t pos[STREAMS];
    int32_t token[ROWS], next;
    float *hidden, *logits;
    uint8_t *pool;                              /* to read                                   */
    int threads[SIDES], sides;                  /* 1 and all, or all                         */
    int rounds;                                 /* timed tokens                              */
    double read[SIDES], int8[SIDES];            /* limits a second; int8 0: unknown          */
    double passes[SIDES][LIMIT_READERS][ROUNDS];
    double written[2];                          /* bytes of a state; of one turn, of all     */
};

/* ---- calls --------------------------------------------------------------------------------- */

static int32_t draw(struct whole *w)
{
    w->next = (int32_t)(((int64_t)w->next * 7919 + 12345) % w->spec->model.vocab_size);
    return w->next;
}

static void restart(struct whole *w)
{
    for (int64_t s = 0; s < w->streams; s++) {
        memset(w->state[s], 0, (size_t)model_state_bytes(w->m));
        w->pos[s] = 0;
    }
}

/* One token of each of n streams, with their logits                                             */
static chi_status step(struct whole *w, int64_t n)
{
    struct model_segment seg[STREAMS];
    for (int64_t s = 0; s < n; s++) {
        w->token[s] = draw(w);
        seg[s] = (struct model_segment){ .tokens = &w->token[s], .rows = 1, .pos = w->pos[s], .stream = (uint64_t)s,
                                         .fresh = !w->pos[s], .state = w->state[s] };
        w->pos[s]++;
    }
    TRY(model_forward(w->m, seg, n, w->hidden));
    return model_logits(w->m, w->hidden, n, w->logits);
}

static chi_status prompt(struct whole *w, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) w->token[i] = draw(w);
    memset(w->state[0], 0, (size_t)model_state_bytes(w->m));
    struct model_segment seg = { .tokens = w->token, .rows = rows, .fresh = true, .state = w->state[0] };
    TRY(model_forward(w->m, &seg, 1, w->hidden));
    return model_logits(w->m, w->hidden + (rows - 1) * w->m->d, 1, w->logits);
}

/* rows > 1: a prompt; else a token of n streams                                                 */
static chi_status timed(struct whole *w, int64_t rows, int64_t n, double *seconds)
{
    double begun = now_s();
    TRY(rows > 1 ? prompt(w, rows) : step(w, n));
    *seconds = now_s() - begun;
    return CHI_OK;
}

/* What linears read and multiply in such a call                                                 */
static chi_status cost_of(struct whole *w, int64_t rows, int64_t n, struct cost *c)
{
    const struct profile_span *s;
    profile_products = true;
    profile_start();
    chi_status st = rows > 1 ? prompt(w, rows) : step(w, n);
    profile_stop();
    profile_products = false;
    *c = (struct cost){ 0, 0 };
    for (int64_t i = profile_spans(&s); i > 0; i--, s++)
        if (!strcmp(s->op, "products")) c->bytes += s->bytes, c->macs += s->flops / 2;
    return st;
}

/* ---- states --------------------------------------------------------------------------------- */

/* Bytes of a stream's state that these turns read                                               */
static double state_read(const struct whole *w, int64_t turns)
{
    return (double)(model_state_bytes(w->m) - (w->turns - turns) * w->m->loop.state_bytes);
}

static chi_status count_written(struct whole *w, double *written)
{
    int64_t bytes = model_state_bytes(w->m), changed = 0;
    unsigned char *was = mem_take((size_t)bytes + LINE, "a state");
    if (!was) return CHI_ENOMEM;
    chi_status st = CHI_OK;
    for (int i = 0; st == CHI_OK && i < SEEN; i++) {
        memcpy(was, w->state[0], (size_t)bytes);
        st = step(w, 1);
        for (int64_t at = 0; at + LINE <= bytes; at += LINE) changed += memcmp(was + at, w->state[0] + at, LINE) != 0;
    }
    mem_free(was);
    *written = (double)changed * LINE / SEEN;
    return st;
}

/* ---- limits --------------------------------------------------------------------------------- */

static void read_passes(struct whole *w, int side, int round)
{
    reader *f[LIMIT_READERS];
    int n = limit_readers(f);
    for (int k = 0; k < n; k++) w->passes[side][k][round] = limit_read_rate(f[k], w->pool);
}

static void close_passes(struct whole *w, int rounds)
{
    reader *f[LIMIT_READERS];
    int n = limit_readers(f);
    for (int side = 0; side < w->sides; side++) {
        w->read[side] = 0;
        for (int k = 0; k < n; k++) w->read[side] = fmax(w->read[side], bench_median(w->passes[side][k], rounds));
    }
}

/* Medians of calls at each number of threads, in turn with reading                              */
static chi_status measure(struct whole *w, int64_t rows, int64_t n, int rounds, double seconds[SIDES])
{
    double t[SIDES][ROUNDS], warm;
    TRY(timed(w, rows, n, &warm));
    for (int i = 0; i < rounds; i++)
        for (int side = 0; side < w->sides; side++) {
            pool_threads(w->threads[side]);
            TRY(timed(w, rows, n, &t[side][i]));
            read_passes(w, side, i);
        }
    close_passes(w, rounds);
    for (int side = 0; side < w->sides; side++) seconds[side] = bench_median(t[side], rounds);
    return CHI_OK;
}

/* ---- decode --------------------------------------------------------------------------------- */

static void print_decode(const struct whole *w, int64_t turns, const struct cost *c, const double seconds[SIDES])
{
    double state = state_read(w, turns), written = w->written[turns > 1], bytes = c->bytes + state + written;
    for (int i = 0; i < w->sides; i++) {
        double rate = bytes / seconds[i];
        printf(w->b->json ? "{\"bench\": \"model_decode\", \"turns\": %lld, \"threads\": %d, \"tok_s\": %.3f, "
               "\"bytes\": %.0f, "
                            "\"weight_bytes\": %.0f, \"state_bytes\": %.0f, \"written_bytes\": %.0f, \"gb_s\": %.3f, "
                            "\"read_gb_s\": %.3f, \"ratio\": %.3f}\n"
                          : "decode   %lld turn(s) %2d thread(s) %8.2f tokens/s  %.4g bytes a token (weights %.4g, "
                            "state read %.3g, written %.3g)  %.2f GB/s of %.2f: %.2f\n",
               (long long)turns, w->threads[i], 1 / seconds[i], bytes, c->bytes, state, written, rate / 1e9,
               w->read[i] / 1e9, rate / w->read[i]);
    }
    fflush(stdout);
}

static chi_status decode(struct whole *w, int64_t turns)
{
    struct cost c;
    double seconds[SIDES];
    w->m->loop.turns = turns;
    restart(w);
    TRY(count_written(w, &w->written[turns > 1]));
    TRY(cost_of(w, 1, 1, &c));
    TRY(measure(w, 1, 1, w->rounds, seconds));
    print_decode(w, turns, &c, seconds);
    return CHI_OK;
}

/* ---- where a token's time goes -------------------------------------------------------------- */

enum { HEAD, EXPERTS, DENSE, LOOP, MIXING, REST, GROUPS };
static const char *const group_name[GROUPS] = {
    "head", "experts: products", "dense: products", "loop: products", "mixing: states, taps, gates",
    "the rest: norms, sums, silu, router"
};

/* By the span that it lies in, or for a span other than "products" by itself                     */
static int group_of(const struct profile_span *s, const struct profile_span *in)
{
    bool products = !strcmp(s->op, "products");
    if (products && !in) return REST;
    const char *name = products ? in->name : s->name, *component = products ? in->component : s->component;
    if (!strcmp(name, "head")) return HEAD;
    if (products) return !strcmp(name, "loop") ? LOOP : !strcmp(component, "moe") ? EXPERTS : DENSE;
    return strstr(name, ".mixer") ? MIXING : REST;
}

/* Each span's own time, and the bytes of products, to its group                                  */
static void add_spans(double ns[GROUPS], double bytes[GROUPS])
{
    const struct profile_span *s;
    int64_t n = profile_spans(&s);
    const struct profile_span *layer = NULL;
    for (int64_t i = 0; i < n; i++) {
        bool products = !strcmp(s[i].op, "products");
        if (!products) layer = &s[i];
        const struct profile_span *in = products && layer && s[i].begin <= layer->end ? layer : NULL;
        int g = group_of(&s[i], in);
        ns[g] += (double)(s[i].end - s[i].begin - s[i].inner);
        if (products) bytes[g] += s[i].bytes;
    }
}

static void print_groups(const struct whole *w, int side, int64_t rows, int64_t n, const double ns[GROUPS],
                         const double bytes[GROUPS])
{
    double total = 0;
    for (int g = 0; g < GROUPS; g++) total += ns[g];
    for (int g = 0; g < GROUPS; g++)
        printf(w->b->json ? "{\"bench\": \"model_share\", \"rows\": %lld, \"streams\": %lld, \"threads\": %d, "
               "\"group\": "
                            "\"%s\", \"ms\": %.4f, \"share\": %.4f, \"bytes\": %.0f, \"of_read\": %.3f}\n"
                          : "where    %3lld rows of %2lld %2d thread(s) %-36s %9.3f ms %5.1f %%  %9.4g bytes, of "
                            "reading %.2f\n",
               (long long)rows, (long long)n, w->threads[side], group_name[g], ns[g] / 1e6,
               (w->b->json ? 1 : 100) * ns[g] / fmax(total, 1), bytes[g],
               bytes[g] / fmax(ns[g] / 1e9, 1e-12) / w->read[side]);
    fflush(stdout);
}

/* Of calls with so many rows of each of n streams; w->read is that of the last measure()         */
static chi_status shares(struct whole *w, int64_t rows, int64_t n)
{
    int calls = rows * n > 1 ? 1 : w->rounds;
    for (int side = 0; side < w->sides; side++) {
        double ns[GROUPS] = { 0 }, bytes[GROUPS] = { 0 };
        pool_threads(w->threads[side]);
        profile_products = true;
        profile_start();
        chi_status st = CHI_OK;
        for (int i = 0; i < calls && st == CHI_OK; i++) st = rows > 1 ? prompt(w, rows) : step(w, n);
        profile_stop();
        profile_products = false;
        TRY(st);
        add_spans(ns, bytes);
        for (int g = 0; g < GROUPS; g++) ns[g] /= calls, bytes[g] /= calls;
        bytes[MIXING] = (double)n * (state_read(w, w->turns) + w->written[w->turns > 1]);
        print_groups(w, side, rows, n, ns, bytes);
    }
    return CHI_OK;
}

/* ---- many rows ------------------------------------------------------------------------------ */

/* Seconds below which no such call can be                                                        */
static double bound(const struct whole *w, int side, const struct cost *c, double state)
{
    double reading = (c->bytes + state) / w->read[side];
    return w->int8[side] > 0 ? fmax(reading, c->macs / w->int8[side]) : reading;
}

static void print_many(const struct whole *w, const char *what, int64_t rows, const struct cost *c, double state,
                       const double seconds[SIDES], const double one[SIDES])
{
    for (int i = 0; i < w->sides; i++) {
        double least = bound(w, i, c, state), rate = (double)rows / seconds[i];
        printf(w->b->json ? "{\"bench\": \"model_%s\", \"rows\": %lld, \"threads\": %d, \"tok_s\": %.3f, \"bytes\": "
               "%.0f, "
                            "\"gmacs\": %.3f, \"bound_tok_s\": %.3f, \"ratio\": %.3f, \"gmac_s\": %.2f, "
                            "\"int8_gmac_s\": %.2f, \"times_one\": %.3f}\n"
                          : "%-8s %3lld rows %2d thread(s) %9.2f tokens/s  %.4g bytes, %.4g G multiply-adds: bound "
                            "%.2f, reached %.2f  (%.1f of %.1f GMAC/s; %.2f times one)\n",
               what, (long long)rows, w->threads[i], rate, c->bytes + state, c->macs / 1e9, (double)rows / least,
               least / seconds[i], c->macs / seconds[i] / 1e9, w->int8[i] / 1e9, rate * one[i]);
    }
    fflush(stdout);
}

static chi_status prefill(struct whole *w, const double one[SIDES])
{
    for (int64_t rows = 128; rows <= ROWS; rows *= 4) {
        struct cost c;
        double seconds[SIDES];
        TRY(cost_of(w, rows, 1, &c));
        TRY(measure(w, rows, 1, (int)min_i64(w->rounds, 3), seconds));
        print_many(w, "prefill", rows, &c, 2 * state_read(w, w->turns), seconds, one);
        if (rows < ROWS) TRY(shares(w, rows, 1));
    }
    return CHI_OK;
}

static chi_status batched(struct whole *w, double one[SIDES])
{
    for (int64_t n = 1; n <= w->streams; n *= 2) {
        struct cost c;
        double seconds[SIDES];
        restart(w);
        TRY(cost_of(w, 1, n, &c));
        TRY(measure(w, 1, n, n == 1 ? w->rounds : (int)min_i64(w->rounds, 5), seconds));
        if (n == 1) memcpy(one, seconds, SIDES * sizeof *one);
        double state = (double)n * (state_read(w, w->turns) + w->written[w->turns > 1]);
        print_many(w, "batched", n, &c, state, seconds, one);
        if (n == w->streams) TRY(shares(w, 1, n));
    }
    return CHI_OK;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static chi_status open_model(struct whole *w)
{
    const struct bench *b = w->b;
    struct config *config;
    if (run_has_weights(b->subject))
        return run_load_model(b->subject, b->override, b->n_override, NULL, SPEC_MODEL, ROWS, STREAMS, &w->spec,
                              &w->m);
    TRY(run_config(b->subject, b->override, b->n_override, &config));
    TRY(spec_open(&w->spec, config, SPEC_MODEL));
    TRY(model_open(&w->m, w->spec, MODEL_INFER, ROWS, STREAMS));
    return bench_model_weights(w->m);
}

static chi_status take_room(struct whole *w)
{
    w->spec->loop.o.adaptive_exit = 0;
    w->turns = w->m->loop.length ? w->m->loop.turns : 1;
    w->streams = STREAMS;
    for (int64_t s = 0; s < w->streams; s++)
        if (!(w->state[s] = mem_take((size_t)model_state_bytes(w->m) + LINE, "a stream"))) return CHI_ENOMEM;
    w->hidden = mem_take((size_t)(ROWS * w->m->d) * sizeof *w->hidden, "hidden rows");
    w->logits = mem_take((size_t)(STREAMS * w->m->vocab) * sizeof *w->logits, "logits");
    w->pool = mem_take((size_t)limit_bytes(), "memory to read");
    if (!w->hidden || !w->logits || !w->pool) return CHI_ENOMEM;
    memset(w->pool, 1, (size_t)limit_bytes());
    return CHI_OK;
}

static void choose_threads(struct whole *w)
{
    w->rounds = (int)min_i64(w->b->steps, ROUNDS);
    w->sides = w->b->compare ? 2 : 1;
    w->threads[0] = w->b->compare ? 1 : w->b->threads;
    w->threads[1] = w->b->threads;
    for (int side = 0; side < w->sides; side++) {
        pool_threads(w->threads[side]);
        w->int8[side] = bench_int8_peak();
    }
}

static chi_status all_figures(struct whole *w)
{
    double one[SIDES] = { 0 };
    TRY(take_room(w));
    choose_threads(w);
    if (w->turns > 1) TRY(decode(w, 1));
    TRY(decode(w, w->turns));
    TRY(shares(w, 1, 1));
    TRY(batched(w, one));
    return prefill(w, one);
}

chi_status bench_model(const struct bench *b)
{
    struct whole w = { .b = b, .next = 1 };
    chi_status st = open_model(&w);
    if (st == CHI_OK) st = all_figures(&w);
    for (int64_t s = 0; s < STREAMS; s++) mem_free(w.state[s]);
    void *block[] = { w.hidden, w.logits, w.pool };
    for (int64_t i = 0; i < COUNT(block); i++) mem_free(block[i]);
    profile_drop();
    pool_threads(b->threads);
    model_close(w.m);
    spec_close(w.spec);
    return st;
}
