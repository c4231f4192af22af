/* trainer.h - what the files of the training loop share.
 *
 *   train_open.c   from a request to a model, a data stream and a run folder
 *   train_save.c   checkpoints, resume and rollback
 *   train_trace.c  what --trace records
 *   train.c        the loop
 *   metrics.c      lines of metrics.jsonl                                            */
#ifndef TRAINER_H
#define TRAINER_H

#include "dataset.h"
#include "gradient.h"
#include "model.h"
#include "progress.h"
#include "run.h"

struct train_request {
    const char *subject;
    char *const *override;
    int  n_override;
    bool resume, fresh, dry_run;
    const char *trace;                  /* a folder, or NULL                          */
};

/* A rollback: from step `from` training goes on behind the batch that was bad at step
 * `bad`, with half the learning rate until that step has passed.                     */
struct rollback { int64_t from, bad; struct cursor cursor; };
enum { ROLLBACKS = 3, SKIPS = 10 };

struct trainer {
    const struct train_request *request;
    char  **override;                   /* the request's and what was measured        */
    int     n_override;
    struct spec    *spec;
    struct dataset *data;
    struct model   *model;
    struct run     *run;
    struct chi_host *h;                 /* the optimizer's                            */
    struct ckpt_moments moments;
    struct chi_slice    *slice;         /* [n_slice] what the optimizer moves         */
    struct gradient_run *squares;       /* [n_slice] their gradients                  */
    const bool **held;                  /* [n_slice] those that do not move now       */
    int64_t n_slice;
    struct gradient_tree tree;
    struct cursor cursor;               /* of the next step's batch                   */
    int64_t step, tokens;               /* done                                       */
    int64_t saved;                      /* step of the newest checkpoint; -1: none    */
    int64_t skipped;                    /* steps in a row that were not taken         */
    int     interrupted;                /* the signal that left something undone, or 0 */
    struct rollback rollback[ROLLBACKS];
    int     n_rollback;
    double  begun, line_s;              /* now_s() at the start, at the last line     */
    double  wall_s;                     /* that earlier processes took to get here    */
    int64_t evaluated, evaluated_bytes; /* the last evaluation's step; metrics before it */
    int64_t line_tokens;                /* tokens at the last line                    */
    struct progress progress;
    struct trace *trace;                /* NULL: none                                 */
};

/* What one step found                                                                */
struct step_result {
    int64_t rows, scored, bytes;        /* bytes 0: the targets are no text           */
    double  loss, bpb, lr, norm, clip, seconds;
    bool    finite;
};

/* train_open.c */
chi_status trainer_open(struct trainer *, const struct train_request *, bool *go) CHI_MUST_CHECK;
void trainer_close(struct trainer *);
/* The spec's model with its optimizer; everything of open but the run folder, closed     */
chi_status trainer_open_model(struct trainer *, int64_t max_segs) CHI_MUST_CHECK;
void trainer_close_work(struct trainer *);
/* train_save.c */
/* Is this what chimera import wrote: weights that have seen no data of any task?        */
bool trainer_imported(const char *checkpoint);
chi_status trainer_check_data(const struct trainer *, const char *checkpoint) CHI_MUST_CHECK;
chi_status trainer_start(struct trainer *, const char *checkpoint) CHI_MUST_CHECK;
chi_status trainer_save(struct trainer *) CHI_MUST_CHECK;
chi_status trainer_roll_back(struct trainer *) CHI_MUST_CHECK;
double     trainer_wall(const struct trainer *);
double     trainer_progress(const struct trainer *, int64_t step);
chi_status trainer_bind(struct trainer *, int64_t step) CHI_MUST_CHECK;
double     trainer_lr(const struct trainer *, int64_t step);
void       warn_of_changes(struct trainer *);
/* train.c: one step's gradient and, if it is finite, the update                      */
chi_status train_gradient(struct trainer *, struct step_result *) CHI_MUST_CHECK;
chi_status train_on(struct trainer *, const struct batch *, struct step_result *) CHI_MUST_CHECK;
chi_status train_update(struct trainer *, struct step_result *) CHI_MUST_CHECK;
/* train_trace.c: of the steps in order, a batch and what came of it; no trace: nothing.  The check
 * makes the folder, before there is a run                                              */
chi_status trace_check(const struct trainer *, const char *dir, const char *checkpoint) CHI_MUST_CHECK;
chi_status trace_open(struct trainer *, const char *dir) CHI_MUST_CHECK;
void       trace_batch(struct trainer *, const struct batch *);
chi_status trace_step(struct trainer *, const struct step_result *) CHI_MUST_CHECK;
chi_status trace_close(struct trainer *) CHI_MUST_CHECK;
/* metrics.c */
chi_status metrics_step(struct trainer *, const struct step_result *) CHI_MUST_CHECK;
chi_status metrics_heldout(struct trainer *, const struct eval_result *) CHI_MUST_CHECK;

/* Trains; *signal is the number of the signal that stopped it, or 0                  */
chi_status train(const struct train_request *, int *signal) CHI_MUST_CHECK;
/* Seconds of a step, from the first ones; no run folder is made                      */
chi_status trainer_time(const struct train_request *, double *seconds) CHI_MUST_CHECK;

#endif
