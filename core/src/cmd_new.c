/* cmd_new.c - `chimera new KIND NAME`: a folder with a small plugin that works, to change into one's own. */
#include "cli.h"
#include "core.h"
#include "fs.h"
#include "registry.h"
#include "templates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *folder;
static bool examples;

static const struct cli_flag flags[] = {
    { "examples", 0, CLI_SWITCH, &examples, NULL, "task: one that makes examples, instead of documents" },
    { "output", 'o', CLI_TEXT, &folder, "DIR", "the folder to make; default: NAME" },
    CLI_FLAGS_END
};

/* What is filled in between two @                                                       */
struct blank { const char *name, *value; };

static chi_status check_kind(const char *word, int *kind)
{
    const char *names[CHI_KINDS] = { NULL };
    if ((*kind = kind_from_name(word))) return CHI_OK;
    for (int k = 1; k < CHI_KINDS; k++) names[k - 1] = kind_name(k);
    const char *near = closest(word, names);
    return fail(CHI_ECONF,
                "new: no kind is called '%s'%s%s: layer, backend, quantizer, encoding, adapter, objective, "
                "optimizer, tokenizer, task or loop", word, near ? ", did you mean " : "", near ? near : "");
}

static chi_status check_name(int kind, const char *name)
{
    size_t n = strlen(name);
    const struct chi_component *there;
    struct registry *r;
    if (!n || n > 48 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != n || name[0] < 'a' || name[0] > 'z')
        return fail(CHI_ECONF,
                    "new: '%s' cannot be a plugin's name: wanted up to 48 of a-z, 0-9 and _, a letter first",
                    name);
    TRY(registry_open(&r, NULL));
    chi_status s = CHI_OK;
    if (registry_find(r, kind, name, &there) == CHI_OK)
        s = fail(CHI_ECONF, "new: there is a %s '%s' already (%s); choose another name", kind_name(kind), name,
                 registry_owner(r, there)->path);
    registry_close(r);
    return s;
}

/* Others must not be able to write the folder: plugins in it would be refused           */
static chi_status make_folder(const char *path)
{
    char *up = xstrdup(path), *slash;
    while (strlen(up) > 1 && up[strlen(up) - 1] == '/') up[strlen(up) - 1] = 0;
    chi_status s = CHI_OK;
    if (mkdir(up, 0755) < 0) {
        if (errno == EEXIST) s = fail(CHI_ECONF, "new: %s is there already; nothing was written", path);
        else if (errno == ENOENT && (slash = strrchr(up, '/')) && slash != up) {
            *slash = 0;
            s = fs_mkdirs(up);
            *slash = '/';
            if (s == CHI_OK && mkdir(up, 0755) < 0) s = fs_fail("create folder", path);
        } else s = fs_fail("create folder", path);
    }
    if (s == CHI_OK) chmod(up, 0755);
    free(up);
    return s;
}

static const struct blank *find_blank(const struct blank *b, const char *name, size_t n)
{
    while (b->name && (strlen(b->name) != n || strncmp(b->name, name, n) != 0)) b++;
    return b->name ? b : NULL;
}

static void put_line(FILE *f, const char *line, const struct blank *blank)
{
    for (const char *at; (at = strchr(line, '@')); ) {
        const char *end = strchr(at + 1, '@');
        const struct blank *b = end ? find_blank(blank, at + 1, (size_t)(end - at - 1)) : NULL;
        fwrite(line, 1, (size_t)(at - line), f);
        if (b) {
            fputs(b->value, f);
            line = end + 1;
        } else {
            fputc('@', f);
            line = at + 1;
        }
    }
    fputs(line, f);
}

static chi_status put_template(FILE *f, const char *name, const struct blank *blank)
{
    for (const struct template *t = templates; t->file; t++) {
        if (strcmp(t->file, name) != 0) continue;
        for (const char *const *line = t->line; *line; line++) put_line(f, *line, blank);
        return CHI_OK;
    }
    return fail(CHI_EBUG, "new: this program was built without the template %s", name);
}

/* FOLDER/FILE from one or two templates                                                  */
static chi_status write_file(const char *dir, const char *file, const char *first, const char *second,
                             const struct blank *blank)
{
    char *path = fs_join(dir, file);
    FILE *f = fopen(path, "wx");
    chi_status s = f ? put_template(f, first, blank) : fs_fail("create", path);
    if (s == CHI_OK && second) s = put_template(f, second, blank);
    if (f && fclose(f) != 0 && s == CHI_OK) s = fs_fail("write", path);
    if (s == CHI_OK) printf("%s\n", path);
    free(path);
    return s;
}

static chi_status write_all(const char *dir, int kind, const char *name)
{
    static const char *const use[CHI_KINDS] = {
        [CHI_LAYER] = "layer.GD.use", [CHI_BACKEND] = "backend.use", [CHI_QUANTIZER] = "linear.quantizer",
        [CHI_ENCODING] = "linear.encoding", [CHI_OBJECTIVE] = "train.objective", [CHI_LOOP] = "loop.use",
        [CHI_OPTIMIZER] = "train.optimizer", [CHI_TOKENIZER] = "data.tokenizer", [CHI_TASK] = "data.task",
        [CHI_ADAPTER] = "linear.adapter",
    };
    char *line = xprintf("%s=%s", use[kind], name), *c = xprintf("%s.c", name), *page = xprintf("%s.md", name);
    const char *from = examples ? "examples" : kind_name(kind);
    char *from_c = xprintf("%s.c", from), *from_page = xprintf("%s.md", from);
    const struct blank blank[] = { { "name", name }, { "kind", kind_name(kind) }, { "use", line }, { NULL, NULL } };

    chi_status s = make_folder(dir);
    if (s == CHI_OK) s = write_file(dir, c, from_c, NULL, blank);
    if (s == CHI_OK) s = write_file(dir, page, from_page, "use.md", blank);
    if (s == CHI_OK) s = write_file(dir, "Makefile", "makefile", NULL, blank);
    free(from_page);
    free(from_c);
    free(page);
    free(c);
    free(line);
    return s;
}

static chi_status run(const struct cli_args *a)
{
    int kind;
    const char *name = a->word[1];
    TRY(check_kind(a->word[0], &kind));
    TRY(check_name(kind, name));
    if (examples && kind != CHI_TASK)
        return fail(CHI_ECONF, "new: --examples is for tasks, not for a %s", kind_name(kind));
    return write_all(folder ? folder : name, kind, name);
}

const struct verb verb_new = {
    .name = "new",
    .usage = "KIND NAME [-o DIR]",
    .summary = "write a folder with a small plugin that works, to start from",
    .doc = "KIND is layer, loop, backend, quantizer, encoding, adapter, objective, optimizer, tokenizer or task.  The\n"
           "folder gets NAME.c, its page NAME.md and a Makefile: `make` builds NAME.so, `make check` validates it.  What\n"
           "is there already is never overwritten.  A task reads documents, or makes --examples on the fly.\n",
    .examples = "chimera new layer my_layer\n"
                "chimera new task my_recall --examples\n"
                "chimera new optimizer my_lion -o ~/src/my_lion\n",
    .flags = flags, .min_words = 2, .max_words = 2,
    .run = run
};
