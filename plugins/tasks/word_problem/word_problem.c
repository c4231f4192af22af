/* word_problem - the product of the group elements so far.
 *
 *     target_t = x_1 x_2 ... x_t,     (x y)(j) = x(y(j))
 *
 * Elements are permutations, numbered in lexicographic order of their images; of A5 only the
 * even ones.  S3 is solvable, A5 and S5 are not: their word problem is complete for NC1, out of
 * reach of a transformer or a diagonal recurrence of fixed depth (under the usual assumption).
 * Source: Merrill et al., arXiv 2404.08819.                                              */
#include "../shared/examples.h"

struct conf {
    struct chi_list lengths, heldout_lengths;
    int32_t group, elements, score;
    int64_t train, heldout;
};

enum { SCORE_ALL, SCORE_LAST };
enum { ELEMENTS_ALL, ELEMENTS_SWAPS };

static const struct chi_option options[] = {
    CHI_LIST(struct conf, lengths, "4, 8, 16", 1, 8192, "elements, drawn for each example", 0),
    CHI_LIST(struct conf, heldout_lengths, "", 1, 8192, "the same of held-out examples; empty: as in training", 0),
    CHI_ENUM(struct conf, group, "s3", "s3|s4|a5|s5", "the group", 0),
    CHI_ENUM(struct conf, elements, "all", "all|swaps", "what is drawn: any, or those that swap two places", 0),
    CHI_ENUM(struct conf, score, "all", "all|last", "rows that are scored", 0),
    CHI_INT(struct conf, train, "0", 0, 1e12, "examples to learn from; 0: no end of them", 0),
    CHI_INT(struct conf, heldout, "1000", 0, 1e9, "examples to measure on", 0),
    CHI_OPTIONS_END
};

enum { S3, S4, A5, S5, POINTS = 5, ELEMENTS = 120 };

struct word_problem {
    struct made made;                       /* first                                    */
    int32_t score, n;                       /* elements of the group                     */
    int32_t drawn[ELEMENTS], n_drawn;       /* those that examples are made of           */
    uint8_t image[ELEMENTS][POINTS];
    uint8_t product[ELEMENTS][ELEMENTS];
};

/* The next permutation in lexicographic order; false: that was the last                 */
static bool next_image(uint8_t *v, int points)
{
    int i = points - 2, j = points - 1;
    while (i >= 0 && v[i] > v[i + 1]) i--;
    if (i < 0) return false;
    while (v[j] < v[i]) j--;
    uint8_t was = v[i];
    v[i] = v[j];
    v[j] = was;
    for (int a = i + 1, b = points - 1; a < b; a++, b--) {
        was = v[a];
        v[a] = v[b];
        v[b] = was;
    }
    return true;
}

static bool is_even(const uint8_t *v, int points)
{
    int inversions = 0;
    for (int i = 0; i < points; i++)
        for (int j = i + 1; j < points; j++) inversions += v[i] > v[j];
    return inversions % 2 == 0;
}

static uint8_t number_of(const struct word_problem *t, const uint8_t *v, int points)
{
    int32_t i = 0;
    while (memcmp(t->image[i], v, (size_t)points) != 0) i++;
    return (uint8_t)i;
}

static void make_group(struct word_problem *t, int points, bool even)
{
    uint8_t v[POINTS] = { 0, 1, 2, 3, 4 };
    do
        if (!even || is_even(v, points)) memcpy(t->image[t->n++], v, (size_t)points);
    while (next_image(v, points));
    for (int32_t x = 0; x < t->n; x++)
        for (int32_t y = 0; y < t->n; y++) {
            for (int j = 0; j < points; j++) v[j] = t->image[x][t->image[y][j]];
            t->product[x][y] = number_of(t, v, points);
        }
}

static bool is_swap(const uint8_t *v, int points)
{
    int moved = 0;
    for (int j = 0; j < points; j++) moved += v[j] != j;
    return moved == 2;
}

static void choose_drawn(struct word_problem *t, int points, int32_t elements)
{
    for (int32_t x = 0; x < t->n; x++)
        if (elements == ELEMENTS_ALL || is_swap(t->image[x], points)) t->drawn[t->n_drawn++] = x;
}

static chi_status open_task(const struct chi_host *h, void *self, const void *conf)
{
    const struct conf *c = conf;
    struct word_problem *t = self;
    t->made.n[CHI_SPLIT_TRAIN] = c->train;
    t->made.n[CHI_SPLIT_HELDOUT] = c->heldout;
    chi_status s = sizes_open(h, &t->made.sizes, "length", &c->lengths, &c->heldout_lengths);
    if (s != CHI_OK) return s;
    for (int split = 0; split < CHI_SPLITS; split++) t->made.longest[split] = sizes_longest(&t->made.sizes, split);
    t->score = c->score;
    int points = c->group == S3 ? 3 : c->group == S4 ? 4 : 5;
    make_group(t, points, c->group == A5);
    choose_drawn(t, points, c->elements);
    if (!t->n_drawn)
        return h->fail(h, CHI_ECONF, "elements = swaps: group a5 has none, since its permutations are even; take s5");
    t->made.vocab = t->n;
    return CHI_OK;
}

static void make(const void *self, int split, struct draws *d, struct rows *r)
{
    const struct word_problem *t = self;
    int32_t slice;
    int64_t n = draw_size(d, &t->made.sizes, split, &slice), so_far = 0;      /* 0: the identity */
    for (int64_t i = 0; i < n; i++) {
        int64_t x = t->drawn[draw_below(d, t->n_drawn)];
        so_far = t->product[so_far][x];
        if (t->score == SCORE_ALL || i == n - 1) put_row(r, x, so_far, slice);
        else put_read(r, x);
    }
}

static int64_t example(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *input,
                       int32_t *target, int32_t *slice)
{
    return example_of(h, split, i, (struct rows){ input, target, slice, 0 }, self, make);
}

static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct word_problem), .open = open_task,
    .examples = made_examples, .longest = made_longest, .vocab = made_vocab, .slice = made_slice,
    .example = example,
};

static const struct chi_component word_problem = {
    .struct_size = sizeof word_problem, .kind = CHI_TASK, .name = "word_problem", .revision = 1,
    .summary = "the product of the group elements so far",
    .papers = "2404.08819",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(word_problem, .version = "1.0", .license = "MIT", .summary = "the product of the group elements so far",
           .components = CHI_COMPONENTS(&word_problem));
