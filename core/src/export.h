/* export.h - models in files of other programs: GGUF, and safetensors with floats.                            */
#ifndef EXPORT_H
#define EXPORT_H

#include <chimera/base.h>
#include <stdio.h>

#define EXPORT_GGUF    "chimera.gguf 1"             /* chimera.format in GGUF, format in __metadata__            */
#define EXPORT_FLOATS  "chimera.floats 1"           /* numbers of a packed model, as floats                     */
#define EXPORT_MASTERS "chimera.masters 1"          /* what training works on                                   */

struct export_request {
    const char *subject;                /* a run, a checkpoint, or a packed model                               */
    char *const *override; int n_override;
    const char *out;                    /* NAME.gguf or NAME.safetensors                                        */
    const char *as;                     /* GGUF: "tq1_0", "tq2_0", "f16", "f32", or NULL                         */
    const char *architecture;           /* GGUF: "llama", or NULL: our own                                      */
    bool dequantised;                   /* safetensors of a run: not its masters                                */
};
/* A line per matrix goes to report                                                                             */
chi_status export_model(const struct export_request *, FILE *report) CHI_MUST_CHECK;

#endif
