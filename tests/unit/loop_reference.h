/* loop_reference.h - the network of layers.md, written token by token in double: blocks of gated_deltanet
 * and swiglu, prelude, turns, coda.  */
#ifndef LOOP_REFERENCE_H
#define LOOP_REFERENCE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "model.h"

enum { D = 16, H = 2, HD = 8, INNER = H * HD, WIDE = 20, VOCAB = 11, LAYERS = 4, CONV = 4, SEGS = 3, ROWS = 18 };

static const int64_t cut[SEGS] = { 7, 1, 10 };

struct ref {                                /* parameters in double by the model's names             */
    const struct model *m;
    double *w[128];
    bool euler;
};

static inline struct ref ref_open(const struct model *m, bool euler)
{
    struct ref r = { .m = m, .euler = euler };
    const struct model_tensor *t;
    for (int64_t i = 0; (t = model_tensor(m, i)); i++) {
        r.w[i] = xcalloc((size_t)t->n, sizeof(double));
        for (int64_t j = 0; j < t->n; j++) r.w[i][j] = (double)t->w[j];
    }
    return r;
}

static inline void ref_close(struct ref *r)
{
    for (int64_t i = 0; i < COUNT(r->w); i++) free(r->w[i]);
}

static inline const double *weight(const struct ref *r, int64_t layer, const char *name)
{
    const struct model_tensor *t;
    char full[136];
    if (layer < 0) snprintf(full, sizeof full, "%s", name);
    else snprintf(full, sizeof full, "layers.%d.%s", (int)layer, name);
    for (int64_t i = 0; (t = model_tensor(r->m, i)); i++)
        if (!strcmp(t->name, full)) return r->w[i];
    cr_assert_fail("no tensor %s", full);
    return NULL;
}

static inline void times(const double *w, const double *x, int out, int in, double *y)
{
    for (int o = 0; o < out; o++) {
        y[o] = 0;
        for (int i = 0; i < in; i++) y[o] += w[o * in + i] * x[i];
    }
}

static inline void norm(const double *x, const double *gain, int n, double *y)
{
    double s = 0;
    for (int i = 0; i < n; i++) s += x[i] * x[i];
    for (int i = 0; i < n; i++) y[i] = x[i] / sqrt(s / n + 1e-6) * gain[i];
}

static inline double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static inline double silu(double x) { return x * sigmoid(x); }
static inline double softplus(double x) { return log1p(exp(x)); }

/* One of q, k, v: silu of the convolution over the projections of tokens 0..t                     */
static inline void branch(const struct ref *r, int64_t l, char which, const double *x, int64_t t, double *y)
{
    char name[40];
    double p[INNER];
    snprintf(name, sizeof name, "mixer.%c_proj.weight", which);
    const double *w = weight(r, l, name);
    snprintf(name, sizeof name, "mixer.%c_conv1d.weight", which);
    const double *conv = weight(r, l, name);
    for (int c = 0; c < INNER; c++) y[c] = 0;
    for (int64_t back = 0; back < CONV && back <= t; back++) {
        times(w, x + (t - back) * D, INNER, D, p);
        for (int c = 0; c < INNER; c++) y[c] += conv[c * CONV + CONV - 1 - back] * p[c];
    }
    for (int c = 0; c < INNER; c++) y[c] = silu(y[c]);
}

static inline void unit(double *x)
{
    double s = 0;
    for (int i = 0; i < HD; i++) s += x[i] * x[i];
    for (int i = 0; i < HD; i++) x[i] /= sqrt(s + 1e-6);
}

/* y[T,D] of the normalised rows x[T,D]                                                            */
static inline void delta_net(const struct ref *r, int64_t l, const double *x, int64_t T, double *y)
{
    double S[H][HD][HD] = { { { 0 } } };
    for (int64_t t = 0; t < T; t++) {
        double q[INNER], k[INNER], v[INNER], g[INNER], o[INNER], a[H], b[H];
        branch(r, l, 'q', x, t, q);
        branch(r, l, 'k', x, t, k);
        branch(r, l, 'v', x, t, v);
        times(weight(r, l, "mixer.g_proj.weight"), x + t * D, INNER, D, g);
        times(weight(r, l, "mixer.a_proj.weight"), x + t * D, H, D, a);
        times(weight(r, l, "mixer.b_proj.weight"), x + t * D, H, D, b);
        for (int h = 0; h < H; h++) {
            double *qh = q + h * HD, *kh = k + h * HD, *vh = v + h * HD, out[HD];
            unit(qh);
            unit(kh);
            double decay = exp(-exp(weight(r, l, "mixer.A_log")[h]) * softplus(a[h] + weight(r, l,
                                                                                             "mixer.dt_bias")[h]));
            for (int i = 0; i < HD; i++) {
                double p = 0;
                for (int j = 0; j < HD; j++) p += (S[h][i][j] *= decay) * kh[j];
                for (int j = 0; j < HD; j++) S[h][i][j] += sigmoid(b[h]) * (vh[i] - p) * kh[j];
                out[i] = 0;
                for (int j = 0; j < HD; j++) out[i] += S[h][i][j] * qh[j] / sqrt(HD);
            }
            norm(out, weight(r, l, "mixer.o_norm.weight"), HD, o + h * HD);
        }
        for (int c = 0; c < INNER; c++) o[c] *= silu(g[c]);
        times(weight(r, l, "mixer.o_proj.weight"), o, D, INNER, y + t * D);
    }
}

static inline void block(const struct ref *r, int64_t l, double *x, int64_t T)
{
    double n[ROWS * D], y[ROWS * D], g[WIDE], u[WIDE];
    for (int64_t t = 0; t < T; t++) norm(x + t * D, weight(r, l, "norm1.weight"), D, n + t * D);
    delta_net(r, l, n, T, y);
    for (int64_t i = 0; i < T * D; i++) x[i] += y[i];
    for (int64_t t = 0; t < T; t++) {
        norm(x + t * D, weight(r, l, "norm2.weight"), D, n);
        times(weight(r, l, "ffn.gate_proj.weight"), n, WIDE, D, g);
        times(weight(r, l, "ffn.up_proj.weight"), n, WIDE, D, u);
        for (int i = 0; i < WIDE; i++) g[i] = silu(g[i]) * u[i];
        times(weight(r, l, "ffn.down_proj.weight"), g, D, WIDE, y);
        for (int i = 0; i < D; i++) x[t * D + i] += y[i];
    }
}

/* e -> the injection of every channel's gain times B e                                            */
static inline void ref_turn(const struct ref *r, const double *e, double *h, int64_t T)
{
    const double *A = weight(r, -1, "loop.A_log"), *dt = weight(r, -1, "loop.dt_bias");
    for (int64_t t = 0; t < T; t++) {
        double be[D];
        times(weight(r, -1, "loop.B.weight"), e + t * D, D, D, be);
        for (int c = 0; c < D; c++) {
            double delta = softplus(dt[c]), a = exp(A[c]), abar = exp(-delta * a);
            h[t * D + c] = abar * h[t * D + c] + (r->euler ? delta : -expm1(-delta * a) / a) * be[c];
        }
    }
    block(r, 1, h, T);
    block(r, 2, h, T);
}

/* Logits [T,VOCAB] of one segment with so many turns.  after, if not NULL, gives (frozen) or gets what
 * h is after `constant` turns                                                                       */
static inline void ref_logits(const struct ref *r, const int32_t *token, int64_t T, int turns, int constant,
                              double *after,
                       bool frozen, double *logits)
{
    double x[ROWS * D], e[ROWS * D], h[ROWS * D] = { 0 }, y[D];
    for (int64_t t = 0; t < T; t++) memcpy(x + t * D, weight(r, -1, "embed.weight") + token[t] * D, D * sizeof *x);
    block(r, 0, x, T);
    for (int64_t t = 0; t < T; t++) norm(x + t * D, weight(r, -1, "loop.norm.weight"), D, e + t * D);
    for (int i = 0; i < turns; i++) {
        if (after && i == constant) memcpy(frozen ? h : after, frozen ? after : h, (size_t)(T * D) * sizeof *h);
        ref_turn(r, e, h, T);
    }
    for (int64_t t = 0; t < T; t++) times(weight(r, -1, "loop.C.weight"), h + t * D, D, D, x + t * D);
    block(r, 3, x, T);
    for (int64_t t = 0; t < T; t++) {
        norm(x + t * D, weight(r, -1, "final_norm.weight"), D, y);
        times(weight(r, -1, "embed.weight"), y, VOCAB, D, logits + t * VOCAB);
    }
}

struct task { int32_t token[ROWS], target[ROWS]; struct chi_depth depth[SEGS]; double after[SEGS][ROWS * D]; };

/* Sum of -ln p(target); the turns before the differentiated ones give what they gave at `frozen`      */
static inline double ref_loss(const struct ref *r, struct task *k, bool frozen)
{
    double loss = 0, logits[ROWS * VOCAB];
    for (int64_t s = 0, at = 0; s < SEGS; at += cut[s++]) {
        ref_logits(r, k->token + at, cut[s], k->depth[s].turns, k->depth[s].turns - k->depth[s].graded, k->after[s],
                   frozen, logits);
        for (int64_t t = 0; t < cut[s]; t++) {
            double sum = 0, *z = logits + t * VOCAB;
            for (int v = 0; v < VOCAB; v++) sum += exp(z[v]);
            if (k->target[at + t] >= 0) loss += log(sum) - z[k->target[at + t]];
        }
    }
    return loss;
}

#endif
