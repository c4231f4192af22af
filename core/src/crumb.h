/* crumb.h - which operation of which plugin runs right now, for whoever explains a crash.
 *
 * Around each call into a plugin: crumb_set(instance, component, "forward") before, and
 * crumb_done() after.  The three words are kept as pointers, so they must live on.       */
#ifndef CRUMB_H
#define CRUMB_H

#include <chimera/base.h>

enum { CRUMB_PAGE = 192 };

struct crumb {
    const char *instance, *component, *op;      /* "layers.2.mixer", "titans_mac", "backward" */
    bool        over;                           /* the operation has returned             */
};
extern _Thread_local struct crumb crumb;

void crumb_set(const char *instance, const char *component, const char *op);
void crumb_done(void);
/* From now on every change is written there, too, as "in backward of titans_mac": memory
 * shared with a process that outlives this one.  NULL: no more.                          */
void crumb_mirror(char page[CRUMB_PAGE]);

#endif
