/* mapped.h - files whose bytes are used where they are mapped.
 *
 * A mapped file that becomes shorter, or whose disk fails, ends the program at the next touch of a page that is
 * gone (SIGBUS).  For the addresses told here that is answered by a line that names the file and by exit code 3,
 * or 5 when it was being written, which also removes it; for all others by whatever was there before. */
#ifndef MAPPED_H
#define MAPPED_H

#include <chimera/base.h>
#include <sys/stat.h>

enum { MAPPED_READ, MAPPED_WRITE };
/* [from, from + bytes) is the file of this name, which stays until mapped_drop()                            */
void mapped_add(const void *from, int64_t bytes, const char *path, int how);
void mapped_drop(const void *from);
/* What was read of a mapped file here no longer counts as our memory; it is read again when it is touched.  Of other
 * memory nothing happens                                                                                    */
void mapped_let_go(const void *from, int64_t bytes);
/* Maps a regular file to read, and adds it; the caller unmaps and drops it.  NULL for one without bytes.  identity is
 * what the file was                                                                                         */
chi_status mapped_open(const char *path, unsigned char **bytes, struct stat *identity) CHI_MUST_CHECK;

#endif
