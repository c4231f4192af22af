/* test_moe_balance.c - the bias of a mixture of experts moves in settle() alone, by the load of a whole step, and
 * evens it out.                                                                    */
#include "core.h"
#include "model.h"
#include "network.h"
#include "tally.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void must(chi_status e)
{
    cr_assert_eq(e, CHI_OK, "%s", fail_text());
}

static struct spec *open_spec(const char *text, int needs)
{
    struct config *c;
    struct spec *s;
    must(config_load_text(&c, "test", text, NULL, 0));
    must(spec_open(&s, c, needs));
    return s;
}

enum { BATCH = 256, VOCAB = 977 };
static const char *const small_text =
    "[model]\nhidden_size = 16\nnum_hidden_layers = 2\nvocab_size = 977\ninitializer_range = 0.3\n"
    "layer_pattern = GD\nffn_pattern = MLP MOE\n"
    "[layer.GD]\nuse = gated_deltanet\nnum_heads = 1\nhead_dim = 8\n[layer.MLP]\nuse = swiglu\nintermediate_size = 8\n"
    "[layer.MOE]\nuse = moe\nn_routed_experts = %d\nmoe_intermediate_size = 8\nbias_update = 0.01\n%s";

struct net { struct spec *spec; struct model *model; const struct model_tensor *bias; };

static struct net open_experts(int experts, const char *more)
{
    struct net n = { 0 };
    const struct model_tensor *t;
    char *text = xprintf(small_text, experts, more);
    n.spec = open_spec(text, SPEC_MODEL | SPEC_TRAIN);
    must(model_open(&n.model, n.spec, MODEL_TRAIN, BATCH, 4));
    must(model_init(n.model, 5));
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++)
        if (t->manual) n.bias = t;
    cr_assert(n.bias && !strcmp(n.bias->name, "layers.1.ffn.gate.e_score_correction_bias"));
    free(text);
    return n;
}

static struct net open_net(const char *more)
{
    return open_experts(4, more);
}

static void close_net(struct net n)
{
    model_close(n.model);
    spec_close(n.spec);
}

/* Adds to the gradients                                                                         */
static void train_rows(struct net n, int64_t from, int64_t rows)
{
    int32_t token[BATCH];
    double loss = 0;
    for (int64_t i = 0; i < rows; i++) token[i] = (int32_t)((from + i) * 613 % VOCAB);
    struct model_segment seg = { .tokens = token, .rows = rows, .fresh = true };
    must(model_train(n.model, &seg, 1, token, 1.0 / (double)rows, &loss));
}

static bool meter(const struct net n, double *value)
{
    const char *name;
    for (int64_t i = 0; model_meter(n.model, i, &name, value); i++)
        if (!strcmp(name, "moe_expert_load_balance")) return true;
    return false;
}

Test(moe_balance, the_bias_moves_in_settle_alone_by_the_sign_of_the_load)
{
    struct net n = open_net("");
    static const float zero[4];
    double value;
    model_zero_grads(n.model);
    train_rows(n, 0, BATCH);
    cr_assert_eq(memcmp(n.bias->w, zero, sizeof zero), 0, "the bias moved before settle()");
    cr_assert(!meter(n, &value));
    double sum = 0, most = 0;
    for (int e = 0; e < 4; e++) sum += (double)n.bias->g[e], most = fmax(most, (double)n.bias->g[e]);
    cr_assert_eq(sum, 2 * BATCH);
    model_settle(n.model);
    for (int e = 0; e < 4; e++) {
        double load = (double)n.bias->g[e], mean = sum / 4;
        cr_assert_eq(n.bias->w[e], load < mean ? 0.01f : load > mean ? -0.01f : 0, "expert %d of load %g", e, load);
    }
    cr_assert(meter(n, &value));
    cr_assert_eq(value, most / (sum / 4) - 1);
    close_net(n);
}

Test(moe_balance, settle_by_hand)
{
    static const struct { float load[4], move[4]; double max_vio; bool meter; } c[] = {
        { { 0, 0, 0, 0 }, { 0, 0, 0, 0 }, 0, false },
        { { 3, 1, 0, 4 }, { -1, 1, 1, -1 }, 1, true },
        { { 2, 2, 2, 2 }, { 0, 0, 0, 0 }, 0, true },
        { { 8, 0, 0, 0 }, { -1, 1, 1, 1 }, 3, true },
        { { 5, 4, 4, 3 }, { -1, 0, 0, 1 }, 0.25, true },
    };
    struct net n = open_net("");
    for (int64_t i = 0; i < COUNT(c); i++) {
        double value = 0;
        for (int e = 0; e < 4; e++) n.bias->w[e] = 0.5f, n.bias->g[e] = c[i].load[e];
        model_settle(n.model);
        for (int e = 0; e < 4; e++)
            cr_assert_eq(n.bias->w[e], 0.5f + 0.01f * c[i].move[e], "case %d, expert %d: %g", (int)i, e,
                         (double)n.bias->w[e]);
        cr_assert_eq(meter(n, &value), c[i].meter);
        if (c[i].meter) cr_assert_eq(value, c[i].max_vio, "case %d: MaxVio %g", (int)i, value);
    }
    close_net(n);
}

/* 16 experts: their biases end where the next parameter begins                                 */
Test(moe_balance, settle_touches_nothing_else)
{
    struct net n = open_experts(16, "");
    const struct model_tensor *t, *next = NULL;
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++)
        if (t->w == n.bias->w + n.bias->n) next = t;
    cr_assert(next && next->g == n.bias->g + n.bias->n, "something lies between the bias and the next parameter");
    for (int64_t e = 0; e < n.bias->n; e++) n.bias->g[e] = 2, n.bias->w[e] = 0;
    float before = next->w[0];
    next->g[0] = 1e6f;
    model_settle(n.model);
    cr_expect_eq(next->w[0], before);
    for (int64_t e = 0; e < n.bias->n; e++) cr_expect_eq(n.bias->w[e], 0, "its load counted as an expert's");
    close_net(n);
}

/* Micro-batches collect; computing blocks again in the backward pass counts no row twice       */
Test(moe_balance, the_load_is_that_of_the_whole_step)
{
    struct net n = open_net(""), again = open_net("[train]\nrecompute = block\n");
    float first[4], second[4];
    model_zero_grads(n.model);
    train_rows(n, 0, 100);
    memcpy(first, n.bias->g, sizeof first);
    model_zero_grads(n.model);
    train_rows(n, 100, 156);
    memcpy(second, n.bias->g, sizeof second);
    train_rows(n, 0, 100);
    for (int e = 0; e < 4; e++) cr_assert_eq(n.bias->g[e], first[e] + second[e]);
    cr_assert_neq(memcmp(first, second, sizeof first), 0);
    model_zero_grads(again.model);
    train_rows(again, 0, 100);
    for (int e = 0; e < 4; e++) cr_assert_eq(again.bias->g[e], first[e], "recomputed: %g", (double)again.bias->g[e]);
    close_net(n);
    close_net(again);
}

/* Reads rows as an evaluation does                                                             */
static void read_rows(struct net n, int64_t from, int64_t rows)
{
    int32_t token[BATCH];
    float *hidden = xcalloc((size_t)rows * 16, sizeof *hidden);
    unsigned char *state = xcalloc((size_t)model_state_bytes(n.model), 1);
    for (int64_t i = 0; i < rows; i++) token[i] = (int32_t)((from + i) * 613 % VOCAB);
    struct model_segment seg = { .tokens = token, .rows = rows, .fresh = true, .state = state };
    must(model_forward(n.model, &seg, 1, hidden));
    free(hidden);
    free(state);
}

static double global_load(void)
{
    const char *name;
    double value;
    cr_assert(tally_value(0, &name, &value));
    cr_assert_str_eq(name, "moe_global_load_balance");
    const char *other;
    double more;
    cr_assert(!tally_value(1, &other, &more), "a second tally: %s", other);
    return value;
}

static double max_vio(const float *load)
{
    double sum = 0, most = 0;
    for (int e = 0; e < 4; e++) sum += (double)load[e], most = fmax(most, (double)load[e]);
    return most / (sum / 4) - 1;
}

/* What a backward pass would count, over all calls of a measurement and none beside it           */
Test(moe_balance, the_global_load_is_that_of_the_whole_measurement)
{
    struct net n = open_net("");
    const char *name;
    double value;
    float first[4];
    model_zero_grads(n.model);
    train_rows(n, 0, 40);
    memcpy(first, n.bias->g, sizeof first);
    train_rows(n, 40, 156);
    read_rows(n, 0, 40);
    cr_assert(!tally_value(0, &name, &value), "counted before the measurement began");
    tally_begin();
    read_rows(n, 0, 40);
    cr_assert_eq(global_load(), max_vio(first));
    read_rows(n, 40, 156);
    train_rows(n, 300, 50);                         /* training does not count              */
    tally_end();
    read_rows(n, 500, 30);
    model_zero_grads(n.model);
    train_rows(n, 0, 40);
    train_rows(n, 40, 156);
    cr_assert_eq(global_load(), max_vio(n.bias->g));
    cr_assert_neq(max_vio(first), max_vio(n.bias->g));
    tally_begin();
    tally_end();
    cr_assert(!tally_value(0, &name, &value), "a new measurement began with old counts");
    close_net(n);
}

/* A gate that prefers two of four experts; nothing but the bias is trained                       */
Test(moe_balance, a_skewed_gate_is_balanced)
{
    struct net n = open_net("");
    const struct model_tensor *t;
    double first = 0, sum = 0, value;
    for (int64_t i = 0; (t = model_tensor(n.model, i)); i++)
        for (int64_t j = 0; strstr(t->name, "ffn.gate.weight") && j < t->n; j++)
            t->w[j] = (j / 16 < 2 ? 1.5f : 0.7f) * t->w[j];
    n.bias->w[0] = n.bias->w[1] = 0.4f;                             /* the skew                    */
    enum { STEPS = 120, LAST = 40 };
    for (int s = 0; s < STEPS; s++) {
        model_zero_grads(n.model);
        train_rows(n, 97 * s, BATCH);
        model_settle(n.model);
        cr_assert(meter(n, &value));
        if (!s) first = value;
        if (s >= STEPS - LAST) sum += value / LAST;
    }
    close_net(n);
    cr_assert(first > 0.5 && sum < 0.1, "MaxVio %g at first, %g at last", first, sum);
}
