/* export_llama.c - see export_llama.h.
 *
 * The network of a llama (arXiv 2302.13971) is softmax attention with rotary positions and a gated FFN, RMS norms
 * before both and at the end, no biases: layers "attention" and "swiglu" in every block, as this program computes
 * them.  One thing differs: which channels of a head turn together.
 *
 *     here   (j, j + D/2)       there   (2j, 2j + 1)       for j < D/2, by the angle t theta^(-2j/D)
 *
 * q and k are turned alike and meet only in the product q . k, so row 2j there is row j here, row 2j + 1 there
 * row j + D/2 here, and the sums have the same terms.  Rows of blocks move as they are.                        */
#include "export_llama.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"

/* ---- is it one? ---------------------------------------------------------------------------------------- */

static bool is(const struct part *p, const char *name)
{
    return p->component && !strcmp(p->component->name, name);
}

static const char *option(const struct spec *s, const char *section, const char *key)
{
    const char *text = config_get(s->config, section, key);
    return text ? text : "0";
}

static int64_t count(const struct spec *s, const char *section, const char *key)
{
    return strtoll(option(s, section, key), NULL, 10);
}

static chi_status refuse(const char *what)
{
    return fail(CHI_ECONF, "--architecture llama: %s; without the flag the file keeps this program's own names",
                what);
}

/* What it cannot say of linears: a norm of their inputs, and what stands beside them                       */
static chi_status plain_linears(const struct spec *s)
{
    for (int64_t i = 0; i < s->n_rule; i++) {
        const struct chi_quantizer_ops *q = s->rule[i].quantizer.component->ops;
        bool floats = !strcmp(q->values, "f32") || !strcmp(q->values, "bf16");
        if (s->rule[i].o.extra_rmsnorm && !floats) return refuse("a llama has no extra_rmsnorm");
        if (s->rule[i].n_adapter) return refuse("a llama has no adapters");
    }
    return CHI_OK;
}

chi_status llama_fits(const struct spec *s)
{
    const char *at = s->mixer[0].section, *ffn = s->ffn[0].section;
    for (int64_t i = 0; i < s->model.num_hidden_layers; i++)
        if (!is(&s->mixer[i], "attention") || !is(&s->ffn[i], "swiglu") || strcmp(s->mixer[i].section, at) != 0
            || strcmp(s->ffn[i].section, ffn) != 0)
            return refuse("every block of a llama is the same attention and the same swiglu");
    if (s->loop.part.component) return refuse("a llama has no loop");
    if (s->model.logit_soft_cap > 0) return refuse("a llama has no logit_soft_cap");
    if (count(s, at, "window")) return refuse("a llama's attention has no window");
    return plain_linears(s);
}

/* ---- keys ---------------------------------------------------------------------------------------------- */

/* A byte as GPT-2's vocabularies write it: printable ones as in Latin-1, the n-th other as U+0100 + n        */
static char *byte_text(int byte)
{
    int code = 0x100;
    for (int b = 0; b <= byte; b++) {
        bool shown = (b > 32 && b < 127) || (b > 160 && b != 173);
        if (b == byte) code = shown ? byte : code;
        else if (!shown) code++;
    }
    return code < 128 ? xprintf("%c", code) : xprintf("%c%c", 0xc0 | code >> 6, 0x80 | (code & 63));
}

/* The tokenizer "byte" as a vocabulary of that kind without merges; of others only the number of tokens    */
static void vocabulary(struct gguf_writer *w, const struct spec *s)
{
    enum { BYTES = 256, END = 256, NORMAL = 1, CONTROL = 3, UNUSED = 5 };
    int64_t n = s->model.vocab_size;
    if (strcmp(s->data.tokenizer, "byte") != 0) {
        gguf_put_text(w, "tokenizer.ggml.model", "none");
        return;
    }
    char **token = xcalloc((size_t)n, sizeof *token);
    int32_t *type = xcalloc((size_t)n, sizeof *type);
    for (int64_t i = 0; i < n; i++) {
        token[i] = i < BYTES ? byte_text((int)i) : i == END ? xstrdup("<|end|>")
                 : xprintf("<|unused%lld|>", (long long)i);
        type[i] = i < BYTES ? NORMAL : i == END ? CONTROL : UNUSED;
    }
    gguf_put_text(w, "tokenizer.ggml.model", "gpt2");
    gguf_put_text(w, "tokenizer.ggml.pre", "gpt-2");
    gguf_put_texts(w, "tokenizer.ggml.tokens", n, token);
    gguf_put_i32s(w, "tokenizer.ggml.token_type", n, type);
    gguf_put_texts(w, "tokenizer.ggml.merges", 0, NULL);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", END);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", END);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", false);
    for (int64_t i = 0; i < n; i++) free(token[i]);
    free(token);
    free(type);
}

void llama_keys(struct gguf_writer *w, const struct spec *s)
{
    const char *at = s->mixer[0].section;
    uint32_t heads = (uint32_t)count(s, at, "num_heads"), dim = (uint32_t)count(s, at, "head_dim");
    gguf_put_u32(w, "llama.vocab_size", (uint32_t)s->model.vocab_size);
    gguf_put_u32(w, "llama.context_length", (uint32_t)count(s, at, "max_context"));
    gguf_put_u32(w, "llama.embedding_length", (uint32_t)s->model.hidden_size);
    gguf_put_u32(w, "llama.block_count", (uint32_t)s->model.num_hidden_layers);
    gguf_put_u32(w, "llama.feed_forward_length", (uint32_t)count(s, s->ffn[0].section, "intermediate_size"));
    gguf_put_u32(w, "llama.attention.head_count", heads);
    gguf_put_u32(w, "llama.attention.head_count_kv", heads);
    gguf_put_u32(w, "llama.attention.key_length", dim);
    gguf_put_u32(w, "llama.attention.value_length", dim);
    gguf_put_u32(w, "llama.rope.dimension_count", dim);
    gguf_put_f32(w, "llama.rope.freq_base", strtof(option(s, at, "rope_theta"), NULL));
    gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", (float)s->model.rms_norm_eps);
    vocabulary(w, s);
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

char *llama_name(const char *ours)
{
    static const char *const of[][2] = {
        { "embed.weight", "token_embd.weight" }, { "final_norm.weight", "output_norm.weight" },
        { "lm_head.weight", "output.weight" }, { "norm1.weight", "attn_norm.weight" },
        { "mixer.q_proj.weight", "attn_q.weight" }, { "mixer.k_proj.weight", "attn_k.weight" },
        { "mixer.v_proj.weight", "attn_v.weight" }, { "mixer.o_proj.weight", "attn_output.weight" },
        { "norm2.weight", "ffn_norm.weight" }, { "ffn.gate_proj.weight", "ffn_gate.weight" },
        { "ffn.up_proj.weight", "ffn_up.weight" }, { "ffn.down_proj.weight", "ffn_down.weight" },
    };
    int layer = 0, skip = 0;
    bool block = sscanf(ours, "layers.%d.%n", &layer, &skip) == 1 && skip > 0;
    for (int i = 0; i < COUNT(of); i++)
        if (!strcmp(ours + skip, of[i][0]))
            return block ? xprintf("blk.%d.%s", layer, of[i][1]) : xstrdup(of[i][1]);
    return xstrdup(ours);
}

chi_status llama_order(const struct spec *s, const char *ours, void *data, int64_t rows, int64_t bytes)
{
    size_t n = strlen(ours), end = strlen(".q_proj.weight");
    if (n < end || (strcmp(ours + n - end, ".q_proj.weight") != 0 && strcmp(ours + n - end, ".k_proj.weight") != 0))
        return CHI_OK;
    int64_t dim = count(s, s->mixer[0].section, "head_dim"), row = bytes / rows;
    unsigned char *to = data, *from = mem_take((size_t)bytes, ours);
    if (!from) return CHI_ENOMEM;
    memcpy(from, to, (size_t)bytes);
    for (int64_t r = 0; r < rows; r++) {
        int64_t i = r % dim;                                    /* there, in its head                       */
        memcpy(to + r * row, from + (r - i + i / 2 + i % 2 * (dim / 2)) * row, (size_t)row);
    }
    mem_free(from);
    return CHI_OK;
}
