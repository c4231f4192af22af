/* rig.h - a layer put on the bench by a check: small odd shapes, random weights, rows,
 * streams; and the comparisons that all families share.                                */
#ifndef RIG_H
#define RIG_H

#include "model.h"
#include "validate.h"

enum { CASE_TEXT = 1024 };

/* A width and options that the layer accepts.  Case 0 has small sizes, later ones are drawn:
 * other sizes (primes, 1), other switches and enums.  Linears are f32.                   */
struct layer_case {
    int64_t d;                      /* hidden_size                                       */
    char    options[CASE_TEXT];     /* "num_heads = 3\nhead_dim = 5\n"                   */
    const char *linear;             /* "quantizer = f32\n": the [linear] section         */
};
/* False if the layer refuses every draw, which fails the trial.  The same i and seed give the
 * same case.                                                                            */
bool layer_case(struct trial *, int64_t i, struct layer_case *);
/* Does it open and take a stream of rows?  fail_text() says why not                      */
bool case_works(struct trial *, const struct layer_case *);
/* fail_text() without the name of the instance, which has none here                     */
const char *refusal(void);
/* "hidden_size 7, num_heads 3, head_dim 5" for messages, valid until the next call       */
const char *case_words(const struct layer_case *);
/* A model of one such layer, with one thread and at most 1 GB                            */
chi_status case_spec(struct trial *, const struct layer_case *, struct spec **) CHI_MUST_CHECK;

struct rig {
    struct trial *trial;
    const struct layer_case *is;
    struct spec *spec;
    struct solo *solo;
    int64_t d, max_rows, max_segs;
    int64_t state_bytes;            /* of a stream, a multiple of 64, at least 64        */
    void  **block; int64_t n_block; /* rig_block(): freed with the rig                   */
};
/* Weights are random, away from their start values, so that no part of the layer hides behind
 * a zero or a one; the same seed gives the same.  False: the trial has failed.           */
bool rig_open(struct rig *, struct trial *, const struct layer_case *, bool training,
              int64_t max_rows, int64_t max_segs);
void rig_close(struct rig *);
void rig_weights(struct rig *, uint64_t seed);
void rig_zero_grads(struct rig *);

void  *rig_block(struct rig *, int64_t bytes);              /* zeroed, 64-byte aligned    */
float *rig_rows(struct rig *, int64_t rows);                /* [rows, d], zero            */
float *rig_random_rows(struct rig *, int64_t rows, float scale);    /* uniform in +-scale */

/* Runs rows of one stream, or several, in one call; false: the trial has failed.         */
bool rig_forward(struct rig *, const struct chi_segment *, int64_t n, bool keep, const float *x, float *y);
bool rig_step(struct rig *, const struct chi_segment *, int64_t n, const float *x, float *y);
bool rig_backward(struct rig *, const struct chi_segment *, int64_t n, const float *x, const float *dy, float *dx);
/* A segment of its own: rows at row first of x, pos in its stream, fresh if pos is 0      */
struct chi_segment rig_segment(int64_t first, int64_t rows, int64_t pos, uint64_t stream, void *state);

/* Compares bits (NaN equals the same NaN); a difference fails the trial with WHAT, the first row
 * and column that differ and both values.                                                 */
bool rig_same(struct rig *, const char *what, const float *got, const float *want, int64_t rows, int64_t cols);
bool rig_same_bytes(struct rig *, const char *what, const void *got, const void *want, int64_t bytes);
/* max|got - want| / (max|want| + tiny)                                                    */
double rig_distance(const float *got, const float *want, int64_t n);

#endif
