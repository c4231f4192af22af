/* Tasks that make examples: every target and slice is found again from the inputs alone, by
 * other means than the task's; the splits share no input; batches hold whole examples, the
 * same for every model; accuracy is counted again from the logits.                          */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "dataset.h"
#include "examples.h"
#include "plugin_file.h"
#include "task_oracles.h"

/* ---- opening -------------------------------------------------------------------------------- */

struct open { struct spec *spec; struct dataset *data; };

/* more: overrides with spaces between them                                                        */
static chi_status try_open(struct open *o, const char *task, const char *options, const char *more)
{
    struct config *c;
    char *list = xstrdup(more), *override[8];
    int n = 0;
    for (char *word = strtok(list, " "); word; word = strtok(NULL, " ")) override[n++] = word;
    char *text = xprintf("[model]\nhidden_size = 16\nnum_hidden_layers = 1\nvocab_size = 200\nlayer_pattern = GD\n"
                         "ffn_pattern = MLP\n[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 8\n[layer.MLP]\n"
                         "use = swiglu\nintermediate_size = 32\n[train]\nbatch_size = 4\nseq_len = 150\n[data]\ntask = %s\n"
                         "[layer.AT]\nuse = attention\nnum_heads = 2\nhead_dim = 16\n[task]\n%s", task, options);
    chi_status s = config_load_text(&c, "test", text, override, n);
    cr_assert_eq(s, CHI_OK, "%s", fail_text());
    free(text);
    free(list);
    s = spec_open(&o->spec, c, SPEC_MODEL | SPEC_TRAIN | SPEC_DATA | SPEC_TOKENIZER);
    cr_assert_eq(s, CHI_OK, "%s", fail_text());
    return dataset_open(&o->data, o->spec);
}

static struct open open_task(const char *task, const char *options, const char *more)
{
    struct open o;
    cr_assert_eq(try_open(&o, task, options, more), CHI_OK, "%s: %s", task, fail_text());
    return o;
}

static void close_task(struct open *o)
{
    dataset_close(o->data);
    spec_close(o->spec);
}

static struct document get(const struct open *o, int split, int64_t i)
{
    struct document d;
    cr_assert_eq(dataset_document(o->data, split, i, &d), CHI_OK, "%s", fail_text());
    return d;
}

static bool same_input(const struct document *a, const struct document *b)
{
    return a->rows == b->rows && !memcmp(a->token, b->token, (size_t)a->rows * sizeof *a->token);
}

/* ---- targets and slices ----------------------------------------------------------------------- */

static int64_t check_example(const struct row_of_tasks *t, const struct open *o, int split, int64_t i, bool *met)
{
    struct eval_slice slice[EVAL_SLICES];
    struct document d = get(o, split, i);
    struct answer want;
    char name[64];
    int64_t scored = 0;
    dataset_slices(o->data, slice);
    answer_none(&want);
    t->oracle(d.token, d.rows, &want);
    for (int64_t r = 0; r < d.rows; r++) {
        cr_assert(d.token[r] >= 0 && d.token[r] < t->vocab);
        cr_assert_eq(d.target[r], want.target[r], "%s %s: row %d of example %d: target %d, wanted %d", t->name,
                     t->options, (int)r, (int)i, d.target[r], (int)want.target[r]);
        if (want.target[r] < 0) continue;
        scored++;
        snprintf(name, sizeof name, "%s_%d", t->slice, (int)want.number[r]);
        cr_assert(!strcmp(slice[d.slice[r]].name, name), "%s: slice %s, wanted %s", t->name, slice[d.slice[r]].name,
                  name);
        met[d.slice[r]] = true;
    }
    document_free(&d);
    return scored;
}

Test(tasks, targets_and_slices_follow_from_the_inputs)
{
    for (int64_t t = 0; t < COUNT(tasks); t++) {
        struct open o = open_task(tasks[t].name, tasks[t].options, "task.heldout=200 task.train=200");
        struct eval_slice slice[EVAL_SLICES];
        bool met[EVAL_SLICES] = { false };
        cr_assert(dataset_makes_examples(o.data));
        for (int split = 0; split < CHI_SPLITS; split++) {
            cr_assert_eq(dataset_documents(o.data, split), 200);
            for (int64_t i = 0; i < 200; i++) cr_assert(check_example(&tasks[t], &o, split, i, met) > 0);
        }
        for (int64_t i = 0; i < dataset_slices(o.data, slice); i++)
            cr_assert(met[i], "%s: nothing is in %s", tasks[t].name, slice[i].name);
        close_task(&o);
    }
}

/* Every id that the vocabulary promises occurs as an input or a target, none beyond            */
Test(tasks, the_vocabulary_is_what_occurs)
{
    for (int64_t t = 0; t < COUNT(tasks); t++) {
        struct open o = open_task(tasks[t].name, tasks[t].options, "");
        int32_t largest = 0;
        for (int64_t i = 0; i < 300; i++) {
            struct document d = get(&o, CHI_SPLIT_TRAIN, i);
            for (int64_t r = 0; r < d.rows; r++) {
                if (d.token[r] > largest) largest = d.token[r];
                if (d.target[r] > largest) largest = d.target[r];
            }
            document_free(&d);
        }
        cr_assert_eq(largest, tasks[t].vocab - 1, "%s: the largest id is %d", tasks[t].name, largest);
        close_task(&o);
    }
}

/* ---- splits and seeds ---------------------------------------------------------------------------- */

/* Parity of 6 bits has 64 inputs, so that both splits draw each of theirs again and again         */
Test(tasks, the_splits_share_no_input)
{
    struct open o = open_task("parity", "lengths = 6\n", "");
    int in[64] = { 0 };
    for (int split = 0; split < CHI_SPLITS; split++)
        for (int64_t i = 0; i < 500; i++) {
            struct document d = get(&o, split, i);
            int64_t bits = 0;
            for (int64_t r = 0; r < d.rows; r++) bits = 2 * bits + d.token[r];
            in[bits] |= 1 << split;
            document_free(&d);
        }
    int n[4] = { 0 };
    for (int i = 0; i < 64; i++) n[in[i]]++;
    cr_assert_eq(n[3], 0, "%d inputs are in both splits", n[3]);
    cr_assert(n[1] > 40 && n[2] >= 1, "%d inputs to train on, %d held out", n[1], n[2]);
    close_task(&o);
}

Test(tasks, another_seed_gives_other_data_and_another_model_does_not)
{
    for (int64_t t = 0; t < COUNT(tasks); t++) {
        struct open a = open_task(tasks[t].name, tasks[t].options, "");
        struct open b = open_task(tasks[t].name, tasks[t].options,
                                  "model.hidden_size=32 model.layer_pattern=AT run.threads=3");
        struct open c = open_task(tasks[t].name, tasks[t].options, "run.seed=2");
        int differ = 0;
        cr_assert_eq(dataset_hash(a.data), dataset_hash(b.data));
        cr_assert_neq(dataset_hash(a.data), dataset_hash(c.data));
        for (int split = 0; split < CHI_SPLITS; split++)
            for (int64_t i = 20; i--;) {            /* in any order                             */
                struct document x = get(&a, split, i), y = get(&b, split, i), z = get(&c, split, i);
                cr_assert(same_input(&x, &y));
                differ += !same_input(&x, &z);
                document_free(&x);
                document_free(&y);
                document_free(&z);
            }
        cr_assert(differ > 30, "%s: only %d of 40 examples differ", tasks[t].name, differ);
        close_task(&a);
        close_task(&b);
        close_task(&c);
    }
}

Test(tasks, heldout_lists_of_their_own)
{
    struct open o = open_task("parity", "lengths = 5\nheldout_lengths = 300\n", "");
    struct document a = get(&o, CHI_SPLIT_TRAIN, 0), b = get(&o, CHI_SPLIT_HELDOUT, 0);
    cr_assert(a.rows == 5 && b.rows == 300);
    document_free(&a);
    document_free(&b);
    close_task(&o);
}

/* A small power asks soon, 1 asks anywhere                                                          */
Test(tasks, the_power_of_mqar)
{
    double mean[2];
    for (int k = 0; k < 2; k++) {
        struct open o = open_task("mqar", k ? "length = 128\npairs = 2\npower = 1\n" : "length = 128\npairs = 2\n",
                                  "");
        double sum = 0;
        for (int64_t i = 0; i < 400; i++) {
            struct document d = get(&o, CHI_SPLIT_TRAIN, i);
            for (int64_t r = 0; r < d.rows; r++) sum += d.target[r] < 0 ? 0 : (double)(r - 4) / 2;
            document_free(&d);
        }
        mean[k] = sum / 800;
        close_task(&o);
    }
    /* 62 slots: the mean of x - 1 under 1 / x is about 62 / ln 63 - 1 - 1/2, of an even one 30.5  */
    cr_assert(mean[0] > 12 && mean[0] < 16.5, "%g", mean[0]);
    cr_assert(mean[1] > 28 && mean[1] < 33, "%g", mean[1]);
}

/* ---- batches --------------------------------------------------------------------------------------- */

static struct batch next_batch(const struct open *o, struct cursor *c)
{
    struct batch b;
    cr_assert_eq(dataset_batch(o->data, c, &b), CHI_OK, "%s", fail_text());
    return b;
}

/* Segments from number first on are examples first, first + 1, ... of the order                       */
static void check_batch(const struct open *o, const struct batch *b, int64_t first, const int64_t *order)
{
    int64_t rows = 0, scored = 0;
    for (int64_t i = 0; i < b->n_seg; i++) {
        const struct model_segment *g = &b->seg[i];
        struct document d = get(o, CHI_SPLIT_TRAIN, order ? order[first + i] : first + i);
        int64_t at = g->tokens - b->token, sequence = 0;
        while (b->first_seg[sequence + 1] <= i) sequence++;
        cr_assert(g->fresh && !g->pos && g->stream == (uint64_t)(first + i));
        cr_assert(at >= sequence * b->seq_len && at + g->rows <= (sequence + 1) * b->seq_len);
        cr_assert(d.rows == g->rows && !memcmp(d.token, g->tokens, (size_t)d.rows * sizeof *d.token));
        cr_assert(!memcmp(d.target, b->target + at, (size_t)d.rows * sizeof *d.target));
        rows += d.rows;
        for (int64_t r = 0; r < d.rows; r++) scored += d.target[r] >= 0;
        document_free(&d);
    }
    cr_assert(rows == b->rows && scored == b->scored && !b->bytes);
    for (int64_t i = 0; i < b->n_seq * b->seq_len; i++) scored -= b->target[i] >= 0;
    cr_assert_eq(scored, 0, "rows behind the examples are scored");
}

Test(tasks, batches_hold_whole_examples_in_order)
{
    struct open o = open_task("copy", "lengths = 3, 7, 20\n", "");
    struct cursor c = { 0, 0 };
    for (int64_t step = 0; step < 5; step++) {
        struct cursor again = { 0, 12 * step };         /* 3 of 40 rows fit into 150              */
        cr_assert(c.epoch == 0 && c.position == again.position);
        struct batch b = next_batch(&o, &c), same = next_batch(&o, &again);
        cr_assert_eq(b.n_seg, 12);
        check_batch(&o, &b, 12 * step, NULL);
        check_batch(&o, &same, 12 * step, NULL);
        batch_free(&b);
        batch_free(&same);
    }
    close_task(&o);
}

Test(tasks, an_epoch_has_every_example_once)
{
    enum { N = 36 };
    struct open o = open_task("copy", "lengths = 3, 7, 20\n", "task.train=36");
    struct cursor c = { 0, 0 };
    uint64_t orders[2][N];
    for (int epoch = 0; epoch < 2; epoch++) {
        bool met[N] = { false };
        for (int64_t step = 0; step < 3; step++) {
            struct batch b = next_batch(&o, &c);
            for (int64_t i = 0; i < b.n_seg; i++) {
                int64_t which = 0;
                for (;; which++) {
                    cr_assert(which < N, "an example of no number");
                    struct document d = get(&o, CHI_SPLIT_TRAIN, which);
                    bool same = d.rows == b.seg[i].rows && !memcmp(d.token, b.seg[i].tokens, (size_t)d.rows * 4);
                    document_free(&d);
                    if (same && !met[which]) break;
                }
                met[which] = true;
                orders[epoch][12 * step + i] = (uint64_t)which;
                cr_assert_eq(b.seg[i].stream, (uint64_t)(N * epoch + 12 * step + i));
            }
            batch_free(&b);
        }
        cr_assert(c.epoch == epoch + 1 && c.position == 0);
    }
    cr_assert(memcmp(orders[0], orders[1], sizeof orders[0]), "both epochs have the same order");
    close_task(&o);
}

/* ---- accuracy ----------------------------------------------------------------------------------------- */

/* One example alone: how many targets have the largest logit, by slice                                   */
static void count(struct model *m, const struct document *d, int64_t right[EVAL_SLICES], int64_t all[EVAL_SLICES])
{
    struct model_segment g = { .tokens = d->token, .rows = d->rows, .fresh = true,
                               .state = mem_take((size_t)model_state_bytes(m) + 64, "a stream") };
    float hidden[ROWS * 16], logit[200];
    cr_assert_eq(model_forward(m, &g, 1, hidden), CHI_OK);
    for (int64_t r = 0; r < d->rows; r++) {
        if (d->target[r] < 0) continue;
        int64_t above = 0;
        cr_assert_eq(model_logits(m, hidden + 16 * r, 1, logit), CHI_OK);
        for (int j = 0; j < 200; j++) above += logit[j] > logit[d->target[r]];
        right[d->slice[r]] += above == 0;
        all[d->slice[r]]++;
    }
    mem_free(g.state);
}

Test(tasks, accuracy_is_what_the_logits_say)
{
    struct open o = open_task("overwrite", "keys = 5\nwrites = 1, 2, 9\nsymbols = 20\n", "task.heldout=40");
    struct model *m;
    struct eval_result e;
    int64_t right[EVAL_SLICES] = { 0 }, all[EVAL_SLICES] = { 0 }, total = 0;
    cr_assert_eq(model_open(&m, o.spec, MODEL_INFER, 150, 4), CHI_OK, "%s", fail_text());
    cr_assert_eq(model_init(m, 3), CHI_OK);
    for (int64_t i = 0; i < 40; i++) {
        struct document d = get(&o, CHI_SPLIT_HELDOUT, i);
        count(m, &d, right, all);
        document_free(&d);
    }
    cr_assert_eq(evaluate(m, o.data, CHI_SPLIT_HELDOUT, 0, &e, NULL, NULL), CHI_OK, "%s", fail_text());
    cr_assert(e.examples && e.documents == 40 && e.scored == 200 && e.n_slice == 3 && e.tokens > e.scored);
    for (int i = 0; i < 3; i++) {
        cr_assert(e.slice[i].scored == all[i] && e.slice[i].right == right[i]);
        total += right[i];
    }
    cr_assert_eq(e.right, total);
    cr_assert(e.loss > 1 && e.loss < 10);
    cr_assert_float_eq(e.loss * 200, e.nats, 1e-9);
    cr_assert_eq(evaluate(m, o.data, CHI_SPLIT_TRAIN, 0, &e, NULL, NULL), CHI_EDATA);
    cr_assert_eq(evaluate(m, o.data, CHI_SPLIT_HELDOUT, 10, &e, NULL, NULL), CHI_ECONF);
    model_close(m);
    close_task(&o);
}

/* ---- the manifest --------------------------------------------------------------------------------------- */

static int64_t some(const void *self, int split) { return self ? split : 1; }
static void one(const void *self, int split, int64_t i, struct chi_document *d) { (void)self, (void)split, (void)i,
                                                                                  (void)d; }
static int64_t ids(const void *self) { return self ? 1 : 2; }
static const char *no_slice(const void *self, int64_t i) { (void)self, (void)i; return NULL; }
static chi_status no_open(const struct chi_host *h, void *self, const void *conf)
{
    (void)h, (void)self, (void)conf;
    return CHI_OK;
}
static int64_t no_rows(const void *self, const struct chi_host *h, int split, int64_t i, int32_t *x, int32_t *y,
                       int32_t *s)
{
    (void)self, (void)h, (void)split, (void)i, (void)x, (void)y, (void)s;
    return 0;
}

static void manifest(struct chi_task_ops ops, chi_status want, const char *words)
{
    struct chi_component c = { .struct_size = sizeof c, .kind = CHI_TASK, .name = "x", .ops = &ops };
    cr_assert_eq(manifest_ops("x.so", &c), want, "%s", fail_text());
    if (want != CHI_OK) cr_assert(strstr(fail_text(), words), "'%s' is not in: %s", words, fail_text());
}

Test(tasks, a_task_has_documents_or_examples)
{
    struct chi_task_ops made = { .struct_size = sizeof made, .open = no_open, .examples = some, .longest = some,
                                 .vocab = ids, .slice = no_slice, .example = no_rows };
    struct chi_task_ops read = { .struct_size = offsetof(struct chi_task_ops, examples), .open = no_open,
                                 .documents = some, .document = one };
    manifest(made, CHI_OK, "");
    manifest(read, CHI_OK, "");
    read.struct_size = sizeof read;
    manifest(read, CHI_OK, "");
    struct chi_task_ops ops = made;
    ops.documents = some;
    manifest(ops, CHI_EPLUGIN, "both documents and examples");
    ops = made;
    ops.slice = NULL;
    manifest(ops, CHI_EPLUGIN, "required member slice");
    ops = made;
    ops.longest = NULL;
    manifest(ops, CHI_EPLUGIN, "required member longest");
    ops = made;
    ops.struct_size = offsetof(struct chi_task_ops, example);       /* shorter: what lies behind does not count */
    manifest(ops, CHI_EPLUGIN, "required member documents");
}

/* ---- refusals --------------------------------------------------------------------------------------------- */

static void refused(const char *task, const char *options, const char *more, const char *words)
{
    struct open o;
    cr_assert_eq(try_open(&o, task, options, more), CHI_ECONF, "%s %s", task, options);
    cr_assert(strstr(fail_text(), words), "'%s' is not in: %s", words, fail_text());
    cr_assert(!strchr(fail_text(), '\n'));
    spec_close(o.spec);
}

Test(tasks, refuses_what_cannot_be_meant)
{
    refused("copy", "lengths = 80\n", "", "train.seq_len = 150");
    refused("copy", "lengths = 80\n", "", "lengths");
    refused("copy", "lengths = 4\nsymbols = 200\n", "", "model.vocab_size = 200");
    refused("copy", "lengths = 2.5\n", "", "2.5 is no whole number");
    refused("copy", "lengths = 1-61\n", "train.seq_len=400", "more than 60");
    refused("copy", "lengths = 4\n", "train.eval_bytes=9", "train.eval_bytes");
    refused("word_problem", "group = a5\nelements = swaps\n", "", "a5 has none");
    refused("parity", "lengths = 1\n", "", "too few different ones");
    refused("dyck", "length = 7\n", "", "even length");
    refused("mqar", "length = 20\npairs = 6\n", "", "24 or more");
    refused("mqar", "symbols = 3\npairs = 4\n", "", "raise it");
    refused("overwrite", "symbols = 4\nkeys = 8\n", "", "symbols is 4");
    refused("needle", "length = 8\nneedles = 3\n", "", "too short a haystack");
    refused("selective_copy", "length = 3\ntokens = 4\n", "", "no room for 4 tokens");
    refused("modular", "modulus = 3\nlargest = 3\n", "", "no digit modulo 3");
}
