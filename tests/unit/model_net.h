/* model_net.h - a small network to open with more lines of INI, its tokens and states.  */
#ifndef MODEL_NET_H
#define MODEL_NET_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "model.h"
#include "pool.h"
#include "rng.h"

enum { ROWS = 60, STREAMS = 3, VOCAB = 41 };

static const char *const shape_text =
    "[model]\nhidden_size = 48\nnum_hidden_layers = 2\nvocab_size = 41\ninitializer_range = 0.2\n"
    "layer_pattern = GD AT\nffn_pattern = MLP\n"
    "[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 16\n"
    "[layer.AT]\nuse = attention\nnum_heads = 3\nhead_dim = 16\nwindow = 9\n"
    "[layer.MLP]\nuse = swiglu\nintermediate_size = 80\n";

static const char *shape = shape_text;

/* A layer whose streams start from a parameter and whose state is an MLP                    */
static inline void use_memory(void)
{
    shape = "[model]\nhidden_size = 48\nnum_hidden_layers = 2\nvocab_size = 41\ninitializer_range = 0.2\n"
        "layer_pattern = TM GD\nffn_pattern = MLP\n"
        "[layer.TM]\nuse = titans_mac\nnum_heads = 3\nhead_dim = 16\nchunk = 6\n"
        "persistent_memory_slots = 5\n"
        "[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 16\n"
        "[layer.MLP]\nuse = swiglu\nintermediate_size = 80\n";
}

/* A layer from a folder that only CHIMERA_PLUGIN_PATH names                                  */
static inline void use_frozen(void)
{
    const char *plugins = getenv("CHIMERA_BUILD_PLUGINS");
    cr_assert(plugins, "run me through make check");
    char *path = xprintf("%.*s/tests/mock/layers/.libs", (int)(strrchr(plugins, '/') - plugins), plugins);
    setenv("CHIMERA_PLUGIN_PATH", path, 1);
    free(path);
    shape =
        "[model]\nhidden_size = 48\nnum_hidden_layers = 1\nvocab_size = 41\n"
        "layer_pattern = FZ\nffn_pattern = MLP\n[layer.FZ]\nuse = frozen\n"
        "[layer.MLP]\nuse = swiglu\nintermediate_size = 80\n";
}

struct net { struct spec *spec; struct model *model; };

static inline struct net open_net(const char *more, int mode, int64_t rows, int64_t segs)
{
    struct net n;
    struct config *c;
    char *text = xprintf("%s%s", shape, more);
    chi_status st = config_load_text(&c, "test", text, NULL, 0);
    cr_assert_eq(st, CHI_OK, "%s", fail_text());
    st = spec_open(&n.spec, c, SPEC_MODEL | (mode == MODEL_TRAIN ? SPEC_TRAIN : 0));
    cr_assert_eq(st, CHI_OK, "%s", fail_text());
    st = model_open(&n.model, n.spec, mode, rows, segs);
    cr_assert_eq(st, CHI_OK, "%s", fail_text());
    st = model_init(n.model, 7);
    cr_assert_eq(st, CHI_OK, "%s", fail_text());
    free(text);
    return n;
}

static inline void close_net(struct net n)
{
    model_close(n.model);
    spec_close(n.spec);
}

static inline void fill_tokens(int32_t *t, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_words(w, seed, RNG_BENCH, 0, 0, (uint64_t)i);
        t[i] = (int32_t)(w[0] % VOCAB);
    }
}

static inline unsigned char *states(const struct model *m, int64_t n)
{
    return mem_take((size_t)(n * model_state_bytes(m) + 64), "states of a test");
}

#endif
