/* vectors_run.c - reference vectors from the command line; see vectors_run.h.
 *
 * A file is told in lines: its name, a line per tensor, and a last one that begins with "ok",
 * "FAILED" or "skipped".                                                                       */
#include "vectors_run.h"

#include "core.h"
#include "fs.h"
#include "inspect_plugin.h"
#include "vectors.h"

#include <stdlib.h>
#include <string.h>

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

chi_status vectors_run(const struct cli_texts *files, char *const *word, int n_word, FILE *out)
{
    const char *plugin = NULL;
    int ran = 0, n = files->n;

    for (int i = 0; i < n_word; i++) {
        if (!is_plugin(word[i])) continue;
        if (plugin) return fail(CHI_ECONF, "validate --vectors: %s and %s are both plugins; name one", plugin, word[i]);
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
