/* memory.c - the memory of one head: matrices M_1..M_L that learn while they read
 * (arXiv 2501.00663).  For row t of a chunk whose first row met M' and S':
 *
 *     a_0 = k_t;  z_l = M'_l a_{l-1};  a_l = silu(z_l)           the old weights,
 *     e_L = z_L - v_t;  e_l = (M'_{l+1}^T e_{l+1}) * silu'(z_l)  their errors
 *     S_l = eta S_l - theta e_l a_{l-1}^T                        momentum
 *     M_l = (1 - alpha) M_l + S_l                                and write
 *     r_t = M_L silu(... silu(M_1 q_t))                          read after the write
 *
 * semi_exact takes the last error at the weights before row t: e_L = M_L a_{L-1} - v_t.
 *
 * No M or S of a single row is ever formed.  Both recurrences are linear in M', S' and
 * the outer products, so that a read is two products and a sum over the chunk's rows,
 *
 *     M_t x = B_t M' x + W_t0 S' x + sum over j <= t of W_tj (a_j . x) e_j,
 *
 * and the matrices change once a chunk.  The state is M', S' and the rows since.   */
#include "titans_mac.h"

/* Y = X M', one dot product an element                                          */
static void plain_times(const struct head *a, float *Y, int64_t ldy, const float *X, int64_t ldx,
                        const float *M, int64_t n, int64_t m)
{
    int64_t D = a->s->D;
    for (int64_t t = 0; t < n; t++) a->k->dots(Y + t * ldy, M, D, X + t * ldx, m, D);
}

void titans_times(const struct head *a, float *Y, int64_t ldy, const float *X, int64_t ldx,
                  const float *M, int64_t n, int64_t m)
{
    int64_t D = a->s->D;
    if (a->fast) a->k->gemm(false, true, n, m, D, X, ldx, M, D, 0, Y, ldy);
    else plain_times(a, Y, ldy, X, ldx, M, n, m);
}

void titans_back_times(const struct head *a, float *Y, const float *X, int64_t ldx, const float *M,
                       int64_t n, int64_t m)
{
    int64_t D = a->s->D;
    if (a->fast) {
        a->k->gemm(false, false, n, D, m, X, ldx, M, D, 0, Y, D);
        return;
    }
    zero(Y, n * D);
    for (int64_t t = 0; t < n; t++) a->k->axpys(Y + t * D, X + t * ldx, M, D, m, D);
}

static int64_t taken(int64_t n)                 /* floats that take(n) uses      */
{
    return (n + 15) & ~(int64_t)15;
}

int64_t titans_memory_floats(const struct titans *s)
{
    int64_t rows = taken(s->C * s->D), all = taken(s->L * s->C * s->D), w = s->C + 1;
    return 2 * taken(w * w) + taken(w) + 6 * all + 2 * rows + taken((s->L + 1) * s->C * s->C);
}

void titans_memory_room(struct head *a, struct chi_scratch *scratch)
{
    int64_t C = a->s->C, all = a->s->L * C * a->s->D;
    a->c.P = take(scratch, (C + 1) * (C + 1));
    a->c.W = take(scratch, (C + 1) * (C + 1));
    a->c.B = take(scratch, C + 1);
    a->Z = take(scratch, all);
    a->T = take(scratch, all);
    a->X = take(scratch, all);
    a->Y = take(scratch, all);
    a->U = take(scratch, all);
    a->N = take(scratch, all);
    a->last = take(scratch, C * a->s->D);
    a->F = take(scratch, (a->s->L + 1) * C * C);
    a->scaled = take(scratch, C * a->s->D);
}

void titans_fresh(struct head *a, float *M)
{
    int64_t n = a->s->D * a->s->D;
    for (int64_t l = 0; l < a->s->L; l++) copy(M + l * n, param_of(a, a->s->w[l], n), n);
}

/* ---- the factors ------------------------------------------------------------------ */

struct gates titans_gates(const struct head *a, int64_t t)
{
    const struct titans *s = a->s;
    float z[3];
    for (int i = 0; i < 3; i++)
        z[i] = chi_sigmoid(*gate_of(a, s->pre[AL + i], t) + CHI_PARAM(a->r, s->bias[i], float)[a->h]);
    return (struct gates){ z[0], z[1], s->theta_max * z[2] * (1 - z[1]), z[2] };
}

void titans_begin(struct head *a, const float *coef, int64_t at)
{
    int64_t w = a->s->C + 1;
    zero(a->c.P, w);
    zero(a->c.W, w);
    copy(a->c.P, coef ? coef : (const float[]){ 1 }, coef ? at + 1 : 1);
    copy(a->c.W, coef ? coef + w : (const float[]){ 0 }, coef ? at + 1 : 1);
    a->c.B[0] = coef ? coef[2 * w] : 1;
}

void titans_coefs(struct head *a, int64_t at, int64_t n, int64_t t)
{
    int64_t w = a->s->C + 1;
    for (int64_t i = 0; i < n; i++) {
        struct gates z = titans_gates(a, t + i);
        const float *P0 = a->c.P + i * w, *W0 = a->c.W + i * w;
        float *P = a->c.P + (i + 1) * w, *W = a->c.W + (i + 1) * w;
        zero(P, w);
        zero(W, w);
        for (int64_t j = 0; j <= at + i; j++) {
            P[j] = z.eta * P0[j];
            W[j] = (1 - z.alpha) * W0[j] + P[j];
        }
        P[at + i + 1] = W[at + i + 1] = -z.theta;
        a->c.B[i + 1] = (1 - z.alpha) * a->c.B[i];
    }
}

/* Within its chunk a memory may blow up before the guard sees it: errors and answers stay
 * numbers.  Answers of sound matrices stay below: of norm 1000 the first two, of norm 10
 * the first six.                                                                */
static void limit(float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float low = y[i] > LARGEST ? LARGEST : y[i];
        y[i] = low < -LARGEST ? -LARGEST : low;             /* NaN stays NaN         */
    }
}

/* ---- write ------------------------------------------------------------------------ */

/* y += sum over j < m of W_j (a_j . x) e_j                                            */
static void add_rows(struct head *a, float *y, const float *W, const float *x, const float *A, const float *E,
                     int64_t m)
{
    float *f = a->F + a->s->L * a->s->C * a->s->C;
    a->k->dots(f, A, a->s->D, x, m, a->s->D);
    for (int64_t j = 0; j < m; j++) f[j] *= W[j];
    a->k->axpys(y, f, E, a->s->D, m, a->s->D);
}

/* e_t = B M' a_t + W_0 S' a_t - v_t + sum over j < t of W_j (a_j . a_t) e_j, all factors
 * those before row t: one row after the other                                   */
static void exact_errors(struct head *a, int64_t at, int64_t n, int64_t t)
{
    int64_t D = a->s->D, w = a->s->C + 1, last = a->s->L - 1, all = a->s->C * D;
    const float *U = a->Z + last * all, *A = a->A + last * all;
    float *E = a->E + last * all;

    titans_times(a, a->last, D, A + at * D, D, a->S + last * D * D, n, D);
    for (int64_t i = 0; i < n; i++) {
        const float *W = a->c.W + i * w, *v = row_of(a, a->s->y[V], t + i);
        float *e = E + (at + i) * D;
        for (int64_t d = 0; d < D; d++) e[d] = a->c.B[i] * U[i * D + d] + W[0] * a->last[i * D + d] - v[d];
        add_rows(a, e, W + 1, A + (at + i) * D, A, E, at + i);
        limit(e, D);
    }
}

static void plain_errors(struct head *a, int64_t at, int64_t n, int64_t t)
{
    int64_t D = a->s->D, last = (a->s->L - 1) * a->s->C * D;
    for (int64_t i = 0; i < n; i++) {
        const float *z = a->Z + last + i * D, *v = row_of(a, a->s->y[V], t + i);
        float *e = a->E + last + (at + i) * D;
        for (int64_t d = 0; d < D; d++) e[d] = z[d] - v[d];
        limit(e, D);
    }
}

void titans_write(struct head *a, int64_t at, int64_t n, int64_t t)
{
    const struct titans *s = a->s;
    int64_t D = s->D, L = s->L, all = s->C * D;

    for (int64_t i = 0; i < n; i++) copy(a->A + (at + i) * D, row_of(a, s->y[K], t + i), D);
    for (int64_t l = 0; l < L; l++) {
        titans_times(a, a->Z + l * all, D, a->A + l * all + at * D, D, a->M + l * D * D, n, D);
        if (l + 1 < L) a->k->silu(a->A + (l + 1) * all + at * D, a->Z + l * all, n * D);
    }
    if (s->semi_exact) exact_errors(a, at, n, t);
    else plain_errors(a, at, n, t);
    for (int64_t l = L - 1; l > 0; l--) {
        float *T = a->T + (l - 1) * all;
        titans_back_times(a, T, a->E + l * all + at * D, D, a->M + l * D * D, n, D);
        a->k->silu_back(a->E + (l - 1) * all + at * D, a->Z + (l - 1) * all, T, n * D);
    }
}

/* ---- read ------------------------------------------------------------------------- */

/* The chunk's own rows in a read, for all rows of the call at once              */
static void fast_rows(struct head *a, int64_t l, int64_t at, int64_t n)
{
    int64_t D = a->s->D, C = a->s->C, w = C + 1, all = C * D, m = at + n;
    float *F = a->F + l * C * C, *FW = a->F + a->s->L * C * C;

    a->k->gemm(false, true, n, m, D, a->X + l * all, D, a->A + l * all, D, 0, F, C);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++)
            FW[i * C + j] = j <= at + i ? F[i * C + j] * a->c.W[(i + 1) * w + j + 1] : 0;
    a->k->gemm(false, false, n, D, m, FW, C, a->E + l * all, D, 1, a->Y + l * all, D);
}

static void plain_rows(struct head *a, int64_t l, int64_t at, int64_t n)
{
    int64_t D = a->s->D, w = a->s->C + 1, all = a->s->C * D;
    const float *A = a->A + l * all, *E = a->E + l * all;
    for (int64_t i = 0; i < n; i++)
        add_rows(a, a->Y + l * all + i * D, a->c.W + (i + 1) * w + 1, a->X + l * all + i * D, A, E, at + i + 1);
}

void titans_read(struct head *a, int64_t at, int64_t n, int64_t t)
{
    const struct titans *s = a->s;
    int64_t D = s->D, w = s->C + 1, all = s->C * D;

    for (int64_t i = 0; i < n; i++) copy(a->X + i * D, row_of(a, s->y[Q], t + i), D);
    for (int64_t l = 0; l < s->L; l++) {
        float *Y = a->Y + l * all, *U = a->U + l * all, *N = a->N + l * all;
        titans_times(a, U, D, a->X + l * all, D, a->M + l * D * D, n, D);
        titans_times(a, N, D, a->X + l * all, D, a->S + l * D * D, n, D);
        for (int64_t i = 0; i < n; i++) {
            float B = a->c.B[i + 1], W0 = a->c.W[(i + 1) * w];
            for (int64_t d = i * D; d < (i + 1) * D; d++) Y[d] = B * U[d] + W0 * N[d];
        }
        if (a->fast) fast_rows(a, l, at, n);
        else plain_rows(a, l, at, n);
        limit(Y, n * D);
        if (l + 1 < s->L) a->k->silu(a->X + (l + 1) * all, Y, n * D);
    }
}

/* ---- the end of a chunk ------------------------------------------------------------ */

/* M += sum over the chunk's rows of f_j e_j a_j'                                 */
static void add_products(struct head *a, float *M, int64_t l, const float *f)
{
    int64_t D = a->s->D, C = a->s->C;
    const float *A = a->A + l * C * D, *E = a->E + l * C * D;

    for (int64_t i = 0; i < D; i++)             /* [D,C]                                */
        for (int64_t j = 0; j < C; j++) a->scaled[i * C + j] = f[j] * E[j * D + i];
    if (a->fast) a->k->gemm(false, false, D, D, C, a->scaled, C, A, D, 1, M, D);
    else
        for (int64_t i = 0; i < D; i++) a->k->axpys(M + i * D, a->scaled + i * C, A, D, C, D);
}

static float greater(float norm, float other)   /* NaN if either is one          */
{
    return norm >= other || isnan(norm) ? norm : other;
}

/* Its norm; a matrix that has died out becomes 0.  One without new writes halves for ever otherwise, down to the smallest
 * number, whose half rounds to itself, and a CPU takes tens of times longer for numbers of that kind            */
static float norm_or_none(const struct head *a, float *M)
{
    const float FAINT = 1e-15f;
    int64_t n = a->s->D * a->s->D;
    float norm = sqrtf(a->k->dot(M, M, n));
    if (norm < FAINT) zero(M, n);
    return norm;
}

static float commit(struct head *a, int64_t n)
{
    int64_t D = a->s->D, w = a->s->C + 1;
    const float *P = a->c.P + n * w, *W = a->c.W + n * w;
    float B = a->c.B[n], norm = 0;

    for (int64_t l = 0; l < a->s->L; l++) {
        float *M = a->M + l * D * D, *S = a->S + l * D * D;
        for (int64_t i = 0; i < D * D; i++) {
            M[i] = B * M[i] + W[0] * S[i];
            S[i] = P[0] * S[i];
        }
        add_products(a, M, l, W + 1);
        add_products(a, S, l, P + 1);
        norm = greater(norm, norm_or_none(a, M));
        norm = greater(norm, norm_or_none(a, S));
    }
    return norm;
}

float titans_end_chunk(struct head *a, int64_t n)
{
    float norm = commit(a, n);
    if (norm <= a->s->max_norm) return norm;
    titans_fresh(a, a->M);
    zero(a->S, a->s->L * a->s->D * a->s->D);
    return norm;
}
