/* init.h - a model's start weights as a packed model, without ever holding them: what chimera train
 * would begin with, in the bytes that chimera convert would make of it.                              */
#ifndef INIT_H
#define INIT_H

#include <chimera/base.h>

struct init_request {
    const char *subject;                /* a configuration                                      */
    char *const *override; int n_override;
    const char *out;                    /* the folder; NULL: the configuration's name           */
};
/* *signal is the one that came (then nothing is left of the files), or 0                         */
chi_status init_model(const struct init_request *, int *signal) CHI_MUST_CHECK;

#endif
