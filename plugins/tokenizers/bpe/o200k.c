/* o200k.c - the vocabulary of 200,073 ids that the reference model is made for.
 *
 *     0 .. 199,997         ranks of o200k_base, the file that tiktoken publishes
 *     199,999              <|endoftext|>, which ends a document
 *     200,018              <|endofprompt|>
 *     200,019 .. 200,072   54 tokens that structure talk, tools and sources
 *
 * The ids between belong to nobody and have no bytes.  Sources: tiktoken's o200k_base; the 54 in the
 * order of splintr's table of agent tokens.                                                       */
#include <chimera/plugin.h>

#include "encoder.h"

#include <string.h>

enum { RANKS = 199998, END = 199999, END_OF_PROMPT = 200018, FIRST_AGENT = 200019, IDS = 200073 };
#define RANKS_HASH 0x473c8241a55f1627u

struct o200k_conf {
    const char *file;
    bool special;
};

static const char *const agent[] = {
    "system", "user", "assistant", "im_start", "im_end", "think", "/think", "plan", "/plan", "step", "/step", "act",
    "/act", "observe", "/observe", "function", "/function", "result", "/result", "error", "/error", "code", "/code",
    "output", "/output", "lang", "/lang", "context", "/context", "quote", "/quote", "cite", "/cite", "source",
    "/source",
    "memory", "/memory", "recall", "/recall", "pad", "stop", "sep", "image", "/image", "audio", "/audio", "video",
    "/video", "title", "/title", "section", "/section", "summary", "/summary",
};
enum { AGENTS = sizeof agent / sizeof *agent };
_Static_assert(FIRST_AGENT + AGENTS == IDS, "54 tokens end the vocabulary");

static struct special named(char *to, const char *name, int32_t id)
{
    size_t n = strlen(name);
    memcpy(to, "<|", 2);
    memcpy(to + 2, name, n);
    memcpy(to + 2 + n, "|>", 2);
    return (struct special){ .text = to, .n = (int64_t)n + 4, .id = id };
}

static chi_status add_special(const struct chi_host *h, struct encoder *e)
{
    enum { ROOM = 24 };
    char *text = h->alloc(h, (AGENTS + 2) * ROOM);
    e->special = h->alloc(h, (AGENTS + 2) * sizeof *e->special);
    if (!text || !e->special) return CHI_ENOMEM;
    e->special[e->n_special++] = named(text, "endoftext", END);
    e->special[e->n_special++] = named(text + ROOM, "endofprompt", END_OF_PROMPT);
    for (int32_t i = 0; i < AGENTS; i++)
        e->special[e->n_special++] = named(text + (i + 2) * ROOM, agent[i], FIRST_AGENT + i);
    return CHI_OK;
}

/* Of all tokens' bytes and lengths: another file of as many lines is no o200k                    */
static uint64_t hash_of(const struct vocabulary *v)
{
    uint64_t h = 0;
    for (int64_t i = 0; i < v->n; i++) h = (h ^ v->hash[i]) * 0xd6e8feb86659fd93u + (uint64_t)v->at[i + 1];
    return h ^ h >> 32;
}

static chi_status o200k_open(const struct chi_host *h, void *self, const void *conf)
{
    const struct o200k_conf *c = conf;
    struct encoder *e = self;
    if (!c->file || !*c->file)
        return h->fail(h, CHI_ECONF,
                       "file is not set: name the ranks of o200k_base, which `./quickstart o200k` fetches");
    chi_status s = bpe_read_ranks(h, c->file, &e->v);
    if (s != CHI_OK) return s;
    if (e->v.n != RANKS || hash_of(&e->v) != RANKS_HASH)
        return h->fail(h, CHI_EDATA,
                       "%s: %lld ranks that are not those of o200k_base, which has %d: `./quickstart o200k` "
                       "fetches them; other vocabularies are for tokenizer bpe", c->file, (long long)e->v.n, RANKS);
    e->step[e->n_step++] = (struct step){ .kind = STEP_RULE, .rule = SPLIT_O200K };
    e->recognise = c->special;
    e->end = END;
    e->ids = IDS;
    if ((s = add_special(h, e)) != CHI_OK) return s;
    return bpe_encoder_ready(h, e);
}

static const struct chi_option options[] = {
    CHI_PATH(struct o200k_conf, file, "", "o200k_base.tiktoken, which `./quickstart o200k` fetches", 0),
    CHI_BOOL(struct o200k_conf, special, "no",
             "recognise <|im_start|> and its like in a text; <|endoftext|> never is", 0),
    CHI_OPTIONS_END
};

static const struct chi_tokenizer_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct encoder), .open = o200k_open, .vocab = bpe_ids,
    .end = bpe_end, .encode = bpe_encode_plain, .decode = bpe_decode, .encode_in = bpe_encode_in, .rules = bpe_rules,
};

const struct chi_component bpe_o200k = {
    .struct_size = sizeof bpe_o200k, .kind = CHI_TOKENIZER, .name = "o200k", .revision = 1,
    .summary = "the 200,073 ids of o200k_base and 54 tokens for talk and tools", .options = options,
    .conf_size = sizeof(struct o200k_conf), .ops = &ops,
};
