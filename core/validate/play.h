/* play.h - a fixed score of calls, played by a layer in several ways (more threads, guarded
 * memory, other orders), with everything that came out: all ways must give the same bits.    */
#ifndef PLAY_H
#define PLAY_H

#include "rig.h"

enum { PLAYED = 128 };
struct play {
    struct { char what[48]; int64_t rows, cols; float *v; } part[PLAYED];
    int n;
};
void play_drop(struct play *);

/* How calls are made; rig_forward() and its sisters, or others of their kind               */
struct way {
    bool (*forward)(struct rig *, const struct chi_segment *, int64_t n, bool keep, const float *x, float *y);
    bool (*step)(struct rig *, const struct chi_segment *, int64_t n, const float *x, float *y);
    bool (*backward)(struct rig *, const struct chi_segment *, int64_t n, const float *x, const float *dy, float *dx);
};
extern const struct way plain_way;

/* n streams: first[] rows from the start, a row each, then[] rows.  A training rig goes forward and
 * back, with and without dstate.  The rig needs the sum of first[] or then[] as max_rows. False:
 * the trial has failed.                                                                    */
struct score { int64_t n, first[4], then[4]; };
extern const struct score short_score, long_score;
int64_t score_rows(const struct score *);           /* of its largest call                  */
bool play_inference(struct rig *, const struct way *, const struct score *, struct play *);
bool play_training(struct rig *, const struct way *, const struct score *, struct play *);
/* HOW ends the message: "with 3 threads"                                                    */
bool play_same(struct rig *, const char *how, const struct play *got, const struct play *want);

/* Options as their authors chose them, required ones set; false if the layer refuses them     */
bool usual_case(struct trial *, int64_t d, struct layer_case *);
bool has_backward(const struct trial *);

#endif
