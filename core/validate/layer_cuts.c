/* layer_cuts.c - a stream cut into calls, and causality.
 *
 * Rule 4 of chimera/layer.h: in inference a row's bits depend on the rows before it in its
 * stream, not on how calls cut the stream.  A training form may sum in another order: it is
 * held to a tolerance, unless the cap SPLIT_FREE promises more.                              */
#include "layer_checks.h"

#include <math.h>
#include <string.h>

#include "core.h"

enum { T = 40 };                        /* rows of a stream; crosses chunks of 32            */
static const double NEAR = 1e-4;        /* training against inference, relative to the largest */

/* What one inference call over the stream gives                                             */
struct whole { float *y; unsigned char *state; };

static bool run_whole(struct rig *r, const struct stream *s, enum how how, struct whole *w)
{
    if (!stream_run(r, s, 0, s->rows, how)) return false;
    w->y = kept_copy(r, s->y, row_bytes(r, s->rows));
    w->state = kept_copy(r, s->state, r->state_bytes);
    memset(s->y, 0, (size_t)row_bytes(r, s->rows));
    return true;
}

static bool equals_whole(struct rig *r, const struct stream *s, const struct whole *w, const char *what)
{
    char state[160];
    snprintf(state, sizeof state, "the state after %s", what);
    return rig_same(r, what, s->y, w->y, s->rows, r->d)
        && rig_same_bytes(r, state, s->state, w->state, r->state_bytes);
}

/* ---- step ----------------------------------------------------------------------------------- */

static void rows_one_by_one(struct rig *r)
{
    struct stream s = stream_new(r, 3, 0, T);
    struct whole w;
    if (!run_whole(r, &s, FORWARD, &w)) return;
    for (int64_t t = 0; t < T; t++)
        if (!stream_run(r, &s, t, t + 1, STEP)) return;
    if (!equals_whole(r, &s, &w, "row by row through step, against one call of 40 rows")) return;
    memset(s.y, 0, (size_t)row_bytes(r, T));
    for (int64_t t = 0; t < T; t++)
        if (!stream_run(r, &s, t, t + 1, FORWARD)) return;
    equals_whole(r, &s, &w, "row by row through forward, against one call of 40 rows");
}

void check_step_rows(struct trial *t)
{
    each_case(t, INFERENCE, T, 1, rows_one_by_one);
}

/* Pieces of random length, up to longest rows                                                */
static bool run_pieces(struct rig *r, const struct stream *s, int64_t longest, enum how how)
{
    for (int64_t at = 0, n; at < s->rows; at += n) {
        n = min_i64(s->rows - at, trial_between(r->trial, 1, longest));
        if (!stream_run(r, s, at, at + n, how)) return false;
    }
    return true;
}

static void pieces(struct rig *r)
{
    struct stream s = stream_new(r, 5, 0, T);
    struct whole w;
    char what[80];
    if (!run_whole(r, &s, FORWARD, &w)) return;
    for (int64_t cut = 1; cut < T; cut++) {
        snprintf(what, sizeof what, "cut before row %lld, against one call of 40 rows", (long long)cut);
        if (!stream_run(r, &s, 0, cut, FORWARD) || !stream_run(r, &s, cut, T, FORWARD)) return;
        if (!equals_whole(r, &s, &w, what)) return;
    }
    for (int64_t longest = 2; longest <= 16; longest *= 2) {
        snprintf(what, sizeof what, "in pieces of up to %lld rows, against one call of 40", (long long)longest);
        if (!run_pieces(r, &s, longest, FORWARD) || !equals_whole(r, &s, &w, what)) return;
    }
}

void check_step_cuts(struct trial *t)
{
    each_case(t, INFERENCE, T, 1, pieces);
}

/* Row by row, in short pieces and in long ones                                               */
static void long_pieces(struct rig *r)
{
    struct stream s;
    struct whole w;
    char what[80];
    if (!takes_long(r)) return;
    s = stream_new(r, 6, 0, LONG);
    if (!run_whole(r, &s, FORWARD, &w)) return;
    for (int64_t longest = 1; longest <= 125; longest *= 5) {
        snprintf(what, sizeof what, "in pieces of up to %lld rows, against one call of %d", (long long)longest, LONG);
        if (!run_pieces(r, &s, longest, longest == 1 ? STEP : FORWARD) || !equals_whole(r, &s, &w, what)) return;
    }
}

void check_step_long(struct trial *t)
{
    each_case(t, INFERENCE, LONG, 1, long_pieces);
}

static void near_whole(struct rig *r, const struct stream *s, const struct whole *w, const char *what)
{
    double e = rig_distance(s->y, w->y, s->rows * r->d);
    if (!(e <= NEAR))
        trial_fail(r->trial, "%s: they differ by %.2g of the largest number, %.0g is allowed (%s)", what, e, NEAR,
                   case_words(r->is));
}

static void keep_or_not(struct rig *r)
{
    struct stream s = stream_new(r, 7, 0, T);
    struct whole inference, keep;
    if (!run_whole(r, &s, FORWARD, &inference) || !run_whole(r, &s, KEEP, &keep)) return;
    memcpy(s.y, keep.y, (size_t)row_bytes(r, T));
    memcpy(s.state, keep.state, (size_t)r->state_bytes);
    near_whole(r, &s, &inference, "forward with keep against forward without");
    for (int64_t longest = 3; longest <= 24; longest *= 2) {
        if (!run_pieces(r, &s, longest, KEEP)) return;
        if (!has_cap(r, CHI_LAYER_SPLIT_FREE)) near_whole(r, &s, &inference, "pieces with keep against one call");
        else if (!equals_whole(r, &s, &keep, "SPLIT_FREE: pieces with keep, against one call")) return;
    }
}

void check_step_keep(struct trial *t)
{
    each_case(t, TRAINING, T, 1, keep_or_not);
}

/* What open() is told of calls and of training changes no result: y of forward, then of the same stream in
 * a layer that was opened for inference, small calls and the same weights                      */
static void opened_otherwise(struct rig *r)
{
    const struct model_tensor *v, *w;
    struct rig other;
    struct stream s = stream_new(r, 7, 0, T);
    struct whole whole;
    if (!run_whole(r, &s, FORWARD, &whole) || !rig_open(&other, r->trial, r->is, false, T, 5)) return;
    for (int64_t i = 0; (v = solo_tensor(r->solo, i)) && (w = solo_tensor(other.solo, i)); i++)
        memcpy(w->w, v->w, (size_t)min_i64(v->n, w->n) * sizeof *w->w);
    if (other.state_bytes != r->state_bytes)
        trial_fail(r->trial, "a stream has %lld bytes of state in a layer opened for training, %lld in one for "
                   "inference (%s)",
                   (long long)r->state_bytes, (long long)other.state_bytes, case_words(r->is));
    else if (trial_must(r->trial, solo_bind(other.solo), "binding weights") && stream_run(&other, &s, 0, T, FORWARD))
        equals_whole(r, &s, &whole, "a forward in a layer opened for inference, against one opened for training");
    rig_close(&other);
}

void check_step_opened(struct trial *t)
{
    each_case(t, TRAINING, T, 1, opened_otherwise);
}

/* A call of no rows writes nothing; calls as large as open() was told of work, and have the bits
 * of small ones                                                                             */
static void limits(struct rig *r)
{
    struct stream s[8];
    struct chi_segment g[8];
    float *x = rig_random_rows(r, T, 1), *y = rig_random_rows(r, T, 1), *before = kept_copy(r, y, row_bytes(r, T));
    int64_t n = r->max_segs, rows = r->max_rows / n;
    if (!rig_forward(r, NULL, 0, false, x, y)) return;
    if (!rig_same(r, "a call of no rows writes to y", y, before, T, r->d)) return;
    for (int64_t i = 0; i < n; i++) {
        s[i] = stream_new(r, (uint64_t)i, 0, rows);
        if (!stream_run(r, &s[i], 0, rows, FORWARD)) return;
        stream_rewind(r, &s[i]);
        memcpy(x + i * rows * r->d, s[i].x, (size_t)row_bytes(r, rows));
        g[i] = stream_segment(&s[i], 0, rows, i * rows);
    }
    if (!rig_forward(r, g, n, false, x, y)) return;
    for (int64_t i = 0; i < n; i++)
        if (!rig_same(r, "a call of max_rows in max_segs streams, against calls of one stream", y + i * rows * r->d,
                      s[i].y, rows, r->d))
            return;
}

void check_step_limits(struct trial *t)
{
    each_case(t, INFERENCE, T, 8, limits);
}

/* ---- causality --------------------------------------------------------------------------------- */

/* Replaces the rows from t on: by other numbers, by loud ones, by NaN                        */
enum change { OTHER, LOUD, NOT_A_NUMBER };
static void change_rows(struct rig *r, const struct stream *s, int64_t t, enum change how)
{
    for (int64_t i = t * r->d; i < s->rows * r->d; i++)
        s->x[i] = how == NOT_A_NUMBER ? NAN : trial_uniform(r->trial) * (how == LOUD ? 200.0f : 1.0f);
}

static void say_future(struct rig *r, const struct stream *s, const struct whole *w, int64_t t, const char *how)
{
    char what[120];
    snprintf(what, sizeof what, "causality: rows before %lld changed with %s of row %lld and later", (long long)t,
             how, (long long)t);
    rig_same(r, what, s->y, w->y, t, r->d);
}

static void future_changes(struct rig *r)
{
    static const char *const how[] = { "other numbers", "loud numbers", "NaNs" };
    struct stream s = stream_new(r, 9, 0, T);
    struct whole w;
    if (!run_whole(r, &s, FORWARD, &w)) return;
    float *x = kept_copy(r, s.x, row_bytes(r, T));
    for (int64_t t = 1; t < T && r->trial->outcome < TRIAL_FAILED; t += t < 4 ? 1 : 7)
        for (int c = OTHER; c <= NOT_A_NUMBER; c++) {
            struct chi_segment g = stream_segment(&s, 0, T, 0);
            change_rows(r, &s, t, (enum change)c);
            stream_rewind(r, &s);
            chi_status e = solo_forward(r->solo, &g, 1, false, s.x, s.y);
            memcpy(s.x, x, (size_t)row_bytes(r, T));
            if (e == CHI_ENUMERIC) continue;            /* it may refuse NaN                  */
            if (!trial_must(r->trial, e, "forward")) return;
            say_future(r, &s, &w, t, how[c]);
        }
}

static bool claims_causality(struct trial *t)
{
    if (t->component->caps & CHI_LAYER_CAUSAL) return true;
    trial_skip(t, "it does not claim CHI_LAYER_CAUSAL");
    return false;
}

void check_causal_forward(struct trial *t)
{
    if (claims_causality(t)) each_case(t, INFERENCE, T, 1, future_changes);
}

static void future_changes_in_training(struct rig *r)
{
    struct stream s = stream_new(r, 9, 0, T);
    struct whole w;
    if (!run_whole(r, &s, KEEP, &w)) return;
    float *x = kept_copy(r, s.x, row_bytes(r, T));
    for (int64_t t = 1; t < T && r->trial->outcome < TRIAL_FAILED; t += 6) {
        change_rows(r, &s, t, OTHER);
        bool ok = stream_run(r, &s, 0, T, KEEP);
        memcpy(s.x, x, (size_t)row_bytes(r, T));
        if (!ok) return;
        struct stream before = s;
        before.rows = t;
        if (has_cap(r, CHI_LAYER_SPLIT_FREE)) say_future(r, &s, &w, t, "other numbers (keep)");
        else near_whole(r, &before, &w, "causality with keep: earlier rows changed with later ones");
    }
}

void check_causal_keep(struct trial *t)
{
    if (claims_causality(t)) each_case(t, TRAINING, T, 1, future_changes_in_training);
}

/* The loss looks at rows before t alone                                                      */
static void gradients_of_the_past(struct rig *r)
{
    struct stream s = stream_new(r, 9, 0, T);
    for (int64_t t = 1; t < T && r->trial->outcome < TRIAL_FAILED; t += 6) {
        float *dy = rig_random_rows(r, T, 1), *dx = rig_rows(r, T);
        struct chi_segment g = stream_segment(&s, 0, T, 0);
        double size = 0, worst = 0;
        memset(dy + t * r->d, 0, (size_t)row_bytes(r, T - t));
        if (!stream_run(r, &s, 0, T, KEEP)) return;
        stream_rewind(r, &s);
        if (!rig_backward(r, &g, 1, s.x, dy, dx)) return;
        for (int64_t i = 0; i < T * r->d; i++) {
            double *most = i < t * r->d ? &size : &worst;
            if (!(fabs((double)dx[i]) <= *most)) *most = fabs((double)dx[i]);
        }
        if (!(worst <= 1e-5 * size))
            trial_fail(r->trial, "causality: the loss of rows before %lld has a slope of %.3g in later rows, %.3g "
                       "in its own (%s)", (long long)t, worst, size, case_words(r->is));
    }
}

void check_causal_backward(struct trial *t)
{
    if (claims_causality(t)) each_case(t, TRAINING, T, 1, gradients_of_the_past);
}
