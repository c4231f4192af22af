/* crashed.h - plugin files that crashed, hung or exited while they were loaded.
 *
 * Whoever scans a folder should not wait for such a file again, so it is remembered in
 * $XDG_CACHE_HOME/chimera/scan (or ~/.cache/chimera/scan), by device, inode, size and time of
 * change: another build of it is another file.  Who names the file itself tries it again.  */
#ifndef CRASHED_H
#define CRASHED_H

#include <stdbool.h>
#include <sys/stat.h>

/* Where it is remembered, if it is; caller frees.  NULL: not known to crash               */
char *crashed_before(const struct stat *);
/* Without a folder to write to nothing is remembered, and nobody is told                  */
void crashed_remember(const struct stat *, const char *path);
/* It loaded after all                                                                     */
void crashed_forget(const struct stat *);

#endif
