/* copy - a string, a bar, and the string again, each symbol behind the one before it.
 *
 *     inputs  s_1 ... s_n  |   s_1 ... s_(n-1)
 *     targets -   ... -   s_1  s_2 ... s_n
 *
 * A state of fixed size holds strings up to a length that is proportional to it, attention
 * holds all of them: Jelassi et al., arXiv 2402.01032.                                */
#include "../shared/examples.h"

struct conf {
    struct chi_list lengths, heldout_lengths;
    int64_t symbols;
    int64_t train, heldout;
};

static const struct chi_option options[] = {
    CHI_LIST(struct conf, lengths, "8, 16, 32", 1, 4096, "symbols of a string, drawn for each example", 0),
    CHI_LIST(struct conf, heldout_lengths, "", 1, 4096, "the same of held-out examples; empty: as in training", 0),
    CHI_INT(struct conf, symbols, "26", 2, 1000000, "different symbols", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "1000", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

enum { BAR, FIRST };                                    /* ids: the bar, symbols           */

struct copy {
    struct made made;                       /* first                                    */
    int64_t symbols;
};

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct copy *t = self;
    t->made.n[CHI_SPLIT_TRAIN] = c->train;
    t->made.n[CHI_SPLIT_HELDOUT] = c->heldout;
    chi_status s = sizes_open(h, &t->made.sizes, "length", &c->lengths, &c->heldout_lengths);
    if (s != CHI_OK) return s;
    for (int split = 0; split < CHI_SPLITS; split++)
        t->made.longest[split] = 2 * sizes_longest(&t->made.sizes, split);
    t->symbols = c->symbols;
    t->made.vocab = FIRST + c->symbols;
    return CHI_OK;
}

static void make(const void *self, int split, struct draws *d, struct rows *r)
{
    const struct copy *t = self;
    int32_t slice;
    int64_t n = draw_size(d, &t->made.sizes, split, &slice);
    for (int64_t i = 0; i < n; i++) put_read(r, FIRST + draw_below(d, t->symbols));
    for (int64_t i = 0; i < n; i++) put_row(r, i ? r->input[i - 1] : BAR, r->input[i], slice);
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    return example_of(h, split, i, (struct rows){ input, target, slice, 0 }, self, make);
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct copy), .open = open_task,
    .examples = made_examples, .longest = made_longest, .vocab = made_vocab, .slice = made_slice,
    .example = example,
};

static const struct chi_component copy = {
    .struct_size = sizeof copy, .kind = CHI_TASK, .name = "copy", .revision = 1,
    .summary = "a string, and the same string again",
    .papers = "2402.01032",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(copy, .version = "1.0", .license = "MIT", .summary = "a string, and the same string again",
           .components = CHI_COMPONENTS(&copy));
