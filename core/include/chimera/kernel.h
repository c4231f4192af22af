/* chimera/kernel.h - the arithmetic that a CPU backend may speed up.
 *
 * A backend is a partly filled struct chi_kernels and a list of linear kernels.
 * What it leaves NULL comes from the next best backend, and in the end from the
 * portable reference in the core (core/src/reference.c), which is the readable
 * definition of every function here.  The core merges the tables once; plugins
 * see the result as host->k and never ask which CPU they are on.
 *
 * Contract of all kernels: pointers have element alignment only; n may be 0;
 * outputs do not overlap inputs unless "in place" is said; no allocation, no
 * input or output, no threads: a kernel runs on one core and host->parallel()
 * cuts the work.  No result of a row depends on the rows that come with it, on
 * their number, or on addresses: batching must not change a bit.
 *
 * EXACT kernels give the reference's bits.  For float sums that fixes an order:
 * 16 partial sums (term i goes to lane i mod 16), each * and + rounded by itself
 * (no fused multiply-add), then lanes i and i+8 are added, i and i+4, i and i+2,
 * i and i+1.  Transcendental functions are those of chimera/math.h.
 * BOUND kernels serve training only: |error| <= 8 ulp of the sum of |terms|; the
 * same backend still gives the same bits for the same call.                   */
#ifndef CHIMERA_KERNEL_H
#define CHIMERA_KERNEL_H

#include "base.h"

#define CHI_TILE      16            /* outputs that a linear kernel does at once */
#define CHI_ACT_BLOCK 64            /* activations that share one int8 step      */
#define CHI_GROUP     128           /* trits that share a scale: fast everywhere */

struct chi_kernels {
    uint32_t struct_size;

    /* sum a[i] b[i].  EXACT                                                   */
    float (*dot)(const float *a, const float *b, int64_t n);
    /* y[i] += a x[i]; product and sum are rounded one after the other.  EXACT */
    void  (*axpy)(float *y, float a, const float *x, int64_t n);
    /* r = 1 / sqrt(sum x^2 / n + eps); y[i] = (x[i] r) gain[i], without gain if
     * NULL; in place; returns r, which the backward pass needs.  EXACT        */
    float (*rmsnorm)(float *y, const float *x, const float *gain, int64_t n,
                     float eps);
    /* y = x sigmoid(x); in place.  EXACT                                      */
    void  (*silu)(float *y, const float *x, int64_t n);
    /* y = silu(g) u; in place with either.  EXACT                             */
    void  (*silu_mul)(float *y, const float *g, const float *u, int64_t n);
    /* dx = dy silu'(x) with silu'(x) = s (1 + x (1 - s)), s = sigmoid(x); in
     * place with either.  EXACT                                               */
    void  (*silu_back)(float *dx, const float *x, const float *dy, int64_t n);
    /* y = exp(x - max) / sum; in place; returns max + log(sum).  n >= 1.  EXACT */
    float (*softmax)(float *y, const float *x, int64_t n);

    /* C[m,n] = beta C + op(A)[m,k] op(B)[k,n], row-major, op = transpose if ta,
     * tb; leading dimensions lda, ldb, ldc of the arrays as they lie in memory;
     * beta is 0 (C is not read) or 1.  An element is one chain over k inside a
     * block of 256, and the blocks are added in order: the result depends neither
     * on m, n and their tiling nor (at beta = 1) on cutting k between blocks.
     * BOUND                                                                   */
    void  (*gemm)(bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                  const float *A, int64_t lda, const float *B, int64_t ldb,
                  float beta, float *C, int64_t ldc);

    /* Gated delta rule of one head of one segment (arXiv 2412.06464):
     *     p = a_t S k_t;  u = b_t (v_t - p);  S = a_t S + u k_t';  o_t = S q_t
     * S[dv,dk] in place; q,k[rows,dk] and v,o[rows,dv] with row stride ld; decay
     * a and strength b [rows] with stride lds.  q arrives scaled.  Over dk the
     * two sums S k and S q use the canonical lanes; o_t = sum of the updated S
     * times q.  EXACT                                                         */
    void  (*delta_rule)(float *S, const float *q, const float *k, const float *v,
                        int64_t ld, const float *a, const float *b, int64_t lds,
                        float *o, int64_t rows, int64_t dk, int64_t dv);
    /* Its gradient.  S[dv,dk] is the state before these rows (only read); dS goes
     * from d loss/d S after them to before them; dq,dk_,dv_ (stride ld), dlog_a
     * (with respect to log a) and db (stride lds) are written with '='.  work has
     * room for rows * dv * dk floats.  BOUND                                  */
    void  (*delta_rule_back)(const float *S, float *dS, const float *q,
                        const float *k, const float *v, int64_t ld,
                        const float *a, const float *b, int64_t lds,
                        const float *dout, float *dq, float *dk_, float *dv_,
                        float *dlog_a, float *db, int64_t rows, int64_t dk,
                        int64_t dv, float *work);

    /* Activations to int8, one step per CHI_ACT_BLOCK values, a last shorter
     * block allowed: inv = 127 / max|x|, q = clamp(round_half_even(x inv), +-127),
     * step = max|x| / 127; max|x| < 1e-30 counts as 0 (q = 0, step = 0).  A
     * NaN has q = -127 and makes its block's step NAN, so that no product hides
     * it.  sum[b] is the sum of the block's q.  EXACT                         */
    void  (*quantize_i8)(int8_t *q, float *step, int16_t *sum, const float *x,
                         int64_t n);

    /* The memory without the delta term, of one head of one segment: what linear
     * attention, mLSTM and Mamba-2 write.
     *     S = a_t S + (b_t v_t) k_t';  o_t = S q_t
     * S[dv,dk] in place; q,k[rows,dk] have row stride ldk, v,o[rows,dv] ldv, decay
     * a and strength b [rows] lds.  S q uses the canonical lanes.  EXACT       */
    void  (*hebb_rule)(float *S, const float *q, const float *k, int64_t ldk,
                       const float *v, int64_t ldv, const float *a, const float *b,
                       int64_t lds, float *o, int64_t rows, int64_t dk, int64_t dv);
    /* Its gradient.  S is the state before these rows (only read); dS goes from
     * after them to before them; dq,dk_ (stride ldk), dv_ (ldv), dlog_a and db
     * (lds) are written with '='.  work has room for (dv + 4 rows) dk floats.
     * BOUND; dlog_a is the sum of the terms of a <dS, S_{t-1}>, no difference of
     * larger sums                                                              */
    void  (*hebb_rule_back)(const float *S, float *dS, const float *q, const float *k,
                       int64_t ldk, const float *v, int64_t ldv, const float *a,
                       const float *b, int64_t lds, const float *dout, float *dq,
                       float *dk_, float *dv_, float *dlog_a, float *db,
                       int64_t rows, int64_t dk, int64_t dv, float *work);

    /* y[i] = sum over j of W[i,j] x[j], W[rows,n] with row stride ldw: the bits of
     * one dot() a row.  EXACT                                                 */
    void  (*dots)(float *y, const float *W, int64_t ldw, const float *x,
                  int64_t rows, int64_t n);
    /* y[j] += a[i] X[i,j] for i = 0 .. rows-1 in order, X[rows,n] with row stride
     * ldx: the bits of one axpy() a row.  EXACT                               */
    void  (*axpys)(float *y, const float *a, const float *X, int64_t ldx,
                   int64_t rows, int64_t n);
};

/* The rows that go into a linear: float rows and, when the weights are integers,
 * the same rows quantised.  A row of q has ldq >= d_in values, ldq a multiple of
 * CHI_ACT_BLOCK, zeros after d_in; ldq / CHI_ACT_BLOCK steps and sums a row.  */
struct chi_act {
    int64_t        rows, d_in;
    const float   *x;    int64_t ldx;
    const int8_t  *q;    int64_t ldq;
    const float   *step;
    const int16_t *sum;
};

/* A weight matrix in the bytes of its encoding, or as pack() left them.        */
struct chi_matrix {
    const void *bytes;
    int64_t     d_out, d_in;
    int64_t     group;              /* weights along d_in that share a scale    */
};

/* Linear maps: one entry per (encoding, instruction set).                      */
struct chi_linear_kernel {
    uint32_t    struct_size;
    const char *encoding;           /* "f32", "ternary2", ...                   */
    int64_t     group;              /* the only group it can do; 0: any         */
    bool        integer;            /* reads q, step and sum, not x             */

    /* A private layout, made once when weights are bound.  NULL: run() reads the
     * encoding's own bytes.  A pack is 64-byte aligned.                        */
    int64_t   (*pack_bytes)(int64_t d_out, int64_t d_in, int64_t group);
    void      (*pack)(void *packed, const struct chi_matrix *);

    /* y[r, o - o0] = sum over k of x[r,k] W[o,k] for o in [o0, o1), ldy the row
     * stride of y.  o0 is a multiple of CHI_TILE; o1 too, or d_out.  EXACT:
     * integer encodings: for each group of k in order, p = the sum over its
     * activation blocks, in order, of float(integer sum) * step, then
     * y += scale * p; every * and + rounded by itself.  float encodings: one
     * chain over k per output, from 0, * and + rounded by themselves.          */
    void (*run)(float *y, int64_t ldy, const struct chi_act *,
                const struct chi_matrix *, int64_t o0, int64_t o1, void *scratch);
    /* Bytes of scratch for such a call (64-byte aligned); NULL: none           */
    int64_t (*scratch_bytes)(int64_t rows, int64_t d_in);
};

struct chi_host;
struct chi_backend_ops {            /* kind CHI_BACKEND                         */
    uint32_t struct_size;
    int32_t  rank;                  /* higher wins among usable backends;
                                       negative: only if [backend] use names it */
    const struct chi_kernels *kernels;                     /* or NULL           */
    const struct chi_linear_kernel *const *linears;        /* NULL-terminated, or NULL */
    /* Optional: find what the code needs (a library), test it, refuse with a
     * reason.  Called once before any kernel.  [setup]                         */
    chi_status (*open)(const struct chi_host *);
};

#endif
