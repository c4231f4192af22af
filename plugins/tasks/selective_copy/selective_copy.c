/* selective_copy - a few symbols among blanks, wanted at the end without the blanks.
 *
 *     inputs  . . s_1 . s_2 . . . s_n .   ?    ?  ...  ?
 *     targets -                          s_1  s_2 ... s_n
 *
 * Where the symbols lie is random, so what is taken in must depend on the content: a fixed
 * convolution cannot.  Source: Gu and Dao, arXiv 2312.00752.                            */
#include "../shared/examples.h"

struct conf {
    struct chi_list tokens, heldout_tokens;
    int64_t length, symbols;
    int64_t train, heldout;
};

static const struct chi_option options[] = {
    CHI_LIST(struct conf, tokens, "4, 8, 16", 1, 4096, "symbols to copy, drawn for each example", 0),
    CHI_LIST(struct conf, heldout_tokens, "", 1, 4096, "the same of held-out examples; empty: as in training", 0),
    CHI_INT(struct conf, length, "64", 2, 8192, "rows before the questions", 0),
    CHI_INT(struct conf, symbols, "16", 2, 1000000, "different symbols", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "1000", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

enum { BLANK, ASK, FIRST, TOKENS = 4096 };              /* ids: blank, question, symbols   */

struct selective_copy {
    struct made made;                       /* first                                    */
    int64_t length, symbols;
};

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct selective_copy *t = self;
    t->made.n[CHI_SPLIT_TRAIN] = c->train;
    t->made.n[CHI_SPLIT_HELDOUT] = c->heldout;
    chi_status s = sizes_open(h, &t->made.sizes, "tokens", &c->tokens, &c->heldout_tokens);
    if (s != CHI_OK) return s;
    for (int split = 0; split < CHI_SPLITS; split++) {
        int64_t most = sizes_longest(&t->made.sizes, split);
        if (most > c->length)
            return h->fail(h, CHI_ECONF, "length %lld has no room for %lld tokens: raise it", (long long)c->length,
                           (long long)most);
        t->made.longest[split] = c->length + most;
    }
    t->length = c->length;
    t->symbols = c->symbols;
    t->made.vocab = FIRST + c->symbols;
    return CHI_OK;
}

static void make(const void *self, int split, struct draws *d, struct rows *r)
{
    const struct selective_copy *t = self;
    int32_t symbol[TOKENS], slice;
    int64_t n = draw_size(d, &t->made.sizes, split, &slice), k = 0;
    for (int64_t i = 0; i < t->length; i++)         /* each choice of n rows is as likely */
        if (draw_below(d, t->length - i) < n - k) {
            symbol[k] = (int32_t)(FIRST + draw_below(d, t->symbols));
            put_read(r, symbol[k++]);
        } else
            put_read(r, BLANK);
    for (int64_t i = 0; i < n; i++) put_row(r, ASK, symbol[i], slice);
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    return example_of(h, split, i, (struct rows){ input, target, slice, 0 }, self, make);
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct selective_copy), .open = open_task,
    .examples = made_examples, .longest = made_longest, .vocab = made_vocab, .slice = made_slice,
    .example = example,
};

static const struct chi_component selective_copy = {
    .struct_size = sizeof selective_copy, .kind = CHI_TASK, .name = "selective_copy", .revision = 1,
    .summary = "symbols among blanks, copied without the blanks",
    .papers = "2312.00752 1511.06464",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(selective_copy, .version = "1.0", .license = "MIT",
           .summary = "symbols among blanks, copied without the blanks",
           .components = CHI_COMPONENTS(&selective_copy));
