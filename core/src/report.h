/* report.h - what `chimera report` knows: runs, the arms that they form, and the comparison.
 *
 * report_read.c finds run folders and reads them; report_arms.c groups them by
 * configuration; report_compare.c decides what counts and computes; report_text.c,
 * report_html.c and report_plot.c only show.  Everything lives until report_close().  */
#ifndef REPORT_H
#define REPORT_H

#include <stdio.h>

#include "stats.h"

struct report_point { int64_t step; double value; };    /* value NaN: null in the file   */
struct report_curve {                   /* one metric of one run, by rising steps    */
    char   *name;
    struct report_point *point;
    int64_t n, room;
};
struct report_key { char *name, *value; };              /* "layer.GD.head_dim"           */

struct report_run {
    char   *dir, *real;                 /* as given; absolute, without links         */
    char   *state, *reason;             /* state: that of status.json, or "unknown"  */
    char   *data_hash;                  /* of env.json, or NULL                      */
    char   *label;                      /* what its sweep calls it, or NULL          */
    int64_t place;                      /* among the jobs of its sweep; else 0       */
    bool    has_seed;
    int64_t seed;
    struct report_key *key;             /* the configuration, sorted by name         */
    int64_t n_key;
    struct report_curve *curve;         /* every number of metrics.jsonl             */
    int64_t n_curve;
    int64_t bad_lines;                  /* whole lines that are no JSON object       */
    int64_t arm;                        /* index; -1: none (no configuration)        */
    char   *left_out;                   /* why it does not count, or NULL            */
    double  value;                      /* of the metric, where it counts            */
    int64_t step, last_step;            /* of value; of the metric's last point      */
};

struct report_arm {
    char   *name, *all;                 /* short; every key that differs             */
    int64_t first;                      /* one of its runs                           */
    struct stat_sample sample;
    struct stat_test   test;            /* against the baseline                      */
    double  adjusted;                   /* Holm                                      */
    enum stat_verdict  verdict;
    int64_t runs, left_out;
    int64_t state_bytes, params;        /* -1: its model cannot be planned here      */
};

enum { REPORT_LAST = -1, REPORT_BEST = -2 };
struct report_wish {                    /* the command line                          */
    const char *metric, *baseline;      /* NULL: bits per byte; the first arm        */
    int64_t at;                         /* a step, REPORT_LAST or REPORT_BEST        */
    int64_t tail;                       /* with REPORT_LAST: the mean over so many steps; 0: the last value */
    int     direction;                  /* 1 higher is better, -1 lower, 0 by name   */
    bool    any_data, any_steps;
};

struct report {
    struct report_wish wish;
    char   *metric;
    bool    higher;
    struct report_run *run;
    int64_t n_run;
    struct report_arm *arm;             /* the baseline first                        */
    int64_t n_arm;
    char  **slice;                      /* names behind "METRIC."                    */
    int64_t n_slice;
    char  **warning;
    int64_t n_warning;
};

chi_status report_read(struct report *, char *const *folder, int n) CHI_MUST_CHECK;
chi_status report_metric(struct report *) CHI_MUST_CHECK;       /* which one             */
chi_status report_group(struct report *) CHI_MUST_CHECK;        /* runs into arms        */
chi_status report_compare(struct report *) CHI_MUST_CHECK;
void       report_close(struct report *);
void       report_warn(struct report *, const char *fmt, ...) CHI_PRINTF(2, 3);

/* What the sweep that a run folder lies in calls its arm, or NULL, and its place in the plan; caller frees */
char *report_label(const char *real, int64_t *place);
const struct report_curve *report_curve(const struct report_run *, const char *name);
const char *report_value(const struct report_run *, const char *key);   /* or NULL       */
/* Mean of "METRIC.slice" over the arm's runs that count; NaN without any             */
double report_slice(const struct report *, int64_t arm, int64_t slice);

/* ---- what is shown ------------------------------------------------------------ */
enum { REPORT_CELL = 160 };
struct report_table {
    const char **head;                  /* [columns]                                 */
    char  *side;                        /* [columns]: 'r' right, 'l' left            */
    int64_t columns, rows;
    char **cell;                        /* [rows][columns]                           */
};
void  report_table_arms(const struct report *, struct report_table *);
void  report_table_runs(const struct report *, struct report_table *);   /* what counts   */
void  report_table_out(const struct report *, struct report_table *);    /* what does not */
void  report_table_slices(const struct report *, struct report_table *);
void  report_table_free(struct report_table *);

void  report_letter(char out[8], int64_t arm);          /* A, B, ..., Z, AA              */
void  report_number(char out[32], double);              /* "-" for NaN                   */
void  report_verdict(const struct report_arm *, char out[REPORT_CELL]);  /* in words      */
char *report_title(const struct report *);              /* one sentence; caller frees    */

void  report_text(const struct report *, FILE *);
void  report_markdown(const struct report *, FILE *);
void  report_csv(const struct report *, FILE *);
void  report_html(const struct report *, FILE *);

/* ---- plots ----------------------------------------------------------------------- */
enum report_plot { REPORT_CURVES, REPORT_FINAL, REPORT_STATE };
/* An <svg>, caller frees; NULL: nothing to draw, or no gnuplot that can draw it        */
char *report_plot(const struct report *, enum report_plot);
bool  report_can_plot(void);
bool  report_bands(const struct report *);              /* with few arms curves have bands   */
const char *report_colour(int64_t arm);                 /* "#3b82c4"                     */
/* 0, 1, 2: arms of one colour differ in it, so 24 arms have lines of their own         */
int   report_dash(int64_t arm);

#endif
