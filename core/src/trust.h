/* trust.h - may the code in this file run?  Only if nobody but us and root could have
 * put it there.                                                                 */
#ifndef TRUST_H
#define TRUST_H

#include <chimera/base.h>
#include <sys/stat.h>

/* A folder of the search path (a real path): its own owner and permissions, and those
 * of every folder above it.                                                     */
chi_status trust_folder(const char *folder) CHI_MUST_CHECK;
/* Opens a regular file of a trusted folder; *real is its real path (caller frees), *fd
 * and *st belong to it.  Links may not lead out of root, a real path.           */
chi_status trust_file(const char *path, const char *root, char **real, int *fd,
                      struct stat *st) CHI_MUST_CHECK;
/* Refuses programs that run with another user's rights                          */
chi_status trust_process(void) CHI_MUST_CHECK;

#endif
