/* sweep.h - many runs from one configuration.
 *
 *   sweep_axes.c     [sweep] to axes and settings
 *   sweep_leave.c    leave_out: one component less in each arm
 *   sweep_plan.c     every combination to a resolved configuration with its counts and id
 *   sweep_match.c    equal budgets: one width key is moved until the counts agree
 *   sweep_journal.c  what was planned, begun and ended, on disk
 *   sweep_stop.c     a job's metric, and whether it may end early
 *   sweep_run.c      the processes
 *   sweep_slurm.c    the same as an array of Slurm
 *   sweep_time.c     expected hours
 *   sweep_table.c    what is printed, and results.tsv
 *
 * SWEEP/journal, lock, results.tsv; of each job SWEEP/ID.ini (resolved) and the run
 * folder SWEEP/ID.  ID is a hash of the resolved configuration without run.dir.   */
#ifndef SWEEP_H
#define SWEEP_H

#include "config.h"
#include "model.h"

/* ---- axes -------------------------------------------------------------------- */

struct sweep_set {                      /* section.key = value                    */
    char *section, *key, *value;        /* value NULL: the key is removed         */
    char *at;                           /* the key of [sweep] that says so        */
};
struct sweep_choice {
    char **label;                       /* [n_column of the axis]                 */
    struct sweep_set *set; int64_t n_set;
};
struct sweep_axis {
    char **column; int64_t n_column;    /* what it varies, for tables             */
    struct sweep_choice *choice; int64_t n_choice;
};

enum { MATCH_NONE, MATCH_PARAMS, MATCH_FLOPS, MATCH_STATE, MATCH_TIME };
struct sweep_options {                  /* the keys of [sweep] without a dot      */
    const char *leave_out, *match_key, *match_to, *metric, *stop;
    int64_t samples, sample_seed, match_step, stop_after;
    int32_t match;
    double  match_tolerance, minutes;
};
extern const struct chi_option sweep_table[];

struct sweep_axes {
    struct config *config;              /* of the file, for errors and raw values */
    struct sweep_options o;
    struct sweep_axis *axis; int64_t n_axis;
};
enum { SWEEP_JOBS_MAX = 10000 };
/* Takes the config, also on failure; all errors of [sweep] at once               */
chi_status sweep_axes_open(struct sweep_axes *, struct config *) CHI_MUST_CHECK;
void sweep_axes_close(struct sweep_axes *);
int64_t sweep_axes_jobs(const struct sweep_axes *);
/* The choice of an axis in a job; later axes turn faster                         */
const struct sweep_choice *sweep_axes_choice(const struct sweep_axes *, int64_t axis, int64_t job);
/* Internal: the axis of leave_out, added to a                                    */
void sweep_leave_out(struct sweep_axes *a);
struct sweep_axis *sweep_axis_add(struct sweep_axes *, int64_t n_column, int64_t n_choice);
/* Internal: word "section.key" and a value; takes both over; errors go to the key `at` of [sweep] */
bool sweep_set_add(struct sweep_axes *, struct sweep_choice *, char *word, char *value, const char *at);
/* Words between any of the separators, blanks around them taken off              */
char **sweep_split(const char *text, const char *separators, int64_t *n);
void sweep_split_free(char **, int64_t n);

/* ---- the journal --------------------------------------------------------------- */

enum job_state { JOB_PENDING, JOB_RUNNING, JOB_DONE, JOB_EARLY, JOB_FAILED };
const char *job_state_name(enum job_state);
/* What status.json of a run folder says: done, stopped, ...                     */
bool sweep_folder_is(const char *dir, const char *state);

struct sweep_job {
    char   *id;                         /* 16 hexadecimal digits                  */
    char  **label;                      /* [n_column of the journal]              */
    int64_t params, state_bytes, flops, steps, tokens;     /* tokens: of a step   */
    enum job_state state;
    int64_t starts;                     /* how often it was begun                 */
    char   *reason;                     /* of the end, or ""                      */
    char   *config;                     /* text of ID.ini while planned; else NULL */
};
struct sweep_journal {
    char *dir, *path;
    char **column; int64_t n_column;
    char *metric, *stop;                /* as [sweep] says                        */
    int64_t stop_after;
    struct sweep_job *job; int64_t n_job;   /* of the newest plan                 */
};
/* Reads dir/journal, if there is one.  A torn last line does not count; a line that was
 * changed is CHI_EDATA, with its number.                                         */
chi_status sweep_journal_open(struct sweep_journal *, const char *dir) CHI_MUST_CHECK;
void sweep_journal_close(struct sweep_journal *);
/* The plan becomes the journal's: columns, settings and jobs; states of jobs that it knew stay */
chi_status sweep_journal_plan(struct sweep_journal *, const struct sweep_journal *plan) CHI_MUST_CHECK;
chi_status sweep_journal_start(struct sweep_journal *, struct sweep_job *) CHI_MUST_CHECK;
chi_status sweep_journal_end(struct sweep_journal *, struct sweep_job *, enum job_state,
                             const char *reason) CHI_MUST_CHECK;
struct sweep_job *sweep_job_find(const struct sweep_journal *, const char *id);

/* ---- the plan -------------------------------------------------------------------- */

/* Every job resolved, counted and matched; all errors of all jobs at once.  dir: of the sweep.
 * The result has no state yet: see sweep_journal_plan().                          */
chi_status sweep_plan(struct sweep_axes *, const char *path, char *const *overrides, int n,
                      struct sweep_journal *plan) CHI_MUST_CHECK;

/* A configuration of the sweep with these changes; opens and counts it            */
struct sweep_case {
    const struct sweep_axes *axes;
    const char *path;
    char *const *override; int n_override;
    int64_t job;                        /* -1: no axis                            */
    const char *matched;                /* the value of match_key, or NULL        */
};
chi_status sweep_case_open(const struct sweep_case *, struct spec **, struct model_counts *) CHI_MUST_CHECK;
/* What [sweep] match counts                                                       */
double sweep_budget(const struct sweep_axes *, const struct model_counts *);
/* The value of match_key with which the case's count is nearest to the target; *value is
 * malloc'ed.  Farther away than match_tolerance: CHI_ECONF                        */
chi_status sweep_match(const struct sweep_case *, double target, char **value) CHI_MUST_CHECK;

/* ---- running ----------------------------------------------------------------------- */

struct sweep_request {
    int64_t jobs;                       /* processes at once                      */
    bool    fail_fast, retry;
    const char *only;                   /* one id, or NULL                        */
};
/* Runs what is not done.  *signal: what stopped it, or 0; *failed: jobs.           */
chi_status sweep_run(struct sweep_journal *, const struct sweep_request *, int *signal,
                     int64_t *failed) CHI_MUST_CHECK;
/* Does somebody write this run folder?                                             */
bool sweep_run_busy(const char *dir);

/* ---- tables ------------------------------------------------------------------------ */

void sweep_print_plan(const struct sweep_journal *, FILE *);
/* Takes the first steps of each kind of job (seeds are alike) and adds up all steps   */
chi_status sweep_print_time(const struct sweep_journal *plan, FILE *) CHI_MUST_CHECK;
void sweep_print_status(const struct sweep_journal *, FILE *);
/* The metric of a job, as its metrics.jsonl says; false: there is none. A job that ended early
 * counts up to where its condition held first                                       */
bool sweep_metric(const struct sweep_journal *, const struct sweep_job *, double *value, int64_t *step);
/* Does a line hold the stop condition?  Reads lines behind *offset and moves it      */
bool sweep_should_stop(const struct sweep_journal *, const struct sweep_job *, int64_t *offset, char **why);
/* Is the condition text legal?  *why is malloc'ed if not                             */
bool sweep_stop_legal(const char *text, char **why);
/* DIR/results.tsv: no clock in it, so the same whatever interrupted the sweep        */
chi_status sweep_write_tsv(const struct sweep_journal *) CHI_MUST_CHECK;
/* An sbatch script for an array over the jobs                                        */
chi_status sweep_write_slurm(const struct sweep_journal *, const char *file, int64_t jobs) CHI_MUST_CHECK;

#endif
