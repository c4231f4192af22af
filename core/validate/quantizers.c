/* quantizers.c - checks of quantizers: rows are independent, numbers stay in their class and in the order of
 * the weights, what is not finite is refused, and encodings of the class hold the result.      */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <chimera/math.h>

#include "core.h"
#include "kinds.h"

enum { CASES = 4, ROWS = 9 };
static const int64_t col_counts[] = { 1, 3, 63, 64, 65, 128, 200, 385 };

/* Weights and what became of them                                                              */
struct job {
    struct trial *t;
    const struct chi_quantizer_ops *ops;
    struct bench_part *b;
    int64_t cols, group, groups;
    float  *w;                          /* [ROWS, cols]                                       */
    int8_t *q;                          /* [ROWS, cols]; NULL for float classes                */
    float  *scale;                      /* [ROWS, groups]                                     */
    char    with[256];
    /* of the present call, guarded */
    const float *from;
    int8_t *to;
    float  *to_scale;
    int64_t rows;
    chi_status s;
};

static bool floats(const struct job *j)
{
    return !strcmp(j->ops->values, "f32") || !strcmp(j->ops->values, "bf16");
}

static void run(void *arg)
{
    struct job *j = arg;
    j->s = j->ops->quantize(j->b->conf, j->from, j->rows, j->cols, j->to, j->to_scale);
}

/* Rows r0..r1 of w into q and scale of those rows                                               */
static bool slice(struct job *j, int64_t r0, int64_t r1, int8_t *q, float *scale)
{
    struct pile p = { .n = 0 };
    int64_t n = (r1 - r0) * j->cols, s = (r1 - r0) * j->groups;
    j->rows = r1 - r0;
    j->from = pile_copy(&p, j->w + r0 * j->cols, n * 4, 4, r0 % 2 == 0, "w");
    j->to = floats(j) ? NULL : pile_take(&p, n, 1, r0 % 2 == 0, "q");
    j->to_scale = pile_take(&p, s * 4, 4, r0 % 2 == 0, "scale");
    bool ok = call_guarded(j->t, "quantize", j->with, run, j);
    if (ok && j->to) memcpy(q + r0 * j->cols, j->to, (size_t)n);
    if (ok) memcpy(scale + r0 * j->groups, j->to_scale, (size_t)s * sizeof *scale);
    pile_drop(&p);
    return ok;
}

static void drop(struct job *j)
{
    free(j->w);
    free(j->q);
    free(j->scale);
}

static bool start(struct job *j, struct trial *t, struct bench_part *b, int64_t cols)
{
    *j = (struct job){ .t = t, .ops = t->component->ops, .b = b, .cols = cols };
    snprintf(j->with, sizeof j->with, "%d x %lld, %.180s", ROWS, (long long)cols, b->options);
    j->group = j->ops->group(b->conf, cols);
    if (j->group < 1 || (floats(j) && j->group != 1)) {
        trial_fail(t, "group(%lld) is %lld, wanted is %s (%s)", (long long)cols, (long long)j->group,
                   floats(j) ? "1 for a class of floats" : "1 or more", j->with);
        return false;
    }
    j->groups = ceil_div(cols, j->group);
    j->w = xcalloc((size_t)(ROWS * cols), sizeof *j->w);
    j->q = xcalloc((size_t)(ROWS * cols), 1);
    j->scale = xcalloc((size_t)(ROWS * j->groups), sizeof *j->scale);
    for (int64_t i = 0; i < ROWS * cols; i++)           /* rows of different size            */
        j->w[i] = trial_uniform(t) * ldexpf(0.05f, (int)(i / cols) - 4);
    return true;
}

static void each_job(struct trial *t, void (*check)(struct job *))
{
    for (int64_t i = 0; i < CASES; i++) {
        struct bench_part b;
        if (!part_bench_open(&b, t, i, NULL)) return;
        for (int64_t c = 0; c < COUNT(col_counts) && t->outcome < TRIAL_FAILED; c++) {
            struct job j;
            if (!start(&j, t, &b, col_counts[c])) break;
            check(&j);
            drop(&j);
        }
        part_bench_close(&b);
        if (t->outcome >= TRIAL_FAILED || !t->component->options) return;
    }
}

static bool whole(struct job *j)
{
    if (!slice(j, 0, ROWS, j->q, j->scale)) return false;
    if (j->s != CHI_OK) trial_fail(j->t, "quantize refuses weights of moderate size with status %d (%s)", (int)j->s,
                                   j->with);
    return j->s == CHI_OK;
}

/* ---- checks ----------------------------------------------------------------------------------- */

static void rows_alone(struct job *j)
{
    static const int64_t size[] = { ROWS, 1, 2, 5 };
    int8_t *q = xcalloc((size_t)(ROWS * j->cols), 1);
    float *scale = xcalloc((size_t)(ROWS * j->groups), sizeof *scale);
    bool ok = whole(j);
    for (int64_t k = 0; k < COUNT(size) && ok; k++) {
        for (int64_t r = 0; r < ROWS && ok; r += size[k]) ok = slice(j, r, min_i64(r + size[k], ROWS), q, scale);
        for (int64_t r = 0; r < ROWS && ok; r++) {
            ok = !memcmp(q + r * j->cols, j->q + r * j->cols, (size_t)j->cols)
              && !memcmp(scale + r * j->groups, j->scale + r * j->groups, (size_t)j->groups * sizeof *scale);
            if (!ok)
                trial_fail(j->t, "row %lld differs when %lld rows are quantised in a call instead of all: rows must "
                           "be independent (%s)", (long long)r, (long long)size[k], j->with);
        }
    }
    free(q);
    free(scale);
}

static double value(const struct job *j, int64_t i)
{
    double scale = (double)j->scale[i / j->cols * j->groups + i % j->cols / j->group];
    return floats(j) ? scale : scale * j->q[i];
}

/* Numbers that the class has                                                                      */
static bool in_range(const struct job *j)
{
    int most = !strcmp(j->ops->values, "ternary") ? 1 : 127;
    for (int64_t i = 0; i < ROWS * j->cols && !floats(j); i++)
        if (j->q[i] > most || j->q[i] < -most) {
            trial_fail(j->t, "q[%lld] is %d, the class %s has -%d..%d (%s)", (long long)i, j->q[i], j->ops->values,
                       most, most, j->with);
            return false;
        }
    for (int64_t i = 0; i < ROWS * j->groups; i++)
        if (!isfinite(j->scale[i]) || (!strcmp(j->ops->values, "bf16") && (chi_bits(j->scale[i]) & 0xffff) != 0)) {
            trial_fail(j->t, "%s %lld is %.9g, which %s (%s)", floats(j) ? "value" : "scale", (long long)i,
                       (double)j->scale[i], isfinite(j->scale[i]) ? "bf16 does not have" : "is not finite", j->with);
            return false;
        }
    return true;
}

/* No weight changes its sign, and of two weights under one scale the larger one keeps the larger value.
 * Those that become 0 are left out, since pruning may take any.                                    */
static bool in_order(const struct job *j)
{
    int64_t group = floats(j) ? j->cols : j->group;
    for (int64_t i = 0; i < ROWS * j->cols; i++) {
        double v = value(j, i), w = (double)j->w[i];
        if (v * w < 0) {
            trial_fail(j->t, "the weight %.6g becomes %.6g: its sign is lost (%s)", w, v, j->with);
            return false;
        }
        int64_t start = i - i % j->cols % group;
        for (int64_t k = start; k < i && v != 0; k++) {
            double other = value(j, k), from = (double)j->w[k];
            if (other == 0 || (from < w ? other <= v : from > w ? other >= v : other == v)) continue;
            trial_fail(j->t, "under one scale the weights %.6g and %.6g become %.6g and %.6g: their order is lost (%s)",
                       from, w, other, v, j->with);
            return false;
        }
    }
    return true;
}

/* How coarse it is, is its own business; but weights of zero would be as near                      */
static void nearer_than_zeros(const struct job *j)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < ROWS * j->cols; i++) {
        double e = value(j, i) - (double)j->w[i];
        off += e * e;
        size += (double)j->w[i] * (double)j->w[i];
    }
    if (!(sqrt(off / size) <= 0.9))
        trial_fail(j->t, "the quantised weights are %.3g of their length away from the weights, as far as zeros "
                   "would be: wanted is 0.9 at most (%s)", sqrt(off / size), j->with);
}

static void in_class(struct job *j)
{
    if (whole(j) && in_range(j) && in_order(j)) nearer_than_zeros(j);
}

static void zeros(struct job *j)
{
    memset(j->w, 0, (size_t)(ROWS * j->cols) * sizeof *j->w);
    if (!whole(j)) return;
    for (int64_t i = 0; i < ROWS * j->cols; i++)
        if (value(j, i) != 0) {
            trial_fail(j->t, "a weight of 0 among zeros becomes %g (%s)", value(j, i), j->with);
            return;
        }
}

static void not_finite(struct job *j)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    for (int64_t k = 0; k < 7; k++) {
        int64_t at = trial_between(j->t, 0, ROWS * j->cols - 1);
        float was = j->w[at];
        j->w[at] = bad[k % 3];
        if (!slice(j, 0, ROWS, j->q, j->scale)) return;
        if (j->s != CHI_ENUMERIC) {
            trial_fail(j->t, "a weight that is %g is answered with status %d, wanted is CHI_ENUMERIC (%d) (%s)",
                       (double)bad[k % 3], (int)j->s, CHI_ENUMERIC, j->with);
            return;
        }
        j->w[at] = was;
    }
}

/* The encodings of the class that are there hold what it makes; those for a part of the class may refuse,
 * but not all of them                                                                             */
static void encodings(struct job *j)
{
    const struct chi_component *c;
    struct matrix m = { .rows = ROWS, .cols = j->cols, .group = j->group, .q = floats(j) ? NULL : j->q,
                        .scale = j->scale };
    const char *refuses = NULL;
    bool held = false;
    if (!whole(j)) return;
    for (int64_t i = 0; (c = registry_component(j->t->registry, CHI_ENCODING, i)); i++) {
        const struct chi_encoding_ops *e = c->ops;
        if (strcmp(e->values, j->ops->values) != 0) continue;
        int64_t n = e->bytes(ROWS, j->cols, j->group);
        if (n <= 0) continue;
        if (!matrix_held(e, &m)) {
            refuses = c->name;
            continue;
        }
        held = true;
        void *bytes = mem_take((size_t)n, "an encoded matrix");
        int8_t *q = xcalloc((size_t)(ROWS * j->cols), 1);
        float *scale = xcalloc((size_t)(ROWS * j->groups), sizeof *scale);
        e->encode(bytes, floats(j) ? NULL : j->q, j->scale, ROWS, j->cols, j->group, 0, ROWS);
        e->decode(bytes, floats(j) ? NULL : q, scale, ROWS, j->cols, j->group, 0, ROWS);
        if (memcmp(scale, j->scale, (size_t)(ROWS * j->groups) * sizeof *scale) != 0
            || (!floats(j) && memcmp(q, j->q, (size_t)(ROWS * j->cols)) != 0))
            trial_fail(j->t, "encoding %s of its class does not hold what it makes: scales need the rounding that the "
                       "class has (%s)", c->name, j->with);
        mem_free(bytes);
        free(q);
        free(scale);
    }
    if (refuses && !held)
        trial_fail(j->t, "no encoding of its class holds what it makes, %s neither: scales need the rounding that the "
                   "class has (%s)", refuses, j->with);
}

/* dw += rule(dq): adds, and no piece depends on the others                                       */
static void gradient(struct job *j)
{
    int64_t n = ROWS * j->cols, half = n / 3;
    float *dq = xcalloc((size_t)n, 4), *once = xcalloc((size_t)n, 4), *twice = xcalloc((size_t)n, 4);
    for (int64_t i = 0; i < n; i++) dq[i] = trial_uniform(j->t), twice[i] = 1;
    j->ops->grad(j->b->conf, j->w, dq, n, once);
    j->ops->grad(j->b->conf, j->w, dq, half, twice);
    j->ops->grad(j->b->conf, j->w + half, dq + half, n - half, twice + half);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(once[i]) || fabsf(twice[i] - 1 - once[i]) > 1e-5f * (1 + fabsf(once[i]))) {
            trial_fail(j->t, "grad: dw[%lld] is %g from 0 in one call and %g from 1 in two, wanted is dw += "
                       "rule(dq) (%s)", (long long)i, (double)once[i], (double)twice[i], j->with);
            break;
        }
    free(dq);
    free(once);
    free(twice);
}

static void check_rows(struct trial *t) { each_job(t, rows_alone); }
static void check_class(struct trial *t) { each_job(t, in_class); }
static void check_zeros(struct trial *t) { each_job(t, zeros); }
static void check_not_finite(struct trial *t) { each_job(t, not_finite); }
static void check_encodings(struct trial *t) { each_job(t, encodings); }

static void check_gradient(struct trial *t)
{
    const struct chi_quantizer_ops *ops = t->component->ops;
    if (CHI_HAS(struct chi_quantizer_ops, ops, grad)) each_job(t, gradient);
    else trial_skip(t, "it has no rule of its own: gradients pass straight through");
}

/* What training adds of the master must be gone when it ends                                      */
static void check_residual(struct trial *t)
{
    const struct chi_quantizer_ops *ops = t->component->ops;
    if (!CHI_HAS(struct chi_quantizer_ops, ops, residual)) {
        trial_skip(t, "it has none: training sees the quantised weights alone");
        return;
    }
    for (int64_t i = 0; i < CASES; i++) {
        struct bench_part b;
        if (!part_bench_open(&b, t, i, NULL)) return;
        for (int k = 0; k <= 100 && t->outcome < TRIAL_FAILED; k++)
            if (!isfinite(ops->residual(b.conf, k / 100.0)))
                trial_fail(t, "residual(%g) is %g (%s)", k / 100.0, ops->residual(b.conf, k / 100.0), b.options);
        double left = ops->residual(b.conf, 1);
        if (t->outcome < TRIAL_FAILED && left != 0)
            trial_fail(t, "residual(1) is %g, wanted is 0: a trained model has quantised weights and nothing else (%s)", left,
                       b.options);
        part_bench_close(&b);
        if (t->outcome >= TRIAL_FAILED) return;
    }
}

const struct check checks_quantizers[] = {
    { "quantizer.rows", CHI_QUANTIZER, 30, "rows are independent: any slices give the same bits, inside their blocks",
      check_rows },
    { "quantizer.class", CHI_QUANTIZER, 30,
      "numbers lie in the class, keep sign and order, and are nearer than zeros", check_class },
    { "quantizer.zeros", CHI_QUANTIZER, 30, "zeros stay zeros", check_zeros },
    { "quantizer.not_finite", CHI_QUANTIZER, 30, "NaN and infinities are refused with CHI_ENUMERIC",
      check_not_finite },
    { "quantizer.encodings", CHI_QUANTIZER, 30, "encodings of its class hold what it makes", check_encodings },
    { "quantizer.gradient", CHI_QUANTIZER, 30, "its gradient rule adds, piece by piece", check_gradient },
    { "quantizer.residual", CHI_QUANTIZER, 30, "what training adds of the master fades to 0 at its end",
      check_residual },
    { 0 }
};
