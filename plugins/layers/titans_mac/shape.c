/* shape.c - from the outputs of the linears to q, k and v:
 *     c_t = sum over j of w_j x_{t - W + 1 + j};  y = silu(c);  q, k over sqrt(|y|^2 + 1e-6)
 * and back.  Only the inputs x are kept: everything else is made again.          */
#include "titans_mac.h"

static const float L2_EPS = 1e-6f;

/* Weights as [W][D], so that the inner loop runs along channels                 */
void titans_taps(struct head *a)
{
    int64_t D = a->s->D, W = a->s->W;
    for (int i = 0; i < 3; i++) taps_by_row(a->taps[i], D, param_of(a, a->s->conv[i], D * W), D, W);
}

/* Raw input of row t, which may lie before the call                             */
static const float *raw(const struct head *a, int i, int64_t t)
{
    return t < 0 ? tail_of(a, a->g->state, i, t + a->s->W - 1) : row_of(a, a->s->pre[i], t);
}

static void convolve(const struct head *a, int i, int64_t t, float *c)
{
    const float *x[TAPS_MAX];
    for (int64_t j = 0; j < a->s->W; j++) x[j] = raw(a, i, t - a->s->W + 1 + j);
    tap_sum(c, a->taps[i], a->s->D, x, a->s->W, a->s->D);
}

static float one_over_length(const struct head *a, const float *y)
{
    return 1 / sqrtf(a->k->dot(y, y, a->s->D) + L2_EPS);
}

void titans_shape(struct head *a)
{
    int64_t D = a->s->D;
    for (int64_t t = 0; t < a->g->rows; t++)
        for (int i = 0; i < 3; i++) {
            float *y = row_of(a, a->s->y[i], t);
            convolve(a, i, t, a->row);
            a->k->silu(y, a->row, D);
            if (i == V) continue;
            float f = one_over_length(a, y);
            for (int64_t d = 0; d < D; d++) y[d] *= f;
        }
}

/* The last W - 1 raw inputs, in rising order: an old row is read before it is
 * written over                                                                  */
void titans_move_tail(const struct head *a)
{
    int64_t T = a->s->W - 1;
    for (int i = 0; i < 3; i++)
        for (int64_t j = 0; j < T; j++)
            memmove(tail_of(a, a->g->state, i, j), raw(a, i, a->g->rows - T + j),
                    (size_t)a->s->D * sizeof(float));
}

/* ---- backward --------------------------------------------------------------------- */

/* y = n / |n|, n = silu(c):  dn = (dy - y <y, dy>) / |n|;  dc = dn silu'(c)      */
static void unit_back(const struct head *a, int i, int64_t t, float *n)
{
    int64_t D = a->s->D;
    float *c = a->row, *d = row_of(a, a->s->dpre[i], t);
    convolve(a, i, t, c);
    if (i != V) {
        const float *y = row_of(a, a->s->y[i], t);
        a->k->silu(n, c, D);
        float m = a->k->dot(y, d, D), f = one_over_length(a, n);
        for (int64_t j = 0; j < D; j++) d[j] = f * (d[j] - y[j] * m);
    }
    a->k->silu_back(d, c, d, D);
}

/* d loss/d raw input of row t, which may lie in the old tail: through the convolutions
 * that saw it and, if it is in the new tail, through that                       */
static void raw_back(const struct head *a, int i, int64_t t, float *dx)
{
    int64_t D = a->s->D, T = a->s->W - 1, rows = a->g->rows;

    if (a->g->dstate && t >= rows - T) copy(dx, tail_of(a, a->g->dstate, i, t - rows + T), D);
    else zero(dx, D);
    for (int64_t j = 0; j <= T; j++) {
        int64_t u = t + T - j;
        if (u < 0 || u >= rows) continue;
        const float *w = a->taps[i] + j * D, *dc = row_of(a, a->s->dpre[i], u);
        for (int64_t d = 0; d < D; d++) dx[d] += w[d] * dc[d];
    }
}

/* dw_j = sum over t of dc_t x_{t - W + 1 + j}                                    */
static void taps_back(const struct head *a, int i, float *dw)
{
    int64_t D = a->s->D, W = a->s->W;
    float *part = part_of(a, a->s->part_conv[i], D * W);

    zero(dw, W * D);
    for (int64_t t = 0; t < a->g->rows; t++)
        for (int64_t j = 0; j < W; j++) {
            const float *dc = row_of(a, a->s->dpre[i], t), *x = raw(a, i, t - W + 1 + j);
            for (int64_t d = 0; d < D; d++) dw[j * D + d] += dc[d] * x[d];
        }
    for (int64_t d = 0; d < D; d++)
        for (int64_t j = 0; j < W; j++) part[d * W + j] = dw[j * D + d];
}

/* Row t of dpre is spent once rows up to t are done, so they may replace it in rising
 * order; the old tail needs all of them and is what the new tail was in place of */
void titans_shape_back(struct head *a, struct chi_scratch *scratch)
{
    int64_t D = a->s->D, T = a->s->W - 1;
    float *dw = take(scratch, (T + 1) * D), *tail = take(scratch, (T + 1) * D);

    for (int i = 0; i < 3; i++) {
        for (int64_t t = 0; t < a->g->rows; t++) unit_back(a, i, t, dw);
        taps_back(a, i, dw);
        for (int64_t j = 0; j < T && a->g->dstate; j++) raw_back(a, i, j - T, tail + j * D);
        for (int64_t t = 0; t < a->g->rows; t++) {
            raw_back(a, i, t, a->row);
            copy(row_of(a, a->s->dpre[i], t), a->row, D);
        }
        for (int64_t j = 0; j < T && a->g->dstate; j++) copy(tail_of(a, a->g->dstate, i, j), tail + j * D, D);
    }
}
