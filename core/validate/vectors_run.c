/* vectors_run.c - reference vectors from the command line; see vectors_run.h.
 *
 * A file is told in lines: its name, a line per tensor, and a last one that begins with "ok",
 * "FAILED", "skipped" or "CRASHED".  All files run in one child process, which a plugin may bring down:
 * forked before a thread or a plugin is there.                                                 */
#include "vectors_run.h"

#include "core.h"
#include "crumb.h"
#include "fs.h"
#include "inspect_plugin.h"
#include "vectors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

static bool ends_in(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n > m && strcmp(s + n - m, tail) == 0;
}

static bool is_plugin(const char *word)
{
    return ends_in(word, ".so") || ends_in(word, ".la") || (!strpbrk(word, "/.") && !fs_exists(word));
}

/* The file of the plugin; a linked-in one needs none                                          */
static chi_status prefer(const char *word)
{
    struct registry *r;
    const struct plugin_info *info;
    const char *slash = strrchr(word, '/'), *base = slash ? slash + 1 : word;
    int dir = (int)(base - word);
    char *name;

    if (ends_in(word, ".la"))           /* libtool's DIR/x.la is DIR/.libs/x.so                */
        name = xprintf("%s%.*s.libs/%.*s.so", slash ? "" : "./", dir, word, (int)strlen(base) - 3, base);
    else
        name = xprintf("%s%s", ends_in(word, ".so") && !slash ? "./" : "", word);
    chi_status s = registry_open(&r, NULL);
    if (s == CHI_OK) s = plugin_find(r, name, &info);
    if (s == CHI_OK && info->path[0] == '/') registry_prefer(info->path);
    registry_close(r);
    free(name);
    return s;
}

static chi_status run_file(const char *file, FILE *out, int *ran)
{
    if (!fs_exists(file)) return fail(CHI_ECONF, "validate --vectors: there is no file %s", file);
    fprintf(out, "%s\n", file);
    chi_status s = vectors_check(file, out);
    if (s == CHI_OK) fprintf(out, "ok %s\n", file);
    else if (s == CHI_ENOTSUP) fprintf(out, "skipped %s: %s\n", file, fail_text());
    else fprintf(out, "FAILED %s\n", file);
    fflush(out);
    *ran += s == CHI_OK;
    return s == CHI_ENOTSUP ? CHI_OK : s;
}

static chi_status run_all(const struct cli_texts *files, char *const *word, int n_word, FILE *out)
{
    const char *plugin = NULL;
    int ran = 0, n = files->n;

    for (int i = 0; i < n_word; i++) {
        if (!is_plugin(word[i])) continue;
        if (plugin)
            return fail(CHI_ECONF, "validate --vectors: %s and %s are both plugins; name one", plugin, word[i]);
        TRY(prefer(plugin = word[i]));
    }
    for (int i = 0; i < files->n; i++) TRY(run_file(files->v[i], out, &ran));
    for (int i = 0; i < n_word; i++) {
        if (is_plugin(word[i])) continue;
        TRY(run_file(word[i], out, &ran));
        n++;
    }
    fprintf(out, "%d passed, %d skipped\n", ran, n - ran);
    if (!ran) return fail(CHI_EPLUGIN, "validate --vectors: the components of none of these files are there");
    return CHI_OK;
}

/* ---- the child --------------------------------------------------------------------------------- */

struct shared { char doing[CRUMB_PAGE]; int complete; };     /* what outlives it                */

/* How it ended, if not by itself                                                              */
static chi_status crashed(const struct shared *s, int status)
{
    const char *where = *s->doing ? s->doing : "before a plugin was loaded";
    char how[64];
    if (WIFSIGNALED(status)) snprintf(how, sizeof how, "died of signal %d (%.40s)", WTERMSIG(status),
                                      strsignal(WTERMSIG(status)));
    else snprintf(how, sizeof how, "was ended with exit code %d", WEXITSTATUS(status));
    printf("CRASHED: the process %s %s\n", how, where);
    return fail(CHI_EPLUGIN, "validate --vectors: the process %s %s - `--in-process` runs it under a debugger", how,
                where);
}

/* What the child could not do has been told by it                                             */
static chi_status wait_for(pid_t pid, const struct shared *s)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return fail_errno(CHI_EIO, "waiting for a process");
    if (!s->complete || !WIFEXITED(status)) return crashed(s, status);
    if (WEXITSTATUS(status)) exit(WEXITSTATUS(status));
    return CHI_OK;
}

chi_status vectors_run(const struct cli_texts *files, char *const *word, int n_word, bool in_process, FILE *out)
{
    if (in_process || WEBASSEMBLY) return run_all(files, word, n_word, out);
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return fail_errno(CHI_EIO, "memory to share with a process");
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return fail_errno(CHI_EIO, "no process to run vectors in");
    if (pid > 0) return wait_for(pid, shared);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    crumb_mirror(shared->doing);
    chi_status s = run_all(files, word, n_word, out);
    crumb_mirror(NULL);
    shared->complete = 1;
    return s;
}
