/* files.c - see files.h.  Bytes go into the instance's own memory, so they count
 * against the limit and stay until it is closed.                                    */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"
#include "fs.h"

static chi_status refuse(const struct chi_host *h, const char *path)
{
    int e = errno;
    return h->fail(h, fs_is_refused(e) ? CHI_EDATA : CHI_EIO,
                   "%s: %s; give a file or a folder that can be read", path, strerror(e));
}

/* Reads until want bytes or the end; returns how many, -1 on errors                   */
static int64_t read_all(int fd, unsigned char *to, int64_t want)
{
    int64_t have = 0;
    while (have < want) {
        ssize_t n = read(fd, to + have, (size_t)(want - have));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (!n) break;
        have += n;
    }
    return have;
}

static chi_status read_open_file(const struct chi_host *h, int fd, const char *path,
                                 const unsigned char **bytes, int64_t *n)
{
    struct stat st;
    if (fstat(fd, &st)) return refuse(h, path);
    if (!S_ISREG(st.st_mode))
        return h->fail(h, CHI_EDATA, "%s is neither a regular file nor a folder", path);
    unsigned char *p = h->alloc(h, (size_t)st.st_size + 1);
    if (!p) return CHI_ENOMEM;
    *n = read_all(fd, p, st.st_size);
    if (*n < 0) return refuse(h, path);
    if (*n < st.st_size)
        return h->fail(h, CHI_EDATA, "%s ended after %lld of %lld bytes: does something write to it?",
                       path, (long long)*n, (long long)st.st_size);
    *bytes = p;
    return CHI_OK;
}

typedef chi_status each_file(void *ctx, const char *name, const unsigned char *bytes, int64_t n);

static chi_status read_file(const struct chi_host *h, const char *path, each_file *each, void *ctx)
{
    const unsigned char *bytes = NULL;
    int64_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return refuse(h, path);
    chi_status s = read_open_file(h, fd, path, &bytes, &n);
    close(fd);
    return s == CHI_OK ? each(ctx, path, bytes, n) : s;
}

static chi_status read_folder(const struct chi_host *h, const char *path, each_file *each, void *ctx)
{
    char **name = NULL;
    int64_t n = 0;
    TRY(fs_list(path, &name, &n));
    chi_status s = CHI_OK;
    if (!n) s = h->fail(h, CHI_EDATA, "%s: the folder has no files", path);
    for (int64_t i = 0; i < n && s == CHI_OK; i++) {
        char *full = xprintf("%s/%s", path, name[i]);
        s = read_file(h, full, each, ctx);
        free(full);
    }
    fs_list_free(name, n);
    return s;
}

/* The real path names documents: one file under two names is one file                 */
static chi_status files_read(const struct chi_host *h, const char *path, each_file *each, void *ctx)
{
    struct stat st;
    char *real = realpath(path, NULL);
    if (!real || stat(real, &st)) {
        free(real);
        return refuse(h, path);
    }
    chi_status s = S_ISDIR(st.st_mode) ? read_folder(h, real, each, ctx)
                                       : read_file(h, real, each, ctx);
    free(real);
    return s;
}

const struct chi_files files_service = { sizeof files_service, files_read };
