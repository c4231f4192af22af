/* induction - what came behind the trigger the first time?
 *
 *     s s s T x s s s ... s T        target at the last T: x
 *
 * The trigger is one fixed symbol that occurs twice: somewhere, and in the last row.  It
 * needs two steps, find the earlier place and read the next symbol: an induction head
 * (Olsson et al., arXiv 2209.11895), in the form of Gu and Dao (arXiv 2312.00752).      */
#include "../shared/examples.h"

struct conf {
    struct chi_list lengths, heldout_lengths;
    int64_t symbols;
    int64_t train, heldout;
};

static const struct chi_option options[] = {
    CHI_LIST(struct conf, lengths, "16, 32, 64", 3, 8192, "rows, drawn for each example", 0),
    CHI_LIST(struct conf, heldout_lengths, "", 3, 8192, "the same of held-out examples; empty: as in training", 0),
    CHI_INT(struct conf, symbols, "16", 2, 1000000, "different symbols beside the trigger", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "1000", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

enum { TRIGGER, FIRST };                                /* ids: the trigger, symbols       */

struct induction {
    struct made made;                       /* first                                    */
    int64_t symbols;
};

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct induction *t = self;
    t->made.n[CHI_SPLIT_TRAIN] = c->train;
    t->made.n[CHI_SPLIT_HELDOUT] = c->heldout;
    chi_status s = sizes_open(h, &t->made.sizes, "length", &c->lengths, &c->heldout_lengths);
    if (s != CHI_OK) return s;
    for (int split = 0; split < CHI_SPLITS; split++) t->made.longest[split] = sizes_longest(&t->made.sizes, split);
    t->symbols = c->symbols;
    t->made.vocab = FIRST + c->symbols;
    return CHI_OK;
}

static void make(const void *self, int split, struct draws *d, struct rows *r)
{
    const struct induction *t = self;
    int32_t slice;
    int64_t n = draw_size(d, &t->made.sizes, split, &slice), at = draw_below(d, n - 2);
    for (int64_t i = 0; i < n - 1; i++) put_read(r, i == at ? TRIGGER : FIRST + draw_below(d, t->symbols));
    put_row(r, TRIGGER, r->input[at + 1], slice);
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    return example_of(h, split, i, (struct rows){ input, target, slice, 0 }, self, make);
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct induction), .open = open_task,
    .examples = made_examples, .longest = made_longest, .vocab = made_vocab, .slice = made_slice,
    .example = example,
};

static const struct chi_component induction = {
    .struct_size = sizeof induction, .kind = CHI_TASK, .name = "induction", .revision = 1,
    .summary = "the symbol behind the earlier trigger",
    .papers = "2209.11895 2312.00752",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(induction, .version = "1.0", .license = "MIT", .summary = "the symbol behind the earlier trigger",
           .components = CHI_COMPONENTS(&induction));
