/* train.c - the loop: a batch, its gradient, a decision, an update.
 *
 * A step's gradient is the sum over its micro-batches as a fixed binary tree
 * (gradient.h), of losses that each count 1 / (scored targets of the step).  Whether it
 * is finite is known before a weight moves:
 *   stop      ends the run; the weights on disk are those before the step
 *   skip      the step counts, its batch is passed, weights stay; 11 in a row end the run
 *   rollback  back to the newest checkpoint, on behind the bad batch, with half the
 *             learning rate until the bad step has passed; the fourth ends the run
 * No checkpoint is written between skipped steps, so what a resumed run counts is what
 * an uninterrupted one counted.  Order at the end of a step: metrics, checkpoint,
 * evaluation; resume repeats the evaluation, whose line comes after the checkpoint,
 * even if the checkpoint was made behind it, because a signal or a NaN ended the run.  */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "crumb.h"
#include "profile.h"
#include "signals.h"
#include "trainer.h"

/* ---- one step ---------------------------------------------------------------------- */

/* The targets of segments i .. end-1 in a row, as the model wants them: what is behind the
 * last segment of a sequence is not computed.                                         */
static const int32_t *targets_of(const struct batch *b, int64_t i, int64_t end, int32_t *room)
{
    const int32_t *first = b->target + (b->seg[i].tokens - b->token);
    if (b->rows == b->n_seq * b->seq_len) return first;
    for (int64_t n = 0; i < end; n += b->seg[i++].rows)
        memcpy(room + n, b->target + (b->seg[i].tokens - b->token), (size_t)b->seg[i].rows * sizeof *room);
    return room;
}

/* Sequences s0 .. s1-1; a NaN that something below refused is a loss that is NaN      */
static chi_status micro_gradient(struct trainer *t, const struct batch *b, int64_t s0, int64_t s1,
                                 double *loss)
{
    int64_t i = b->first_seg[s0], end = b->first_seg[s1];
    int32_t *room = xcalloc((size_t)((s1 - s0) * b->seq_len), sizeof *room);
    span("gradients", "core", "zero");
    span_work(4.0 * (double)model_param_floats(t->model), 0);
    model_zero_grads(t->model);
    span_end();
    *loss = 0;
    chi_status s = model_train(t->model, b->seg + i, end - i, targets_of(b, i, end, room), 1 / (double)b->scored,
                               loss);
    free(room);
    if (s != CHI_ENUMERIC) return s;
    *loss = NAN;                        /* model_find_nonfinite() will say where          */
    return CHI_OK;
}

static chi_status batch_gradient(struct trainer *t, const struct batch *b, double *loss)
{
    const struct train_options *o = &t->spec->train;
    int64_t micro = o->micro_batch ? min_i64(o->micro_batch, b->n_seq) : b->n_seq;
    for (int64_t s = 0; s < b->n_seq; s += micro) {
        double l = 0;
        TRY(micro_gradient(t, b, s, min_i64(s + micro, b->n_seq), &l));
        span("gradients", "core", "add");
        tree_add(&t->tree, model_grads(t->model), l);
        span_end();
    }
    span("gradients", "core", "sum");
    tree_sum(&t->tree, model_grads(t->model), loss);
    span_end();
    return CHI_OK;
}

/* The turns of each sequence of the batch, if the model has a loop                    */
static void set_depths(struct trainer *t, struct batch *b)
{
    for (int64_t s = 0; s < b->n_seq; s++) {
        struct chi_depth depth = model_depth(t->model, (uint64_t)s, t->step);
        for (int64_t i = b->first_seg[s]; i < b->first_seg[s + 1]; i++) b->seg[i].depth = depth;
    }
}

chi_status train_on(struct trainer *t, const struct batch *b, struct step_result *r)
{
    const struct train_options *o = &t->spec->train;
    double nats = 0, begun = now_s();
    TRY(batch_gradient(t, b, &nats));
    model_steer(t->model, trainer_progress(t, t->step));
    r->rows = b->rows;
    r->scored = b->scored;
    r->bytes = b->bytes;
    r->loss = nats / (double)r->scored;
    r->bpb = nats / log(2) / (double)max_i64(r->bytes, 1);
    r->lr = trainer_lr(t, t->step);
    span("gradients", "core", "norm");
    span_work(4.0 * (double)model_param_floats(t->model), 2.0 * (double)model_param_floats(t->model));
    r->norm = sqrt(gradient_squares(t->squares, t->n_slice));
    span_end();
    r->clip = o->grad_clip > 0 ? fmin(1, o->grad_clip / (r->norm + 1e-6)) : 1;
    r->finite = isfinite(r->loss) && isfinite(r->norm);
    r->seconds = now_s() - begun;
    return CHI_OK;
}

chi_status train_gradient(struct trainer *t, struct step_result *r)
{
    struct batch b = { 0 };
    crash_step(t->step + 1);
    span("data", t->spec->task.component->name, "batch");
    TRY(dataset_batch(t->data, &t->cursor, &b));
    span_end();
    set_depths(t, &b);
    trace_batch(t, &b);
    chi_status s = train_on(t, &b, r);
    batch_free(&b);
    return s;
}

/* Those that nothing holds, into room; returns how many                               */
static int64_t moving_slices(const struct trainer *t, struct chi_slice *room)
{
    int64_t n = 0;
    for (int64_t i = 0; i < t->n_slice; i++)
        if (!*t->held[i]) room[n++] = t->slice[i];
    return n;
}

chi_status train_update(struct trainer *t, struct step_result *r)
{
    const struct chi_optimizer_ops *ops = t->spec->optimizer.component->ops;
    struct chi_slice *slice = xcalloc((size_t)t->n_slice, sizeof *slice);
    int64_t n_slice = moving_slices(t, slice);
    double begun = now_s();
    struct crumb crumb = { t->h->instance, t->spec->optimizer.component->name, "update" };
    const struct crumb *was = crumb_set(&crumb);
    span(crumb.instance, crumb.component, crumb.op);
    span_work(4.0 * (3 + 2 * t->moments.n) * (double)model_param_floats(t->model), 0);
    chi_status s = ops->update(t->h, t->spec->optimizer.conf, slice, n_slice, t->step + 1, r->lr, r->clip);
    span_end();
    crumb_set(was);
    free(slice);
    TRY(s);
    span("weights", "core", "settle and quantise");
    model_settle(t->model);
    TRY(trainer_bind(t, t->step + 1));
    span_end();
    r->seconds += now_s() - begun;
    return CHI_OK;
}

/* ---- what is not finite ------------------------------------------------------------- */

static char *describe(const struct trainer *t, const struct step_result *r)
{
    const char *where = model_find_nonfinite(t->model, true);
    if (!where) where = model_find_nonfinite(t->model, false);
    return xprintf("step %lld: loss %g, gradient norm %g; first not finite: %s", (long long)t->step + 1,
                   r->loss, fabs(r->norm), where ? where : "the loss itself");
}

static chi_status stop_at_nonfinite(const struct trainer *t, const char *what, const char *why)
{
    static const char *const policy[] = { "stop", "skip", "rollback" };
    return fail(CHI_ENUMERIC, "%s; train.nonfinite = %s%s. No weight was touched; %s holds what was saved. "
                "A lower train.lr or train.nonfinite = skip | rollback may help", what,
                policy[t->spec->train.nonfinite], why, run_dir(t->run));
}

/* *again: the step is to be taken anew (from a checkpoint)                            */
static chi_status handle_nonfinite(struct trainer *t, const struct step_result *r, bool *again)
{
    int32_t policy = t->spec->train.nonfinite;
    char *what = describe(t, r);
    chi_status s = CHI_OK;
    *again = false;
    if (policy == NONFINITE_STOP) s = stop_at_nonfinite(t, what, "");
    else if (policy == NONFINITE_SKIP && ++t->skipped > SKIPS)
        s = stop_at_nonfinite(t, what, ", but 10 steps in a row were skipped before");
    else if (policy == NONFINITE_SKIP) warn("%s; skipped", what);
    else if (t->n_rollback == ROLLBACKS)
        s = stop_at_nonfinite(t, what, ", but 3 rollbacks did not help");
    else if ((s = trainer_roll_back(t)) == CHI_OK) {
        *again = true;
        warn("%s; back to step %lld with half the learning rate", what, (long long)t->step);
    }
    free(what);
    return s;
}

/* ---- what is due after a step -------------------------------------------------------- */

static bool is_due(const struct trainer *t, int64_t every)
{
    return t->step == t->spec->train.steps || (every > 0 && t->step % every == 0);
}

static void show_part(void *ctx, int64_t done, int64_t total)
{
    progress_part(ctx, "held-out data", done, total);
}

static void note_heldout(const struct trainer *t, const struct eval_result *e)
{
    char *slices = xstrdup("");
    for (int64_t i = 0; i < e->n_slice; i++) {
        if (!e->slice[i].scored) continue;
        char *more = xprintf("%s%s %s %.3f", slices, *slices ? "," : ":", e->slice[i].name,
                             eval_accuracy(e->slice[i].right, e->slice[i].scored));
        free(slices);
        slices = more;
    }
    if (e->questions)
        note("step %lld: held-out acc %.4f, acc_norm %.4f (%lld questions)", (long long)t->step,
             eval_accuracy(e->right, e->questions), eval_accuracy(e->right_norm, e->questions),
             (long long)e->questions);
    else if (e->examples)
        note("step %lld: held-out accuracy %.4f, loss %.4f (%lld examples)%s", (long long)t->step,
             eval_accuracy(e->right, e->scored), e->loss, (long long)e->documents, slices);
    else
        note("step %lld: held-out bits per byte %.4f (%lld documents, %lld bytes)", (long long)t->step,
             e->bits_per_byte, (long long)e->documents, (long long)e->bytes);
    free(slices);
}

static chi_status evaluate_if_due(struct trainer *t)
{
    struct eval_result e;
    if (!t->step || !is_due(t, t->spec->train.eval_every)) return CHI_OK;
    if (!dataset_documents(t->data, CHI_SPLIT_HELDOUT)) return CHI_OK;
    TRY(evaluate(t->model, t->data, CHI_SPLIT_HELDOUT, t->spec->train.eval_bytes, &e, show_part, &t->progress));
    if (e.interrupted) t->interrupted = signals_pending();
    if (e.interrupted) return CHI_OK;           /* resume measures this step again    */
    t->evaluated = t->step;
    t->evaluated_bytes = run_metrics_bytes(t->run);
    eval_free(&e);
    TRY(metrics_heldout(t, &e));
    progress_end(&t->progress);
    note_heldout(t, &e);
    t->line_s = now_s();
    return CHI_OK;
}

/* A full disk must not end a run that has hours behind it: the next interval tries again */
static chi_status save_if_due(struct trainer *t)
{
    bool last = t->step == t->spec->train.steps || signals_pending();
    if (!last && (t->skipped || !is_due(t, t->spec->train.checkpoint_every))) return CHI_OK;
    if (t->saved == t->step) return CHI_OK;
    chi_status s = trainer_save(t);
    if (s == CHI_OK || last) return s;
    progress_end(&t->progress);
    warn("no checkpoint at step %lld: %s", (long long)t->step, fail_text());
    return CHI_OK;
}

static void show_step(struct trainer *t, const struct step_result *r)
{
    struct progress_step p = {
        .step = t->step, .steps = t->spec->train.steps, .loss = r->loss, .lr = r->lr,
        .bpb = r->bytes ? r->bpb : NAN,
        .tok_s = (double)r->rows / (r->seconds > 0 ? r->seconds : 1), .step_s = r->seconds,
        .due = is_due(t, t->spec->train.log_every),
    };
    progress_step(&t->progress, &p);
}

static chi_status finish_step(struct trainer *t, const struct step_result *r)
{
    t->step++;
    t->tokens += r->rows;
    show_step(t, r);
    TRY(trace_step(t, r));
    if (is_due(t, t->spec->train.log_every)) TRY(metrics_step(t, r));
    TRY(save_if_due(t));
    t->interrupted = signals_pending();
    return t->interrupted ? CHI_OK : evaluate_if_due(t);
}

/* The run ends with s: what it has learned so far is saved as of before the bad batch  */
static chi_status keep_weights(struct trainer *t, struct cursor before, chi_status s)
{
    char *why = xstrdup(fail_text());
    t->cursor = before;
    if (!t->skipped && t->step && t->saved != t->step && trainer_save(t) != CHI_OK)
        warn("no checkpoint at step %lld: %s", (long long)t->step, fail_text());
    fail(s, "%s", why);
    free(why);
    return s;
}

static chi_status take_step(struct trainer *t)
{
    struct step_result r = { 0 };
    struct cursor before = t->cursor;
    bool again = false;
    TRY(train_gradient(t, &r));
    if (!r.finite) {
        progress_end(&t->progress);
        chi_status s = handle_nonfinite(t, &r, &again);
        if (s != CHI_OK) return keep_weights(t, before, s);
        return again ? evaluate_if_due(t) : finish_step(t, &r);   /* its line was cut off */
    }
    TRY(train_update(t, &r));
    t->skipped = 0;
    return finish_step(t, &r);
}

static chi_status loop(struct trainer *t)
{
    TRY(evaluate_if_due(t));                    /* of a checkpoint gone on from       */
    while (t->step < t->spec->train.steps && !signals_pending()) TRY(take_step(t));
    if (t->step < t->spec->train.steps) t->interrupted = signals_pending();
    return signals_pending() && t->saved != t->step ? trainer_save(t) : CHI_OK;
}

/* ---- a run --------------------------------------------------------------------------- */

static chi_status close_status(struct trainer *t, chi_status s, int signal)
{
    char *reason = s != CHI_OK ? xstrdup(fail_text())
                 : signal ? xprintf("%s at step %lld", signals_name(signal), (long long)t->step)
                 : xprintf("%lld steps", (long long)t->step);
    chi_status w = run_status(t->run, s != CHI_OK ? "failed" : signal ? "stopped" : "done", reason);
    if (s == CHI_OK && signal)
        note("%s: saved step %lld in %s; --resume goes on", signals_name(signal), (long long)t->step,
             run_dir(t->run));
    else if (s == CHI_OK) note("%lld steps done: %s", (long long)t->step, run_dir(t->run));
    else {
        fail(s, "%s", reason);                  /* run_status may have said something */
        w = s;
    }
    free(reason);
    return w;
}

/* What has been recorded is written whatever ended the run; the first failure counts     */
static chi_status end_trace(struct trainer *t, chi_status s)
{
    char *why = s != CHI_OK ? xstrdup(fail_text()) : NULL;
    chi_status end = trace_close(t);
    if (why) fail(s, "%s", why);
    free(why);
    return s != CHI_OK ? s : end;
}

static void advise(const struct trainer *t)
{
    char *text = xprintf("what was saved is whole: `chimera train %s --resume` goes on from its newest checkpoint, "
                         "from the start if there is none", run_dir(t->run));
    crash_advice(text);
    free(text);
}

chi_status train(const struct train_request *q, int *signal)
{
    struct trainer t;
    bool go = false;
    *signal = 0;
    signals_catch();
    chi_status s = trainer_open(&t, q, &go);
    if (go) {
        progress_begin(&t.progress, t.step);
        t.begun = t.line_s = now_s();
        advise(&t);
        t.line_tokens = t.tokens;
        s = run_status(t.run, "running", "");
        if (s == CHI_OK && q->trace) s = trace_open(&t, q->trace);
        if (s == CHI_OK) s = loop(&t);
        s = end_trace(&t, s);
        if (s == CHI_OK) s = run_sync(t.run);
        *signal = s == CHI_OK ? t.interrupted : 0;
        progress_end(&t.progress);
        s = close_status(&t, s, *signal);
    }
    if (!go && s != CHI_OK && (*signal = signals_pending())) {
        note("%s before the first step", signals_name(*signal));
        s = CHI_OK;
    }
    crash_step(0);
    crash_advice(NULL);
    trainer_close(&t);
    signals_release();
    return s;
}
