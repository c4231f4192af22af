/* runner.h - each check in a process of its own.
 *
 * The parent never loads the plugin.  It starts itself again (a bare fork would hang in the
 * first parallel loop) with the same command line; CHIMERA_TRIAL in the environment tells the
 * child which check of which component to run.  What the child finds lies in memory that both
 * share (struct report), so it is there whatever the plugin did to its process; what it prints
 * goes to a file of its own.
 */
#ifndef RUNNER_H
#define RUNNER_H

#include "crumb.h"
#include "validate.h"

/* Addresses of a child: the program, stacks of 8 threads, the 1 GB that rigs may take          */
enum { REPORT_TEXT = 24 << 10, SPACE_LIMIT_GB = 3 };
struct report {
    char    doing[CRUMB_PAGE];          /* "in forward of ema", see crumb.h             */
    int32_t complete, outcome;          /* complete: the check returned                 */
    char    text[REPORT_TEXT];          /* its lines                                    */
};

struct job {
    const struct check *check;          /* NULL: look at the file, see below            */
    int64_t  index;                     /* of the check, for check_at()                 */
    int      kind;                      /* of the component, by name                    */
    const char *name;
    const char *skip;                   /* do not run it, for this reason; or NULL      */
    /* what came of it */
    enum outcome outcome;
    char    *text;                      /* lines; or NULL                               */
    char    *ending;                    /* "SIGSEGV in forward of ema"; or NULL         */
    double   seconds;
};

struct bench_plan {
    const char *subject;                /* the plugin's path or name                    */
    int64_t  at_once;                   /* children at a time                           */
    int64_t  seconds;                   /* limit of a check; 0: its own                 */
    void   (*done)(const struct job *, int64_t i, void *);  /* in order, as soon as may be */
    void    *ctx;
};
/* Runs all jobs; CHI_EIO if no process can be started.                                 */
chi_status runner_run(const struct bench_plan *, struct job *, int64_t n) CHI_MUST_CHECK;
void job_drop(struct job *);

/* The job without a check loads the file and tells, a line each:
 *     path PATH; name NAME; component KIND NAME; unfit KIND NAME: reason
 * or fails with the reason why the plugin is refused.                                  */

/* In a child: does the job that CHIMERA_TRIAL names, and ends the process.  Else returns. */
void child_run(uint64_t seed);

/* The component of a kind and name in a plugin, or NULL                                */
const struct chi_component *component_of(const struct plugin_info *, int kind, const char *name);

#endif
