/* fs.c - files and folders that survive SIGKILL, full disks and power loss.
 *
 * The one pattern behind all of it: write under another name, fsync the file, rename
 * it onto its place, fsync the folder.  At every instant the old or the new content is
 * there, whole.  Writes go through write(2) by hand, so that interruptions and short
 * writes are seen, and so that a test can make any one of them fail.             */
#include "fs.h"
#include "core.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

chi_status fs_fail(const char *what, const char *path)
{
    int e = errno;
    if (e == ENOSPC || e == EDQUOT)
        return fail(CHI_ENOMEM, "cannot %s %s: %s: free some there, or choose a folder on another disk",
                    what, path, e == ENOSPC ? "no space left on the disk" : "the disk quota is used up");
    if (e == EFBIG)
        return fail(CHI_ENOMEM,
                    "cannot %s %s: it would be larger than files may be: raise ulimit -f, or choose a folder on "
                    "another disk", what, path);
    errno = e;
    return fail_errno(CHI_EIO, "cannot %s %s", what, path);
}

bool fs_is_refused(int e)
{
    return e == ENOENT || e == ENOTDIR || e == EISDIR || e == EACCES || e == EPERM || e == ELOOP || e == ENAMETOOLONG;
}

chi_status fs_fail_open(const char *path)
{
    int e = errno;
    return fs_is_refused(e) ? fail(CHI_EDATA, "cannot read %s: %s", path, strerror(e)) : fs_fail("read", path);
}

char *fs_join(const char *folder, const char *name)
{
    size_t n = strlen(folder);
    return xprintf("%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
}

bool fs_write_all(int fd, const void *bytes, int64_t n)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t k = write(fd, p, (size_t)min_i64(n, 1 << 30));
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = EIO;
        if (k <= 0) return false;
        p += k;
        n -= k;
    }
    return true;
}

/* ---- reading -------------------------------------------------------------- */

/* The size of a regular file is only a first guess: pipes and files that grow while
 * they are read simply take another round.                                        */
static chi_status read_rest(int fd, const char *path, int64_t guess, unsigned char **bytes, int64_t *n)
{
    int64_t room = guess + 1, have = 0;
    unsigned char *p = mem_take((size_t)room, path);
    if (!p) return CHI_ENOMEM;
    for (;;) {
        ssize_t k = read(fd, p + have, (size_t)min_i64(room - have, 1 << 30));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) {
            chi_status s = fs_fail("read", path);
            mem_free(p);
            return s;
        }
        if (k == 0) break;
        have += k;
        if (have < room) continue;
        unsigned char *q = mem_take((size_t)room * 2, path);
        if (q) memcpy(q, p, (size_t)have);
        mem_free(p);
        if (!q) return CHI_ENOMEM;
        p = q;
        room *= 2;
    }
    p[have] = 0;
    *bytes = p;
    *n = have;
    return CHI_OK;
}

chi_status fs_read(const char *path, unsigned char **bytes, int64_t *n)
{
    struct stat st;
    *bytes = NULL;
    *n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fs_fail_open(path);
    chi_status s;
    if (fstat(fd, &st) < 0) s = fs_fail("read", path);
    else if (S_ISDIR(st.st_mode)) s = fail(CHI_EDATA, "cannot read %s: it is a folder, not a file", path);
    else s = read_rest(fd, path, max_i64(st.st_size, 4095), bytes, n);
    close(fd);
    return s;
}

static chi_status hash_fd(int fd, const char *path, XXH3_state_t *x, int64_t *bytes)
{
    static _Thread_local unsigned char piece[1 << 16];
    for (ssize_t k; (k = read(fd, piece, sizeof piece)) != 0;) {
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return fs_fail("read", path);
        XXH3_64bits_update(x, piece, (size_t)k);
        *bytes += k;
    }
    return CHI_OK;
}

chi_status fs_hash(const char *path, int64_t *bytes, uint64_t *hash)
{
    *bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fs_fail("read", path);
    XXH3_state_t *x = XXH3_createState();
    chi_status s = x ? CHI_OK : fail(CHI_ENOMEM, "no memory to read %s", path);
    if (x) XXH3_64bits_reset(x);
    if (s == CHI_OK) s = hash_fd(fd, path, x, bytes);
    if (s == CHI_OK) *hash = XXH3_64bits_digest(x);
    XXH3_freeState(x);
    close(fd);
    return s;
}

/* ---- writing -------------------------------------------------------------- */

static bool sync_fd(int fd)
{
    while (fsync(fd) < 0)
        if (errno != EINTR) return false;
    return true;
}

static ssize_t out_write(void *cookie, const char *bytes, size_t n)
{
    struct fs_out *o = cookie;
    if (o->error) {
        errno = o->error;
        return 0;
    }
    if (!fs_write_all(o->fd, bytes, (int64_t)n)) {
        o->error = errno;
        return 0;
    }
    XXH3_64bits_update(o->hash, bytes, n);
    o->bytes += (int64_t)n;
    return (ssize_t)n;
}

bool fs_is_named(int fd, const char *path)
{
    struct stat ours, named;
    return fstat(fd, &ours) == 0 && stat(path, &named) == 0 && ours.st_dev == named.st_dev
        && ours.st_ino == named.st_ino;
}

/* What a process left that was killed has no lock any more.  Who waited for open() while another writer ended may
 * hold what has its name already, and asks again                                  */
chi_status fs_open_alone(const char *tmp, const char *path, int *fd)
{
    for (;;) {
        *fd = open(tmp, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*fd < 0) return fs_fail("create", tmp);
        bool taken = !WEBASSEMBLY && flock(*fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
        if (!taken && fs_is_named(*fd, tmp) && ftruncate(*fd, 0) == 0) return CHI_OK;
        chi_status s = taken ? fail(CHI_ECONF, "%s is being written by another process: wait until it ends, or give another "
                                    "name with -o", path)
                     : fs_is_named(*fd, tmp) ? fs_fail("write", tmp) : CHI_OK;
        close(*fd);
        *fd = -1;
        TRY(s);
    }
}

static chi_status out_begin(struct fs_out *o, int fd, const char *path)
{
    *o = (struct fs_out){ .fd = fd, .hash = XXH3_createState() };
    o->f = o->hash ? fopencookie(o, "w", (cookie_io_functions_t){ .write = out_write }) : NULL;
    if (!o->f) {
        XXH3_freeState(o->hash);
        close(o->fd);
        return fail(CHI_ENOMEM, "cannot create %s: out of memory", path);
    }
    XXH3_64bits_reset(o->hash);
    o->path = xstrdup(path);
    return CHI_OK;
}

chi_status fs_out_open(struct fs_out *o, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return fd < 0 ? fs_fail("create", path) : out_begin(o, fd, path);
}

chi_status fs_out_open_alone(struct fs_out *o, const char *tmp, const char *path)
{
    int fd;
    TRY(fs_open_alone(tmp, path, &fd));
    return out_begin(o, fd, tmp);
}

chi_status fs_out_close(struct fs_out *o, uint64_t *hash)
{
    bool flushed = fclose(o->f) == 0;
    if (!flushed && !o->error) o->error = errno ? errno : EIO;
    if (!o->error && !sync_fd(o->fd)) o->error = errno;
    if (close(o->fd) < 0 && !o->error && errno != EINTR) o->error = errno;
    if (hash) *hash = XXH3_64bits_digest(o->hash);
    XXH3_freeState(o->hash);
    errno = o->error;
    chi_status s = o->error ? fs_fail("write", o->path) : CHI_OK;
    free(o->path);
    return s;
}

/* "a/b/c" -> "a/b", "c" -> ".", "/c" -> "/"                                       */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return xstrdup(".");
    return xprintf("%.*s", slash == path ? 1 : (int)(slash - path), path);
}

chi_status fs_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fs_fail("open folder", path);
    bool good = sync_fd(fd) || errno == EINVAL || errno == ENOTSUP;   /* some network disks */
    chi_status s = good ? CHI_OK : fs_fail("sync folder", path);
    close(fd);
    return s;
}

/* Into tmp, a name that nobody needs to hear of                                   */
static chi_status write_synced(const char *tmp, const char *path, const void *bytes, int64_t n)
{
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return fs_fail("create", path);
    chi_status s = fs_write_all(fd, bytes, n) && sync_fd(fd) ? CHI_OK : fs_fail("write", path);
    if (close(fd) < 0 && s == CHI_OK && errno != EINTR) s = fs_fail("write", path);
    return s;
}

chi_status fs_publish(const char *tmp, const char *path)
{
    char *folder = parent_of(path);
    chi_status s = rename(tmp, path) < 0 ? fs_fail("rename to", path) : fs_sync_dir(folder);
    free(folder);
    return s;
}

/* The descriptor that a name stands for, or -1.  A file behind it that is opened once more has an end of its own,
 * and what either writes falls on the other's                                     */
static int descriptor_of(const char *path)
{
    static const char *const folder[] = { "/dev/fd/", "/proc/self/fd/" };
    if (!strcmp(path, "/dev/stdout")) return STDOUT_FILENO;
    if (!strcmp(path, "/dev/stderr")) return STDERR_FILENO;
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(folder[i]), digits = !strncmp(path, folder[i], n) ? strspn(path + n, "0123456789") : 0;
        if (digits && digits < 6 && !path[n + digits]) return (int)strtol(path + n, NULL, 10);
    }
    return -1;
}

/* A device or a pipe, which is written to and stays what it is; /dev/stdout leads to a file now and then */
bool fs_is_special(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0 || S_ISDIR(st.st_mode)) return false;
    return !S_ISREG(st.st_mode) || descriptor_of(path) >= 0;
}

static chi_status write_special(const char *path, const void *bytes, int64_t n)
{
    int own = descriptor_of(path);
    fflush(stdout);
    int fd = own >= 0 ? dup(own) : open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) return fs_fail("write", path);
    chi_status s = fs_write_all(fd, bytes, n) ? CHI_OK : fs_fail("write", path);
    close(fd);
    return s;
}

chi_status fs_write_atomic(const char *path, const void *bytes, int64_t n)
{
    if (fs_is_special(path)) return write_special(path, bytes, n);
    char *tmp = xprintf("%s.tmp", path), *folder = parent_of(path);
    chi_status s = write_synced(tmp, path, bytes, n);
    if (s == CHI_OK && rename(tmp, path) < 0) s = fs_fail("replace", path);
    if (s != CHI_OK) unlink(tmp);
    else s = fs_sync_dir(folder);
    free(tmp);
    free(folder);
    return s;
}

chi_status fs_can_write(const char *path)
{
    if (fs_is_dir(path)) {
        errno = EISDIR;
        return fs_fail("write", path);
    }
    if (!*path) return fail(CHI_ECONF, "the name of a file to write is empty");
    if (fs_is_special(path)) return access(path, W_OK) < 0 ? fs_fail("write", path) : CHI_OK;
    char *tmp = xprintf("%s.tmp", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    chi_status s = CHI_OK;
    if (fd >= 0) {
        close(fd);
        unlink(tmp);
    } else if (errno != EEXIST) s = fs_fail("create", path);
    else if (fs_is_dir(tmp)) s = fail(CHI_EIO, "cannot create %s: %s is a folder", path, tmp);
    else if (access(tmp, W_OK) < 0) s = fs_fail("write", tmp);      /* somebody may be writing it: it stays      */
    free(tmp);
    return s;
}

/* ---- folders -------------------------------------------------------------- */

bool fs_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

chi_status fs_name_free(const char *path)
{
    if (!fs_exists(path)) return CHI_OK;
    return fail(CHI_ECONF, "%s is there already: remove it, or give another name with -o", path);
}

bool fs_begins(const char *path, const char *magic)
{
    char head[16] = { 0 };
    size_t n = strlen(magic);
    struct stat st;
    /* what is read of a pipe is gone */
    if (n > sizeof head || stat(path, &st) < 0 || !S_ISREG(st.st_mode)) return false;
    FILE *f = fopen(path, "rbe");
    bool is = f && fread(head, 1, n, f) == n && !memcmp(head, magic, n);
    if (f) fclose(f);
    return is;
}

bool fs_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

chi_status fs_mkdirs(const char *path)
{
    if (fs_is_dir(path)) return CHI_OK;
    if (!*path) return fail(CHI_ECONF, "the name of a folder to make is empty");
    char *part = xstrdup(path);
    chi_status s = CHI_OK;
    for (char *p = part + 1; s == CHI_OK; p++) {
        if (*p && *p != '/') continue;
        char end = *p;
        *p = 0;
        if (mkdir(part, 0777) < 0 && (errno != EEXIST || !fs_is_dir(part))) {
            if (errno == EEXIST) s = fail(CHI_EIO, "cannot create folder %s: a file of that name is there", part);
            else s = fs_fail("create folder", part);
        }
        *p = end;
        if (!end) break;
    }
    free(part);
    return s;
}

int64_t fs_free_bytes(const char *path)
{
    struct statvfs v;
    if (statvfs(path, &v) < 0) return -1;
    return (int64_t)v.f_bavail * (int64_t)v.f_frsize;
}

/* ---- lists ---------------------------------------------------------------- */

struct names { char **v; int64_t n, room; };

static void names_add(struct names *l, char *name)
{
    if (l->n == l->room) {
        l->room = l->room ? 2 * l->room : 16;
        l->v = xrealloc(l->v, (size_t)l->room * sizeof *l->v);
    }
    l->v[l->n++] = name;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_out(struct names *l, char ***names, int64_t *n)
{
    if (l->n) qsort(l->v, (size_t)l->n, sizeof *l->v, by_bytes);
    *names = l->v;
    *n = l->n;
}

void fs_list_free(char **names, int64_t n)
{
    for (int64_t i = 0; i < n; i++) free(names[i]);
    free(names);
}

static chi_status read_folder(const char *path, struct names *l)
{
    DIR *d = opendir(path);
    if (!d) return fs_fail("open folder", path);
    errno = 0;
    for (struct dirent *e; (e = readdir(d)); errno = 0)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) names_add(l, xstrdup(e->d_name));
    chi_status s = errno ? fs_fail("read folder", path) : CHI_OK;
    closedir(d);
    return s;
}

chi_status fs_entries(const char *path, char ***names, int64_t *n)
{
    struct names l = { 0 };
    *names = NULL;
    *n = 0;
    chi_status s = read_folder(path, &l);
    if (s == CHI_OK) names_out(&l, names, n);
    else fs_list_free(l.v, l.n);
    return s;
}

/* Adds the regular files of folder root/below; below is "" or "x/y/"              */
static chi_status walk(const char *root, const char *below, struct names *found)
{
    struct names l = { 0 };
    char *here = fs_join(root, below);
    chi_status s = read_folder(here, &l);
    for (int64_t i = 0; s == CHI_OK && i < l.n; i++) {
        struct stat st;
        char *rel = xprintf("%s%s", below, l.v[i]), *path = fs_join(root, rel);
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            char *deeper = xprintf("%s/", rel);
            s = walk(root, deeper, found);
            free(deeper);
        } else if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            names_add(found, xstrdup(rel));
        }
        free(rel);
        free(path);
    }
    fs_list_free(l.v, l.n);
    free(here);
    return s;
}

chi_status fs_list(const char *path, char ***names, int64_t *n)
{
    struct names found = { 0 };
    *names = NULL;
    *n = 0;
    chi_status s = walk(path, "", &found);
    if (s == CHI_OK) names_out(&found, names, n);
    else fs_list_free(found.v, found.n);
    return s;
}

/* Links are removed, never followed.                                              */
chi_status fs_remove_tree(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0) return errno == ENOENT ? CHI_OK : fs_fail("remove", path);
    if (!S_ISDIR(st.st_mode))
        return unlink(path) == 0 || errno == ENOENT ? CHI_OK : fs_fail("remove", path);
    struct names l = { 0 };
    chi_status s = read_folder(path, &l);
    for (int64_t i = 0; s == CHI_OK && i < l.n; i++) {
        char *name = fs_join(path, l.v[i]);
        s = fs_remove_tree(name);
        free(name);
    }
    fs_list_free(l.v, l.n);
    if (s == CHI_OK && rmdir(path) < 0 && errno != ENOENT) s = fs_fail("remove", path);
    return s;
}

char *fs_cache_folder(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache == '/') return xprintf("%s/chimera", cache);
    return home && *home == '/' ? xprintf("%s/.cache/chimera", home) : NULL;
}
