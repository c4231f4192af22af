/* tally.c - sums of counts over a measurement, by instance and name; see tally.h.
 *
 *     imbalance = max over i of sum_i / (mean over i of sum_i) - 1
 *
 * For loads of experts that is MaxVio of arXiv 2408.15664, which it calls global when the sums
 * are over a whole validation set.  Sums of whole numbers: no order or cut of calls shows.    */
#include "tally.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"

struct tally { const char *instance, *name; int64_t *sum, n; };
static struct tally *tally;
static int64_t n_tally;
static bool counting;

static void drop(struct tally *t)
{
    free(t->sum);
    *t = tally[--n_tally];
}

/* The order of what is left may change: only tally_begin() and closing come here              */
void tally_forget(const char *instance)
{
    for (int64_t i = n_tally; i-- > 0;)
        if (tally[i].instance == instance) drop(&tally[i]);
    if (n_tally) return;
    free(tally);
    tally = NULL;
}

void tally_begin(void)
{
    while (n_tally) tally_forget(tally[0].instance);
    counting = true;
}

void tally_end(void)
{
    counting = false;
}

static struct tally *tally_of(const char *instance, const char *name, int64_t n)
{
    for (int64_t i = 0; i < n_tally; i++)
        if (tally[i].instance == instance && tally[i].n == n && !strcmp(tally[i].name, name)) return &tally[i];
    tally = xrealloc(tally, (size_t)(n_tally + 1) * sizeof *tally);
    tally[n_tally] = (struct tally){ instance, name, xcalloc((size_t)n, sizeof(int64_t)), n };
    return &tally[n_tally++];
}

static void add(const struct chi_host *h, const char *name, const int64_t *count, int64_t n)
{
    if (!counting || n < 1) return;
    struct tally *t = tally_of(h->instance, name, n);
    for (int64_t i = 0; i < n; i++) t->sum[i] += count[i];
}

const struct chi_tally tally_service = { sizeof tally_service, add };

/* False: nothing was counted                                                                 */
static bool imbalance(const struct tally *t, double *value)
{
    double all = 0, most = 0;
    for (int64_t i = 0; i < t->n; i++) {
        all += (double)t->sum[i];
        most = (double)t->sum[i] > most ? (double)t->sum[i] : most;
    }
    *value = all > 0 ? most / (all / (double)t->n) - 1 : 0;
    return all > 0;
}

bool tally_value(int64_t i, const char **name, double *value)
{
    for (int64_t m = 0; m < n_tally; m++) {
        bool first = true;
        double sum = 0, one;
        int64_t n = 0;
        for (int64_t e = 0; e < m; e++) first = first && strcmp(tally[e].name, tally[m].name);
        for (int64_t e = m; first && e < n_tally; e++)
            if (!strcmp(tally[e].name, tally[m].name) && imbalance(&tally[e], &one)) sum += one, n++;
        if (!n || i-- > 0) continue;
        *name = tally[m].name;
        *value = sum / (double)n;
        return true;
    }
    return false;
}
