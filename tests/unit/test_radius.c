/* test_radius.c - the loop stays a contraction whatever the optimizer does: after real steps with
 * rates of learning that throw its parameters about, |Abar| < 1 in every channel.
 *
 * Abar is read off the component itself: what inject() makes of h = 1 where e = 0.            */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "network.h"
#include "pool.h"
#include "trainer.h"

enum { D = 16, SEQ = 12, STEPS = 25 };

static const char shape[] =
    "[model]\nhidden_size = 16\nnum_hidden_layers = 3\nvocab_size = 13\nlayer_pattern = CC\nffn_pattern = MLP\n"
    "[layer.CC]\nuse = causal_conv\n[layer.MLP]\nuse = swiglu\nintermediate_size = 24\n"
    "[loop]\nuse = parcae\nprelude = 0\nloop = 1\ncoda = 2\n"
    "[train]\nbatch_size = 2\nseq_len = 12\nsteps = 25\nwarmup_steps = 0\nschedule = constant\ngrad_clip = 0\n"
    "[optimizer]\nweight_decay = 0\n";

static void must(chi_status e)
{
    cr_assert_eq(e, CHI_OK, "%s", fail_text());
}

static void abar_of(struct model *m, float *abar)
{
    float zero[D] = { 0 }, one[D];
    struct instance *in = &m->loop.in;
    struct chi_segment seg = { .rows = 1 };
    struct call c = { .seg = &seg, .n = 1, .rows = 1 };
    struct chi_scratch scratch;
    for (int i = 0; i < D; i++) one[i] = 1;
    must(instance_arrays(in, &seg, 1, 1, KEPT_NOT, &m->loop.ws));
    struct chi_run r = run_of(m, in, &scratch, &c);
    must(in->loop->inject(in->self, &r, zero, one, abar));
}

static struct batch make_batch(void)
{
    struct batch b = { .n_seq = 2, .seq_len = SEQ, .n_seg = 2, .scored = 2 * SEQ, .bytes = 2 * SEQ };
    b.token = xcalloc(2 * SEQ, sizeof *b.token);
    b.target = xcalloc(2 * SEQ, sizeof *b.target);
    b.first_seg = xcalloc(3, sizeof *b.first_seg);
    b.seg = xcalloc(2, sizeof *b.seg);
    for (int i = 0; i < 2 * SEQ; i++) b.token[i] = i * i % 13, b.target[i] = (i + 1) * (i + 1) % 13;
    for (int i = 0; i < 2; i++) {
        b.seg[i] = (struct model_segment){ .tokens = b.token + i * SEQ, .rows = SEQ, .stream = (uint64_t)i,
                                           .fresh = true };
        b.first_seg[i + 1] = i + 1;
    }
    return b;
}

static float farthest(const struct model *m, const char *name, float from)
{
    const struct model_tensor *t;
    float far = 0;
    for (int64_t i = 0; (t = model_tensor(m, i)); i++)
        for (int64_t j = 0; !strcmp(t->name, name) && j < t->n; j++) far = fmaxf(far, fabsf(t->w[j] - from));
    return far;
}

static void train_and_look(const char *lr, const char *zoh, float at_least)
{
    struct train_request none = { 0 };
    struct trainer t = { .request = &none };
    struct batch batch = make_batch();
    struct config *c;
    char *rate = xprintf("train.lr=%s", lr), *hold = xprintf("loop.zoh=%s", zoh), *const set[] = { rate, hold };
    must(config_load_text(&c, "test", shape, set, COUNT(set)));
    must(spec_open(&t.spec, c, SPEC_MODEL | SPEC_TRAIN));
    must(trainer_open_model(&t, 2));
    must(model_init(t.model, 3));
    for (t.step = 0; t.step < STEPS; t.step++) {
        float abar[D];
        struct step_result r = { 0 };
        must(train_on(&t, &batch, &r));
        cr_assert(r.finite, "lr %s: step %lld is not finite", lr, (long long)t.step);
        must(train_update(&t, &r));
        abar_of(t.model, abar);
        for (int i = 0; i < D; i++)
            cr_assert(abar[i] >= 0 && abar[i] < 1, "lr %s, step %lld: Abar[%d] is %.9g", lr, (long long)t.step, i,
                      abar[i]);
    }
    cr_expect_gt(farthest(t.model, "loop.A_log", 0), at_least, "A_log hardly moved");
    cr_expect_gt(farthest(t.model, "loop.dt_bias", 0), at_least, "dt_bias hardly moved");
    trainer_close_work(&t);
    batch_free(&batch);
    free(rate), free(hold);
}

Test(radius, stays_below_one)
{
    pool_threads(1);
    train_and_look("1e-2", "exact", 0.05f);
    train_and_look("1", "exact", 5);
    train_and_look("30", "exact", 100);
    train_and_look("30", "euler", 100);
}
