/* test_head.c - logits of an allowed set: the bits of all logits, at the cost of the tiles that hold an id; and a
 * sampler that draws from them what it would draw with everything else masked.                              */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "head.h"
#include "pool.h"
#include "sample.h"
#include "spec.h"

enum { VOCAB = 1003, D = 128, ROWS = 19 };

static bool own_head;                   /* with weights of its own, and a cap                                  */

static struct model *open_model(const char *embed, struct spec **spec)
{
    struct config *c;
    struct model *m;
    char *text = xprintf("[model]\nhidden_size = %d\nnum_hidden_layers = 1\nvocab_size = %d\ninitializer_range = "
                         "0.1\n%s"
                         "layer_pattern = GD\nffn_pattern = MLP\n[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\n"
                         "head_dim = 64\n[layer.MLP]\nuse = swiglu\nintermediate_size = 64\n[linear.embed]\n%s", D,
                         VOCAB, own_head ? "tie_word_embeddings = no\nlogit_soft_cap = 2\n" : "", embed);
    cr_assert_eq(config_load_text(&c, "test", text, NULL, 0), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(spec, c, SPEC_MODEL), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_open(&m, *spec, MODEL_INFER, ROWS, ROWS), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(m, 5), CHI_OK, "%s", fail_text());
    free(text);
    return m;
}

static void fill(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = (float)(i * 7919 % 1009) / 400 - 1.2f;
}

static void compare(struct model *m, const char *list, int64_t rows)
{
    static float hidden[ROWS * D], all[ROWS * VOCAB], some[ROWS * VOCAB];
    struct shortlist l;
    int32_t *id;
    int64_t n;
    fill(hidden, ROWS * D);
    cr_assert_eq(ids_parse(list, "list", &id, &n), CHI_OK, "%s", fail_text());
    cr_assert_eq(shortlist_open(&l, id, n, VOCAB), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_logits(m, hidden, rows, all), CHI_OK, "%s", fail_text());
    memset(some, 0xff, sizeof some);
    cr_assert_eq(model_logits_of(m, hidden, rows, &l, some), CHI_OK, "%s", fail_text());
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < l.n; i++)
            cr_assert_eq(memcmp(&some[r * l.n + i], &all[r * VOCAB + l.id[i]], sizeof *some), 0,
                         "%s: row %lld, id %d", list, (long long)r, (int)l.id[i]);
    free(id);
    shortlist_close(&l);
}

Test(head, bits_of_all_logits)
{
    static const char *const embed[] = { "quantizer = f32", "quantizer = bf16", "quantizer = int8",
                                         "quantizer = int8\nextra_rmsnorm = yes",
                                         "quantizer = ternary", "quantizer = ternary\nencoding = tl2" };
    static const char *const list[] = { "0", "1002", "5 5 3", "0-1002", "15-16", "1 130 131 400-640 999-1002",
                                        "7,23,39,55,71,87,103,119,135,151" };
    for (int64_t e = 0; e < COUNT(embed) + 2; e++) {
        struct spec *spec;
        own_head = e >= COUNT(embed);
        struct model *m = open_model(embed[e % COUNT(embed)], &spec);
        for (int threads = 1; threads < 4; threads++) {
            pool_threads(threads);
            for (int64_t i = 0; i < COUNT(list); i++)
                for (int64_t rows = 1; rows <= ROWS; rows += 9) compare(m, list[i], rows);
        }
        model_close(m);
        spec_close(spec);
    }
}

/* No run reaches over a tile that holds no id, and each is in one                                           */
Test(head, cost_is_that_of_the_set)
{
    int32_t *id;
    int64_t n, rows = 0;
    struct shortlist l;
    cr_assert_eq(ids_parse("3 9 17 500 900-1000", "list", &id, &n), CHI_OK);
    cr_assert_eq(shortlist_open(&l, id, n, VOCAB), CHI_OK);
    for (int64_t j = 0; j < l.n_run; j++)
        rows += l.id[l.first[j + 1] - 1] / 16 * 16 + 16 - l.id[l.first[j]] / 16 * 16;
    cr_assert_eq(rows, 16 * (2 + 1 + 7), "%lld", (long long)rows);
    cr_assert_eq(l.first[0], 0);
    cr_assert_eq(l.first[l.n_run], l.n);
    cr_assert_eq(shortlist_find(&l, 17), 2);
    cr_assert_eq(shortlist_find(&l, 18), -1);
    free(id);
    shortlist_close(&l);
}

Test(head, what_is_no_list)
{
    static const struct { const char *text, *say; } bad[] = {
        { "", "names no token" }, { " ,\n", "names no token" }, { "1 x", "found 'x'" }, { "5-3", "found '5-3'" },
            { "-1", "found '-1'" },
        { "1\n2\n3-", "line 3" }, { "99999999999999999999", "found" }, { "0-4294967296", "below 2^31" },
        { "1;2", "found '1;2'" },
    };
    int32_t *id, out[] = { VOCAB }, below[] = { -1 };
    int64_t n;
    struct shortlist l;
    for (int64_t i = 0; i < COUNT(bad); i++) {
        cr_assert_eq(ids_parse(bad[i].text, "list", &id, &n), CHI_ECONF, "%s", bad[i].text);
        cr_assert(strstr(fail_text(), bad[i].say), "%s: %s", bad[i].text, fail_text());
    }
    cr_assert_eq(shortlist_open(&l, out, 1, VOCAB), CHI_ECONF);
    cr_assert_eq(shortlist_open(&l, below, 1, VOCAB), CHI_ECONF);
    cr_assert_eq(shortlist_open(&l, out, 0, VOCAB), CHI_ECONF);
}

/* The sampler of a shortlist draws what the sampler of all draws with the rest at -infinity                  */
Test(head, draws_as_if_masked)
{
    static float all[VOCAB], some[VOCAB];
    static const struct sample_options how[] = {
        { 0, 1, 1, 0, 1 }, { 0.8, 0.9, 1.3, 0, 1 }, { 1.5, 1, 1, 4, 2 }, { 1, 0.5, 1.1, 7, 3 },
    };
    int32_t *id, recent[] = { 9, 500, 910, 11 }, place[4];
    int64_t n;
    struct shortlist l;
    struct sampler full, few;
    cr_assert_eq(ids_parse("3 9 17 500 900-930", "list", &id, &n), CHI_OK);
    cr_assert_eq(shortlist_open(&l, id, n, VOCAB), CHI_OK);
    cr_assert_eq(sampler_open(&full, VOCAB), CHI_OK);
    cr_assert_eq(sampler_open(&few, l.n), CHI_OK);
    fill(some, l.n);
    for (int64_t i = 0; i < VOCAB; i++) all[i] = -INFINITY;
    for (int64_t i = 0; i < l.n; i++) all[l.id[i]] = some[i];
    for (int64_t i = 0; i < COUNT(recent); i++) place[i] = (int32_t)shortlist_find(&l, recent[i]);
    for (int64_t h = 0; h < COUNT(how); h++)
        for (uint64_t at = 0; at < 200; at++) {
            int32_t a, b;
            cr_assert_eq(sample(&full, &how[h], all, recent, COUNT(recent), 4, at, &a), CHI_OK);
            cr_assert_eq(sample(&few, &how[h], some, place, COUNT(place), 4, at, &b), CHI_OK);
            cr_assert_eq(a, l.id[b]);
        }
    sampler_close(&full);
    sampler_close(&few);
    free(id);
    shortlist_close(&l);
}
