/* crumb.c - see crumb.h.                                                                 */
#include "crumb.h"

#include <stdio.h>

_Thread_local struct crumb crumb;
static char *mirror;

static void write_mirror(void)
{
    if (!mirror) return;
    snprintf(mirror, CRUMB_PAGE, "%s %s of %s", crumb.over ? "after" : "in", crumb.op, crumb.component);
}

void crumb_set(const char *instance, const char *component, const char *op)
{
    crumb = (struct crumb){ instance, component, op, false };
    write_mirror();
}

void crumb_done(void)
{
    crumb.over = true;
    write_mirror();
}

void crumb_mirror(char page[CRUMB_PAGE])
{
    mirror = page;
}
