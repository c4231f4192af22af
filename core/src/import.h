/* import.h - models from files of other programs.                                                             */
#ifndef IMPORT_H
#define IMPORT_H

#include <chimera/base.h>
#include <stdio.h>

struct import_request {
    const char *subject;                /* FILE.gguf, FILE.safetensors, or the folder of a checkpoint            */
    char *const *override; int n_override;
    const char *out;                    /* a packed model, or a run folder                                       */
    const char *config;                 /* INI for a file that brings none, or NULL                              */
    const char *const *ignore; int n_ignore;    /* patterns: tensors and keys that may be left out                */
};
chi_status import_model(const struct import_request *, FILE *report) CHI_MUST_CHECK;

/* A GGUF or safetensors file of numbers that chimera export wrote, into a packed model                          */
chi_status import_numbers(const struct import_request *, FILE *report) CHI_MUST_CHECK;

#endif
