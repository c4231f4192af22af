/* metrics.c - one JSON object a line.  Fields that depend on the clock or the machine's
 * state are wall_s, tok_s and rss_mb; all others are the same bits in every repetition. */
#include <math.h>
#include <stdlib.h>

#include "choices.h"
#include "core.h"
#include "trainer.h"

/* JSON has no NaN                                                                     */
static void put_number(FILE *f, const char *name, double x)
{
    if (isfinite(x)) fprintf(f, ",\"%s\":%.9g", name, x);
    else fprintf(f, ",\"%s\":null", name);
}

static void put_clock(FILE *f, const struct trainer *t)
{
    fprintf(f, ",\"wall_s\":%.3f", trainer_wall(t));
}

static void put_meters(FILE *f, const struct trainer *t)
{
    const char *name;
    double value;
    for (int64_t i = 0; model_meter(t->model, i, &name, &value); i++) put_number(f, name, value);
}

/* Closes f and appends what it wrote                                                  */
static chi_status append(struct trainer *t, FILE *f, char **line)
{
    fputc('}', f);
    bool whole = !ferror(f) && !fclose(f);
    chi_status s = whole ? run_metrics(t->run, *line)
                         : fail(CHI_ENOMEM, "no memory for a line of metrics");
    free(*line);
    return s;
}

chi_status metrics_step(struct trainer *t, const struct step_result *r)
{
    char *line = NULL;
    size_t size = 0;
    double now = now_s(), since = now - t->line_s;
    FILE *f = open_memstream(&line, &size);
    if (!f) return fail(CHI_ENOMEM, "no memory for a line of metrics");
    fprintf(f, "{\"step\":%lld,\"tokens\":%lld", (long long)t->step, (long long)t->tokens);
    put_clock(f, t);
    put_number(f, "loss", r->loss);
    if (r->bytes) put_number(f, "bpb", r->bpb);
    put_number(f, "lr", r->lr);
    put_number(f, "grad_norm", r->norm);
    put_number(f, "clip", r->clip);
    if (!r->finite) fprintf(f, ",\"skipped\":true");
    put_number(f, "tok_s", since > 0 ? (double)(t->tokens - t->line_tokens) / since : 0);
    fprintf(f, ",\"rss_mb\":%.1f", (double)rss_bytes() / 1e6);
    put_meters(f, t);
    t->line_s = now;
    t->line_tokens = t->tokens;
    return append(t, f, &line);
}

/* Of examples: accuracy of all scored rows, then of each slice that was met as accuracy.NAME */
static void put_accuracy(FILE *f, const struct eval_result *e)
{
    put_number(f, "accuracy", eval_accuracy(e->right, e->scored));
    put_number(f, "heldout_loss", e->loss);
    for (int64_t i = 0; i < e->n_slice; i++)
        if (e->slice[i].scored)
            fprintf(f, ",\"accuracy.%s\":%.9g", e->slice[i].name,
                    eval_accuracy(e->slice[i].right, e->slice[i].scored));
    fprintf(f, ",\"heldout_scored\":%lld,\"heldout_tokens\":%lld,\"heldout_examples\":%lld", (long long)e->scored,
            (long long)e->tokens, (long long)e->documents);
}

/* Of questions: the rates of right answers and their standard errors, then those of slices     */
static void put_answers(FILE *f, const struct eval_result *e)
{
    put_number(f, "acc", eval_accuracy(e->right, e->questions));
    put_number(f, "acc_stderr", rate_error(e->right, e->questions));
    put_number(f, "acc_norm", eval_accuracy(e->right_norm, e->questions));
    put_number(f, "acc_norm_stderr", rate_error(e->right_norm, e->questions));
    put_number(f, "heldout_loss", e->loss);
    for (int64_t i = 0; i < e->n_slice; i++) {
        const struct eval_slice *s = &e->slice[i];
        if (s->scored)
            fprintf(f, ",\"acc.%s\":%.9g,\"acc_norm.%s\":%.9g", s->name, eval_accuracy(s->right, s->scored), s->name,
                    eval_accuracy(s->right_norm, s->scored));
    }
    fprintf(f, ",\"heldout_questions\":%lld,\"heldout_tokens\":%lld", (long long)e->questions, (long long)e->tokens);
}

static void put_text_measures(FILE *f, const struct eval_result *e)
{
    put_number(f, "heldout_bpb", e->bits_per_byte);
    put_number(f, "heldout_loss", e->loss);
    fprintf(f, ",\"heldout_bytes\":%lld,\"heldout_tokens\":%lld,\"heldout_documents\":%lld",
            (long long)e->bytes, (long long)e->tokens, (long long)e->documents);
}

chi_status metrics_heldout(struct trainer *t, const struct eval_result *e)
{
    char *line = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&line, &size);
    if (!f) return fail(CHI_ENOMEM, "no memory for a line of metrics");
    fprintf(f, "{\"step\":%lld,\"tokens\":%lld", (long long)t->step, (long long)t->tokens);
    put_clock(f, t);
    if (e->questions) put_answers(f, e);
    else if (e->examples) put_accuracy(f, e);
    else put_text_measures(f, e);
    for (int64_t i = 0; i < e->n_meter; i++) put_number(f, e->meter[i].name, e->meter[i].value);
    return append(t, f, &line);
}
