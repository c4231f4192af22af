/* overwrite - recall of keys that are written several times: the last value counts.
 *
 *     k_2 v  k_1 v'  k_2 v''  ...  | k_1 k_2 ...     target at k_j: the last value told for it
 *
 * Each of the example's keys is written as often as the list `writes` gives it, with another
 * value each time; all writes are shuffled; behind a bar each key is asked for once.  A memory
 * that only adds, S += v k^T, answers with the sum of all values of a key; the delta rule,
 * S += (v - S k) k^T, takes the old one out first (Schlag et al., arXiv 2102.11174).   */
#include "../shared/examples.h"

struct conf {
    struct chi_list writes, heldout_writes;
    int64_t keys, symbols;
    int64_t train, heldout;
};

static const struct chi_option options[] = {
    CHI_LIST(struct conf, writes, "1, 2, 4, 8", 1, 256, "how often a key is written, drawn for each key", 0),
    CHI_LIST(struct conf, heldout_writes, "", 1, 256, "the same of held-out examples; empty: as in training", 0),
    CHI_INT(struct conf, keys, "8", 1, 1024, "keys of an example", 0),
    CHI_INT(struct conf, symbols, "32", 2, 1000000, "different keys, and as many values", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "1000", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

enum { BAR, FIRST, KEYS = 1024, WRITES = 8192 };        /* ids: the bar, keys, values      */

struct overwrite {
    struct made made;                       /* first                                    */
    int64_t keys, symbols;
};

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct overwrite *t = self;
    t->made.n[CHI_SPLIT_TRAIN] = c->train;
    t->made.n[CHI_SPLIT_HELDOUT] = c->heldout;
    chi_status s = sizes_open(h, &t->made.sizes, "writes", &c->writes, &c->heldout_writes);
    if (s != CHI_OK) return s;
    for (int split = 0; split < CHI_SPLITS; split++) {
        int64_t most = sizes_longest(&t->made.sizes, split);
        if (c->keys * most > WRITES)
            return h->fail(h, CHI_ECONF, "%lld keys written up to %lld times are more than %d writes: ask for fewer",
                           (long long)c->keys, (long long)most, WRITES);
        if (c->keys > c->symbols || most > c->symbols)
            return h->fail(h, CHI_ECONF,
                           "%lld different keys and up to %lld different values of each want as many symbols, "
                           "but symbols is %lld", (long long)c->keys, (long long)most, (long long)c->symbols);
        t->made.longest[split] = c->keys * (2 * most + 1) + 1;
    }
    t->keys = c->keys;
    t->symbols = c->symbols;
    t->made.vocab = FIRST + 2 * c->symbols;
    return CHI_OK;
}

static void make(const void *self, int split, struct draws *d, struct rows *r)
{
    const struct overwrite *t = self;
    int32_t key[KEYS], slice[KEYS], ask[KEYS], value[WRITES], order[WRITES];
    int64_t next[KEYS], n = 0;              /* of key j: its next value's place           */
    draw_distinct(d, key, t->keys, t->symbols);
    for (int32_t j = 0; j < t->keys; j++) {
        int64_t writes = draw_size(d, &t->made.sizes, split, &slice[j]);
        draw_distinct(d, value + n, writes, t->symbols);
        next[j] = n;
        ask[j] = j;
        while (writes--) order[n++] = j;
    }
    draw_shuffled(d, order, n);
    for (int64_t i = 0; i < n; i++) {
        put_read(r, FIRST + key[order[i]]);
        put_read(r, FIRST + t->symbols + value[next[order[i]]++]);
    }
    put_read(r, BAR);
    draw_shuffled(d, ask, t->keys);
    for (int64_t i = 0; i < t->keys; i++)
        put_row(r, FIRST + key[ask[i]], FIRST + t->symbols + value[next[ask[i]] - 1], slice[ask[i]]);
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    return example_of(h, split, i, (struct rows){ input, target, slice, 0 }, self, make);
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct overwrite), .open = open_task,
    .examples = made_examples, .longest = made_longest, .vocab = made_vocab, .slice = made_slice,
    .example = example,
};

static const struct chi_component overwrite = {
    .struct_size = sizeof overwrite, .kind = CHI_TASK, .name = "overwrite", .revision = 1,
    .summary = "recall of keys that are written several times",
    .papers = "2102.11174 2406.06484",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(overwrite, .version = "1.0", .license = "MIT", .summary = "recall of keys that are written several times",
           .components = CHI_COMPONENTS(&overwrite));
