/* scratch.h - a folder of the test's own in $TMPDIR, where tests/run.sh clears up whatever becomes of the test.  */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* Its path goes to dir, which has room for SCRATCH_SIZE                                                        */
enum { SCRATCH_SIZE = 512 };

static inline void make_scratch(char *dir)
{
    const char *top = getenv("TMPDIR");
    snprintf(dir, SCRATCH_SIZE, "%s/chimera-unit.XXXXXX", top && *top ? top : "/tmp");
    cr_assert(mkdtemp(dir), "no folder %s", dir);
}

#endif
