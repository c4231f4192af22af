/* child.c - the process in which one check runs; see runner.h.
 *
 * Limits come first, then the plugin is loaded, then the check runs.  Nothing of this
 * process is trusted to end well: the parent reads the report whether it did or not.   */
#include "runner.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include "core.h"
#include "inspect_plugin.h"
#include "pool.h"

#if defined(__SANITIZE_ADDRESS__)
# define SANITIZED
#elif defined(__has_feature)
# if __has_feature(address_sanitizer)
#  define SANITIZED
# endif
#endif

enum { FILE_LIMIT = 64 << 20 };

static void set_limit(int what, rlim_t soft, rlim_t hard)
{
    struct rlimit r;
    if (getrlimit(what, &r) != 0) return;
    if (r.rlim_max == RLIM_INFINITY || hard < r.rlim_max) r.rlim_max = hard;
    r.rlim_cur = soft < r.rlim_max ? soft : r.rlim_max;
    setrlimit(what, &r);
}

static void set_limits(rlim_t seconds)
{
    set_limit(RLIMIT_CORE, 0, 0);
    set_limit(RLIMIT_FSIZE, FILE_LIMIT, FILE_LIMIT);
    signal(SIGXFSZ, SIG_DFL);                           /* it ends a plugin that fills the disk, not ignored */
    set_limit(RLIMIT_CPU, seconds, seconds + 2);
#if !defined(SANITIZED)                                 /* which maps terabytes             */
    set_limit(RLIMIT_AS, (rlim_t)SPACE_LIMIT_GB << 30, (rlim_t)SPACE_LIMIT_GB << 30);
#endif
}

const struct chi_component *component_of(const struct plugin_info *info, int kind, const char *name)
{
    for (int i = 0; info->plugin->components[i]; i++) {
        const struct chi_component *c = info->plugin->components[i];
        if (c->kind == kind && !strcmp(c->name, name)) return c;
    }
    return NULL;
}

static void look(struct trial *t)
{
    const struct plugin_info *info = t->plugin;
    trial_note(t, "path %s", info->path);
    trial_note(t, "name %s", info->plugin->name);
    for (int i = 0; info->plugin->components[i]; i++) {
        const struct chi_component *c = info->plugin->components[i];
        trial_note(t, "component %d %s", c->kind, c->name);
        if (component_fits(c) != CHI_OK) trial_note(t, "unfit %s", fail_text());
    }
}

/* "3 17 1 ema": descriptor of the report, check (-1: look), kind, component            */
static void one_job(struct trial *t, const char *subject, int64_t index, int kind, const char *name)
{
    struct registry *r;
    const struct check *c = index < 0 ? NULL : check_at(index);
    struct crumb crumb = { "", subject, "loading" };
    crumb_set(&crumb);
    if (!trial_must(t, registry_open(&r, NULL), "plugins") || plugin_find(r, subject, &t->plugin) != CHI_OK) {
        if (t->outcome == TRIAL_OK) trial_fail(t, "%s", fail_text());
        crumb_set(NULL);
        return;
    }
    t->registry = r;
    if (t->plugin->path[0] == '/') registry_prefer(t->plugin->path);        /* also before a linked-in one */
    crumb_set(NULL);
    if (!c) {
        look(t);
        return;
    }
    if (c->kind) t->component = component_of(t->plugin, kind, name);
    check_run(c, t);
}

void child_run(uint64_t seed)
{
    const char *asked = getenv("CHIMERA_TRIAL"), *subject = getenv("CHIMERA_TRIAL_PLUGIN");
    int fd, kind, at = 0;
    long long index, seconds;
    if (!asked || !subject || sscanf(asked, "%d %lld %lld %d %n", &fd, &seconds, &index, &kind, &at) < 4
        || !at) return;
    struct report *report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (report == MAP_FAILED) _exit(1);
    char *name = xstrdup(asked + at), *path = xstrdup(subject);
    close(fd);
    unsetenv("CHIMERA_TRIAL");
    unsetenv("CHIMERA_TRIAL_PLUGIN");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    set_limits((rlim_t)seconds);
    pool_threads(1);
    crumb_mirror(report->doing);

    struct trial t = { .seed = seed };
    one_job(&t, path, index, kind, name);
    fflush(NULL);
    crumb_mirror(NULL);
    snprintf(report->text, sizeof report->text, "%s", t.text ? t.text : "");
    report->outcome = (int32_t)t.outcome;
    report->complete = 1;
    _exit(0);
}
