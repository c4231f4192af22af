/* network.h - the inside of struct model.
 *
 *   model.c     instances, parameters, memory, weights
 *   plan.c      what it will take, and counts
 *   network.c   forward and backward through blocks
 *   turns.c     the same through the layers that are looped
 *
 * Training keeps what backward reads of every block that ran.  A looped block runs once
 * a turn, and differentiated turns are numbered from 0 (slots), so "block l, slot s"
 * names one run; blocks outside the loop have slot 0 only.                               */
#ifndef NETWORK_H
#define NETWORK_H

#include "instance.h"

enum { HEAD_ROWS = 256 };                    /* rows whose logits exist at once           */

struct block {
    struct instance norms, mixer, ffn;       /* norms: norm1.weight, norm2.weight         */
    int64_t norm1, norm2;                    /* offsets                                   */
    int64_t mixer_state, ffn_state;          /* offsets in a stream's state               */
};

/* The rows that go through blocks together                                                 */
struct call {
    struct chi_segment *seg;                 /* [n]; states are set before each layer     */
    unsigned char *const *stream;            /* [n] blocks of the streams; NULL: training */
    int64_t n, rows;
    int64_t turn;                            /* inference: whose states; training: the slot */
    bool    keep;                            /* training                                  */
    bool    own;                             /* backward will read this run's arrays      */
};

/* A part of a segment that takes part in a turn                                            */
struct stretch { int64_t seg, first, rows; };    /* first: its row in the model's call    */

struct turning {                             /* the loop; length 0: there is none         */
    struct instance in;
    struct workspace ws;
    int64_t prelude, length, coda;           /* layers; without a loop all are prelude    */
    int64_t turns;                           /* in inference                              */
    int64_t usual, slots;                    /* in training: loop_default; differentiated */
    int64_t state_bytes;                     /* of one turn in a stream                   */
    int64_t skipped;                         /* int64_t [turns] in a stream: tokens that
                                                did without this turn                     */
    struct stretch *part;                    /* [max_segs]                                */
    struct chi_segment *seg;                 /* [max_segs] of the rows packed anew        */
    unsigned char **stream;
    float *e, *h, *pe, *ph;                  /* [rows,d]; pe, ph: packed                  */
    float *h0, *de, *dh;                     /* training                                  */
};

struct model {
    const struct spec *spec;
    int      mode;
    int64_t  max_rows, max_segs, d, layers, vocab;
    struct instance top, bottom;             /* embed.weight; final_norm.weight, lm_head.weight */
    struct chi_linear *embed, *head;         /* the same, if they are tied                */
    struct block *block;
    struct instance **all; int64_t n_all;    /* every instance in the order of tensors    */
    float   *params, *grads; int64_t n_floats;
    struct model_tensor *tensor; int64_t n_tensor;
    int64_t  state_bytes, scratch_bytes;
    struct turning loop;
    bool     stale;                          /* plain linears changed since inference     */
    int64_t  rows_trained;                   /* of the last call of model_train()         */

    struct workspace ws[2];                  /* arrays of mixers, of channel mixers       */
    struct workspace states;                 /* training: states of one layer's segments  */
    struct workspace partial;                /* gradients of norm weights by row block    */
    struct chi_segment *seg;                 /* [max_segs]                                */
    unsigned char **stream;                  /* [max_segs] their states                   */
    float *x, *mid;                          /* inference: [rows,d]; training: one a run  */
    float *h, *y, *dx, *dh;                  /* [rows,d]; dx, dh: training                */
    float *logits, *capped;                  /* training: [HEAD_ROWS, vocab]; capped NULL: no cap */
    void  *call_scratch;
    struct chi_host *head_host, *loss_host;
    char   found[256];                       /* run.paranoid: the first that was not finite */
};

#define GAIN(in, off)  ((const float *)(const void *)((in)->params + (off)))
#define GGAIN(in, off) ((float *)(void *)((in)->grads + (off)))

/* Rows of a task that works row by row, and of a partial sum of a norm's gradient          */
static inline int64_t norm_block(int64_t d)
{
    return 32768 / d > 1 ? 32768 / d : 1;
}

/* Training: copies of the residual stream.  In order: the inputs of the prelude's blocks
 * and its output; for each slot h, the inputs of the looped blocks, and their output; the
 * inputs of the coda's blocks and the last output.                                         */
static inline bool looped(const struct model *m, int64_t l)
{
    return l >= m->loop.prelude && l < m->loop.prelude + m->loop.length;
}
static inline int64_t copies_of_x(const struct model *m)
{
    const struct turning *t = &m->loop;
    return t->prelude + 1 + (t->length ? t->slots * (t->length + 2) + t->coda + 1 : 0);
}
static inline float *rows_at(const struct model *m, float *base, int64_t copy)
{
    return base + (m->mode == MODEL_TRAIN ? copy * m->max_rows * m->d : 0);
}
/* Input of block l; its output follows it.  l = layers: the output of the last block       */
static inline float *block_x(const struct model *m, int64_t l, int64_t slot)
{
    const struct turning *t = &m->loop;
    int64_t in = l - t->prelude, first = t->prelude + 1;
    if (!t->length || in < 0) return rows_at(m, m->x, l);
    if (in < t->length) return rows_at(m, m->x, first + slot * (t->length + 2) + 1 + in);
    return rows_at(m, m->x, first + t->slots * (t->length + 2) + in - t->length);
}
/* h at the beginning of a slot's turn                                                      */
static inline float *turn_h(const struct model *m, int64_t slot)
{
    return rows_at(m, m->x, m->loop.prelude + 1 + slot * (m->loop.length + 2));
}
static inline int64_t copies_of_mid(const struct model *m)
{
    bool one = m->mode == MODEL_INFER || m->spec->train.recompute == RECOMPUTE_BLOCK;
    return one ? 1 : m->loop.prelude + m->loop.slots * m->loop.length + m->loop.coda;
}
static inline float *block_mid(const struct model *m, int64_t l, int64_t slot)
{
    const struct turning *t = &m->loop;
    int64_t in = l - t->prelude;
    if (copies_of_mid(m) == 1) return m->mid;
    if (in < 0) return rows_at(m, m->mid, l);
    if (in < t->length) return rows_at(m, m->mid, t->prelude + slot * t->length + in);
    return rows_at(m, m->mid, t->prelude + t->slots * t->length + in - t->length);
}

/* ---- network.c ---------------------------------------------------------------------- */
/* mid = x + mixer(norm x); out = mid + ffn(norm mid); out may be x                         */
chi_status block_forward(struct model *, int64_t l, const struct call *, const float *x, float *mid,
                         float *out) CHI_MUST_CHECK;
/* Blocks from .. to-1: in training through their own copies of x, in inference in place    */
chi_status blocks_forward(struct model *, int64_t from, int64_t to, const struct call *) CHI_MUST_CHECK;
/* m->dx: gradient of the last block's output -> of the first one's input                   */
chi_status blocks_backward(struct model *, int64_t from, int64_t to, const struct call *) CHI_MUST_CHECK;
/* Bytes of plain linears that training left behind are made anew                            */
chi_status model_refresh(struct model *) CHI_MUST_CHECK;
struct chi_run run_of(struct model *, const struct instance *, struct chi_scratch *, const struct call *);
/* run.paranoid: x[rows,d] (what), and in a backward pass the gradients of the instance, hold
 * no NaN and no infinity; else CHI_ENUMERIC with its name                                   */
chi_status check_finite(struct model *, const struct instance *, const char *op, const char *what,
                        const float *x, int64_t rows) CHI_MUST_CHECK;

/* y = cap tanh(x / cap) for n logits; y may be x.  cap 0: nothing to do                     */
void logits_cap(const struct model *, const float *x, float *y, int64_t n);

/* ---- turns.c ------------------------------------------------------------------------ */
chi_status turns_open(struct model *) CHI_MUST_CHECK;            /* before blocks         */
chi_status turns_take(struct model *) CHI_MUST_CHECK;            /* memory                */
void turns_close(struct model *);
int64_t turns_rows(const struct model *);                        /* copies of [rows,d]    */
/* m->x -> m->x, the prelude's output -> the coda's input                                    */
chi_status turns_forward(struct model *, const struct call *) CHI_MUST_CHECK;
/* Training: from and to the copies of x; depths are those of the segments, 0: usual         */
chi_status turns_train(struct model *, const struct model_segment *, const struct call *) CHI_MUST_CHECK;
/* m->dx: gradient of the coda's input -> of the prelude's output                            */
chi_status turns_backward(struct model *, const struct model_segment *, const struct call *) CHI_MUST_CHECK;

/* ---- budget.c ------------------------------------------------------------------------ */
void count_classes(const struct model *, struct model_counts *);
void count_turns(const struct model *, struct model_counts *);
/* deployment.memory_budget_mb: weights, states of max_segs streams and work space; more: CHI_ENOMEM,
 * with what takes how much                                                                 */
chi_status budget_check(const struct model *) CHI_MUST_CHECK;

/* ---- plan.c ------------------------------------------------------------------------- */
struct need { int64_t scratch, widest, heaviest; double adapters; };
struct need plan_needs(const struct model *);
int64_t plan_bytes(const struct model *);
/* Are there too many bytes of weights for the cache?  Then every step reads them from memory */
bool model_from_memory(const struct model *);
/* Bytes of weights that a token reads, on average                                          */
double instance_read_bytes(const struct instance *);
/* What a profile counts for a call of a layer with these rows; back: for its backward.  FLOPs
 * as model_count() counts them, backward twice that.  Bytes: weights once (of experts those
 * that rows meet on average), in training also gradients read and written, and arrays kept
 * for backward; states read and written once a segment; rows of width d in and out.        */
struct work { double bytes, flops; };
struct work instance_work(const struct instance *, int64_t d, const struct call *, bool back);

#endif
