/* test_model.c - whole networks: gradients against finite differences, and the promises that
 * batching, cutting, threads, recomputation and backends do not change a bit.              */
#include "model_net.h"

/* A head with weights of its own, and a cap of its logits                                    */
static void use_head(const char *cap)
{
    shape = xprintf("[model]\ntie_word_embeddings = no\nlogit_soft_cap = %s\n%s", cap, strchr(shape_text, '\n') + 1);
}

/* ---- gradients --------------------------------------------------------------------------- */

static const int64_t cut[] = { 17, 1, 22 };              /* rows of the segments               */
enum { TRAIN_ROWS = 40 };

static double loss_of(struct net n, const int32_t *token, const int32_t *target)
{
    struct model_segment seg[3];
    double loss = 0;
    int64_t at = 0;
    for (int s = 0; s < 3; at += cut[s++])
        seg[s] = (struct model_segment){ .tokens = token + at, .rows = cut[s], .stream = (uint64_t)s, .fresh = true };
    model_zero_grads(n.model);
    chi_status st = model_train(n.model, seg, 3, target, 1.0, &loss);
    cr_assert_eq(st, CHI_OK, "%s", fail_text());
    return loss;
}

static void train_case(int32_t *token, int32_t *target)
{
    fill_tokens(token, TRAIN_ROWS, 1);
    fill_tokens(target, TRAIN_ROWS, 2);
    target[3] = target[30] = -1;
}

/* Along a random direction u of each tensor: (L(w + e u) - L(w - e u)) / 2e = <g, u>.         */
static void check_gradients(const char *more)
{
    struct net n = open_net(more, MODEL_TRAIN, TRAIN_ROWS, 3);
    int32_t token[TRAIN_ROWS], target[TRAIN_ROWS];
    const struct model_tensor *t;
    train_case(token, target);
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++) {
        float *u = xcalloc((size_t)t->n, sizeof *u), *was = xcalloc((size_t)t->n, sizeof *was);
        double slope = 0, norm = 0, side[2];
        loss_of(n, token, target);
        memcpy(was, t->w, (size_t)t->n * sizeof *was);
        for (int64_t j = 0; j < t->n; j++) {
            u[j] = (float)rng_normal(5, RNG_BENCH, rng_who(t->name), (uint64_t)j);
            u[j] = u[j] * 0.5f + (t->g[j] > 0 ? 1.0f : -1.0f);     /* leans to the gradient    */
            slope += (double)t->g[j] * u[j];
            norm += (double)u[j] * u[j];
        }
        double e = 3e-3 / sqrt(norm) * fmax(1, sqrt((double)t->n) * 0.05);
        for (int s = 0; s < 2; s++) {
            for (int64_t j = 0; j < t->n; j++) t->w[j] = was[j] + (float)((s ? -e : e) * u[j]);
            side[s] = loss_of(n, token, target);
        }
        memcpy(t->w, was, (size_t)t->n * sizeof *was);
        double found = (side[0] - side[1]) / (2 * e);
        cr_expect(fabs(slope) > 1e-6, "%s has no gradient at all", t->name);
        cr_expect_lt(fabs(found - slope), 0.02 * fabs(slope) + 0.02, "%s: differences say %g, backward says %g",
                     t->name, found, slope);
        free(u);
        free(was);
    }
    close_net(n);
}

Test(model, gradients_f32)
{
    check_gradients("[backend]\nuse = portable\n");
}

/* A cap so low that the logits bend                                                            */
Test(model, gradients_of_a_head_of_its_own_under_a_cap)
{
    use_head("1.5");
    check_gradients("");
}

Test(model, gradients_with_the_best_backend)
{
    check_gradients("");
}

Test(model, gradients_reach_a_learned_start)
{
    use_memory();
    check_gradients("");
}

static uint64_t gradient_hash(const char *more, int threads)
{
    char *text = xprintf("%s\n[run]\nthreads = %d\n", more, threads);
    struct net n = open_net(text, MODEL_TRAIN, TRAIN_ROWS, 3);
    int32_t token[TRAIN_ROWS], target[TRAIN_ROWS];
    train_case(token, target);
    double loss = loss_of(n, token, target);
    uint64_t h = xxh3(model_grads(n.model), (size_t)model_param_floats(n.model) * sizeof(float));
    h ^= xxh3(&loss, sizeof loss);
    close_net(n);
    free(text);
    return h;
}

Test(model, gradients_do_not_depend_on_threads)
{
    const char *const kind[] = { "", "[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n" };
    for (int k = 0; k < 2; k++) {
        uint64_t one = gradient_hash(kind[k], 1);
        cr_expect_eq(gradient_hash(kind[k], 2), one);
        cr_expect_eq(gradient_hash(kind[k], 3), one);
        cr_expect_eq(gradient_hash(kind[k], 8), one);
    }
    cr_expect_neq(gradient_hash(kind[0], 1), gradient_hash(kind[1], 1));
}

Test(model, recomputation_changes_no_bit)
{
    const char *const kind[] = { "", "[linear]\nquantizer = ternary\n" };
    for (int k = 0; k < 2; k++) {
        char *block = xprintf("%s[train]\nrecompute = block\n", kind[k]);
        cr_expect_eq(gradient_hash(kind[k], 2), gradient_hash(block, 2));
        free(block);
    }
}

Test(model, a_learned_start_trains_alike_with_any_threads)
{
    use_memory();
    uint64_t one = gradient_hash("", 1);
    cr_expect_eq(gradient_hash("", 3), one);
    cr_expect_eq(gradient_hash("[train]\nrecompute = block\n", 2), one);
}

/* Training starts every segment afresh, whatever the caller says of it                        */
Test(model, training_segments_are_always_fresh)
{
    use_memory();
    struct net n = open_net("", MODEL_TRAIN, TRAIN_ROWS, 3);
    int32_t token[TRAIN_ROWS], target[TRAIN_ROWS];
    train_case(token, target);
    double want = loss_of(n, token, target), loss = 0;
    struct model_segment seg[3];
    int64_t at = 0;
    for (int s = 0; s < 3; at += cut[s++])
        seg[s] = (struct model_segment){ .tokens = token + at, .rows = cut[s], .stream = (uint64_t)s };
    cr_assert_eq(model_train(n.model, seg, 3, target, 1.0, &loss), CHI_OK, "%s", fail_text());
    cr_assert_eq(loss, want);
    close_net(n);
}

/* More rows than the head takes at once: the loss and gradients of a call are those of its
 * segments, one call each                                                                   */
Test(model, a_long_call_is_the_sum_of_its_segments)
{
    enum { SEG = 130, ALL = 3 * SEG };
    struct net n = open_net("", MODEL_TRAIN, ALL, 3);
    int32_t token[ALL], target[ALL];
    struct model_segment seg[3];
    int64_t floats = model_param_floats(n.model);
    float *whole = mem_take((size_t)floats * sizeof *whole, "gradients");
    double together = 0, alone = 0, worst = 0, size = 0;
    fill_tokens(token, ALL, 1);
    fill_tokens(target, ALL, 2);
    for (int s = 0; s < 3; s++)
        seg[s] = (struct model_segment){ .tokens = token + s * SEG, .rows = SEG, .stream = (uint64_t)s,
                                         .fresh = true };
    model_zero_grads(n.model);
    cr_assert_eq(model_train(n.model, seg, 3, target, 1.0, &together), CHI_OK, "%s", fail_text());
    memcpy(whole, model_grads(n.model), (size_t)floats * sizeof *whole);
    model_zero_grads(n.model);
    for (int s = 0; s < 3; s++)
        cr_assert_eq(model_train(n.model, &seg[s], 1, target + s * SEG, 1.0, &alone), CHI_OK, "%s", fail_text());
    for (int64_t i = 0; i < floats; i++) {
        worst = fmax(worst, fabs((double)model_grads(n.model)[i] - (double)whole[i]));
        size = fmax(size, fabs((double)whole[i]));
    }
    cr_assert_lt(fabs(together - alone), 1e-5 * alone);
    cr_assert_lt(worst, 1e-5 * size);
    mem_free(whole);
    close_net(n);
}

/* A model that trains can be asked between steps, and answers with the weights of now       */
Test(model, inference_between_steps_sees_the_new_weights)
{
    struct net n = open_net("", MODEL_TRAIN, TRAIN_ROWS, 3);
    const struct model_tensor *t;
    int32_t token[TRAIN_ROWS];
    float *hidden = mem_take(TRAIN_ROWS * 48 * sizeof *hidden, "hidden"), before;
    unsigned char *state = states(n.model, 1);
    fill_tokens(token, TRAIN_ROWS, 1);
    struct model_segment seg = { .tokens = token, .rows = 9, .fresh = true, .state = state };
    cr_assert_eq(model_forward(n.model, &seg, 1, hidden), CHI_OK, "%s", fail_text());
    before = hidden[8 * 48];
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++)
        for (int64_t j = 0; strstr(t->name, "down_proj") && j < t->n; j++) t->w[j] = -t->w[j];
    cr_assert_eq(model_bind(n.model, 1), CHI_OK, "%s", fail_text());
    memset(state, 0, (size_t)model_state_bytes(n.model));
    cr_assert_eq(model_forward(n.model, &seg, 1, hidden), CHI_OK, "%s", fail_text());
    cr_assert_neq(hidden[8 * 48], before);
    mem_free(hidden);
    mem_free(state);
    close_net(n);
}

static void forward_all(struct net n, const int32_t *token, int64_t rows, float *hidden)
{
    unsigned char *state = states(n.model, 1);
    struct model_segment seg = { .tokens = token, .rows = rows, .fresh = true, .state = state };
    cr_assert_eq(model_forward(n.model, &seg, 1, hidden), CHI_OK, "%s", fail_text());
    mem_free(state);
}

/* In the middle of the ramp a model is asked what its checkpoint would answer: the embedding, too */
Test(model, inference_during_the_ramp_is_quantised)
{
    const char *const kind[] = { "int8", "ternary", "bf16" };
    for (int k = 0; k < 3; k++) {
        char *more = xprintf("[linear]\nquantizer = ternary\n[linear.embed]\nquantizer = %s\n", kind[k]);
        struct net n = open_net(more, MODEL_TRAIN, TRAIN_ROWS, 3);
        int32_t token[TRAIN_ROWS];
        float ramp[9 * 48], whole[9 * 48];
        fill_tokens(token, TRAIN_ROWS, 1);
        cr_assert_eq(model_bind(n.model, 0.25), CHI_OK, "%s", fail_text());
        forward_all(n, token, 9, ramp);
        cr_assert_eq(model_bind(n.model, 1), CHI_OK, "%s", fail_text());
        forward_all(n, token, 9, whole);
        cr_expect_eq(memcmp(ramp, whole, sizeof whole), 0, "%s", kind[k]);
        close_net(n);
        free(more);
    }
}

/* The tied embedding learns as source and as head whatever it is stored in                        */
Test(model, training_lowers_the_loss_with_any_embedding)
{
    const char *const kind[] = { "f32", "bf16", "int8", "ternary" };
    for (int k = 0; k < 4; k++) {
        char *more = xprintf("[linear.embed]\nquantizer = %s\n", kind[k]);
        struct net n = open_net(more, MODEL_TRAIN, TRAIN_ROWS, 3);
        const struct model_tensor *t;
        int32_t token[TRAIN_ROWS], target[TRAIN_ROWS];
        train_case(token, target);
        double first = loss_of(n, token, target), last = 0;
        for (int step = 0; step < 40; step++) {
            for (int64_t i = 0; (t = model_tensor(n.model, i)); i++) {
                if (strcmp(t->name, "embed.weight")) continue;      /* nothing else moves          */
                double norm = 0;
                for (int64_t j = 0; j < t->n; j++) norm += (double)t->g[j] * (double)t->g[j];
                for (int64_t j = 0; j < t->n; j++) t->w[j] -= (float)(0.5 / sqrt(norm)) * t->g[j];
            }
            cr_assert_eq(model_bind(n.model, 1), CHI_OK, "%s", fail_text());
            last = loss_of(n, token, target);
        }
        cr_expect_lt(last, 0.8 * first, "%s: %g, then %g", kind[k], first, last);
        float *hidden = mem_take(17 * 48 * sizeof *hidden, "hidden"),
            *logits = mem_take(17 * VOCAB * sizeof *logits, "logits");
        forward_all(n, token, 17, hidden);
        cr_assert_eq(model_logits(n.model, hidden, 17, logits), CHI_OK, "%s", fail_text());
        double asked = 0, trained = 0;
        for (int r = 0; r < 17; r++) {
            double sum = 0;
            for (int v = 0; v < VOCAB; v++) sum += exp((double)logits[r * VOCAB + v]);
            if (target[r] >= 0) asked += log(sum) - (double)logits[r * VOCAB + target[r]];
        }
        struct model_segment seg = { .tokens = token, .rows = 17, .fresh = true };
        cr_assert_eq(model_train(n.model, &seg, 1, target, 1, &trained), CHI_OK, "%s", fail_text());
        cr_expect_lt(fabs(asked - trained), 1e-3 * trained, "%s: asked %g, trained %g", kind[k], asked, trained);
        mem_free(hidden);
        mem_free(logits);
        close_net(n);
        free(more);
    }
}

/* What is not finite is sought in the rows of the last call only                                   */
Test(model, what_is_not_finite_is_of_the_last_call)
{
    struct net n = open_net("", MODEL_TRAIN, TRAIN_ROWS, 3);
    const struct model_tensor *t;
    int32_t token[TRAIN_ROWS], target[TRAIN_ROWS] = { 0 };
    double loss = 0;
    for (int i = 0; i < TRAIN_ROWS; i++) token[i] = i < 20 ? 1 : 2;
    cr_expect_null(model_find_nonfinite(n.model, true));
    t = model_tensor(n.model, 0);
    cr_assert_str_eq(t->name, "embed.weight");
    float was = t->w[2 * 48];
    t->w[2 * 48] = NAN;
    cr_expect_str_eq(model_find_nonfinite(n.model, false), "embed.weight");
    struct model_segment seg = { .tokens = token, .rows = TRAIN_ROWS, .fresh = true };
    cr_assert_eq(model_train(n.model, &seg, 1, target, 1, &loss), CHI_OK, "%s", fail_text());
    cr_expect(isnan(loss));
    cr_expect_str_eq(model_find_nonfinite(n.model, true), "the embedding of a token");
    t->w[2 * 48] = was;
    seg.rows = 20;
    loss = 0;
    model_zero_grads(n.model);
    cr_assert_eq(model_train(n.model, &seg, 1, target, 1, &loss), CHI_OK, "%s", fail_text());
    cr_expect(isfinite(loss));
    cr_expect_null(model_find_nonfinite(n.model, true), "%s", model_find_nonfinite(n.model, true));
    model_grads(n.model)[0] = INFINITY;
    cr_expect_str_eq(model_find_nonfinite(n.model, true), "the gradient of embed.weight");
    cr_expect_null(model_find_nonfinite(n.model, false));
    close_net(n);
}

/* ---- the plan of the memory ------------------------------------------------------------------- */

static const char *const plan_shape =
    "[model]\nhidden_size = 128\nnum_hidden_layers = 2\nvocab_size = 1000\nlayer_pattern = GD AT\n"
    "ffn_pattern = MLP\n[layer.GD]\nuse = gated_deltanet\nnum_heads = 4\nhead_dim = 32\n"
    "[layer.AT]\nuse = attention\nnum_heads = 4\nhead_dim = 32\nwindow = 64\n"
    "[layer.MLP]\nuse = swiglu\nintermediate_size = 384\n";

/* Bytes taken by a model that has trained and has been asked, against those of the plan         */
static void check_plan(const char *more, int64_t rows, int64_t segs)
{
    const char *old = shape;
    shape = plan_shape;
    int64_t before = mem_used(), per = rows / segs;
    struct net n = open_net(more, MODEL_TRAIN, rows, segs);
    struct model_segment *seg = xcalloc((size_t)segs, sizeof *seg);
    int32_t *token = xcalloc((size_t)rows, sizeof *token);
    float *hidden = mem_take((size_t)(rows * 128) * sizeof *hidden, "hidden");
    unsigned char *state = states(n.model, 1);
    int64_t ours = (rows * 128) * 4 + model_state_bytes(n.model);
    double loss = 0;
    for (int64_t s = 0; s < segs; s++)
        seg[s] = (struct model_segment){ .tokens = token + s * per, .rows = per, .stream = (uint64_t)s,
                                         .fresh = true };
    cr_assert_eq(model_train(n.model, seg, segs, token, 1, &loss), CHI_OK, "%s", fail_text());
    struct model_segment one = { .tokens = token, .rows = per, .fresh = true, .state = state };
    cr_assert_eq(model_forward(n.model, &one, 1, hidden), CHI_OK, "%s", fail_text());
    struct model_counts c;
    model_count(n.model, &c);
    const struct chi_optimizer_ops *o = n.spec->optimizer.component->ops;
    double taken = (double)(mem_used() - before - ours) + (double)o->moments * 4 * (double)model_param_floats(n.model);
    cr_expect_lt(fabs((double)c.train_bytes / taken - 1), 0.15, "%s: planned %lld, taken %.0f", more,
                 (long long)c.train_bytes, taken);
    mem_free(hidden);
    mem_free(state);
    free(seg);
    free(token);
    close_net(n);
    shape = old;
}

Test(model, the_plan_is_what_training_takes)       { check_plan("", 2048, 8); }
Test(model, the_plan_of_recomputation)             { check_plan("[train]\nrecompute = block\n", 2048, 8); }
Test(model, the_plan_of_a_loop)                    { check_plan("[loop]\nuse = parcae\nloop = 0-1\nloop_default = 3\n", 2048, 8); }
Test(model, the_plan_of_recomputation_in_a_loop)
{
    check_plan("[loop]\nuse = parcae\nprelude = 0\nloop = 1\nloop_default = 4\n[train]\nrecompute = block\n", 2048,
               8);
}
Test(model, the_plan_of_a_head_of_its_own)
{
    use_head("3");
    check_plan("", 2048, 8);
}
Test(model, the_plan_of_a_small_call)              { check_plan("", 64, 1); }
Test(model, the_plan_of_quantised_weights)         { check_plan("[linear]\nquantizer = ternary\n", 1024, 16); }

Test(model, the_plan_counts_sums_of_micro_batches)
{
    int64_t bytes[2], floats = 0;
    for (int k = 0; k < 2; k++) {
        struct net n = open_net(k ? "[train]\nbatch_size = 8\nmicro_batch = 2\n" : "", MODEL_TRAIN, 64, 1);
        struct model_counts c;
        model_count(n.model, &c);
        bytes[k] = c.train_bytes;
        floats = model_param_floats(n.model);
        close_net(n);
    }
    cr_assert_eq(bytes[1] - bytes[0], 3 * 4 * floats, "4 micro-batches: sums of 1, 2 and 4");
}

/* Threads are called together once a pass, not once a loop of it                                     */
Test(model, a_pass_holds_its_threads)
{
    struct net n = open_net("[run]\nthreads = 3\n", MODEL_TRAIN, TRAIN_ROWS, 3);
    if (pool_size() == 1) cr_skip_test("this program has one thread");
    int32_t token[TRAIN_ROWS], target[TRAIN_ROWS];
    float *hidden = mem_take(TRAIN_ROWS * 48 * sizeof *hidden, "hidden");
    train_case(token, target);
    int64_t before = pool_regions();
    loss_of(n, token, target);
    cr_assert_eq(pool_regions() - before, 1, "a step opened %ld regions", (long)(pool_regions() - before));
    close_net(n);
    n = open_net("[run]\nthreads = 3\n", MODEL_INFER, TRAIN_ROWS, 3);
    forward_all(n, token, TRAIN_ROWS, hidden);
    before = pool_regions();
    forward_all(n, token, TRAIN_ROWS, hidden);
    cr_assert_eq(pool_regions() - before, 1, "a pass opened %ld regions", (long)(pool_regions() - before));
    mem_free(hidden);
    close_net(n);
}

/* ---- inference ------------------------------------------------------------------------------- */

/* Logits of STREAMS streams of ROWS/STREAMS tokens each, cut into calls of some rows; together: the
 * streams share the calls.                                                                          */
static uint64_t logits_hash(const char *more, int64_t step, bool together, int threads)
{
    enum { LEN = ROWS / STREAMS };
    char *text = xprintf("%s\n[run]\nthreads = %d\n", more, threads);
    struct net n = open_net(text, MODEL_INFER, ROWS, STREAMS);
    int32_t token[ROWS];
    int64_t d = 48, bytes = model_state_bytes(n.model);
    unsigned char *state = states(n.model, STREAMS);
    float *hidden = mem_take(ROWS * 48 * sizeof *hidden, "hidden"),
        *logits = mem_take(ROWS * VOCAB * sizeof *logits, "logits");
    fill_tokens(token, ROWS, 3);
    for (int group = 0; group < (together ? 1 : STREAMS); group++)
        for (int64_t at = 0; at < LEN; at += step) {
            struct model_segment seg[STREAMS];
            int64_t rows = min_i64(step, LEN - at);
            int count = together ? STREAMS : 1;
            for (int s = 0; s < count; s++) {
                int who = together ? s : group;
                seg[s] = (struct model_segment){ .tokens = token + who * LEN + at, .rows = rows, .pos = at,
                                                 .stream = (uint64_t)who, .fresh = at == 0,
                                                 .state = state + who * bytes };
            }
            chi_status st = model_forward(n.model, seg, count, hidden);
            cr_assert_eq(st, CHI_OK, "%s", fail_text());
            for (int s = 0; s < count; s++) {
                int who = together ? s : group;
                st = model_logits(n.model, hidden + s * rows * d, rows, logits + (who * LEN + at) * VOCAB);
                cr_assert_eq(st, CHI_OK, "%s", fail_text());
            }
        }
    uint64_t h = xxh3(logits, ROWS * VOCAB * sizeof *logits) ^ xxh3(state, (size_t)(STREAMS * bytes));
    for (int64_t i = 0; i < ROWS * VOCAB; i++) cr_assert(isfinite(logits[i]));
    mem_free(state);
    mem_free(hidden);
    mem_free(logits);
    close_net(n);
    free(text);
    return h;
}

static const char *const kinds[] = {
    "", "[linear]\nquantizer = ternary\n",
        "[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n[linear.embed]\nquantizer = int8\n",
    "[linear]\nquantizer = int8\n[linear.embed]\nquantizer = bf16\n",
    "[linear]\nquantizer = bf16\n[linear.embed]\nquantizer = ternary\n",
    "[linear]\nquantizer = ternary\ngroup_size = 64\n",  /* two groups in down_proj, and no kernel for one of 128 */
};

Test(model, any_cut_and_any_batch_give_the_same_logits)
{
    uint64_t seen[COUNT(kinds)];
    for (int k = 0; k < COUNT(kinds); k++) {
        uint64_t whole = logits_hash(kinds[k], ROWS, true, 2);
        cr_expect_eq(logits_hash(kinds[k], 1, true, 2), whole, "token by token, %s", kinds[k]);
        cr_expect_eq(logits_hash(kinds[k], 7, true, 2), whole, "7 at a time, %s", kinds[k]);
        cr_expect_eq(logits_hash(kinds[k], 1, false, 2), whole, "one stream at a time, %s", kinds[k]);
        cr_expect_eq(logits_hash(kinds[k], 13, false, 2), whole, "one stream in cuts of 13, %s", kinds[k]);
        cr_expect_eq(logits_hash(kinds[k], 7, true, 1), whole, "one thread, %s", kinds[k]);
        cr_expect_eq(logits_hash(kinds[k], 7, true, 3), whole, "three threads, %s", kinds[k]);
        for (int o = 0; o < k; o++) cr_expect_neq(seen[o], whole);
        seen[k] = whole;
    }
}

/* Neither the head's weights nor the cap are idle, and neither knows how a stream is cut              */
Test(model, a_head_of_its_own_gives_the_same_logits_in_any_cut)
{
    uint64_t tied = logits_hash("", ROWS, true, 2);
    use_head("0");
    uint64_t own = logits_hash("", ROWS, true, 2);
    use_head("0.5");
    uint64_t capped = logits_hash("", ROWS, true, 2);
    cr_expect(tied != own && own != capped);
    cr_expect_eq(logits_hash("", 7, false, 3), capped);
    cr_expect_neq(logits_hash("[linear.lm_head]\nquantizer = int8\n", ROWS, true, 2), capped);
    struct net n = open_net("", MODEL_TRAIN, ROWS, 1);
    const struct model_tensor *t;
    bool there = false;
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++)
        if (!strcmp(t->name, "lm_head.weight")) there = t->shape[0] == VOCAB && !t->decay;
    cr_expect(there, "lm_head.weight is not there, of another shape, or decays");
    close_net(n);
}

Test(model, a_learned_start_survives_any_cut)
{
    use_memory();
    for (int k = 0; k < 2; k++) {
        uint64_t whole = logits_hash(kinds[k], ROWS, true, 2);
        for (int64_t step = 1; step < 20; step += 5)
            cr_expect_eq(logits_hash(kinds[k], step, step % 2, 2), whole, "%d at a time, %s", (int)step, kinds[k]);
    }
}

Test(model, backends_give_the_same_logits)
{
    for (int k = 0; k < COUNT(kinds); k++) {
        char *portable = xprintf("%s[backend]\nuse = portable\n", kinds[k]);
        cr_expect_eq(logits_hash(portable, 7, true, 2), logits_hash(kinds[k], 7, true, 2), "%s", kinds[k]);
        free(portable);
    }
}
