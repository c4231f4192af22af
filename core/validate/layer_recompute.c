/* layer_recompute.c - what backward reads: arrays that forward kept, and nothing else.
 *
 * Long before backward comes, other layers and other calls have used the memory of arrays that
 * are not kept, and a kept array may have been filled again by a second forward, when the first one's
 * content was given up to save memory.  Both must give the bits of the plain way.             */
#include "layer_checks.h"

#include <string.h>

#include "core.h"

enum { ROWS = 40, SEGS = 2, FIRST = 34 };

struct call {
    struct stream s[SEGS];
    struct chi_segment g[SEGS];
    float *x, *y, *dy, *dx;
    float *grads;                       /* all tensors, one after the other                    */
};

static struct call call_new(struct rig *r)
{
    struct call c = { .s = { stream_new(r, 1, 0, FIRST), stream_new(r, 2, 0, ROWS - FIRST) },
                      .x = rig_rows(r, ROWS), .y = rig_rows(r, ROWS), .dy = rig_random_rows(r, ROWS, 1) };
    for (int64_t i = 0, at = 0; i < SEGS; at += c.s[i].rows, i++) {
        c.g[i] = stream_segment(&c.s[i], 0, c.s[i].rows, at);
        memcpy(c.x + at * r->d, c.s[i].x, (size_t)row_bytes(r, c.s[i].rows));
    }
    return c;
}

static bool forward(struct rig *r, struct call *c)
{
    for (int64_t i = 0; i < SEGS; i++) stream_rewind(r, &c->s[i]);
    return rig_forward(r, c->g, SEGS, true, c->x, c->y);
}

/* dx and grads are new blocks                                                                  */
static bool backward(struct rig *r, struct call *c)
{
    const struct model_tensor *w;
    int64_t n = 0;
    rig_zero_grads(r);
    for (int64_t i = 0; i < SEGS; i++) stream_rewind(r, &c->s[i]);
    c->dx = rig_rows(r, ROWS);
    if (!rig_backward(r, c->g, SEGS, c->x, c->dy, c->dx)) return false;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++) n += w->n;
    float *at = c->grads = rig_block(r, n * (int64_t)sizeof(float));
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); at += w->n, i++) memcpy(at, w->g, (size_t)w->n * sizeof *at);
    return true;
}

static bool same_call(struct rig *r, const char *how, const struct call *got, const struct call *want)
{
    const struct model_tensor *w;
    char what[160];
    snprintf(what, sizeof what, "%s: dx", how);
    if (!rig_same(r, what, got->dx, want->dx, ROWS, r->d)) return false;
    const float *a = got->grads, *b = want->grads;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); a += w->n, b += w->n, i++) {
        snprintf(what, sizeof what, "%s: the gradient of %s", how, w->name);
        if (!rig_same(r, what, a, b, 1, w->n)) return false;
    }
    return true;
}

/* Between the two forwards the arrays served another call                                      */
static void again(struct rig *r)
{
    struct call c = call_new(r), other = call_new(r), second = c;
    if (!forward(r, &c) || !backward(r, &c)) return;
    if (!forward(r, &other) || !forward(r, &second) || !backward(r, &second)) return;
    if (!same_call(r, "backward after a second forward, against the first", &second, &c)) return;
    solo_poison(r->solo, true);
    if (forward(r, &second) && backward(r, &second))
        same_call(r, "backward after a forward over arrays full of NaN, against the first", &second, &c);
}

void check_recompute_again(struct trial *t)
{
    each_case(t, TRAINING, ROWS, SEGS, again);
}

static void workspace(struct rig *r)
{
    struct call c = call_new(r), second = c;
    if (!forward(r, &c) || !backward(r, &c) || !forward(r, &second)) return;
    solo_poison(r->solo, false);
    if (backward(r, &second))
        same_call(r, "backward after arrays without CHI_ARRAY_KEEP were overwritten", &second, &c);
}

void check_recompute_workspace(struct trial *t)
{
    each_case(t, TRAINING, ROWS, SEGS, workspace);
}

/* The same rows under other weights, once in arrays of the old weights, once in empty ones        */
static void other_weights(struct rig *r)
{
    struct call c = call_new(r), clean = c;
    if (!forward(r, &c) || !backward(r, &c)) return;
    rig_weights(r, r->trial->seed + 77);
    if (!forward(r, &c) || !backward(r, &c)) return;
    float *y = kept_copy(r, c.y, row_bytes(r, ROWS));
    solo_poison(r->solo, true);
    if (!forward(r, &clean) || !backward(r, &clean)) return;
    if (rig_same(r, "forward after other weights, against forward in empty arrays: an earlier call shows through", y,
                 clean.y, ROWS, r->d))
        same_call(r, "backward after other weights, against that in empty arrays: an earlier call shows through", &c,
                  &clean);
}

void check_recompute_weights(struct trial *t)
{
    each_case(t, TRAINING, ROWS, SEGS, other_weights);
}

static void twice(struct rig *r)
{
    struct call c = call_new(r), second = c;
    if (!forward(r, &c) || !backward(r, &c) || !backward(r, &second)) return;
    same_call(r, "a second backward from the same arrays, against the first", &second, &c);
}

void check_recompute_twice(struct trial *t)
{
    each_case(t, TRAINING, ROWS, SEGS, twice);
}
