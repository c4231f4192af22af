/* examples.c - see examples.h.                                                       */
#include "examples.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "crumb.h"
#include "rng.h"

enum { HASHED = 32 };

bool examples_made(const struct chi_task_ops *ops)
{
    return CHI_HAS(struct chi_task_ops, ops, example);
}

/* ---- opening ------------------------------------------------------------------- */

static const char *task_name(const struct examples *e)
{
    return e->spec->task.component->name;
}

/* The options that may decide the length, for a message; caller frees                */
static char *option_names(const struct examples *e)
{
    char *names = xstrdup("");
    for (const struct chi_option *o = e->spec->task.component->options; o && o->name; o++) {
        if (o->type != CHI_OPT_INT && o->type != CHI_OPT_LIST) continue;
        if (!strcmp(o->name, "train") || !strcmp(o->name, "heldout")) continue;
        char *more = xprintf("%s%s%s", names, *names ? ", " : "", o->name);
        free(names);
        names = more;
    }
    return names;
}

static chi_status check_length(const struct examples *e)
{
    int64_t longest = e->longest[CHI_SPLIT_TRAIN], room = e->spec->train.seq_len;
    if (longest <= room) return CHI_OK;
    char *names = option_names(e);
    chi_status s = fail(CHI_ECONF,
                        "examples of task %s have up to %lld rows, but train.seq_len = %lld, and none is ever "
                        "cut: set train.seq_len to %lld or more, or ask for shorter ones in [task]%s%s%s",
                        task_name(e),
                        (long long)longest, (long long)room, (long long)longest, *names ? " (" : "", names,
                        *names ? ")" : "");
    free(names);
    return s;
}

static chi_status check_slices(struct examples *e)
{
    const char *name;
    for (e->n_slice = 0; (name = e->ops->slice(e->self, e->n_slice)); e->n_slice++) {
        if (e->n_slice == EVAL_SLICES)
            return fail(CHI_ECONF, "task %s has more than %d slices: ask for fewer in [task]", task_name(e),
                        EVAL_SLICES);
        if (!*name || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(name))
            return fail(CHI_EPLUGIN, "task %s: slice %lld is called '%s', wanted is [a-z0-9_]+", task_name(e),
                        (long long)e->n_slice, name);
    }
    return CHI_OK;
}

static chi_status check_numbers(const struct examples *e)
{
    for (int i = 0; i < CHI_SPLITS; i++)
        if (e->n[i] < 0 || e->longest[i] < 1 || e->longest[i] > 1 << 24)
            return fail(CHI_EPLUGIN,
                        "task %s has %lld examples of up to %lld rows in split %d, wanted 0 or more of 1..%d",
                        task_name(e), (long long)e->n[i], (long long)e->longest[i], i, 1 << 24);
    if (e->vocab < 1 || e->vocab > INT32_MAX)
        return fail(CHI_EPLUGIN, "task %s has %lld ids", task_name(e), (long long)e->vocab);
    if (e->vocab > e->spec->model.vocab_size)
        return fail(CHI_ECONF,
                    "model.vocab_size = %lld is too small for task %s, which has %lld ids of its own and needs no "
                    "tokenizer: set it to %lld or more", (long long)e->spec->model.vocab_size, task_name(e),
                    (long long)e->vocab, (long long)e->vocab);
    if (e->spec->train.eval_bytes)
        return fail(CHI_ECONF,
                    "train.eval_bytes = %lld counts text, but task %s makes examples: set it to 0; [task] says "
                    "how many are held out", (long long)e->spec->train.eval_bytes, task_name(e));
    return CHI_OK;
}

chi_status examples_open(struct examples *e, const struct spec *spec, const struct chi_host *h,
                         const void *self)
{
    const struct chi_task_ops *ops = spec->task.component->ops;
    *e = (struct examples){ .spec = spec, .ops = ops, .h = h, .self = self, .epoch = -1,
                            .vocab = ops->vocab(self) };
    for (int i = 0; i < CHI_SPLITS; i++) {
        e->n[i] = ops->examples(self, i);
        e->longest[i] = ops->longest(self, i);
    }
    TRY(check_numbers(e));
    TRY(check_slices(e));
    TRY(check_length(e));
    e->slice = xcalloc((size_t)e->longest[CHI_SPLIT_TRAIN], sizeof *e->slice);
    return CHI_OK;
}

void examples_close(struct examples *e)
{
    free(e->order);
    free(e->slice);
    *e = (struct examples){ 0 };
}

/* ---- one example ---------------------------------------------------------------- */

static chi_status check_rows(const struct examples *e, int split, int64_t i, int64_t rows, const int32_t *token,
                             const int32_t *target, const int32_t *slice)
{
    if (rows < 1 || rows > e->longest[split])
        return fail(CHI_EPLUGIN, "task %s: example %lld has %lld rows, promised were 1..%lld", task_name(e),
                    (long long)i, (long long)rows, (long long)e->longest[split]);
    for (int64_t r = 0; r < rows; r++)
        if (token[r] < 0 || token[r] >= e->vocab || target[r] < -1 || target[r] >= e->vocab || slice[r] < -1
            || slice[r] >= e->n_slice)
            return fail(CHI_EPLUGIN,
                        "task %s: row %lld of example %lld has input %d, target %d and slice %d, but there are "
                        "%lld ids and %lld slices", task_name(e), (long long)r, (long long)i, token[r], target[r],
                        slice[r], (long long)e->vocab, (long long)e->n_slice);
    return CHI_OK;
}

chi_status examples_get(const struct examples *e, int split, int64_t i, int32_t *token,
                        int32_t *target, int32_t *slice, int64_t *rows)
{
    const struct crumb crumb = { e->h->instance, task_name(e), "example" }, *was = crumb_set(&crumb);
    *rows = e->ops->example(e->self, e->h, split, i, token, target, slice);
    crumb_set(was);
    if (*rows < 0) return (chi_status)*rows;
    return check_rows(e, split, i, *rows, token, target, slice);
}

/* Other options, another seed or another version of the task give another hash        */
uint64_t examples_hash(const struct examples *e, chi_status *s)
{
    uint64_t hash = 0;
    int64_t room = max_i64(e->longest[CHI_SPLIT_TRAIN], e->longest[CHI_SPLIT_HELDOUT]), rows = 0;
    int32_t *row = xcalloc((size_t)(3 * room), sizeof *row);
    *s = CHI_OK;
    for (int split = 0; split < CHI_SPLITS && *s == CHI_OK; split++) {
        bool endless = split == CHI_SPLIT_TRAIN && !e->n[split];
        int64_t n = endless ? HASHED : min_i64(HASHED, e->n[split]);
        for (int64_t i = 0; i < n && *s == CHI_OK; i++) {
            *s = examples_get(e, split, i, row, row + room, row + 2 * room, &rows);
            if (*s != CHI_OK) break;
            uint64_t part[5] = { hash, (uint64_t)e->n[split], (uint64_t)rows, xxh3(row, (size_t)rows * sizeof *row),
                                 xxh3(row + room, (size_t)rows * sizeof *row) };
            hash = xxh3(part, sizeof part);
        }
    }
    free(row);
    return hash;
}

/* ---- batches --------------------------------------------------------------------- */

int64_t examples_a_sequence(const struct examples *e)
{
    return e->spec->train.seq_len / e->longest[CHI_SPLIT_TRAIN];
}

/* Number of the example at the cursor                                                 */
static int64_t at_cursor(struct examples *e, const struct cursor *c)
{
    int64_t n = e->n[CHI_SPLIT_TRAIN];
    if (!n) return c->position;
    if (e->epoch != c->epoch) {
        if (!e->order) e->order = xcalloc((size_t)n, sizeof *e->order);
        rng_permutation(e->order, n, (uint64_t)e->spec->run.seed, (uint64_t)c->epoch);
        e->epoch = c->epoch;
    }
    return e->order[c->position];
}

/* Example at the cursor to row at of the batch; its stream is its place in training    */
static chi_status add_example(struct examples *e, struct cursor *c, struct batch *b, int64_t *at)
{
    int64_t n = e->n[CHI_SPLIT_TRAIN], rows = 0;
    TRY(examples_get(e, CHI_SPLIT_TRAIN, at_cursor(e, c), b->token + *at, b->target + *at, e->slice, &rows));
    b->seg[b->n_seg++] = (struct model_segment){
        .tokens = b->token + *at, .rows = rows, .fresh = true,
        .stream = (uint64_t)c->epoch * (uint64_t)n + (uint64_t)c->position,
    };
    for (int64_t r = *at; r < *at + rows; r++) b->scored += b->target[r] >= 0;
    b->rows += rows;
    *at += rows;
    if (++c->position == n) *c = (struct cursor){ c->epoch + 1, 0 };
    return CHI_OK;
}

chi_status examples_batch(struct examples *e, struct cursor *c, struct batch *b)
{
    int64_t n = e->n[CHI_SPLIT_TRAIN], k = examples_a_sequence(e);
    if (c->epoch < 0 || c->position < 0 || (n && c->position >= n) || (!n && c->epoch))
        return fail(CHI_EDATA,
                    "position %lld of epoch %lld is outside the task's examples: it belongs to another task",
                    (long long)c->position, (long long)c->epoch);
    for (int64_t s = 0; s < b->n_seq; s++) {
        int64_t at = s * b->seq_len, end = at + b->seq_len;
        b->first_seg[s] = b->n_seg;
        for (int64_t j = 0; j < k; j++) TRY(add_example(e, c, b, &at));
        for (; at < end; at++) b->token[at] = b->target[at] = -1;
    }
    b->first_seg[b->n_seq] = b->n_seg;
    if (!b->scored)
        return fail(CHI_EPLUGIN, "task %s: no row of the %lld examples before number %lld is scored", task_name(e),
                    (long long)b->n_seg, (long long)c->position);
    return CHI_OK;
}
