/* modular - the sum of the digits so far, modulo a number.
 *
 *     target_t = (x_1 + ... + x_t) mod m,    x_i in 0 .. largest
 *
 * largest = 1 counts ones, modulus = 2 is parity.  The state must turn through m places, which
 * one Householder factor with real eigenvalues cannot for m > 2 (a rotation takes two):
 * Grazzi et al., arXiv 2411.12537; Siems et al., arXiv 2502.10297.                       */
#include "../shared/examples.h"

struct conf {
    struct chi_list lengths, heldout_lengths;
    int64_t modulus, largest;
    int32_t score;
    int64_t train, heldout;
};

enum { SCORE_ALL, SCORE_LAST };

static const struct chi_option options[] = {
    CHI_LIST(struct conf, lengths, "3-40", 1, 8192, "digits, drawn for each example", 0),
    CHI_LIST(struct conf, heldout_lengths, "", 1, 8192, "the same of held-out examples; empty: as in training", 0),
    CHI_INT(struct conf, modulus, "5", 2, 1000000, "m", 0),
    CHI_INT(struct conf, largest, "0", 0, 1000000, "largest digit, below m; 0: m - 1", 0),
    CHI_ENUM(struct conf, score, "all", "all|last", "rows that are scored", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "1000", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

struct modular {
    struct made made;                       /* first                                    */
    int64_t modulus, largest;
    int32_t score;
};

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct modular *t = self;
    t->made.n[CHI_SPLIT_TRAIN] = c->train;
    t->made.n[CHI_SPLIT_HELDOUT] = c->heldout;
    chi_status s = sizes_open(h, &t->made.sizes, "length", &c->lengths, &c->heldout_lengths);
    if (s != CHI_OK) return s;
    if (c->largest >= c->modulus)
        return h->fail(h, CHI_ECONF, "largest = %lld is no digit modulo %lld: set it below", (long long)c->largest,
                       (long long)c->modulus);
    for (int split = 0; split < CHI_SPLITS; split++) t->made.longest[split] = sizes_longest(&t->made.sizes, split);
    t->score = c->score;
    t->modulus = t->made.vocab = c->modulus;
    t->largest = c->largest ? c->largest : c->modulus - 1;
    return CHI_OK;
}

static void make(const void *self, int split, struct draws *d, struct rows *r)
{
    const struct modular *t = self;
    int32_t slice;
    int64_t n = draw_size(d, &t->made.sizes, split, &slice), sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t digit = draw_below(d, t->largest + 1);
        sum = (sum + digit) % t->modulus;
        if (t->score == SCORE_ALL || i == n - 1) put_row(r, digit, sum, slice);
        else put_read(r, digit);
    }
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    return example_of(h, split, i, (struct rows){ input, target, slice, 0 }, self, make);
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct modular), .open = open_task,
    .examples = made_examples, .longest = made_longest, .vocab = made_vocab, .slice = made_slice,
    .example = example,
};

static const struct chi_component modular = {
    .struct_size = sizeof modular, .kind = CHI_TASK, .name = "modular", .revision = 1,
    .summary = "the sum of the digits so far, modulo a number",
    .papers = "2411.12537 2502.10297",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(modular, .version = "1.0", .license = "MIT", .summary = "the sum of the digits so far, modulo a number",
           .components = CHI_COMPONENTS(&modular));
