/* task_oracles.h - what the inputs of each made task say of its targets and slices, found by other
 * means than the task's.  */
#ifndef TASK_ORACLES_H
#define TASK_ORACLES_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

enum { ROWS = 600 };

/* What the inputs of an example say: a target and the number in the slice's name             */
struct answer { int64_t target[ROWS], number[ROWS]; };

/* ---- oracles ------------------------------------------------------------------------------ */

static inline void answer_none(struct answer *a)
{
    for (int i = 0; i < ROWS; i++) a->target[i] = a->number[i] = -1;
}

static inline void parity_oracle(const int32_t *x, int64_t n, struct answer *a)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t ones = 0;
        for (int64_t j = 0; j <= i; j++) ones += x[j];
        a->target[i] = ones % 2;
        a->number[i] = n;
    }
}

static inline void modular_oracle(const int32_t *x, int64_t n, struct answer *a)      /* m = 7, last row */
{
    int64_t total = 0;
    for (int64_t i = 0; i < n; i++) {
        cr_assert(x[i] <= 3);
        total += x[i];
    }
    a->target[n - 1] = total - 7 * (total / 7);
    a->number[n - 1] = n;
}

/* Permutation number i of `points` in lexicographic order, by the factorial digits of i          */
static inline void unrank(int64_t i, int points, int out[5])
{
    int left[5] = { 0, 1, 2, 3, 4 };
    for (int k = 0; k < points; k++) {
        int64_t f = 1;
        for (int j = 2; j < points - k; j++) f *= j;
        int64_t d = i / f;
        i %= f;
        out[k] = left[d];
        memmove(left + d, left + d + 1, (size_t)(4 - d) * sizeof *left);
    }
}

static inline int64_t rank(const int *v, int points)
{
    int64_t r = 0;
    for (int k = 0; k < points; k++) {
        int64_t smaller = 0, f = 1;
        for (int j = k + 1; j < points; j++) smaller += v[j] < v[k];
        for (int j = 2; j < points - k; j++) f *= j;
        r += smaller * f;
    }
    return r;
}

/* Sign by cycles: even if points - cycles is                                                       */
static inline bool even(const int *v)
{
    bool seen[5] = { false };
    int cycles = 0;
    for (int i = 0; i < 5; i++) {
        if (!seen[i]) cycles++;
        for (int j = i; !seen[j]; j = v[j]) seen[j] = true;
    }
    return (5 - cycles) % 2 == 0;
}

static inline void group_oracle(const int32_t *x, int64_t n, int points, bool only_even, struct answer *a)
{
    int64_t all[120], count = 0, size = points == 3 ? 6 : 120;
    int v[5], so_far[5] = { 0, 1, 2, 3, 4 }, next[5];
    for (int64_t i = 0; i < size; i++) {
        unrank(i, points, v);
        if (!only_even || even(v)) all[count++] = i;
    }
    for (int64_t i = 0; i < n; i++) {
        unrank(all[x[i]], points, v);
        for (int j = 0; j < points; j++) next[j] = so_far[v[j]];
        memcpy(so_far, next, sizeof so_far);
        for (a->target[i] = 0; all[a->target[i]] != rank(so_far, points);) a->target[i]++;
        a->number[i] = n;
    }
}

static inline void s3_oracle(const int32_t *x, int64_t n, struct answer *a) { group_oracle(x, n, 3, false, a); }
static inline void s5_oracle(const int32_t *x, int64_t n, struct answer *a) { group_oracle(x, n, 5, false, a); }
static inline void a5_oracle(const int32_t *x, int64_t n, struct answer *a) { group_oracle(x, n, 5, true, a); }

static inline void swaps_oracle(const int32_t *x, int64_t n, struct answer *a)
{
    for (int64_t i = 0; i < n; i++) {
        int v[5], moved = 0;
        unrank(x[i], 5, v);
        for (int j = 0; j < 5; j++) moved += v[j] != j;
        cr_assert_eq(moved, 2, "element %d is no swap", (int)x[i]);
    }
    group_oracle(x, n, 5, false, a);
}

static inline void copy_oracle(const int32_t *x, int64_t n, struct answer *a)
{
    int64_t bar = n / 2;
    cr_assert(n % 2 == 0 && x[bar] == 0);
    for (int64_t i = bar + 1; i < n; i++) cr_assert(x[i] == x[i - bar - 1] && x[i] > 0);
    for (int64_t i = 0; i < bar; i++) {
        a->target[bar + i] = x[i];
        a->number[bar + i] = bar;
    }
}

static inline void selective_oracle(const int32_t *x, int64_t n, struct answer *a)
{
    int64_t told = 0, asked = 0;
    for (int64_t i = 0; i < n; i++) told += x[i] > 1;
    for (int64_t i = 0; i < n; i++) {
        if (x[i] != 1) continue;
        int64_t skip = asked++, j = 0;
        while (x[j] < 2 || skip--) j++;
        a->target[i] = x[j];
        a->number[i] = told;
    }
    cr_assert_eq(told, asked);
    cr_assert_eq(n, 40 + told);
}

static inline void induction_oracle(const int32_t *x, int64_t n, struct answer *a)
{
    int64_t triggers = 0;
    for (int64_t i = 0; i < n - 1; i++)
        if (!x[i]) {
            triggers++;
            a->target[n - 1] = x[i + 1];
        }
    cr_assert(triggers == 1 && !x[n - 1] && a->target[n - 1] > 0);
    a->number[n - 1] = n;
}

enum { SYMBOLS = 20 };                      /* of mqar, overwrite and needle                        */

static inline void mqar_oracle(const int32_t *x, int64_t n, struct answer *a)
{
    int64_t value[SYMBOLS + 1] = { 0 }, pairs = 0, asked = 0;
    for (; 2 * pairs + 1 < n && x[2 * pairs + 1] > SYMBOLS; pairs++) {
        cr_assert(!value[x[2 * pairs]], "a key is told twice");
        value[x[2 * pairs]] = x[2 * pairs + 1];
    }
    for (int64_t i = 2 * pairs; i < n; i++) {
        if (!x[i]) continue;
        a->target[i] = value[x[i]];
        cr_assert(a->target[i] > SYMBOLS, "a key is asked for twice, or was never told");
        value[x[i]] = 0;
        a->number[i] = pairs;
        asked++;
    }
    cr_assert(pairs == asked && n == 64);
}

static inline void overwrite_oracle(const int32_t *x, int64_t n, struct answer *a)
{
    int64_t bar = 0, keys = 0;
    while (x[bar]) bar++;
    for (int64_t i = bar + 1; i < n; i++, keys++) {
        int64_t writes = 0;
        for (int64_t j = 0; j < bar; j += 2) {
            if (x[j] != x[i]) continue;
            cr_assert_neq(a->target[i], x[j + 1], "a value is told again");
            a->target[i] = x[j + 1];
            writes++;
        }
        a->number[i] = writes;
    }
    cr_assert_eq(keys, 5);
}

static inline void needle_oracle(const int32_t *x, int64_t n, struct answer *a)
{
    int64_t found = 0, marks = 0;
    cr_assert(n == 62 && x[n - 2] == 1);
    for (int64_t i = 0; i < n - 2; i++) {
        if (x[i] != 0) continue;
        marks++;
        if (x[i + 1] != x[n - 1]) continue;
        found++;
        a->target[n - 1] = x[i + 2];
        a->number[n - 1] = 10 * (i / 3) / 20;
    }
    cr_assert(found == 1 && marks == 3);
}

static inline void dyck_oracle(const int32_t *x, int64_t n, struct answer *a)
{
    int64_t stack[ROWS], depth = 0, deepest = 0;
    for (int64_t i = 0; i < n; i++) {
        if (x[i] % 2) cr_assert(depth > 0 && stack[--depth] == x[i] / 2, "not well-formed");
        else stack[depth++] = x[i] / 2;
        if (depth > deepest) deepest = depth;
        if (i + 1 == n || x[i + 1] % 2 == 0) continue;
        a->target[i] = 2 * stack[depth - 1] + 1;
        a->number[i] = depth;
    }
    cr_assert(depth == 0 && deepest <= 4 && n == 30);
}

static const struct row_of_tasks {
    const char *name, *options, *slice;
    int64_t vocab;
    void (*oracle)(const int32_t *x, int64_t n, struct answer *);
} tasks[] = {
    { "parity", "lengths = 9, 12-14\n", "length", 2, parity_oracle },
    { "modular", "modulus = 7\nlargest = 3\nlengths = 9, 20\nscore = last\n", "length", 7, modular_oracle },
    { "word_problem", "lengths = 6, 12\n", "length", 6, s3_oracle },
    { "word_problem", "lengths = 5, 17\ngroup = s5\n", "length", 120, s5_oracle },
    { "word_problem", "lengths = 5, 17\ngroup = a5\n", "length", 60, a5_oracle },
    { "word_problem", "lengths = 5, 17\ngroup = s5\nelements = swaps\n", "length", 120, swaps_oracle },
    { "copy", "lengths = 3, 7, 20\n", "length", 27, copy_oracle },
    { "selective_copy", "length = 40\ntokens = 2, 6, 40\n", "tokens", 18, selective_oracle },
    { "induction", "lengths = 6, 30\n", "length", 17, induction_oracle },
    { "mqar", "length = 64\npairs = 2, 5, 16\nsymbols = 20\n", "pairs", 41, mqar_oracle },
    { "overwrite", "keys = 5\nwrites = 1, 2, 9\nsymbols = 20\n", "writes", 41, overwrite_oracle },
    { "needle", "length = 61\nneedles = 3\nsymbols = 20\n", "depth", 22, needle_oracle },
    { "dyck", "length = 30\nkinds = 3\ndepth = 4\n", "depth", 6, dyck_oracle },
};

#endif
