/* evaluate.c - bits per byte on documents, or accuracy on examples, that were not trained on.
 *
 *     bits per byte = sum over rows of -log2 p(target) / bytes of the documents
 *     accuracy      = scored rows whose target has the largest logit / scored rows
 *
 * Choices of questions are documents whose context is not scored (choices.h).
 *
 * Each document is one stream from its start to its end.  Up to STREAMS of them lie
 * side by side in a call, each with its own chunk; a document's sum is a fold over its
 * rows in double, and documents are added in order, so neither the chunks nor the
 * company of a document shows in the result.                                         */
#include <math.h>
#include <stdlib.h>

#include "choices.h"
#include "core.h"
#include "hosting.h"
#include "signals.h"
#include "tally.h"

enum { STREAMS = 16, SCORE_ROWS = 64 };

struct reader {                             /* a document being read                  */
    int64_t  document, at;
    struct document d;
    unsigned char *state;
};

struct evaluation {
    struct model   *model;
    struct dataset *data;
    struct chi_host *h;
    const struct chi_objective_ops *objective;
    const void     *objective_conf;
    int             split;
    int64_t         n_reader, n_doc, next;  /* next: the first document not begun     */
    int64_t         row_limit, done, total; /* rows; the limit is the last document's */
    int64_t         hidden_size, vocab;
    struct reader   reader[STREAMS];
    unsigned char  *states;
    float          *hidden, *logits;        /* [max_rows, d], [SCORE_ROWS, vocab]     */
    double         *nats;                   /* [n_doc]                                */
    bool            choices;
    struct eval_result *result;
};

/* How many documents, and how many rows of the last one, make up limit bytes          */
static chi_status choose_documents(struct evaluation *e, int64_t limit)
{
    int64_t bytes = 0, rows = 0, all = dataset_documents(e->data, e->split);
    for (e->n_doc = 0; e->n_doc < all && (!limit || bytes < limit); e->n_doc++) {
        struct document d;
        TRY(dataset_document(e->data, e->split, e->n_doc, &d));
        for (rows = 0; rows < d.rows && (!limit || bytes < limit); rows++) {
            if (!e->result->examples) bytes += dataset_id_bytes(e->data, d.target[rows]);
            e->result->scored += d.target[rows] >= 0;
        }
        e->total += rows;
        document_free(&d);
    }
    e->row_limit = rows;
    e->result->bytes = bytes;
    return CHI_OK;
}

static chi_status reader_begin(struct evaluation *e, struct reader *r)
{
    document_free(&r->d);
    r->at = 0;
    if (e->next == e->n_doc) return CHI_OK;
    r->document = e->next++;
    TRY(dataset_document(e->data, e->split, r->document, &r->d));
    if (r->document == e->n_doc - 1) r->d.rows = e->row_limit;
    int64_t bytes = model_state_bytes(e->model);
    for (int64_t i = 0; i < bytes; i++) r->state[i] = 0;
    return CHI_OK;
}

/* Is the target's logit the largest, the first of equals?  A NaN is never             */
static bool is_right(const float *logit, int64_t vocab, int32_t target)
{
    int64_t best = 0;
    for (int64_t i = 0; i < vocab; i++) {
        if (logit[i] > logit[best]) best = i;
        if (isnan(logit[i])) return false;
    }
    return best == target;
}

/* Counts rows at.. of a document                                                      */
static void count_right(struct evaluation *e, const struct document *d, int64_t at, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        int32_t target = d->target[at + i], slice = d->slice[at + i];
        if (target < 0) continue;
        bool right = is_right(e->logits + i * e->vocab, e->vocab, target);
        e->result->right += right;
        if (slice < 0) continue;
        e->result->slice[slice].scored++;
        e->result->slice[slice].right += right;
    }
}

/* Adds the losses of rows whose hidden states are given to the document's sum         */
static chi_status score(struct evaluation *e, const struct reader *r, const float *hidden,
                        int64_t rows)
{
    for (int64_t i = 0; i < rows; i += SCORE_ROWS) {
        int64_t n = min_i64(SCORE_ROWS, rows - i);
        TRY(model_logits(e->model, hidden + i * e->hidden_size, n, e->logits));
        TRY(e->objective->loss(e->h, e->objective_conf, e->logits, r->d.target + r->at + i, n,
                               e->vocab, 1, NULL, &e->nats[r->document]));
        if (e->result->examples) count_right(e, &r->d, r->at + i, n);
    }
    return CHI_OK;
}

/* One call: every reader's next chunk                                                 */
static chi_status advance(struct evaluation *e, int64_t active)
{
    struct model_segment seg[STREAMS];
    int64_t chunk = model_max_rows(e->model) / active, n = 0;
    struct reader *of[STREAMS];
    for (int64_t i = 0; i < e->n_reader; i++) {
        struct reader *r = &e->reader[i];
        if (r->at == r->d.rows) continue;
        seg[n] = (struct model_segment){
            .tokens = r->d.token + r->at, .rows = min_i64(chunk, r->d.rows - r->at), .pos = r->at,
            .stream = (uint64_t)r->document, .fresh = !r->at, .state = r->state,
        };
        of[n++] = r;
    }
    TRY(model_forward(e->model, seg, n, e->hidden));
    for (int64_t i = 0, row = 0; i < n; row += seg[i++].rows) {
        TRY(score(e, of[i], e->hidden + row * e->hidden_size, seg[i].rows));
        of[i]->at += seg[i].rows;
        e->done += seg[i].rows;
    }
    return CHI_OK;
}

static chi_status read_documents(struct evaluation *e, void (*progress)(void *, int64_t, int64_t),
                                 void *ctx)
{
    for (;;) {
        int64_t active = 0;
        for (int64_t i = 0; i < e->n_reader; i++) {
            if (e->reader[i].at == e->reader[i].d.rows) TRY(reader_begin(e, &e->reader[i]));
            active += e->reader[i].at < e->reader[i].d.rows;
        }
        e->result->interrupted = active && signals_pending();
        if (!active || e->result->interrupted) return CHI_OK;
        TRY(advance(e, active));
        if (progress) progress(ctx, e->done, e->total);
    }
}

static chi_status take_room(struct evaluation *e)
{
    int64_t state = round_up(model_state_bytes(e->model), 64);
    e->n_reader = min_i64(min_i64(STREAMS, e->n_doc),
                          min_i64(model_max_segs(e->model), model_max_rows(e->model)));
    e->states = mem_take((size_t)(state * e->n_reader + 64), "the streams of an evaluation");
    e->hidden = mem_take((size_t)(model_max_rows(e->model) * e->hidden_size) * 4, "an evaluation");
    e->logits = mem_take((size_t)(SCORE_ROWS * e->vocab) * 4, "the logits of an evaluation");
    if (!e->states || !e->hidden || !e->logits) return CHI_ENOMEM;
    e->nats = xcalloc((size_t)e->n_doc, sizeof *e->nats);
    for (int64_t i = 0; i < e->n_reader; i++) e->reader[i].state = e->states + i * state;
    return CHI_OK;
}

static void drop_room(struct evaluation *e)
{
    for (int64_t i = 0; i < STREAMS; i++) document_free(&e->reader[i].d);
    mem_free(e->states);
    mem_free(e->hidden);
    mem_free(e->logits);
    free(e->nats);
    host_close(e->h);
}

static void take_meters(struct eval_result *r)
{
    while (r->n_meter < EVAL_METERS &&
           tally_value(r->n_meter, &r->meter[r->n_meter].name, &r->meter[r->n_meter].value)) r->n_meter++;
}

double eval_accuracy(int64_t right, int64_t scored)
{
    return scored ? (double)right / (double)scored : 0;
}

static chi_status check_request(const struct spec *spec, const struct dataset *data, int split, int64_t limit_bytes)
{
    const char *task = spec->task.component->name;
    bool made = dataset_makes_examples(data), train = split == CHI_SPLIT_TRAIN;
    if (made && limit_bytes)
        return fail(CHI_ECONF,
                    "a limit of %lld bytes is for text, but task %s makes examples: [task] says how many are "
                    "held out", (long long)limit_bytes, task);
    if (limit_bytes && dataset_has_choices(data, split))
        return fail(CHI_ECONF, "a limit of %lld bytes is for text, but task %s has questions: it takes all of them",
                    (long long)limit_bytes, task);
    if (dataset_documents(data, split)) return CHI_OK;
    if (made && train)
        return fail(CHI_EDATA, "task %s makes training examples without end: measure on the held-out ones", task);
    return fail(CHI_EDATA, "there is nothing to measure on: task %s has no %s %s", task,
                train ? "training" : "held-out", made ? "examples" : "documents");
}

chi_status evaluate(struct model *model, struct dataset *data, int split, int64_t limit_bytes,
                    struct eval_result *result,
                    void (*progress)(void *ctx, int64_t done, int64_t total), void *ctx)
{
    const struct spec *spec = model_spec(model);
    *result = (struct eval_result){ 0 };
    if (!spec->objective.component)
        return fail(CHI_EBUG, "evaluate wants a spec with an objective");
    TRY(check_request(spec, data, split, limit_bytes));
    struct evaluation e = {
        .model = model, .data = data, .split = split, .result = result,
        .objective = spec->objective.component->ops, .objective_conf = spec->objective.conf,
        .hidden_size = spec->model.hidden_size, .vocab = spec->model.vocab_size,
        .h = host_open(spec, "objective"),
    };
    result->examples = dataset_makes_examples(data);
    e.choices = dataset_has_choices(data, split);
    result->n_slice = dataset_slices(data, result->slice);
    chi_status s = choose_documents(&e, limit_bytes);
    if (s == CHI_OK) s = take_room(&e);
    tally_begin();
    if (s == CHI_OK) s = read_documents(&e, progress, ctx);
    tally_end();
    take_meters(result);
    for (int64_t i = 0; s == CHI_OK && i < e.n_doc; i++) result->nats += e.nats[i];
    result->documents = e.n_doc;
    result->tokens = e.total;
    result->loss = result->nats / (double)max_i64(result->scored, 1);
    result->bits_per_byte = result->nats / log(2) / (double)max_i64(result->bytes, 1);
    if (s == CHI_OK && e.choices && !result->interrupted) {
        choices_count(data, e.nats, e.n_doc, result);
        result->choice_nats = e.nats;
        e.nats = NULL;
    }
    drop_room(&e);
    return s;
}

void eval_free(struct eval_result *r)
{
    free(r->choice_nats);
    r->choice_nats = NULL;
}
