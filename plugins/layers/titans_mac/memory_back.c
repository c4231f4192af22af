/* memory_back.c - gradients through the memory, the inner errors included: what a loss
 * wants of k, v and M' through e and a.  A head walks its chunks backward.  Forward kept
 * M' and S' at the first row of every span-th; those between, and all else, are made again.
 * dM and dS are those of M' and S', for nothing else carries over a chunk's edge. */
#include "titans_mac.h"

struct back {
    struct head a;
    int64_t at, n, t;               /* the chunk's rows at..at+n-1, in the segment from t on */
    float *starts;                  /* [span][2][L][D][D] M' and S' of the chunks in work */
    float *dM, *dS;                 /* [L][D][D]                                 */
    float *dA, *dE, *dZ;            /* [L][C][D]                                 */
    struct coefs d;                 /* W, B as the factors; P: of one row, [C + 1] */
    float *dY, *dX, *BY, *NY;       /* [C][D]: BY = B dY, NY = W_0 dY            */
    float *H, *dF;                  /* [C][C] dY_t . e_j, and d loss/d F         */
};

static int64_t taken(int64_t n)
{
    return (n + 15) & ~(int64_t)15;
}

int64_t titans_back_floats(const struct titans *s)
{
    int64_t D = s->D, L = s->L, C = s->C, w = C + 1;
    return 2 * (s->span + 1) * taken(L * D * D) + 5 * taken(L * C * D) + 2 * taken(w) + taken(w * w)
           + 4 * taken(C * D) + 2 * taken(C * C) + 2 * taken(s->W * D)
           + taken(BLOCK * (s->P + 2 * s->window));
}

static struct back begin_back(struct head *a, struct chi_scratch *scratch)
{
    const struct titans *s = a->s;
    int64_t D = s->D, C = s->C, all = s->L * C * D, size = s->L * D * D;

    a->A = take(scratch, all);
    a->E = take(scratch, all);
    struct back b = {
        .a = *a, .starts = take(scratch, 2 * s->span * size),
        .dM = take(scratch, size), .dS = take(scratch, size),
        .dA = take(scratch, all), .dE = take(scratch, all), .dZ = take(scratch, all),
        .d = { take(scratch, C + 1), take(scratch, (C + 1) * (C + 1)), take(scratch, C + 1) },
        .dY = take(scratch, C * D), .dX = take(scratch, C * D), .BY = take(scratch, C * D),
        .NY = take(scratch, C * D), .H = take(scratch, C * C), .dF = take(scratch, C * C),
    };
    if (a->g->dstate) {
        copy(b.dM, state_of(a, a->g->dstate, s->M, size), size);
        copy(b.dS, state_of(a, a->g->dstate, s->S, size), size);
    } else {
        zero(b.dM, size);
        zero(b.dS, size);
    }
    for (int64_t l = 0; l < s->L; l++) zero(part_of(a, s->part_w[l], D * D), D * D);
    for (int i = 0; i < 3; i++) *part_of(a, s->part_bias[i], 1) = 0;
    return b;
}

/* Nothing flows through what memory.c, limit, cut                                */
static void cut(float *d, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (fabsf(y[i]) >= LARGEST) d[i] = 0;
}

/* Y += X' Z, X[n][D], Z[n][D]                                                    */
static void outer(const struct back *b, float *Y, const float *X, const float *Z)
{
    int64_t D = b->a.s->D;
    b->a.k->gemm(true, false, D, D, b->n, X, D, Z, D, 1, Y, D);
}

/* Y += X M, Y[n][D]                                                              */
static void through(const struct back *b, float *Y, const float *X, const float *M)
{
    int64_t D = b->a.s->D;
    b->a.k->gemm(false, false, b->n, D, D, X, D, M, D, 1, Y, D);
}

/* dM to the parameters from which M begins                                      */
static void to_params(const struct back *b)
{
    int64_t n = b->a.s->D * b->a.s->D;
    for (int64_t l = 0; l < b->a.s->L; l++)
        b->a.k->axpy(part_of(&b->a, b->a.s->part_w[l], n), 1, b->dM + l * n, n);
}

/* ---- the end of a chunk ------------------------------------------------------------ */

/* What the sum M += sum f_j e_j a_j' passes back, X = d loss/d M:
 *     df_j = e_j . X a_j;  de_j += f_j X a_j;  da_j += f_j X' e_j                */
static void products_back(struct back *b, const float *X, int64_t l, const float *f, float *df)
{
    int64_t D = b->a.s->D, C = b->a.s->C, all = C * D;
    const struct chi_kernels *k = b->a.k;
    const float *A = b->a.A + l * all, *E = b->a.E + l * all;

    k->gemm(false, true, C, D, D, A, D, X, D, 0, b->dY, D);
    k->gemm(false, false, C, D, D, E, D, X, D, 0, b->dX, D);
    for (int64_t j = 0; j < C; j++) {
        df[j] += k->dot(E + j * D, b->dY + j * D, D);
        k->axpy(b->dE + l * all + j * D, f[j], b->dY + j * D, D);
        k->axpy(b->dA + l * all + j * D, f[j], b->dX + j * D, D);
    }
}

/* M = B M' + W_0 S' + sum W_j e_j a_j';  S = P_0 S' + sum P_j e_j a_j'           */
static void commit_back(struct back *b)
{
    const struct head *a = &b->a;
    int64_t D = a->s->D, w = a->s->C + 1, size = D * D;
    const float *P = a->c.P + b->n * w, *W = a->c.W + b->n * w, B = a->c.B[b->n];
    float *dP = b->d.P, *dW = b->d.W + b->n * w, *dB = b->d.B + b->n;

    for (int64_t l = 0; l < a->s->L; l++) {
        float *X = b->dM + l * size, *Y = b->dS + l * size;
        products_back(b, X, l, W + 1, dW + 1);
        products_back(b, Y, l, P + 1, dP + 1);
        *dB += a->k->dot(X, a->M + l * size, size);
        dW[0] += a->k->dot(X, a->S + l * size, size);
        dP[0] += a->k->dot(Y, a->S + l * size, size);
        for (int64_t i = 0; i < size; i++) {
            Y[i] = W[0] * X[i] + P[0] * Y[i];
            X[i] = B * X[i];
        }
    }
}

/* Gradients after the last row of the chunk: through its commit, or those of the state
 * if the call ends inside it                                                     */
static void end_of_chunk(struct back *b, int64_t chunk)
{
    const struct head *a = &b->a;
    const struct titans *s = a->s;
    int64_t D = s->D, all = s->C * D, w = s->C + 1, m = b->at + b->n;

    zero(b->dA, s->L * all);
    zero(b->dE, s->L * all);
    zero(b->d.P, w);
    zero(b->d.W, (b->n + 1) * w);
    zero(b->d.B, b->n + 1);
    if (m == s->C && !(*norm_of(a, chunk) <= s->max_norm)) {    /* the guard began anew */
        to_params(b);
        zero(b->dM, s->L * D * D);
        zero(b->dS, s->L * D * D);
    } else if (m == s->C) {
        commit_back(b);
    } else if (a->g->dstate) {
        const float *coef = state_of(a, a->g->dstate, s->coef, coef_size(s));
        for (int64_t l = 0; l < s->L; l++) {
            copy(b->dA + l * all, state_of(a, a->g->dstate, s->A, s->L * all) + l * all, m * D);
            copy(b->dE + l * all, state_of(a, a->g->dstate, s->E, s->L * all) + l * all, m * D);
        }
        copy(b->d.P, coef, m + 1);
        copy(b->d.W + b->n * w, coef + w, m + 1);
        b->d.B[b->n] = coef[2 * w];
    }
}

/* ---- read -------------------------------------------------------------------------- */

/* The factors' gradients, BY, NY, dF and F W of one read                        */
static void read_factors_back(struct back *b, int64_t l)
{
    const struct head *a = &b->a;
    int64_t D = a->s->D, C = a->s->C, w = C + 1, m = b->at + b->n;
    const float *F = a->F + l * C * C, *U = a->U + l * C * D, *N = a->N + l * C * D;
    float *FW = a->F + a->s->L * C * C;

    a->k->gemm(false, true, b->n, m, D, b->dY, D, a->E + l * C * D, D, 0, b->H, C);
    for (int64_t i = 0; i < b->n; i++) {
        const float *W = a->c.W + (i + 1) * w, B = a->c.B[i + 1];
        float *dW = b->d.W + (i + 1) * w;
        b->d.B[i + 1] += a->k->dot(b->dY + i * D, U + i * D, D);
        dW[0] += a->k->dot(b->dY + i * D, N + i * D, D);
        for (int64_t d = i * D; d < (i + 1) * D; d++) {
            b->BY[d] = B * b->dY[d];
            b->NY[d] = W[0] * b->dY[d];
        }
        for (int64_t j = 0; j < m; j++) {
            bool seen = j <= b->at + i;
            if (seen) dW[j + 1] += F[i * C + j] * b->H[i * C + j];
            b->dF[i * C + j] = seen ? W[j + 1] * b->H[i * C + j] : 0;
            FW[i * C + j] = seen ? W[j + 1] * F[i * C + j] : 0;
        }
    }
}

/* y = B M' x + W_0 S' x + sum W_j F_j e_j,  F_j = a_j . x                        */
static void read_back(struct back *b)
{
    const struct head *a = &b->a;
    const struct titans *s = a->s;
    int64_t D = s->D, C = s->C, all = C * D, m = b->at + b->n;
    const float *FW = a->F + s->L * C * C;

    for (int64_t i = 0; i < b->n; i++) copy(b->dY + i * D, row_of(a, s->dr, b->t + i), D);
    for (int64_t l = s->L - 1; l >= 0; l--) {
        const float *X = a->X + l * all, *Y = a->Y + l * all;
        cut(b->dY, Y, b->n * D);
        read_factors_back(b, l);
        a->k->gemm(false, false, b->n, D, m, b->dF, C, a->A + l * all, D, 0, b->dX, D);
        through(b, b->dX, b->BY, a->M + l * D * D);
        through(b, b->dX, b->NY, a->S + l * D * D);
        outer(b, b->dM + l * D * D, b->BY, X);
        outer(b, b->dS + l * D * D, b->NY, X);
        a->k->gemm(true, false, m, D, b->n, FW, C, b->dY, D, 1, b->dE + l * all, D);
        a->k->gemm(true, false, m, D, b->n, b->dF, C, X, D, 1, b->dA + l * all, D);
        if (l > 0) a->k->silu_back(b->dY, a->Y + (l - 1) * all, b->dX, b->n * D);
    }
    for (int64_t i = 0; i < b->n; i++) a->k->axpy(row_of(a, s->dpre[Q], b->t + i), 1, b->dX + i * D, D);
}

/* ---- write ------------------------------------------------------------------------- */

/* silu''(x) = s (1 - s) (2 + x (1 - 2 s)), s = sigmoid(x)                        */
static float silu_bend(float x)
{
    float s = chi_sigmoid(x);
    return s * (1 - s) * (2 + x * (1 - 2 * s));
}

/* e_l = t silu'(z_l), t = M'' e_{l+1}, from the first matrix on; dZ takes the part of z */
static void errors_back(struct back *b)
{
    const struct head *a = &b->a;
    int64_t D = a->s->D, all = a->s->C * D, row = b->at * D;

    for (int64_t l = 0; l + 1 < a->s->L; l++) {
        const float *Z = a->Z + l * all, *T = a->T + l * all, *M = a->M + (l + 1) * D * D;
        float *dE = b->dE + l * all + row, *dZ = b->dZ + l * all, *dT = b->dX;
        for (int64_t i = 0; i < b->n * D; i++) dZ[i] = dE[i] * T[i] * silu_bend(Z[i]);
        a->k->silu_back(dT, Z, dE, b->n * D);
        a->k->gemm(false, true, b->n, D, D, dT, D, M, D, 1, b->dE + (l + 1) * all + row, D);
        outer(b, b->dM + (l + 1) * D * D, a->E + (l + 1) * all + row, dT);
    }
}

/* memory.c, exact_errors: from the last row on, for a row's error enters all later ones */
static void exact_back(struct back *b)
{
    const struct head *a = &b->a;
    int64_t D = a->s->D, w = a->s->C + 1, l = a->s->L - 1, all = a->s->C * D;
    const float *A = a->A + l * all, *E = a->E + l * all, *U = a->Z + l * all;
    float *dA = b->dA + l * all, *dE = b->dE + l * all, *dZ = b->dZ + l * all;

    for (int64_t i = b->n - 1; i >= 0; i--) {
        const float *W = a->c.W + i * w, *mine = A + (b->at + i) * D;
        float *de = dE + (b->at + i) * D, *dW = b->d.W + i * w, B = a->c.B[i];
        cut(de, E + (b->at + i) * D, D);
        b->d.B[i] += a->k->dot(de, U + i * D, D);
        dW[0] += a->k->dot(de, a->last + i * D, D);
        for (int64_t j = 0; j < b->at + i; j++) {
            float f = a->k->dot(A + j * D, mine, D), h = a->k->dot(de, E + j * D, D), df = W[j + 1] * h;
            dW[j + 1] += f * h;
            a->k->axpy(dE + j * D, W[j + 1] * f, de, D);
            a->k->axpy(dA + j * D, df, mine, D);
            a->k->axpy(dA + (b->at + i) * D, df, A + j * D, D);
        }
        for (int64_t d = 0; d < D; d++) {
            dZ[i * D + d] = B * de[d];
            b->NY[i * D + d] = W[0] * de[d];
        }
    }
    through(b, dA + b->at * D, b->NY, a->S + l * D * D);
    outer(b, b->dS + l * D * D, b->NY, A + b->at * D);
}

static void write_back(struct back *b)
{
    const struct head *a = &b->a;
    const struct titans *s = a->s;
    int64_t D = s->D, all = s->C * D, row = b->at * D, last = (s->L - 1) * all;

    errors_back(b);
    cut(b->dE + last + row, a->E + last + row, b->n * D);
    if (s->semi_exact) exact_back(b);
    else copy(b->dZ + last, b->dE + last + row, b->n * D);
    for (int64_t i = 0; i < b->n; i++)
        a->k->axpy(row_of(a, s->dpre[V], b->t + i), -1, b->dE + last + row + i * D, D);
    for (int64_t l = s->L - 1; l >= 0; l--) {
        float *dA = b->dA + l * all + row, *dZ = b->dZ + l * all;
        through(b, dA, dZ, a->M + l * D * D);
        outer(b, b->dM + l * D * D, dZ, a->A + l * all + row);
        if (l == 0) break;
        a->k->silu_back(b->dX, a->Z + (l - 1) * all, dA, b->n * D);
        a->k->axpy(b->dZ + (l - 1) * all, 1, b->dX, b->n * D);
    }
    for (int64_t i = 0; i < b->n; i++) a->k->axpy(row_of(a, s->dpre[K], b->t + i), 1, b->dA + row + i * D, D);
}

/* ---- the factors -------------------------------------------------------------------- */

/* d alpha, d eta, d theta to the maps before the sigmoids                       */
static void gates_back(const struct head *a, int64_t t, const struct gates *z, float dalpha, float deta,
                       float dtheta)
{
    const struct titans *s = a->s;
    float dopen = dtheta * s->theta_max * (1 - z->eta), d[3];
    d[0] = dalpha * z->alpha * (1 - z->alpha);
    d[1] = (deta - dtheta * s->theta_max * z->open) * z->eta * (1 - z->eta);
    d[2] = dopen * z->open * (1 - z->open);
    for (int i = 0; i < 3; i++) {
        *gate_of(a, s->dpre[AL + i], t) = d[i];
        *part_of(a, s->part_bias[i], 1) += d[i];
    }
}

/* P = eta P, W = (1 - alpha) W + P, B = (1 - alpha) B, then -theta for the row itself */
static void coefs_back(struct back *b)
{
    const struct head *a = &b->a;
    int64_t w = a->s->C + 1;
    float *dP = b->d.P;

    for (int64_t i = b->n - 1; i >= 0; i--) {
        struct gates z = titans_gates(a, b->t + i);
        const float *P = a->c.P + i * w, *W = a->c.W + i * w, *dW = b->d.W + (i + 1) * w;
        float *dbefore = b->d.W + i * w, dalpha = -b->d.B[i + 1] * a->c.B[i], deta = 0;
        int64_t own = b->at + i + 1;
        float dtheta = -dW[own] - dP[own];
        dP[own] = 0;
        for (int64_t j = 0; j < own; j++) {
            dP[j] += dW[j];
            dalpha -= dW[j] * W[j];
            deta += dP[j] * P[j];
            dbefore[j] += (1 - z.alpha) * dW[j];
            dP[j] *= z.eta;
        }
        b->d.B[i] += (1 - z.alpha) * b->d.B[i + 1];
        gates_back(a, b->t + i, &z, dalpha, deta, dtheta);
    }
}

/* ---- a head ------------------------------------------------------------------------ */

/* Chunk number i of those that begin with row from; the last one ends at row end */
static void place(struct back *b, int64_t i, int64_t from, int64_t end)
{
    int64_t C = b->a.s->C, pos = b->a.g->pos, size = b->a.s->L * b->a.s->D * b->a.s->D;
    b->t  = i ? ((pos + from) / C + i) * C - pos : from;
    b->at = (pos + b->t) % C;
    b->n  = least(C - b->at, end - b->t);
    b->a.M = b->starts + i * 2 * size;
    b->a.S = b->a.M + size;
}

/* Factors, rows and errors of the chunk as forward had them                     */
static void remake_rows(struct back *b)
{
    struct head *a = &b->a;
    const struct titans *s = a->s;
    int64_t all = s->C * s->D;
    bool old = b->at > 0 && b->t == 0 && !a->g->fresh;      /* rows in the state     */

    zero(a->A, s->L * all);
    zero(a->E, s->L * all);
    for (int64_t l = 0; l < s->L && old; l++) {
        copy(a->A + l * all, state_of(a, a->g->state, s->A, s->L * all) + l * all, b->at * s->D);
        copy(a->E + l * all, state_of(a, a->g->state, s->E, s->L * all) + l * all, b->at * s->D);
    }
    titans_begin(a, old ? state_of(a, a->g->state, s->coef, coef_size(s)) : NULL, b->at);
    titans_coefs(a, b->at, b->n, b->t);
    titans_write(a, b->at, b->n, b->t);
}

/* Rows from..end-1, whose first M' and S' were kept; first is the number of their chunk */
static void span_back(struct back *b, int64_t from, int64_t end, int64_t kept, int64_t first)
{
    struct head *a = &b->a;
    int64_t C = a->s->C, size = 2 * a->s->L * a->s->D * a->s->D;
    int64_t last = (a->g->pos + end - 1) / C - (a->g->pos + from) / C;

    copy(b->starts, start_of(a, kept), size);
    for (int64_t i = 0; i < last; i++) {
        place(b, i, from, end);
        remake_rows(b);
        copy(b->starts + (i + 1) * size, b->starts + i * size, size);
        a->M += size;
        a->S += size;
        titans_end_chunk(a, b->n);
    }
    for (int64_t i = last; i >= 0; i--) {
        place(b, i, from, end);
        remake_rows(b);
        titans_read(a, b->at, b->n, b->t);
        end_of_chunk(b, first + i);
        read_back(b);
        write_back(b);
        coefs_back(b);
    }
}

/* b is at the segment's first chunk.  Rows of the state from m on were not touched: their
 * gradient stays what it was, unless the end of the chunk emptied them          */
static void end_back(const struct back *b)
{
    const struct head *a = &b->a;
    const struct titans *s = a->s;
    int64_t size = s->L * s->D * s->D, all = s->C * s->D, w = s->C + 1, D = s->D;
    bool old = b->at > 0 && !a->g->fresh;
    int64_t known = old ? b->at : 0, m = b->at + b->n;

    if (a->g->fresh) to_params(b);
    if (!a->g->dstate) return;
    copy(state_of(a, a->g->dstate, s->M, size), b->dM, size);
    copy(state_of(a, a->g->dstate, s->S, size), b->dS, size);
    for (int64_t l = 0; l < s->L; l++) {
        float *dA = state_of(a, a->g->dstate, s->A, s->L * all) + l * all;
        float *dE = state_of(a, a->g->dstate, s->E, s->L * all) + l * all;
        copy(dA, b->dA + l * all, known * D);
        copy(dE, b->dE + l * all, known * D);
        zero(dA + known * D, (m - known) * D);
        zero(dE + known * D, (m - known) * D);
    }
    float *coef = state_of(a, a->g->dstate, s->coef, coef_size(s));
    zero(coef, coef_size(s));
    if (!old) return;
    copy(coef, b->d.P, b->at + 1);
    copy(coef + w, b->d.W, b->at + 1);
    coef[2 * w] = b->d.B[0];
}

void titans_memory_back(struct head *a, struct chi_scratch *scratch)
{
    const struct titans *s = a->s;
    int64_t every = s->C * s->span, pos = a->g->pos;
    int64_t kept = chi_first_chunk(a->r, a->seg, every) + chi_chunks(a->g, every);
    int64_t chunk = chi_first_chunk(a->r, a->seg, s->C) - pos / s->C;
    struct back b = begin_back(a, scratch);

    for (int64_t end = a->g->rows, from; end > 0; end = from) {
        from = (pos + end - 1) / every * every - pos;
        if (from < 0) from = 0;
        span_back(&b, from, end, --kept, chunk + (pos + from) / s->C);
    }
    end_back(&b);
}
