/* network.h - the inside of struct model, for model.c, network.c and describe.c.        */
#ifndef NETWORK_H
#define NETWORK_H

#include "instance.h"

enum { HEAD_ROWS = 256 };                    /* rows whose logits exist at once           */

struct block {
    struct instance norms, mixer, ffn;       /* norms: norm1.weight, norm2.weight         */
    int64_t norm1, norm2;                    /* offsets                                   */
    int64_t mixer_state, ffn_state;          /* offsets in a stream's state               */
};

struct model {
    const struct spec *spec;
    int      mode;
    int64_t  max_rows, max_segs, d, layers, vocab;
    struct instance top, bottom;             /* embed.weight; final_norm.weight           */
    struct chi_linear *embed;
    struct block *block;
    struct instance **all; int64_t n_all;    /* every instance in the order of tensors    */
    float   *params, *grads; int64_t n_floats;
    struct model_tensor *tensor; int64_t n_tensor;
    int64_t  state_bytes, scratch_bytes;
    bool     stale;                          /* plain linears changed since inference     */
    int64_t  rows_trained;                   /* of the last call of model_train()         */

    struct workspace ws[2];                  /* arrays of mixers, of channel mixers       */
    struct workspace states;                 /* training: states of one layer's segments  */
    struct workspace partial;                /* gradients of norm weights by row block    */
    struct chi_segment *seg;                 /* [max_segs]                                */
    float *x, *mid;                          /* inference: [rows,d]; training: one of each
                                                per block, x has one more                 */
    float *h, *y, *dx, *dh;                  /* [rows,d]; dx, dh: training                */
    float *logits;                           /* training: [HEAD_ROWS, vocab]              */
    void  *call_scratch;
    struct chi_host *head_host, *loss_host;
};

#define GAIN(in, off)  ((const float *)(const void *)((in)->params + (off)))
#define GGAIN(in, off) ((float *)(void *)((in)->grads + (off)))

/* Rows of a task that works row by row, and of a partial sum of a norm's gradient          */
static inline int64_t norm_block(int64_t d)
{
    return 32768 / d > 1 ? 32768 / d : 1;
}

/* Training buffers: block l's input and its middle                                       */
static inline float *block_x(const struct model *m, int64_t l)
{
    return m->x + (m->mode == MODEL_TRAIN ? l * m->max_rows * m->d : 0);
}
static inline float *block_mid(const struct model *m, int64_t l)
{
    bool one = m->mode != MODEL_TRAIN || m->spec->train.recompute == RECOMPUTE_BLOCK;
    return m->mid + (one ? 0 : l * m->max_rows * m->d);
}

#endif
