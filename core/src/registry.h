/* registry.h - plugins found, checked, loaded; components by (kind, name).
 *
 * A plugin file is opened only after its path, owner and permissions passed and the
 * head of its `chimera_plugin` symbol was read from the ELF file; nothing of it runs
 * before.  Files stay loaded until the process ends.                           */
#ifndef REGISTRY_H
#define REGISTRY_H

#include <chimera/plugin.h>

struct registry;

struct plugin_info {                    /* one file (or linked-in plugin)        */
    const char *path;                   /* "(static)" if linked in               */
    const char *folder;                 /* "layers", "kernels", ... or ""        */
    const struct chi_plugin *plugin;    /* NULL: refused                         */
    const char *reason;                 /* why refused, or why not used; else NULL */
    bool        shadowed;               /* an earlier folder has the same name   */
    uint64_t    hash;                   /* XXH3-64 of the file; 0: linked in or not read */
};

/* Folders are searched in this order: extra (from [plugins] path), every folder of
 * $CHIMERA_PLUGIN_PATH, the build tree ($CHIMERA_BUILD_PLUGINS, set by the wrapper
 * of an uninstalled program), $(libdir)/chimera.  In each, kinds have sub-folders:
 * layers, loops, formats, kernels, train, tasks, tokenizers; files of the first two kinds of
 * folders may also lie there directly.  Linked-in plugins come before all.  The first
 * file of a name wins, even if it is refused.  extra is a colon list of absolute
 * folders, or NULL.                                                            */
chi_status registry_open(struct registry **, const char *extra) CHI_MUST_CHECK;
void registry_close(struct registry *);
/* From now on every registry begins with this file, absolute path, before all others
 * and before linked-in plugins of the same name; NULL: no more                  */
void registry_prefer(const char *path);

/* Loads one file by path, e.g. for `inspect`                                   */
chi_status registry_load(struct registry *, const char *path,
                         const struct plugin_info **) CHI_MUST_CHECK;
/* The folders that are searched, in order, and what named them; i from 0; NULL after the last */
const char *registry_folder(const struct registry *, int64_t i, const char **from, bool *exists);
/* Loads every file of the search path (for `plugins`)                          */
void registry_scan(struct registry *);
/* Everything seen so far, in search order; i from 0; NULL after the last       */
const struct plugin_info *registry_plugin(const struct registry *, int64_t i);

/* The component, loading files as needed: first those already loaded, then the file
 * NAME.so of the kind's folders, then the other files of these folders.  Fails with
 * the closest name, or with the reason why its file was refused.               */
chi_status registry_find(struct registry *, int kind, const char *name,
                         const struct chi_component **) CHI_MUST_CHECK;
/* All components of a kind that fit, after a scan of its folders; NULL after the last */
const struct chi_component *registry_component(struct registry *, int kind, int64_t i);
/* The same with those that this CPU cannot run: to look at, not to call          */
const struct chi_component *registry_any(struct registry *, int kind, int64_t i);
/* The plugin that a component came from                                        */
const struct plugin_info *registry_owner(const struct registry *,
                                         const struct chi_component *);

/* May this component run here?  CHI_OK, or the features that the CPU lacks      */
chi_status component_fits(const struct chi_component *) CHI_MUST_CHECK;

/* Linked-in plugins, NULL-terminated, and the folder of installed ones: both made by
 * the Makefile from what configure was told                                    */
extern const struct chi_plugin *const static_plugins[];
extern const char plugin_folder[];

const char *kind_name(int kind);        /* "layer"                               */
const char *kind_folder(int kind);      /* "layers"                              */
int         kind_from_name(const char *);                  /* 0: none            */

uint32_t    cpu_features(void);         /* CHI_CPU_... that CPU and OS provide   */
const char *cpu_name(void);             /* "AMD EPYC 7V13 64-Core Processor"     */
void        cpu_feature_names(uint32_t set, char out[128]); /* "AVX2 FMA F16C"   */

#endif
