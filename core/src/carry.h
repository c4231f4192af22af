/* carry.h - weights in types that other programs read, and back again without a changed bit.
 *
 * A matrix of a packed model is integers and scales, or floats (fit.h).  Others know blocks TQ1_0 and TQ2_0, and
 * floats.  Which encoding, groups and hash a tensor has stands in lines of text that travel with it:
 *
 *     NAME encoding=tl2 shape=384x128 group=128 xxh3=HEX      a matrix; HEX is the hash of what is in this file
 *     NAME xxh3=HEX                                           an F32 tensor
 *
 * Where products of scale and integer do not tell the two apart, the scales travel as a tensor NAME.scale.     */
#ifndef CARRY_H
#define CARRY_H

#include "fit.h"
#include "gguf.h"
#include "packed.h"

enum { CARRY_BEST = -1 };               /* TQ2_0, else F16, else F32: the first that is exact                   */

/* One tensor on its way, of a type of gguf.h                                                                  */
struct carried {
    int      type;
    int64_t  bytes;
    const void *data;
    void    *own;                       /* holds the data, or NULL                                             */
    float   *scale; int64_t n_scale;    /* [rows, groups], or NULL: they need not travel                        */
    int64_t  groups;
    const char *why;                    /* not of the type that was wanted: what is in the way; else NULL       */
};
void carried_drop(struct carried *);

/* The numbers of a packed matrix, which are those of its class                                                */
chi_status carry_read(struct weights *, const struct packed *, const struct packed_tensor *, struct registry *,
                      const struct chi_component **encoding) CHI_MUST_CHECK;
/* As type, or as near to it as is exact                                                                       */
chi_status carry_out(struct carried *, const struct weights *, const struct chi_component *encoding, int type,
                     struct registry *, const char *name) CHI_MUST_CHECK;

/* What a line says of a matrix                                                                                */
struct carry_line { char name[136], encoding[64]; int64_t rows, cols, group; uint64_t hash; };
/* Takes the line at *text, which moves behind it; false: it is none                                           */
bool carry_line(const char **text, struct carry_line *);
/* The numbers of a matrix from its data in another program's file; scale[rows, groups] or NULL                */
chi_status carry_in(struct weights *, const struct carry_line *, int type, const void *data, const float *scale,
                    struct registry *, const struct chi_component **encoding) CHI_MUST_CHECK;

#endif
