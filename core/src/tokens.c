/* tokens.c - an instance of the tokenizer that the spec names, with a host of its own:
 * a tokenizer runs outside of any model and needs only messages and memory.       */
#include "tokens.h"

#include "core.h"
#include "rng.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 64 };

struct tokens {
    struct chi_host host;               /* first: host functions find the rest by it */
    const struct chi_tokenizer_ops *ops;
    void    *self;
    int64_t  vocab, room;
    int32_t  end;
    unsigned char *bytes;               /* [room]: of the token decoded last       */
    int      n_block;
    void    *block[BLOCKS];             /* what the tokenizer took                 */
};

/* ---- the host ---------------------------------------------------------------- */

static chi_status host_fail(const struct chi_host *h, chi_status s, const char *fmt, ...)
{
    va_list a, b;
    va_start(a, fmt);
    va_copy(b, a);
    int n = vsnprintf(NULL, 0, fmt, b);
    va_end(b);
    char *text = xcalloc((size_t)n + 1, 1);
    vsnprintf(text, (size_t)n + 1, fmt, a);
    va_end(a);
    fail(s, "%s: %s", h->instance, text);
    free(text);
    return s;
}

static void host_log(const struct chi_host *h, int level, const char *fmt, ...)
{
    char text[512];
    va_list a;
    va_start(a, fmt);
    vsnprintf(text, sizeof text, fmt, a);
    va_end(a);
    if (level >= CHI_LOG_WARN) warn("%s: %s", h->instance, text);
    else if (level == CHI_LOG_INFO) note("%s: %s", h->instance, text);
}

static void *host_alloc(const struct chi_host *h, size_t bytes)
{
    struct tokens *t = (struct tokens *)(uintptr_t)h;
    if (t->n_block == BLOCKS) {
        fail(CHI_ENOMEM, "the tokenizer takes more than %d blocks of memory", BLOCKS);
        return NULL;
    }
    void *p = mem_take(bytes, "the tokenizer");
    if (p) t->block[t->n_block++] = p;
    return p;
}

static void host_parallel(const struct chi_host *h, int64_t n, chi_task *task, void *arg)
{
    (void)h;
    struct chi_scratch none = { NULL, 0, 0 };
    for (int64_t i = 0; i < n; i++) task(arg, i, &none);
}

static void host_reduce(const struct chi_host *h, float *acc, const float *part, int64_t n, int64_t len)
{
    (void)h;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < len; j++) acc[j] += part[i * len + j];
}

static uint64_t host_random(const struct chi_host *h, uint64_t stream, uint64_t counter)
{
    uint32_t w[4];
    rng_words(w, stream, RNG_PLUGIN, 0, rng_who(h->instance), counter);
    return (uint64_t)w[0] << 32 | w[1];
}

static const void *host_service(const struct chi_host *h, const char *id)
{
    (void)h;
    (void)id;
    return NULL;
}

/* ---- life -------------------------------------------------------------------- */

static chi_status check(struct tokens *t, const struct spec *spec)
{
    const char *name = spec->tokenizer.component->name;
    t->vocab = t->ops->vocab(t->self);
    t->end = t->ops->end(t->self);
    if (t->vocab < 1 || t->end < 0 || t->end >= t->vocab)
        return fail(CHI_EPLUGIN, "tokenizer %s: %lld tokens with the end at %d make no sense",
                    name, (long long)t->vocab, (int)t->end);
    if (t->vocab > spec->model.vocab_size)
        return fail(CHI_ECONF, "model.vocab_size = %lld: tokenizer %s has %lld tokens; set "
                    "vocab_size to at least that", (long long)spec->model.vocab_size, name,
                    (long long)t->vocab);
    return CHI_OK;
}

chi_status tokens_open(struct tokens **out, const struct spec *spec)
{
    const struct chi_component *c = spec->tokenizer.component;
    if (!c) return fail(CHI_ECONF, "data.tokenizer is not set: text needs one, for instance byte");
    struct tokens *t = xcalloc(1, sizeof *t);
    t->host = (struct chi_host){
        .struct_size = sizeof t->host, .abi_major = CHI_ABI_MAJOR, .abi_minor = CHI_ABI_MINOR,
        .core_version = CHIMERA_VERSION, .instance = "tokenizer", .fail = host_fail,
        .log = host_log, .alloc = host_alloc, .parallel = host_parallel, .reduce = host_reduce,
        .random = host_random, .service = host_service
    };
    t->ops = c->ops;
    t->self = xcalloc(1, t->ops->self_size);
    t->bytes = xcalloc(1, 64);
    t->room = 64;
    chi_status s = t->ops->open ? t->ops->open(&t->host, t->self, spec->tokenizer.conf) : CHI_OK;
    if (s == CHI_OK) s = check(t, spec);
    if (s != CHI_OK) {
        tokens_close(t);
        return s;
    }
    *out = t;
    return CHI_OK;
}

void tokens_close(struct tokens *t)
{
    if (!t) return;
    for (int i = 0; i < t->n_block; i++) mem_free(t->block[i]);
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

chi_status tokens_encode(const struct tokens *t, const unsigned char *text, int64_t n, bool end,
                         int32_t **ids, int64_t *n_ids)
{
    int64_t count = n ? t->ops->encode(t->self, text, n, NULL, 0) : 0, first = end ? 1 : 0;
    int32_t *id = malloc((size_t)(count + first + 1) * sizeof *id);
    if (!id) return fail(CHI_ENOMEM, "a prompt of %lld tokens does not fit into memory", (long long)count);
    if (end) id[0] = t->end;
    if (count) t->ops->encode(t->self, text, n, id + first, count);
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

uint64_t tokens_hash(struct tokens *t)
{
    uint64_t h[3] = { (uint64_t)t->vocab, (uint64_t)t->end, 0 };
    for (int32_t i = 0; i < t->vocab; i++) {
        const unsigned char *b;
        int64_t n = tokens_decode(t, i, &b);
        h[2] = h[2] * 0x9e3779b97f4a7c15u + xxh3(b, (size_t)n) + (uint64_t)n;
    }
    return xxh3(h, sizeof h);
}
