/* import_run.h - tensors of other programs' files as the first checkpoint of a run.                             */
#ifndef IMPORT_RUN_H
#define IMPORT_RUN_H

#include "config.h"
#include "import.h"
#include "json.h"

/* Where another program keeps what a tensor of ours is.  In names '%' is the number of a layer, a '*' at the end
 * any text, the same on both sides.                                                                             */
struct alias { const char *ours, *theirs; };
/* One tensor whose rows are those of several of ours, one after the other                                        */
struct fused { const char *theirs, *ours[5]; };      /* ours ended by NULL */
struct layout {
    const char *name;
    const struct alias *alias;          /* the first that is there; ended by NULL                                 */
    const struct fused *fused;          /* ended by NULL                                                          */
    const char *ones;                   /* a pattern: ours that are all 1 where they are missing, or NULL          */
};

/* What a checkpoint's config.json says, as an INI text (caller frees), and where its tensors are.  native: it is the
 * config.yaml of NX-AI's own program, whose defaults are others                                                 */
chi_status checkpoint_config(const struct import_request *, const char *path, const cJSON *, bool native,
                             struct layout *, char **ini) CHI_MUST_CHECK;
/* A config.yaml, if it is flat, as JSON (caller deletes, also when it fails)                                     */
chi_status yaml_flat(const char *path, const char *text, int64_t n, cJSON **) CHI_MUST_CHECK;

/* A safetensors file of masters, and a folder with config.json and safetensors                                   */
chi_status import_masters(const struct import_request *, FILE *report) CHI_MUST_CHECK;
chi_status import_checkpoint(const struct import_request *, FILE *report) CHI_MUST_CHECK;

#endif
