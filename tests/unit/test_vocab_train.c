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

/* ---- the definition, counted anew for each step ------------------------------------------------------ */

enum { WORDS = 10, LONG = 14, MOST = 400 };
struct plain { int id[WORDS][LONG], n[WORDS]; int64_t times[WORDS]; char *token[MOST]; int tokens; };

static int64_t count_pair(const struct plain *x, int left, int right)
{
    int64_t sum = 0;
    for (int w = 0; w < WORDS; w++)
        for (int i = 0; i + 1 < x->n[w]; i++)
            sum += x->id[w][i] == left && x->id[w][i + 1] == right ? x->times[w] : 0;
    return sum;
}

static bool best_pair(const struct plain *x, int64_t least, int *left, int *right)
{
    int64_t most = least - 1;
    for (int w = 0; w < WORDS; w++)
        for (int i = 0; i + 1 < x->n[w]; i++) {
            int l = x->id[w][i], r = x->id[w][i + 1];
            int64_t n = count_pair(x, l, r);
            if (n > most || (n == most && n >= least && (l < *left || (l == *left && r < *right))))
                most = n, *left = l, *right = r;
        }
    return most >= least;
}

static void join_plainly(struct plain *x, int left, int right)
{
    char *text = xprintf("%s%s", x->token[left], x->token[right]);
    int id = 0;
    while (id < x->tokens && strcmp(x->token[id], text) != 0) id++;
    if (id == x->tokens) x->token[x->tokens++] = text;
    else free(text);
    for (int w = 0; w < WORDS; w++) {
        int k = 0;
        for (int i = 0; i < x->n[w]; i++) {
            bool joins = i + 1 < x->n[w] && x->id[w][i] == left && x->id[w][i + 1] == right;
            x->id[w][k++] = joins ? id : x->id[w][i];
            i += joins;
        }
        x->n[w] = k;
    }
}

/* Words of a few letters, where counts rise and fall and pairs meet tokens that are there already            */
static void compare_with_plain(uint32_t seed, int letters, int64_t least)
{
    struct plain *x = xcalloc(1, sizeof *x);
    struct pieces p = { .n = 0 };
    struct vocab v;
    struct progress shown;
    int left = 0, right = 0;
    for (x->tokens = 0; x->tokens < 256; x->tokens++) x->token[x->tokens] = xprintf("%c", x->tokens ? x->tokens : 1);
    for (int w = 0; w < WORDS; w++) {
        unsigned char word[LONG];
        seed = seed * 1664525u + 1013904223u;
        x->n[w] = (int)(seed >> 20) % LONG + 1;
        x->times[w] = (int)(seed >> 10) % 5 + 1;
        for (int i = 0; i < x->n[w]; i++) {
            seed = seed * 1664525u + 1013904223u;
            x->id[w][i] = word[i] = (unsigned char)('a' + (seed >> 16) % (uint32_t)letters);
        }
        for (int64_t k = 0; k < x->times[w]; k++) pieces_count(&p, word, x->n[w]);
    }
    progress_begin(&shown, 0);
    vocab_train(&v, &p, MOST, least, &shown);
    while (x->tokens < MOST && best_pair(x, least, &left, &right)) join_plainly(x, left, right);
    cr_assert_eq(v.n, x->tokens);
    for (int64_t i = 256; i < v.n; i++) {
        char *t = token(&v, i);
        cr_assert_str_eq(t, x->token[i]);
        free(t);
    }
    for (int i = 0; i < x->tokens; i++) free(x->token[i]);
    free(x);
    vocab_free(&v);
    pieces_free(&p);
}

Test(vocab_train, heap_and_counts_do_what_the_definition_says)
{
    for (uint32_t seed = 0; seed < 300; seed++)
        compare_with_plain(seed * 7919, 1 + (int)(seed % 3), 1 + seed % 2);
}

/* A token that no tokenizer would read, and a piece that is none                                             */
Test(vocab_train, tokens_and_pieces_have_a_longest)
{
    static unsigned char run[1025];
    struct pieces p = { .n = 0 };
    struct vocab v;
    struct progress shown;
    int64_t longest = 0;
    memset(run, '=', sizeof run);
    for (int i = 0; i < 3; i++) pieces_count(&p, run, 1024);
    pieces_count(&p, run, 1025);
    cr_expect(p.n == 1 && p.skipped == 1025 && p.bytes == 3 * 1024 + 1025);
    progress_begin(&shown, 0);
    vocab_train(&v, &p, 300, 2, &shown);
    for (int64_t i = 0; i < v.n; i++) longest = max_i64(longest, v.at[i + 1] - v.at[i]);
    cr_expect_eq(longest, 256, "%lld", (long long)longest);
    vocab_free(&v);
    pieces_free(&p);
}
