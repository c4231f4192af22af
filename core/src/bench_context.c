/* bench_context.c - time per token and memory at 1, 1000, 10,000 ... tokens of context.
 *
 * One stream reads in pieces of up to PIECE tokens and, where a figure is due, token by token, in
 * turn with a stream that has just begun: the ratio of the two holds on a machine whose speed
 * changes from minute to minute.  The state of a recurrent model has one size, so time and memory
 * should stay as they are.  The exception is attention over everything that came before, which
 * takes longer the more that is, and is refused beyond its max_context.                        */
#include "bench.h"

#include <string.h>

#include "bench_limit.h"
#include "core.h"
#include "model.h"
#include "run.h"

enum { PIECE = 256, STEPS = 32 };

struct text { unsigned char *state; int64_t pos; };
struct reading {
    struct model *m;
    int32_t token[PIECE];
    struct text whole, fresh;
    float *hidden, *logits;
};

static chi_status read_some(struct reading *r, struct text *t, int64_t rows)
{
    int64_t d = model_spec(r->m)->model.hidden_size, vocab = model_spec(r->m)->model.vocab_size;
    for (int64_t i = 0; i < rows; i++) r->token[i] = (int32_t)((t->pos + i) * 7919 % 10007 % vocab);
    struct model_segment seg = { .tokens = r->token, .rows = rows, .pos = t->pos, .fresh = t->pos == 0,
                                 .state = t->state };
    TRY(model_forward(r->m, &seg, 1, r->hidden));
    TRY(model_logits(r->m, r->hidden + (rows - 1) * d, 1, r->logits));
    t->pos += rows;
    return CHI_OK;
}

/* Pieces end where the next figure is due; prefill: the median piece's tokens per second          */
static chi_status read_to(struct reading *r, int64_t end, double *prefill)
{
    double rate[1024];
    int64_t n = 0;
    while (r->whole.pos < end) {
        int64_t rows = min_i64(PIECE, end - r->whole.pos);
        double begun = now_s();
        TRY(read_some(r, &r->whole, rows));
        rate[n++ % COUNT(rate)] = (double)rows / (now_s() - begun);
    }
    *prefill = n ? bench_median(rate, min_i64(n, COUNT(rate))) : 0;
    return CHI_OK;
}

static chi_status timed(struct reading *r, struct text *t, double *seconds)
{
    double begun = now_s();
    TRY(read_some(r, t, 1));
    *seconds = now_s() - begun;
    return CHI_OK;
}

static chi_status figure(struct reading *r, const struct bench *b, double prefill)
{
    double took[STEPS], begin[STEPS];
    int64_t at = r->whole.pos;
    memset(r->fresh.state, 0, (size_t)model_state_bytes(r->m));
    r->fresh.pos = 0;
    for (int i = 0; i < STEPS; i++) {
        TRY(timed(r, &r->whole, &took[i]));
        TRY(timed(r, &r->fresh, &begin[i]));
    }
    double now = bench_median(took, STEPS), then = bench_median(begin, STEPS);
    printf(b->json ? "{\"bench\": \"context\", \"tokens\": %lld, \"us_per_token\": %.1f, \"of_fresh\": %.3f, "
                     "\"prefill_tok_s\": %.0f, \"state_bytes\": %lld, \"taken_bytes\": %lld, \"rss_bytes\": %lld}\n"
                   : "context %8lld tokens  %8.1f us a token, %.2f of a new stream's  prefill %8.0f tokens/s  state "
                     "%lld bytes  taken %lld  resident %lld\n",
           (long long)at, 1e6 * now, now / then, prefill, (long long)model_state_bytes(r->m), (long long)mem_used(),
           (long long)rss_bytes());
    fflush(stdout);
    return CHI_OK;
}

static chi_status figures(struct reading *r, const struct bench *b)
{
    double prefill = 0;
    TRY(read_some(r, &r->whole, 1));
    TRY(figure(r, b, 0));
    for (int64_t end = 1000;; end *= 10) {
        TRY(read_to(r, min_i64(end, b->context), &prefill));
        TRY(figure(r, b, prefill));
        if (end >= b->context) return CHI_OK;
    }
}

chi_status bench_context(const struct bench *b)
{
    struct spec *spec;
    struct reading r = { 0 };
    chi_status st = bench_open(b, PIECE, &spec, &r.m);
    if (st == CHI_OK) {
        r.whole.state = mem_take((size_t)model_state_bytes(r.m) + 64, "a stream");
        r.fresh.state = mem_take((size_t)model_state_bytes(r.m) + 64, "a stream");
        r.hidden = mem_take((size_t)(PIECE * spec->model.hidden_size) * sizeof(float), "hidden rows");
        r.logits = mem_take((size_t)spec->model.vocab_size * sizeof(float), "logits");
        st = r.whole.state && r.fresh.state && r.hidden && r.logits ? figures(&r, b) : CHI_ENOMEM;
    }
    mem_free(r.whole.state);
    mem_free(r.fresh.state);
    mem_free(r.hidden);
    mem_free(r.logits);
    model_close(r.m);
    spec_close(spec);
    return st;
}
