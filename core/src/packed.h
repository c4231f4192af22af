/* packed.h - packed models: one sealed safetensors file with weights in the bytes of their encodings, from which
 * a model runs without its masters.  doc/formats.md describes the file.
 *
 *     __metadata__   header_xxh3, format = "chimera.packed 1", config (the INI text), manifest (what a checkpoint's
 *                    MANIFEST.json says of components and shapes), values (XXH3-64 of all numbers), and a line per
 *                    tensor NAME: "encoding=tl2 shape=384x128 group=128 act_block=64 xxh3=HEX"; F32: "xxh3=HEX"
 *     NAME           U8 [bytes] for an encoded matrix, else F32
 *     pad.N          U8, zeros: what brings the next tensor to a multiple of 64                             */
#ifndef PACKED_H
#define PACKED_H

#include <chimera/format.h>
#include "safetensors.h"

struct packed;
struct packed_tensor {
    const struct st_tensor *t;
    char     encoding[64];              /* "": F32                                                       */
    int64_t  rows, cols, group;         /* of an encoded one                                             */
    uint64_t hash;
};

/* Does this path look like a packed model: its name, or its first bytes?                                  */
bool packed_is(const char *path);
/* Header, seal and every line of metadata are checked; data only when it is asked for                     */
chi_status packed_open(struct packed **, const char *path) CHI_MUST_CHECK;
/* Takes the file, also when it fails                                                                      */
chi_status packed_from(struct packed **, struct st_file *) CHI_MUST_CHECK;
void packed_close(struct packed *);
const char *packed_path(const struct packed *);
const char *packed_config(const struct packed *);
const char *packed_manifest(const struct packed *);
const struct packed_tensor *packed_find(const struct packed *, const char *name);      /* or NULL           */
const struct packed_tensor *packed_at(const struct packed *, int64_t i);               /* or NULL           */
/* XXH3 of a tensor's data against its line; pads are zeros                                                */
chi_status packed_check(const struct packed *, const struct packed_tensor *) CHI_MUST_CHECK;

/* Are these numbers of the class, finite ones?  Rows of q [rows, cols] and scale.  format.h names classes  */
bool values_fit(const char *values, const int8_t *q, const float *scale, int64_t n, int64_t n_scale);

#define PACKED_FORMAT "chimera.packed 1"

#endif
