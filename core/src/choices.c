/* choices.c - see choices.h.                                                           */
#include "choices.h"

#include <math.h>

#include "core.h"
#include "json.h"

double rate_error(int64_t right, int64_t n)
{
    double p = eval_accuracy(right, n);
    return n ? sqrt(p * (1 - p) / (double)n) : 0;
}

/* Documents first .. end-1 are the choices of one question                             */
struct question { int64_t first, end, sum, norm, right; int32_t slice; };

/* The next one; sum and norm are the documents that the two rules choose                */
static bool next_question(const struct dataset *d, const double *nats, int64_t n_doc, struct question *q)
{
    struct chi_choice c;
    double best = -INFINITY, best_norm = -INFINITY;
    int64_t i = q->end, number = 0;
    if (i >= n_doc) return false;
    *q = (struct question){ .first = i, .sum = -1, .norm = -1, .right = -1 };
    for (; i < n_doc; i++) {
        dataset_choice(d, i, &c);
        if (i == q->first) number = c.question;
        if (c.question != number) break;
        double l = -nats[i];
        if (l > best) best = l, q->sum = i;
        if (l / (double)c.bytes > best_norm) best_norm = l / (double)c.bytes, q->norm = i;
        if (c.right) q->right = i;
        q->slice = c.slice;
    }
    q->end = i;
    return true;
}

void choices_count(const struct dataset *d, const double *nats, int64_t n_doc, struct eval_result *r)
{
    struct question q = { .end = 0 };
    while (next_question(d, nats, n_doc, &q)) {
        bool sum = q.sum == q.right, norm = q.norm == q.right;
        r->questions++;
        r->right += sum;
        r->right_norm += norm;
        if (q.slice < 0) continue;
        struct eval_slice *s = &r->slice[q.slice];
        s->scored++;
        s->right += sum;
        s->right_norm += norm;
    }
}

static void put_number(FILE *f, double x)
{
    if (isfinite(x)) fprintf(f, "%.17g", x);
    else fputs("null", f);
}

void choices_write(const struct dataset *d, const double *nats, int64_t n_doc, FILE *f)
{
    struct eval_slice slice[EVAL_SLICES];
    struct question q = { .end = 0 };
    struct chi_choice c;
    dataset_slices(d, slice);
    for (int64_t n = 0; next_question(d, nats, n_doc, &q); n++) {
        fprintf(f, "{\"question\":%lld,\"name\":", (long long)n);
        json_quote(f, dataset_name(d, q.first));
        if (q.slice >= 0) fprintf(f, ",\"slice\":\"%s\"", slice[q.slice].name);
        fputs(",\"loglikelihood\":[", f);
        for (int64_t i = q.first; i < q.end; i++) fputs(i > q.first ? "," : "", f), put_number(f, -nats[i]);
        fputs("],\"bytes\":[", f);
        for (int64_t i = q.first; i < q.end; i++) {
            dataset_choice(d, i, &c);
            fprintf(f, "%s%lld", i > q.first ? "," : "", (long long)c.bytes);
        }
        fprintf(f, "],\"answer\":%lld,\"acc\":%s,\"acc_norm\":%s}\n", (long long)(q.right - q.first),
                q.sum == q.right ? "true" : "false", q.norm == q.right ? "true" : "false");
    }
}
