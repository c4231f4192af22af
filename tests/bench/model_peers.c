/* model_peers.c - decoding and reading a whole ternary model, here and in llama.cpp, in one process and in turn.
 *
 *     model_peers FOLDER FILE.gguf MODEL [THREADS]
 *
 * FOLDER has llama.cpp's shared libraries, FILE is chimera export --architecture llama of a model of MODEL's shape (make
 * bench-peer-models makes both).  A round is a prompt of 128 tokens and 16 single ones on each side, after which reading is measured; the
 * weights of a token are the whole file, for head and embedding are one tensor.                                  */
#include "../llama.h"
#include "bench_kernels.h"
#include "bench_limit.h"
#include "core.h"
#include "pool.h"
#include "rng.h"
#include "run.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

enum { ROUNDS = 3, PROMPT = 128, SINGLE = 16, TOKENS = ROUNDS * (PROMPT + SINGLE) };

struct side {
    const char *name, *file;
    double bytes, prompt[ROUNDS], single[ROUNDS * SINGLE];  /* seconds                                          */
};

struct ours {
    struct spec *spec;
    struct model *m;
    unsigned char *state;
    float *hidden, *logits;
};

struct theirs { struct llama_model *m; struct llama_context *c; };

static int stop(const char *why)
{
    fprintf(stderr, "model_peers: %s\n", why);
    return 1;
}

static int open_ours(struct ours *o, const char *path, int threads)
{
    char text[32];
    snprintf(text, sizeof text, "run.threads=%d", threads);
    char *overrides[] = { text, (char []){ "run.weights=copy" } };
    if (run_load_model(path, overrides, COUNT(overrides), NULL, 0, PROMPT, 1, &o->spec, &o->m) != CHI_OK)
        return stop(fail_text());
    o->state = mem_take((size_t)model_state_bytes(o->m), "state");
    o->hidden = mem_take((size_t)(PROMPT * o->spec->model.hidden_size) * sizeof(float), "hidden rows");
    o->logits = mem_take((size_t)o->spec->model.vocab_size * sizeof(float), "logits");
    return o->state && o->hidden && o->logits ? 0 : stop(fail_text());
}

/* n tokens from at on; the logits of the last one are taken                                                  */
static bool read_ours(const struct ours *o, const int32_t *token, int64_t at, int64_t n)
{
    int64_t d = o->spec->model.hidden_size;
    const struct model_segment s = { .tokens = token + at, .rows = n, .pos = at, .fresh = at == 0, .state = o->state };
    return model_forward(o->m, &s, 1, o->hidden) == CHI_OK &&
           model_logits(o->m, o->hidden + (n - 1) * d, 1, o->logits) == CHI_OK;
}

static int open_theirs(struct theirs *t, const char *file, int threads)
{
    t->m = llama_model_load_from_file(file, llama_model_default_params());
    if (!t->m) return stop("llama.cpp does not load it");
    t->c = llama_init_from_model(t->m, llama_context_default_params());
    if (!t->c) return stop("llama.cpp has no context for it");
    llama_set_n_threads(t->c, threads, threads);
    return 0;
}

static bool read_theirs(const struct theirs *t, int32_t *token, int64_t at, int64_t n)
{
    return !llama_decode(t->c, llama_batch_get_one(token + at, (int32_t)n)) && llama_get_logits_ith(t->c, -1);
}

/* Seconds of n tokens; the other side's threads sleep by then                                                */
static double timed(const struct ours *o, const struct theirs *t, int32_t *token, int64_t at, int64_t n)
{
    nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
    double from = now_s();
    bool fine = o ? read_ours(o, token, at, n) : read_theirs(t, token, at, n);
    return fine ? now_s() - from : INFINITY;
}

static void print_side(struct side *s, double reading)
{
    double prompt = bench_median(s->prompt, ROUNDS), single = bench_median(s->single, ROUNDS * SINGLE);
    printf("%-10s %6.1f MB of weights: a token %7.2f ms, %6.2f tokens/s, %5.1f GB/s, %.2f of reading; a prompt of %d %7.1f tokens/s\n",
           s->name, s->bytes / 1e6, 1e3 * single, 1 / single, s->bytes / single / 1e9, s->bytes / single / reading, PROMPT,
           PROMPT / prompt);
}

static int compare(const struct ours *o, const struct theirs *t, struct side side[2])
{
    int32_t token[TOKENS];
    reader *f[LIMIT_READERS];
    int readers = limit_readers(f);
    double rate[LIMIT_READERS][ROUNDS], reading = 0, versus[ROUNDS * SINGLE];
    uint8_t *room = mem_take((size_t)limit_bytes(), "room for reading");
    if (!room) return stop(fail_text());
    memset(room, 1, (size_t)limit_bytes());
    for (int i = 0; i < TOKENS; i++) {
        uint32_t word[4];
        rng_words(word, 1, RNG_BENCH, 0, 0, (uint64_t)i);
        token[i] = (int32_t)(word[0] % (uint32_t)o->spec->model.vocab_size);
    }
    for (int r = 0, at = 0; r < ROUNDS; r++) {
        for (int i = 0; i < 2; i++) side[i].prompt[r] = timed(i ? NULL : o, t, token, at, PROMPT);
        at += PROMPT;
        for (int n = r * SINGLE; n < (r + 1) * SINGLE; n++, at++) {
            for (int i = 0; i < 2; i++) side[i].single[n] = timed(i ? NULL : o, t, token, at, 1);
            versus[n] = side[1].single[n] / side[0].single[n];
        }
        for (int k = 0; k < readers; k++) rate[k][r] = limit_read_rate(f[k], room);
    }
    for (int k = 0; k < readers; k++) reading = fmax(reading, bench_median(rate[k], ROUNDS));
    printf("%d thread%s, reading %.1f GB/s\n", pool_size(), pool_size() > 1 ? "s" : "", reading / 1e9);
    for (int i = 0; i < 2; i++) print_side(&side[i], reading);
    printf("llama.cpp's time of a token / ours %.2f (median of pairs)\n", bench_median(versus, ROUNDS * SINGLE));
    mem_free(room);
    return 0;
}

int main(int argc, char **argv)
{
    struct ours o = { .spec = NULL };
    struct theirs t = { .m = NULL };
    struct stat file;
    pool_begin(argv);
    if (argc < 4 || argc > 5) return stop("usage: model_peers FOLDER FILE.gguf MODEL [THREADS]"), 2;
    struct side side[2] = { { .name = "chimera", .file = argv[3] }, { .name = "llama.cpp", .file = argv[2] } };
    if (!llama_open(argv[1])) return 77;
    for (int i = 0; i < 2; i++) {
        if (stat(side[i].file, &file) != 0) return stop("no such model");
        side[i].bytes = (double)file.st_size;
    }
    int threads = argc > 4 ? atoi(argv[4]) : 0, bad = open_ours(&o, argv[3], threads);
    if (!bad) bad = open_theirs(&t, argv[2], pool_size());
    return bad ? bad : compare(&o, &t, side);
}
