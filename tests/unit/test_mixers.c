/* test_mixers.c - the recurrent mixers and their controls against their formulas, written
 * again as plain loops in double, from which each part can be left out: the layer must equal
 * the whole and be far from each remainder.  Then what only some of them promise: EFLA's
 * limits, the freedom of mlstm's m, a sketch that is refused.  What all layers promise is
 * in test_layers.c.                                                                */
#include "core.h"
#include "model.h"
#include "pool.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 40 };

struct rig {
    struct spec *spec;
    struct solo *solo;
    int64_t d;
    unsigned char *state;
    float *x, *y;                           /* [ROWS][d]                              */
};

static uint64_t seed = 1;

static float uniform(void)                  /* in [-1, 1)                             */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 40) / 8388608.0 - 1.0);
}

static void must(chi_status e)
{
    cr_assert_eq(e, CHI_OK, "%s", fail_text());
}

static chi_status try_open(struct rig *r, const char *layer, int64_t d)
{
    struct config *config;
    *r = (struct rig){ .d = d };
    pool_threads(1);
    char *text = xprintf("[model]\nhidden_size = %d\nnum_hidden_layers = 1\nvocab_size = 97\nlayer_pattern = X\n"
                         "ffn_pattern = X\n[layer.X]\n%s[linear]\nquantizer = f32\n", (int)d, layer);
    must(config_load_text(&config, "test", text, NULL, 0));
    must(spec_open(&r->spec, config, SPEC_MODEL));
    free(text);
    return solo_open(&r->solo, r->spec, &r->spec->mixer[0], true, ROWS, 1);
}

static struct rig rig_open(const char *layer, int64_t d)
{
    struct rig r;
    const struct model_tensor *t;
    must(try_open(&r, layer, d));
    seed = 1;
    for (int64_t i = 0; (t = solo_tensor(r.solo, i)); i++)
        for (int64_t j = 0; j < t->n; j++) {
            t->w[j] = uniform() * (t->linear ? 2.0f / sqrtf((float)t->shape[1]) : 1.0f);
            if (strstr(t->name, "norm")) t->w[j] = 1 + 0.5f * t->w[j];
        }
    must(solo_bind(r.solo));
    r.state = aligned_alloc(64, (size_t)round_up(max_i64(solo_state_bytes(r.solo), 1), 64));
    r.x = xcalloc((size_t)(ROWS * d), sizeof *r.x);
    r.y = xcalloc((size_t)(ROWS * d), sizeof *r.y);
    for (int64_t i = 0; i < ROWS * d; i++) r.x[i] = uniform();
    return r;
}

static void rig_close(struct rig *r)
{
    solo_close(r->solo);
    spec_close(r->spec);
    free(r->state);
    free(r->x);
    free(r->y);
}

static void run_rows(struct rig *r, int64_t from, int64_t to)
{
    struct chi_segment seg = { .rows = to - from, .pos = from, .fresh = from == 0, .state = r->state };
    if (from == 0) memset(r->state, 0, (size_t)solo_state_bytes(r->solo));
    must(solo_forward(r->solo, &seg, 1, false, r->x + from * r->d, r->y + from * r->d));
}

static float *weight(const struct rig *r, const char *name)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = solo_tensor(r->solo, i)); i++)
        if (!strcmp(t->name, name)) return t->w;
    cr_assert_fail("there is no parameter %s", name);
    return NULL;
}

static void scale(const struct rig *r, const char *name, int64_t n, float factor)
{
    float *w = weight(r, name);
    for (int64_t i = 0; i < n; i++) w[i] *= factor;
    must(solo_bind(r->solo));
}

/* ---- formulas ---------------------------------------------------------------------- */

enum { WHOLE, NO_DECAY, NO_BETA, NO_CONV, NO_L2, NO_GATE, NO_NORM, NO_SCALE, NO_DELTA, NO_STEP, PROJECTION,
       NO_INPUT_GATE, NO_FORGET_GATE, NO_SUM, NO_FLOOR, NO_CAP, NO_MEAN, NO_FEATURE, NO_DT, NO_SKIP,
       NO_SILU, NO_BIAS, UNIT_KEYS, EULER };

static double logistic(double x) { return 1 / (1 + exp(-x)); }
static double softplus(double x) { return x > 30 ? x : log1p(exp(x)); }
static double silu(double x) { return x * logistic(x); }

static double *doubles(int64_t n)
{
    return xcalloc((size_t)n, sizeof(double));
}

static double *map(const float *w, const double *x, int64_t in, int64_t out)
{
    double *y = doubles(ROWS * out);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < in; i++) y[t * out + o] += (double)w[o * in + i] * x[t * in + i];
    return y;
}

static double *project(const struct rig *r, const char *name, int64_t out)
{
    double *x = doubles(ROWS * r->d);
    for (int64_t i = 0; i < ROWS * r->d; i++) x[i] = (double)r->x[i];
    double *y = map(weight(r, name), x, r->d, out);
    free(x);
    return y;
}

/* conv(x) of n channels of rows of ld                                               */
static double *convolve(const float *w, const float *bias, const double *x, int64_t ld, int64_t n, int64_t W,
                        bool without)
{
    double *y = doubles(ROWS * n);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t c = 0; c < n; c++) {
            double s = bias ? (double)bias[c] : 0;
            for (int64_t j = 0; j < W; j++)
                if (t - W + 1 + j >= 0) s += (double)w[c * W + j] * x[(t - W + 1 + j) * ld + c];
            y[t * n + c] = without ? x[t * ld + c] : s;
        }
    return y;
}

static void to_length_1(double *x, int64_t D)
{
    double s = 1e-6;
    for (int64_t c = 0; c < D; c++) s += x[c] * x[c];
    for (int64_t c = 0; c < D; c++) x[c] /= sqrt(s);
}

static double mean_square(const double *x, int64_t D)
{
    double s = 0;
    for (int64_t c = 0; c < D; c++) s += x[c] * x[c] / (double)D;
    return s;
}

/* Differs from the layer's output by how much of its largest value                  */
static double distance(const struct rig *r, const double *h, const char *out, int64_t n)
{
    double worst = 0, size = 0, *y = map(weight(r, out), h, n, r->d);
    for (int64_t i = 0; i < ROWS * r->d; i++) {
        worst = fmax(worst, fabs(y[i] - (double)r->y[i]));
        size = fmax(size, fabs((double)r->y[i]));
    }
    free(y);
    return worst / size;
}

typedef double formula(const struct rig *, int without);

/* parts[0] is WHOLE, and a number below 0 ends the list                             */
static void judge(const char *layer, int64_t d, formula *f, const int *parts)
{
    struct rig r = rig_open(layer, d);
    run_rows(&r, 0, ROWS);
    for (; *parts >= 0; parts++) {
        double e = f(&r, *parts);
        if (*parts == WHOLE) cr_expect(e < 5e-5, "%s: %g from its formula", layer, e);
        else cr_expect(e > 1e-2, "%s: only %g from its formula without part %d", layer, e, *parts);
    }
    rig_close(&r);
}

/* ---- mlstm: the paper's form, without m --------------------------------------------- */

static double capped(double x, double cap, int without)
{
    return without == NO_CAP ? x : cap * tanh(x / cap);
}

enum { XH = 3, XD = 4, XI = XH * XD, XW = 3 };

/* One step of one head: y[XD], normed                                               */
static void mlstm_step(const struct rig *r, double *C, double *z, const double *q, const double *k, const double *v,
                       double in, double keep, int64_t head, int without, double *y)
{
    double s = without == NO_SCALE ? 1 : 1 / sqrt((double)XD), sum = 0, mean = 0;
    for (int64_t c = 0; c < XD; c++) {
        z[c] = keep * z[c] + in * k[c];
        sum += s * z[c] * q[c];
    }
    double den = without == NO_FLOOR ? fabs(sum) : fmax(fabs(sum), 1);
    if (without == NO_SUM) den = 1;
    for (int64_t a = 0; a < XD; a++) {
        y[a] = 0;
        for (int64_t b = 0; b < XD; b++) {
            C[a * XD + b] = keep * C[a * XD + b] + in * v[a] * k[b];
            y[a] += s * C[a * XD + b] * q[b] / den;
        }
    }
    for (int64_t c = 0; c < XD; c++) mean += y[c] / XD;
    for (int64_t c = 0; c < XD && without != NO_MEAN; c++) y[c] -= mean;
    double size = sqrt(mean_square(y, XD) + 0.25);
    for (int64_t c = 0; c < XD && without != NO_NORM; c++)
        y[c] *= (double)weight(r, "multihead_norm.weight")[head * XD + c] / size;
}

static double *mlstm_cell(const struct rig *r, const double *q, const double *k, const double *v, const double *i,
                          const double *f, int without)
{
    double *C = doubles(XI * XD), *z = doubles(XI), *h = doubles(ROWS * XI);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t e = 0; e < XH; e++) {
            int64_t at = t * XI + e * XD;
            double in = exp(capped(i[t * XH + e] + (double)weight(r, "igate_preact.bias")[e], 2, without));
            double keep = logistic(capped(f[t * XH + e] + (double)weight(r, "fgate_preact.bias")[e], 2, without));
            if (without == NO_INPUT_GATE) in = 1;
            if (without == NO_FORGET_GATE) keep = 1;
            mlstm_step(r, C + e * XD * XD, z + e * XD, q + at, k + at, v + at, in, keep, e, without, h + at);
        }
    free(C); free(z);
    return h;
}

static double mlstm_formula(const struct rig *r, int without)
{
    double *q = project(r, "q.weight", XI), *k = project(r, "k.weight", XI), *v = project(r, "v.weight", XI);
    double *i = project(r, "igate_preact.weight", XH), *f = project(r, "fgate_preact.weight", XH);
    double *g = project(r, "ogate_preact.weight", XI), *h = mlstm_cell(r, q, k, v, i, f, without);
    for (int64_t c = 0; c < ROWS * XI && without != NO_GATE; c++) h[c] *= logistic(g[c]);
    double d = distance(r, h, "out_proj.weight", XI);
    free(q); free(k); free(v); free(g); free(h); free(i); free(f);
    return d;
}

/* Into column at of rows of 3 XI: the block-diagonal map of x, whose rows have ld values   */
static void headwise(const struct rig *r, const char *name, const double *x, int64_t ld, double *y, int64_t at)
{
    const float *w = weight(r, name);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t o = 0; o < XI; o++)
            for (int64_t i = 0; i < 2; i++)
                y[t * 3 * XI + at + o] += (double)w[o * 2 + i] * x[t * ld + o / 2 * 2 + i];
}

static double mlstm_v1_formula(const struct rig *r, int without)
{
    double *up = project(r, "proj_up.weight", 2 * XI), *qkv = doubles(ROWS * 3 * XI), *part[3];
    double *u = convolve(weight(r, "conv1d.weight"), without == NO_BIAS ? NULL : weight(r, "conv1d.bias"), up, 2 * XI,
                         XI, XW, without == NO_CONV);
    for (int64_t i = 0; i < ROWS * XI && without != NO_SILU; i++) u[i] = silu(u[i]);
    headwise(r, "q_proj.weight", u, XI, qkv, 0);
    headwise(r, "k_proj.weight", u, XI, qkv, XI);
    headwise(r, "v_proj.weight", up, 2 * XI, qkv, 2 * XI);
    for (int p = 0; p < 3; p++) {
        part[p] = doubles(ROWS * XI);
        for (int64_t t = 0; t < ROWS; t++)
            memcpy(part[p] + t * XI, qkv + (t * 3 + p) * XI, XI * sizeof(double));
    }
    double *i = map(weight(r, "igate_preact.weight"), qkv, 3 * XI, XH);
    double *f = map(weight(r, "fgate_preact.weight"), qkv, 3 * XI, XH);
    double *h = mlstm_cell(r, part[0], part[1], part[2], i, f, without);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t c = 0; c < XI; c++) {
            double *y = h + t * XI + c;
            if (without != NO_SKIP) *y += (double)weight(r, "learnable_skip")[c] * u[t * XI + c];
            if (without != NO_GATE) *y *= silu(up[t * 2 * XI + XI + c]);
        }
    double d = distance(r, h, "proj_down.weight", XI);
    free(up); free(qkv); free(u); free(i); free(f); free(h);
    for (int p = 0; p < 3; p++) free(part[p]);
    return d;
}

#define CELL "num_heads = 3\nhead_dim = 4\ngate_soft_cap = 2\nnorm_eps = 0.25\ncell_eps = 0\n"

/* A large norm_eps, since the norm hides what scales a whole head                    */
Test(mixers, mlstm_is_its_formula_and_none_without_a_part)
{
    static const int parts[] = { WHOLE, NO_INPUT_GATE, NO_FORGET_GATE, NO_SUM, NO_FLOOR, NO_CAP, NO_NORM, NO_MEAN,
                                 NO_GATE, NO_SCALE, -1 };
    static const int v1[] = { WHOLE, NO_INPUT_GATE, NO_FORGET_GATE, NO_SUM, NO_CAP, NO_NORM, NO_MEAN, NO_GATE,
                              NO_SCALE, NO_CONV, NO_BIAS, NO_SILU, NO_SKIP, -1 };
    judge("use = mlstm\n" CELL, 7, mlstm_formula, parts);
    judge("use = mlstm\nblock = v1\nconv_size = 3\nqkv_proj_blocksize = 2\n" CELL, 7, mlstm_v1_formula, v1);
}

/* (C, n, m) and (C e^c, n e^c, m - c) are the same memory                             */
Test(mixers, mlstm_may_move_m)
{
    struct rig r = rig_open("use = mlstm\nnum_heads = 2\nhead_dim = 8\ncell_eps = 0\n", 12);
    float first[ROWS * 12], *S = (float *)(void *)r.state;
    int64_t n = 2 * 9 * 8, m = round_up(n * 4, 64) / 4;

    run_rows(&r, 0, ROWS);
    memcpy(first, r.y, sizeof first);
    run_rows(&r, 0, ROWS / 2);
    for (int64_t i = 0; i < n; i++) S[i] *= expf(1.5f);
    S[m] -= 1.5f;
    S[m + 1] -= 1.5f;
    run_rows(&r, ROWS / 2, ROWS);
    for (int64_t i = 0; i < ROWS * 12; i++)
        cr_assert(fabsf(first[i] - r.y[i]) < 2e-5f, "%g, not %g", (double)r.y[i], (double)first[i]);
    S[m] -= 1.5f;
    run_rows(&r, ROWS / 2, ROWS);
    cr_assert(memcmp(first, r.y, sizeof first) != 0, "m has no effect");
    rig_close(&r);
}

Test(mixers, mlstm_refuses_blocks_that_do_not_fit)
{
    struct rig r;
    cr_assert_eq(try_open(&r, "use = mlstm\nblock = v1\nnum_heads = 2\nhead_dim = 5\n", 12), CHI_ESHAPE);
    cr_assert(strstr(fail_text(), "qkv_proj_blocksize"), "%s", fail_text());
    spec_close(r.spec);
    cr_assert_eq(try_open(&r, "use = mlstm\nblock = v1\nnum_heads = 2\nhead_dim = 8\nhead_v_dim = 4\n", 12),
                 CHI_ESHAPE);
    cr_assert(strstr(fail_text(), "head_v_dim"), "%s", fail_text());
    spec_close(r.spec);
}

/* Gates far outside of what exp can hold                                               */
Test(mixers, mlstm_stays_finite)
{
    for (float sign = -1; sign <= 1; sign += 2) {
        struct rig r = rig_open("use = mlstm\nnum_heads = 2\nhead_dim = 8\ngate_soft_cap = 80\n", 12);
        for (int64_t i = 0; i < 2; i++) {
            weight(&r, "igate_preact.bias")[i] = sign * 300;
            weight(&r, "fgate_preact.bias")[i] = i ? 300 : -300;
        }
        run_rows(&r, 0, ROWS);
        for (int64_t i = 0; i < ROWS * r.d; i++) cr_assert(isfinite(r.y[i]));
        rig_close(&r);
    }
}

/* ---- the delta rule's family ----------------------------------------------------------- */

enum { KH = 2, KD = 8, KW = 3 };

static double *conv_silu(const struct rig *r, char which, int without)
{
    char linear[] = "?_proj.weight", filter[] = "?_conv1d.weight";
    linear[0] = filter[0] = which;
    double *p = project(r, linear, KH * KD);
    double *y = convolve(weight(r, filter), NULL, p, KH * KD, KH * KD, KW, without == NO_CONV);
    for (int64_t i = 0; i < ROWS * KH * KD; i++) y[i] = silu(y[i]);
    free(p);
    return y;
}

static double strength(const double *k, double beta, int without)
{
    double lambda = mean_square(k, KD) * KD;
    if (without == NO_STEP) return beta;
    return without == PROJECTION ? 1 / lambda : -expm1(-beta * lambda) / lambda;
}

static void write(double *S, const double *k, const double *v, double b, int without)
{
    for (int64_t i = 0; i < KD; i++) {
        double p = 0;
        for (int64_t j = 0; j < KD && without != NO_DELTA; j++) p += S[i * KD + j] * k[j];
        for (int64_t j = 0; j < KD; j++) S[i * KD + j] += b * (v[i] - p) * k[j];
    }
}

struct family { bool decay, gate, efla; };

/* One step of one head: h[KD]                                                             */
static void family_step(const struct rig *r, struct family has, double *S, const double *q, const double *k,
                        const double *v, double alpha, double beta, int without, double *h)
{
    const float *gain = weight(r, "o_norm.weight");
    for (int64_t i = 0; i < KD * KD; i++) S[i] *= alpha;
    if (without == EULER)
        for (int i = 0; i < 4000; i++) write(S, k, v, beta / 4000, WHOLE);
    else
        write(S, k, v, has.efla ? strength(k, beta, without) : beta, without);
    for (int64_t i = 0; i < KD; i++) {
        h[i] = 0;
        for (int64_t j = 0; j < KD; j++) h[i] += S[i * KD + j] * q[j] / sqrt((double)KD);
    }
    double size = sqrt(mean_square(h, KD) + r->spec->model.rms_norm_eps);
    for (int64_t i = 0; i < KD && without != NO_NORM; i++) h[i] *= (double)gain[i] / size;
}

static double family_formula(const struct rig *r, struct family has, double top, int without)
{
    enum { n = KH * KD };
    double *q = conv_silu(r, 'q', without), *k = conv_silu(r, 'k', without), *v = conv_silu(r, 'v', without);
    double *b = project(r, "b_proj.weight", KH), *h = doubles(ROWS * n), *S = doubles(n * KD);
    double *a = has.decay ? project(r, "a_proj.weight", KH) : NULL;
    double *g = has.gate ? project(r, "g_proj.weight", n) : NULL;

    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t i = 0; i < KH; i++) {
            int64_t at = t * n + i * KD;
            double beta = without == NO_BETA ? 1 : top * logistic(b[t * KH + i]), alpha = 1;
            if (a && without != NO_DECAY)
                alpha = exp(-exp((double)weight(r, "A_log")[i])
                            * softplus(a[t * KH + i] + (double)weight(r, "dt_bias")[i]));
            if (without != NO_L2) to_length_1(q + at, KD);
            if ((!has.efla && without != NO_L2) || without == UNIT_KEYS) to_length_1(k + at, KD);
            family_step(r, has, S + i * KD * KD, q + at, k + at, v + at, alpha, beta, without, h + at);
            for (int64_t c = 0; g && c < KD && without != NO_GATE; c++) h[at + c] *= silu(g[at + c]);
        }
    double d = distance(r, h, "o_proj.weight", n);
    free(q); free(k); free(v); free(b); free(h); free(S); free(a); free(g);
    return d;
}

static double deltanet_formula(const struct rig *r, int without)
{
    return family_formula(r, (struct family){ .efla = false }, 1, without);
}

static double gated_formula(const struct rig *r, int without)
{
    return family_formula(r, (struct family){ .gate = true }, 2, without);
}

static double knot_formula(const struct rig *r, int without)
{
    return family_formula(r, (struct family){ .decay = true, .gate = true }, 1, without);
}

static double efla_formula(const struct rig *r, int without)
{
    return family_formula(r, (struct family){ true, true, true }, 1, without);
}

#define SHAPE "num_heads = 2\nhead_dim = 8\nconv_size = 3\n"

Test(mixers, deltanet_is_its_formula_and_none_without_a_part)
{
    static const int parts[] = { WHOLE, NO_BETA, NO_CONV, NO_L2, NO_NORM, NO_DELTA, -1 };
    static const int gated[] = { WHOLE, NO_BETA, NO_GATE, -1 };
    judge("use = deltanet\n" SHAPE, 12, deltanet_formula, parts);
    judge("use = deltanet\nuse_gate = yes\nallow_neg_eigval = yes\n" SHAPE, 12, gated_formula, gated);
}

Test(mixers, span_knot_is_its_formula_and_none_without_a_part)
{
    static const int plain[] = { WHOLE, NO_DECAY, NO_BETA, NO_CONV, NO_L2, NO_GATE, NO_NORM, NO_DELTA, -1 };
    static const int exact[] = { WHOLE, NO_DECAY, NO_BETA, NO_CONV, NO_L2, UNIT_KEYS, NO_STEP, PROJECTION, NO_GATE,
                                 NO_NORM, NO_DELTA, -1 };
    judge("use = span_knot\n" SHAPE, 12, knot_formula, plain);
    judge("use = span_knot\nefla = yes\n" SHAPE, 12, efla_formula, exact);
}

/* beta |k|^2 -> 0: the delta rule with beta; large: what stood at k is replaced; between: the
 * flow of dS/dt = (v - S k) k', here in 4000 small steps                                */
Test(mixers, efla_has_its_limits)
{
    static const struct { float times; int equal, other; double near; } limit[] = {
        { 3e-3f, NO_STEP, PROJECTION, 5e-5 }, { 300, PROJECTION, NO_STEP, 5e-3 }, { 1, EULER, NO_STEP, 5e-3 },
    };
    for (int64_t i = 0; i < COUNT(limit); i++) {
        struct rig r = rig_open("use = span_knot\nefla = yes\n" SHAPE, 12);
        scale(&r, "k_proj.weight", KH * KD * r.d, limit[i].times);
        run_rows(&r, 0, ROWS);
        double e = efla_formula(&r, limit[i].equal), far = efla_formula(&r, limit[i].other);
        cr_expect(e < limit[i].near, "keys times %g: %g from the limit", (double)limit[i].times, e);
        cr_expect(!(far < 1e-2), "keys times %g: %g from the other limit", (double)limit[i].times, far);
        rig_close(&r);
    }
}

Test(mixers, span_knot_refuses_a_sketch_that_does_not_exist)
{
    struct rig r;
    cr_assert_eq(try_open(&r, "use = span_knot\nsketch = yes\n" SHAPE, 12), CHI_ECONF);
    cr_assert(strstr(fail_text(), "sketch"), "%s", fail_text());
    spec_close(r.spec);
}

/* ---- controls ----------------------------------------------------------------------------- */

static double feature(double x, int without)
{
    return without == NO_FEATURE ? x : x > 0 ? x + 1 : exp(x);
}

static double attention_formula(const struct rig *r, int without)
{
    enum { H = 3, D = 5, n = H * D };
    double *q = project(r, "q_proj.weight", n), *k = project(r, "k_proj.weight", n);
    double *v = project(r, "v_proj.weight", n), *h = doubles(ROWS * n);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t e = 0; e < n; e += D) {
            double sum = 1e-6;
            for (int64_t j = 0; j <= t; j++) {
                double p = 0;
                for (int64_t c = e; c < e + D; c++) p += feature(q[t * n + c], without) * feature(k[j * n + c],
                                                                                                  without);
                sum += p;
                for (int64_t c = e; c < e + D; c++) h[t * n + c] += p * v[j * n + c];
            }
            for (int64_t c = e; c < e + D && without != NO_SUM; c++) h[t * n + c] /= sum;
        }
    double d = distance(r, h, "o_proj.weight", n);
    free(q); free(k); free(v); free(h);
    return d;
}

Test(mixers, linear_attention_is_its_formula_and_none_without_a_part)
{
    static const int parts[] = { WHOLE, NO_FEATURE, NO_SUM, -1 };
    judge("use = linear_attention\nnum_heads = 3\nhead_dim = 5\n", 7, attention_formula, parts);
}

static double conv_formula(const struct rig *r, int without)
{
    enum { n = 10, W = 5 };
    double *v = project(r, "v_proj.weight", n), *g = project(r, "g_proj.weight", n);
    double *h = convolve(weight(r, "conv1d.weight"), NULL, v, n, n, W, without == NO_CONV);
    for (int64_t i = 0; i < ROWS * n && without != NO_GATE; i++) h[i] *= without == NO_SILU ? g[i] : silu(g[i]);
    double d = distance(r, h, "o_proj.weight", n);
    free(v); free(g); free(h);
    return d;
}

Test(mixers, causal_conv_is_its_formula_and_none_without_a_part)
{
    static const int parts[] = { WHOLE, NO_CONV, NO_GATE, NO_SILU, -1 };
    judge("use = causal_conv\nchannels = 10\nconv_size = 5\n", 12, conv_formula, parts);
}

enum { MH = 2, MP = 4, MN = 9, MI = MH * MP, MC = MI + 2 * MN };

/* o + D x of one head, whose u holds x of all heads, B, C                                  */
static void mamba2_step(const struct rig *r, double *S, const double *u, double dt, int64_t head, int without,
                        double *y)
{
    double keep = exp(-exp((double)weight(r, "A_log")[head]) * dt), b = without == NO_DT ? 1 : dt;
    if (without == NO_DECAY) keep = 1;
    for (int64_t p = 0; p < MP; p++) {
        double x = u[head * MP + p];
        y[p] = without == NO_SKIP ? 0 : (double)weight(r, "D")[head] * x;
        for (int64_t j = 0; j < MN; j++) {
            S[p * MN + j] = keep * S[p * MN + j] + b * x * u[MI + j];
            y[p] += S[p * MN + j] * u[MI + MN + j];
        }
    }
}

static double mamba2_formula(const struct rig *r, int without)
{
    double *p = project(r, "in_proj.weight", MI + MC), *dt = project(r, "dt_proj.weight", MH);
    double *u = convolve(weight(r, "conv1d.weight"), without == NO_BIAS ? NULL : weight(r, "conv1d.bias"), p + MI,
                         MI + MC, MC, 4, without == NO_CONV);
    double *h = doubles(ROWS * MI), *S = doubles(MI * MN);
    for (int64_t i = 0; i < ROWS * MC && without != NO_SILU; i++) u[i] = silu(u[i]);
    for (int64_t t = 0; t < ROWS; t++) {
        double *y = h + t * MI;
        for (int64_t e = 0; e < MH; e++)
            mamba2_step(r, S + e * MP * MN, u + t * MC, softplus(dt[t * MH + e] + (double)weight(r, "dt_bias")[e]), e,
                        without, y + e * MP);
        for (int64_t c = 0; c < MI && without != NO_GATE; c++) y[c] *= silu(p[t * (MI + MC) + c]);
        double size = sqrt(mean_square(y, MI) + r->spec->model.rms_norm_eps);
        for (int64_t c = 0; c < MI && without != NO_NORM; c++) y[c] *= (double)weight(r, "norm.weight")[c] / size;
    }
    double d = distance(r, h, "out_proj.weight", MI);
    free(p); free(dt); free(u); free(h); free(S);
    return d;
}

Test(mixers, mamba2_is_its_formula_and_none_without_a_part)
{
    static const int parts[] = { WHOLE, NO_DECAY, NO_DT, NO_SKIP, NO_CONV, NO_BIAS, NO_SILU, NO_GATE, NO_NORM, -1 };
    judge("use = mamba2\nnum_heads = 2\nhead_dim = 4\nstate_dim = 9\n", 12, mamba2_formula, parts);
}
