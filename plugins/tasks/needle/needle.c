/* needle - one fact in a haystack, asked for at the end.
 *
 *     w w w  ! k v  w w w ... w w w  ? k       target at the last row: v
 *
 * Rows come in slots of three: three random words, or a needle: a mark, a key, a value.  There
 * may be several needles with different keys, one of which is asked for (a random one); a slice is the
 * depth at which that one lies, in tenths from the start.  Keys, values and words are the same
 * symbols, so only the mark tells them apart.  Source: multi-key retrieval of RULER, Hsieh et
 * al., arXiv 2404.06654.                                                                */
#include "../shared/examples.h"

struct conf {
    int64_t length, heldout_length, needles, symbols;
    int64_t train, heldout;
};

static const struct chi_option options[] = {
    CHI_INT(struct conf, length, "126", 3, 8192, "rows of the haystack, in threes", 0),
    CHI_INT(struct conf, heldout_length, "0", 0, 8192, "the same of held-out examples; 0: as in training", 0),
    CHI_INT(struct conf, needles, "1", 1, 1024, "needles in it", 0),
    CHI_INT(struct conf, symbols, "64", 2, 1000000, "different words, which are keys and values, too", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "1000", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

enum { MARK, ASK, FIRST, NEEDLES = 1024, DEPTHS = 10 };  /* ids: mark, question, words      */

struct needle {
    struct made made;                       /* first                                    */
    int64_t slots[CHI_SPLITS], needles, symbols;
};

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct needle *t = self;
    t->made.n[CHI_SPLIT_TRAIN] = c->train;
    t->made.n[CHI_SPLIT_HELDOUT] = c->heldout;
    t->slots[CHI_SPLIT_TRAIN] = c->length / 3;
    t->slots[CHI_SPLIT_HELDOUT] = (c->heldout_length ? c->heldout_length : c->length) / 3;
    for (int split = 0; split < CHI_SPLITS; split++) {
        if (t->slots[split] < c->needles)
            return h->fail(h, CHI_ECONF, "%lld rows are too short a haystack for %lld needles: each takes 3",
                           (long long)(3 * t->slots[split]), (long long)c->needles);
        t->made.longest[split] = 3 * t->slots[split] + 2;
    }
    if (c->needles > c->symbols)
        return h->fail(h, CHI_ECONF, "%lld needles want different keys, but symbols is %lld: raise it",
                       (long long)c->needles, (long long)c->symbols);
    for (int64_t i = 0; i < DEPTHS; i++) size_index(&t->made.sizes, "depth", i);
    t->needles = c->needles;
    t->symbols = c->symbols;
    t->made.vocab = FIRST + c->symbols;
    return CHI_OK;
}

static void make(const void *self, int split, struct draws *d, struct rows *r)
{
    const struct needle *t = self;
    int32_t key[NEEDLES], place[NEEDLES];
    int64_t slots = t->slots[split], asked = draw_below(d, t->needles), value = 0;
    draw_distinct(d, key, t->needles, t->symbols);
    draw_distinct(d, place, t->needles, slots);
    for (int64_t s = 0; s < slots; s++) {
        int64_t j = 0;
        while (j < t->needles && place[j] != s) j++;
        put_read(r, j < t->needles ? MARK : FIRST + draw_below(d, t->symbols));
        put_read(r, FIRST + (j < t->needles ? key[j] : draw_below(d, t->symbols)));
        put_read(r, FIRST + draw_below(d, t->symbols));
        if (j == asked) value = r->input[r->n - 1];
    }
    put_read(r, ASK);
    put_row(r, FIRST + key[asked], value, place[asked] * DEPTHS / slots);
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    return example_of(h, split, i, (struct rows){ input, target, slice, 0 }, self, make);
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct needle), .open = open_task,
    .examples = made_examples, .longest = made_longest, .vocab = made_vocab, .slice = made_slice,
    .example = example,
};

static const struct chi_component needle = {
    .struct_size = sizeof needle, .kind = CHI_TASK, .name = "needle", .revision = 1,
    .summary = "one fact in a haystack",
    .papers = "2404.06654",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(needle, .version = "1.0", .license = "MIT", .summary = "one fact in a haystack",
           .components = CHI_COMPONENTS(&needle));
