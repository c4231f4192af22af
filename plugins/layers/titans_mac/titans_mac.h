/* titans_mac.h - what the parts of the layer share: shape.c makes q, k and v, memory.c
 * writes and reads the memory, attend.c reads the learned slots and the window.  Their
 * gradients: memory_back.c, and the second halves of the other two.              */
#ifndef TITANS_MAC_H
#define TITANS_MAC_H

#include <chimera/math.h>
#include <chimera/plugin.h>
#include "../shared/floats.h"

enum { Q, K, V, G, AL, ET, TH, N_IN };          /* linears of the layer's input  */
enum { MAX_DEPTH = 8 };
#define LARGEST 1e6f                            /* error, and value that a matrix answers */
enum { BLOCK = 16 };                            /* rows that attend at once      */

struct titans {
    int64_t H, D, L, C, P, W;                   /* heads, channels, depth, chunk, slots, taps */
    int64_t window, inner;                      /* window 0: gated; inner: H D   */
    int64_t span;                               /* chunks between two starts that are kept */
    bool    semi_exact;
    float   eps, theta_max, scale, max_norm;
    const struct chi_linear *in[N_IN], *out;
    int64_t conv[3], bias[3], w[MAX_DEPTH], slot[2], o_norm;        /* parameters */
    int64_t M, S;                               /* state: chunk start [H][L][D][D] */
    int64_t A, E;                               /* rows of the chunk [H][L][C][D] */
    int64_t coef;                               /* [H][2 (C + 1) + 1]            */
    int64_t tail, ring;                         /* [3][W-1][inner], [window][3][inner] */
    int64_t pre[N_IN], y[3], o, h;              /* arrays [rows, inner or H]; y: q, k, v */
    int64_t r;                                  /* what the memory gave, if there is a window */
    int64_t start;                              /* every C span rows: M and S        */
    int64_t norm;                               /* per chunk: of its matrices at its end */
    int64_t dpre[N_IN], dh, dr;                 /* training                      */
    int64_t part_conv[3], part_bias[3], part_w[MAX_DEPTH], part_slot[2], part_norm;
};

/* The factors of the chunk's rows after each row, and before the first one:
 *     M_t = B_t M' + W_t[0] S' + sum over rows j of W_t[j + 1] e_j a_j'
 *     S_t =          P_t[0] S' + sum over rows j of P_t[j + 1] e_j a_j'         */
struct coefs { float *P, *W, *B; };             /* [n + 1][C + 1] twice, [n + 1] */

struct gates { float alpha, eta, theta, open; };        /* open = sigmoid of theta's map */

/* One head of one segment, and its place to work.  fast: in training products may sum in
 * gemm's order; without, a row's bits do not depend on the call it came with.   */
struct head {
    const struct titans *s;
    const struct chi_kernels *k;
    struct chi_run *r;
    const struct chi_segment *g;
    int64_t seg, h;
    bool    fast;
    float  *taps[3];                            /* [W][D]                        */
    float  *M, *S;                              /* [L][D][D] at the chunk's start */
    float  *A, *E;                              /* [L][C][D] inputs of matrices, errors behind them */
    struct coefs c;
    float  *Z, *T;                              /* [L][C][D] M' a, and M'' e of the next one */
    float  *X, *Y, *U, *N;                      /* [L][C][D] reads: input, output, M' x, S' x */
    float  *F;                                  /* [L + 1][C][C] a_j . x_t; the last: times W */
    float  *last, *scaled;                      /* [C][D] S' a of the last matrix; e times a factor */
    float  *p, *seen;                           /* [BLOCK][P + 2 window]; what they add, [BLOCK][D] */
    float  *row;                                /* [D]                           */
};

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* This head's channels of row t of the segment in an array [rows, inner]       */
static inline float *row_of(const struct head *a, int64_t array, int64_t t)
{
    return CHI_ARRAY(a->r, array, float) + (a->g->first + t) * a->s->inner + a->h * a->s->D;
}

/* Its number in an array [rows, H]                                             */
static inline float *gate_of(const struct head *a, int64_t array, int64_t t)
{
    return CHI_ARRAY(a->r, array, float) + (a->g->first + t) * a->s->H + a->h;
}

/* Its n values of a parameter, of a block of state, of an array with room per segment */
static inline const float *param_of(const struct head *a, int64_t param, int64_t n)
{
    return CHI_PARAM(a->r, param, float) + a->h * n;
}

static inline float *state_of(const struct head *a, unsigned char *state, int64_t offset, int64_t n)
{
    return (float *)(void *)(state + offset) + a->h * n;
}

static inline float *part_of(const struct head *a, int64_t array, int64_t n)
{
    return CHI_ARRAY(a->r, array, float) + (a->seg * a->s->H + a->h) * n;
}

static inline float *tail_of(const struct head *a, unsigned char *state, int i, int64_t j)
{
    return (float *)(void *)(state + a->s->tail) + (i * (a->s->W - 1) + j) * a->s->inner + a->h * a->s->D;
}

static inline int64_t coef_size(const struct titans *s)
{
    return 2 * (s->C + 1) + 1;
}

/* The M and S that forward kept, and a chunk's norm                             */
static inline float *start_of(const struct head *a, int64_t kept)
{
    return CHI_ARRAY(a->r, a->s->start, float) + (kept * a->s->H + a->h) * 2 * a->s->L * a->s->D * a->s->D;
}

static inline float *norm_of(const struct head *a, int64_t chunk)
{
    return CHI_ARRAY(a->r, a->s->norm, float) + chunk * a->s->H + a->h;
}

/* ---- shape.c: q, k, v ------------------------------------------------------------ */

void titans_taps(struct head *);
void titans_shape(struct head *);               /* all rows of the segment       */
void titans_move_tail(const struct head *);
/* dpre of q, k, v from gradients of q, k, v to those of the linears' outputs    */
void titans_shape_back(struct head *, struct chi_scratch *);

/* ---- memory.c: rows at..at+n-1 of a chunk, row t of the segment and after ---------- */

void titans_memory_room(struct head *, struct chi_scratch *);
int64_t titans_memory_floats(const struct titans *);
struct gates titans_gates(const struct head *, int64_t t);
/* The factors before row at of a chunk: from a state, or NULL: none of its rows is there */
void titans_begin(struct head *, const float *coef, int64_t at);
void titans_coefs(struct head *, int64_t at, int64_t n, int64_t t);
void titans_write(struct head *, int64_t at, int64_t n, int64_t t);     /* a and e of the rows */
void titans_read(struct head *, int64_t at, int64_t n, int64_t t);      /* Y of the last matrix */
/* M and S become those after the n rows that end a chunk, or those of a fresh stream if they
 * are too long; returns the largest norm of a matrix                             */
float titans_end_chunk(struct head *, int64_t n);
void titans_fresh(struct head *, float *M);     /* M from the parameters         */
/* Y[n][m] = X[n][D] M', M[m][D]; Y[n][D] = X[n][m] M                            */
void titans_times(const struct head *, float *Y, int64_t ldy, const float *X, int64_t ldx, const float *M,
                  int64_t n, int64_t m);
void titans_back_times(const struct head *, float *Y, const float *X, int64_t ldx, const float *M,
                       int64_t n, int64_t m);

/* ---- attend.c ------------------------------------------------------------------- */

void titans_attend(struct head *, int64_t t, int64_t n);        /* adds to o of n rows from t on */
void titans_remember(const struct head *);
/* o's gradient (array dh) to those of q, k, v and r, of the slots and the ring  */
void titans_attend_back(struct head *, struct chi_scratch *);

/* ---- memory_back.c: from dr, adds to dpre of q, k and v, sets those of the gates ------ */

int64_t titans_back_floats(const struct titans *);
void titans_memory_back(struct head *, struct chi_scratch *);

/* ---- titans_mac.c, backward.c ------------------------------------------------------ */

struct head titans_head(const struct titans *, struct chi_run *, int64_t seg, struct chi_scratch *);
void titans_begin_head(struct head *, int64_t h);
void titans_gate(const struct head *, int64_t t);       /* h = rmsnorm(o; o_norm) * silu(g) */
chi_status titans_backward(const void *self, struct chi_run *, const float *x, const float *dy, float *dx);

#endif
