/* trust.c - who could have written a plugin; see trust.h.
 *
 * A file is trusted if it belongs to us or to root, is writable for its owner alone,
 * and the same holds for each folder on the way to it: whoever can rename a folder can
 * put another in its place.  With that, nobody else can swap the file between the
 * check and dlopen(), so a path is as good as a descriptor.
 *
 * Above the folders that are searched, two kinds of writable folders are safe: a sticky
 * one such as /tmp (an entry can be renamed by its owner only, and the next folder's
 * owner is checked), and one that is writable for a group which only its owner is in
 * (the habit of distributions with umask 002).                                  */
#include "core.h"
#include "trust.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* Under node, geteuid() is always 0, but /proc is the system's                   */
static uid_t own_uid(void)
{
    struct stat self;
    return WEBASSEMBLY && stat("/proc/self", &self) == 0 ? self.st_uid : geteuid();
}

/* Whoever owns "/" can replace everything; in a user namespace that is not uid 0  */
static bool trusted_owner(uid_t owner)
{
    struct stat top;
    return owner == 0 || owner == own_uid() || (stat("/", &top) == 0 && owner == top.st_uid);
}

static bool private_group(const struct stat *st)
{
    const struct passwd *user = getpwuid(st->st_uid);
    if (!user || user->pw_gid != st->st_gid) return false;
    char *name = xstrdup(user->pw_name);
    const struct group *g = getgrgid(st->st_gid);
    bool alone = g && !strcmp(g->gr_name, name);
    for (char **m = g ? g->gr_mem : NULL; alone && *m; m++) alone = !strcmp(*m, name);
    free(name);
    return alone;
}

static chi_status refuse_owner(const char *path, uid_t owner)
{
    return fail(CHI_EPLUGIN, "%s: owner is uid %ld, wanted root or uid %ld - copy it to a folder of your own",
                path, (long)owner, (long)own_uid());
}

/* above: the folder is only on the way to those that are searched               */
static chi_status check_folder(const char *path, bool above)
{
    struct stat st;
    if (stat(path, &st) != 0) return fail_errno(CHI_EPLUGIN, "%s", path);
    if (!S_ISDIR(st.st_mode)) return fail(CHI_EPLUGIN, "%s: not a folder", path);
    if (!trusted_owner(st.st_uid)) return refuse_owner(path, st.st_uid);
    bool sticky = above && (st.st_mode & S_ISVTX);
    if ((st.st_mode & S_IWOTH) && !sticky)
        return fail(CHI_EPLUGIN, "%s: folder is world-writable (mode %o), plugins in it could be anyone's"
                    " - chmod o-w %s", path, (unsigned)st.st_mode & 07777, path);
    if ((st.st_mode & S_IWGRP) && !sticky && !(above && private_group(&st)))
        return fail(CHI_EPLUGIN, "%s: folder is group-writable (mode %o), plugins in it could be others'"
                    " - chmod g-w %s", path, (unsigned)st.st_mode & 07777, path);
    return CHI_OK;
}

chi_status trust_folder(const char *folder)
{
    char *path = xstrdup(folder);
    chi_status s = check_folder(path, false);
    while (s == CHI_OK && path[1]) {
        char *slash = strrchr(path, '/');
        slash[slash == path] = 0;       /* the parent; "/" stays                 */
        s = check_folder(path, true);
    }
    free(path);
    return s;
}

/* Folders between root (which was checked) and the file                         */
static chi_status check_between(const char *real, size_t root)
{
    char *path = xstrdup(real), *slash;
    chi_status s = CHI_OK;
    while (s == CHI_OK && (slash = strrchr(path, '/')) && (size_t)(slash - path) > root) {
        *slash = 0;
        s = check_folder(path, false);
    }
    free(path);
    return s;
}

static chi_status check_file(const char *path, const struct stat *st)
{
    if (!S_ISREG(st->st_mode)) return fail(CHI_EPLUGIN, "%s: not a regular file", path);
    if (!trusted_owner(st->st_uid)) return refuse_owner(path, st->st_uid);
    if (st->st_mode & (S_IWGRP | S_IWOTH))
        return fail(CHI_EPLUGIN, "%s: file is %s-writable (mode %o), it could be anyone's - chmod go-w %s",
                    path, st->st_mode & S_IWOTH ? "world" : "group", (unsigned)st->st_mode & 07777, path);
    if (st->st_mode & (S_ISUID | S_ISGID))
        return fail(CHI_EPLUGIN, "%s: file has a setuid or setgid bit (mode %o) - chmod ug-s %s",
                    path, (unsigned)st->st_mode & 07777, path);
    return CHI_OK;
}

chi_status trust_file(const char *path, const char *root, char **real, int *fd, struct stat *st)
{
    size_t n = strcmp(root, "/") ? strlen(root) : 0;
    *fd = -1;
    *real = realpath(path, NULL);
    if (!*real) return fail_errno(CHI_EPLUGIN, "%s", path);
    chi_status s = CHI_OK;
    if (strncmp(*real, root, n) != 0 || (*real)[n] != '/')
        s = fail(CHI_EPLUGIN, "%s: link leads out of %s to %s - put the file itself there", path, root, *real);
    if (s == CHI_OK) s = check_between(*real, n);
    /* Not to be stopped by a FIFO that nobody writes to                          */
    if (s == CHI_OK && (*fd = open(*real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW)) < 0)
        s = fail_errno(CHI_EPLUGIN, "%s", path);
    if (s == CHI_OK && fstat(*fd, st) != 0) s = fail_errno(CHI_EPLUGIN, "%s", path);
    if (s == CHI_OK) s = check_file(path, st);
    if (s == CHI_OK) return s;
    if (*fd >= 0) close(*fd);
    free(*real);
    *real = NULL;
    *fd = -1;
    return s;
}

chi_status trust_process(void)
{
    if (getuid() != geteuid() || getgid() != getegid() || getauxval(AT_SECURE))
        return fail(CHI_EPLUGIN, "chimera runs with another user's rights (setuid, setgid or capabilities):"
                    " plugins are not loaded - remove that bit from the program");
    return CHI_OK;
}
