/* fs.h - files and folders that survive SIGKILL, full disks and power loss.     */
#ifndef FS_H
#define FS_H

#include <chimera/base.h>
#include <stdio.h>

/* Whole file into memory (mem_take; caller mem_frees), NUL added after *n bytes */
chi_status fs_read(const char *path, unsigned char **bytes, int64_t *n) CHI_MUST_CHECK;
/* Writes path.tmp, fsyncs, renames onto path, fsyncs the folder                */
chi_status fs_write_atomic(const char *path, const void *bytes, int64_t n) CHI_MUST_CHECK;
chi_status fs_mkdirs(const char *path) CHI_MUST_CHECK;  /* and its parents        */
chi_status fs_sync_dir(const char *path) CHI_MUST_CHECK;
chi_status fs_remove_tree(const char *path);            /* fine if absent         */
bool       fs_exists(const char *path);
bool       fs_is_dir(const char *path);
int64_t    fs_free_bytes(const char *path);             /* of its file system     */
/* Regular files below path, sorted by bytes of their relative path; free with
 * fs_list_free.  Links to folders are not followed.                            */
chi_status fs_list(const char *path, char ***names, int64_t *n) CHI_MUST_CHECK;
void       fs_list_free(char **names, int64_t n);

#endif
