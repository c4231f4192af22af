/* layer_checks.h - what the checks of a layer's results share: the streams that they follow
 * and the loop over cases.  layer.c lists the checks.                                      */
#ifndef LAYER_CHECKS_H
#define LAYER_CHECKS_H

#include "rig.h"

/* Runs body on a layer of each case, until one fails.  In inference every second case has ternary
 * linears; in training all are plain f32, whose outputs have a derivative.  A training bench is
 * skipped if the layer has no backward pass.                                               */
enum { CASES = 4 };
enum bench { INFERENCE, TRAINING };
void each_case(struct trial *, enum bench, int64_t max_rows, int64_t max_segs, void (*body)(struct rig *));
bool has_cap(const struct rig *, uint32_t cap);
/* Does it take LONG rows of one stream?  Options may limit that; cases work for 48 rows only  */
enum { LONG = 200 };
bool takes_long(struct rig *);

/* A stream on the bench.  Its state stays at one address, so that bytes can be compared.     */
struct stream {
    uint64_t id;
    int64_t  start, rows;           /* position of its first row; how many there are        */
    unsigned char *state;
    float   *x, *y;                 /* [rows, d]; x is random                                */
};
struct stream stream_new(struct rig *, uint64_t id, int64_t start, int64_t rows);
/* Rows from..to-1 as a segment whose first row is row first of the call                      */
struct chi_segment stream_segment(const struct stream *, int64_t from, int64_t to, int64_t first);
/* Forgets what it has read; its next row is its first                                        */
void stream_rewind(const struct rig *, const struct stream *);
/* Runs rows from..to-1 alone into y.  From row 0 on the state is emptied first               */
enum how { FORWARD, KEEP, STEP };
bool stream_run(struct rig *, const struct stream *, int64_t from, int64_t to, enum how);

/* A copy of bytes that lives as long as the rig                                              */
void *kept_copy(struct rig *, const void *, int64_t bytes);
static inline int64_t row_bytes(const struct rig *r, int64_t rows) { return rows * r->d * (int64_t)sizeof(float); }

void check_grad_x(struct trial *);
void check_grad_params(struct trial *);
void check_grad_state(struct trial *);
void check_grad_adds(struct trial *);
void check_grad_frozen(struct trial *);
void check_grad_long(struct trial *);
void check_recompute_again(struct trial *);
void check_recompute_workspace(struct trial *);
void check_recompute_twice(struct trial *);
void check_recompute_weights(struct trial *);
void check_step_rows(struct trial *);
void check_step_cuts(struct trial *);
void check_step_keep(struct trial *);
void check_step_limits(struct trial *);
void check_step_long(struct trial *);
void check_step_opened(struct trial *);
void check_causal_forward(struct trial *);
void check_causal_keep(struct trial *);
void check_causal_backward(struct trial *);
void check_segments_forward(struct trial *);
void check_segments_step(struct trial *);
void check_segments_backward(struct trial *);
void check_segments_poison(struct trial *);
void check_segments_fresh(struct trial *);
void check_segments_stateless(struct trial *);
void check_fork_move(struct trial *);
void check_fork_branches(struct trial *);
void check_fork_replay(struct trial *);
void check_tree_paths(struct trial *);
void check_settle(struct trial *);

#endif
