/* plugin_file.h - one plugin file: trusted, read, checked, loaded.              */
#ifndef PLUGIN_FILE_H
#define PLUGIN_FILE_H

#include <chimera/plugin.h>
#include <sys/types.h>

struct plugin_file {
    char    *path;                      /* real path; caller frees; NULL if refused early */
    dev_t    dev;
    ino_t    ino;
    uint64_t hash;                      /* XXH3-64 of its bytes; 0: never read   */
    const struct chi_plugin *plugin;    /* NULL: refused                         */
};

/* root is the real path of the searched folder that holds it.  asked: the user named this
 * very file, so it is tried even if it crashed the last time.                   */
chi_status plugin_open(const char *path, const char *root, bool asked, struct plugin_file *) CHI_MUST_CHECK;

/* Files that will be opened one after the other: one child loads them all, and if it comes back, none of
 * them gets a child of its own until the end is said.  One that does not come back says nothing of the
 * single files, which then are tried one by one.                                 */
void plugins_rehearse(char *const *path, int n, const char *root);
void plugins_rehearsed_end(void);

/* What can be told from the first bytes of the manifest; name stands for the file  */
chi_status manifest_head(const char *name, const struct chi_plugin *head, int64_t size) CHI_MUST_CHECK;
/* Everything else; base is the name that the plugin must have, or NULL          */
chi_status manifest_check(const char *name, const char *base, const struct chi_plugin *) CHI_MUST_CHECK;
/* The part of it for ops: required members, sizes                               */
chi_status manifest_ops(const char *name, const struct chi_component *) CHI_MUST_CHECK;
/* Bytes of struct chi_plugin that head reads                                    */
enum { MANIFEST_HEAD = offsetof(struct chi_plugin, name) };

#endif
