/* Packing by hand, cursors, schedules and sums over gradients.                       */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"
#include "fake_host.h"
#include "gradient.h"
#include "pack.h"
#include "rng.h"
#include "schedule.h"

enum { END = 256 };

/* Three documents: "abc", "", "de"                                                   */
static const int32_t id[] = { 'a', 'b', 'c', 'd', 'e' };
static const int64_t first[] = { 0, 3, 3, 5 };
static const char *const token_of[] = { "$abc", "$", "$de" };       /* $ is END      */
static const char *const target_of[] = { "abc$", "$", "de$" };

static int32_t code(char c)
{
    return c == '$' ? END : c;
}

Test(pack, rows_of_documents)
{
    struct pack p;
    pack_open(&p, id, first, 3, END, 1);
    cr_assert_eq(p.rows, 8);
    for (int64_t d = 0; d < 3; d++) {
        int64_t n = (int64_t)strlen(token_of[d]);
        int32_t token[4], target[4];
        pack_rows(&p, (struct packed_part){ d, 0, n }, token, target);
        for (int64_t i = 0; i < n; i++) {
            cr_assert_eq(token[i], code(token_of[d][i]));
            cr_assert_eq(target[i], code(target_of[d][i]));
        }
    }
    pack_close(&p);
}

/* The stream of four epochs, written down from the permutations, and the same in
 * sequences of 3 rows: 32 rows are 10 sequences and 2 rows left; sequences cross epochs. */
Test(pack, sequences_follow_the_shuffled_documents)
{
    struct pack p;
    int32_t want[32], want_target[32];
    int n = 0;
    for (uint64_t e = 0; e < 4; e++) {
        int64_t order[3];
        rng_permutation(order, 3, 7, e);
        for (int i = 0; i < 3; i++)
            for (size_t k = 0; k < strlen(token_of[order[i]]); k++, n++) {
                want[n] = code(token_of[order[i]][k]);
                want_target[n] = code(target_of[order[i]][k]);
            }
    }
    cr_assert_eq(n, 32);
    pack_open(&p, id, first, 3, END, 7);
    int64_t epoch = 0, position = 0, at = 0;
    for (int s = 0; s < 10; s++)
        for (int64_t left = 3; left;) {
            int32_t token[3], target[3];
            struct packed_part part = pack_part(&p, epoch, position, left);
            pack_rows(&p, part, token, target);
            cr_assert(part.rows >= 1 && part.rows <= left);
            cr_assert(part.from > 0 || token[0] == END, "a document begins with its end before");
            for (int64_t i = 0; i < part.rows; i++, at++) {
                cr_assert_eq(token[i], want[at], "row %d", (int)at);
                cr_assert_eq(target[i], want_target[at], "row %d", (int)at);
            }
            left -= part.rows;
            position += part.rows;
            if (position == p.rows) epoch++, position = 0;
        }
    cr_assert_eq(epoch, 3);
    cr_assert_eq(position, 6);
    pack_close(&p);
}

static void corpus(struct pack *p, int64_t n, uint64_t seed)
{
    int64_t *f = xcalloc((size_t)n + 1, sizeof *f);
    for (int64_t i = 0; i < n; i++) f[i + 1] = f[i] + i % 13;
    int32_t *t = xcalloc((size_t)f[n] + 1, sizeof *t);
    for (int64_t i = 0; i < f[n]; i++) t[i] = (int32_t)i;
    pack_open(p, t, f, n, -2, seed);
}

/* Every row of every document once an epoch, for any length of sequences              */
Test(pack, every_row_is_there_once_an_epoch)
{
    struct pack p;
    corpus(&p, 40, 3);
    for (int64_t len = 1; len < 400; len = len * 3 + 1) {
        int64_t epoch = 0, position = 0, left = len;
        int *seen = xcalloc((size_t)(p.rows * 3), sizeof *seen);
        while (epoch < 3) {
            struct packed_part a = pack_part(&p, epoch, position, left);
            for (int64_t i = 0; i < a.rows; i++)
                seen[epoch * p.rows + p.first[a.document] + a.document + a.from + i]++;
            left = left == a.rows ? len : left - a.rows;
            position += a.rows;
            if (position == p.rows) epoch++, position = 0;
        }
        for (int64_t i = 0; i < 3 * p.rows; i++) cr_assert_eq(seen[i], 1, "row %d", (int)i);
        free(seen);
    }
}

/* Two readers, one of which forgets everything at every step                          */
Test(pack, a_cursor_is_all_there_is_to_know)
{
    struct pack p, q;
    corpus(&p, 25, 9);
    for (int64_t epoch = 0, position = 0; epoch < 4;) {
        corpus(&q, 25, 9);
        pack_part(&q, 3 - epoch, 0, 1);                     /* another order is cached */
        struct packed_part a = pack_part(&p, epoch, position, 5), b = pack_part(&q, epoch, position, 5);
        cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
        position += a.rows;
        if (position == p.rows) epoch++, position = 0;
        pack_close(&q);
    }
}

Test(pack, orders_differ_by_epoch_and_seed)
{
    struct pack p, q;
    corpus(&p, 30, 1);
    corpus(&q, 30, 2);
    pack_part(&p, 0, 0, 1);
    pack_part(&q, 0, 0, 1);
    cr_assert(memcmp(p.order, q.order, 30 * sizeof *p.order));
    memcpy(q.order, p.order, 30 * sizeof *p.order);
    pack_part(&p, 1, 0, 1);
    cr_assert(memcmp(p.order, q.order, 30 * sizeof *p.order));
}

Test(pack, no_window_has_more_parts_than_promised)
{
    struct pack p;
    corpus(&p, 30, 5);
    int64_t most = 0;
    for (int64_t len = 1; len < 700; len = len * 2 + 1) {
        int64_t epoch = 0, position = 0, bound = pack_max_parts(&p, 4, len);
        cr_assert_leq(bound, 4 * len);
        while (epoch < 12) {
            int64_t parts = 0;
            for (int s = 0; s < 4; s++)
                for (int64_t left = len; left; parts++) {
                    struct packed_part a = pack_part(&p, epoch, position, left);
                    left -= a.rows;
                    position += a.rows;
                    if (position == p.rows) epoch++, position = 0;
                }
            cr_assert_leq(parts, bound, "%d parts of %d, sequences of %d", (int)parts, (int)bound, (int)len);
            most = parts > most ? parts : most;
        }
    }
    cr_assert_gt(most, 100);
}

/* ---- schedules ------------------------------------------------------------------- */

static struct train_options options(int schedule)
{
    return (struct train_options){ .steps = 100, .warmup_steps = 10, .lr = 1, .min_lr = 0.1,
                                   .decay_fraction = 0.2, .schedule = schedule };
}

static void expect(double got, double want)
{
    cr_assert_leq(fabs(got - want), 1e-12, "%.15g, not %.15g", got, want);
}

Test(schedule, learning_rates)
{
    struct train_options c = options(SCHEDULE_CONSTANT), k = options(SCHEDULE_COSINE_WARMUP),
                         w = options(SCHEDULE_WSD);
    expect(schedule_lr(&c, 0), 0.1);
    expect(schedule_lr(&k, 4), 0.5);
    expect(schedule_lr(&w, 9), 1);
    expect(schedule_lr(&c, 99), 1);
    expect(schedule_lr(&k, 10), 1);
    expect(schedule_lr(&k, 55), 0.55);                      /* half way                */
    expect(schedule_lr(&k, 40), 0.1 + 0.9 * 0.75);          /* a third: cos 60 = 1/2   */
    expect(schedule_lr(&k, 100), 0.1);
    expect(schedule_lr(&w, 79), 1);
    expect(schedule_lr(&w, 80), 1);
    expect(schedule_lr(&w, 90), 0.55);
    expect(schedule_lr(&w, 100), 0.1);
    k.warmup_steps = 200;                                   /* longer than the run     */
    expect(schedule_lr(&k, 99), 0.5);
}

Test(schedule, boundaries)
{
    struct train_options k = options(SCHEDULE_COSINE_WARMUP), w = options(SCHEDULE_WSD);
    expect(schedule_lr(&k, 9), 1);                          /* the last step of the rise */
    w.warmup_steps = 0;
    expect(schedule_lr(&w, 0), 1);
    w.decay_fraction = 0;                                   /* begin == end: never falls */
    expect(schedule_lr(&w, 99), 1);
    expect(schedule_lr(&w, 100), 1);
    w.decay_fraction = 1;                                   /* falls from the first step */
    expect(schedule_lr(&w, 0), 1);
    expect(schedule_lr(&w, 50), 0.55);
    w.warmup_steps = 90;                                    /* the rise goes first       */
    expect(schedule_lr(&w, 89), 1);
    expect(schedule_lr(&w, 90), 0.1 + 0.9 * 0.1);
    k.warmup_steps = 0;
    expect(schedule_lr(&k, 0), 1);
    expect(schedule_lr(&k, 50), 0.55);
    k.warmup_steps = 100;                                   /* nothing left to fall in   */
    expect(schedule_lr(&k, 99), 1);
    expect(schedule_lr(&k, 100), 0.1);
}

Test(schedule, ramp)
{
    struct train_options o = options(SCHEDULE_CONSTANT);
    expect(schedule_lambda(&o, 0), 1);
    o.lambda_warmup = 0.5;
    expect(schedule_lambda(&o, 0), 0.02);
    expect(schedule_lambda(&o, 24), 0.5);
    expect(schedule_lambda(&o, 49), 1);
    expect(schedule_lambda(&o, 99), 1);
}

/* ---- gradients ------------------------------------------------------------------- */

enum { FLOATS = 70000 };

static void fill(float *g, int64_t micro)
{
    for (int64_t i = 0; i < FLOATS; i++) g[i] = (float)fake_number((uint64_t)(micro * FLOATS + i));
}

/* The tree of leaves lo .. hi-1 as a definition: the largest power of two on the left  */
static float tree_of(int64_t i, int64_t lo, int64_t hi)
{
    if (hi - lo == 1) return (float)fake_number((uint64_t)(lo * FLOATS + i));
    int64_t half = 1;
    while (half * 2 < hi - lo) half *= 2;
    return tree_of(i, lo, lo + half) + tree_of(i, lo + half, hi);
}

Test(gradient, sums_are_a_fixed_binary_tree)
{
    float *g = xcalloc(FLOATS, sizeof *g);
    for (int64_t n = 1; n <= 7; n++)
        for (int threads = 1; threads <= 3; threads += 2) {
            struct gradient_tree t;
            double loss = 0;
            pool_threads(threads);
            cr_assert_eq(tree_open(&t, FLOATS, n), CHI_OK);
            for (int again = 0; again < 2; again++) {
                for (int64_t m = 0; m < n; m++) {
                    fill(g, m);
                    tree_add(&t, g, (double)(m + 1));
                }
                tree_sum(&t, g, &loss);
                expect(loss, (double)(n * (n + 1) / 2));
                for (int64_t i = 0; i < FLOATS; i += 11)
                    cr_assert_eq(g[i], tree_of(i, 0, n), "%d micro-batches, value %d", (int)n, (int)i);
            }
            tree_close(&t);
        }
}

Test(gradient, squares_do_not_depend_on_threads)
{
    float *g = xcalloc(FLOATS, sizeof *g), one = 3;
    fill(g, 0);
    struct gradient_run run[] = { { g, 12345 }, { &one, 1 }, { g + 12345, FLOATS - 12345 } };
    double want = 9, got[4];
    for (int64_t i = 0; i < FLOATS; i++) want += (double)g[i] * g[i];
    for (int k = 1; k < 4; k++) {
        pool_threads(k);
        got[k] = gradient_squares(run, 3);
        cr_assert_eq(memcmp(&got[k], &got[1], sizeof want), 0);
    }
    cr_assert_leq(fabs(got[1] - want), 1e-9 * want);
    g[FLOATS - 1] = NAN;
    cr_assert(isnan(gradient_squares(run, 3)));
}
