/* backward.c - the gradients of titans_mac around those of its memory.  A task is a head
 * of one segment: it makes q, k and v again, then goes back from the gated output to o,
 * to slots and window, through the chunks of the memory, and through the convolutions. */
#include "titans_mac.h"

/* h = n silu(g), n = xh w, xh = o r; dh becomes the gradient of o:
 *     dg = dh n silu'(g);  dn = dh silu(g);  dw += dn xh;  do = r (dn w - xh mean(dn w xh)) */
static void gate_back(const struct head *a, int64_t t, float *xh)
{
    const struct titans *s = a->s;
    int64_t D = s->D;
    const float *g = row_of(a, s->pre[G], t), *w = CHI_PARAM(a->r, s->o_norm, float);
    float *dg = row_of(a, s->dpre[G], t), *dh = row_of(a, s->dh, t), *dw = part_of(a, s->part_norm, D);
    float r = a->k->rmsnorm(xh, row_of(a, s->o, t), NULL, D, s->eps);

    for (int64_t d = 0; d < D; d++) dg[d] = dh[d] * xh[d] * w[d];
    a->k->silu_back(dg, g, dg, D);
    a->k->silu_mul(dh, g, dh, D);
    for (int64_t d = 0; d < D; d++) {
        dw[d] += dh[d] * xh[d];
        dh[d] *= w[d];
    }
    float mean = a->k->dot(dh, xh, D) / (float)D;
    for (int64_t d = 0; d < D; d++) dh[d] = r * (dh[d] - xh[d] * mean);
}

static void backward_head(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct titans *s = ((struct head *)arg)->s;
    struct head a = titans_head(s, ((struct head *)arg)->r, i / s->H, scratch);

    titans_begin_head(&a, i % s->H);
    titans_shape(&a);
    zero(part_of(&a, s->part_norm, s->D), s->D);
    for (int64_t t = 0; t < a.g->rows; t++) gate_back(&a, t, a.row);
    titans_attend_back(&a, scratch);
    titans_memory_back(&a, scratch);
    titans_shape_back(&a, scratch);
}

/* The input of o_proj again, and an empty dh                                    */
static void remake_h(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct head a = *(struct head *)arg;
    const struct titans *s = a.s;
    (void)scratch;
    for (int64_t t = i * BLOCK; t < least((i + 1) * BLOCK, a.r->rows); t++) {
        for (a.h = 0; a.h < s->H; a.h++) titans_gate(&a, t);
        zero(CHI_ARRAY(a.r, s->dh, float) + t * s->inner, s->inner);
    }
}

static void reduce(struct chi_run *r, int64_t param, int64_t part, int64_t n, int64_t len)
{
    r->h->reduce(r->h, CHI_GRAD(r, param, float), CHI_ARRAY(r, part, float), n, len);
}

static void reduce_parts(const struct titans *s, struct chi_run *r)
{
    for (int i = 0; i < 3; i++) {
        reduce(r, s->conv[i], s->part_conv[i], r->n_seg, s->inner * s->W);
        reduce(r, s->bias[i], s->part_bias[i], r->n_seg, s->H);
    }
    for (int64_t l = 0; l < s->L; l++) reduce(r, s->w[l], s->part_w[l], r->n_seg, s->inner * s->D);
    for (int i = 0; i < 2; i++) reduce(r, s->slot[i], s->part_slot[i], r->n_seg, s->inner * s->P);
    reduce(r, s->o_norm, s->part_norm, r->n_seg * s->H, s->D);
}

chi_status titans_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct titans *s = self;
    const float *dpre[N_IN];
    if (r->rows == 0) return CHI_OK;

    struct head job = { .s = s, .r = r, .k = r->h->k, .g = &(struct chi_segment){ .first = 0 } };
    r->h->parallel(r->h, (r->rows + BLOCK - 1) / BLOCK, remake_h, &job);
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &dy,
                                      CHI_ARRAY(r, s->dh, float));
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, r->n_seg * s->H, backward_head, &job);
    for (int i = 0; i < N_IN; i++) dpre[i] = CHI_ARRAY(r, s->dpre[i], float);
    e = r->h->linears_back(s->in, N_IN, r, x, r->rows, dpre, dx);
    if (e == CHI_OK && r->grads) reduce_parts(s, r);
    return e;
}
