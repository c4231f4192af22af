/* @name@.c - which documents a model learns from and is measured on; why; the source.
 *
 * This one makes its own: sums "a+b=c\n" of numbers drawn from 0..largest, one a document.
 * Held out are the pairs with (31 a + b) mod 10 = 0, so that none of them is trained on:
 *
 *     document i of a split = the first pair of that split in the i-th sequence of draws
 *
 * Source: (paper or data set).  A task that reads files asks h->service(h, "chimera.files/1"). */
#include <chimera/data.h>
#include <chimera/plugin.h>

#include <stdio.h>

struct conf {                               /* what [task] says; the core fills it        */
    int64_t largest, train, heldout;
};

static const struct chi_option options[] = {
    CHI_INT(struct conf, largest, "99", 1, 999999, "largest number of a sum", 0),
    CHI_INT(struct conf, train, "4000", 1, 1000000, "documents to learn from", 0),
    CHI_INT(struct conf, heldout, "200", 1, 1000000, "documents to measure on", 0),
    CHI_OPTIONS_END
};

enum { TEXT = 32 };                         /* bytes of a document, at most               */

struct task {
    int64_t n[CHI_SPLITS];
    struct chi_document *doc[CHI_SPLITS];
};

/* The same split and i give the same sum, on every machine                                    */
static void draw(const struct chi_host *h, int64_t largest, int split, int64_t i, struct chi_document *d, char *text)
{
    uint64_t a = 0, b = 0, range = (uint64_t)largest + 1;
    bool fits = false;
    for (uint64_t try = 0; !fits; try++) {
        uint64_t bits = h->random(h, (uint64_t)i * CHI_SPLITS + (uint64_t)split, try);
        a = (bits >> 32) % range;
        b = (bits & 0xffffffffu) % range;
        fits = ((31 * a + b) % 10 == 0) == (split == CHI_SPLIT_HELDOUT);
    }
    int n = snprintf(text, TEXT, "%llu+%llu=%llu\n", (unsigned long long)a, (unsigned long long)b,
                     (unsigned long long)(a + b));
    *d = (struct chi_document){ .name = "a sum", .text = (const unsigned char *)text, .n = n };
}

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct task *s = self;
    s->n[CHI_SPLIT_TRAIN]   = c->train;
    s->n[CHI_SPLIT_HELDOUT] = c->heldout;
    for (int split = 0; split < CHI_SPLITS; split++) {
        size_t n = (size_t)s->n[split];
        char *text = h->alloc(h, n * TEXT);
        s->doc[split] = h->alloc(h, n * sizeof *s->doc[split]);
        if (!text || !s->doc[split]) return CHI_ENOMEM;
        for (int64_t i = 0; i < s->n[split]; i++)
            draw(h, c->largest, split, i, &s->doc[split][i], text + i * TEXT);
    }
    return CHI_OK;
}

static int64_t documents(const void *self, int split)
{
    return ((const struct task *)self)->n[split];
}

static void document(const void *self, int split, int64_t i, struct chi_document *d)
{
    *d = ((const struct task *)self)->doc[split][i];
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct task), .open = open_task,
    .documents = documents, .document = document,
};

static const struct chi_component component = {
    .struct_size = sizeof component, .kind = CHI_TASK, .name = "@name@", .revision = 1,
    .summary = "sums of two numbers",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(@name@, .version = "0.1", .license = "MIT", .summary = "sums of two numbers",
           .components = CHI_COMPONENTS(&component));
