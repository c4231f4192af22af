/* packed.h - packed models: a sealed safetensors file with weights in the bytes of their encodings, from which a
 * model runs without its masters, and a second one with its experts, if it has any.  doc/formats.md describes both.
 *
 *     __metadata__   header_xxh3, format = "chimera.packed 2", model_hash (of shapes and numbers: the same in both
 *                    files), and a line per tensor NAME: "encoding=tl2 shape=384x128 group=128 act_block=64
 *                    xxh3=HEX"; F32: "xxh3=HEX".  The main file also has config (the INI text), manifest (what a
 *                    checkpoint's MANIFEST.json says of components and shapes), values (XXH3-64 of all numbers)
 *                    and, if there is one, experts (the other file's name); the other one has part = "experts"
 *     NAME           U8 [bytes] for an encoded matrix, else F32
 *     pad.N          U8, zeros: what brings the next tensor to a multiple of 64                             */
#ifndef PACKED_H
#define PACKED_H

#include <sys/stat.h>

#include <chimera/format.h>
#include <chimera/plugin.h>
#include "registry.h"
#include "safetensors.h"

struct packed;
struct packed_tensor {
    const struct st_tensor *t;
    const char *path;                   /* of the file that it lies in                                   */
    char     encoding[64];              /* "": F32                                                       */
    int64_t  rows, cols, group;         /* of an encoded one                                             */
    uint64_t hash;
};

/* Does this path look like a packed model: its name, or its first bytes, or a folder that holds model.b158
 * and is no run?                                                                                         */
bool packed_is(const char *path);
/* Header, seal and every line of metadata of both files are checked; data only when it is asked for       */
chi_status packed_open(struct packed **, const char *path) CHI_MUST_CHECK;
/* Takes both files, also when it fails; experts NULL: there is none                                       */
chi_status packed_from(struct packed **, struct st_file *main, struct st_file *experts) CHI_MUST_CHECK;
void packed_close(struct packed *);
const char *packed_path(const struct packed *);             /* of the main file                            */
const char *packed_config(const struct packed *);
const char *packed_manifest(const struct packed *);
const struct packed_tensor *packed_find(const struct packed *, const char *name);      /* or NULL           */
const struct packed_tensor *packed_at(const struct packed *, int64_t i);               /* or NULL           */
const struct st_file *packed_file(const struct packed *, int i);                       /* or NULL           */
/* XXH3 of a tensor's data against its line; its pages do not stay in memory                               */
chi_status packed_check(const struct packed_tensor *) CHI_MUST_CHECK;

/* All data against the hashes, the numbers that they mean against their value classes and against `values`: now;
 * unless that was done with these very files before, which is remembered in the cache folder; or not at all: then
 * a damaged file gives wrong numbers, and nothing worse.  model_hash against manifest and `values` at each level.
 * name[n]: the model's tensors in its order.  *looked (may be NULL): data were read                            */
enum { VERIFY_ONCE, VERIFY_FULL, VERIFY_NO };
chi_status packed_verify(const struct packed *, struct registry *, int level, const char *const *name, int64_t n,
                         bool *looked) CHI_MUST_CHECK;
/* Was the last change longer ago than the file system's clock takes to tick, so that another would show?     */
bool packed_settled(const struct stat *, const struct timespec *now);

/* ---- names --------------------------------------------------------------------------------------------- */

/* "x/model.b158" -> "x/model_experts.b158"; caller frees                                                   */
char *packed_experts_path(const char *path);
/* Does this tensor lie in that file?  Those do that have "experts" as a word of their name                  */
bool packed_is_expert(const char *name);
/* XXH3 of a matrix's numbers, whatever encodes them: rows of q (NULL: a float class) and scale, the first first.
 * NULL: no memory.  packed_value_end() frees                                                                 */
struct packed_value;
struct packed_value *packed_value_begin(void);
void packed_value_add(struct packed_value *, const int8_t *q, int64_t n, const float *scale, int64_t n_scale);
uint64_t packed_value_end(struct packed_value *, const char *name, int64_t group, bool integer);
/* XXH3 of the shapes and components that a manifest names, and of all numbers                               */
chi_status packed_model_hash(const char *manifest, uint64_t values, uint64_t *) CHI_MUST_CHECK;

/* ---- writing --------------------------------------------------------------------------------------------
 * All tensors are announced by name, shape and encoding, in the model's order; then their numbers come, one
 * tensor after the other in any order, the rows of each from the first to the last in pieces of any size.
 * Memory: what the caller holds, and the pages of the file that a piece touches.
 *
 *     packed_create(&w, path, config, manifest, entry, n);
 *     for each i, for rows r0 .. r1:  packed_put(w, i, r0, r1, q, scale);
 *     packed_finish(w);                                                                                      */
struct packed_entry {
    const char *name;
    const struct chi_component *encoding;   /* NULL: F32                                                     */
    int64_t group;                          /* of an encoded one                                             */
    int64_t shape[4];                       /* ended by 0; of an encoded one rows, cols                      */
};
struct packed_writer;
/* Neither this file nor that of its experts is there: else CHI_ECONF                                        */
chi_status packed_names_free(const char *path) CHI_MUST_CHECK;
/* entry[n] and what it points to stay the caller's and outlive the writer.  Takes the room on the disk.      */
chi_status packed_create(struct packed_writer **, const char *path, const char *config, const char *manifest,
                         const struct packed_entry *entry, int64_t n) CHI_MUST_CHECK;
/* Rows r0 .. r1 of the i-th tensor: q[r1 - r0, cols] and scale[r1 - r0, ceil(cols / group)], as encode() wants
 * them (q NULL: a float class); of F32 the values in scale.  r1 is a multiple of CHI_TILE, or the last.  All
 * threads encode.                                                                                            */
chi_status packed_put(struct packed_writer *, int64_t i, int64_t r0, int64_t r1, const int8_t *q, const float *scale)
                      CHI_MUST_CHECK;
/* XXH3 of a tensor's numbers that were put, whatever encodes them                                            */
uint64_t packed_put_hash(const struct packed_writer *, int64_t i);
/* Hashes and header, fsync, rename.  Frees the writer, also when it fails                                    */
chi_status packed_finish(struct packed_writer *) CHI_MUST_CHECK;
/* Removes what was written and frees; NULL is fine                                                           */
void packed_abandon(struct packed_writer *);

/* Are these numbers of the class, finite ones?  Rows of q [rows, cols] and scale.  format.h names classes  */
bool values_fit(const char *values, const int8_t *q, const float *scale, int64_t n, int64_t n_scale);

#define PACKED_FORMAT "chimera.packed 2"

#endif
