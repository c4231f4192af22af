/* pack.c - see pack.h.                                                              */
#include "pack.h"

#include <stdlib.h>

#include "core.h"
#include "rng.h"

void pack_open(struct pack *p, const int32_t *id, const int64_t *first, int64_t n_doc,
               int32_t end, uint64_t seed)
{
    *p = (struct pack){
        .id = id, .first = first, .n_doc = n_doc, .end = end, .seed = seed, .epoch = -1,
        .rows = first[n_doc] - first[0] + n_doc,
        .order = xcalloc((size_t)n_doc, sizeof(int64_t)),
        .before = xcalloc((size_t)n_doc + 1, sizeof(int64_t)),
    };
}

void pack_close(struct pack *p)
{
    free(p->order);
    free(p->before);
    *p = (struct pack){ .epoch = -1 };
}

static int64_t document_rows(const struct pack *p, int64_t i)
{
    return p->first[i + 1] - p->first[i] + 1;
}

static void shuffle(struct pack *p, int64_t epoch)
{
    if (p->epoch == epoch) return;
    rng_permutation(p->order, p->n_doc, p->seed, (uint64_t)epoch);
    for (int64_t i = 0; i < p->n_doc; i++)
        p->before[i + 1] = p->before[i] + document_rows(p, p->order[i]);
    p->epoch = epoch;
}

struct packed_part pack_part(struct pack *p, int64_t epoch, int64_t position, int64_t max)
{
    shuffle(p, epoch);
    int64_t lo = 0, hi = p->n_doc;              /* before[lo] <= position < before[hi] */
    while (hi - lo > 1) {
        int64_t mid = (lo + hi) / 2;
        if (p->before[mid] <= position) lo = mid;
        else hi = mid;
    }
    int64_t from = position - p->before[lo], left = p->before[lo + 1] - position;
    return (struct packed_part){ p->order[lo], from, min_i64(left, max) };
}

void pack_rows(const struct pack *p, struct packed_part part, int32_t *token, int32_t *target)
{
    const int32_t *id = p->id + p->first[part.document];
    int64_t n = document_rows(p, part.document) - 1;
    for (int64_t i = 0, r = part.from; i < part.rows; i++, r++) {
        token[i] = r ? id[r - 1] : p->end;
        target[i] = r < n ? id[r] : p->end;
    }
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Whole documents that fit between the first and the last part of a window: the
 * shortest ones, each as often as the window can meet it.                            */
static int64_t whole_documents(const int64_t *size, int64_t n, int64_t epoch_rows, int64_t window)
{
    int64_t times = window / epoch_rows + 2, count = 0;
    for (int64_t i = 0; i < n && window >= size[i]; i++) {
        int64_t k = min_i64(times, window / size[i]);
        count += k;
        window -= k * size[i];
    }
    return count;
}

int64_t pack_max_parts(const struct pack *p, int64_t n_seq, int64_t seq_len)
{
    int64_t *size = xcalloc((size_t)p->n_doc, sizeof *size);
    for (int64_t i = 0; i < p->n_doc; i++) size[i] = document_rows(p, i);
    qsort(size, (size_t)p->n_doc, sizeof *size, ascending);
    int64_t one = min_i64(seq_len, whole_documents(size, p->n_doc, p->rows, seq_len) + 2);
    int64_t all = whole_documents(size, p->n_doc, p->rows, n_seq * seq_len) + n_seq + 1;
    free(size);
    return min_i64(n_seq * one, min_i64(all, n_seq * seq_len));
}
