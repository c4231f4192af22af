/* test_pool.c - parallel loops: every piece runs once, whatever the number of threads, of pieces,
 * and what came before; nested loops; loops in a pass that holds its threads.              */
#include "core.h"
#include "pool.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { PIECES = 300 };
static atomic_int count[PIECES];
static atomic_int members;                      /* threads that were seen in a task         */
static _Thread_local bool counted;

static void piece(void *arg, int64_t i, struct chi_scratch *s)
{
    cr_assert_eq(s->used, 0);
    atomic_fetch_add(&count[i], *(int *)arg);
    if (!counted) counted = true, atomic_fetch_add(&members, 1);
}

static void check(int threads, int64_t n)
{
    int by = 1;
    memset(count, 0, sizeof count);
    pool_threads(threads);
    pool_run(n, piece, &by);
    for (int64_t i = 0; i < PIECES; i++)
        cr_assert_eq(count[i], i < n, "%d threads, %ld pieces: piece %ld ran %d times", threads, (long)n, (long)i,
                     count[i]);
}

Test(pool, every_piece_once)
{
    static const int threads[] = { 1, 3, 8, 2, 5, 8, 1, 2 };
    static const int64_t n[] = { 0, 1, 2, 7, 8, 9, PIECES };
    for (int round = 0; round < 40; round++)
        for (int t = 0; t < COUNT(threads); t++)
            for (int i = 0; i < COUNT(n); i++) check(threads[t], n[i]);
}

static void slow_piece(void *arg, int64_t i, struct chi_scratch *s)
{
    usleep(2000);
    piece(arg, i, s);
}

/* Pieces that take a while meet more threads than one; in between they sleep               */
Test(pool, threads_share)
{
    int by = 1;
    memset(count, 0, sizeof count);
    pool_threads(4);
    if (pool_size() < 4) cr_skip_test("this program has one thread");
    for (int i = 0; i < 5; i++) {
        pool_run(20, slow_piece, &by);
        usleep(3000);
    }
    for (int i = 0; i < 20; i++) cr_assert_eq(count[i], 5);
    cr_assert_geq(members, 2, "%d thread(s) did everything", members);
    cr_assert_leq(members, 4);
}

static void outer(void *arg, int64_t i, struct chi_scratch *s)
{
    (void)i, (void)s;
    pool_run(10, piece, arg);
}

Test(pool, nested)
{
    int by = 1;
    pool_threads(3);
    pool_run(6, outer, &by);
    for (int i = 0; i < 10; i++) cr_assert_eq(count[i], 6);
}

struct many { int loops, by; };

static void pass(void *arg)
{
    const struct many *m = arg;
    for (int i = 0; i < m->loops; i++) pool_run(i % 12, piece, (void *)&m->by);
}

static void pass_in_pass(void *arg)
{
    pass(arg);
    pool_hold(pass, arg);
    usleep(3000);                                   /* the others sleep by now              */
    pass(arg);
}

/* Loops of 0 .. 11 pieces, 50 times; longer and shorter waits between them                 */
Test(pool, a_pass_of_many_loops)
{
    static const int threads[] = { 1, 2, 3, 8 };
    for (int t = 0; t < COUNT(threads); t++) {
        struct many m = { 600, 1 };
        memset(count, 0, sizeof count);
        pool_threads(threads[t]);
        pool_hold(pass_in_pass, &m);
        pool_run(12, piece, &m.by);
        for (int i = 0; i < 12; i++)
            cr_assert_eq(count[i], 3 * 50 * (11 - i) + 1, "%d threads: piece %d ran %d times", threads[t], i,
                         count[i]);
    }
}

/* Both pieces of a loop wait for each other: two members run it                            */
static atomic_int met, missed;

static void meet(void *arg, int64_t i, struct chi_scratch *s)
{
    double until = now_s() + 3;
    (void)arg, (void)i, (void)s;
    atomic_fetch_add(&met, 1);
    while (met < 2 && now_s() < until) usleep(50);
    if (met < 2) atomic_fetch_add(&missed, 1);
}

static void meetings(void *arg)
{
    for (int i = 0; i < 10 && !missed; i++) {
        usleep(5000);                               /* all sleep by now, those beyond two, too */
        met = 0;
        pool_run(2, meet, arg);
    }
}

Test(pool, a_small_loop_wakes_its_own_team)
{
    pool_threads(6);
    if (pool_size() < 6) cr_skip_test("this program has one thread");
    pool_hold(meetings, NULL);
    cr_assert_eq(missed, 0, "a loop of two pieces was left to one of two members");
}
