/* test_loop.c - networks with a loop: against a reference in double (loop_reference.h), whose gradients
 * are differences of its loss, and the promises that cutting, packing, threads and recomputation do not
 * change a bit.                                                                                   */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "model.h"
#include "pool.h"
#include "rng.h"
#include "loop_reference.h"

static const char shape[] =
    "[model]\nhidden_size = 16\nnum_hidden_layers = 4\nvocab_size = 11\ninitializer_range = 0.3\n"
    "layer_pattern = GD\nffn_pattern = MLP\n"
    "[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 8\n"
    "[layer.AT]\nuse = attention\nnum_heads = 2\nhead_dim = 8\nwindow = 5\n"
    "[layer.TM]\nuse = titans_mac\nnum_heads = 1\nhead_dim = 8\nchunk = 64\npersistent_memory_slots = 2\n"
    "[layer.MLP]\nuse = swiglu\nintermediate_size = 20\n"
    "[loop]\nuse = parcae\nprelude = 0\nloop = 1-2\ncoda = 3\n";

struct net { struct spec *spec; struct model *model; };
static const char *pattern = "GD", *range = "1-2", *coda = "3";

/* Start values with every parameter of the loop off its start, so that none is hidden           */
static void stir(struct model *m)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = model_tensor(m, i)); i++)
        if (!strncmp(t->name, "loop.", 5) && t->w)
            for (int64_t j = 0; j < t->n; j++) t->w[j] += (float)(0.3 * rng_normal(3, RNG_BENCH, rng_who(t->name), (uint64_t)j));
}

static struct net open_net(const char *more, int mode, int64_t rows, int64_t segs)
{
    struct net n;
    struct config *c;
    char *text = xprintf("%s%s", shape, more);
    char *set[] = { xprintf("model.layer_pattern=%s", pattern), xprintf("loop.loop=%s", range), xprintf("loop.coda=%s", coda) };
    cr_assert_eq(config_load_text(&c, "test", text, set, COUNT(set)), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&n.spec, c, SPEC_MODEL | (mode == MODEL_TRAIN ? SPEC_TRAIN : 0)), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&n.model, n.spec, mode, rows, segs), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(n.model, 3), CHI_OK, "%s", fail_text());
    stir(n.model);
    cr_assert_eq(model_bind(n.model, 1), CHI_OK, "%s", fail_text());
    free(text);
    for (int i = 0; i < COUNT(set); i++) free(set[i]);
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

/* ---- the formula -------------------------------------------------------------------------------- */

static void hidden_logits(struct net n, const int32_t *token, int64_t rows, float *logits)
{
    float hidden[ROWS * D];
    unsigned char *state = mem_take((size_t)model_state_bytes(n.model) + 64, "states");
    struct model_segment seg = { .tokens = token, .rows = rows, .fresh = true, .state = state };
    cr_assert_eq(model_forward(n.model, &seg, 1, hidden), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_logits(n.model, hidden, rows, logits), CHI_OK, "%s", fail_text());
    mem_free(state);
}

Test(loop, logits_are_the_formula)
{
    const char *const zoh[] = { "zoh = exact\n", "zoh = euler\n" };
    for (int z = 0; z < 2; z++)
        for (int turns = 1; turns <= 4; turns++) {
            char *more = xprintf("%sloops = %d\n", zoh[z], turns);
            struct net n = open_net(more, MODEL_TRAIN, ROWS, SEGS);
            struct ref r = ref_open(n.model, z);
            int32_t token[ROWS];
            float got[ROWS * VOCAB];
            double want[ROWS * VOCAB], worst = 0;
            fill_tokens(token, ROWS, 1);
            hidden_logits(n, token, ROWS, got);
            ref_logits(&r, token, ROWS, turns, 0, NULL, false, want);
            for (int i = 0; i < ROWS * VOCAB; i++) worst = fmax(worst, fabs((double)got[i] - want[i]));
            cr_expect_lt(worst, 1e-4, "%s, %d turns: off by %g", zoh[z], turns, worst);
            ref_close(&r);
            close_net(n);
            free(more);
        }
}

static double train_once(struct net n, const struct task *k)
{
    struct model_segment seg[SEGS];
    double loss = 0;
    for (int64_t s = 0, at = 0; s < SEGS; at += cut[s++])
        seg[s] = (struct model_segment){ .tokens = k->token + at, .rows = cut[s], .stream = (uint64_t)s, .fresh = true,
                                         .depth = k->depth[s] };
    model_zero_grads(n.model);
    cr_assert_eq(model_train(n.model, seg, SEGS, k->target, 1, &loss), CHI_OK, "%s", fail_text());
    return loss;
}

/* Along a random direction of each tensor the difference of the reference's loss is <g, u>           */
static void check_gradients(const char *more, bool euler, const struct chi_depth *depth)
{
    struct net n = open_net(more, MODEL_TRAIN, ROWS, SEGS);
    struct ref r = ref_open(n.model, euler);
    struct task k = { .target = { 0 } };
    const struct model_tensor *t;
    memcpy(k.depth, depth, sizeof k.depth);
    fill_tokens(k.token, ROWS, 1);
    fill_tokens(k.target, ROWS, 2);
    k.target[2] = k.target[9] = -1;
    double loss = train_once(n, &k), want = ref_loss(&r, &k, false);
    cr_expect_lt(fabs(loss - want), 1e-5 * want, "loss %.9g, wanted %.9g", loss, want);
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++) {
        double slope = 0, size = 0, side[2];
        double *was = r.w[i], *moved = xcalloc((size_t)t->n, sizeof *moved), *u = xcalloc((size_t)t->n, sizeof *u);
        for (int64_t j = 0; j < t->n; j++) {
            u[j] = rng_normal(5, RNG_BENCH, rng_who(t->name), (uint64_t)j);
            slope += (double)t->g[j] * u[j];
            size += fabs((double)t->g[j] * u[j]);
        }
        r.w[i] = moved;
        for (int s = 0; s < 2; s++) {
            for (int64_t j = 0; j < t->n; j++) moved[j] = was[j] + (s ? -1e-7 : 1e-7) * u[j];
            side[s] = ref_loss(&r, &k, true);
        }
        r.w[i] = was;
        double found = (side[0] - side[1]) / 2e-7;
        cr_expect(size > 1e-6, "%s has no gradient at all", t->name);
        cr_expect_lt(fabs(found - slope), 1e-3 * size + 1e-5, "%s: differences say %.8g, backward %.8g", t->name, found, slope);
        free(moved);
        free(u);
    }
    ref_close(&r);
    close_net(n);
}

static const struct chi_depth two_turns[SEGS] = { { 2, 2 }, { 2, 2 }, { 2, 2 } };
static const struct chi_depth ragged[SEGS] = { { 1, 1 }, { 4, 4 }, { 3, 3 } };
static const struct chi_depth truncated[SEGS] = { { 3, 1 }, { 1, 1 }, { 4, 2 } };

Test(loop, gradients_go_through_all_turns)   { check_gradients("zoh = exact\n", false, two_turns); }
Test(loop, gradients_with_eulers_step)       { check_gradients("zoh = euler\nloop_default = 4\n", true, ragged); }
Test(loop, gradients_of_ragged_depths)       { check_gradients("loop_default = 4\n", false, ragged); }
Test(loop, gradients_end_at_the_truncation)  { check_gradients("loop_default = 4\n", false, truncated); }
Test(loop, gradients_with_recomputation)
{
    check_gradients("loop_default = 4\n[train]\nrecompute = block\n", false, truncated);
}

static uint64_t gradient_hash(const char *more, const struct chi_depth *depth, int threads)
{
    char *text = xprintf("loop_default = 4\n%s\n[run]\nthreads = %d\n", more, threads);
    struct net n = open_net(text, MODEL_TRAIN, ROWS, SEGS);
    struct task k = { .target = { 0 } };
    memcpy(k.depth, depth, sizeof k.depth);
    fill_tokens(k.token, ROWS, 1);
    fill_tokens(k.target, ROWS, 2);
    double loss = train_once(n, &k);
    uint64_t h = xxh3(model_grads(n.model), (size_t)model_param_floats(n.model) * sizeof(float)) ^ xxh3(&loss, sizeof loss);
    close_net(n);
    free(text);
    return h;
}

Test(loop, gradients_depend_on_neither_threads_nor_recomputation)
{
    const char *const kind[] = { "", "[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n" };
    for (int k = 0; k < 2; k++) {
        uint64_t one = gradient_hash(kind[k], truncated, 1);
        char *block = xprintf("%s[train]\nrecompute = block\n", kind[k]);
        if (!k) cr_expect_eq(gradient_hash(kind[k], truncated, 2), one);
        if (!k) cr_expect_eq(gradient_hash(kind[k], truncated, 8), one);
        cr_expect_eq(gradient_hash(kind[k], truncated, 3), one);
        cr_expect_eq(gradient_hash(block, truncated, 2), one);
        cr_expect_neq(gradient_hash(kind[k], ragged, 2), one);
        free(block);
    }
}

/* A segment's company in a call, which is as deep or not, changes no bit of its loss                 */
Test(loop, a_segment_does_not_see_how_deep_the_others_are)
{
    struct net n = open_net("loop_default = 4\n", MODEL_TRAIN, ROWS, SEGS);
    struct task k = { .target = { 0 } };
    double loss[2], alone = 0;
    const struct chi_depth deep[SEGS] = { { 1, 1 }, { 4, 4 }, { 4, 1 } };
    fill_tokens(k.token, ROWS, 1);
    for (int i = 0; i < ROWS; i++) k.target[i] = i < cut[0] ? k.token[i] : -1;
    memcpy(k.depth, ragged, sizeof k.depth);
    loss[0] = train_once(n, &k);
    memcpy(k.depth, deep, sizeof k.depth);
    loss[1] = train_once(n, &k);
    cr_expect_eq(loss[0], loss[1]);
    struct model_segment seg = { .tokens = k.token, .rows = cut[0], .fresh = true, .depth = ragged[0] };
    cr_assert_eq(model_train(n.model, &seg, 1, k.target, 1, &alone), CHI_OK, "%s", fail_text());
    cr_expect_eq(alone, loss[0]);
    close_net(n);
}

Test(loop, a_depth_beyond_the_plan_is_refused)
{
    struct net n = open_net("", MODEL_TRAIN, ROWS, SEGS);
    int32_t token = 1, target = 1;
    const struct chi_depth bad[] = { { 3, 3 }, { 2, 0 }, { 1, 2 } };
    double loss = 0;
    for (int i = 0; i < 3; i++) {
        struct model_segment seg = { .tokens = &token, .rows = 1, .fresh = true, .depth = bad[i] };
        cr_expect_eq(model_train(n.model, &seg, 1, &target, 1, &loss), CHI_EBUG);
    }
    struct model_segment seg = { .tokens = &token, .rows = 1, .fresh = true, .depth = { 5, 2 } };
    cr_expect_eq(model_train(n.model, &seg, 1, &target, 1, &loss), CHI_OK, "%s", fail_text());
    close_net(n);
}

/* ---- inference ----------------------------------------------------------------------------------- */

enum { LEN = 16, STREAMS = 3 };

/* Logits of STREAMS streams, cut into calls of some rows, together or one after the other          */
static uint64_t logits_hash(const char *more, int64_t step, bool together, int threads)
{
    char *text = xprintf("%s\n[run]\nthreads = %d\n", more, threads);
    struct net n = open_net(text, MODEL_INFER, LEN * STREAMS, STREAMS);
    int32_t token[LEN * STREAMS];
    int64_t bytes = model_state_bytes(n.model);
    unsigned char *state = mem_take((size_t)(STREAMS * bytes) + 64, "states");
    float hidden[LEN * STREAMS * D], logits[LEN * STREAMS * VOCAB];
    fill_tokens(token, LEN * STREAMS, 3);
    for (int group = 0; group < (together ? 1 : STREAMS); group++)
        for (int64_t at = 0; at < LEN; at += step) {
            struct model_segment seg[STREAMS];
            int count = together ? STREAMS : 1;
            int64_t rows = min_i64(step, LEN - at);
            for (int s = 0; s < count; s++) {
                int who = together ? s : group;
                seg[s] = (struct model_segment){ .tokens = token + who * LEN + at, .rows = rows, .pos = at,
                                                 .stream = (uint64_t)who, .fresh = at == 0, .state = state + who * bytes };
            }
            cr_assert_eq(model_forward(n.model, seg, count, hidden), CHI_OK, "%s", fail_text());
            for (int s = 0; s < count; s++)
                cr_assert_eq(model_logits(n.model, hidden + s * rows * D, rows,
                                          logits + ((together ? s : group) * LEN + at) * VOCAB), CHI_OK, "%s", fail_text());
        }
    uint64_t h = xxh3(logits, sizeof logits) ^ xxh3(state, (size_t)(STREAMS * bytes));
    mem_free(state);
    close_net(n);
    free(text);
    return h;
}

/* The same without the states, whose number depends on the turns                                     */
static void all_logits(const char *more, float *logits)
{
    struct net n = open_net(more, MODEL_INFER, LEN, 1);
    int32_t token[LEN];
    float hidden[LEN * D];
    unsigned char *state = mem_take((size_t)model_state_bytes(n.model) + 64, "states");
    fill_tokens(token, LEN, 3);
    struct model_segment seg = { .tokens = token, .rows = LEN, .fresh = true, .state = state };
    cr_assert_eq(model_forward(n.model, &seg, 1, hidden), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_logits(n.model, hidden, LEN, logits), CHI_OK, "%s", fail_text());
    mem_free(state);
    close_net(n);
}

/* Attention with a window and quantised linears are in it: they look at positions, and cut rows        */
static void check_any_cut(const char *loop)
{
    const char *const more[] = { "", "[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n" };
    uint64_t seen = 0;
    pattern = "GD AT GD GD";
    for (int k = 0; k < 2; k++) {
        char *text = xprintf("%s%s", loop, more[k]);
        uint64_t whole = logits_hash(text, LEN, true, 2);
        cr_expect_eq(logits_hash(text, 1, true, 2), whole, "token by token, %s", text);
        cr_expect_eq(logits_hash(text, 1, false, 1), whole, "one stream at a time, %s", text);
        cr_expect_eq(logits_hash(text, 5, false, 3), whole, "cuts of 5, %s", text);
        if (!k) cr_expect_eq(logits_hash(text, 7, true, 8), whole, "eight threads, %s", text);
        cr_expect_neq(seen, whole);
        seen = whole;
        free(text);
    }
}

Test(loop, decoding_equals_the_whole_text_with_one_turn)   { check_any_cut("loops = 1\n"); }
Test(loop, decoding_equals_the_whole_text_with_two_turns)  { check_any_cut("loops = 2\n"); }
Test(loop, decoding_equals_the_whole_text_with_four_turns) { check_any_cut("loops = 4\n"); }
Test(loop, tokens_that_leave_early_depend_on_nothing_else) { check_any_cut("loops = 6\nadaptive_exit = 0.3\n"); }

static int64_t differing(const float *a, const float *b)
{
    int64_t n = 0;
    for (int64_t t = 0; t < LEN; t++) n += memcmp(a + t * VOCAB, b + t * VOCAB, VOCAB * sizeof *a) != 0;
    return n;
}

/* A threshold that nothing is below changes no bit; one that all are below leaves one turn; between
 * them some tokens differ.  An h that is overwritten before it is compared would always be below.   */
Test(loop, adaptive_exit_compares_h_before_and_after)
{
    enum { N = LEN * VOCAB };
    static float one[N], two[N], six[N], never[N], always[N], some[N];
    all_logits("loops = 1\n", one);
    all_logits("loops = 2\n", two);
    all_logits("loops = 6\n", six);
    all_logits("loops = 6\nadaptive_exit = 1e-9\n", never);
    all_logits("loops = 6\nadaptive_exit = 1e6\n", always);
    all_logits("loops = 6\nadaptive_exit = 0.3\n", some);
    cr_expect_eq(differing(never, six), 0);
    cr_expect_eq(differing(always, one), 0);
    cr_expect_gt(differing(some, six), 0, "nothing left early");
    cr_expect_gt(differing(some, one), 0, "everything left at once");
    cr_expect_gt(differing(some, two), 0);
    cr_expect_eq(differing(one, two), LEN, "a turn more changes every token");
    cr_expect_eq(differing(two, six), LEN);
}

/* Tokens 0..5 leave after one turn; the others, in a model where nothing leaves, have the second.  That
 * one has then seen nothing: to it token 6 is the first of its stream.                                */
Test(loop, a_turn_that_was_skipped_begins_later)
{
    enum { SKIP = 6, REST = 5 };
    int32_t token[SKIP + REST];
    float hidden[(SKIP + REST) * D], logits[2][REST * VOCAB];
    fill_tokens(token, SKIP + REST, 3);
    pattern = "GD AT GD GD";
    range = "1-3";
    coda = "";
    for (int forget = 0; forget < 2; forget++) {
        struct net a = open_net("adaptive_exit = 1e6\n", MODEL_INFER, SKIP + REST, 1);
        struct net b = open_net("", MODEL_INFER, SKIP + REST, 1);
        int64_t bytes = model_state_bytes(a.model);
        unsigned char *state = mem_take((size_t)bytes + 64, "states");
        int64_t *skipped = (int64_t *)(void *)(state + bytes - 64);      /* behind all states: [turns] */
        struct model_segment seg = { .tokens = token, .rows = SKIP, .fresh = true, .state = state };
        cr_assert_eq(model_forward(a.model, &seg, 1, hidden), CHI_OK, "%s", fail_text());
        cr_assert_eq(skipped[0], 0);
        cr_assert_eq(skipped[1], SKIP);
        if (forget) skipped[1] = 0;
        seg = (struct model_segment){ .tokens = token + SKIP, .rows = REST, .pos = SKIP, .state = state };
        cr_assert_eq(model_forward(b.model, &seg, 1, hidden), CHI_OK, "%s", fail_text());
        cr_assert_eq(model_logits(b.model, hidden, REST, logits[forget]), CHI_OK, "%s", fail_text());
        mem_free(state);
        close_net(a);
        close_net(b);
    }
    cr_assert_neq(memcmp(logits[0], logits[1], sizeof logits[0]), 0, "to the second turn its first token is like any other");
}

static const struct model_tensor *tensor(const struct model *m, const char *name)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = model_tensor(m, i)); i++)
        if (!strcmp(t->name, name)) return t;
    cr_assert_fail("no %s", name);
    return NULL;
}

static int64_t places_of(const struct model_tensor *t, const unsigned char *state, int64_t bytes)
{
    int64_t found = 0, n = t->n * (int64_t)sizeof *t->w;
    for (int64_t at = 0; at + n <= bytes; at += 64) found += !memcmp(state + at, t->w, (size_t)n);
    return found;
}

/* and it starts as a stream does, also where that is not from zero: titans_mac's matrices         */
Test(loop, a_turn_that_begins_later_begins_fresh)
{
    enum { SKIP = 6 };
    int32_t token[SKIP + 1];
    float hidden[(SKIP + 1) * D];
    fill_tokens(token, SKIP + 1, 3);
    pattern = "GD TM GD GD";
    struct net a = open_net("adaptive_exit = 1e6\n", MODEL_INFER, SKIP, 1), b = open_net("", MODEL_INFER, 1, 1);
    int64_t bytes = model_state_bytes(a.model);
    unsigned char *state = mem_take((size_t)bytes + 64, "states");
    const struct model_tensor *w1 = tensor(a.model, "layers.1.mixer.memory.w1");
    struct model_segment seg = { .tokens = token, .rows = SKIP, .fresh = true, .state = state };
    cr_assert_eq(model_forward(a.model, &seg, 1, hidden), CHI_OK, "%s", fail_text());
    cr_assert_eq(places_of(w1, state, bytes), 1);
    seg = (struct model_segment){ .tokens = token + SKIP, .rows = 1, .pos = SKIP, .state = state };
    cr_assert_eq(model_forward(b.model, &seg, 1, hidden), CHI_OK, "%s", fail_text());
    cr_assert_eq(places_of(w1, state, bytes), 2);
    mem_free(state);
    close_net(a);
    close_net(b);
}

/* Layers that add nothing and Abar = 1/2 make h = u, 3/2 u, 7/4 u, 15/8 u: turns move it by 1, 1/3, 1/7, 1/15 */
Test(loop, a_token_leaves_at_its_threshold)
{
    static const struct { const char *exit; int64_t skipped[4]; } c[] = {
        { "0.34", { 0, 0, 5, 5 } }, { "0.33", { 0, 0, 0, 5 } }, { "0.144", { 0, 0, 0, 5 } }, { "0.142", { 0, 0, 0, 0 } },
    };
    int32_t token[5];
    float hidden[5 * D];
    fill_tokens(token, 5, 3);
    range = "1-3";
    coda = "";                              /* so that the counts lie behind all states */
    for (int i = 0; i < COUNT(c); i++) {
        char *more = xprintf("loops = 4\nadaptive_exit = %s\n", c[i].exit);
        struct net n = open_net(more, MODEL_TRAIN, 5, 1);
        const struct model_tensor *t;
        for (int64_t k = 0; (t = model_tensor(n.model, k)); k++)
            if (strstr(t->name, "o_proj") || strstr(t->name, "down_proj") || strstr(t->name, "A_log") || strstr(t->name, "loop.dt_bias"))
                memset(t->w, 0, (size_t)t->n * sizeof *t->w);
        cr_assert_eq(model_bind(n.model, 1), CHI_OK, "%s", fail_text());
        int64_t bytes = model_state_bytes(n.model);
        unsigned char *state = mem_take((size_t)bytes + 64, "states");
        struct model_segment seg = { .tokens = token, .rows = 5, .fresh = true, .state = state };
        cr_assert_eq(model_forward(n.model, &seg, 1, hidden), CHI_OK, "%s", fail_text());
        cr_expect_eq(memcmp(state + bytes - 64, c[i].skipped, sizeof c[i].skipped), 0, "adaptive_exit = %s", c[i].exit);
        mem_free(state);
        close_net(n);
        free(more);
    }
}

/* loops = 0 is loop_default, whatever is trained                                                     */
Test(loop, the_usual_number_of_turns_is_the_default)
{
    static float a[LEN * VOCAB], b[LEN * VOCAB];
    all_logits("loop_default = 3\n", a);
    all_logits("loop_default = 3\nloops = 3\n", b);
    cr_expect_eq(differing(a, b), 0);
}

Test(loop, every_turn_has_states_of_its_own)
{
    int64_t bytes[3], per_layer = 0;
    for (int turns = 1; turns <= 3; turns++) {
        char *more = xprintf("loops = %d\n", turns);
        struct net n = open_net(more, MODEL_INFER, 4, 1);
        struct model_counts c;
        model_count(n.model, &c);
        bytes[turns - 1] = model_state_bytes(n.model);
        cr_expect_eq(c.state_bytes, bytes[turns - 1]);
        per_layer = (bytes[0] - 64) / LAYERS;
        close_net(n);
        free(more);
    }
    cr_expect_eq(bytes[1] - bytes[0], 2 * per_layer);
    cr_expect_eq(bytes[2] - bytes[1], 2 * per_layer);
}

/* ---- depths ------------------------------------------------------------------------------------------ */

Test(loop, drawn_depths_have_the_poissons_shape)
{
    struct net n = open_net("depth_selection = poisson\nbackward_truncation = half\n", MODEL_TRAIN, ROWS, SEGS);
    enum { DRAWS = 20000 };
    int64_t count[8] = { 0 };
    for (int64_t i = 0; i < DRAWS; i++) {
        struct chi_depth d = model_depth(n.model, (uint64_t)(i % 8), i / 8), again = model_depth(n.model, (uint64_t)(i % 8), i / 8);
        cr_assert(d.turns >= 1 && d.turns <= 6 && d.graded == (d.turns + 1) / 2);
        cr_assert(d.turns == again.turns && d.graded == again.graded);
        count[d.turns]++;
    }
    double p[7] = { 0 }, one = exp(-2), rest = 1;
    for (int k = 1; k <= 5; k++) {                       /* P(1) takes over 0's, P(6) all above          */
        p[k] = (k == 1 ? one + 2 * one : one * pow(2, k) / tgamma(k + 1));
        rest -= p[k];
    }
    p[6] = rest;
    for (int k = 1; k <= 6; k++)
        cr_expect_lt(fabs((double)count[k] / DRAWS - p[k]), 4 * sqrt(p[k] / DRAWS), "%d turns: %g, wanted %g", k,
                     (double)count[k] / DRAWS, p[k]);
    close_net(n);
}

Test(loop, a_loop_without_draws_has_its_default_depth)
{
    struct net n = open_net("loop_default = 3\nbackward_truncation = half\n", MODEL_TRAIN, ROWS, SEGS);
    struct chi_depth d = model_depth(n.model, 5, 77);
    cr_expect_eq(d.turns, 3);
    cr_expect_eq(d.graded, 2);
    close_net(n);
}

/* ---- what is refused ------------------------------------------------------------------------------------ */

static void refused(const char *more, const char *why)
{
    struct config *c;
    struct spec *s;
    char set[64];
    cr_assert_eq(config_load_text(&c, "test", shape, &(char *){ strcpy(set, more) }, 1), CHI_OK, "%s", fail_text());
    cr_expect_eq(spec_open(&s, c, SPEC_MODEL), CHI_ECONF, "%s", more);
    cr_expect_not_null(strstr(fail_text(), why), "%s: %s", more, fail_text());
}

Test(loop, ranges_must_cover_the_layers_in_order)
{
    refused("loop.prelude=1", "layer 1 stands where 0 must");
    refused("loop.loop=2", "layer 2 stands where 1 must");
    refused("loop.loop=1", "layer 3 stands where 2 must");
    refused("loop.coda=", "ends with layer 2, but there are 4 layers");
    refused("loop.coda=3-4", "goes on to layer 4, but there are 4 layers");
    refused("loop.loop=", "names no layer");
    refused("loop.loop_default=0", "must be 1..64");
    refused("loop.zoh=midpoint", "must be exact or euler");
    refused("loop.loop_range=", "loop_range is empty");
    refused("loop.loops_default=3", "did you mean loop_default");
}

/* No layer before or behind it: the embedding goes in, the head follows                                      */
Test(loop, prelude_and_coda_may_be_empty)
{
    struct config *c;
    struct spec *s;
    struct model *m;
    char before[] = "loop.prelude=", all[] = "loop.loop=0-3", behind[] = "loop.coda=", *const set[] = { before, all, behind };
    int32_t token[ROWS];
    double loss = 0;
    cr_assert_eq(config_load_text(&c, "test", shape, set, COUNT(set)), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&s, c, SPEC_MODEL | SPEC_TRAIN), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&m, s, MODEL_TRAIN, ROWS, 1), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(m, 1), CHI_OK, "%s", fail_text());
    fill_tokens(token, ROWS, 1);
    struct model_segment seg = { .tokens = token, .rows = ROWS, .fresh = true };
    model_zero_grads(m);
    cr_assert_eq(model_train(m, &seg, 1, token, 1, &loss), CHI_OK, "%s", fail_text());
    const struct model_tensor *t;
    for (int64_t i = 0; (t = model_tensor(m, i)); i++) {
        double size = 0;
        for (int64_t j = 0; j < t->n; j++) size += fabs((double)t->g[j]);
        cr_expect(isfinite(size) && size > 0, "%s: %g", t->name, size);
    }
    model_close(m);
    spec_close(s);
}
