/* fs.h - files and folders that survive SIGKILL, full disks and power loss.     */
#ifndef FS_H
#define FS_H

#include <chimera/base.h>
#include <stdio.h>

/* Whole file into memory (mem_take; caller mem_frees), NUL added after *n bytes */
chi_status fs_read(const char *path, unsigned char **bytes, int64_t *n) CHI_MUST_CHECK;
/* Writes path.tmp, fsyncs, renames onto path, fsyncs the folder.  A device or a pipe is written to
 * as it is                                                                      */
chi_status fs_write_atomic(const char *path, const void *bytes, int64_t n) CHI_MUST_CHECK;
bool       fs_is_special(const char *path);             /* a device, a pipe, /dev/fd/1: nothing to replace */
/* Whether that could begin: for those who measure for minutes before they write */
chi_status fs_can_write(const char *path) CHI_MUST_CHECK;
chi_status fs_mkdirs(const char *path) CHI_MUST_CHECK;  /* and its parents        */
chi_status fs_sync_dir(const char *path) CHI_MUST_CHECK;
chi_status fs_remove_tree(const char *path);            /* fine if absent         */
/* A file to be read did not open, by errno: CHI_EDATA if it is not there, no file, or not for us     */
chi_status fs_fail_open(const char *path);
bool       fs_is_refused(int error);
/* tmp, empty and ours as long as it is open (a lock): it becomes path.  CHI_ECONF: another process has it */
chi_status fs_open_alone(const char *tmp, const char *path, int *fd) CHI_MUST_CHECK;
bool       fs_is_named(int fd, const char *path);       /* is it the file of that name?               */
bool       fs_exists(const char *path);
/* CHI_ECONF: a file that -o wants to be written is there already                     */
chi_status fs_name_free(const char *path) CHI_MUST_CHECK;
bool       fs_is_dir(const char *path);
bool       fs_begins(const char *path, const char *magic);      /* a regular file, with these bytes */
int64_t    fs_free_bytes(const char *path);             /* of its file system     */
/* Regular files below path, sorted by bytes of their relative path; free with
 * fs_list_free.  Links to folders are not followed.                            */
chi_status fs_list(const char *path, char ***names, int64_t *n) CHI_MUST_CHECK;
void       fs_list_free(char **names, int64_t n);

/* Where we keep what can be found out again: $XDG_CACHE_HOME/chimera or ~/.cache/chimera; NULL:
 * nobody says where.  Caller frees                                               */
char      *fs_cache_folder(void);

/* ---- a new file that is counted and hashed while it is written ------------- */
struct fs_out {
    FILE   *f;                          /* write here; flushed by fs_out_close    */
    char   *path;
    int     fd, error;                  /* error: errno of the first failed write */
    int64_t bytes;
    void   *hash;                       /* XXH3 state                             */
};
chi_status fs_out_open(struct fs_out *, const char *path) CHI_MUST_CHECK;
/* The same for tmp, which becomes path, as fs_open_alone() opens it                */
chi_status fs_out_open_alone(struct fs_out *, const char *tmp, const char *path) CHI_MUST_CHECK;
/* Flushes, fsyncs and closes.  *hash (may be NULL) = XXH3-64 of what was written.
 * Must be called once after fs_out_open() succeeded, even after a failed write.  */
chi_status fs_out_close(struct fs_out *, uint64_t *hash) CHI_MUST_CHECK;

/* All n bytes to fd, EINTR and short writes handled; false with errno set        */
bool       fs_write_all(int fd, const void *bytes, int64_t n);
/* "cannot WHAT PATH: reason" from errno; a full disk gets CHI_ENOMEM and advice  */
chi_status fs_fail(const char *what, const char *path);
/* Size and XXH3-64 of a whole file, read in pieces                               */
chi_status fs_hash(const char *path, int64_t *bytes, uint64_t *hash) CHI_MUST_CHECK;
char      *fs_join(const char *folder, const char *name);   /* caller frees        */
/* Names in one folder, files and folders, without "." and "..", sorted           */
chi_status fs_entries(const char *path, char ***names, int64_t *n) CHI_MUST_CHECK;
/* Renames tmp, which is on the disk already, to path and fsyncs the folder       */
chi_status fs_publish(const char *tmp, const char *path) CHI_MUST_CHECK;

#endif
