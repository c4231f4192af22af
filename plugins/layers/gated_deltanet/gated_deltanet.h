/* gated_deltanet.h - what forward and backward of the layer share.              */
#ifndef GATED_DELTANET_H
#define GATED_DELTANET_H

#include <chimera/math.h>
#include <chimera/plugin.h>

enum { Q, K, V, G, A, B, N_IN };                /* linears of the layer's input  */
enum { CHUNK = 32 };                            /* rows between two kept states  */
enum { TASK_WORK = 1 << 15 };                   /* state values read by a task   */

struct gdn {
    int64_t heads, dim, inner, taps;
    float   eps, beta_max, scale;
    const struct chi_linear *in[N_IN], *out;
    int64_t A_log, dt_bias, conv[3], o_norm;    /* parameters                    */
    int64_t S, tail;                            /* state: [H,D,D], [3][taps-1][inner] */
    int64_t pre[N_IN];                          /* arrays: outputs of in[], kept */
    int64_t o, start, h;                        /* S q kept, S at chunks kept, input of out */
    int64_t dh, dpre[N_IN];                     /* training                      */
    int64_t part_conv[3], part_gate, part_norm; /* gradients by (segment, head)  */
};

/* ---- one chunk of one head --------------------------------------------------- */

/* What a task works on, in its scratch.  Row r of in[i] is row r - (taps-1) of the
 * chunk: the convolution's history stands before the chunk itself.             */
struct bench {
    const struct gdn *s;
    struct chi_run *r;
    const struct chi_segment *g;
    int64_t seg, head;
    int64_t row, n;                 /* the chunk: its first row in the segment, rows */
    float *in[3], *c[3], *y[3];     /* raw input, convolved, after silu and norm */
    float *w[3];                    /* taps of this head, [taps][D]              */
    float *o, *t;                   /* [CHUNK][D]                                */
    float *alpha, *beta, *log_a, *qr, *kr;  /* [CHUNK]; qr, kr: 1 / lengths      */
    /* backward                                                                  */
    float *dc[3], *dw[3];           /* [CHUNK + taps][D], [taps][D]              */
    float *dy[3], *dout, *xh;       /* [CHUNK][D]                                */
    float *dS, *work;               /* [D][D], [CHUNK][D][D]                     */
    float *dlog_a, *dbeta, *dnorm, *gain;
    float  dA_log, ddt_bias;
};

struct job {
    const struct gdn *s;
    struct chi_run *r;
    int64_t group, groups;          /* heads of a task, tasks of a segment       */
};

static inline float *take(struct chi_scratch *scratch, int64_t n)
{
    return chi_take(scratch, (size_t)n * sizeof(float));
}

static inline float *tail_row(const struct bench *b, unsigned char *state, int i, int64_t j)
{
    const struct gdn *s = b->s;
    float *tail = (float *)(void *)(state + s->tail);
    return tail + ((int64_t)i * (s->taps - 1) + j) * s->inner + b->head * s->dim;
}

/* This head's channels of a row of the segment in an array [rows, inner]       */
static inline float *head_row(const struct bench *b, int64_t array, int64_t row)
{
    return CHI_ARRAY(b->r, array, float) + (b->g->first + row) * b->s->inner
           + b->head * b->s->dim;
}

static inline void copy(float *to, const float *from, int64_t n)
{
    memcpy(to, from, (size_t)n * sizeof(float));
}

static inline void zero(float *x, int64_t n)
{
    memset(x, 0, (size_t)n * sizeof(float));
}

/* The state that forward kept for this head at chunk number i of the segment   */
static inline float *kept_state(const struct bench *b, int64_t i)
{
    int64_t size = b->s->dim * b->s->dim;
    return CHI_ARRAY(b->r, b->s->start, float) + (i * b->s->heads + b->head) * size;
}

/* Rows of the chunk that begins at row: up to the next multiple of CHUNK in the
 * stream                                                                       */
static inline int64_t chunk_rows(const struct chi_segment *g, int64_t row)
{
    int64_t n = CHUNK - (g->pos + row) % CHUNK, left = g->rows - row;
    return n < left ? n : left;
}

struct bench gdn_bench(const struct gdn *, struct chi_run *, int64_t seg, struct chi_scratch *);
void gdn_begin_head(struct bench *, int64_t head);
/* q, k, v, decay and beta of the chunk from the kept outputs of the linears    */
void gdn_prepare_chunk(struct bench *);
/* h = rmsnorm(o; o_norm) * silu(g) of one row; t is room for a row             */
void gdn_gate_output(const struct bench *, float *h, const float *o, const float *g, float *t);
struct job gdn_job(const struct gdn *, struct chi_run *);
chi_status gdn_backward(const void *self, struct chi_run *, const float *x, const float *dy, float *dx);

#endif
