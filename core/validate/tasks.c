/* tasks.c - checks of tasks: documents stay what and where they are, examples are functions of their
 * number, choices have one right answer a question, and nothing is in both splits.  Options that are
 * paths get folders with a few texts, whose lines are also what a task of JSON lines may want.      */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chimera/data.h>

#include "core.h"
#include "files.h"
#include "hosting.h"
#include "kinds.h"

enum { FILES = 5, PATHS = 8, EXAMPLES = 200 };

struct bench {
    struct trial *t;
    const struct chi_task_ops *ops;
    struct bench_part part;
    struct pile pile;
    void *self;
    char folder[64];
    chi_status s;
    int split;                                      /* of the present call                      */
    int64_t i;
    struct chi_document *doc;
    int64_t longest[CHI_SPLITS], vocab, n_slice, rows;  /* of a task that makes examples            */
    int32_t *input, *target, *slice;                /* [longest of split] guarded                    */
    struct chi_choice choice;
};

/* ---- texts to read ------------------------------------------------------------------------- */

/* Text to a reader of text, questions with two to four choices to one of JSON lines               */
static void write_file(struct trial *t, const char *path, int64_t which)
{
    FILE *f = fopen(path, "wb");
    if (!f) return;
    for (int64_t line = 0; line <= which % FILES; line++) {
        int64_t n = trial_between(t, 2, 4);
        fprintf(f, "{\"context\": \"text %lld, line %lld\", \"choices\": [", (long long)which, (long long)line);
        for (int64_t k = 0; k < n; k++)
            fprintf(f, "%s\"%lld is number %lld\"", k ? ", " : "", (long long)k,
                    (long long)trial_between(t, 0, 1 << 20));
        fprintf(f, "], \"answer\": %lld, \"slice\": \"of_%lld\"}\n", (long long)trial_between(t, 0, n - 1),
                (long long)n);
    }
    fclose(f);
}

/* A folder with FILES texts for each path; returns the lines of options, which the caller frees    */
static char *make_texts(struct bench *b)
{
    const char *tmp = getenv("TMPDIR");
    char *lines = xstrdup("");
    int n = 0;
    snprintf(b->folder, sizeof b->folder, "%.30s/chimera-validate-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(b->folder)) *b->folder = 0;
    for (const struct chi_option *o = b->t->component->options; *b->folder && o && o->name && n < PATHS; o++) {
        if (o->type != CHI_OPT_PATH) continue;
        char path[128];
        snprintf(path, sizeof path, "%s/%d", b->folder, n);
        mkdir(path, 0700);
        for (int i = 0; i < FILES; i++) {
            snprintf(path, sizeof path, "%s/%d/%d-%d.txt", b->folder, n, n, i);
            write_file(b->t, path, n * FILES + i);
        }
        char *more = xprintf("%s%s = %s/%d\n", lines, o->name, b->folder, n++);
        free(lines);
        lines = more;
    }
    return lines;
}

static void remove_texts(const struct bench *b)
{
    char path[128];
    for (int n = 0; n < PATHS && *b->folder; n++) {
        for (int i = 0; i < FILES; i++) {
            snprintf(path, sizeof path, "%s/%d/%d-%d.txt", b->folder, n, n, i);
            unlink(path);
        }
        snprintf(path, sizeof path, "%s/%d", b->folder, n);
        rmdir(path);
    }
    if (*b->folder) rmdir(b->folder);
}

/* ---- opening ----------------------------------------------------------------------------------- */

static void run_open(void *arg)
{
    struct bench *b = arg;
    b->s = b->ops->open(b->part.host, b->self, b->part.conf);
}

static bool open_task(struct bench *b, const char *lines)
{
    if (!part_bench_open(&b->part, b->t, 0, lines)) return false;
    services_register();
    b->self = pile_take(&b->pile, b->ops->self_size, 64, true, "self");
    if (b->self) memset(b->self, 0, b->ops->self_size);
    if (!call_guarded(b->t, "open", b->part.options, run_open, b)) return false;
    if (b->s != CHI_OK) trial_skip(b->t, "it does not open with a folder of texts for each path: %s", fail_text());
    guard_read_only(b->self, true);
    return b->s == CHI_OK;
}

static void close_task(struct bench *b)
{
    pile_drop(&b->pile);
    part_bench_close(&b->part);
}

static void run_document(void *arg)
{
    struct bench *b = arg;
    b->ops->document(b->self, b->split, b->i, b->doc);
}

/* False: the trial has failed                                                                        */
static bool document(struct bench *b, int split, int64_t i, struct chi_document *doc)
{
    *doc = (struct chi_document){ .n = -1 };
    b->split = split;
    b->i = i;
    b->doc = doc;
    if (!call_guarded(b->t, "document", b->part.options, run_document, b)) return false;
    if (doc->n >= 0 && doc->name && *doc->name && (doc->text || !doc->n)) return true;
    trial_fail(b->t, "document %lld of split %d has %lld bytes and the name '%s', wanted are 0 or more and some name",
               (long long)i, split, (long long)doc->n, doc->name ? doc->name : "");
    return false;
}

static bool makes_examples(const struct bench *b)
{
    return CHI_HAS(struct chi_task_ops, b->ops, example);
}

static void run_example(void *arg)
{
    struct bench *b = arg;
    b->rows = b->ops->example(b->self, b->part.host, b->split, b->i, b->input, b->target, b->slice);
}

/* What is in the rows must be ids and slices; one of them is scored                                  */
static bool good_rows(struct bench *b)
{
    bool scored = false;
    if (b->rows < 1 || b->rows > b->longest[b->split]) {
        trial_fail(b->t, "example %lld of split %d has %lld rows, wanted are 1 to %lld%s%s", (long long)b->i,
                   b->split,
                   (long long)b->rows, (long long)b->longest[b->split], b->rows < 0 ? ": " : "",
                   b->rows < 0 ? fail_text() : "");
        return false;
    }
    for (int64_t r = 0; r < b->rows; r++) {
        bool fine = b->input[r] >= 0 && b->input[r] < b->vocab && b->target[r] >= -1 && b->target[r] < b->vocab
                    && b->slice[r] >= -1 && b->slice[r] < b->n_slice;
        scored = scored || b->target[r] >= 0;
        if (fine) continue;
        trial_fail(b->t, "row %lld of example %lld of split %d has input %d, target %d and slice %d, wanted are ids "
                   "below "
                   "%lld and slices below %lld, or -1 but for the input", (long long)r, (long long)b->i, b->split,
                   b->input[r], b->target[r], b->slice[r], (long long)b->vocab, (long long)b->n_slice);
        return false;
    }
    if (!scored) trial_fail(b->t, "example %lld of split %d has no target", (long long)b->i, b->split);
    return scored;
}

/* Hashes of an example's inputs and of all it has; false: the trial has failed                        */
struct made { uint64_t inputs, all; };
static bool make_example(struct bench *b, int split, int64_t i, struct made *m)
{
    b->split = split;
    b->i = i;
    b->rows = -1;
    if (!call_guarded(b->t, "example", b->part.options, run_example, b) || !good_rows(b)) return false;
    size_t bytes = (size_t)b->rows * sizeof(int32_t);
    m->inputs = xxh3(b->input, bytes);
    uint64_t part[4] = { m->inputs, xxh3(b->target, bytes), xxh3(b->slice, bytes), (uint64_t)b->rows };
    m->all = xxh3(part, sizeof part);
    return true;
}

/* Examples to try of a split                                                                          */
static int64_t examples_tried(const struct bench *b, int split)
{
    int64_t n = b->ops->examples(b->self, split);
    return n > 0 && n < EXAMPLES ? n : n || split == CHI_SPLIT_TRAIN ? EXAMPLES : 0;
}

static bool take_rows(struct bench *b)
{
    const char *name;
    int64_t bytes = 0;
    b->vocab = b->ops->vocab(b->self);
    for (b->n_slice = 0; b->n_slice < 64 && (name = b->ops->slice(b->self, b->n_slice)); b->n_slice++)
        if (!*name || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(name))
            trial_fail(b->t, "slice %lld is called '%s', wanted is [a-z0-9_]+", (long long)b->n_slice, name);
    for (int split = 0; split < CHI_SPLITS; split++) {
        b->longest[split] = b->ops->longest(b->self, split);
        if (b->ops->examples(b->self, split) < 0 || b->longest[split] < 1 || b->vocab < 1) {
            trial_fail(b->t, "split %d has %lld examples of up to %lld rows and %lld ids, wanted are 0 or more, 1 "
                       "and 1", split,
                       (long long)b->ops->examples(b->self, split), (long long)b->longest[split],
                       (long long)b->vocab);
            return false;
        }
        bytes = max_i64(bytes, b->longest[split] * (int64_t)sizeof(int32_t));
    }
    b->input = pile_take(&b->pile, bytes, sizeof(int32_t), true, "input");
    b->target = pile_take(&b->pile, bytes, sizeof(int32_t), true, "target");
    b->slice = pile_take(&b->pile, bytes, sizeof(int32_t), true, "slice");
    return b->input && b->target && b->slice && b->t->outcome < TRIAL_FAILED;
}

/* Asked again, backwards, and of a task opened anew: the same                                          */
static void examples_repeat(struct bench *b, struct bench *two)
{
    struct made first[EXAMPLES], again;
    for (int split = 0; split < CHI_SPLITS; split++) {
        int64_t n = examples_tried(b, split);
        for (int64_t i = 0; i < n; i++)
            if (!make_example(b, split, i, &first[i])) return;
        for (int64_t i = n - 1; i >= 0; i--) {
            if (!make_example(two, split, i, &again)) return;
            if (again.all == first[i].all) continue;
            trial_fail(b->t, "example %lld of split %d is another one when asked again: it is a function of its "
                       "options, the split, its number and h->random()", (long long)i, split);
            return;
        }
    }
}

static void examples_disjoint(struct bench *b)
{
    struct made made[CHI_SPLITS][EXAMPLES];
    for (int split = 0; split < CHI_SPLITS; split++)
        for (int64_t i = 0; i < examples_tried(b, split); i++)
            if (!make_example(b, split, i, &made[split][i])) return;
    for (int64_t i = 0; i < examples_tried(b, CHI_SPLIT_TRAIN); i++)
        for (int64_t j = 0; j < examples_tried(b, CHI_SPLIT_HELDOUT); j++)
            if (made[CHI_SPLIT_TRAIN][i].inputs == made[CHI_SPLIT_HELDOUT][j].inputs) {
                trial_fail(b->t, "example %lld of the training split and %lld of the held-out one have the same input",
                           (long long)i, (long long)j);
                return;
            }
}

static void with_task(struct trial *t, void (*check)(struct bench *, const char *lines))
{
    struct bench b = { .t = t, .ops = t->component->ops };
    char *lines = make_texts(&b);
    if (open_task(&b, lines) && (!makes_examples(&b) || take_rows(&b))) check(&b, lines);
    close_task(&b);
    remove_texts(&b);
    free(lines);
}

/* ---- checks -------------------------------------------------------------------------------------- */

struct print { const unsigned char *text; uint64_t hash, name; int64_t n; };

static struct print print_of(const struct chi_document *d)
{
    return (struct print){ d->text, xxh3(d->text, (size_t)d->n), xxh3(d->name, strlen(d->name)), d->n };
}

/* All documents of a split; caller frees; NULL: the trial has failed                                  */
static struct print *prints(struct bench *b, int split, int64_t *n)
{
    *n = b->ops->documents(b->self, split);
    if (*n < 0) {
        trial_fail(b->t, "split %d has %lld documents", split, (long long)*n);
        return NULL;
    }
    struct print *p = xcalloc((size_t)*n + 1, sizeof *p);
    for (int64_t i = 0; i < *n; i++) {
        struct chi_document d;
        if (!document(b, split, i, &d)) {
            free(p);
            return NULL;
        }
        p[i] = print_of(&d);
    }
    return p;
}

/* Asked again, in other orders: the same bytes at the same place                                       */
static void stable(struct bench *b, const char *lines)
{
    (void)lines;
    if (makes_examples(b)) {
        examples_repeat(b, b);
        return;
    }
    for (int split = 0; split < CHI_SPLITS; split++) {
        int64_t n, again = b->ops->documents(b->self, split);
        struct print *first = prints(b, split, &n);
        if (!first) return;
        if (n != again)
            trial_fail(b->t, "split %d has %lld documents, asked again %lld", split, (long long)again, (long long)n);
        for (int k = 0; k < 3 * n && b->t->outcome == TRIAL_OK; k++) {
            struct chi_document d;
            int64_t i = k < n ? n - 1 - k : trial_between(b->t, 0, n - 1);
            if (!document(b, split, i, &d)) break;
            struct print p = print_of(&d);
            if (p.text != first[i].text)
                trial_fail(b->t, "the bytes of document %lld of split %d have moved: they stay until the task is "
                           "closed", (long long)i, split);
            else if (p.n != first[i].n || p.hash != first[i].hash || p.name != first[i].name)
                trial_fail(b->t, "document %lld of split %d is another one when asked again", (long long)i, split);
        }
        free(first);
    }
}

/* Opened a second time: the same documents in the same order                                           */
static void repeats(struct bench *b, const char *lines)
{
    struct bench two = { .t = b->t, .ops = b->ops };
    bool opened = open_task(&two, lines);
    if (opened && makes_examples(b)) {
        if (take_rows(&two)) examples_repeat(b, &two);
    } else if (opened)
        for (int split = 0; split < CHI_SPLITS && b->t->outcome == TRIAL_OK; split++) {
            int64_t n, m = 0;
            struct print *p = prints(b, split, &n), *q = p ? prints(&two, split, &m) : NULL;
            bool same = n == m;
            for (int64_t i = 0; q && same && i < n; i++) same = p[i].hash == q[i].hash && p[i].name == q[i].name;
            if (q && !same) trial_fail(b->t, "split %d has other documents, or in another order, when opened again",
                                       split);
            free(p);
            free(q);
        }
    close_task(&two);
}

static void disjoint(struct bench *b, const char *lines)
{
    int64_t n, m;
    (void)lines;
    if (makes_examples(b)) {
        examples_disjoint(b);
        return;
    }
    struct print *train = prints(b, CHI_SPLIT_TRAIN, &n), *held = train ? prints(b, CHI_SPLIT_HELDOUT, &m) : NULL;
    for (int64_t i = 0; held && i < n; i++)
        for (int64_t j = 0; j < m; j++)
            if (train[i].n && train[i].n == held[j].n && train[i].hash == held[j].hash) {
                trial_fail(b->t, "document %lld of the training split and %lld of the held-out one are the same "
                           "%lld bytes", (long long)i, (long long)j, (long long)held[j].n);
                i = n;
                break;
            }
    free(train);
    free(held);
}

static void run_choice(void *arg)
{
    struct bench *b = arg;
    b->ops->choice(b->self, b->i, &b->choice);
}

/* Choice i of n: of this question or the next one, with something to score                              */
static bool good_choice(struct bench *b, int64_t i, int64_t question)
{
    struct chi_document d;
    if (!document(b, CHI_SPLIT_HELDOUT, i, &d)) return false;
    memset(&b->choice, 0x55, sizeof b->choice);
    if (!call_guarded(b->t, "choice", b->part.options, run_choice, b)) return false;
    const struct chi_choice *c = &b->choice;
    bool follows = i ? c->question == question || c->question == question + 1 : c->question == 0;
    if (follows && c->context >= 0 && c->context < d.n && c->bytes > 0 && c->slice >= -1
        && c->slice < b->n_slice) return true;
    trial_fail(b->t, "document %lld (%lld bytes) is of question %lld, behind one of question %lld, with %lld bytes "
               "of context, "
               "%lld of the choice and slice %d of %lld: wanted are questions in order, less context than text, 1 "
               "byte or more "
               "of a choice, and a slice or -1", (long long)i, (long long)d.n, (long long)c->question,
               (long long)question,
               (long long)c->context, (long long)c->bytes, c->slice, (long long)b->n_slice);
    return false;
}

/* Of how many choices and right ones a question has been found to be                                     */
static bool good_question(struct bench *b, int64_t question, int64_t choices, int64_t right)
{
    if (choices >= 2 && right == 1) return true;
    trial_fail(b->t, "question %lld has %lld choices, of which %lld are right: wanted are two or more, and one right",
               (long long)question, (long long)choices, (long long)right);
    return false;
}

static void choices(struct bench *b, const char *lines)
{
    int64_t choices = 0, right = 0, question = 0;
    (void)lines;
    if (!CHI_HAS(struct chi_task_ops, b->ops, choice)) return;
    int64_t n = b->ops->documents(b->self, CHI_SPLIT_HELDOUT);
    for (b->n_slice = 0; b->n_slice < 64 && b->ops->slice(b->self, b->n_slice); b->n_slice++) { /* counts */ }
    for (int64_t i = 0; i < n; i++) {
        if (!good_choice(b, i, question)) return;
        if (b->choice.question != question && !good_question(b, question, choices, right)) return;
        if (b->choice.question != question) choices = right = 0;
        question = b->choice.question;
        choices++;
        right += b->choice.right;
    }
    if (n) good_question(b, question, choices, right);
}

static void check_choices(struct trial *t) { with_task(t, choices); }
static void check_stable(struct trial *t) { with_task(t, stable); }
static void check_repeats(struct trial *t) { with_task(t, repeats); }
static void check_disjoint(struct trial *t) { with_task(t, disjoint); }

const struct check checks_tasks[] = {
    { "task.stable", CHI_TASK, 20, "documents or examples stay what they are, documents where they are",
      check_stable },
    { "task.repeats", CHI_TASK, 20, "opened again, the same documents or examples in the same order", check_repeats },
    { "task.disjoint", CHI_TASK, 20, "no text or input is in both splits", check_disjoint },
    { "task.choices", CHI_TASK, 20, "choices of a question stand together, and one of them is right", check_choices },
    { 0 }
};
