/* linear.h - weight matrices: master, quantised bytes, the kernel that runs them.  */
#ifndef LINEAR_H
#define LINEAR_H

#include <chimera/layer.h>
#include "packed.h"
#include "spec.h"

struct chi_linear {
    char    name[136];                      /* "layers.3.mixer.q_proj"              */
    int64_t d_out, d_in, group;
    bool    f32_only, training;
    float   eps;                            /* of extra_rmsnorm                     */
    const struct linear_rule *rule;         /* NULL: plain f32                      */
    const struct chi_quantizer_ops *quantizer;
    const struct chi_encoding_ops  *encoding;
    const char *encoding_name;
    const struct chi_linear_kernel *kernel; /* of calls with one row, and for pack() */
    const struct chi_linear_kernel *many;   /* of others; reads the same bytes      */
    bool    plain;                          /* training multiplies the master in f32 */
    float  *w, *g;                          /* master and gradient; NULL: inference */
    void   *bytes;                          /* in the encoding                      */
    bool    mapped;                         /* bytes are those of a packed file     */
    int64_t n_bytes;
    void   *packed;                         /* the kernel's layout, or NULL         */
    struct adapter *adapter; int64_t n_adapter;     /* what is added to its result  */
    double  lambda;                         /* of the ramp; 1: fully quantised      */
    double  residual;                       /* of the master beside W^ in training  */
};

/* The class, encoding and kernel of a linear by the spec's rules; the kernel is for weights that
 * stay in the cache                                                                */
chi_status linear_choose(struct chi_linear *, const struct spec *) CHI_MUST_CHECK;
/* The kernel anew, for weights that come from memory; before room is taken for it  */
void linear_from_memory(struct chi_linear *, const struct spec *);
/* What its weights are in: the rule's encoding, or that of a packed file           */
const struct chi_component *linear_encoding(const struct chi_linear *, const struct spec *);
/* Bytes that it keeps besides the master; scratch that its kernel wants for rows   */
int64_t linear_bytes(const struct chi_linear *);
int64_t linear_packed_bytes(const struct chi_linear *);
int64_t linear_scratch(const struct chi_linear *, int64_t rows);
/* Takes memory for bytes and packed                                                */
chi_status linear_take(struct chi_linear *) CHI_MUST_CHECK;
void linear_drop(struct chi_linear *);
/* Are its weights integers with scales?  Does it multiply with rmsnorm(x)?         */
bool linear_integer(const struct chi_linear *);
bool linear_norms(const struct chi_linear *);
/* Quantises w[d_out, d_in] into bytes and packs it                                 */
chi_status linear_bind(struct chi_linear *, const float *w, double lambda) CHI_MUST_CHECK;
/* The same with the bytes of a packed tensor: where they are mapped, so that the file outlives the linear, or
 * copied (WEIGHTS_COPY)                                                              */
chi_status linear_load(struct chi_linear *, const struct packed_tensor *, int how) CHI_MUST_CHECK;
/* How far training is, 0..1: the quantizer's residual follows it.  1 is what a model that
 * is only used has                                                                  */
void linear_progress(struct chi_linear *, double progress);
/* out[d_in] = row o of W^; with keep of what training multiplies: the ramp's blend and the
 * residual.  s has room for linear_scratch() bytes                                  */
void linear_dequantize(const struct chi_linear *, bool keep, int64_t o0, int64_t o1, float *out,
                       struct chi_scratch *s);                   /* rows o0..o1          */
void linear_row(const struct chi_linear *, int64_t o, bool keep, float *out, struct chi_scratch *s);

/* Room for the calls of one model: activations in int8, dequantised operands.  Grown
 * by linear_room() before the model runs; shared by all of its linears.            */
chi_status linear_room(int64_t rows, int64_t max_d_in, int64_t max_weight, bool training)
                       CHI_MUST_CHECK;
double linear_room_bytes(int64_t rows, int64_t max_d_in, int64_t max_weight, bool training);
double linear_room_held(void);         /* bytes of it that are taken already       */
void linear_room_drop(void);

/* host->linears and host->linears_back                                             */
chi_status linears(const struct chi_linear *const *, int64_t n, struct chi_run *,
                   const float *x, int64_t rows, float *const *y);
chi_status linears_back(const struct chi_linear *const *, int64_t n, struct chi_run *,
                        const float *x, int64_t rows, const float *const *dy, float *dx);

/* The input of a linear's kernel, made of x[rows, d_in] by the one thread that calls; it holds until
 * the next call of a linear.  Outputs o0 .. o1-1 of it: y[rows, ldy]; o0 is a multiple of CHI_TILE, o1
 * too, or d_out.  The linear has bytes and no adapter; s has room for linear_scratch()                */
struct chi_act linear_input(const struct chi_linear *, const struct chi_kernels *, const float *x, int64_t rows);
void linear_outputs(const struct chi_linear *, const struct chi_act *, int64_t o0, int64_t o1, float *y,
                    int64_t ldy, struct chi_scratch *s);

/* Outputs of one task of a call of so many multiply-adds, for so many rows of d_in: a
 * multiple of 64                                                                    */
int64_t linear_slice(int64_t total, int64_t rows, int64_t d_in);

#endif
