/* @name@.c - which examples a model learns from and is measured on; why; the source.
 *
 * This one asks for the largest of the digits so far: inputs x_1 x_2 ..., targets max(x_1 .. x_t).
 * A slice is the target, so that accuracy is told apart by it.  What is held out follows from the
 * input: those with (sum of t x_t) mod 10 = 0, so that none of them is trained on:
 *
 *     example i of a split = the first draw of that split in the i-th sequence of draws
 *
 * Source: (paper or data set).                                                                     */
#include <chimera/data.h>
#include <chimera/plugin.h>

struct conf {                               /* what [task] says; the core fills it                */
    int64_t length, train, heldout;
};

static const struct chi_option options[] = {
    CHI_INT(struct conf, length, "16", 2, 4096, "rows of an example", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "200", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

enum { DIGITS = 10 };                       /* ids 0..9                                           */

struct task { int64_t length, n[CHI_SPLITS]; };

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    (void)h;
    *(struct task *)self = (struct task){ c->length, { c->train, c->heldout } };
    return CHI_OK;
}

static int64_t examples(const void *self, int split)
{
    return ((const struct task *)self)->n[split];
}

static int64_t longest(const void *self, int split)
{
    (void)split;
    return ((const struct task *)self)->length;
}

static int64_t vocab(const void *self)
{
    (void)self;
    return DIGITS;
}

static const char *slice_name(const void *self, int64_t i)
{
    static const char *const name[DIGITS] = {
        "max_0", "max_1", "max_2", "max_3", "max_4", "max_5", "max_6", "max_7", "max_8", "max_9",
    };
    (void)self;
    return i < DIGITS ? name[i] : NULL;
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    const struct task *t = self;
    uint64_t draw = 0;
    int64_t sum;
    do {
        int32_t most = 0;
        sum = 0;
        for (int64_t r = 0; r < t->length; r++) {
            input[r] = (int32_t)(h->random(h, (uint64_t)i * CHI_SPLITS + (uint64_t)split, draw++) % DIGITS);
            most = input[r] > most ? input[r] : most;
            target[r] = slice[r] = most;
            sum += (r + 1) * input[r];
        }
    } while ((sum % 10 == 0) != (split == CHI_SPLIT_HELDOUT));
    return t->length;
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct task), .open = open_task,
    .examples = examples, .longest = longest, .vocab = vocab, .slice = slice_name, .example = example,
};

static const struct chi_component component = {
    .struct_size = sizeof component, .kind = CHI_TASK, .name = "@name@", .revision = 1,
    .summary = "the largest digit so far",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(@name@, .version = "0.1", .license = "MIT", .summary = "the largest digit so far",
           .components = CHI_COMPONENTS(&component));
