/* dataset.c - see dataset.h: opens the task and the tokenizer, encodes all documents
 * once (4 bytes a token), and deals out batches; the order of rows is pack.h's.  A task
 * that makes examples goes through examples.h instead.                               */
#include "dataset.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core.h"
#include "examples.h"
#include "files.h"
#include "hosting.h"
#include "pack.h"
#include "tokens.h"

struct split {
    int64_t  n_doc, bytes;
    int64_t *first;                         /* [n_doc + 1] tokens before              */
    int64_t *context;                       /* [n_doc] tokens that are not scored; or NULL */
    int32_t *id;
};

struct dataset {
    const struct spec *spec;
    struct chi_host *task_host, *tokenizer_host;
    void   *task, *tokenizer;               /* self of each                           */
    int64_t vocab;
    int32_t end;
    unsigned char *id_bytes;                /* [vocab], 255: ask the tokenizer        */
    struct split split[CHI_SPLITS];
    struct pack  pack;                      /* of the training split                  */
    bool made;                              /* examples, not documents                */
    struct examples examples;
    uint64_t hash, ids_hash;                /* of the documents; of their ids, if these are not the bytes */
    struct vocabulary vocabulary;           /* of the tokenizer; 0: there is none       */
};

static const struct chi_task_ops *task_ops(const struct dataset *d)
{
    return d->spec->task.component->ops;
}

static const struct chi_tokenizer_ops *tokenizer_ops(const struct dataset *d)
{
    return d->spec->tokenizer.component->ops;
}

/* ---- opening ------------------------------------------------------------------- */

static chi_status open_tokenizer(struct dataset *d)
{
    const struct chi_tokenizer_ops *t = tokenizer_ops(d);
    d->tokenizer_host = host_open(d->spec, "tokenizer");
    d->tokenizer = xcalloc(1, t->self_size);
    TRY(t->open(d->tokenizer_host, d->tokenizer, d->spec->tokenizer.conf));
    d->vocab = t->vocab(d->tokenizer);
    d->end = t->end(d->tokenizer);
    if (d->vocab > d->spec->model.vocab_size)
        return fail(CHI_ECONF, "model.vocab_size = %lld is too small for tokenizer %s, which has %lld ids: "
                    "set it to %lld or more", (long long)d->spec->model.vocab_size,
                    d->spec->tokenizer.component->name, (long long)d->vocab, (long long)d->vocab);
    if (d->end < 0 || d->end >= d->vocab)
        return fail(CHI_EPLUGIN, "tokenizer %s ends documents with id %d, but has ids 0..%lld",
                    d->spec->tokenizer.component->name, (int)d->end, (long long)d->vocab - 1);
    d->vocabulary = vocabulary_of(t, d->tokenizer);
    TRY(vocabulary_check(d->spec, d->vocabulary, d->spec->vocabulary_of, d->spec->vocabulary));
    d->id_bytes = xcalloc((size_t)d->vocab, 1);
    for (int64_t i = 0; i < d->vocab; i++) {
        unsigned char text[256];
        int64_t n = i == d->end ? 0 : t->decode(d->tokenizer, (int32_t)i, text, sizeof text);
        d->id_bytes[i] = (unsigned char)min_i64(n, 255);
    }
    return CHI_OK;
}

/* Ids from s->id[at] on; *end is behind the last                                     */
static chi_status encode_text(struct dataset *d, struct split *s, const struct chi_document *doc, int64_t at,
                              int64_t *end)
{
    int64_t room = s->bytes - at, n;
    TRY(tokens_of(d->spec->tokenizer.component, d->tokenizer, doc->text, doc->n, s->id + at, room, &n));
    if (n > room)
        return fail(CHI_EPLUGIN, "tokenizer %s made %lld ids of %lld bytes of %s: more than one a byte",
                    d->spec->tokenizer.component->name, (long long)n, (long long)doc->n, doc->name);
    for (int64_t k = at; k < at + n; k++)
        if (s->id[k] < 0 || s->id[k] >= d->vocab)
            return fail(CHI_EPLUGIN, "tokenizer %s made id %d of %s, but has ids 0..%lld",
                        d->spec->tokenizer.component->name, (int)s->id[k], doc->name,
                        (long long)d->vocab - 1);
    *end = at + n;
    return CHI_OK;
}

/* A choice's tokens begin where its context ends, whatever the tokenizer would join there */
static chi_status encode_document(struct dataset *d, struct split *s, int64_t i, const struct chi_document *doc)
{
    struct chi_choice c = { .context = 0 };
    int64_t at = s->first[i];
    if (s->context) {
        dataset_choice(d, i, &c);
        if (c.context < 0 || c.context >= doc->n || c.bytes < 1)
            return fail(CHI_EPLUGIN, "task %s: of the %lld bytes of %s %lld are context and %lld count as the choice",
                        d->spec->task.component->name, (long long)doc->n, doc->name, (long long)c.context,
                        (long long)c.bytes);
        struct chi_document context = { .name = doc->name, .text = doc->text, .n = c.context };
        TRY(encode_text(d, s, &context, at, &at));
        s->context[i] = at - s->first[i];
    }
    struct chi_document rest = { .name = doc->name, .text = doc->text + c.context, .n = doc->n - c.context };
    return encode_text(d, s, &rest, at, &s->first[i + 1]);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A place in the corpus is one of ids: another vocabulary has others for the same text.  Ids that are
 * the bytes say nothing more                                                         */
static void hash_ids(struct dataset *d, const int32_t *id, int64_t n, const struct chi_document *doc)
{
    int64_t same = 0;
    while (same < n && same < doc->n && id[same] == doc->text[same]) same++;
    if (same == n && n == doc->n) return;
    uint64_t part[2] = { d->ids_hash, XXH3_64bits_withSeed(id, (size_t)n * sizeof *id, (uint64_t)n) };
    d->ids_hash = xxh3(part, sizeof part);
}

/* Folders may move, so only the last part of a name counts                           */
static void hash_document(struct dataset *d, int split, const struct chi_document *doc)
{
    uint64_t part[4] = { d->hash, (uint64_t)split, xxh3(base_name(doc->name), strlen(base_name(doc->name))),
                         XXH3_64bits_withSeed(doc->text, (size_t)doc->n, (uint64_t)doc->n) };
    d->hash = xxh3(part, sizeof part);
}

static void hash_choice(struct dataset *d, int64_t i)
{
    struct chi_choice c;
    dataset_choice(d, i, &c);
    uint64_t part[5] = { d->hash, (uint64_t)c.question, (uint64_t)c.context, (uint64_t)c.bytes, c.right };
    d->hash = xxh3(part, sizeof part);
}

static chi_status open_split(struct dataset *d, int which)
{
    struct split *s = &d->split[which];
    struct chi_document doc;
    s->n_doc = task_ops(d)->documents(d->task, which);
    s->first = xcalloc((size_t)s->n_doc + 1, sizeof *s->first);
    for (int64_t i = 0; i < s->n_doc; i++) {
        task_ops(d)->document(d->task, which, i, &doc);
        s->bytes += doc.n;
    }
    if (dataset_has_choices(d, which)) s->context = xcalloc((size_t)s->n_doc + 1, sizeof *s->context);
    s->id = mem_take((size_t)(s->bytes + 1) * sizeof *s->id, "the corpus as tokens");
    if (!s->id) return CHI_ENOMEM;
    for (int64_t i = 0; i < s->n_doc; i++) {
        task_ops(d)->document(d->task, which, i, &doc);
        TRY(encode_document(d, s, i, &doc));
        hash_document(d, which, &doc);
        hash_ids(d, s->id + s->first[i], s->first[i + 1] - s->first[i], &doc);
        if (s->context) hash_choice(d, i);
    }
    return CHI_OK;
}

static chi_status open_examples(struct dataset *d)
{
    chi_status s;
    TRY(examples_open(&d->examples, d->spec, d->task_host, d->task));
    d->hash = examples_hash(&d->examples, &s);
    return s;
}

static chi_status open_documents(struct dataset *d)
{
    for (int i = 0; i < CHI_SPLITS; i++) TRY(open_split(d, i));
    if (CHI_HAS(struct chi_task_ops, task_ops(d), choice) && d->spec->train.eval_bytes)
        return fail(CHI_ECONF, "train.eval_bytes = %lld counts text, but task %s has questions: set it to 0",
                    (long long)d->spec->train.eval_bytes, d->spec->task.component->name);
    const struct split *train = &d->split[CHI_SPLIT_TRAIN];
    if (train->first[train->n_doc])
        pack_open(&d->pack, train->id, train->first, train->n_doc, d->end, (uint64_t)d->spec->run.seed);
    return CHI_OK;
}

chi_status dataset_can_train(const struct dataset *d)
{
    const struct split *train = &d->split[CHI_SPLIT_TRAIN];
    if (d->made || train->first[train->n_doc]) return CHI_OK;
    return fail(CHI_EDATA, "task %s: nothing to train on: %lld documents without a token",
                d->spec->task.component->name, (long long)train->n_doc);
}

static chi_status open_parts(struct dataset *d)
{
    const struct spec *spec = d->spec;
    d->made = examples_made(task_ops(d));
    services_register();
    if (!d->made) TRY(open_tokenizer(d));
    d->task_host = host_open(spec, "task");
    d->task = xcalloc(1, max_i64(task_ops(d)->self_size, 1));
    TRY(task_ops(d)->open(d->task_host, d->task, spec->task.conf));
    return d->made ? open_examples(d) : open_documents(d);
}

chi_status dataset_open(struct dataset **out, const struct spec *spec)
{
    *out = NULL;
    if (!spec->task.component || !spec->tokenizer.component)
        return fail(CHI_EBUG, "dataset_open wants a spec with a task and a tokenizer");
    struct dataset *d = xcalloc(1, sizeof *d);
    d->spec = spec;
    d->pack.epoch = -1;
    chi_status s = open_parts(d);
    if (s != CHI_OK) dataset_close(d);
    else *out = d;
    return s;
}

void dataset_close(struct dataset *d)
{
    if (!d) return;
    pack_close(&d->pack);
    examples_close(&d->examples);
    for (int i = 0; i < CHI_SPLITS; i++) {
        free(d->split[i].first);
        free(d->split[i].context);
        mem_free(d->split[i].id);
    }
    free(d->id_bytes);
    free(d->task);
    free(d->tokenizer);
    host_close(d->task_host);
    host_close(d->tokenizer_host);
    free(d);
}

/* ---- facts --------------------------------------------------------------------- */

uint64_t dataset_hash(const struct dataset *d)
{
    return d->hash;
}

uint64_t dataset_place_hash(const struct dataset *d)
{
    return d->hash ^ d->ids_hash;
}

struct vocabulary dataset_vocabulary(const struct dataset *d)
{
    return d->vocabulary;
}

bool dataset_makes_examples(const struct dataset *d)
{
    return d->made;
}

int64_t dataset_documents(const struct dataset *d, int split)
{
    return d->made ? d->examples.n[split] : d->split[split].n_doc;
}

int64_t dataset_slices(const struct dataset *d, struct eval_slice slice[EVAL_SLICES])
{
    const char *name;
    int64_t n = 0;
    if (!d->made && !dataset_has_choices(d, CHI_SPLIT_HELDOUT)) return 0;
    for (; n < EVAL_SLICES && (name = task_ops(d)->slice(d->task, n)); n++)
        slice[n] = (struct eval_slice){ .name = name };
    return n;
}

bool dataset_has_choices(const struct dataset *d, int split)
{
    return split == CHI_SPLIT_HELDOUT && CHI_HAS(struct chi_task_ops, task_ops(d), choice);
}

void dataset_choice(const struct dataset *d, int64_t i, struct chi_choice *c)
{
    *c = (struct chi_choice){ .slice = -1 };
    task_ops(d)->choice(d->task, i, c);
    if (c->slice >= EVAL_SLICES) c->slice = -1;
}

const char *dataset_name(const struct dataset *d, int64_t i)
{
    struct chi_document doc;
    task_ops(d)->document(d->task, CHI_SPLIT_HELDOUT, i, &doc);
    return doc.name;
}

int64_t dataset_bytes(const struct dataset *d, int split)
{
    return d->split[split].bytes;
}

int64_t dataset_tokens(const struct dataset *d, int split)
{
    return d->made ? 0 : d->split[split].first[d->split[split].n_doc] + d->split[split].n_doc;
}

int64_t dataset_id_bytes(const struct dataset *d, int32_t id)
{
    unsigned char text[4096];
    if (id < 0 || id >= d->vocab) return 0;
    if (d->id_bytes[id] < 255) return d->id_bytes[id];
    return tokenizer_ops(d)->decode(d->tokenizer, id, text, sizeof text);
}

int64_t dataset_max_segs(const struct dataset *d, int64_t n_seq, int64_t seq_len)
{
    return d->made ? n_seq * examples_a_sequence(&d->examples) : pack_max_parts(&d->pack, n_seq, seq_len);
}

chi_status dataset_document(const struct dataset *d, int split, int64_t i, struct document *doc)
{
    const struct split *s = &d->split[split];
    int64_t room = d->made ? d->examples.longest[split] : s->first[i + 1] - s->first[i] + 1;
    *doc = (struct document){
        .rows = room, .token = xcalloc((size_t)room, sizeof *doc->token),
        .target = xcalloc((size_t)room, sizeof *doc->target),
        .slice = d->made ? xcalloc((size_t)room, sizeof *doc->slice) : NULL,
    };
    if (d->made) {
        chi_status st = examples_get(&d->examples, split, i, doc->token, doc->target, doc->slice, &doc->rows);
        if (st != CHI_OK) document_free(doc);
        return st;
    }
    struct pack p = { .id = s->id, .first = s->first, .n_doc = s->n_doc, .end = d->end };
    pack_rows(&p, (struct packed_part){ i, 0, room }, doc->token, doc->target);
    if (!s->context) return CHI_OK;
    for (int64_t r = 0; r < s->context[i]; r++) doc->target[r] = -1;
    doc->target[room - 1] = -1;                 /* the end: a choice may go on         */
    return CHI_OK;
}

void document_free(struct document *doc)
{
    free(doc->token);
    free(doc->target);
    free(doc->slice);
    *doc = (struct document){ 0 };
}

/* ---- batches ------------------------------------------------------------------- */

static void batch_take(struct batch *b, int64_t n_seq, int64_t seq_len, int64_t max_seg)
{
    *b = (struct batch){
        .n_seq = n_seq, .seq_len = seq_len,
        .token = xcalloc((size_t)(n_seq * seq_len), sizeof(int32_t)),
        .target = xcalloc((size_t)(n_seq * seq_len), sizeof(int32_t)),
        .first_seg = xcalloc((size_t)n_seq + 1, sizeof(int64_t)),
        .seg = xcalloc((size_t)max_seg, sizeof(struct model_segment)),
    };
}

void batch_free(struct batch *b)
{
    free(b->token);
    free(b->target);
    free(b->first_seg);
    free(b->seg);
    *b = (struct batch){ 0 };
}

/* The segment at row at of the batch; its stream is its place among all rows that
 * training will ever see, so that no two draw the same random numbers.               */
static void add_segment(struct dataset *d, struct cursor *c, struct batch *b, int64_t *at,
                        int64_t end)
{
    struct packed_part part = pack_part(&d->pack, c->epoch, c->position, end - *at);
    pack_rows(&d->pack, part, b->token + *at, b->target + *at);
    b->seg[b->n_seg++] = (struct model_segment){
        .tokens = b->token + *at, .rows = part.rows, .fresh = true,
        .stream = (uint64_t)c->epoch * (uint64_t)d->pack.rows + (uint64_t)c->position,
    };
    *at += part.rows;
    c->position += part.rows;
    if (c->position == d->pack.rows) *c = (struct cursor){ c->epoch + 1, 0 };
}

chi_status dataset_batch(struct dataset *d, struct cursor *c, struct batch *b)
{
    const struct train_options *o = &d->spec->train;
    if (d->made) {
        batch_take(b, o->batch_size, o->seq_len, dataset_max_segs(d, o->batch_size, o->seq_len));
        return examples_batch(&d->examples, c, b);
    }
    if (c->epoch < 0 || c->position < 0 || c->position >= d->pack.rows)
        return fail(CHI_EDATA, "position %lld of epoch %lld is outside the corpus, which has %lld rows an "
                    "epoch: it belongs to another corpus", (long long)c->position, (long long)c->epoch,
                    (long long)d->pack.rows);
    batch_take(b, o->batch_size, o->seq_len, dataset_max_segs(d, o->batch_size, o->seq_len));
    for (int64_t s = 0, at = 0; s < b->n_seq; s++) {
        b->first_seg[s] = b->n_seg;
        while (at < (s + 1) * b->seq_len) add_segment(d, c, b, &at, (s + 1) * b->seq_len);
    }
    b->first_seg[b->n_seq] = b->n_seg;
    b->rows = b->scored = b->n_seq * b->seq_len;
    for (int64_t i = 0; i < b->scored; i++) b->bytes += dataset_id_bytes(d, b->target[i]);
    return CHI_OK;
}
