/* layer_fork.c - what may be done to a state between calls, trees, and settle().
 *
 * Rule 2 of chimera/layer.h: a state holds no pointers, so that saving, restoring and forking a
 * stream is a memcpy that the layer never sees.                                               */
#include "layer_checks.h"

#include <string.h>

#include "core.h"

enum { T = 24, POISON = 0xA5 };

static bool has_state(struct rig *r)
{
    if (solo_state_bytes(r->solo)) return true;
    trial_skip(r->trial, "it keeps no state");
    return false;
}

/* ---- copies of a state ------------------------------------------------------------------------ */

/* The state moves to a new place before every row, and the old place is overwritten           */
static void moving(struct rig *r)
{
    struct stream s = stream_new(r, 6, 0, T);
    if (!has_state(r)) return;
    for (int64_t t = 0; t < T; t++)
        if (!stream_run(r, &s, t, t + 1, STEP)) return;
    float *y = kept_copy(r, s.y, row_bytes(r, T));
    stream_rewind(r, &s);
    for (int64_t t = 0; t < T; t++) {
        unsigned char *old = s.state;
        s.state = kept_copy(r, old, r->state_bytes);
        memset(old, POISON, (size_t)r->state_bytes);
        if (!stream_run(r, &s, t, t + 1, STEP)) return;
    }
    rig_same(r, "a state that moves in memory before every row, against one that stays", s.y, y, T, r->d);
}

void check_fork_move(struct trial *t)
{
    each_case(t, INFERENCE, 2 * T, 2, moving);
}

/* After row AT one stream goes on, and its copy, a stream of another number, reads something else: row by
 * row in turn, and packed into one call, against each without the other                         */
static void branches(struct rig *r)
{
    enum { AT = 9 };
    struct stream s = stream_new(r, 6, 0, T), b = stream_new(r, 6, 0, T);
    if (!has_state(r)) return;
    memcpy(b.x, s.x, (size_t)row_bytes(r, AT));
    if (!stream_run(r, &s, 0, T, FORWARD) || !stream_run(r, &b, 0, AT, FORWARD)) return;
    b.id = 7;
    if (!stream_run(r, &b, AT, T, FORWARD)) return;
    float *ys = kept_copy(r, s.y, row_bytes(r, T)), *yb = kept_copy(r, b.y, row_bytes(r, T));
    for (int together = 0; together < 2; together++) {
        float *x = rig_rows(r, 2), *y = rig_rows(r, 2);
        if (!stream_run(r, &s, 0, AT, FORWARD)) return;
        memcpy(b.state, s.state, (size_t)r->state_bytes);
        for (int64_t t = AT; t < T; t++) {
            struct chi_segment g[] = { stream_segment(&b, t, t + 1, 0), stream_segment(&s, t, t + 1, 1) };
            memcpy(x, b.x + t * r->d, (size_t)row_bytes(r, 1));
            memcpy(x + r->d, s.x + t * r->d, (size_t)row_bytes(r, 1));
            bool ok = together ? rig_step(r, g, 2, x, y)
                               : stream_run(r, &b, t, t + 1, STEP) && stream_run(r, &s, t, t + 1, STEP);
            if (!ok) return;
            if (together) memcpy(b.y + t * r->d, y, (size_t)row_bytes(r, 1));
            if (together) memcpy(s.y + t * r->d, y + r->d, (size_t)row_bytes(r, 1));
        }
        if (!rig_same(r, "a stream after its state was copied, against the stream uncopied", s.y, ys, T,
                      r->d)) return;
        if (!rig_same(r, "a stream that goes on from a copied state, against the stream from its start",
                      b.y + AT * r->d, yb + AT * r->d, T - AT, r->d))
            return;
    }
}

void check_fork_branches(struct trial *t)
{
    each_case(t, INFERENCE, 2 * T, 2, branches);
}

static void replay(struct rig *r)
{
    struct stream s = stream_new(r, 6, 0, T);
    if (!has_state(r)) return;
    for (int64_t at = 1; at < T; at += 5) {
        if (!stream_run(r, &s, 0, at, FORWARD)) return;
        unsigned char *snapshot = kept_copy(r, s.state, r->state_bytes), *end;
        if (!stream_run(r, &s, at, T, FORWARD)) return;
        float *y = kept_copy(r, s.y, row_bytes(r, T));
        end = kept_copy(r, s.state, r->state_bytes);
        memcpy(s.state, snapshot, (size_t)r->state_bytes);
        if (!stream_run(r, &s, at, T, FORWARD)) return;
        if (!rig_same(r, "rows read again from a restored state", s.y, y, T, r->d)) return;
        if (!rig_same_bytes(r, "the state after rows were read again", s.state, end, r->state_bytes)) return;
    }
}

void check_fork_replay(struct trial *t)
{
    each_case(t, INFERENCE, 2 * T, 2, replay);
}

/* ---- trees ---------------------------------------------------------------------------------------- */

enum { NODES = 12, TREES = 2, DEPTH = NODES };

/* The path from the root to a node as rows; returns its length                                */
static int64_t path_rows(const struct rig *r, const float *x, const int32_t *parent, int64_t node, float *rows)
{
    int64_t n = 0;
    for (int64_t at = node; at >= 0; at = parent[at]) n++;
    int64_t row = n;
    for (int64_t at = node; at >= 0; at = parent[at])
        memcpy(rows + --row * r->d, x + at * r->d, (size_t)row_bytes(r, 1));
    return n;
}

/* Nodes of stream s are rows first.. of the call                                              */
static bool equals_paths(struct rig *r, const struct stream *s, int64_t read, int64_t first, const float *x,
                         const int32_t *parent, const float *y)
{
    float *rows = rig_rows(r, DEPTH), *out = rig_rows(r, DEPTH);
    unsigned char *before = kept_copy(r, s->state, r->state_bytes);
    for (int64_t node = first; node < first + NODES; node++) {
        char what[96];
        struct chi_segment g = stream_segment(s, read, read + path_rows(r, x, parent, node, rows), 0);
        bool ok = rig_forward(r, &g, 1, false, rows, out);
        memcpy(s->state, before, (size_t)r->state_bytes);
        snprintf(what, sizeof what, "tree: node %lld, %lld deep, against its path", (long long)(node - first),
                 (long long)g.rows);
        if (!ok || !rig_same(r, what, y + node * r->d, out + (g.rows - 1) * r->d, 1, r->d)) return false;
    }
    return true;
}

/* A fresh stream and one that has read five rows; the first tree of a case is a chain           */
static void trees(struct rig *r)
{
    struct stream s[TREES] = { stream_new(r, 1, 0, DEPTH), stream_new(r, 2, 0, 5 + DEPTH) };
    int64_t read[TREES] = { 0, 5 };
    for (int draw = 0; draw < 4; draw++) {
        struct chi_segment g[TREES];
        int32_t parent[TREES * NODES];
        unsigned char *before[TREES];
        float *x = rig_random_rows(r, TREES * NODES, 1), *y = rig_rows(r, TREES * NODES);
        for (int64_t i = 0; i < TREES * NODES; i++) {
            int64_t first = i / NODES * NODES;
            parent[i] = (int32_t)(i == first ? -1 : draw == 0 ? i - 1 : trial_between(r->trial, first - 1, i - 1));
            if (parent[i] < first) parent[i] = -1;
        }
        for (int64_t k = 0; k < TREES; k++) {
            stream_rewind(r, &s[k]);
            if (!stream_run(r, &s[k], 0, read[k], FORWARD)) return;
            g[k] = stream_segment(&s[k], read[k], read[k] + NODES, k * NODES);
            before[k] = kept_copy(r, s[k].state, r->state_bytes);
        }
        if (!trial_must(r->trial, solo_tree(r->solo, g, TREES, x, y, parent), "tree")) return;
        for (int64_t k = 0; k < TREES; k++) {
            if (!rig_same_bytes(r, "tree changes the state", s[k].state, before[k], r->state_bytes)) return;
            if (!equals_paths(r, &s[k], read[k], k * NODES, x, parent, y)) return;
        }
    }
}

void check_tree_paths(struct trial *t)
{
    const struct chi_layer_ops *ops = t->component->ops;
    if (CHI_HAS(struct chi_layer_ops, ops, tree)) each_case(t, INFERENCE, TREES * NODES, TREES, trees);
    else trial_skip(t, "it has no tree()");
}

/* ---- settle ------------------------------------------------------------------------------------------ */

static float *all_params(struct rig *r)
{
    const struct model_tensor *w;
    int64_t n = 0;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++) n += w->n;
    float *all = rig_block(r, n * (int64_t)sizeof(float)), *at = all;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); at += w->n, i++) memcpy(at, w->w, (size_t)w->n * sizeof *at);
    return all;
}

/* Gradient slots hold what backward collected: counts, sums; here numbers of either sign      */
static void settling(struct rig *r)
{
    const struct model_tensor *w;
    const float *before = all_params(r);
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++)
        for (int64_t j = 0; j < w->n; j++) w->g[j] = 3 * trial_uniform(r->trial);
    solo_settle(r->solo);
    const float *once = all_params(r), *at = before;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); at += w->n, i++) {
        char what[192];
        snprintf(what, sizeof what, "settle() moves %s, which is not CHI_PARAM_MANUAL", w->name);
        if (!w->manual && !rig_same(r, what, w->w, at, 1, w->n)) return;
        memcpy(w->w, at, (size_t)w->n * sizeof(float));
    }
    solo_settle(r->solo);
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); once += w->n, i++) {
        char what[192];
        snprintf(what, sizeof what, "settle() moves %s otherwise the second time", w->name);
        if (!rig_same(r, what, w->w, once, 1, w->n)) return;
    }
}

void check_settle(struct trial *t)
{
    const struct chi_layer_ops *ops = t->component->ops;
    if (CHI_HAS(struct chi_layer_ops, ops, settle)) each_case(t, TRAINING, 8, 1, settling);
    else trial_skip(t, "it has no settle()");
}
