/* cage.h - a layer on memory of which it may use not a byte more than it was promised.
 *
 *   CAGE_BOUNDS     each block alone against a forbidden page; what is undefined when an operation
 *                   begins (y, arrays, scratch) holds NaN and nonsense
 *   CAGE_READ_ONLY  what an operation may only read cannot be written: self and what the layer
 *                   alloc()ed after ready(), conf, parameters, segments, x, dy, in backward the
 *                   states, in forward the gradients
 */
#ifndef CAGE_H
#define CAGE_H

#include "play.h"

enum { CAGE_BOUNDS, CAGE_READ_ONLY };
struct cage {
    struct rig rig;                     /* first: the functions below take it as a struct rig */
    int  mode;
    bool at_end;                        /* of its pages                                     */
    void *conf, *call_scratch, *task_scratch;
    struct chi_scratch now;             /* of the present task                              */
    bool in_task;
    int64_t most;                       /* scratch bytes that a task took                   */
    bool broken;                        /* a fault: the layer cannot be trusted any more    */
};
bool cage_open(struct cage *, struct trial *, const struct layer_case *, bool training, int mode, bool at_end,
               int64_t max_rows, int64_t max_segs);
void cage_close(struct cage *);
/* Calls in a cage: the same as rig_forward() and its sisters, with the layer's blocks in it   */
extern const struct way cage_way;

#endif
