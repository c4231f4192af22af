/* run_events.h - RUN/tensorboard/events.out.tfevents.chimera.
 *
 * metrics.jsonl is what counts.  The file is made from its lines whenever the run begins, goes
 * on or is rolled back, and a record is appended with each new line: no step is there twice.
 * A file that cannot be written never ends a run: the next line makes it anew.          */
#ifndef RUN_EVENTS_H
#define RUN_EVENTS_H

#include <chimera/base.h>

struct run_events {
    bool   on, warned;
    int    fd;                          /* -1: make it anew                              */
    double base;                        /* Unix time of wall_s = 0                       */
};
void run_events_begin(struct run_events *, const char *dir);
void run_events_add(struct run_events *, const char *dir, const char *line);

#endif
