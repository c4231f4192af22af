/* layer_memory.c - checks of what a layer touches.
 *
 * guard   plays the score in a cage of exact blocks and undefined contents: faults and writes
 *         beside a block fail at once, what depends on undefined contents differs from the same
 *         calls on clean memory
 * purity  plays it with everything that the layer may only read made read-only                */
#include "cage.h"
#include "core.h"

enum { CASES = 3 };

/* What comes of the score with ordinary memory, to compare with                                */
static bool plain(struct trial *t, const struct layer_case *c, bool training, struct play *out)
{
    struct rig r;
    if (!rig_open(&r, t, c, training, score_rows(&short_score), short_score.n)) return false;
    bool ok = play_inference(&r, &plain_way, &short_score, out);
    ok = ok && (!training || play_training(&r, &plain_way, &short_score, out));
    rig_close(&r);
    return ok;
}

static bool caged(struct trial *t, const struct layer_case *c, bool training, int mode, bool at_end, struct play *out,
                  const struct play *want)
{
    struct cage cage;
    if (!cage_open(&cage, t, c, training, mode, at_end, score_rows(&short_score), short_score.n)) return false;
    float none = 0;
    bool ok = mode != CAGE_BOUNDS || cage_way.forward(&cage.rig, NULL, 0, false, &none, &none);
    ok = ok && play_inference(&cage.rig, &cage_way, &short_score, out);
    ok = ok && (!training || play_training(&cage.rig, &cage_way, &short_score, out));
    ok = ok && play_same(&cage.rig, mode == CAGE_BOUNDS ? "where unwritten memory holds NaN instead of zeros"
                         : "where what it may only read is read-only", out, want);
    cage_close(&cage);
    return ok;
}

static void in_cages(struct trial *t, bool training, int mode)
{
    if (training && !has_backward(t)) {
        trial_skip(t, "it has no backward pass");
        return;
    }
    bool ok = true;
    for (int64_t i = 0; i < CASES && ok; i++) {
        struct layer_case c;
        struct play want = { .n = 0 }, got = { .n = 0 };
        if (!layer_case(t, i, &c)) return;
        ok = plain(t, &c, training, &want);
        for (int at_end = 1; at_end >= 0 && ok; at_end--) {
            ok = caged(t, &c, training, mode, at_end, &got, &want);
            play_drop(&got);
        }
        play_drop(&want);
    }
}

static void guard_inference(struct trial *t) { in_cages(t, false, CAGE_BOUNDS); }
static void guard_training(struct trial *t) { in_cages(t, true, CAGE_BOUNDS); }
static void purity_inference(struct trial *t) { in_cages(t, false, CAGE_READ_ONLY); }
static void purity_training(struct trial *t) { in_cages(t, true, CAGE_READ_ONLY); }

const struct check checks_layer_memory[] = {
    { "guard.inference", CHI_LAYER, 60, "forward and step stay inside their blocks and read nothing unwritten",
      guard_inference },
    { "guard.training", CHI_LAYER, 60, "the same for forward with keep and backward", guard_training },
    { "purity.inference", CHI_LAYER, 60, "forward and step write to nothing that they may only read",
      purity_inference },
    { "purity.training", CHI_LAYER, 60, "the same for forward with keep and backward", purity_training },
    { 0 }
};
