/* layer.c - the checks of a layer's results: gradients, cuts of a stream, packing, causality,
 * copies of the state.  Each states a promise of chimera/layer.h and tries it on a few cases. */
#include "layer_checks.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"

const struct check checks_layer[] = {
    { "grad.x", CHI_LAYER, 60, "dx is the slope that differences of the output show", check_grad_x },
    { "grad.params", CHI_LAYER, 60, "so is the gradient of every parameter", check_grad_params },
    { "grad.state", CHI_LAYER, 60, "gradients of a stream in two calls, joined by dstate, are those of one call",
      check_grad_state },
    { "grad.adds", CHI_LAYER, 60, "backward adds to gradients that are there already", check_grad_adds },
    { "grad.long", CHI_LAYER, 60, "so are those of 200 rows, in calls of up to 33, wherever chunks begin",
      check_grad_long },
    { "grad.frozen", CHI_LAYER, 60, "without gradients of parameters (grads is NULL) dx is the same",
      check_grad_frozen },
    { "recompute.again", CHI_LAYER, 60, "a second forward fills the arrays with what the first one did",
      check_recompute_again },
    { "recompute.workspace", CHI_LAYER, 60, "backward reads no array that is not kept", check_recompute_workspace },
    { "recompute.weights", CHI_LAYER, 60, "other weights give other arrays, whatever an earlier call left there",
      check_recompute_weights },
    { "recompute.twice", CHI_LAYER, 60, "two backward passes from the same arrays agree", check_recompute_twice },
    { "step.rows", CHI_LAYER, 60, "row by row, by step and by forward, a stream has the bits of one call",
      check_step_rows },
    { "step.cuts", CHI_LAYER, 60, "so has a stream in any pieces", check_step_cuts },
    { "step.long", CHI_LAYER, 60, "so has a stream of 200 rows", check_step_long },
    { "step.keep", CHI_LAYER, 60, "training and inference compute the same; with the cap SPLIT_FREE, in any pieces",
      check_step_keep },
    { "step.opened", CHI_LAYER, 60, "opened for training or not, and for calls of any size, it computes the same",
      check_step_opened },
    { "step.limits", CHI_LAYER, 60, "calls of no rows, of max_rows and of max_segs", check_step_limits },
    { "causal.forward", CHI_LAYER, 60, "later rows, however loud, change no earlier result", check_causal_forward },
    { "causal.keep", CHI_LAYER, 60, "nor do they in training", check_causal_keep },
    { "causal.backward", CHI_LAYER, 60, "no gradient flows to rows after the result", check_causal_backward },
    { "segments.forward", CHI_LAYER, 60, "streams packed into a call have the bits of each alone",
      check_segments_forward },
    { "segments.step", CHI_LAYER, 60, "also when each has one row", check_segments_step },
    { "segments.backward", CHI_LAYER, 60, "so have dx and dstate, and gradients are the sum over streams",
      check_segments_backward },
    { "segments.poison", CHI_LAYER, 60, "a neighbour of NaN changes nothing", check_segments_poison },
    { "segments.fresh", CHI_LAYER, 60, "a fresh stream begins anew at any position", check_segments_fresh },
    { "segments.stateless", CHI_LAYER, 60, "the cap STATELESS: results do not depend on segments",
      check_segments_stateless },
    { "fork.move", CHI_LAYER, 60, "a state may be moved in memory between any two rows", check_fork_move },
    { "fork.branches", CHI_LAYER, 60, "two copies of a state go their own ways", check_fork_branches },
    { "fork.replay", CHI_LAYER, 60, "from a restored state the same rows give the same bits", check_fork_replay },
    { "tree.paths", CHI_LAYER, 60, "nodes of a tree have the bits of their paths, and the state stays",
      check_tree_paths },
    { "settle.manual", CHI_LAYER, 60, "settle() moves CHI_PARAM_MANUAL parameters alone, always alike",
      check_settle },
    { 0 }
};

/* ---- what they share ----------------------------------------------------------------------- */

/* Integer kernels have paths of their own                                                      */
static void use_ternary(struct trial *t, struct layer_case *c)
{
    struct layer_case ternary = *c;
    ternary.linear = "quantizer = ternary\n";
    if (case_works(t, &ternary)) *c = ternary;
}

void each_case(struct trial *t, enum bench bench, int64_t max_rows, int64_t max_segs, void (*body)(struct rig *))
{
    const struct chi_layer_ops *ops = t->component->ops;
    if (bench == TRAINING && !ops->backward) {
        trial_skip(t, "it has no backward pass");
        return;
    }
    for (int64_t i = 0; i < CASES && t->outcome != TRIAL_SKIP && t->outcome < TRIAL_FAILED; i++) {
        struct layer_case c;
        struct rig r;
        if (!layer_case(t, i, &c)) return;
        if (bench == INFERENCE && i % 2) use_ternary(t, &c);
        if (!rig_open(&r, t, &c, bench == TRAINING, max_rows, max_segs)) return;
        body(&r);
        rig_close(&r);
    }
}

bool takes_long(struct rig *r)
{
    struct stream s = stream_new(r, 1, 0, LONG);
    struct chi_segment g = stream_segment(&s, 0, LONG, 0);
    bool ok = solo_forward(r->solo, &g, 1, false, s.x, s.y) == CHI_OK;
    if (!ok) trial_note(r->trial, "no stream of %d rows: %s", LONG, fail_text());
    return ok;
}

bool has_cap(const struct rig *r, uint32_t cap)
{
    return (r->trial->component->caps & cap) != 0;
}

void *kept_copy(struct rig *r, const void *from, int64_t bytes)
{
    return memcpy(rig_block(r, bytes), from, (size_t)bytes);
}

struct stream stream_new(struct rig *r, uint64_t id, int64_t start, int64_t rows)
{
    return (struct stream){ .id = id, .start = start, .rows = rows, .state = rig_block(r, r->state_bytes),
                            .x = rig_random_rows(r, rows, 1), .y = rig_rows(r, rows) };
}

struct chi_segment stream_segment(const struct stream *s, int64_t from, int64_t to, int64_t first)
{
    return (struct chi_segment){ .first = first, .rows = to - from, .pos = s->start + from, .stream = s->id,
                                 .fresh = from == 0, .state = s->state };
}

void stream_rewind(const struct rig *r, const struct stream *s)
{
    memset(s->state, 0, (size_t)r->state_bytes);
}

bool stream_run(struct rig *r, const struct stream *s, int64_t from, int64_t to, enum how how)
{
    struct chi_segment g = stream_segment(s, from, to, 0);
    const float *x = s->x + from * r->d;
    float *y = s->y + from * r->d;
    if (from == 0) stream_rewind(r, s);
    if (to == from) return true;
    return how == STEP ? rig_step(r, &g, 1, x, y) : rig_forward(r, &g, 1, how == KEEP, x, y);
}
