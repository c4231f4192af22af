/* llama_run.c - a model of ours that llama.cpp runs, beside the same model run here.
 *
 *     llama_run FOLDER FILE.gguf MODEL BOUND
 *
 * FOLDER has llama.cpp's shared libraries, FILE is chimera export --architecture llama of MODEL.  64 tokens one
 * after the other; no logit may be further from ours than BOUND times the largest.  Of a byte model llama.cpp's
 * tokens must be the bytes of a text.                                                                       */
#include "core.h"
#include "llama.h"
#include "rng.h"
#include "run.h"

#include <math.h>
#include <stdlib.h>

enum { TOKENS = 64 };

static int stop(const char *why)
{
    fprintf(stderr, "llama_run: %s\n", why);
    return 1;
}

/* ---- here ---------------------------------------------------------------------------------------------- */

/* Logits of the tokens, or NULL; the spec stays open                                                       */
static float *ours(const char *path, struct spec **spec, int32_t token[TOKENS])
{
    struct model *m;
    if (run_load_model(path, NULL, 0, NULL, 0, TOKENS, 1, spec, &m) != CHI_OK) return NULL;
    int64_t vocab = (*spec)->model.vocab_size;
    for (int i = 0; i < TOKENS; i++) {
        uint32_t word[4];
        rng_words(word, 1, RNG_BENCH, 0, 0, (uint64_t)i);
        token[i] = (int32_t)(word[0] % (uint32_t)vocab);
    }
    unsigned char *state = mem_take((size_t)model_state_bytes(m), "state");
    float *hidden = mem_take((size_t)(TOKENS * (*spec)->model.hidden_size) * sizeof *hidden, "hidden");
    float *y = mem_take((size_t)(TOKENS * vocab) * sizeof *y, "logits");
    const struct model_segment s = { .tokens = token, .rows = TOKENS, .fresh = true, .state = state };
    chi_status st = state && hidden && y ? model_forward(m, &s, 1, hidden) : CHI_ENOMEM;
    if (st == CHI_OK) st = model_logits(m, hidden, TOKENS, y);
    mem_free(hidden);
    mem_free(state);
    model_close(m);
    return st == CHI_OK ? y : NULL;
}

/* ---- there --------------------------------------------------------------------------------------------- */

static int tokenizes(const struct llama_vocab *v)
{
    static const char text[] = "Grün: \xe2\x82\xac 12,\tand  two spaces";
    int32_t token[sizeof text], n = (int32_t)strlen(text);
    if (llama_tokenize(v, text, n, token, n + 1, true, false) != n) return stop("its tokens are no bytes");
    for (int i = 0; i < n; i++)
        if (token[i] != (unsigned char)text[i]) return stop("a byte has another token there");
    return 0;
}

static int compare(struct llama_context *c, int32_t token[TOKENS], const float *want, int64_t vocab, double bound)
{
    double far = 0, top = 0;
    for (int i = 0; i < TOKENS; i++) {
        if (llama_decode(c, llama_batch_get_one(token + i, 1))) return stop("llama.cpp does not compute a token");
        const float *got = llama_get_logits_ith(c, -1);
        for (int64_t k = 0; k < vocab; k++) {
            far = fmax(far, fabs((double)got[k] - (double)want[i * vocab + k]));
            top = fmax(top, fabs((double)want[i * vocab + k]));
        }
    }
    printf("logits differ by %.2e of the largest, bound %.2e\n", far / top, bound);
    return !(far < bound * top);
}

/* Keys and values in F32, whose types (1 and 1: F16) follow two pointers that are NULL; and attention without
 * its flash form, which rounds to halves: the fourth of four choices that are left open (-1)                   */
static struct parameters context_parameters(void)
{
    struct parameters p = llama_context_default_params();
    int32_t *open = (int32_t *)(void *)p.words;
    for (int i = 2; i < COUNT(p.words); i++)
        if (p.words[i] == 0x100000001 && !p.words[i - 1] && !p.words[i - 2]) p.words[i] = 0;
    for (int i = 3; i < 2 * COUNT(p.words); i++)
        if (open[i] == -1 && open[i - 1] == -1 && open[i - 2] == -1 && open[i - 3] == -1) open[i] = 0;
    return p;
}

static int run(const char *file, const struct spec *s, int32_t token[TOKENS], const float *want, double bound)
{
    struct llama_model *m = llama_model_load_from_file(file, llama_model_default_params());
    if (!m) return stop("llama.cpp does not load it");
    struct llama_context *c = llama_init_from_model(m, context_parameters());
    if (!c) return stop("llama.cpp has no context for it");
    llama_set_n_threads(c, 1, 1);                   /* several wait for each other by spinning              */
    const struct llama_vocab *v = llama_model_get_vocab(m);
    int bad = llama_vocab_n_tokens(v) != s->model.vocab_size ? stop("its vocabulary has another size") : 0;
    if (!bad && !strcmp(s->data.tokenizer, "byte")) bad = tokenizes(v);
    if (!bad) bad = compare(c, token, want, s->model.vocab_size, bound);
    llama_free(c);
    llama_model_free(m);
    return bad;
}

int main(int argc, char **argv)
{
    struct spec *spec;
    int32_t token[TOKENS];
    if (argc != 5) return stop("usage: llama_run FOLDER FILE.gguf MODEL BOUND"), 2;
    if (!llama_open(argv[1])) return 77;
    float *want = ours(argv[3], &spec, token);
    if (!want) return stop(fail_text());
    int bad = run(argv[2], spec, token, want, atof(argv[4]));
    mem_free(want);
    spec_close(spec);
    return bad;
}
