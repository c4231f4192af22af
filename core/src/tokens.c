/* tokens.c - an instance of the tokenizer that the spec names; see tokens.h.       */
#include "tokens.h"

#include "core.h"
#include "files.h"
#include "hosting.h"

#include <inttypes.h>
#include <stdlib.h>

struct tokens {
    struct chi_host *host;              /* owns what the tokenizer took            */
    const struct chi_component *component;
    const struct chi_tokenizer_ops *ops;
    void    *self;
    int64_t  vocab, room;
    int32_t  end;
    unsigned char *bytes;               /* [room]: of the token decoded last       */
};

/* ---- life -------------------------------------------------------------------- */

static chi_status check(struct tokens *t)
{
    t->vocab = t->ops->vocab(t->self);
    t->end = t->ops->end(t->self);
    if (t->vocab >= 1 && t->end >= 0 && t->end < t->vocab) return CHI_OK;
    return fail(CHI_EPLUGIN, "tokenizer %s: %lld tokens with the end at %d make no sense", t->component->name,
                (long long)t->vocab, (int)t->end);
}

chi_status tokens_open_alone(struct tokens **out, const struct spec *spec)
{
    const struct chi_component *c = spec->tokenizer.component;
    if (!c) return fail(CHI_ECONF, "data.tokenizer is not set: text needs one, for instance byte");
    struct tokens *t = xcalloc(1, sizeof *t);
    services_register();
    t->host = host_open(spec, "tokenizer");
    t->component = c;
    t->ops = c->ops;
    t->self = xcalloc(1, t->ops->self_size);
    t->bytes = xcalloc(1, 64);
    t->room = 64;
    chi_status s = t->ops->open ? t->ops->open(t->host, t->self, spec->tokenizer.conf) : CHI_OK;
    if (s == CHI_OK) s = check(t);
    if (s != CHI_OK) {
        tokens_close(t);
        return s;
    }
    *out = t;
    return CHI_OK;
}

chi_status tokens_open(struct tokens **out, const struct spec *spec)
{
    TRY(tokens_open_alone(out, spec));
    struct tokens *t = *out;
    chi_status s = t->vocab <= spec->model.vocab_size
        ? vocabulary_check(spec, tokens_vocabulary(t), spec->vocabulary_of, spec->vocabulary)
        : fail(CHI_ECONF, "model.vocab_size = %lld: tokenizer %s has %lld tokens; set vocab_size to at least that",
               (long long)spec->model.vocab_size, t->component->name, (long long)t->vocab);
    if (s == CHI_OK) return s;
    tokens_close(t);
    *out = NULL;
    return s;
}

void tokens_close(struct tokens *t)
{
    if (!t) return;
    host_close(t->host);
    free(t->bytes);
    free(t->self);
    free(t);
}

/* ---- use --------------------------------------------------------------------- */

int64_t tokens_vocab(const struct tokens *t)
{
    return t->vocab;
}

int32_t tokens_end(const struct tokens *t)
{
    return t->end;
}

int64_t tokens_piece(const struct tokens *t, const unsigned char *text, int64_t n)
{
    return CHI_HAS(struct chi_tokenizer_ops, t->ops, piece) ? t->ops->piece(t->self, text, n) : 0;
}

static chi_status no_tokens(const struct chi_component *c, int64_t n)
{
    return fail(CHI_ENOMEM,
                "tokenizer %s has not the memory to cut a text of %lld bytes into tokens: cut it into shorter "
                "documents", c->name, (long long)n);
}

chi_status tokens_of(const struct chi_component *c, const void *self, const unsigned char *text, int64_t n,
                     int32_t *ids, int64_t max, int64_t *count)
{
    const struct chi_tokenizer_ops *o = c->ops;
    *count = o->encode(self, text, n, ids, max);
    if (*count >= 0) return CHI_OK;
    if (*count == CHI_NO_TOKENS) return no_tokens(c, n);
    if (!CHI_HAS(struct chi_tokenizer_ops, o, encode_in))
        return fail(CHI_EPLUGIN, "tokenizer %s asks for working memory (encode answers %lld), but has no encode_in",
                    c->name, (long long)*count);
    struct chi_scratch work = { .size = (size_t)-*count };
    if (!(work.base = mem_take(work.size, "the tokenizer's working memory"))) return CHI_ENOMEM;
    *count = o->encode_in(self, text, n, ids, max, &work);
    mem_free(work.base);
    if (*count >= 0) return CHI_OK;
    if (*count == CHI_NO_TOKENS) return no_tokens(c, n);
    return fail(CHI_EPLUGIN, "tokenizer %s: encode_in had the %lld bytes that encode asks for, and answers %lld",
                c->name, (long long)work.size, (long long)*count);
}

chi_status tokens_encode(const struct tokens *t, const unsigned char *text, int64_t n, bool end,
                         int32_t **ids, int64_t *n_ids)
{
    int64_t count = 0, first = end ? 1 : 0;
    int32_t *id = malloc((size_t)(n + first + 1) * sizeof *id);
    if (!id) return fail(CHI_ENOMEM, "the tokens of a text of %lld bytes do not fit into memory", (long long)n);
    if (end) id[0] = t->end;
    chi_status s = n ? tokens_of(t->component, t->self, text, n, id + first, n, &count) : CHI_OK;
    if (s == CHI_OK && count > n)
        s = fail(CHI_EPLUGIN, "tokenizer %s made %lld ids of %lld bytes: more than one a byte", t->component->name,
                 (long long)count, (long long)n);
    if (s != CHI_OK) {
        free(id);
        return s;
    }
    *ids = id;
    *n_ids = count + first;
    return CHI_OK;
}

int64_t tokens_decode(struct tokens *t, int32_t id, const unsigned char **bytes)
{
    int64_t n = t->ops->decode(t->self, id, t->bytes, t->room);
    if (n > t->room) {
        t->bytes = xrealloc(t->bytes, (size_t)n);
        t->room = n;
        t->ops->decode(t->self, id, t->bytes, n);
    }
    *bytes = t->bytes;
    return n;
}

struct vocabulary tokens_vocabulary(const struct tokens *t)
{
    return vocabulary_of(t->ops, t->self);
}

/* ---- which vocabulary ----------------------------------------------------------- */

struct vocabulary vocabulary_of(const struct chi_tokenizer_ops *ops, const void *self)
{
    int64_t vocab = ops->vocab(self), room = 256;
    unsigned char *text = xcalloc((size_t)room, 1);
    uint64_t h[3] = { (uint64_t)vocab, (uint64_t)ops->end(self), 0 };
    for (int32_t i = 0; i < vocab; i++) {
        int64_t n = ops->decode(self, i, text, room);
        if (n > room) {
            text = xrealloc(text, (size_t)n);
            room = n;
            ops->decode(self, i, text, room);
        }
        h[2] = h[2] * 0x9e3779b97f4a7c15u + xxh3(text, (size_t)n) + (uint64_t)n;
    }
    free(text);
    struct vocabulary v = { .bytes = xxh3(h, sizeof h) };
    v.all = v.bytes;
    if (CHI_HAS(struct chi_tokenizer_ops, ops, rules)) {
        uint64_t both[2] = { v.bytes, ops->rules(self) };
        v.all = xxh3(both, sizeof both);
    }
    return v;
}

chi_status vocabulary_check(const struct spec *spec, struct vocabulary now, const char *name, uint64_t then)
{
    if (!then || !now.all || then == now.all || then == now.bytes) return CHI_OK;
    const char *file = config_get(spec->config, "tokenizer", "file");
    return fail(CHI_EDATA,
                "%s was trained with the vocabulary %016" PRIx64 ", tokenizer %s%s%s is %016" PRIx64 ": a text "
                "has other ids; give the vocabulary of the training (tokenizer.file=FILE)", name, then,
                spec->tokenizer.component->name, file && *file ? " of " : "", file ? file : "", now.all);
}
