/* test_adapter.c - adapters in whole models: formulas, stacks, what B = 0 leaves alone, batches and
 * threads, held parameters and the gate's phases.                                               */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter.h"
#include "core.h"
#include "hosting.h"
#include "pool.h"
#include "rng.h"

enum { ROWS = 40, VOCAB = 41, D = 48 };

static const char *shape =
    "[model]\nhidden_size = 48\nnum_hidden_layers = 2\nvocab_size = 41\ninitializer_range = 0.2\n"
    "layer_pattern = GD AT\nffn_pattern = MOE MLP\n"
    "[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 16\n"
    "[layer.AT]\nuse = attention\nnum_heads = 3\nhead_dim = 16\nwindow = 9\n"
    "[layer.MOE]\nuse = moe\nn_routed_experts = 3\nnum_experts_per_tok = 2\nmoe_intermediate_size = 20\n"
    "[layer.MLP]\nuse = swiglu\nintermediate_size = 80\n"
    "[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n";

struct net { struct spec *spec; struct model *model; };

static struct net open_net(const char *more, int mode)
{
    struct net n;
    struct config *c;
    char *text = xprintf("%s%s", shape, more);
    cr_assert_eq(config_load_text(&c, "test", text, NULL, 0), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&n.spec, c, SPEC_MODEL | (mode == MODEL_TRAIN ? SPEC_TRAIN : 0)), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&n.model, n.spec, mode, ROWS, 3), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(n.model, 7), CHI_OK, "%s", fail_text());
    free(text);
    return n;
}

static void close_net(struct net n)
{
    model_close(n.model);
    spec_close(n.spec);
}

static void fill_tokens(int32_t *t, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_words(w, seed, RNG_BENCH, 0, 0, (uint64_t)i);
        t[i] = (int32_t)(w[0] % VOCAB);
    }
}

static const struct model_tensor *tensor(struct net n, const char *name)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++)
        if (!strcmp(t->name, name)) return t;
    return NULL;
}

/* Everything that an adapter has, away from its start                                            */
static void stir(struct net n)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++) {
        if (!strstr(t->name, ".hgf.") && !strstr(t->name, ".lora.") && !strstr(t->name, ".wide.")) continue;
        for (int64_t j = 0; j < t->n; j++) t->w[j] += 0.2f * (float)rng_normal(3, RNG_BENCH, (uint32_t)i, (uint64_t)j);
    }
}

/* Final hidden rows of one stream in calls of so many rows                                        */
static void hidden_of(struct net n, int64_t step, float *hidden)
{
    int32_t token[ROWS];
    fill_tokens(token, ROWS, 1);
    unsigned char *state = mem_take((size_t)model_state_bytes(n.model) + 64, "state");
    for (int64_t at = 0; at < ROWS; at += step) {
        struct model_segment s = { .tokens = token + at, .rows = min_i64(step, ROWS - at), .pos = at, .fresh = !at, .state = state };
        cr_assert_eq(model_forward(n.model, &s, 1, hidden + at * D), CHI_OK, "%s", fail_text());
    }
    mem_free(state);
}

static double loss_of(struct net n)
{
    int32_t token[ROWS], target[ROWS];
    double loss = 0;
    fill_tokens(token, ROWS, 1);
    fill_tokens(target, ROWS, 2);
    struct model_segment s[2] = { { .tokens = token, .rows = 17, .fresh = true },
                                  { .tokens = token + 17, .rows = ROWS - 17, .stream = 1, .fresh = true } };
    model_zero_grads(n.model);
    cr_assert_eq(model_train(n.model, s, 2, target, 1.0, &loss), CHI_OK, "%s", fail_text());
    return loss;
}

Test(adapter, with_b_at_zero_no_bit_changes)
{
    static float plain[ROWS * D], other[ROWS * D];
    struct net n = open_net("", MODEL_TRAIN);
    hidden_of(n, ROWS, plain);
    double loss = loss_of(n);
    close_net(n);
    static const char *const more[] = { "adapter = hgf\n", "adapter = lora\n", "adapter = lora, hgf\n" };
    for (int i = 0; i < 3; i++) {
        n = open_net(more[i], MODEL_TRAIN);
        hidden_of(n, ROWS, other);
        cr_expect_eq(memcmp(plain, other, sizeof plain), 0, "%s", more[i]);
        cr_expect_eq(loss_of(n), loss, "%s", more[i]);
        stir(n);
        hidden_of(n, ROWS, other);
        cr_expect_neq(memcmp(plain, other, sizeof plain), 0, "%s has no effect", more[i]);
        close_net(n);
    }
}

/* A is normal with variance 1 / d_in                                                             */
Test(adapter, where_a_starts)
{
    struct net n = open_net("adapter = lora\n[adapter.lora]\nrank = 64\n", MODEL_TRAIN);
    static const struct { const char *name; int d_in; } at[] = { { "layers.0.mixer.q_proj", 48 }, { "layers.1.ffn.down_proj", 80 } };
    for (int i = 0; i < 2; i++) {
        char *name = xprintf("%s.lora.a", at[i].name);
        const struct model_tensor *t = tensor(n, name);
        double squares = 0;
        for (int64_t j = 0; j < t->n; j++) squares += (double)t->w[j] * (double)t->w[j];
        cr_expect_float_eq(squares / (double)t->n * at[i].d_in, 1, 0.15, "%s: %g", name, squares / (double)t->n * at[i].d_in);
        free(name);
    }
    close_net(n);
}

/* A row has the same bits in any cut, on any number of threads, by any backend, trained or only used */
Test(adapter, inference_is_exact)
{
    static float want[ROWS * D], got[ROWS * D];
    static const char *const use[] = { "[backend]\nuse = auto\n", "[backend]\nuse = portable\n" };
    for (int b = 0; b < 2; b++) {
        char *more = xprintf("adapter = hgf, lora\n[adapter.lora]\nrank = 5\n%s", use[b]);
        for (int mode = 0; mode < 2; mode++) {
            struct net n = open_net(more, mode ? MODEL_TRAIN : MODEL_INFER);
            stir(n);
            if (!b && !mode) hidden_of(n, ROWS, want);
            for (int threads = 1; threads <= 3; threads++) {
                pool_threads(threads);
                for (int64_t step = threads == 1 ? 1 : 13; step <= ROWS; step += step == 1 ? 12 : 27) {
                    hidden_of(n, step, got);
                    cr_expect_eq(memcmp(want, got, sizeof want), 0, "backend %d, mode %d, %d threads, calls of %ld", b, mode,
                                 threads, (long)step);
                }
            }
            pool_threads(1);
            close_net(n);
        }
        free(more);
    }
}

/* d loss / d w along a direction by differences, through layers behind it that are smooth: neither
 * integers nor experts that are chosen                                                             */
Test(adapter, gradients_are_slopes)
{
    static const char *const of[] = { "layers.0.mixer.q_proj.", "layers.0.mixer.o_proj.", "layers.1.ffn.up_proj.",
                                      "layers.1.ffn.down_proj." };
    shape = "[model]\nhidden_size = 48\nnum_hidden_layers = 2\nvocab_size = 41\ninitializer_range = 0.2\n"
        "layer_pattern = GD\nffn_pattern = MLP\n[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 16\n"
        "[layer.MLP]\nuse = swiglu\nintermediate_size = 300\n";              /* gradients are cut at 256 columns   */
    struct net n = open_net("[linear.layers.*]\nquantizer = f32\nadapter = hgf, lora\n[adapter.lora]\nrank = 3\n", MODEL_TRAIN);
    const struct model_tensor *t;
    int64_t seen = 0;
    stir(n);
    static float g[4096], was[4096];
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++) {
        bool here = false;
        for (int k = 0; k < 4; k++) here = here || !strncmp(t->name, of[k], strlen(of[k]));
        if (!here || t->linear) continue;
        cr_assert_leq(t->n, 4096);
        loss_of(n);
        memcpy(g, t->g, (size_t)t->n * sizeof *g);
        memcpy(was, t->w, (size_t)t->n * sizeof *was);
        double got = 0, slope[2], size = 0;
        for (int64_t j = 0; j < t->n; j++) {
            double way = rng_normal(9, RNG_BENCH, (uint32_t)i, (uint64_t)j);
            got += way * (double)g[j];
            size += fabs(way * (double)g[j]);
        }
        for (int s = 0; s < 2; s++) {
            double h = s ? 0.002 : 0.004, side[2];
            for (int k = 0; k < 2; k++) {
                for (int64_t j = 0; j < t->n; j++)
                    t->w[j] = (float)((double)was[j] + (k ? -h : h) * rng_normal(9, RNG_BENCH, (uint32_t)i, (uint64_t)j));
                side[k] = loss_of(n);
            }
            slope[s] = (side[0] - side[1]) / (2 * h);
        }
        memcpy(t->w, was, (size_t)t->n * sizeof *was);
        double want = (4 * slope[1] - slope[0]) / 3;
        cr_expect(fabs(got - want) <= 0.02 * (size + fabs(want)) + 0.02, "%s: %g, differences say %g", t->name, got, want);
        seen++;
    }
    cr_expect_eq(seen, 20);
    close_net(n);
}

/* y of two adapters by hand, in the canonical order: dots, then one product and sum a row of A      */
Test(adapter, the_formula)
{
    struct net n = open_net("adapter = hgf, wide\n[adapter.hgf]\nrank = 3\n[adapter.wide]\nuse = lora\nrank = 2\nalpha = 3\n",
                            MODEL_TRAIN);
    stir(n);
    const struct chi_linear *l = NULL;
    const struct instance *in = NULL;
    struct solo *solo;
    cr_assert_eq(solo_open(&solo, n.spec, &n.spec->ffn[1], true, 2, 1), CHI_OK, "%s", fail_text());
    in = solo_instance(solo);
    for (int64_t i = 0; i < in->n_param; i++)
        if (in->param[i].linear && !strcmp(in->param[i].linear->name, "down_proj")) l = in->param[i].linear;
    cr_assert(l && l->n_adapter == 2);
    const struct model_tensor *t, *p[5] = { NULL };
    static const char *const name[] = { "down_proj.hgf.a", "down_proj.hgf.b", "down_proj.hgf.theta", "down_proj.wide.a", "down_proj.wide.b" };
    for (int64_t i = 0; (t = solo_tensor(solo, i)); i++)
        for (int k = 0; k < 5; k++)
            if (!strcmp(t->name, name[k])) p[k] = t;
    for (int k = 0; k < 5; k++) {
        cr_assert(p[k], "%s", name[k]);
        for (int64_t j = 0; j < p[k]->n; j++) p[k]->w[j] += 0.3f * (float)rng_normal(4, RNG_BENCH, (uint32_t)k, (uint64_t)j);
    }
    float x[2 * 80], normed[80], y[2 * 48];
    double want[2 * 48];
    for (int i = 0; i < 160; i++) x[i] = (float)rng_normal(5, RNG_BENCH, 0, (uint64_t)i);
    for (int i = 0; i < 96; i++) want[i] = (double)(y[i] = 0.25f);
    struct chi_run r = { .h = in->host, .params = in->params, .rows = 2 };
    float *to[] = { y };
    cr_assert_eq(adapters_forward(&l, 1, &r, x, 2, to), CHI_OK);
    for (int row = 0; row < 2; row++) {
        double square = 0;
        for (int i = 0; i < 80; i++) square += (double)x[row * 80 + i] * (double)x[row * 80 + i] / 80;
        for (int i = 0; i < 80; i++) normed[i] = (float)((double)x[row * 80 + i] / sqrt(square + 1e-6));
        for (int k = 0; k < 2; k++) {
            const float *a = p[3 * k]->w, *b = p[3 * k + 1]->w;
            for (int64_t j = 0; j < (k ? 2 : 3); j++) {
                double z = 0, s = k ? 1.5 : tanh((double)p[2]->w[0]);
                for (int i = 0; i < 80; i++) z += (double)a[j * 80 + i] * (double)normed[i];
                for (int o = 0; o < 48; o++) want[row * 48 + o] += s * z * (double)b[j * 48 + o];
            }
        }
    }
    for (int i = 0; i < 96; i++) cr_expect_float_eq((double)y[i], want[i], 1e-4, "%d: %g, not %g", i, (double)y[i], want[i]);
    solo_close(solo);
    close_net(n);
}

/* theta moves in the middle phase alone, and the penalty pulls it there                              */
Test(adapter, the_gate_has_phases)
{
    struct net n = open_net("adapter = hgf\n[adapter.hgf]\nwarmup = 0.25\nfreeze = 0.5\npenalty = 0.5\n", MODEL_TRAIN);
    const struct model_tensor *theta = tensor(n, "layers.0.mixer.q_proj.hgf.theta"), *a = tensor(n, "layers.0.mixer.q_proj.hgf.a");
    cr_assert(theta && a);
    cr_expect_float_eq((double)theta->w[0], atanh(0.1), 1e-6);
    static const struct { double progress; bool held; } at[] = {
        { 0, true }, { 0.24, true }, { 0.25, false }, { 0.49, false }, { 0.5, true }, { 0.99, true } };
    for (int i = 0; i < COUNT(at); i++) {
        loss_of(n);
        float before = theta->g[0];
        model_steer(n.model, at[i].progress);
        cr_expect_eq(*theta->held, at[i].held, "%g", at[i].progress);
        cr_expect_not(*a->held);
        double g = tanh((double)theta->w[0]), want = at[i].held ? 0 : (double)before + 2 * 0.5 * g * (1 - g * g);
        cr_expect_float_eq((double)theta->g[0], want, 1e-6, "%g: %g, not %g", at[i].progress, (double)theta->g[0], want);
    }
    close_net(n);
}

Test(adapter, a_frozen_base_has_no_gradient)
{
    struct net n = open_net("[linear.layers.1.*]\nadapter = lora\n[adapter.lora]\nfreeze_base = yes\n", MODEL_TRAIN);
    const struct model_tensor *t;
    int64_t held = 0, moving = 0;
    stir(n);
    loss_of(n);
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++) {
        double sum = 0;
        for (int64_t j = 0; j < t->n; j++) sum += fabs((double)t->g[j]);
        bool base = t->linear && !strncmp(t->name, "layers.1.", 9);
        cr_expect_eq(*t->held, base, "%s", t->name);
        cr_expect(base ? sum == 0 : sum > 0 || strstr(t->name, "experts"), "%s: gradient %g", t->name, sum);
        held += base;
        moving += !base;
    }
    cr_expect(held >= 6 && moving >= 6);
    close_net(n);
}

/* The plan says what adapters take, and what a token meets                                           */
Test(adapter, plans_count_them)
{
    struct net n = open_net("", MODEL_TRAIN), with = open_net("adapter = lora\n[adapter.lora]\nrank = 8\n", MODEL_TRAIN);
    struct model_counts a, b;
    model_count(n.model, &a);
    model_count(with.model, &b);
    const struct model_tensor *t;
    int64_t more = 0;
    for (int64_t i = 0; (t = model_tensor(with.model, i)); i++) more += strstr(t->name, ".lora.") ? t->n : 0;
    cr_expect_gt(more, 0);
    cr_expect_eq(b.params - a.params, more);
    cr_expect_eq(b.weight_bytes - a.weight_bytes, 4 * more);
    cr_expect_eq(b.linear_params, a.linear_params);
    cr_expect_geq(b.train_bytes - a.train_bytes, 8 * more, "gradients, too");
    cr_expect_eq(b.flops_per_token - a.flops_per_token, 2 * (b.active_params - a.active_params));
    cr_expect_lt(b.active_params - a.active_params, more, "one expert of three is not met");
    close_net(with);
    close_net(n);
}

/* hgf's rank without one: 0.13 * 0.265625 d_out d_in / (2 (d_out + d_in)), in eights, or 1, 2, 3                */
Test(adapter, ranks_follow_sizes)
{
    static const struct { int d, inner, mixer, ffn; } at[] = {
        { 64, 80, 1, 1 }, { 256, 400, 2, 3 }, { 512, 1024, 8, 8 }, { 2560, 6912, 24, 32 } };
    for (int i = 0; i < COUNT(at); i++) {
        struct net n;
        struct config *c;
        char *text = xprintf("[model]\nhidden_size = %d\nnum_hidden_layers = 1\nvocab_size = 41\nlayer_pattern = AT\nffn_pattern = MLP\n"
                             "[layer.AT]\nuse = attention\nnum_heads = %d\n[layer.MLP]\nuse = swiglu\n"
                             "intermediate_size = %d\n[linear]\nquantizer = ternary\nadapter = hgf\n", at[i].d, at[i].d / 64, at[i].inner);
        cr_assert_eq(config_load_text(&c, "test", text, NULL, 0), CHI_OK, "%s", fail_text());
        cr_assert_eq(spec_open(&n.spec, c, SPEC_MODEL), CHI_OK, "%s", fail_text());
        cr_assert_eq(model_open(&n.model, n.spec, MODEL_PLAN, 1, 1), CHI_OK, "%s", fail_text());
        cr_expect_eq(tensor(n, "layers.0.mixer.q_proj.hgf.a")->shape[0], at[i].mixer, "width %d", at[i].d);
        cr_expect_eq(tensor(n, "layers.0.ffn.down_proj.hgf.b")->shape[0], at[i].ffn, "width %d", at[i].d);
        free(text);
        close_net(n);
    }
}

static void refused(const char *more, const char *words)
{
    struct config *c;
    struct spec *s;
    char *text = xprintf("%s%s", shape, more);
    cr_assert_eq(config_load_text(&c, "test", text, NULL, 0), CHI_OK, "%s", fail_text());
    cr_expect_neq(spec_open(&s, c, SPEC_MODEL), CHI_OK, "%s", more);
    cr_expect(strstr(fail_text(), words), "%s: %s", more, fail_text());
    free(text);
}

Test(adapter, what_is_refused)
{
    refused("adapter = hgff\n", "hgf");
    refused("adapter = lora, hgf, lora\n", "lora stands there twice");
    refused("adapter = lora\n[adapter.lora]\nrnk = 3\n", "rank");
    refused("[linear.embed]\nadapter = lora\n", "embedding and head take no adapter");
    refused("adapter = mine\n[adapter.mine]\nuse = ternary\n", "ternary");
    refused("[adapter.hgf]\nwarmup = 0.9\n", "warmup = 0.9");
    struct net n = open_net("[linear.layers.0.*]\nadapter = hgf\n[linear.layers.0.mixer.q_proj]\nadapter =\n", MODEL_TRAIN);
    cr_expect(tensor(n, "layers.0.mixer.k_proj.hgf.a"));
    cr_expect_not(tensor(n, "layers.0.mixer.q_proj.hgf.a"), "an empty value takes none");
    cr_expect_not(tensor(n, "layers.1.mixer.q_proj.hgf.a"));
    close_net(n);
}
