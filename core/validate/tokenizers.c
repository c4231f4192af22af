/* tokenizers.c - checks of tokenizers: every text comes back, ids are those that it has.             */
#include <stdlib.h>
#include <string.h>

#include <chimera/data.h>

#include "core.h"
#include "files.h"
#include "hosting.h"
#include "kinds.h"
#include "tokens.h"

enum { LONGEST = 600, TEXTS = 300 };

struct bench {
    struct trial *t;
    const struct chi_tokenizer_ops *ops;
    struct bench_part part;
    void   *self;
    struct pile pile;
    int64_t vocab;
    /* the present call */
    const unsigned char *text;
    int64_t n, max, answer;
    int32_t *ids, id;
    unsigned char *out;
    chi_status s;
};

static void run_open(void *arg)
{
    struct bench *b = arg;
    b->s = b->ops->open(b->part.host, b->self, b->part.conf);
}

static void run_encode(void *arg)
{
    struct bench *b = arg;
    b->s = tokens_of(b->t->component, b->self, b->text, b->n, b->ids, b->max, &b->answer);
}

static void run_decode(void *arg)
{
    struct bench *b = arg;
    b->answer = b->ops->decode(b->self, b->id, b->out, b->max);
}

/* Opens it with its defaults, then makes self read-only.  False: skipped or failed               */
static bool start(struct bench *b, struct trial *t)
{
    *b = (struct bench){ .t = t, .ops = t->component->ops };
    if (!part_bench_open(&b->part, t, 0, NULL)) return false;
    services_register();
    b->self = pile_take(&b->pile, b->ops->self_size, 64, true, "self");
    if (b->self) memset(b->self, 0, b->ops->self_size);
    bool ok = call_guarded(t, "open", b->part.options, run_open, b);
    if (ok && b->s != CHI_OK) {
        trial_skip(t, "it does not open with its defaults: %s", fail_text());
        ok = false;
    }
    if (ok) {
        guard_read_only(b->self, true);
        b->vocab = b->ops->vocab(b->self);
    }
    return ok;
}

static void end(struct bench *b)
{
    pile_drop(&b->pile);
    part_bench_close(&b->part);
}

/* Texts of all sorts: bytes at random, letters, pieces of UTF-8 whole and cut, long runs            */
static int64_t draw_text(struct trial *t, int i, unsigned char *text)
{
    static const char *const piece[] = { "the ", "of", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf0\x9f",
                                         "\xc0\x80",
                                         "\xed\xa0\x80", "\n", "\r\n", " ", "  ", "12345", "\xff\xfe", "e\xcc\x81" };
    int64_t n = 0, want = trial_between(t, 0, i < 20 ? 4 : LONGEST - 8);
    unsigned char run = (unsigned char)trial_between(t, 0, 255);
    while (n < want) {
        const char *p = piece[trial_between(t, 0, COUNT(piece) - 1)];
        if (i % 4 == 0) text[n++] = (unsigned char)trial_between(t, 0, 255);
        else if (i % 4 == 1) text[n++] = (unsigned char)trial_between(t, 32, 126);
        else if (i % 4 == 2) text[n++] = run;
        else {
            memcpy(text + n, p, strlen(p));
            n += (int64_t)strlen(p);
        }
    }
    return n;
}

/* Ids of the text in a block that ends with them; their number, or -1 after a failure                */
static int64_t encode(struct bench *b, const unsigned char *text, int64_t n, int64_t max, struct pile *p)
{
    char with[48];
    snprintf(with, sizeof with, "%lld bytes, max %lld", (long long)n, (long long)max);
    b->text = pile_copy(p, text, n, 1, true, "text");
    b->ids = pile_take(p, max * (int64_t)sizeof *b->ids, 4, true, "ids");
    b->n = n;
    b->max = max;
    if (!call_guarded(b->t, "encode", with, run_encode, b)) return -1;
    if (b->s != CHI_OK) {
        trial_fail(b->t, "%s", fail_text());
        return -1;
    }
    if (b->answer >= 0 && b->answer <= n) return b->answer;
    trial_fail(b->t, "encode makes %lld ids of %lld bytes, wanted is at most one a byte", (long long)b->answer,
               (long long)n);
    return -1;
}

static void run_decode_all(void *arg)
{
    struct bench *b = arg;
    int64_t at = 0, room = b->max;
    unsigned char *out = b->out;
    for (int64_t i = 0; i < b->n && at >= 0; i++) {
        b->id = b->ids[i];
        b->out = out + at;
        b->max = room - at;
        run_decode(b);
        at = b->answer < 0 || b->answer > b->max ? -1 : at + b->answer;
    }
    b->answer = at;
}

/* Bytes of n ids in out[room], which ends with its pages; their number, or -1                        */
static int64_t decode(struct bench *b, int64_t n, unsigned char *out, int64_t room)
{
    b->n = n;
    b->out = out;
    b->max = room;
    return call_guarded(b->t, "decode", "ids of a text", run_decode_all, b) ? b->answer : -1;
}

static void one_round_trip(struct bench *b, const unsigned char *text, int64_t n)
{
    struct pile p = { .n = 0 };
    unsigned char *out = pile_take(&p, LONGEST, 1, true, "text");
    int64_t n_ids = encode(b, text, n, n, &p), back = -1;
    bool fine = n_ids >= 0;
    for (int64_t i = 0; fine && i < n_ids; i++)
        if (b->ids[i] < 0 || b->ids[i] >= b->vocab || b->ids[i] == b->ops->end(b->self)) {
            trial_fail(b->t, "encode makes id %d, wanted is one of 0..%lld without the end of a document, %d",
                       (int)b->ids[i], (long long)b->vocab - 1, (int)b->ops->end(b->self));
            fine = false;
        }
    if (fine) back = decode(b, n_ids, out, LONGEST);
    int64_t at = 0;
    while (fine && at < min_i64(back, n) && out[at] == text[at]) at++;
    if (fine && (back != n || at < n))
        trial_fail(b->t, "decode(encode(text)) is another text from byte %lld on: %lld bytes went in, %lld came out "
                   "(byte %lld is 0x%02x)", (long long)at, (long long)n, (long long)back, (long long)at,
                   at < n ? text[at] : 0);
    pile_drop(&p);
}

static void round_trip(struct trial *t)
{
    struct bench b;
    unsigned char text[LONGEST];
    if (start(&b, t))
        for (int i = 0; i < TEXTS && t->outcome == TRIAL_OK; i++) one_round_trip(&b, text, draw_text(t, i, text));
    end(&b);
}

/* Fewer ids than there are: the first ones, and the same count                                         */
static void maxima(struct trial *t)
{
    struct bench b;
    unsigned char text[LONGEST];
    if (start(&b, t))
        for (int i = 0; i < 60 && t->outcome == TRIAL_OK; i++) {
            struct pile p = { .n = 0 };
            int64_t n = draw_text(t, i, text), all = encode(&b, text, n, n, &p);
            const int32_t *ids = b.ids;
            int64_t max = all > 0 ? trial_between(t, 0, all) : 0, some = all < 0 ? -1 : encode(&b, text, n, max, &p);
            if (all >= 0 && some >= 0 && some != all)
                trial_fail(t, "encode says %lld ids where %lld are wanted and %lld where all are, wanted is the "
                           "number that the text has", (long long)some, (long long)max, (long long)all);
            else if (all >= 0 && some >= 0 && max && memcmp(ids, b.ids, (size_t)max * sizeof *ids) != 0)
                trial_fail(t, "the first %lld ids differ when only these are wanted", (long long)max);
            pile_drop(&p);
        }
    end(&b);
}

static void run_piece(void *arg)
{
    struct bench *b = arg;
    b->answer = b->ops->piece(b->self, b->text, b->n);
}

/* The bytes of the first piece of the text's rest, or -1                                                */
static int64_t piece(struct bench *b, const unsigned char *text, int64_t n)
{
    struct pile p = { .n = 0 };
    b->text = pile_copy(&p, text, n, 1, true, "text");
    b->n = n;
    bool fine = call_guarded(b->t, "piece", "the rest of a text", run_piece, b);
    if (fine && (b->answer < 1 || b->answer > n))
        trial_fail(b->t, "piece answers %lld for %lld bytes, wanted is 1 .. %lld", (long long)b->answer, (long long)n,
                   (long long)n);
    pile_drop(&p);
    return fine && b->t->outcome == TRIAL_OK ? b->answer : -1;
}

/* Ids of the pieces, one after another, are the ids of the text                                         */
static void one_text_of_pieces(struct bench *b, const unsigned char *text, int64_t n)
{
    struct pile p = { .n = 0 };
    int64_t all = encode(b, text, n, n, &p), done = 0, m = 0;
    const int32_t *want = b->ids;
    for (int64_t i = 0; all >= 0 && i < n && (m = piece(b, text + i, n - i)) > 0; i += m) {
        struct pile q = { .n = 0 };
        int64_t some = encode(b, text + i, m, m, &q);
        if (some >= 0 && (done + some > all || memcmp(want + done, b->ids, (size_t)some * sizeof *want) != 0))
            trial_fail(b->t, "the piece of bytes %lld .. %lld has other ids than these bytes have in the text: a "
                       "token crosses its end", (long long)i, (long long)(i + m) - 1);
        done += some;
        pile_drop(&q);
        if (b->t->outcome != TRIAL_OK) break;
    }
    pile_drop(&p);
}

static void pieces(struct trial *t)
{
    struct bench b;
    unsigned char text[LONGEST];
    bool tells = CHI_HAS(struct chi_tokenizer_ops, (const struct chi_tokenizer_ops *)t->component->ops, piece);
    if (!tells) trial_skip(t, "it does not tell where pieces end (optional)");
    if (!tells) return;
    if (start(&b, t))
        for (int i = 0; i < 100 && t->outcome == TRIAL_OK; i++) one_text_of_pieces(&b, text, draw_text(t, i, text));
    end(&b);
}

/* Ids one by one: short rooms, the end, ids that there are not                                          */
static void ids(struct trial *t)
{
    struct bench b;
    if (start(&b, t)) {
        int32_t stop = b.ops->end(b.self);
        const int64_t strange[] = { -1, b.vocab, INT32_MAX, INT32_MIN, stop };
        if (b.vocab < 1 || b.vocab > INT32_MAX || stop < 0 || stop >= b.vocab)
            trial_fail(t, "the end of a document is id %d, wanted is one of 0..%lld", (int)stop,
                       (long long)b.vocab - 1);
        for (int64_t i = 0; i < COUNT(strange) + min_i64(b.vocab, 2000) && t->outcome == TRIAL_OK; i++) {
            struct pile p = { .n = 0 };
            b.id = (int32_t)(i < COUNT(strange) ? strange[i] : i - COUNT(strange));
            b.max = i % 3 - i % 2;
            b.max = max_i64(b.max, 0);
            b.out = pile_take(&p, b.max, 1, true, "text");
            if (call_guarded(t, "decode", "one id", run_decode, &b)
                && (b.answer < 0 || (i < COUNT(strange) && b.answer)))
                trial_fail(t, "decode says that id %d has %lld bytes, wanted is 0%s", (int)b.id, (long long)b.answer,
                           b.answer < 0 ? " or more" : ": it ends a document or is outside of the vocabulary");
            pile_drop(&p);
        }
    }
    end(&b);
}

const struct check checks_tokenizers[] = {
    { "tokenizer.round_trip", CHI_TOKENIZER, 40,
      "decode(encode(text)) is text, whatever the bytes; ids are in the vocabulary", round_trip },
    { "tokenizer.max", CHI_TOKENIZER, 20, "encode writes no more ids than asked for, and says how many there are",
      maxima },
    { "tokenizer.pieces", CHI_TOKENIZER, 40, "a text's ids are those of its pieces, one after another", pieces },
    { "tokenizer.ids", CHI_TOKENIZER, 20, "end and strange ids have no bytes; decode writes no more than asked for",
      ids },
    { 0 }
};
