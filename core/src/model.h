/* model.h - a network built from a spec: parameters, linears bound to kernels, layers
 * opened.  It is constant while it runs; what changes lies in streams (inference) or
 * in the trainer (weights between steps).
 *
 * Names of tensors are the contract's: embed.weight, layers.I.norm1.weight,
 * layers.I.mixer.NAME, layers.I.norm2.weight, layers.I.ffn.NAME, final_norm.weight. */
#ifndef MODEL_H
#define MODEL_H

#include "safetensors.h"
#include "spec.h"

struct model;

enum { MODEL_INFER, MODEL_TRAIN };

/* Plans, checks the plan against the memory limit, takes the memory, opens layers.
 * max_rows, max_segs: of one call (micro-batch, prefill chunk, decoded streams).
 * Weights are undefined until model_init() or model_load().  The spec must outlive
 * the model.                                                                   */
chi_status model_open(struct model **, const struct spec *, int mode,
                      int64_t max_rows, int64_t max_segs) CHI_MUST_CHECK;
void model_close(struct model *);
const struct spec *model_spec(const struct model *);

/* One named tensor.  w and g are NULL in inference for linears, whose weights
 * exist there only in the encoding's bytes.                                    */
struct model_tensor {
    char        name[136];
    int64_t     shape[4];               /* ended by 0                            */
    int64_t     n;
    float      *w, *g;
    bool        decay, manual, linear;
    const bool *held;                   /* does it stay as it is in this step?       */
};
const struct model_tensor *model_tensor(const struct model *, int64_t i); /* NULL ends */

/* Start values by seed and name, then model_bind().                            */
chi_status model_init(struct model *, uint64_t seed) CHI_MUST_CHECK;
/* Every tensor from the file, all of them and no others, shapes equal (F32, or F16
 * and BF16 widened); then model_bind().                                        */
chi_status model_load(struct model *, const struct st_file *) CHI_MUST_CHECK;
/* The same from the packed model of the spec, for inference: all tensors and no others  */
chi_status model_load_packed(struct model *) CHI_MUST_CHECK;
/* packed_verify() of the packed model of the spec; the model may be only planned           */
chi_status model_verify(const struct model *, int level, bool *looked) CHI_MUST_CHECK;
/* After weights changed (training): quantise and pack.  lambda is the ramp of the
 * quantisers, 1 = fully quantised.                                             */
chi_status model_bind(struct model *, double lambda) CHI_MUST_CHECK;
/* How far training is, 0..1: residuals of quantisers fade with it.  A model that is
 * never told trains as at 1.                                                   */
void model_progress(struct model *, double progress);
/* Between a step's gradient and its update, when this share of the steps is done: what
 * adapters add to gradients, and which tensors they hold                       */
void model_steer(struct model *, double progress);

/* ---- running -------------------------------------------------------------- */
struct model_segment {                  /* a stretch of one stream               */
    const int32_t *tokens;
    int64_t  rows;                      /* >= 1                                  */
    int64_t  pos;                       /* of the first in its stream            */
    uint64_t stream;
    bool     fresh;                     /* nothing absorbed yet; state all zero  */
    unsigned char *state;               /* model_state_bytes(), 64-byte aligned  */
    struct chi_depth depth;             /* training of a looped model; 0: the usual */
};
int64_t model_state_bytes(const struct model *);
int64_t model_max_rows(const struct model *);
int64_t model_max_segs(const struct model *);

/* Inference: moves the states; hidden[all rows, d] is final_norm's output.  Tokens
 * outside the vocabulary are refused (CHI_EDATA).  Rows and segments beyond the
 * maxima: CHI_EBUG.                                                            */
chi_status model_forward(struct model *, const struct model_segment *, int64_t n,
                         float *hidden) CHI_MUST_CHECK;
/* logits[rows, vocab] = hidden[rows, d] embed^T                                */
chi_status model_logits(struct model *, const float *hidden, int64_t rows,
                        float *logits) CHI_MUST_CHECK;

/* Training: every segment fresh, its state ignored (the model has room of its own).
 * target[all rows], -1: not scored.  Adds the sum of losses in nats to *loss and
 * scale * gradient to the gradients (model_zero_grads() first).                */
chi_status model_train(struct model *, const struct model_segment *, int64_t n,
                       const int32_t *target, double scale, double *loss) CHI_MUST_CHECK;
void model_zero_grads(struct model *);
/* How deep the loop goes with a sequence of the batch of a step; 0: there is no loop    */
struct chi_depth model_depth(const struct model *, uint64_t sequence, int64_t step);
/* All parameters, and all gradients, as one run of floats each (padding is 0)  */
float  *model_params(struct model *);
float  *model_grads(struct model *);
int64_t model_param_floats(const struct model *);
/* After a step: settle() of layers that have it                                */
void model_settle(struct model *);
/* The first block output, else tensor or gradient, that is not finite, as words for a
 * message; NULL: none                                                           */
const char *model_find_nonfinite(const struct model *, bool gradients);
/* A meter that plugins set, its last value; i from 0; false ends                */
bool model_meter(const struct model *, int64_t i, const char **name, double *value);

/* ---- counting ------------------------------------------------------------- */
enum { CLASSES_MAX = 24 };
struct weight_class { char name[80]; int64_t bytes; };  /* "ternary2", "ternary2 of experts", "f32" */
struct turns_count { int64_t turns, state_bytes, read_bytes; };
struct model_counts {
    int64_t params, linear_params;      /* numbers of weights                    */
    int64_t active_params;              /* of which a token meets on average     */
    int64_t weight_bytes;               /* in their encodings, embed included    */
    int64_t state_bytes;                /* per stream                            */
    int64_t read_bytes_per_token;       /* weights and state read by a decode step: those of
                                           a looped layer at each of its turns      */
    int64_t flops_per_token;            /* forward: 2 a weight met, at each of a loop's turns,
                                           and 4 a float of state: one read, one update    */
    int64_t train_bytes;                /* weights, gradients, moments, arrays   */
    int64_t saved_bytes_per_row;        /* arrays that backward reads            */
    struct weight_class weights[CLASSES_MAX];           /* weight_bytes in parts         */
    int64_t n_weights;
    struct turns_count turns[2];        /* of a looped model: one turn, and two  */
    int64_t n_turns;
    struct declared_counts declared[DECLARED_MAX];      /* of the spec's sections */
};
void model_count(const struct model *, struct model_counts *);
/* The same for a spec, without taking memory: plans only; per-layer lines to out
 * if it is not NULL                                                            */
chi_status model_describe(const struct spec *, FILE *out, struct model_counts *) CHI_MUST_CHECK;

/* ---- one component alone (tests, vectors, inspect, bench) ------------------- */
struct solo;                            /* a layer of the spec outside a model    */
chi_status solo_open(struct solo **, const struct spec *, const struct part *,
                     bool training, int64_t max_rows, int64_t max_segs) CHI_MUST_CHECK;
void solo_close(struct solo *);
const struct model_tensor *solo_tensor(const struct solo *, int64_t i);
chi_status solo_bind(struct solo *) CHI_MUST_CHECK;      /* after w changed       */
int64_t solo_state_bytes(const struct solo *);
/* seg: first, rows, pos, stream, fresh, state (and dstate for backward) as for a
 * layer.  backward: dx[rows,d] '+=', gradients '+='; forward with keep must come
 * before it; seg's states are those before the call.                           */
chi_status solo_forward(struct solo *, const struct chi_segment *, int64_t n, bool keep,
                        const float *x, float *y) CHI_MUST_CHECK;
chi_status solo_step(struct solo *, const struct chi_segment *, int64_t n,
                     const float *x, float *y) CHI_MUST_CHECK;
chi_status solo_backward(struct solo *, const struct chi_segment *, int64_t n,
                         const float *x, const float *dy, float *dx) CHI_MUST_CHECK;
/* Rows are nodes, as for a layer; CHI_ENOTSUP if it has no tree()                */
chi_status solo_tree(struct solo *, const struct chi_segment *, int64_t n, const float *x,
                     float *y, const int32_t *parent) CHI_MUST_CHECK;
void solo_settle(struct solo *);        /* nothing if it has no settle()            */
/* While on, calls have grads NULL: nobody wants gradients of the parameters       */
void solo_freeze(struct solo *, bool on);
/* Fills arrays with NaN (-1 as an integer): those of the last call that need not
 * outlive it, and the kept ones, too, if asked                                    */
void solo_poison(struct solo *, bool kept);

#endif
