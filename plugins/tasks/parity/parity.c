/* parity - is the number of ones so far odd?
 *
 *     target_t = x_1 xor ... xor x_t
 *
 * One bit of state that flips.  A linear recurrence whose transition has no negative
 * eigenvalue cannot do it for all lengths at finite precision, nor can a transformer of
 * fixed depth: Grazzi et al., arXiv 2411.12537; Hahn, arXiv 1906.06755.                 */
#include "../shared/examples.h"

struct conf {
    struct chi_list lengths, heldout_lengths;
    int32_t score;
    int64_t train, heldout;
};

enum { SCORE_ALL, SCORE_LAST };

static const struct chi_option options[] = {
    CHI_LIST(struct conf, lengths, "3-40", 1, 8192, "bits, drawn for each example", 0),
    CHI_LIST(struct conf, heldout_lengths, "", 1, 8192, "the same of held-out examples; empty: as in training", 0),
    CHI_ENUM(struct conf, score, "all", "all|last", "rows that are scored", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "1000", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

struct parity {
    struct made made;                       /* first                                    */
    int32_t score;
};

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct parity *t = self;
    t->made.n[CHI_SPLIT_TRAIN] = c->train;
    t->made.n[CHI_SPLIT_HELDOUT] = c->heldout;
    chi_status s = sizes_open(h, &t->made.sizes, "length", &c->lengths, &c->heldout_lengths);
    if (s != CHI_OK) return s;
    for (int split = 0; split < CHI_SPLITS; split++) t->made.longest[split] = sizes_longest(&t->made.sizes, split);
    t->score = c->score;
    t->made.vocab = 2;
    return CHI_OK;
}

static void make(const void *self, int split, struct draws *d, struct rows *r)
{
    const struct parity *t = self;
    int32_t slice;
    int64_t n = draw_size(d, &t->made.sizes, split, &slice), sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t bit = draw_below(d, 2);
        sum ^= bit;
        if (t->score == SCORE_ALL || i == n - 1) put_row(r, bit, sum, slice);
        else put_read(r, bit);
    }
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    return example_of(h, split, i, (struct rows){ input, target, slice, 0 }, self, make);
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct parity), .open = open_task,
    .examples = made_examples, .longest = made_longest, .vocab = made_vocab, .slice = made_slice,
    .example = example,
};

static const struct chi_component parity = {
    .struct_size = sizeof parity, .kind = CHI_TASK, .name = "parity", .revision = 1,
    .summary = "whether the number of ones so far is odd",
    .papers = "2411.12537 1906.06755",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(parity, .version = "1.0", .license = "MIT", .summary = "whether the number of ones so far is odd",
           .components = CHI_COMPONENTS(&parity));
