/* inspect_plugin.h - what `chimera inspect PLUGIN` prints.                      */
#ifndef INSPECT_PLUGIN_H
#define INSPECT_PLUGIN_H

#include "registry.h"

/* A path (with a slash), or the name of a plugin or of a component in the search path of the
 * registry.  Prints to stdout.  CHI_EPLUGIN if it is refused or there is none.  */
chi_status inspect_plugin(struct registry *, const char *path_or_name) CHI_MUST_CHECK;

/* The plugins that a configuration sees ([plugins] path and load, conf may be NULL), with
 * extra folders before them (or NULL)                                            */
struct cli_args;
chi_status plugins_open(struct registry **, const char *conf, const struct cli_args *,
                        const char *extra) CHI_MUST_CHECK;

/* The plugin itself                                                              */
chi_status plugin_find(struct registry *, const char *path_or_name, const struct plugin_info **) CHI_MUST_CHECK;

#endif
