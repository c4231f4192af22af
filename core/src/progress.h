/* progress.h - what a person sees while a run goes on: one live line on a terminal;
 * plain lines at log intervals (at most one a second) elsewhere, and never more than
 * 60 s of silence.                                                                   */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <chimera/base.h>

struct progress {
    bool    tty;
    double  begun, said;                /* seconds of now_s()                         */
    int64_t first;                      /* step at which this process began           */
};
struct progress_step {
    int64_t step, steps;                /* done, of                                   */
    double  loss, bpb, lr, tok_s, step_s;
    bool    due;                        /* a log interval ends here                   */
};

void progress_begin(struct progress *, int64_t step);
void progress_step(struct progress *, const struct progress_step *);
/* "name 40 %" for things that take long beside steps; done == total clears it        */
void progress_part(struct progress *, const char *name, int64_t done, int64_t total);
void progress_end(struct progress *);   /* the terminal's line is free again          */

#endif
