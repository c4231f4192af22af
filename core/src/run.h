/* run.h - run folders and checkpoints.
 *
 * RUN/config.ini (resolved), command.txt, env.json, metrics.jsonl, log.txt, samples.jsonl,
 * status.json, lock, ckpt/NNNNNNNNNN/{model,optimizer}.safetensors, config.ini,
 * MANIFEST.json.  A checkpoint is a folder that is written under another name, synced,
 * and renamed: it is whole or absent.                                           */
#ifndef RUN_H
#define RUN_H

#include "config.h"
#include "model.h"

/* subject is a file.ini or a run folder (then its config.ini is read).  The folder
 * that the run lives in is what [run] dir says, or the given folder itself.     */
chi_status run_config(const char *subject, char *const *overrides, int n,
                      struct config **) CHI_MUST_CHECK;
bool run_is_folder(const char *subject);          /* has config.ini and ckpt/     */
bool run_is_checkpoint(const char *subject);      /* one step of a run: has MANIFEST.json */
bool run_has_weights(const char *subject);        /* any of them, or a packed model */
/* The spec of a configuration, a run or a packed model                          */
chi_status run_spec(const char *subject, char *const *overrides, int n, int needs, struct spec **) CHI_MUST_CHECK;

struct run;                             /* a run folder, locked for writing       */
/* Creates or continues dir.  The lock is an flock() that dies with the process; in
 * use: CHI_EREFUSED naming the process.  A new run in a folder that holds another
 * run is refused unless resume; resume of a folder without a checkpoint starts anew. */
chi_status run_open(struct run **, const char *dir, struct config *, bool resume,
                    int argc, char *const *argv) CHI_MUST_CHECK;
/* env.json: version, compiler, flags, CPU, threads, plugins with hash and ABI, data  */
chi_status run_write_env(struct run *, const struct spec *, uint64_t data_hash) CHI_MUST_CHECK;
const char *run_dir(const struct run *);
/* {queued,running,done,failed,stopped}, with a reason                           */
chi_status run_status(struct run *, const char *state, const char *reason);
/* Appends a whole line (without '\n') to metrics.jsonl or samples.jsonl.  A line that
 * cannot be written waits, with a warning; it is tried again with the next one and by
 * run_sync().                                                                    */
chi_status run_metrics(struct run *, const char *json_line);
chi_status run_sample(struct run *, const char *json_line);
/* From now on the metrics are there as TensorBoard's events, too: RUN/tensorboard, made anew
 * from metrics.jsonl by run_cut().  A failure is a warning.                        */
void       run_tensorboard(struct run *);
/* With the lines that wait                                                        */
int64_t    run_metrics_bytes(const struct run *);
int64_t    run_samples_bytes(const struct run *);
/* Cuts both files back (resume); one that is shorter: CHI_EDATA                  */
chi_status run_cut(struct run *, int64_t metrics_bytes, int64_t samples_bytes) CHI_MUST_CHECK;
/* The lines so far are on the disk; ckpt_save() calls it before their bytes count */
chi_status run_sync(struct run *) CHI_MUST_CHECK;
void run_close(struct run *);

struct ckpt_meta {
    int64_t  step, tokens, epoch, position;       /* position in the epoch's order */
    uint64_t data_hash, vocabulary;               /* all of vocabulary_of() the tokenizer, 0: not known */
    int64_t  metrics_bytes, samples_bytes;        /* of whole lines                */
    int64_t  wall_ms;                             /* that training took so far     */
};
struct ckpt_moments {                   /* the optimizer's; n = 0: none            */
    int32_t n;
    const char *const *name;            /* "m", "v"                                */
    float *block;                       /* [n][model_param_floats]: the layout of
                                           model_params(), one block per moment    */
};

/* Saves under run_dir/ckpt/, then removes all but the newest keep (0: keeps all).
 * Old ones go only after the new one is durable.                                 */
chi_status ckpt_save(struct run *, const struct model *, const struct ckpt_moments *,
                     const struct ckpt_meta *, int64_t keep) CHI_MUST_CHECK;
/* The first checkpoint of a run from values that come from elsewhere: the model is only planned.  values gives
 * those of the i-th tensor, in its own memory or in *own (mem_free() it).          */
struct ckpt_source { chi_status (*values)(void *arg, int64_t i, const float **, float **own); void *arg; };
chi_status ckpt_save_from(struct run *, const struct model *plan, const struct ckpt_source *,
                          const struct ckpt_meta *) CHI_MUST_CHECK;
/* The newest whole checkpoint of a run: manifest there, all files of the stated
 * size and XXH3.  Damaged ones are skipped with a warning that names the file.  *path
 * is malloc'ed; NULL if there is none (CHI_OK).                                  */
chi_status ckpt_latest(const char *run_dir, char **path) CHI_MUST_CHECK;
/* Reads the manifest; moments may be NULL (inference).  Components, revisions and
 * shape options that differ from the model's spec are listed and refused.        */
chi_status ckpt_load(const char *path, struct model *, const struct ckpt_moments *,
                     struct ckpt_meta *) CHI_MUST_CHECK;
chi_status ckpt_read_meta(const char *path, struct ckpt_meta *) CHI_MUST_CHECK;
/* The spec of a packed model, which then holds the file (spec->packed)           */
chi_status run_packed_spec(const char *path, char *const *overrides, int n, const char *task, int needs,
                           struct spec **) CHI_MUST_CHECK;
/* What generate, eval and inspect start with: config, spec, model with the weights
 * of the run's newest checkpoint, or of a packed model.  task: another one than the run's,
 * of whose [task] only the overrides count; or NULL.                              */
chi_status run_load_model(const char *subject, char *const *overrides, int n, const char *task, int needs,
                          int64_t max_rows, int64_t max_segs, struct spec **,
                          struct model **) CHI_MUST_CHECK;

/* Do the shape options of config agree with those that the run's newest checkpoint
 * stores?  CHI_ESHAPE with the list of differences; CHI_OK if there is none.     */
chi_status ckpt_fits(const char *run_dir, const struct config *) CHI_MUST_CHECK;
/* Steps of the folders under run_dir/ckpt, newest first, whole or not; returns how
 * many; *step is malloc'ed (NULL if there are none).                             */
int64_t ckpt_steps(const char *run_dir, int64_t **step);
/* Removes what in ckpt/ ends with .tmp, which killed runs leave behind.                           */
void ckpt_sweep(const char *run_dir);

#endif
