/* options.h - what config.c and the manual page need of single options, beside
 * option_set() and option_print() in config.h.                                 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "config.h"

/* All that the caller must free                                                */
char *option_range(const struct chi_option *);     /* "1..256", "yes or no", ""   */
char *option_text(const struct chi_option *, const void *conf);  /* as an INI value */
char *path_absolute(const char *path, const char *base_dir);     /* NULL: the cwd */
/* The field of an option that has neither value nor default                    */
void  option_clear(const struct chi_option *, void *conf);
/* Gives a malloc'ed block to the config, which frees it; returns it            */
void *config_own(struct config *, void *block);

#endif
