/* test_identity.c - a small model of the seed's eight letters, with its mixture of experts and its
 * loop: the bits of its logits are written down here, and each mixer matters to them.
 *
 * Weights come from counters and no library function, and every kernel of inference is EXACT, so
 * the hashes hold for any compiler, backend and number of threads.  A layer that is bypassed,
 * or whose formula loses a part, changes them; so does a deliberate change of a formula, which
 * then writes the new ones here.                                                             */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "model.h"
#include "pool.h"
#include "rng.h"

enum { TOKENS = 40, VOCAB = 29 };           /* two chunks of every layer, and a rest              */

static const char shape[] =
    "[model]\nhidden_size = 16\nnum_hidden_layers = 8\nvocab_size = 29\n"
    "layer_pattern = GD XM GD TM GD XM GD SK\nffn_pattern = MLP MLP MLP MOE\n"
    "[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 8\n"
    "[layer.XM]\nuse = mlstm\nnum_heads = 2\nhead_dim = 8\n"
    "[layer.TM]\nuse = titans_mac\nnum_heads = 2\nhead_dim = 8\npersistent_memory_slots = 3\n"
    "[layer.SK]\nuse = span_knot\nnum_heads = 2\nhead_dim = 8\n"
    "[layer.MLP]\nuse = swiglu\nintermediate_size = 24\n"
    "[layer.MOE]\nuse = moe\nn_routed_experts = 4\nmoe_intermediate_size = 12\n"
    "[layer.ID]\nuse = faulty\n"            /* a mock: y = w x, here with w = 1                    */
    "[loop]\nuse = parcae\nprelude = 0-1\nloop = 2-5\ncoda = 6-7\n";

/* Values within [-1, 1), wider than a start would be: every part of a layer speaks                */
static void set_weights(struct model *m)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = model_tensor(m, i)); i++)
        for (int64_t j = 0; j < t->n; j++) {
            uint32_t w[4];
            rng_words(w, 5, RNG_BENCH, 0, rng_who(t->name), (uint64_t)j);
            t->w[j] = (float)(w[0] >> 8) / 8388608.0f - 1;
            if (strstr(t->name, "mixer.w") || strstr(t->name, "ffn.w")) t->w[j] = 1;
        }
    cr_assert_eq(model_bind(m, 1), CHI_OK, "%s", fail_text());
}

static struct model *open_model(struct spec **spec, const char *quantizer, const char *change)
{
    const char *plugins = getenv("CHIMERA_BUILD_PLUGINS");
    struct config *c;
    struct model *m;
    cr_assert(plugins, "run me through make check");
    char *mocks = xprintf("plugins.path=%.*s/tests/mock/layers/.libs", (int)(strrchr(plugins, '/') - plugins),
                          plugins);
    char *values = xprintf("linear.quantizer=%s", quantizer), *copy = xstrdup(change ? change : values);
    char *const set[] = { mocks, values, copy };
    cr_assert_eq(config_load_text(&c, "test", shape, set, COUNT(set)), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(spec, c, SPEC_MODEL | SPEC_TRAIN), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&m, *spec, MODEL_TRAIN, TOKENS, 1), CHI_OK, "%s", fail_text());
    set_weights(m);
    free(mocks), free(values), free(copy);
    return m;
}

/* Of the logits of TOKENS tokens that come in pieces                                              */
static uint64_t hash_of(const char *quantizer, const char *change, int64_t piece)
{
    struct spec *spec;
    struct model *m = open_model(&spec, quantizer, change);
    int64_t d = spec->model.hidden_size;
    float *hidden = xcalloc((size_t)(TOKENS * d), sizeof *hidden), *logits = xcalloc(TOKENS * VOCAB, sizeof *logits);
    unsigned char *state = mem_take((size_t)model_state_bytes(m) + 64, "a stream");
    int32_t token[TOKENS];
    cr_assert(state);
    for (int i = 0; i < TOKENS; i++) token[i] = i * i * 7 % VOCAB;
    for (int64_t at = 0; at < TOKENS; at += piece) {
        struct model_segment seg = { .tokens = token + at, .rows = min_i64(piece, TOKENS - at), .pos = at,
                                     .fresh = at == 0, .state = state };
        cr_assert_eq(model_forward(m, &seg, 1, hidden + at * d), CHI_OK, "%s", fail_text());
    }
    cr_assert_eq(model_logits(m, hidden, TOKENS, logits), CHI_OK, "%s", fail_text());
    uint64_t hash = xxh3(logits, TOKENS * VOCAB * sizeof *logits);
    mem_free(state);
    free(hidden), free(logits);
    model_close(m);
    spec_close(spec);
    return hash;
}

static const struct { const char *quantizer; uint64_t logits; } known[] = {
    { "f32", 0x31321684882cb029 },
    { "ternary", 0x19bbafa10f4ce7c2 },
};

Test(identity, the_bits_of_the_seeds_pattern)
{
    for (int i = 0; i < COUNT(known); i++)
        for (int threads = 1; threads <= 3; threads += 2) {
            pool_threads(threads);
            uint64_t whole = hash_of(known[i].quantizer, NULL, TOKENS);
            cr_expect_eq(whole, known[i].logits, "%s: %#llx", known[i].quantizer, (unsigned long long)whole);
            cr_expect_eq(hash_of(known[i].quantizer, NULL, 1), whole, "%s: token by token", known[i].quantizer);
            cr_expect_eq(hash_of(known[i].quantizer, NULL, 17), whole, "%s: in pieces of 17", known[i].quantizer);
            cr_expect_eq(hash_of(known[i].quantizer, "backend.use=portable", TOKENS), whole, "%s: portable",
                         known[i].quantizer);
        }
}

/* One letter after the other becomes the identity, or the loop goes another number of times         */
Test(identity, every_mixer_is_noticed)
{
    static const char *const change[] = {
        NULL,
        "model.layer_pattern=ID XM ID TM ID XM ID SK", "model.layer_pattern=GD ID GD TM GD ID GD SK",
        "model.layer_pattern=GD XM GD ID GD XM GD SK", "model.layer_pattern=GD XM GD TM GD XM GD ID",
        "model.ffn_pattern=ID ID ID MOE", "model.ffn_pattern=MLP MLP MLP ID", "loop.loops=1", "loop.zoh=euler",
    };
    uint64_t hash[COUNT(change)];
    pool_threads(1);
    for (int i = 0; i < COUNT(change); i++) {
        hash[i] = hash_of("f32", change[i], TOKENS);
        for (int j = 0; j < i; j++)
            cr_expect_neq(hash[i], hash[j], "%s gives the logits of %s", change[i],
                          change[j] ? change[j] : "the whole");
    }
    cr_expect_eq(hash[0], known[0].logits);
}

/* One layer, not all of its letter                                                                  */
Test(identity, one_layer_of_several_is_noticed)
{
    static const char *const change[] = {
        "model.layer_pattern=ID XM GD TM GD XM GD SK", "model.layer_pattern=GD XM ID TM GD XM GD SK",
        "model.layer_pattern=GD XM GD TM GD ID GD SK", "model.layer_pattern=GD XM GD TM GD XM ID SK",
        "model.ffn_pattern=MLP MLP MLP MOE MLP MLP ID MOE",
    };
    pool_threads(1);
    for (int i = 0; i < COUNT(change); i++)
        cr_expect_neq(hash_of("f32", change[i], TOKENS), known[0].logits, "%s changes nothing", change[i]);
}
