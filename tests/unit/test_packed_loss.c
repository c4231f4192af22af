/* test_packed_loss.c - the loss that a training run measures is that of its packed weights: the same bits
 * from a model that has nothing but the bytes of encodings.  Where no layer sums in another order while
 * it trains (a chunked form, a float gate), they are the bits of training's own forward pass, too.  */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "hosting.h"
#include "network.h"
#include "pool.h"
#include "rng.h"

enum { ROWS = 60, VOCAB = 41, D = 48 };

static const char *shape =
    "[model]\nhidden_size = 48\nnum_hidden_layers = 2\nvocab_size = 41\ninitializer_range = 0.2\n"
    "layer_pattern = GD\nffn_pattern = MLP\n"
    "[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 16\n"
    "[layer.MLP]\nuse = swiglu\nintermediate_size = 80\n";
static const char *const linears_only =
    "[model]\nhidden_size = 48\nnum_hidden_layers = 2\nvocab_size = 41\ninitializer_range = 0.2\n"
    "layer_pattern = MLP\nffn_pattern = MLP\n[layer.MLP]\nuse = swiglu\nintermediate_size = 80\n";

struct net { struct spec *spec; struct model *model; };

static struct net open_net(const char *more, int mode)
{
    struct net n;
    struct config *c;
    char *text = xprintf("%s%s", shape, more);
    cr_assert_eq(config_load_text(&c, "test", text, NULL, 0), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&n.spec, c, SPEC_MODEL | SPEC_TRAIN), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&n.model, n.spec, mode, ROWS, 3), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(n.model, mode == MODEL_TRAIN ? 7 : 8), CHI_OK, "%s", fail_text());
    free(text);
    return n;
}

static void close_net(struct net n)
{
    model_close(n.model);
    spec_close(n.spec);
}

static void fill_tokens(int32_t *t, uint64_t seed)
{
    for (int64_t i = 0; i < ROWS; i++) {
        uint32_t w[4];
        rng_words(w, seed, RNG_BENCH, 0, 0, (uint64_t)i);
        t[i] = (int32_t)(w[0] % VOCAB);
    }
}

static double training_loss(struct net n)
{
    int32_t token[ROWS], target[ROWS];
    double loss = 0;
    fill_tokens(token, 1);
    fill_tokens(target, 2);
    struct model_segment s = { .tokens = token, .rows = ROWS, .fresh = true };
    model_zero_grads(n.model);
    cr_assert_eq(model_train(n.model, &s, 1, target, 1.0, &loss), CHI_OK, "%s", fail_text());
    return loss;
}

/* What evaluation does: forward of inference, logits, loss                                       */
static double measured_loss(struct net n)
{
    static float hidden[ROWS * D], logits[ROWS * VOCAB];
    const struct chi_objective_ops *ops = n.spec->objective.component->ops;
    int32_t token[ROWS], target[ROWS];
    double loss = 0;
    fill_tokens(token, 1);
    fill_tokens(target, 2);
    unsigned char *state = mem_take((size_t)model_state_bytes(n.model) + 64, "state");
    struct chi_host *h = host_open(n.spec, "objective");
    struct model_segment s = { .tokens = token, .rows = ROWS, .fresh = true, .state = state };
    cr_assert_eq(model_forward(n.model, &s, 1, hidden), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_logits(n.model, hidden, ROWS, logits), CHI_OK, "%s", fail_text());
    cr_assert_eq(ops->loss(h, n.spec->objective.conf, logits, target, ROWS, VOCAB, 1, NULL, &loss), CHI_OK);
    host_close(h);
    mem_free(state);
    return loss;
}

/* A few steps of plain descent; the last binding is that of a run's end, or of its middle          */
static void train(struct net n, double lambda, double progress)
{
    const struct model_tensor *t;
    for (int step = 0; step <= 4; step++) {
        model_progress(n.model, step < 4 ? 0.2 * step : progress);
        cr_assert_eq(model_bind(n.model, step < 4 ? 0.25 * (step + 1) : lambda), CHI_OK, "%s", fail_text());
        if (step == 4) break;
        training_loss(n);
        for (int64_t i = 0; (t = model_tensor(n.model, i)); i++)
            for (int64_t j = 0; j < t->n; j++) t->w[j] -= 1e-3f * t->g[j];
    }
}

/* to has other weights; it takes the bytes of encodings, and the tensors that are never encoded     */
static void hand_over(struct net from, struct net to)
{
    for (int64_t i = 0; i < from.model->n_all; i++) {
        struct instance *a = from.model->all[i], *b = to.model->all[i];
        for (int64_t j = 0; j < a->n_param; j++) {
            struct chi_linear *x = a->param[j].linear, *y = b->param[j].linear;
            if (!b->param[j].absent) {
                memcpy(b->params + b->param[j].offset, a->params + a->param[j].offset,
                       (size_t)a->param[j].n * sizeof(float));
                continue;
            }
            cr_assert_null(y->w, "a model that is only used has no master of %s", y->name);
            cr_assert_eq(x->n_bytes, y->n_bytes);
            memcpy(y->bytes, x->bytes, (size_t)x->n_bytes);
            struct chi_matrix m = { y->bytes, y->d_out, y->d_in, y->group };
            if (y->packed) y->kernel->pack(y->packed, &m);
        }
    }
}

static const char *const kinds[] = {
    "[linear]\nquantizer = ternary\n[linear.embed]\nquantizer = ternary\n",
    "[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n[linear.embed]\nquantizer = int8\n",
    "[linear]\nquantizer = sherry\n[linear.embed]\nquantizer = sherry\n",
    "[linear]\nquantizer = sherry\nextra_rmsnorm = yes\narenas = 1\n[linear.embed]\nquantizer = int8\n",
    "[linear]\nquantizer = sherry\nextra_rmsnorm = yes\nadapter = hgf\n[linear.embed]\nquantizer = int8\n",
};

static void check_end(bool same_in_training)
{
    for (int k = 0; k < COUNT(kinds); k++) {
        struct net a = open_net(kinds[k], MODEL_TRAIN), b = open_net(kinds[k], MODEL_INFER);
        train(a, 1, 1);
        hand_over(a, b);
        double first = 0;
        for (int threads = 1; threads <= 2; threads++) {
            pool_threads(threads);
            double measured = measured_loss(a), packed = measured_loss(b);
            double trained = same_in_training ? training_loss(a) : measured;
            if (threads == 1) first = measured;
            cr_expect_eq(measured, first, "%s", kinds[k]);
            cr_expect_eq(packed, measured, "%s: %.17g from the bytes, %.17g measured", kinds[k], packed, measured);
            cr_expect_eq(trained, measured, "%s: %.17g in training, %.17g measured", kinds[k], trained, measured);
        }
        close_net(b);
        close_net(a);
    }
}

Test(packed_loss, is_what_training_measures)
{
    check_end(false);
}

Test(packed_loss, is_what_training_computes)
{
    shape = linears_only;
    check_end(true);
}

/* On the way there evaluation sees the packed weights, training its blend                          */
Test(packed_loss, in_the_middle_of_a_ramp)
{
    shape = linears_only;
    for (int k = 0; k < COUNT(kinds); k++) {
        struct net a = open_net(kinds[k], MODEL_TRAIN), b = open_net(kinds[k], MODEL_INFER);
        bool sherry = strstr(kinds[k], "sherry");
        train(a, sherry ? 1 : 0.5, 0.5);
        hand_over(a, b);
        cr_expect_eq(measured_loss(a), measured_loss(b), "%s", kinds[k]);
        cr_expect_neq(training_loss(a), measured_loss(b), "%s", kinds[k]);
        close_net(b);
        close_net(a);
    }
}
