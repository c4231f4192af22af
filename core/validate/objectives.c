/* objectives.c - checks of objectives: the gradient is that of the loss, rows count once and in order.  */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <chimera/train.h>

#include "core.h"
#include "kinds.h"
#include "pool.h"

enum { CASES = 3, ROWS = 13, VOCAB = 17 };

struct call {
    struct trial *t;
    const struct chi_objective_ops *ops;
    struct bench_part *b;
    const float *logits;                        /* [rows, VOCAB]                               */
    const int32_t *target;
    int64_t rows;
    double scale, sum;
    float *d;
    chi_status s;
};

static void run(void *arg)
{
    struct call *c = arg;
    c->s = c->ops->loss(c->b->host, c->b->conf, c->logits, c->target, c->rows, VOCAB, c->scale, c->d, &c->sum);
}

/* Adds the rows to *sum, with their gradient in d (or NULL), all in guarded blocks                  */
static bool loss(struct call *c, const float *logits, const int32_t *target, int64_t rows, double scale, float *d,
                 double *sum)
{
    struct pile p = { .n = 0 };
    int64_t n = rows * VOCAB * (int64_t)sizeof *logits;
    c->rows = rows;
    c->scale = scale;
    c->sum = *sum;
    c->logits = pile_copy(&p, logits, n, 4, true, "logits");
    c->target = pile_copy(&p, target, rows * (int64_t)sizeof *target, 4, true, "target");
    c->d = d ? pile_take(&p, n, 4, true, "dlogits") : NULL;
    bool ok = call_guarded(c->t, "loss", c->b->options, run, c);
    if (ok && c->s != CHI_OK) {
        trial_fail(c->t, "loss with %s: %s", c->b->options, fail_text());
        ok = false;
    }
    if (ok && d && n) memcpy(d, c->d, (size_t)n);
    *sum = c->sum;
    pile_drop(&p);
    return ok;
}

static void each_case(struct trial *t, void (*check)(struct call *, float *, int32_t *))
{
    for (int64_t i = 0; i < CASES && t->outcome < TRIAL_FAILED; i++) {
        struct bench_part b;
        float x[ROWS * VOCAB];
        int32_t target[ROWS];
        if (!part_bench_open(&b, t, i, NULL)) return;
        struct call c = { .t = t, .ops = t->component->ops, .b = &b };
        for (int64_t k = 0; k < ROWS * VOCAB; k++) x[k] = 2 * trial_uniform(t);
        for (int64_t r = 0; r < ROWS; r++) target[r] = r % 4 == 1 ? -1 : (int32_t)trial_between(t, 0, VOCAB - 1);
        pool_threads(1);
        check(&c, x, target);
        part_bench_close(&b);
    }
}

/* ---- checks --------------------------------------------------------------------------------------- */

static void gradient(struct call *c, float *x, int32_t *target)
{
    static const float h = 0.02f;
    static const double scale = 0.125;
    float d[ROWS * VOCAB];
    double sum = 0, top = 1e-30;
    if (!loss(c, x, target, ROWS, scale, d, &sum)) return;
    for (int64_t i = 0; i < ROWS * VOCAB; i++) top = fmax(top, fabs((double)d[i]));
    for (int64_t i = 0; i < ROWS * VOCAB; i++) {
        double up = 0, down = 0;
        float was = x[i], hi = was + h, lo = was - h;
        x[i] = hi;
        if (!loss(c, x, target, ROWS, scale, NULL, &up)) return;
        x[i] = lo;
        if (!loss(c, x, target, ROWS, scale, NULL, &down)) return;
        x[i] = was;
        double want = scale * (up - down) / ((double)hi - (double)lo);
        if (fabs((double)d[i] - want) <= 2e-3 * fmax(top, fabs(want))) continue;
        trial_fail(c->t, "dlogits[%lld, %lld] is %.6g at scale %g, the loss changes by %.6g (target %d; %s)",
                   (long long)(i / VOCAB), (long long)(i % VOCAB), (double)d[i], scale, want, (int)target[i / VOCAB],
                   c->b->options);
        return;
    }
}

static void not_scored(struct call *c, float *x, int32_t *target)
{
    float d[ROWS * VOCAB];
    double sum = 5, kept;
    if (!loss(c, x, target, ROWS, 1, d, &sum)) return;
    kept = sum;
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t j = 0; j < VOCAB; j++) {
            if (target[r] < 0 && d[r * VOCAB + j] != 0) {
                trial_fail(c->t, "row %lld is not scored (target -1), its gradient is %g, wanted is 0", (long long)r,
                           (double)d[r * VOCAB + j]);
                return;
            }
            if (target[r] < 0) x[r * VOCAB + j] += 3 + (float)j;
        }
    sum = 5;
    if (loss(c, x, target, ROWS, 1, d, &sum) && memcmp(&sum, &kept, sizeof sum) != 0)
        trial_fail(c->t, "rows that are not scored change the sum from %.17g to %.17g", kept, sum);
    for (int64_t r = 0; r < ROWS; r++) target[r] = -1;
    sum = 5;
    if (loss(c, x, target, ROWS, 1, d, &sum) && sum != 5)
        trial_fail(c->t, "no row is scored, and *sum goes from 5 to %.17g", sum);
}

/* Blocks of rows in order, with and without gradient, in place: one answer                            */
static void blocks(struct call *c, float *x, int32_t *target)
{
    static const int64_t size[] = { 1, 2, 5, ROWS };
    float want[ROWS * VOCAB], d[ROWS * VOCAB];
    double whole = 0;
    if (!loss(c, x, target, ROWS, 0.5, want, &whole)) return;
    for (int64_t k = 0; k < 2 * COUNT(size); k++) {
        int64_t n = size[k / 2];
        bool grads = k % 2;
        double sum = 0;
        for (int64_t r = 0; r < ROWS; r += n)
            if (!loss(c, x + r * VOCAB, target + r, min_i64(n, ROWS - r), 0.5, grads ? d + r * VOCAB : NULL,
                      &sum)) return;
        if (memcmp(&sum, &whole, sizeof sum) != 0) {
            trial_fail(c->t, "rows in blocks of %lld, %s gradient, sum to %.17g, together to %.17g: rows are added "
                       "in order in double", (long long)n, grads ? "with" : "without", sum, whole);
            return;
        }
        if (!grads || same_floats(d, want, ROWS * VOCAB)) continue;
        trial_fail(c->t, "gradients of rows in blocks of %lld differ from those together", (long long)n);
        return;
    }
    c->logits = c->d = memcpy(d, x, sizeof d);
    c->target = target;
    c->rows = ROWS;
    c->scale = 0.5;
    c->sum = 0;
    run(c);
    if (!same_floats(d, want, ROWS * VOCAB) || memcmp(&c->sum, &whole, sizeof whole) != 0)
        trial_fail(c->t, "with dlogits in place of logits the results differ");
}

/* A float in the way would lose the small losses beside a large sum                                    */
static void double_sum(struct call *c, float *x, int32_t *target)
{
    double alone = 0, large = 1e8;
    if (!loss(c, x, target, ROWS, 1, NULL, &alone) || !loss(c, x, target, ROWS, 1, NULL, &large)) return;
    if (fabs(large - 1e8 - alone) > 1e-6)
        trial_fail(c->t, "added to a sum of 1e8 the loss is %.9g, added to 0 it is %.9g: the sum must stay double",
                   large - 1e8, alone);
}

static void threads(struct call *c, float *x, int32_t *target)
{
    static const int workers[] = { 2, 3, 8 };
    float want[ROWS * VOCAB], d[ROWS * VOCAB];
    double whole = 0;
    if (!loss(c, x, target, ROWS, 1, want, &whole)) return;
    for (int64_t k = 0; k < COUNT(workers); k++) {
        double sum = 0;
        pool_threads(workers[k]);
        if (!loss(c, x, target, ROWS, 1, d, &sum)) return;
        if (!same_floats(d, want, ROWS * VOCAB) || memcmp(&sum, &whole, sizeof sum) != 0)
            trial_fail(c->t, "results differ with %d threads", workers[k]);
    }
    pool_threads(1);
}

static void extremes(struct call *c, float *x, int32_t *target)
{
    float d[ROWS * VOCAB];
    double sum = 0;
    for (int64_t i = 0; i < ROWS * VOCAB; i++) x[i] *= 5000;
    if (!loss(c, x, target, ROWS, 1, d, &sum)) return;
    bool finite = isfinite(sum);
    for (int64_t i = 0; i < ROWS * VOCAB; i++) finite = finite && isfinite(d[i]);
    if (!finite) trial_fail(c->t, "logits about 1e4 give a loss or a gradient that is not finite");
    for (int64_t j = 0; j < VOCAB; j++) x[2 * VOCAB + j] = NAN;         /* row 2 is scored       */
    c->logits = x;
    c->target = target;
    c->d = d;
    c->sum = 0;
    run(c);
    if (c->s == CHI_OK && isfinite(c->sum))
        trial_fail(c->t, "a row of NaN leaves the loss finite: a broken model would go unnoticed");
}

static void check_gradient(struct trial *t) { each_case(t, gradient); }
static void check_not_scored(struct trial *t) { each_case(t, not_scored); }
static void check_blocks(struct trial *t) { each_case(t, blocks); }
static void check_double(struct trial *t) { each_case(t, double_sum); }
static void check_threads(struct trial *t) { each_case(t, threads); }
static void check_extremes(struct trial *t) { each_case(t, extremes); }

const struct check checks_objectives[] = {
    { "objective.gradient", CHI_OBJECTIVE, 30, "dlogits is scale times the slope of the loss", check_gradient },
    { "objective.not_scored", CHI_OBJECTIVE, 20, "rows with target -1 add nothing and have no gradient",
      check_not_scored },
    { "objective.blocks", CHI_OBJECTIVE, 20, "any blocks of rows, in place or without gradient: the same bits",
      check_blocks },
    { "objective.sum", CHI_OBJECTIVE, 20, "the loss is added in double", check_double },
    { "objective.threads", CHI_OBJECTIVE, 20, "the same bits for 1, 2, 3, 8 threads", check_threads },
    { "objective.extremes", CHI_OBJECTIVE, 20, "large logits give finite results, NaN is not swallowed",
      check_extremes },
    { 0 }
};
