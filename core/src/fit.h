/* fit.h - numbers of a weight matrix apart from their bytes, and what an encoding can hold of them.  */
#ifndef FIT_H
#define FIT_H

#include "spec.h"

struct weights {
    int64_t rows, cols, group, groups;
    int8_t *q;                          /* [rows, cols]; NULL: a float class                */
    float  *scale;                      /* [rows, groups]; of a float class the values      */
};
/* Room for numbers of the kind                                                             */
chi_status weights_take(struct weights *, bool integer, int64_t rows, int64_t cols, int64_t group,
                        const char *name) CHI_MUST_CHECK;
void weights_drop(struct weights *);
/* out[cols] = row r as floats: scale times integer, one rounding, or the float itself        */
void weights_row(const struct weights *, int64_t r, float *out);
/* From masters by a quantizer, from bytes by an encoding: into room of the right size         */
chi_status weights_quantize(struct weights *, const struct part *quantizer, const float *w,
                            const char *name) CHI_MUST_CHECK;
void weights_decode(struct weights *, const struct chi_encoding_ops *, const void *bytes);
/* w's rows are those from first on of a matrix of so many rows; first is a multiple of CHI_TILE */
void weights_decode_rows(struct weights *, const struct chi_encoding_ops *, const void *bytes, int64_t rows,
                         int64_t first);
/* Has the encoding a form for this shape, and does it hold the numbers of all rows?           */
bool weights_held(const struct weights *, const struct chi_encoding_ops *);

/* Exactly: the same numbers, in the same groups, multiplied by the same arithmetic.  Fills
 * *bytes (mem_free() it) with them in the encoding; CHI_ECONF tells what is in the way         */
chi_status fit_exact(const struct weights *, const char *values, const struct chi_component *encoding,
                     const char *name, void **bytes) CHI_MUST_CHECK;
/* With the least error of: the same integers with one scale for several groups, and what the
 * quantizers of the encoding's class make of them.  *out has the numbers that then are held,
 * *error is |W' - W| / |W|.  usual: the quantizer of this matrix, with its options             */
chi_status fit_nearly(const struct weights *, const struct part *usual, struct registry *,
                      const struct chi_component *encoding, const char *name, struct weights *out, double *error)
                      CHI_MUST_CHECK;

#endif
