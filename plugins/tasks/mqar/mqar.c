/* mqar - multi-query associative recall: pairs are told, then each key is asked for once.
 *
 *     k_1 v_1 k_2 v_2 ... k_n v_n   then   . . k_3 . . . k_1 . ...      target at k_j: v_j
 *
 * Behind the pairs lie (length - 2 n) / 2 slots of two rows; a key is asked in slot
 *
 *     g = floor((1 + u ((m + 1)^a - 1))^(1/a)) - 1,   u uniform in [0, 1), m slots
 *
 * (probability about x^(a-1) of slot x = 1..m: most questions come soon), or, where that is
 * taken, in the next free one, round.  Source: Arora et al., arXiv 2312.04927.        */
#include <chimera/math.h>
#include "../shared/examples.h"

struct conf {
    struct chi_list pairs, heldout_pairs;
    int64_t length, symbols;
    double  power;
    int64_t train, heldout;
};

static const struct chi_option options[] = {
    CHI_LIST(struct conf, pairs, "4, 8, 16", 1, 1024, "pairs to remember, drawn for each example", 0),
    CHI_LIST(struct conf, heldout_pairs, "", 1, 1024, "the same of held-out examples; empty: as in training", 0),
    CHI_INT(struct conf, length, "128", 4, 8192, "rows of an example", 0),
    CHI_INT(struct conf, symbols, "64", 2, 1000000, "different keys, and as many values", 0),
    CHI_FLOAT(struct conf, power, "0.01", 0.001, 4, "a: how late questions come; 1: evenly", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "1000", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

enum { BLANK, FIRST, PAIRS = 1024, SLOTS = 4096 };      /* ids: blank, keys, values        */

struct mqar {
    struct made made;                       /* first                                    */
    int64_t length, symbols;
    float   power;
};

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct mqar *t = self;
    t->made.n[CHI_SPLIT_TRAIN] = c->train;
    t->made.n[CHI_SPLIT_HELDOUT] = c->heldout;
    chi_status s = sizes_open(h, &t->made.sizes, "pairs", &c->pairs, &c->heldout_pairs);
    if (s != CHI_OK) return s;
    int64_t most = sizes_longest(&t->made.sizes, CHI_SPLIT_TRAIN),
        held = sizes_longest(&t->made.sizes, CHI_SPLIT_HELDOUT);
    if (held > most) most = held;
    if (4 * most > c->length)
        return h->fail(h, CHI_ECONF,
                       "length %lld is too short for %lld pairs and their questions: set it to %lld or more",
                       (long long)c->length, (long long)most, (long long)(4 * most));
    if (most > c->symbols)
        return h->fail(h, CHI_ECONF, "%lld pairs want different keys, but symbols is %lld: raise it", (long long)most,
                       (long long)c->symbols);
    t->length = c->length;
    t->symbols = c->symbols;
    t->power = (float)c->power;
    t->made.longest[CHI_SPLIT_TRAIN] = t->made.longest[CHI_SPLIT_HELDOUT] = c->length;
    t->made.vocab = FIRST + 2 * c->symbols;
    return CHI_OK;
}

static int64_t draw_slot(struct draws *d, int64_t slots, float a)
{
    float most = chi_exp(a * chi_log((float)slots + 1)), u = draw_float(d);
    int64_t x = (int64_t)chi_exp(chi_log(1 + u * (most - 1)) / a);
    return x < 1 ? 0 : x > slots ? slots - 1 : x - 1;
}

static int64_t free_slot(const int32_t *asked, int64_t slots, int64_t at)
{
    while (asked[at] >= 0) at = at + 1 < slots ? at + 1 : 0;
    return at;
}

static void make(const void *self, int split, struct draws *d, struct rows *r)
{
    const struct mqar *t = self;
    int32_t key[PAIRS], value[PAIRS], asked[SLOTS], slice;
    int64_t n = draw_size(d, &t->made.sizes, split, &slice), slots = (t->length - 2 * n) / 2;
    draw_distinct(d, key, n, t->symbols);
    draw_distinct(d, value, n, t->symbols);
    for (int64_t i = 0; i < n; i++) {
        put_read(r, FIRST + key[i]);
        put_read(r, FIRST + t->symbols + value[i]);
    }
    for (int64_t i = 0; i < slots; i++) asked[i] = -1;
    for (int64_t i = 0; i < n; i++) asked[free_slot(asked, slots, draw_slot(d, slots, t->power))] = (int32_t)i;
    for (int64_t i = 0; i < slots; i++) {
        if (asked[i] < 0) put_read(r, BLANK);
        else put_row(r, FIRST + key[asked[i]], FIRST + t->symbols + value[asked[i]], slice);
        put_read(r, BLANK);
    }
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    return example_of(h, split, i, (struct rows){ input, target, slice, 0 }, self, make);
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct mqar), .open = open_task,
    .examples = made_examples, .longest = made_longest, .vocab = made_vocab, .slice = made_slice,
    .example = example,
};

static const struct chi_component mqar = {
    .struct_size = sizeof mqar, .kind = CHI_TASK, .name = "mqar", .revision = 1,
    .summary = "multi-query associative recall",
    .papers = "2312.04927",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(mqar, .version = "1.0", .license = "MIT", .summary = "multi-query associative recall",
           .components = CHI_COMPONENTS(&mqar));
