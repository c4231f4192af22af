/* ckpt.h - MANIFEST.json and the search for whole checkpoints; inside of ckpt*.c. */
#ifndef CKPT_H
#define CKPT_H

#include "json.h"
#include "run.h"

/* All but "files", which the writer adds                                          */
cJSON     *manifest_new(const struct spec *, const struct ckpt_meta *);
/* Adds "xxh3" of the manifest itself, once it is complete                         */
chi_status manifest_seal(cJSON *) CHI_MUST_CHECK;
/* Reads and checks folder/MANIFEST.json, not the files that it names              */
chi_status manifest_read(const char *folder, cJSON **) CHI_MUST_CHECK;
chi_status manifest_meta(const char *folder, const cJSON *, struct ckpt_meta *) CHI_MUST_CHECK;
/* Shape options against the config's and, if spec is not NULL, components and
 * revisions against the spec's; all differences in one message.  training: the
 * optimizer counts, too.                                                          */
chi_status manifest_fits(const char *folder, const cJSON *, const struct config *,
                         const struct spec *, bool training) CHI_MUST_CHECK;

/* The same for a manifest that a packed model carries as text: "components" and "shape" */
chi_status manifest_text_fits(const char *name, const char *text, const struct spec *) CHI_MUST_CHECK;

/* The vocabulary that it names, 0 if none                                          */
chi_status manifest_text_vocabulary(const char *name, const char *text, uint64_t *) CHI_MUST_CHECK;

/* The tensors of a whole checkpoint that fits the spec                            */
chi_status ckpt_weights(const char *folder, const struct spec *, bool training, struct ckpt_meta *,
                        struct st_file **) CHI_MUST_CHECK;

char      *ckpt_path(const char *run, int64_t step);            /* caller frees    */
/* Manifest, and size and XXH3 of every file.  CHI_EDATA names the damaged one.    */
chi_status ckpt_verify(const char *folder) CHI_MUST_CHECK;

#endif
