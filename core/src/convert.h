/* convert.h - packed models written from runs, checkpoints and other packed models.              */
#ifndef CONVERT_H
#define CONVERT_H

#include <stdio.h>

#include "spec.h"

struct convert_request {
    const char *subject;                /* a run, a checkpoint, or a packed model                  */
    char *const *override; int n_override;
    const char *const *encoding; int n_encoding;        /* "tl2" or "PATTERN=tl2"; the last that fits wins */
    const char *out;                    /* NULL: the run's name and ".b158"                        */
    bool requantize;
    bool quiet;                         /* nothing to report, no word at the end                       */
};
/* A line per matrix goes to report                                                                */
chi_status convert(const struct convert_request *, FILE *report) CHI_MUST_CHECK;

/* The configuration inside a packed model, which need not say in which encodings the file is.  Caller frees;
 * NULL: no memory                                                                                   */
char *convert_config_text(const struct spec *);

#endif
