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

/* Rows of a matrix on their way                                                                               */
struct carried {
    int64_t  bytes;
    void    *data;
    bool     plain;                     /* do the floats alone tell integers from scales?  Else the scales travel */
};
void carried_drop(struct carried *);

/* The bytes of a packed matrix are what its line says; its encoding                                           */
chi_status carry_open(const struct packed_tensor *, struct registry *, const struct chi_component **encoding)
                      CHI_MUST_CHECK;
/* The numbers of rows r0 .. r1, which are those of its class                                                  */
chi_status carry_read(struct weights *, const struct packed_tensor *, const struct chi_component *encoding, int64_t r0,
                      int64_t r1) CHI_MUST_CHECK;
/* Which type of gguf.h to try first where this one is wanted, and which one when that does not hold all rows;
 * CARRY_BEST: there is none.  carry_why: what was in the way                                                  */
int carry_first(int wanted, const struct chi_component *encoding);
int carry_next(int type);
const char *carry_why(int type, int64_t cols);
/* Rows as this type; CHI_ECONF: it does not hold them                                                         */
chi_status carry_out(struct carried *, const struct weights *, const struct chi_component *encoding, int type,
                     struct registry *, const char *name) CHI_MUST_CHECK;

/* What a line says of a matrix                                                                                */
struct carry_line { char name[136], encoding[64]; int64_t rows, cols, group; uint64_t hash; };
/* Takes the line at *text, which moves behind it; false: it is none                                           */
bool carry_line(const char **text, struct carry_line *);
/* Has the data of each line in f's metadata "tensors" its hash?                                               */
chi_status carry_check(const struct st_file *f) CHI_MUST_CHECK;
/* The numbers of a matrix from its data in another program's file; scale[rows, groups] or NULL                */
chi_status carry_in(struct weights *, const struct carry_line *, int type, const void *data, const float *scale,
                    struct registry *, const struct chi_component **encoding) CHI_MUST_CHECK;

#endif
