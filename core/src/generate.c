/* generate.c - the loop of generation; see generate.h.  Each step costs the same
 * however long the streams are, and takes no memory.                              */
#include "generate.h"

#include "core.h"

#include <stdlib.h>
#include <string.h>

const char *const generate_end_names[] = { "running", "end", "stop", "length", "interrupted" };

static chi_status open_tokens(struct generator *g, bool ids)
{
    g->end = -1;
    if (ids) return CHI_OK;
    TRY(tokens_open(&g->tokens, g->spec));
    g->end = tokens_end(g->tokens);
    return CHI_OK;
}

/* Ids that may come, and room for their logits                                   */
static chi_status open_choice(struct generator *g, const struct shortlist *allow)
{
    int64_t vocab = g->spec->model.vocab_size, known = g->tokens ? tokens_vocab(g->tokens) : vocab;
    if (allow && allow->id[allow->n - 1] >= known)
        return fail(CHI_ECONF, "token %ld is allowed, but the tokenizer's ids are 0..%lld",
                    (long)allow->id[allow->n - 1], (long long)known - 1);
    g->allow = allow;
    TRY(sampler_open(&g->sampler, allow ? allow->n : known));
    if (allow) g->recent = xcalloc((size_t)max_i64(g->window, 1), sizeof *g->recent);
    g->logits = mem_take((size_t)(g->batch * (allow ? allow->n : vocab)) * sizeof(float), "the logits");
    return g->logits ? CHI_OK : CHI_ENOMEM;
}

chi_status generator_open(struct generator *g, struct model *m, const struct generator_options *how)
{
    const struct spec *spec = model_spec(m);
    const struct generate_options *o = &spec->generate;
    *g = (struct generator){ .spec = spec, .model = m, .batch = how->batch,
                             .window = o->repetition_window, .max_new = o->max_new_tokens };
    g->options = (struct sample_options){
        .temperature = o->temperature, .top_p = o->top_p, .top_k = o->top_k,
        .repetition_penalty = o->repetition_penalty, .seed = (uint64_t)o->seed
    };
    TRY(open_tokens(g, how->ids));
    TRY(open_choice(g, how->allow));
    g->stream_bytes = stream_bytes(model_state_bytes(m), g->window);
    g->streams = mem_take((size_t)(g->batch * g->stream_bytes), "the streams' states");
    if (!g->streams) return CHI_ENOMEM;
    size_t floats = (size_t)(model_max_rows(m) * spec->model.hidden_size);
    g->hidden = mem_take(floats * sizeof(float), "generation");
    return g->hidden ? CHI_OK : CHI_ENOMEM;
}

void generator_close(struct generator *g)
{
    mem_free(g->logits);
    mem_free(g->hidden);
    mem_free(g->streams);
    sampler_close(&g->sampler);
    free(g->recent);
    tokens_close(g->tokens);
    *g = (struct generator){ 0 };
}

struct stream *generator_stream(struct generator *g, int64_t i, uint64_t id)
{
    return stream_init(g->streams + i * g->stream_bytes, model_state_bytes(g->model), g->window, id);
}

/* ---- which model ------------------------------------------------------------- */

static void add_part(FILE *f, int64_t i, const char *what, const struct part *p)
{
    if (p->component)
        fprintf(f, "layers.%lld.%s = %s, revision %u\n", (long long)i, what, p->component->name,
                p->component->revision);
}

static char *describe(const struct spec *spec)
{
    char *text = NULL, *shapes = config_shape_text(spec->config);
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (f) {
        for (int64_t i = 0; i < spec->model.num_hidden_layers; i++) {
            add_part(f, i, "mixer", &spec->mixer[i]);
            add_part(f, i, "ffn", &spec->ffn[i]);
        }
        if (spec->loop.part.component)
            fprintf(f, "loop = %s, revision %u\n", spec->loop.part.component->name,
                    spec->loop.part.component->revision);
        const struct chi_component *t = spec->tokenizer.component;
        if (t) fprintf(f, "tokenizer = %s, revision %u\n", t->name, t->revision);
        else fputs("tokenizer = none, ids alone\n", f);
        fputs(shapes ? shapes : "", f);
        fclose(f);
    }
    free(shapes);
    return text;
}

/* Weights are known by what they do: the logits after 64 tokens spread over the
 * vocabulary, which every matrix and every row of the embedding has a part in.    */
static chi_status hash_weights(struct generator *g, uint64_t *hash)
{
    enum { PROBE = 64 };
    int32_t token[PROBE];
    int64_t rows = 0, vocab = g->spec->model.vocab_size;
    for (int64_t i = 0; i < PROBE; i++) token[i] = (int32_t)(i * 37 * (vocab / PROBE + 1) % vocab);
    void *block = mem_take((size_t)g->stream_bytes, "the model's fingerprint");
    float *logits = mem_take((size_t)vocab * sizeof *logits, "the model's fingerprint");
    if (!block || !logits) {
        mem_free(block);
        return CHI_ENOMEM;
    }
    struct stream *s = stream_init(block, model_state_bytes(g->model), g->window, 0);
    chi_status status = streams_feed(g->model, &s, &(struct stream_text){ token, PROBE }, 1,
                                     g->hidden, NULL, &rows);
    if (status == CHI_OK) status = streams_step(g->model, &s, 1, g->hidden, NULL, logits);
    if (status == CHI_OK) *hash = xxh3(logits, (size_t)vocab * sizeof *logits);
    mem_free(logits);
    mem_free(block);
    return status;
}

chi_status generator_key(struct generator *g, struct session_key *key)
{
    *key = (struct session_key){ .tokenizer = g->tokens ? tokens_vocabulary(g->tokens).bytes : 0,
                                 .vocab = g->spec->model.vocab_size };
    TRY(hash_weights(g, &key->weights));
    key->text = describe(g->spec);
    return key->text ? CHI_OK : fail(CHI_ENOMEM, "no memory for the session's description");
}

/* ---- reading ----------------------------------------------------------------- */

chi_status generate_read(struct generator *g, struct completion *c, const struct prompt *p,
                         int64_t n)
{
    struct stream_text *text = xcalloc((size_t)n, sizeof *text);
    struct stream **s = xcalloc((size_t)n, sizeof *s);
    int32_t **ids = xcalloc((size_t)n, sizeof *ids);
    double start = now_s();
    int64_t rows = 0;
    chi_status status = CHI_OK;

    for (int64_t i = 0; i < n && status == CHI_OK; i++) {
        s[i] = c[i].stream;
        text[i] = (struct stream_text){ p[i].id, p[i].n_id };
        if (!g->tokens) continue;
        status = tokens_encode(g->tokens, p[i].text, p[i].n, s[i]->next < 0, &ids[i], &text[i].n);
        text[i].token = ids[i];
    }
    if (status == CHI_OK)
        status = streams_feed(g->model, s, text, n, g->hidden, g->interrupted, &rows);
    g->prefill_rows += rows;
    for (int64_t i = 0; i < n && status == CHI_OK; i++) g->read += text[i].n;
    g->prefill_s += now_s() - start;
    for (int64_t i = 0; i < n; i++) free(ids[i]);
    free(ids);
    free(s);
    free(text);
    return status;
}

/* ---- writing ----------------------------------------------------------------- */

/* Tokens that the penalty looks at, as places in the shortlist; -1 where they are not in it */
static const int32_t *recent_tokens(struct generator *g, const struct stream *s)
{
    if (!g->allow) return stream_ring(s);
    for (int64_t i = 0; i < s->kept; i++) g->recent[i] = (int32_t)shortlist_find(g->allow, stream_ring(s)[i]);
    return g->recent;
}

static int64_t shown_token(struct generator *g, const struct completion *c, int32_t token, char number[16],
                           const unsigned char **bytes)
{
    if (g->tokens) return tokens_decode(g->tokens, token, bytes);
    *bytes = (const unsigned char *)number;
    return snprintf(number, 16, "%s%ld", c->drawn > 1 ? " " : "", (long)token);
}

/* Draws c's next token of its logits and lets its text out                       */
static chi_status draw_one(struct generator *g, struct completion *c, const float *logits)
{
    struct stream *s = c->stream;
    int32_t token;
    char number[16];
    TRY(sample(&g->sampler, &g->options, logits, recent_tokens(g, s), s->kept, s->id, (uint64_t)s->total, &token));
    if (g->allow) token = g->allow->id[token];
    stream_take(s, token);
    c->drawn++;
    if (g->first_at <= 0) g->first_at = now_s();
    if (token == g->end && !g->ignore_end) {
        c->end = GEN_END;
        return CHI_OK;
    }
    const unsigned char *bytes;
    int64_t n = shown_token(g, c, token, number, &bytes);
    TRY(text_out_put(&c->out, bytes, n));
    if (c->out.stopped) c->end = GEN_STOP;
    else if (c->drawn >= g->max_new) c->end = GEN_LENGTH;
    return c->flush ? c->flush(c->out.ctx) : CHI_OK;
}

/* One token of each stream that runs; *left: how many still do                   */
static chi_status step(struct generator *g, struct completion *c, int64_t n,
                       struct stream **s, int64_t *of, int64_t *left)
{
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++)
        if (c[i].end == GEN_RUNNING) {
            s[k] = c[i].stream;
            of[k++] = i;
        }
    *left = 0;
    if (!k) return CHI_OK;
    TRY(streams_step(g->model, s, k, g->hidden, g->allow, g->logits));
    g->decode_rows += k;
    for (int64_t j = 0; j < k; j++) {
        TRY(draw_one(g, &c[of[j]], g->logits + j * (g->allow ? g->allow->n : g->spec->model.vocab_size)));
        *left += c[of[j]].end == GEN_RUNNING;
    }
    return CHI_OK;
}

chi_status generate_write(struct generator *g, struct completion *c, int64_t n)
{
    struct stream **s = xcalloc((size_t)n, sizeof *s);
    int64_t *of = xcalloc((size_t)n, sizeof *of), left = n;
    chi_status status = CHI_OK;
    double start = now_s();

    for (int64_t i = 0; i < n; i++) c[i].end = g->max_new > 0 ? GEN_RUNNING : GEN_LENGTH;
    while (left && status == CHI_OK && !(g->interrupted && g->interrupted()))
        status = step(g, c, n, s, of, &left);
    for (int64_t i = 0; i < n; i++)
        if (c[i].end == GEN_RUNNING) c[i].end = GEN_INTERRUPTED;
    g->decode_s += now_s() - start;
    free(of);
    free(s);
    return status;
}
