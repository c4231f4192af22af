/* vectors_run.h - `chimera validate [PLUGIN] --vectors FILE...`. */
#ifndef VECTORS_RUN_H
#define VECTORS_RUN_H

#include <stdbool.h>

#include "cli.h"

/* Checks files of reference vectors in order: those of the flag, then the words.  A word that
 * ends in .so or .la, or that is a plain name and no file, is the plugin, whose components then
 * come before all others of their name.  A file whose component is not there is skipped.
 * All run in a child, unless in_process; it returns from here, too, and the parent takes its exit code.
 * CHI_EPLUGIN: a file missed (the first one ends the run), none could be run, or the child crashed. */
chi_status vectors_run(const struct cli_texts *files, char *const *word, int n_word, bool in_process,
                       FILE *out) CHI_MUST_CHECK;

#endif
