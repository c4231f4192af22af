/* attend.c - what stands beside the memory: softmax over P learned pairs (persistent
 * memory) and, with core = window, over the last tokens and what they retrieved:
 *
 *     o_t = r_t + sum over s of softmax_s(q_t . key_s D^-1/2) value_s
 *     (key, value) = the P slots;  (r_j, r_j) and then (k_j, v_j), t - window < j <= t
 *
 * A token sees the row that it retrieved itself and those of earlier tokens, never of
 * later ones.  Rows before the call lie in the state, a ring of window places, each
 * k, v and r of a token.                                                        */
#include "titans_mac.h"

enum { KEY, VALUE, GOT };                       /* in the ring; GOT: r           */

static int64_t oldest(const struct titans *s, int64_t pos)
{
    return pos - s->window + 1 > 0 ? pos - s->window + 1 : 0;
}

/* Keys of each kind that the token at pos sees in the window                    */
static int64_t visible(const struct titans *s, int64_t pos)
{
    return s->window ? pos - oldest(s, pos) + 1 : 0;
}

static float *ring_of(const struct head *a, unsigned char *state, int what, int64_t pos)
{
    const struct titans *s = a->s;
    return (float *)(void *)(state + s->ring) + (pos % s->window * 3 + what) * s->inner + a->h * s->D;
}

static int64_t array_of(const struct titans *s, int what, bool gradient)
{
    if (what == GOT) return gradient ? s->dr : s->r;
    return gradient ? s->dpre[what == KEY ? K : V] : s->y[what == KEY ? K : V];
}

/* k, v or r of a position                                                       */
static const float *past(const struct head *a, int what, int64_t pos)
{
    if (pos >= a->g->pos) return row_of(a, array_of(a->s, what, false), pos - a->g->pos);
    return ring_of(a, a->g->state, what, pos);
}

static int64_t scores_of(const struct titans *s)
{
    return s->P + 2 * s->window;
}

/* p[n][P + 2 window] = softmax of the scores of n rows from t on                */
static void weights(struct head *a, int64_t t, int64_t n)
{
    const struct titans *s = a->s;
    int64_t all = scores_of(s);

    titans_times(a, a->p, all, row_of(a, s->y[Q], t), s->inner, param_of(a, s->slot[0], s->P * s->D), n,
                 s->P);
    for (int64_t i = 0; i < n; i++) {
        int64_t pos = a->g->pos + t + i, from = oldest(s, pos), m = visible(s, pos);
        const float *q = row_of(a, s->y[Q], t + i);
        float *p = a->p + i * all, *got = p + s->P, *key = got + m;
        for (int64_t j = 0; j < m; j++) {
            got[j] = a->k->dot(q, past(a, GOT, from + j), s->D);
            key[j] = a->k->dot(q, past(a, KEY, from + j), s->D);
        }
        for (int64_t j = 0; j < s->P + 2 * m; j++) p[j] *= s->scale;
        a->k->softmax(p, p, s->P + 2 * m);
    }
}

static void attend_block(struct head *a, int64_t t, int64_t n)
{
    const struct titans *s = a->s;
    int64_t all = scores_of(s), D = s->D;

    weights(a, t, n);
    titans_back_times(a, a->seen, a->p, all, param_of(a, s->slot[1], s->P * D), n, s->P);
    for (int64_t i = 0; i < n; i++) {
        int64_t pos = a->g->pos + t + i, from = oldest(s, pos), m = visible(s, pos);
        const float *got = a->p + i * all + s->P, *key = got + m;
        float *o = row_of(a, s->o, t + i);
        for (int64_t d = 0; d < D; d++) o[d] += a->seen[i * D + d];
        for (int64_t j = 0; j < m; j++) {
            a->k->axpy(o, got[j], past(a, GOT, from + j), D);
            a->k->axpy(o, key[j], past(a, VALUE, from + j), D);
        }
    }
}

void titans_attend(struct head *a, int64_t t, int64_t n)
{
    for (int64_t i = 0; i < n; i += BLOCK) attend_block(a, t + i, least(BLOCK, n - i));
}

/* The last rows of the call go into the ring                                    */
void titans_remember(const struct head *a)
{
    const struct titans *s = a->s;
    int64_t end = a->g->pos + a->g->rows, n = least(a->g->rows, s->window);
    for (int64_t pos = end - n; pos < end; pos++)
        for (int what = KEY; what <= GOT; what++)
            copy(ring_of(a, a->g->state, what, pos), past(a, what, pos), s->D);
}

/* ---- backward --------------------------------------------------------------------- */

/* Where the gradient of k, v or r of a position goes: a row of the call, the state
 * before it, or nowhere (NULL)                                                  */
static float *past_grad(const struct head *a, int what, int64_t pos)
{
    if (pos >= a->g->pos) return row_of(a, array_of(a->s, what, true), pos - a->g->pos);
    return a->g->dstate ? ring_of(a, a->g->dstate, what, pos) : NULL;
}

/* Rows of the call start from the gradient of the places that they were copied to; what
 * was in those places before starts from zero.  r reaches o directly, too       */
static void begin_grads(const struct head *a)
{
    const struct titans *s = a->s;
    int64_t rows = a->g->rows;
    for (int64_t t = 0; t < rows; t++) {
        zero(row_of(a, s->dpre[Q], t), s->D);
        zero(row_of(a, s->dpre[K], t), s->D);
        zero(row_of(a, s->dpre[V], t), s->D);
        if (s->window) copy(row_of(a, s->dr, t), row_of(a, s->dh, t), s->D);
        if (t < rows - s->window || !a->g->dstate) continue;
        for (int what = KEY; what <= GOT; what++) {
            float *place = ring_of(a, a->g->dstate, what, a->g->pos + t);
            a->k->axpy(past_grad(a, what, a->g->pos + t), 1, place, s->D);
            zero(place, s->D);
        }
    }
}

/* dz = p (dp - <p, dp>) D^-1/2 with dp_s = value_s . do, for the rows of a block */
static void scores_back(struct head *a, int64_t t, int64_t n, float *dz)
{
    const struct titans *s = a->s;
    int64_t all = scores_of(s);

    titans_times(a, dz, all, row_of(a, s->dh, t), s->inner, param_of(a, s->slot[1], s->P * s->D), n, s->P);
    for (int64_t i = 0; i < n; i++) {
        int64_t pos = a->g->pos + t + i, from = oldest(s, pos), m = visible(s, pos);
        const float *dout = row_of(a, s->dh, t + i), *p = a->p + i * all;
        float *d = dz + i * all, *got = d + s->P, *key = got + m;
        for (int64_t j = 0; j < m; j++) {
            got[j] = a->k->dot(past(a, GOT, from + j), dout, s->D);
            key[j] = a->k->dot(past(a, VALUE, from + j), dout, s->D);
        }
        float mean = a->k->dot(p, d, s->P + 2 * m);
        for (int64_t j = 0; j < s->P + 2 * m; j++) d[j] = p[j] * (d[j] - mean) * s->scale;
    }
}

static void slots_back(struct head *a, int64_t t, int64_t n, const float *dz)
{
    const struct titans *s = a->s;
    int64_t all = scores_of(s), D = s->D;

    titans_back_times(a, a->seen, dz, all, param_of(a, s->slot[0], s->P * D), n, s->P);
    for (int64_t i = 0; i < n; i++) a->k->axpy(row_of(a, s->dpre[Q], t + i), 1, a->seen + i * D, D);
    a->k->gemm(true, false, s->P, D, n, dz, all, row_of(a, s->y[Q], t), s->inner, 1,
               part_of(a, s->part_slot[0], s->P * D), D);
    a->k->gemm(true, false, s->P, D, n, a->p, all, row_of(a, s->dh, t), s->inner, 1,
               part_of(a, s->part_slot[1], s->P * D), D);
}

/* One row, of which z are the score gradients: r is key and value at once       */
static void window_back(struct head *a, int64_t t, const float *p, const float *dz)
{
    const struct titans *s = a->s;
    int64_t pos = a->g->pos + t, from = oldest(s, pos), m = visible(s, pos);
    const float *q = row_of(a, s->y[Q], t), *dout = row_of(a, s->dh, t);
    float *dq = row_of(a, s->dpre[Q], t);

    for (int64_t j = 0; j < m; j++) {
        float *dr = past_grad(a, GOT, from + j), *dk = past_grad(a, KEY, from + j);
        float *dv = past_grad(a, VALUE, from + j);
        a->k->axpy(dq, dz[j], past(a, GOT, from + j), s->D);
        a->k->axpy(dq, dz[m + j], past(a, KEY, from + j), s->D);
        if (!dr) continue;
        a->k->axpy(dr, dz[j], q, s->D);
        a->k->axpy(dr, p[j], dout, s->D);
        a->k->axpy(dk, dz[m + j], q, s->D);
        a->k->axpy(dv, p[m + j], dout, s->D);
    }
}

void titans_attend_back(struct head *a, struct chi_scratch *scratch)
{
    const struct titans *s = a->s;
    int64_t all = scores_of(s), rows = a->g->rows;
    float *dz = take(scratch, BLOCK * all);

    begin_grads(a);
    for (int i = 0; i < 2; i++) zero(part_of(a, s->part_slot[i], s->P * s->D), s->P * s->D);
    for (int64_t t = 0; t < rows; t += BLOCK) {
        int64_t n = least(BLOCK, rows - t);
        weights(a, t, n);
        scores_back(a, t, n, dz);
        slots_back(a, t, n, dz);
        for (int64_t i = 0; i < n && s->window; i++)
            window_back(a, t + i, a->p + i * all + s->P, dz + i * all + s->P);
    }
}
