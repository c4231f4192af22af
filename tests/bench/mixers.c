/* mixers.c - microseconds a token of forward and backward of each mixer, beside
 * gated_deltanet's: 4 sequences of 256 tokens, one thread, f32 weights, layers in turn in one
 * process, best of the rounds in CPU time.  mixers [ROUNDS]                                      */
#include "core.h"
#include "model.h"
#include "pool.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SEGS = 4, EACH = 256, ROWS = SEGS * EACH, MOST = 16 };

struct bench {
    struct spec *spec;
    struct solo *solo;
    unsigned char *state;
    double forward, backward;
};

static const char *const layers[] = {
    "use = gated_deltanet\n", "use = deltanet\n", "use = span_knot\nefla = yes\n", "use = mlstm\n",
    "use = linear_attention\n", "use = mamba2\nstate_dim = 64\n", "use = causal_conv\n", "use = rwkv7\n",
    "use = mlstm\nblock = v1\n", "use = titans_mac\nmemory_depth = 1\n", "use = titans_mac\nmemory_depth = 2\n",
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void must(chi_status e)
{
    if (e == CHI_OK) return;
    fprintf(stderr, "mixers: %s\n", fail_text());
    exit(exit_code(e));
}

static struct bench bench_open(const char *layer, int d)
{
    struct bench b = { .forward = 1e30, .backward = 1e30 };
    struct config *config;
    const struct model_tensor *t;
    bool heads = !strstr(layer, "causal_conv");
    char *size = heads ? xprintf("num_heads = %d\nhead_dim = 64\n", d / 64) : xprintf("%s", "");
    char *text = xprintf("[model]\nhidden_size = %d\nnum_hidden_layers = 1\nvocab_size = 97\nlayer_pattern = X\n"
                         "ffn_pattern = X\n[layer.X]\n%s%s[linear]\nquantizer = f32\n", d, layer, size);
    must(config_load_text(&config, "bench", text, NULL, 0));
    must(spec_open(&b.spec, config, SPEC_MODEL));
    must(solo_open(&b.solo, b.spec, &b.spec->mixer[0], true, ROWS, SEGS));
    for (int64_t i = 0; (t = solo_tensor(b.solo, i)); i++)
        for (int64_t j = 0; t->linear && j < t->n; j++) t->w[j] = 0.05f * (float)(rand() % 101 - 50) / 50;
    must(solo_bind(b.solo));
    b.state = xcalloc((size_t)(SEGS * round_up(solo_state_bytes(b.solo) + 64, 64)) + 64, 1);
    free(text);
    free(size);
    return b;
}

static void bench_round(struct bench *b, const float *x, float *y, float *dx)
{
    int64_t each = round_up(solo_state_bytes(b->solo) + 64, 64);
    unsigned char *state = (unsigned char *)(((uintptr_t)b->state + 63) & ~(uintptr_t)63);
    struct chi_segment seg[SEGS];
    memset(state, 0, (size_t)(SEGS * each));
    for (int64_t i = 0; i < SEGS; i++)
        seg[i] = (struct chi_segment){ .first = i * EACH, .rows = EACH, .stream = (uint64_t)i, .fresh = true,
                                       .state = state + i * each };
    double start = now();
    must(solo_forward(b->solo, seg, SEGS, true, x, y));
    double middle = now();
    memset(state, 0, (size_t)(SEGS * each));
    must(solo_backward(b->solo, seg, SEGS, x, y, dx));
    double end = now();
    if (middle - start < b->forward) b->forward = middle - start;
    if (end - middle < b->backward) b->backward = end - middle;
}

static void compare(int d, int rounds)
{
    struct bench b[MOST];
    float *x = xcalloc((size_t)(ROWS * d), 4), *y = xcalloc((size_t)(ROWS * d), 4), *dx = xcalloc((size_t)(ROWS * d), 4);
    int n = (int)COUNT(layers);
    for (int64_t i = 0; i < ROWS * d; i++) x[i] = (float)(rand() % 2001 - 1000) / 1000;
    for (int i = 0; i < n; i++) b[i] = bench_open(layers[i], d);
    pool_threads(1);                                    /* spec_open() sets what the configuration says */
    for (int k = 0; k < rounds; k++)
        for (int i = 0; i < n; i++) bench_round(&b[i], x, y, dx);
    printf("d = %d, %d heads of 64: microseconds a token, and of gated_deltanet's\n", d, d / 64);
    for (int i = 0; i < n; i++) {
        double own = b[i].forward + b[i].backward, base = b[0].forward + b[0].backward;
        printf("  %-18s%s forward %6.2f  backward %6.2f  both %6.2f  %.2f\n", b[i].spec->mixer[0].component->name,
               strstr(layers[i], "v1") ? " v1" : strstr(layers[i], "= 1") ? " L1" : "   ", b[i].forward / ROWS, b[i].backward / ROWS, own / ROWS, own / base);
        solo_close(b[i].solo);
        spec_close(b[i].spec);
        free(b[i].state);
    }
    free(x);
    free(y);
    free(dx);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 20;
    compare(256, rounds);
    compare(512, rounds);
    return 0;
}
