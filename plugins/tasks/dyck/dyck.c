/* dyck - which bracket must close?
 *
 *     ( [ ] { } )      target before each closing bracket: that bracket
 *
 * Well-formed strings of brackets of several kinds, nested up to a depth.  Only rows whose next
 * bracket closes are scored: it is the one on top of the stack.  A slice is the depth of the
 * stack there.  Each row opens or closes with the same probability where both are possible.
 * Source: Dyck-(k, m), Hewitt et al., arXiv 2010.07515.                                  */
#include "../shared/examples.h"

struct conf {
    int64_t length, heldout_length, kinds, depth;
    int64_t train, heldout;
};

static const struct chi_option options[] = {
    CHI_INT(struct conf, length, "64", 2, 8192, "brackets, an even number", 0),
    CHI_INT(struct conf, heldout_length, "0", 0, 8192, "the same of held-out examples; 0: as in training", 0),
    CHI_INT(struct conf, kinds, "4", 2, 1000, "kinds of brackets", 0),
    CHI_INT(struct conf, depth, "8", 1, 60, "deepest nesting", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "1000", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

enum { DEPTH = 60 };                    /* id 2 k opens a bracket of kind k, 2 k + 1 closes it */

struct dyck {
    struct made made;                       /* first                                    */
    int64_t length[CHI_SPLITS], kinds, depth;
};

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct dyck *t = self;
    t->made.n[CHI_SPLIT_TRAIN] = c->train;
    t->made.n[CHI_SPLIT_HELDOUT] = c->heldout;
    t->length[CHI_SPLIT_TRAIN] = c->length;
    t->length[CHI_SPLIT_HELDOUT] = c->heldout_length ? c->heldout_length : c->length;
    for (int split = 0; split < CHI_SPLITS; split++) {
        if (t->length[split] % 2)
            return h->fail(h, CHI_ECONF, "%lld brackets cannot be well-formed: set an even length",
                           (long long)t->length[split]);
        t->made.longest[split] = t->length[split];
    }
    for (int64_t i = 1; i <= c->depth; i++) size_index(&t->made.sizes, "depth", i);
    t->kinds = c->kinds;
    t->depth = c->depth;
    t->made.vocab = 2 * c->kinds;
    return CHI_OK;
}

static void make(const void *self, int split, struct draws *d, struct rows *r)
{
    const struct dyck *t = self;
    int64_t stack[DEPTH], n = t->length[split], depth = 0;
    for (int64_t i = 0; i < n; i++) {
        bool may_open = depth < t->depth && n - i > depth, may_close = depth > 0;
        bool closes = may_close && (!may_open || draw_below(d, 2));
        if (closes && i) {                          /* what row i - 1 is to tell        */
            r->target[i - 1] = (int32_t)(2 * stack[depth - 1] + 1);
            r->slice[i - 1] = (int32_t)(depth - 1);
        }
        if (!closes) stack[depth++] = draw_below(d, t->kinds);
        put_read(r, closes ? 2 * stack[--depth] + 1 : 2 * stack[depth - 1]);
    }
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    return example_of(h, split, i, (struct rows){ input, target, slice, 0 }, self, make);
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct dyck), .open = open_task,
    .examples = made_examples, .longest = made_longest, .vocab = made_vocab, .slice = made_slice,
    .example = example,
};

static const struct chi_component dyck = {
    .struct_size = sizeof dyck, .kind = CHI_TASK, .name = "dyck", .revision = 1,
    .summary = "which bracket must close",
    .papers = "2010.07515",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(dyck, .version = "1.0", .license = "MIT", .summary = "which bracket must close",
           .components = CHI_COMPONENTS(&dyck));
