/* validate.h - checks that prove a plugin, one file a family.
 *
 * A check is a function that tries one promise of the ABI on one component.  It runs in
 * a child process of its own with limits on time and memory, so it may be blunt: what
 * crashes or hangs is reported as the finding that it is.  A check has no other result
 * than what it says through its trial.
 *
 *   file      manifest, imports, exports                      of the plugin file
 *   config    random options open or are refused with a reason  of every component
 *   layer     grad, step, segments, causal, fork, tree, threads, ...
 *   others    encodings, backends, quantizers, objectives, optimizers, tokenizers, tasks
 */
#ifndef VALIDATE_H
#define VALIDATE_H

#include "registry.h"

enum outcome { TRIAL_OK, TRIAL_SKIP, TRIAL_WARN, TRIAL_FAILED, TRIAL_CRASHED };

struct trial {
    struct registry *registry;
    const struct plugin_info *plugin;       /* path, manifest; never NULL               */
    const struct chi_component *component;  /* NULL in a check of the file              */
    uint64_t seed;                          /* --seed                                   */
    uint64_t draw;                          /* of trial_random()                        */
    enum outcome outcome;                   /* the worst so far                         */
    char    *text;                          /* its lines, each ended by \n; or NULL     */
    int      lines;
};

/* A failure says what was found, what was wanted, and with which options and sizes, so that an
 * author can repeat it.  Checks go on after one where that tells more; the first eight lines are kept. */
void trial_fail(struct trial *, const char *fmt, ...) CHI_PRINTF(2, 3);
void trial_warn(struct trial *, const char *fmt, ...) CHI_PRINTF(2, 3);
void trial_skip(struct trial *, const char *fmt, ...) CHI_PRINTF(2, 3);   /* and return    */
/* A line that judges nothing: a measured number                                        */
void trial_note(struct trial *, const char *fmt, ...) CHI_PRINTF(2, 3);
/* CHI_OK, or a failure "WHAT: fail_text()"                                             */
bool trial_must(struct trial *, chi_status, const char *what);

uint64_t trial_random(struct trial *);                      /* 64 bits, by seed and order */
int64_t  trial_between(struct trial *, int64_t lo, int64_t hi);      /* inclusive        */
float    trial_uniform(struct trial *);                     /* in [-1, 1)                */

struct check {
    const char *name;               /* "grad.params": the family before the dot          */
    int         kind;               /* of components that it is for; 0: the file         */
    int         seconds;            /* limit of processor time, threads added; three times that
                                       on the clock                                      */
    const char *doc;                /* what it proves, in a line for --list              */
    void      (*run)(struct trial *);
};

/* Tables of the families, each ended by a check without name; validate.c lists them.    */
extern const struct check checks_manifest[], checks_config[],
                          checks_layer[], checks_layer_memory[], checks_layer_threads[], checks_layer_numbers[],
                          checks_encodings[], checks_quantizers[], checks_backends[],
                          checks_objectives[], checks_optimizers[], checks_tokenizers[], checks_tasks[],
                          checks_loops[], checks_adapters[],
                          checks_perf[];      /* --perf alone                              */
/* The check i of all tables, in order; NULL after the last                              */
const struct check *check_at(int64_t i);

/* Is the check called so, or is its family?  NULL: any                                   */
bool check_is(const struct check *, const char *name);
/* Runs one check here, in this process, on a trial that is filled in but for its outcome */
void check_run(const struct check *, struct trial *);

#endif
