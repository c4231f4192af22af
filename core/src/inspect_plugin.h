/* inspect_plugin.h - what `chimera inspect PLUGIN` prints.                      */
#ifndef INSPECT_PLUGIN_H
#define INSPECT_PLUGIN_H

#include "registry.h"

/* A path (with a slash), or the name of a plugin or of a component in the search path.
 * Prints to stdout.  CHI_EPLUGIN if it is refused or there is none.             */
chi_status inspect_plugin(const char *path_or_name) CHI_MUST_CHECK;

/* The plugin itself                                                              */
chi_status plugin_find(struct registry *, const char *path_or_name, const struct plugin_info **) CHI_MUST_CHECK;

#endif
