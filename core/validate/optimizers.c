/* optimizers.c - checks of optimizers: a step is a function of its inputs, goes downhill, and respects
 * clip, decay and the layout of its moments.                                                   */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <chimera/train.h>

#include "core.h"
#include "kinds.h"
#include "pool.h"

enum { CASES = 3, SLICES = 3, GAP = 5 };
static const int64_t lengths[SLICES] = { 1, 37, 20000 };

/* Parameters with gradients and moments, in guarded blocks                                       */
struct bench {
    struct trial *t;
    const struct chi_optimizer_ops *ops;
    struct bench_part *b;
    struct pile pile;
    struct chi_slice slice[SLICES];
    float *g[SLICES];
    int64_t step;
    double lr, clip;
    chi_status s;
};

static const float gap_mark = 12345.0f;

/* Moments lie stride = n + gap apart; what lies between is marked                                */
static void fill(struct bench *b, struct trial *t, struct bench_part *part, int64_t gap)
{
    static const char *const names[SLICES] = { "scale", "norm.weight", "q_proj.weight" };
    uint64_t kept = t->draw;
    *b = (struct bench){ .t = t, .ops = t->component->ops, .b = part, .step = 1, .lr = 0.01, .clip = 1 };
    t->draw = t->seed + 3;
    for (int i = 0; i < SLICES; i++) {
        int64_t n = lengths[i], stride = n + gap, values = max_i64(0, b->ops->moments - 1) * stride + n;
        float *w = pile_take(&b->pile, n * 4, 4, true, "w"), *m = pile_take(&b->pile, values * 4, 4, true, "m");
        b->g[i] = pile_take(&b->pile, n * 4, 4, true, "g");
        draw_floats(t, w, n, 0);
        draw_floats(t, b->g[i], n, 0);
        for (int64_t k = 0; k < values; k++) m[k] = k % stride < n ? 0 : gap_mark;
        b->slice[i] = (struct chi_slice){ .name = names[i], .w = w, .g = b->g[i], .m = m, .n = n, .stride = stride };
    }
    t->draw = kept;
}

static void run(void *arg)
{
    struct bench *b = arg;
    b->s = b->ops->update(b->b->host, b->b->conf, b->slice, SLICES, b->step, b->lr, b->clip);
}

static bool update(struct bench *b)
{
    for (int i = 0; i < SLICES; i++) guard_read_only(b->g[i], true);
    bool ok = call_guarded(b->t, "update", b->b->options, run, b);
    for (int i = 0; i < SLICES; i++) guard_read_only(b->g[i], false);
    if (ok && b->s != CHI_OK) {
        trial_fail(b->t, "update with %s: %s", b->b->options, fail_text());
        return false;
    }
    b->step++;
    return ok;
}

/* Weights and moments of two benches, whatever their strides                                      */
static bool agree(struct bench *a, const struct bench *b, const char *how)
{
    for (int i = 0; i < SLICES; i++) {
        bool same = same_floats(a->slice[i].w, b->slice[i].w, lengths[i]);
        for (int k = 0; same && k < a->ops->moments; k++)
            same = same_floats(a->slice[i].m + k * a->slice[i].stride, b->slice[i].m + k * b->slice[i].stride,
                               lengths[i]);
        if (same) continue;
        trial_fail(a->t, "weights or moments of a slice of %lld differ %s (%s)", (long long)lengths[i], how,
                   a->b->options);
        return false;
    }
    return true;
}

static void each_case(struct trial *t, const char *fixed, void (*check)(struct trial *, struct bench_part *))
{
    for (int64_t i = 0; i < CASES && t->outcome < TRIAL_FAILED; i++) {
        struct bench_part b;
        if (!part_bench_open(&b, t, i, fixed)) return;
        pool_threads(1);
        check(t, &b);
        part_bench_close(&b);
    }
}

/* ---- checks ------------------------------------------------------------------------------------ */

/* Three steps in two ways                                                                           */
static void two_ways(struct trial *t, struct bench_part *part, int64_t gap, int workers, const char *how)
{
    struct bench a, b;
    fill(&a, t, part, GAP);
    fill(&b, t, part, gap);
    bool ok = true;
    for (int k = 0; k < 3 && ok; k++) {
        pool_threads(1);
        ok = update(&a);
        pool_threads(workers);
        ok = ok && update(&b) && agree(&a, &b, how);
    }
    pool_threads(1);
    for (int i = 0; i < SLICES && ok; i++)
        for (int64_t k = 0; k < (a.ops->moments - 1) * a.slice[i].stride; k++)
            if (k % a.slice[i].stride >= lengths[i] && a.slice[i].m[k] != gap_mark) {
                trial_fail(t, "update writes between the moments of a slice: moment k of value i is m[k * stride + i]");
                ok = false;
                break;
            }
    pile_drop(&a.pile);
    pile_drop(&b.pile);
}

static void repeat(struct trial *t, struct bench_part *p)
{
    two_ways(t, p, GAP, 1, "when the same steps are done again");
}

static void stride(struct trial *t, struct bench_part *p)
{
    two_ways(t, p, 0, 1, "with another stride of the moments");
}

static void threads(struct trial *t, struct bench_part *p)
{
    two_ways(t, p, GAP, 2, "with 2 threads");
    two_ways(t, p, GAP, 3, "with 3 threads");
    two_ways(t, p, GAP, 8, "with 8 threads");
}

/* A weight with a gradient moves                                                                       */
static void every(struct trial *t, struct bench_part *part)
{
    struct bench b, before;
    fill(&b, t, part, GAP);
    fill(&before, t, part, GAP);
    bool ok = update(&b) && update(&b) && update(&b);
    for (int i = 0; i < SLICES && ok; i++) {
        int64_t still = 0, last = 0;
        for (int64_t j = 0; j < lengths[i]; j++)
            if (b.g[i][j] != 0 && b.slice[i].w[j] == before.slice[i].w[j]) still++, last = j;
        if (still)
            trial_warn(t, "%lld of %lld weights of a slice stay where they are in 3 steps with a gradient, such as "
                       "number %lld: "
                       "are all of them visited? (%s)", (long long)still, (long long)lengths[i], (long long)last,
                       part->options);
    }
    pile_drop(&b.pile);
    pile_drop(&before.pile);
}

/* clip = 1/4 on gradients g is clip = 1 on g/4: powers of two change no bit                           */
static void clip(struct trial *t, struct bench_part *part)
{
    struct bench a, b;
    fill(&a, t, part, GAP);
    fill(&b, t, part, GAP);
    a.clip = 0.25;
    bool ok = true;
    for (int k = 0; k < 3 && ok; k++) {
        for (int i = 0; i < SLICES; i++)            /* another size each step: Adam sees ratios only */
            for (int64_t j = 0; j < lengths[i]; j++) {
                float g = (float)(k + 1) * (a.g[i][j] + 0.1f * (float)k);
                a.g[i][j] = g;
                b.g[i][j] = 0.25f * g;
            }
        a.clip = k == 1 ? 0.25 : 1;
        for (int i = 0; i < SLICES && a.clip == 1; i++) memcpy(b.g[i], a.g[i], (size_t)lengths[i] * sizeof *b.g[i]);
        ok = update(&a) && update(&b) && agree(&a, &b, "between clip = 0.25 and gradients of a quarter");
    }
    pile_drop(&a.pile);
    pile_drop(&b.pile);
}

/* Without gradients a slice that does not ask for decay stays, and one that asks does not grow          */
static void decay(struct trial *t, struct bench_part *part)
{
    struct bench a, before;
    fill(&a, t, part, GAP);
    fill(&before, t, part, GAP);
    a.slice[2].decay = true;
    for (int i = 0; i < SLICES; i++) memset(a.g[i], 0, (size_t)lengths[i] * sizeof *a.g[i]);
    bool ok = update(&a) && update(&a);
    for (int i = 0; i < SLICES && ok; i++)
        for (int64_t j = 0; j < lengths[i] && ok; j++) {
            float w = a.slice[i].w[j], was = before.slice[i].w[j];
            ok = a.slice[i].decay ? fabsf(w) <= fabsf(was) : w == was;
            if (!ok)
                trial_fail(t, "a weight %s decay goes from %.9g to %.9g with gradients of 0 (%s)",
                           a.slice[i].decay ? "with" : "without", (double)was, (double)w, part->options);
        }
    pile_drop(&a.pile);
    pile_drop(&before.pile);
}

/* f(w) = |w - 1|^2 / 2 gets smaller                                                                    */
static void downhill(struct trial *t, struct bench_part *part)
{
    enum { STEPS = 150 };
    struct bench b;
    double first = 0, last = 0;
    fill(&b, t, part, GAP);
    bool ok = true;
    for (int k = 0; k <= STEPS && ok; k++) {
        last = 0;
        for (int i = 0; i < SLICES; i++)
            for (int64_t j = 0; j < lengths[i]; j++) {
                b.g[i][j] = b.slice[i].w[j] - 1;
                last += 0.5 * (double)b.g[i][j] * (double)b.g[i][j];
            }
        if (!k) first = last;
        ok = k == STEPS || update(&b);
    }
    if (ok && !(last < 0.9 * first))
        trial_fail(t, "%d steps at lr %g take the sum of squares from %.4g to %.4g: it does not go downhill (%s)",
                   STEPS, b.lr, first, last, part->options);
    pile_drop(&b.pile);
}

static void names(struct trial *t)
{
    const struct chi_optimizer_ops *ops = t->component->ops;
    if (ops->moments < 0 || ops->moments > 2) trial_fail(t, "moments is %d, wanted is 0, 1 or 2", (int)ops->moments);
    for (int i = 0; i < ops->moments && t->outcome == TRIAL_OK; i++)
        if (!ops->moment_names || !ops->moment_names[i] || !*ops->moment_names[i])
            trial_fail(t, "moment %d has no name, which checkpoints need", i);
        else if (i && !strcmp(ops->moment_names[0], ops->moment_names[i]))
            trial_fail(t, "two moments are called %s", ops->moment_names[i]);
}

static void check_repeat(struct trial *t) { each_case(t, NULL, repeat); }
static void check_stride(struct trial *t) { each_case(t, NULL, stride); }
static void check_threads(struct trial *t) { each_case(t, NULL, threads); }
static void check_every(struct trial *t) { each_case(t, NULL, every); }
static void check_clip(struct trial *t) { each_case(t, NULL, clip); }
static void check_decay(struct trial *t) { each_case(t, NULL, decay); }
static void check_downhill(struct trial *t) { each_case(t, NULL, downhill); }

const struct check checks_optimizers[] = {
    { "optimizer.names", CHI_OPTIMIZER, 10, "each moment has a name", names },
    { "optimizer.repeat", CHI_OPTIMIZER, 20, "the same inputs give the same step, inside its blocks", check_repeat },
    { "optimizer.stride", CHI_OPTIMIZER, 20, "moment k of value i is m[k * stride + i], and nothing else",
      check_stride },
    { "optimizer.threads", CHI_OPTIMIZER, 20, "the same bits for 1, 2, 3, 8 threads", check_threads },
    { "optimizer.every", CHI_OPTIMIZER, 20, "weights that have a gradient move (a warning)", check_every },
    { "optimizer.clip", CHI_OPTIMIZER, 20, "clip multiplies every gradient", check_clip },
    { "optimizer.decay", CHI_OPTIMIZER, 20, "only slices that ask for decay decay", check_decay },
    { "optimizer.downhill", CHI_OPTIMIZER, 20, "a quadratic gets smaller", check_downhill },
    { 0 }
};
