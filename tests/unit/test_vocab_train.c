/* test_vocab_train.c - which pairs the training of a vocabulary joins, and in which order.              */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "vocab_train.h"

static char *token(const struct vocab *v, int64_t i)
{
    return xprintf("%.*s", (int)(v->at[i + 1] - v->at[i]), (const char *)v->text + v->at[i]);
}

/* By hand: in "abab" x 3, "bc" x 6, "cd" x 6 the pair ab is there 6 times, bc and cd too: the lowest ids first, ab;
 * then bc before cd; abab 3 times; then nothing is there twice                                                    */
Test(vocab_train, training_joins_the_most_frequent_pair_and_breaks_ties_by_ids)
{
    static const struct { const char *piece; int times; } text[] = { { "abab", 3 }, { "cd", 6 }, { "bc", 6 },
                                                                     { "x", 9 } };
    static const char *const want[] = { "ab", "bc", "cd", "abab" };
    struct pieces p = { .n = 0 };
    struct vocab v;
    struct progress shown;
    progress_begin(&shown, 0);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < text[i].times; k++)
            pieces_count(&p, (const unsigned char *)text[i].piece, (int64_t)strlen(text[i].piece));
    vocab_train(&v, &p, 1000, 2, &shown);
    cr_assert_eq(v.n, 260, "%lld", (long long)v.n);
    for (int i = 0; i < 4; i++) {
        char *t = token(&v, 256 + i);
        cr_assert_str_eq(t, want[i]);
        free(t);
    }
    vocab_free(&v);
    vocab_train(&v, &p, 258, 2, &shown);
    cr_assert_eq(v.n, 258);
    vocab_free(&v);
    vocab_train(&v, &p, 1000, 4, &shown);
    cr_assert_eq(v.n, 259);
    vocab_free(&v);
    pieces_free(&p);
}
