/* examples.h - what the tasks that make examples share: draws, rows, the rule that keeps
 * the splits apart, and lists of sizes with their slices.
 *
 * Example i of a split is made of the draws of stream 2 i + split, so no draw serves two
 * examples.  Two of them might still be equal by chance, so the splits share no input by a
 * rule of their own: an input whose hash is 0 modulo HELD_OUT belongs to the held-out
 * split, every other one to training, and what falls on the other side is drawn again.  */
#ifndef TASK_EXAMPLES_H
#define TASK_EXAMPLES_H

#include <chimera/data.h>
#include <chimera/plugin.h>
#include <string.h>

enum { HELD_OUT = 8, ATTEMPTS = 1000, SIZES = 60, SIZE_NAME = 24 };

/* ---- draws ---------------------------------------------------------------------- */

struct draws { const struct chi_host *h; uint64_t stream, next; };

static inline uint64_t draw_bits(struct draws *d)
{
    return d->h->random(d->h, d->stream, d->next++);
}

/* Uniform in 0 .. n-1, but for n / 2^32: 32 bits times n, without its low half          */
static inline int64_t draw_below(struct draws *d, int64_t n)
{
    return (int64_t)((draw_bits(d) >> 32) * (uint64_t)n >> 32);
}

/* Uniform in [0, 1)                                                                  */
static inline float draw_float(struct draws *d)
{
    return (float)(draw_bits(d) >> 40) * 0x1p-24f;
}

static inline void draw_shuffled(struct draws *d, int32_t *v, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = draw_below(d, i + 1);
        int32_t t = v[i];
        v[i] = v[j];
        v[j] = t;
    }
}

/* k different numbers of 0 .. n-1 in a random order (Floyd), then shuffled            */
static inline void draw_distinct(struct draws *d, int32_t *v, int64_t k, int64_t n)
{
    for (int64_t i = 0; i < k; i++) {
        int32_t top = (int32_t)(n - k + i), pick = (int32_t)draw_below(d, top + 1);
        for (int64_t j = 0; j < i; j++)
            if (v[j] == pick) {
                pick = top;
                break;
            }
        v[i] = pick;
    }
    draw_shuffled(d, v, k);
}

/* ---- rows ----------------------------------------------------------------------- */

struct rows { int32_t *input, *target, *slice; int64_t n; };

static inline void put_row(struct rows *r, int64_t input, int64_t target, int64_t slice)
{
    r->input[r->n] = (int32_t)input;
    r->target[r->n] = (int32_t)target;
    r->slice[r->n++] = (int32_t)slice;
}

/* A row that is only read                                                             */
static inline void put_read(struct rows *r, int64_t input)
{
    put_row(r, input, -1, -1);
}

/* FNV-1a over the inputs, mixed at the end                                            */
static inline uint64_t hash_inputs(const struct rows *r)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < r->n; i++) h = (h ^ (uint64_t)(uint32_t)r->input[i]) * 0x100000001b3u;
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
    return h ^ h >> 33;
}

/* One example: make() draws it, as often as it takes for it to be of the split          */
static inline int64_t example_of(const struct chi_host *h, int split, int64_t i, struct rows r, const void *self,
                                 void (*make)(const void *self, int split, struct draws *, struct rows *))
{
    for (uint64_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        struct draws d = { h, (uint64_t)i * CHI_SPLITS + (uint64_t)split, attempt << 32 };
        r.n = 0;
        make(self, split, &d, &r);
        if ((hash_inputs(&r) % HELD_OUT == 0) == (split == CHI_SPLIT_HELDOUT)) return r.n;
    }
    return h->fail(h, CHI_ECONF,
                   "%d draws gave no input of the %s split: there are too few different ones; ask for longer "
                   "examples or more symbols", ATTEMPTS, split == CHI_SPLIT_HELDOUT ? "held-out" : "training");
}

/* ---- sizes ---------------------------------------------------------------------- */

/* The numbers of a list option for each split, and a slice for each different one        */
struct sizes {
    int32_t v[CHI_SPLITS][SIZES];           /* index into value                          */
    int64_t n[CHI_SPLITS];
    int64_t value[SIZES], n_value;
    char    name[SIZES][SIZE_NAME];         /* "pairs_16"                                */
};

static inline void name_size(char *name, const char *word, int64_t value)
{
    char digit[20];
    int n = 0;
    while (*word) *name++ = *word++;
    *name++ = '_';
    do digit[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n) *name++ = digit[--n];
    *name = 0;
}

static inline int64_t size_index(struct sizes *s, const char *word, int64_t value)
{
    int64_t i = 0;
    while (i < s->n_value && s->value[i] != value) i++;
    if (i == s->n_value && i < SIZES) {
        s->value[s->n_value++] = value;
        name_size(s->name[i], word, value);
    }
    return i;
}

/* Word is a short one, such as "pairs"; an empty held-out list is the training one       */
static inline chi_status sizes_open(const struct chi_host *h, struct sizes *s, const char *word,
                                    const struct chi_list *train, const struct chi_list *heldout)
{
    for (int split = 0; split < CHI_SPLITS; split++) {
        const struct chi_list *list = split == CHI_SPLIT_HELDOUT && heldout && heldout->n ? heldout : train;
        if (!list->n) return h->fail(h, CHI_ECONF, "%s: the list is empty, wanted is at least one number", word);
        for (size_t i = 0; i < list->n; i++) {
            int64_t value = (int64_t)list->v[i], at = size_index(s, word, value);
            if ((double)value != list->v[i])
                return h->fail(h, CHI_ECONF, "%s: %g is no whole number", word, list->v[i]);
            if (at == SIZES || s->n[split] == SIZES)
                return h->fail(h, CHI_ECONF, "%s: more than %d numbers, and each is a slice: name fewer", word,
                               SIZES);
            s->v[split][s->n[split]++] = (int32_t)at;
        }
    }
    return CHI_OK;
}

static inline int64_t sizes_longest(const struct sizes *s, int split)
{
    int64_t most = 0;
    for (int64_t i = 0; i < s->n[split]; i++)
        if (s->value[s->v[split][i]] > most) most = s->value[s->v[split][i]];
    return most;
}

/* ---- a task ---------------------------------------------------------------------- */

/* What self begins with; the functions of chi_task_ops that only read it                */
struct made {
    int64_t n[CHI_SPLITS], longest[CHI_SPLITS], vocab;
    struct sizes sizes;
};

static inline int64_t made_examples(const void *self, int split)
{
    return ((const struct made *)self)->n[split];
}

static inline int64_t made_longest(const void *self, int split)
{
    return ((const struct made *)self)->longest[split];
}

static inline int64_t made_vocab(const void *self)
{
    return ((const struct made *)self)->vocab;
}

static inline const char *made_slice(const void *self, int64_t i)
{
    const struct sizes *s = &((const struct made *)self)->sizes;
    return i >= 0 && i < s->n_value ? s->name[i] : NULL;
}

/* One of the split's sizes; its slice is *slice                                         */
static inline int64_t draw_size(struct draws *d, const struct sizes *s, int split, int32_t *slice)
{
    *slice = s->v[split][draw_below(d, s->n[split])];
    return s->value[*slice];
}

#endif
