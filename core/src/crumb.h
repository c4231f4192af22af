/* crumb.h - where a crash would be: the call into a component that runs now.
 *
 * Whoever calls a component says so on its own stack, before and after:
 *
 *     struct crumb crumb = { "layers.2.mixer", "gated_deltanet", "backward" };
 *     const struct crumb *was = crumb_set(&crumb);
 *     ... the call ...
 *     crumb_set(was);
 *
 * The pointer is a thread's own; workers of a parallel loop take over that of the
 * thread that runs the loop.  A handler of SIGSEGV and its like says it before the
 * signal ends the program.                                                       */
#ifndef CRUMB_H
#define CRUMB_H

#include <stdint.h>

enum { CRUMB_PAGE = 192 };

struct crumb { const char *instance, *component, *op; };

const struct crumb *crumb_set(const struct crumb *);    /* returns the one before */
const struct crumb *crumb_now(void);
/* A worker takes over its caller's crumb (NULL: gives it back) without telling the mirror */
void crumb_adopt(const struct crumb *);
/* From now on it also stands there as words, "in forward of ema" and, once that has returned,
 * "after forward of ema": memory shared with a process that outlives this one.  NULL: no more. */
void crumb_mirror(char page[CRUMB_PAGE]);

/* Catches signals of crashes, unless somebody (a sanitizer) does already         */
void crash_catch(void);
/* What the message adds: the step that is being taken, 0: none, and what to do; the text
 * is copied.  NULL: nothing known                                                */
void crash_step(int64_t step);
void crash_advice(const char *text);
/* The message goes to this file, too; -1: no more                                */
void crash_log(int fd);

#endif
