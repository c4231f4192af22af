/* plugin.c - loads one plugin file; see plugin_file.h.
 *
 *   trust (owner, permissions, links) -> bytes -> ELF symbol -> manifest head
 *   -> a child process that loads it -> dlopen here -> the whole manifest
 *
 * Nothing of the plugin runs before its head was accepted.  Loading runs its
 * constructors, which may crash or hang: a child goes first, and its end is a reason
 * for refusal instead of ours, and remembered (crashed.h).  dlclose() is never called: code, thread-local data and
 * tables of the plugin may be in use until the process ends.                    */
#include "core.h"
#include "crashed.h"
#include "elf_reader.h"
#include "plugin_file.h"
#include "trust.h"
#include "wasm_reader.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LARGEST = 256 << 20, PATIENCE_S = 20, CHILD_FINE = 42, CHILD_REFUSES };

static chi_status read_all(const char *path, int fd, int64_t n, unsigned char **bytes)
{
    if (n > LARGEST) return fail(CHI_EPLUGIN, "%s: %lld bytes, a plugin has at most %d", path, (long long)n, LARGEST);
    if (!(*bytes = mem_take((size_t)n + 1, path))) return CHI_ENOMEM;
    for (int64_t have = 0; have < n;) {
        ssize_t got = read(fd, *bytes + have, (size_t)(n - have));
        if (got < 0 && errno == EINTR) continue;
        if (got > 0) {
            have += got;
            continue;
        }
        mem_free(*bytes);
        *bytes = NULL;
        return got < 0 ? fail_errno(CHI_EPLUGIN, "%s", path)
                       : fail(CHI_EPLUGIN, "%s: became shorter while it was read", path);
    }
    return CHI_OK;
}

/* Is the manifest's head in these bytes acceptable?                             */
static chi_status check_bytes(const char *path, const unsigned char *bytes, int64_t n)
{
    struct elf_symbol at;
    char why[160];
    if (!n) return fail(CHI_EPLUGIN, "%s: empty file - build it again", path);
    bool found = (WEBASSEMBLY ? wasm_find : elf_find)(bytes, n, "chimera_plugin", &at, why);
    if (!found) return fail(CHI_EPLUGIN, "%s: %s", path, why);
    if (at.size < MANIFEST_HEAD)
        return fail(CHI_EPLUGIN,
                    "%s: symbol chimera_plugin has %lld bytes, wanted %zu - define it with CHI_PLUGIN(...)",
                    path, (long long)at.size, sizeof(struct chi_plugin));
    struct chi_plugin head = { 0 };
    memcpy(&head, bytes + at.offset, MANIFEST_HEAD);
    TRY(manifest_head(path, &head, at.size));
    if (at.extra[0])
        return fail(CHI_EPLUGIN, "%s: exports %s, wanted chimera_plugin alone - make it static or compile"
                    " with -fvisibility=hidden", path, at.extra);
    return CHI_OK;
}

static const struct chi_plugin *load(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return handle ? dlsym(handle, "chimera_plugin") : NULL;
}

static bool rehearsed;                  /* a child has loaded the files that come now     */

/* In the child: quiet, with default signals and a time limit.                   */
static void be_a_child(void)
{
    static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM, SIGTERM, SIGINT };
    for (int i = 0; i < COUNT(fatal); i++) signal(fatal[i], SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, 1);
        dup2(null, 2);
    }
    alarm(PATIENCE_S);
}

static void try_it(const char *path, const char *base)
{
    be_a_child();
    const struct chi_plugin *p = load(path);
    chi_status s = p ? manifest_check(path, base, p) : CHI_EPLUGIN;
    _exit(s == CHI_OK ? CHILD_FINE : CHILD_REFUSES);
}

/* In how many ways a process that loads a file can end; CHI_OK: it came back           */
static chi_status judge(const char *path, int status)
{
    /* A refusal is repeated here, where its words are wanted                     */
    if (WIFEXITED(status) && (WEXITSTATUS(status) == CHILD_FINE || WEXITSTATUS(status) == CHILD_REFUSES))
        return CHI_OK;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        return fail(CHI_EPLUGIN, "%s: loading took more than %d seconds - its constructors must not wait", path,
                    PATIENCE_S);
    if (WIFSIGNALED(status))
        return fail(CHI_EPLUGIN,
                    "%s: crashed while it was loaded (signal %d, %s) - plugins should have no constructors",
                    path, WTERMSIG(status), strsignal(WTERMSIG(status)));
    return fail(CHI_EPLUGIN,
                "%s: ended the process while it was loaded (exit code %d) - plugins should have no constructors",
                path, WEXITSTATUS(status));
}

static chi_status rehearse(const char *path, const char *base, const struct stat *st)
{
    int status = 0;
    fflush(NULL);                       /* a plugin that calls exit() flushes    */
    pid_t child = fork();
    if (child < 0) return fail_errno(CHI_EPLUGIN, "%s: no process to try it in", path);
    if (!child) try_it(path, base);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return fail_errno(CHI_EPLUGIN, "%s: waiting for the process that tries it", path);
    chi_status s = judge(path, status);
    if (s == CHI_OK) crashed_forget(st);
    else crashed_remember(st, path);
    return s;
}

/* dlerror() begins with the path already                                        */
static chi_status load_failed(const char *path)
{
    const char *e = dlerror();
    size_t n = strlen(path);
    if (e && !strncmp(e, path, n) && !strncmp(e + n, ": ", 2)) e += n + 2;
    char *text = xstrdup(e ? e : "no reason given");
    text[strcspn(text, "\n")] = 0;
    chi_status s = fail(CHI_EPLUGIN, "%s: the system cannot load it: %s%s", path, text,
                        strstr(text, "undefined symbol: chi_") ? " (an inline function: include <chimera/math.h>, "
                        "<chimera/host.h> or <chimera/layer.h>; compile with -Wall)" : "");
    free(text);
    return s;
}

static chi_status load_checked(const char *path, const char *base, const struct stat *st,
                               const struct chi_plugin **out)
{
    /* once a process */
    if (!WEBASSEMBLY && !rehearsed && !dlopen(path, RTLD_NOW | RTLD_NOLOAD)) TRY(rehearse(path, base, st));
    const struct chi_plugin *p = load(path);
    if (!p) return load_failed(path);
    TRY(manifest_check(path, base, p));
    *out = p;
    return CHI_OK;
}

/* The file's name without folder and ".so"                                      */
static char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *base = xstrdup(slash ? slash + 1 : path);
    size_t n = strlen(base);
    if (n > 3 && !strcmp(base + n - 3, ".so")) base[n - 3] = 0;
    return base;
}

/* Not again, unless somebody asks for it                                                */
static chi_status check_past(const char *path, const struct stat *st)
{
    char *memory = crashed_before(st);
    if (!memory) return CHI_OK;
    chi_status s = fail(CHI_EPLUGIN,
                        "%s: skipped, it crashed when it was loaded before - remove it or build it anew, or try "
                        "`chimera inspect %s`; %s remembers it", path, path, memory);
    free(memory);
    return s;
}

chi_status plugin_open(const char *path, const char *root, bool asked, struct plugin_file *f)
{
    struct stat st;
    unsigned char *bytes = NULL;
    int fd = -1;

    *f = (struct plugin_file){ .path = NULL };
    TRY(trust_file(path, root, &f->path, &fd, &st));
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    chi_status s = read_all(path, fd, st.st_size, &bytes);
    close(fd);
    if (s != CHI_OK) return s;
    f->hash = xxh3(bytes, (size_t)st.st_size);
    s = check_bytes(path, bytes, st.st_size);
    mem_free(bytes);
    if (s != CHI_OK) return s;

    if (!asked) TRY(check_past(path, &st));
    char *base = base_name(f->path);
    s = load_checked(f->path, base, &st, &f->plugin);
    free(base);
    return s;
}

/* ---- a folder at once -------------------------------------------------------------------------- */

static bool loaded(const char *path)
{
    char *real = realpath(path, NULL);
    bool is = real && dlopen(real, RTLD_NOW | RTLD_NOLOAD);
    free(real);
    return is;
}

void plugins_rehearse(char *const *path, int n, const char *root)
{
    int fresh = 0, status = 0;
    for (int i = 0; i < n; i++) fresh += !loaded(path[i]);
    if (WEBASSEMBLY || fresh < 2) return;
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        be_a_child();
        rehearsed = true;
        for (int i = 0; i < n; i++) {
            struct plugin_file f;
            if (plugin_open(path[i], root, false, &f) != CHI_OK) continue;  /* refused: loads nothing here either */
        }
        _exit(CHILD_FINE);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return;
    rehearsed = child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == CHILD_FINE;
}

void plugins_rehearsed_end(void)
{
    rehearsed = false;
}
