/* registry.c - which plugins there are and what they bring; see registry.h.
 *
 * Files are looked at as late as possible: a run that names three layers loads three
 * files.  What was seen stays in one list (struct entry), what may be used in another
 * (struct slot).  The same file under two names is one entry (device and inode), and
 * the first file of a name shadows later ones, like programs in $PATH.          */
#include "core.h"
#include "plugin_file.h"
#include "registry.h"
#include "trust.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct entry {
    struct plugin_info info;
    struct plugin_file file;
    char *name;                         /* of the plugin, or of its file         */
    char *path, *reason;                /* what info points to                   */
};
struct slot { const struct chi_component *component; struct entry *owner; };
struct root { char *path; const char *from; bool build, flat; };   /* flat: files lie in it, too */

struct registry {
    struct root   *root;  int64_t n_root;
    struct entry **entry; int64_t n_entry;
    struct slot   *slot;  int64_t n_slot;
    const char    *scanned[8];          /* folders whose files were all loaded   */
};

/* ---- kinds ---------------------------------------------------------------- */

static const struct { const char *name, *folder; } kinds[CHI_KINDS] = {
    [CHI_LAYER]     = { "layer",     "layers" },
    [CHI_BACKEND]   = { "backend",   "kernels" },
    [CHI_QUANTIZER] = { "quantizer", "formats" },
    [CHI_ENCODING]  = { "encoding",  "formats" },
    [CHI_OBJECTIVE] = { "objective", "train" },
    [CHI_OPTIMIZER] = { "optimizer", "train" },
    [CHI_TOKENIZER] = { "tokenizer", "tokenizers" },
    [CHI_TASK]      = { "task",      "tasks" },
    [CHI_LOOP]      = { "loop",      "loops" },
    [CHI_ADAPTER]   = { "adapter",   "formats" },
};
static const char *const folders[] = { "layers", "loops", "formats", "kernels", "train", "tasks", "tokenizers" };

const char *kind_name(int kind)
{
    return kind > 0 && kind < CHI_KINDS ? kinds[kind].name : "component";
}

const char *kind_folder(int kind)
{
    return kind > 0 && kind < CHI_KINDS ? kinds[kind].folder : "";
}

int kind_from_name(const char *name)
{
    for (int k = 1; k < CHI_KINDS; k++)
        if (!strcmp(kinds[k].name, name)) return k;
    return 0;
}

chi_status component_fits(const struct chi_component *c)
{
    uint32_t missing = c->needs & ~cpu_features();
    char names[128];
    if (!missing) return CHI_OK;
    cpu_feature_names(missing, names);
    return fail(CHI_EPLUGIN, "%s %s needs %s, which this CPU (%s) does not provide - choose another %s",
                kind_name(c->kind), c->name, names, cpu_name(), kind_name(c->kind));
}

/* ---- entries and slots ---------------------------------------------------- */

static struct entry *add_entry(struct registry *r, const char *path, const char *folder)
{
    struct entry *e = xcalloc(1, sizeof *e);
    r->entry = xrealloc(r->entry, (size_t)(r->n_entry + 1) * sizeof *r->entry);
    r->entry[r->n_entry++] = e;
    e->path = xstrdup(path);
    e->info.path = e->path;
    e->info.folder = folder;
    return e;
}

static void set_reason(struct entry *e, const char *text)
{
    char *copy = xstrdup(text);
    free(e->reason);
    e->info.reason = e->reason = copy;
}

static const struct slot *find_slot(const struct registry *r, int kind, const char *name)
{
    for (int64_t i = 0; i < r->n_slot; i++)
        if (r->slot[i].component->kind == kind && !strcmp(r->slot[i].component->name, name))
            return &r->slot[i];
    return NULL;
}

/* Takes all components of a loaded plugin, or none: CHI_EPLUGIN if one is a duplicate */
static chi_status take(struct registry *r, struct entry *e)
{
    const struct chi_component *const *c = e->info.plugin->components;
    for (int i = 0; c[i]; i++) {
        const struct slot *s = find_slot(r, c[i]->kind, c[i]->name);
        if (s) return fail(CHI_EPLUGIN, "%s: brings %s %s, which %s brings already - remove one of them",
                           e->info.path, kind_name(c[i]->kind), c[i]->name, s->owner->info.path);
    }
    for (int i = 0; c[i]; i++) {
        r->slot = xrealloc(r->slot, (size_t)(r->n_slot + 1) * sizeof *r->slot);
        r->slot[r->n_slot++] = (struct slot){ c[i], e };
        if (component_fits(c[i]) != CHI_OK && !e->reason) set_reason(e, fail_text());
    }
    return CHI_OK;
}

static void refuse(struct entry *e)
{
    e->info.plugin = NULL;
    set_reason(e, fail_text());
}

static void take_static(struct registry *r)
{
    for (int i = 0; static_plugins[i]; i++) {
        const struct chi_plugin *p = static_plugins[i];
        struct entry *e = add_entry(r, "(static)", "");
        e->info.plugin = p;
        e->name = xstrdup(p->name ? p->name : "");
        if (manifest_check("(static)", NULL, p) != CHI_OK || take(r, e) != CHI_OK) refuse(e);
    }
}

/* ---- files ---------------------------------------------------------------- */

static bool ends_in_so(const char *name)
{
    size_t n = strlen(name);
    return n > 3 && !strcmp(name + n - 3, ".so");
}

static char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *name = xstrdup(slash ? slash + 1 : path);
    if (ends_in_so(name)) name[strlen(name) - 3] = 0;
    return name;
}

static struct entry *same_file(const struct registry *r, const struct stat *st)
{
    for (int64_t i = 0; i < r->n_entry; i++) {
        const struct plugin_file *f = &r->entry[i]->file;
        if (f->ino == st->st_ino && f->dev == st->st_dev && f->path) return r->entry[i];
    }
    return NULL;
}

static struct entry *same_path(const struct registry *r, const char *path)
{
    for (int64_t i = 0; i < r->n_entry; i++)
        if (!strcmp(r->entry[i]->path, path)) return r->entry[i];
    return NULL;
}

static const struct entry *shadow_of(const struct registry *r, const char *name, const char *folder)
{
    for (int64_t i = 0; i < r->n_entry; i++) {
        const struct entry *e = r->entry[i];
        bool meet = !*folder || !*e->info.folder || !strcmp(folder, e->info.folder);
        if (e->name && meet && !strcmp(e->name, name)) return e;
    }
    return NULL;
}

/* Loads or remembers one file.  asked: the user named this very path, so no other
 * shadows it.                                                                   */
static struct entry *load_file(struct registry *r, const char *path, const char *root,
                               const char *folder, bool asked)
{
    struct stat st;
    struct entry *e = stat(path, &st) == 0 ? same_file(r, &st) : NULL;
    if (e || (e = same_path(r, path))) return e;

    char *name = name_of(path);
    const struct entry *first = asked ? NULL : shadow_of(r, name, folder);
    e = add_entry(r, path, folder);
    if (first) {
        char *text = xprintf("%s: not used, %s comes first", path, first->path);
        e->info.shadowed = true;
        set_reason(e, text);
        free(text);
        free(name);
        return e;
    }
    e->name = name;
    chi_status s = plugin_open(path, root, asked, &e->file);
    e->info.plugin = e->file.plugin;
    e->info.hash = e->file.hash;
    if (s == CHI_OK && (s = take(r, e)) != CHI_OK && asked) {
        e->info.shadowed = true;        /* to be looked at, not to be used       */
        set_reason(e, fail_text());
        return e;
    }
    if (s != CHI_OK) refuse(e);
    return e;
}

chi_status registry_load(struct registry *r, const char *path, const struct plugin_info **info)
{
    *info = NULL;
    if (path[0] != '/')
        return fail(CHI_EPLUGIN,
                    "%s: relative path, wanted an absolute one: plugins never come from the current folder", path);
    char *dir = xstrdup(path);
    *strrchr(dir, '/') = 0;
    char *root = realpath(*dir ? dir : "/", NULL);
    chi_status s = root ? trust_folder(root) : fail_errno(CHI_EPLUGIN, "%s", path);
    if (s == CHI_OK) {
        const struct entry *e = load_file(r, path, root, "", true);
        *info = &e->info;
        if (!e->info.plugin) s = fail(CHI_EPLUGIN, "%s", e->info.reason);
    }
    free(root);
    free(dir);
    return s;
}

/* ---- folders -------------------------------------------------------------- */

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_plugin(const struct dirent *d)
{
    return d->d_name[0] != '.' && ends_in_so(d->d_name);
}

/* Folder i (0..2) of a root for files of a kind's folder, real path, or NULL    */
static char *place(const struct root *root, const char *folder, int i)
{
    if ((i == 1 && !root->build) || (i == 2 && !root->flat)) return NULL;
    char *path = i == 2 ? xstrdup(root->path) : xprintf("%s/%s%s", root->path, folder, i ? "/.libs" : "");
    char *real = realpath(path, NULL);
    free(path);
    return real;
}

/* A refused folder is listed once, like a refused file                          */
static bool trusted(struct registry *r, const char *dir, const char *folder)
{
    if (trust_folder(dir) == CHI_OK) return true;
    if (!same_path(r, dir)) refuse(add_entry(r, dir, folder));
    return false;
}

static void load_all(struct registry *r, const char *dir, const char *folder)
{
    struct dirent **list = NULL;
    int n = scandir(dir, &list, is_plugin, by_bytes);
    bool safe = n > 0 && trusted(r, dir, folder);
    char **path = xcalloc((size_t)max_i64(n, 1), sizeof *path);
    for (int i = 0; i < n; i++) {
        path[i] = xprintf("%s/%s", dir, list[i]->d_name);
        free(list[i]);
    }
    if (safe) {
        plugins_rehearse(path, n, dir);
        for (int i = 0; i < n; i++) load_file(r, path[i], dir, folder, false);
        plugins_rehearsed_end();
    }
    for (int i = 0; i < n; i++) free(path[i]);
    free(path);
    free(list);
}

static void scan_folder(struct registry *r, const char *folder)
{
    int64_t k = 0;
    while (r->scanned[k] && strcmp(r->scanned[k], folder) != 0) k++;
    if (r->scanned[k]) return;
    r->scanned[k] = folder;
    for (int64_t i = 0; i < r->n_root; i++)
        for (int p = 0; p < 3; p++) {
            char *dir = place(&r->root[i], folder, p);
            if (dir) load_all(r, dir, p == 2 ? "" : folder);
            free(dir);
        }
}

void registry_scan(struct registry *r)
{
    for (int64_t i = 0; i < COUNT(folders); i++) scan_folder(r, folders[i]);
}

/* ---- the search path ------------------------------------------------------ */

static void add_root(struct registry *r, const char *path, size_t n, const char *from, bool build, bool flat)
{
    r->root = xrealloc(r->root, (size_t)(r->n_root + 1) * sizeof *r->root);
    r->root[r->n_root++] = (struct root){ xprintf("%.*s", (int)n, path), from, build, flat };
}

static chi_status add_roots(struct registry *r, const char *list, const char *from, bool build)
{
    if (!list || !*list) return CHI_OK;
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ":");
        if (!n)
            return fail(CHI_ECONF, "%s = '%s': has an empty folder, wanted absolute ones with : between", from,
                        list);
        if (*at != '/')
            return fail(CHI_ECONF, "%s: folder '%.*s' is relative, wanted an absolute path: plugins never come from"
                        " the current folder", from, (int)n, at);
        add_root(r, at, n, from, build, !build);
        const char *path = r->root[r->n_root - 1].path;
        if (!build && access(path, F_OK) != 0) warn("%s: folder %s does not exist", from, path);
        at += n;
        if (!*at) return CHI_OK;
    }
}

/* The plugins folder of the build tree that the running program lies in, if it does: it is
 * not installed, and configure's traces are beside it.                          */
static bool beside_program(char folder[PATH_MAX + 16])
{
    ssize_t n = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    if (n <= 0) return false;
    folder[n] = 0;
    char *base = strrchr(folder, '/');
    if (!base) return false;
    memcpy(base, "/config.status", sizeof "/config.status");
    if (access(folder, F_OK) != 0) return false;
    memcpy(base, "/plugins", sizeof "/plugins");
    return access(folder, F_OK) == 0;
}

/* BIN/../lib/chimera of the running BIN/chimera, so that a prefix which was given to make
 * install or moved later finds its own plugins                                   */
static bool beside_bin(char folder[PATH_MAX + 32])
{
    ssize_t n = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    if (n <= 0) return false;
    folder[n] = 0;
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(folder, '/');
        if (!slash || (!up && slash - folder < 4) || (!up && strncmp(slash - 4, "/bin", 4) != 0)) return false;
        *slash = 0;
    }
    strcat(folder, "/lib/chimera");
    return access(folder, F_OK) == 0;
}

static char *preferred;

void registry_prefer(const char *path)
{
    free(preferred);
    preferred = path ? xstrdup(path) : NULL;
}

chi_status registry_open(struct registry **out, const char *extra)
{
    *out = NULL;
    TRY(trust_process());
    struct registry *r = xcalloc(1, sizeof *r);
    chi_status s = add_roots(r, extra, "plugin path", false);
    if (s == CHI_OK) s = add_roots(r, getenv("CHIMERA_PLUGIN_PATH"), "CHIMERA_PLUGIN_PATH", false);
    char built[PATH_MAX + 16];
    const char *build = getenv("CHIMERA_BUILD_PLUGINS");
    if (!build && beside_program(built)) build = built;
    if (s == CHI_OK) s = add_roots(r, build, build == built ? "build tree" : "CHIMERA_BUILD_PLUGINS", true);
    const struct plugin_info *first;
    if (s == CHI_OK && preferred) s = registry_load(r, preferred, &first);
    if (s != CHI_OK) {
        registry_close(r);
        return s;
    }
    char own[PATH_MAX + 32];
    const char *installed = beside_bin(own) ? own : plugin_folder;
    add_root(r, installed, strlen(installed), "installed", false, false);
    take_static(r);
    *out = r;
    return CHI_OK;
}

void registry_close(struct registry *r)
{
    if (!r) return;
    for (int64_t i = 0; i < r->n_entry; i++) {
        struct entry *e = r->entry[i];
        free(e->file.path);
        free(e->name);
        free(e->path);
        free(e->reason);
        free(e);
    }
    for (int64_t i = 0; i < r->n_root; i++) free(r->root[i].path);
    free(r->entry);
    free(r->slot);
    free(r->root);
    free(r);
}

const char *registry_folder(const struct registry *r, int64_t i, const char **from, bool *exists)
{
    if (i < 0 || i >= r->n_root) return NULL;
    *from = r->root[i].from;
    *exists = access(r->root[i].path, F_OK) == 0;
    return r->root[i].path;
}

/* ---- looking things up ---------------------------------------------------- */

const struct plugin_info *registry_plugin(const struct registry *r, int64_t i)
{
    return i >= 0 && i < r->n_entry ? &r->entry[i]->info : NULL;
}

const struct plugin_info *registry_owner(const struct registry *r, const struct chi_component *c)
{
    for (int64_t i = 0; i < r->n_slot; i++)
        if (r->slot[i].component == c) return &r->slot[i].owner->info;
    return NULL;
}

static const struct chi_component *nth(struct registry *r, int kind, int64_t i, bool fits)
{
    scan_folder(r, kind_folder(kind));
    for (int64_t k = 0; k < r->n_slot; k++) {
        const struct chi_component *c = r->slot[k].component;
        if (c->kind == kind && (!fits || component_fits(c) == CHI_OK) && i-- == 0) return c;
    }
    return NULL;
}

const struct chi_component *registry_component(struct registry *r, int kind, int64_t i)
{
    return nth(r, kind, i, true);
}

const struct chi_component *registry_any(struct registry *r, int kind, int64_t i)
{
    return nth(r, kind, i, false);
}

/* The first NAME.so of the kind's folders                                       */
static chi_status load_named(struct registry *r, const char *folder, const char *name)
{
    for (int64_t i = 0; i < r->n_root; i++)
        for (int p = 0; p < 3; p++) {
            char *dir = place(&r->root[i], folder, p);
            char *path = xprintf("%s/%s.so", dir ? dir : "", name);
            const struct entry *e = NULL;
            bool there = dir && access(path, F_OK) == 0;
            if (there && trusted(r, dir, folder)) e = load_file(r, path, dir, p == 2 ? "" : folder, false);
            chi_status s = e && !e->info.plugin && !e->info.shadowed ? fail(CHI_EPLUGIN, "%s", e->info.reason)
                : CHI_OK;
            if (there && !e) s = CHI_EPLUGIN;               /* the folder is refused */
            free(path);
            free(dir);
            if (s != CHI_OK || e) return s;
        }
    return CHI_OK;
}

static const char *other_kind(const struct registry *r, const char *name)
{
    for (int64_t i = 0; i < r->n_slot; i++)
        if (!strcmp(r->slot[i].component->name, name)) return kind_name(r->slot[i].component->kind);
    return NULL;
}

/* " (2 plugins were refused; `chimera plugins` says why)", or ""                */
static char *refusals(const struct registry *r)
{
    int64_t n = 0;
    for (int64_t i = 0; i < r->n_entry; i++) n += !r->entry[i]->info.plugin && !r->entry[i]->info.shadowed;
    return n ? xprintf(" (%lld refused; see `chimera plugins`)", (long long)n) : xstrdup("");
}

static chi_status not_found(const struct registry *r, int kind, const char *name)
{
    const char **names = xcalloc((size_t)r->n_slot + 1, sizeof *names);
    int64_t n = 0;
    for (int64_t i = 0; i < r->n_slot; i++)
        if (r->slot[i].component->kind == kind) names[n++] = r->slot[i].component->name;
    const char *near = closest(name, names), *other = other_kind(r, name);
    char *refused = refusals(r);
    if (other) fail(CHI_EPLUGIN, "no %s is called '%s', it is a %s%s", kind_name(kind), name, other, refused);
    else if (near) fail(CHI_EPLUGIN, "no %s is called '%s', did you mean %s?%s - [plugins] path adds a folder",
                   kind_name(kind), name, near, refused);
    else fail(CHI_EPLUGIN,
              "no %s is called '%s'%s - `chimera plugins` lists what there is; [plugins] path adds a folder",
              kind_name(kind), name, refused);
    free(refused);
    free(names);
    return CHI_EPLUGIN;
}

chi_status registry_find(struct registry *r, int kind, const char *name, const struct chi_component **out)
{
    *out = NULL;
    const struct slot *s = find_slot(r, kind, name);
    size_t plain = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    if (!s && plain && !name[plain]) TRY(load_named(r, kind_folder(kind), name));
    if (!s && !(s = find_slot(r, kind, name))) {
        scan_folder(r, kind_folder(kind));
        s = find_slot(r, kind, name);
    }
    if (!s) return not_found(r, kind, name);
    TRY(component_fits(s->component));
    *out = s->component;
    return CHI_OK;
}
