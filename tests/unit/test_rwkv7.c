/* test_rwkv7.c - RWKV-7's time mixing against its formula (arXiv 2503.14456, section 4), written
 * again as plain loops in double, from which each part can be left out: the layer must equal the
 * whole and be far from each remainder.  What all layers promise is proven by validate.         */
#include "layer_rig.h"

enum { WHOLE, NO_SHIFT, NO_DECAY, NO_REMOVAL, NO_RATE, NO_REPLACEMENT, NO_UNIT, NO_BONUS, NO_NORM, NO_BIAS,
       NO_GATE, NO_TANH, NO_SIGMOID, PARTS };

static const float *weight(const struct rig *r, const char *name)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = solo_tensor(r->solo, i)); i++)
        if (!strcmp(t->name, name)) return t->w;
    cr_assert_fail("there is no parameter %s", name);
    return NULL;
}

static double logistic(double x) { return 1 / (1 + exp(-x)); }

/* y = W (x_t + mu (x_{t-1} - x_t))                                              */
static void shifted(const struct rig *r, const char *mu, const char *name, int64_t t, int64_t out, int without,
                    double *y)
{
    const float *m = weight(r, mu), *w = weight(r, name), *x = r->x + t * r->d;
    for (int64_t o = 0; o < out; o++) {
        y[o] = 0;
        for (int64_t i = 0; i < r->d; i++) {
            double now = x[i], before = t ? x[i - r->d] : 0;
            y[o] += (double)w[o * r->d + i] * (without == NO_SHIFT ? now : now + (double)m[i] * (before - now));
        }
    }
}

static void expand(const struct rig *r, const char *name, const double *h, int64_t rank, int64_t n, double *y)
{
    const float *w = weight(r, name);
    for (int64_t o = 0; o < n; o++) {
        y[o] = 0;
        for (int64_t i = 0; i < rank; i++) y[o] += (double)w[o * rank + i] * h[i];
    }
}

enum { HEAD = 8, WIDEST = 24, RANK = 5 };
struct row { double r[WIDEST], k[WIDEST], v[WIDEST], w[WIDEST], a[WIDEST], g[WIDEST]; };

static struct row row_of(const struct rig *r, int64_t t, int64_t n, int without)
{
    struct row x;
    double h[RANK];
    shifted(r, "x_r", "r_proj.weight", t, n, without, x.r);
    shifted(r, "x_k", "k_proj.weight", t, n, without, x.k);
    shifted(r, "x_v", "v_proj.weight", t, n, without, x.v);
    shifted(r, "x_w", "w_down.weight", t, RANK, without, h);
    for (int i = 0; i < RANK && without != NO_TANH; i++) h[i] = tanh(h[i]);
    expand(r, "w_up.weight", h, RANK, n, x.w);
    shifted(r, "x_a", "a_down.weight", t, RANK, without, h);
    expand(r, "a_up.weight", h, RANK, n, x.a);
    shifted(r, "x_g", "g_down.weight", t, RANK, without, h);
    for (int i = 0; i < RANK && without != NO_SIGMOID; i++) h[i] = logistic(h[i]);
    expand(r, "g_up.weight", h, RANK, n, x.g);
    for (int64_t i = 0; i < n; i++) {
        double d = logistic((double)weight(r, "w0")[i] + x.w[i]);
        x.w[i] = without == NO_DECAY ? 1 : exp(-exp(-0.5) * d);
        x.a[i] = without == NO_RATE ? 1 : logistic((double)weight(r, "a0")[i] + x.a[i]);
    }
    return x;
}

/* One step of the head whose numbers begin at `at`; x->r becomes what the head gives */
static void step(const struct rig *rig, double *S, struct row *x, int64_t at, int without)
{
    const float *k_k = weight(rig, "k_k") + at, *k_a = weight(rig, "k_a") + at, *r_k = weight(rig, "r_k") + at;
    const float *gain = weight(rig, "o_norm.weight") + at, *bias = weight(rig, "o_norm.bias") + at;
    double *r = x->r + at, *k = x->k + at, *v = x->v + at, *w = x->w + at, *a = x->a + at, *g = x->g + at;
    double c[HEAD], l[HEAD], o[HEAD], length = 0, strength = 0, mean = 0, square = 0;

    for (int i = 0; i < HEAD; i++) length += pow(k[i] * (double)k_k[i], 2);
    for (int i = 0; i < HEAD; i++) {
        c[i] = k[i] * (double)k_k[i] / (without == NO_UNIT ? 1 : sqrt(length));
        l[i] = without == NO_REPLACEMENT ? k[i] : k[i] * (1 + (a[i] - 1) * (double)k_a[i]);
        strength += r[i] * (double)r_k[i] * l[i];
    }
    for (int i = 0; i < HEAD; i++) {
        double p = 0;
        for (int j = 0; j < HEAD && without != NO_REMOVAL; j++) p += S[i * HEAD + j] * c[j];
        o[i] = 0;
        for (int j = 0; j < HEAD; j++) {
            S[i * HEAD + j] = S[i * HEAD + j] * w[j] - p * a[j] * c[j] + v[i] * l[j];
            o[i] += S[i * HEAD + j] * r[j];
        }
        mean += o[i] / HEAD;
    }
    for (int i = 0; i < HEAD; i++) square += pow(o[i] - mean, 2) / HEAD;
    for (int i = 0; i < HEAD; i++) {
        double u = without == NO_NORM ? o[i] : (o[i] - mean) / sqrt(square + 1e-5 * HEAD) * (double)gain[i];
        if (without != NO_BIAS) u += (double)bias[i];
        if (without != NO_BONUS) u += strength * v[i];
        r[i] = without == NO_GATE ? u : u * g[i];
    }
}

static void reference(const struct rig *r, int64_t heads, int without, double *y)
{
    int64_t n = heads * HEAD;
    double *S = xcalloc((size_t)(n * HEAD), sizeof *S);
    for (int64_t t = 0; t < ROWS; t++) {
        struct row x = row_of(r, t, n, without);
        for (int64_t h = 0; h < heads; h++) step(r, S + h * HEAD * HEAD, &x, h * HEAD, without);
        expand(r, "o_proj.weight", x.r, n, r->d, y + t * r->d);
    }
    free(S);
}

static double distance(const struct rig *r, const float *got, const double *y)
{
    double worst = 0, size = 0;
    for (int64_t i = 0; i < ROWS * r->d; i++) {
        worst = fmax(worst, fabs(y[i] - (double)got[i]));
        size = fmax(size, fabs(y[i]));
    }
    return worst / size;
}

static const struct shape three_heads =
    { "use = rwkv7\nnum_heads = 3\nhead_dim = 8\ndecay_rank = 5\nrate_rank = 5\ngate_rank = 5\n", 11 };

Test(rwkv7, is_its_formula_and_none_without_a_part)
{
    struct rig r = rig_open(&three_heads);
    double *y = xcalloc((size_t)(ROWS * r.d), sizeof *y);
    for (int keep = 0; keep < 2; keep++) {          /* inference, training               */
        struct chi_segment all = segment(&r, 0, 0, ROWS, 0);
        memset(r.state, 0, (size_t)r.state_bytes);
        must(solo_forward(r.solo, &all, 1, keep, r.x, r.y));
        for (int part = WHOLE; part < PARTS; part++) {
            reference(&r, 3, part, y);
            double e = distance(&r, r.y, y);
            if (part == WHOLE) cr_assert(e < 5e-5, "%g from the formula", e);
            else cr_assert(e > 1e-2, "only %g from the formula without its part %d", e, part);
        }
    }
    free(y);
    rig_close(&r);
}

static double loss(const struct rig *r, double *y)
{
    double sum = 0;
    reference(r, 3, WHOLE, y);
    for (int64_t i = 0; i < ROWS * r->d; i++) sum += y[i] * (double)r->dy[i];
    return sum;
}

/* Differences of fourth order of the formula, which is double throughout                        */
static double slope(const struct rig *r, float *value, double *y)
{
    static const double times[4] = { 1, -1, 2, -2 };
    const float was = *value, h = 1.0f / 2048;
    double f[4];
    for (int i = 0; i < 4; i++) {
        *value = was + (float)times[i] * h;
        f[i] = loss(r, y);
    }
    *value = was;
    return (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * (double)h);
}

static void check_slopes(struct rig *r, const char *what, float *value, const float *got, int64_t n, double *y)
{
    double size = 0;
    for (int64_t i = 0; i < n; i++) size = fmax(size, fabs((double)got[i]));
    for (int64_t i = n / 7; i < n; i += n / 3 + 1) {
        double want = slope(r, &value[i], y);
        cr_assert(fabs(want - (double)got[i]) <= 1e-3 * size, "d/d%s[%d] is %g, of the formula %g", what, (int)i,
                  (double)got[i], want);
    }
}

Test(rwkv7, gradients_are_those_of_its_formula)
{
    struct rig r = rig_open(&three_heads);
    const struct model_tensor *t;
    double *y = xcalloc((size_t)(ROWS * r.d), sizeof *y);
    struct chi_segment all = segment(&r, 0, 0, ROWS, 0);
    memset(r.state, 0, (size_t)r.state_bytes);
    must(solo_forward(r.solo, &all, 1, true, r.x, r.y));
    memset(r.state, 0, (size_t)r.state_bytes);
    all.dstate = NULL;
    for (int64_t i = 0; (t = solo_tensor(r.solo, i)); i++) memset(t->g, 0, (size_t)t->n * sizeof *t->g);
    memset(r.dx, 0, (size_t)(ROWS * r.d) * sizeof *r.dx);
    must(solo_backward(r.solo, &all, 1, r.x, r.dy, r.dx));
    check_slopes(&r, "x", r.x, r.dx, ROWS * r.d, y);
    for (int64_t i = 0; (t = solo_tensor(r.solo, i)); i++) check_slopes(&r, t->name, t->w, t->g, t->n, y);
    free(y);
    rig_close(&r);
}

/* Row by row, from the state that each row left, the formula of the whole holds as well         */
Test(rwkv7, row_by_row_is_its_formula)
{
    struct rig r = rig_open(&three_heads);
    double *y = xcalloc((size_t)(ROWS * r.d), sizeof *y);
    for (int64_t t = 0; t < ROWS; t++) run_rows(&r, t, t + 1, true, r.y);
    reference(&r, 3, WHOLE, y);
    double e = distance(&r, r.y, y);
    cr_assert(e < 5e-5, "%g from the formula", e);
    free(y);
    rig_close(&r);
}

/* Beside alignment to 64 bytes the state holds nothing else                                     */
Test(rwkv7, state_bytes_are_the_matrices_and_one_row)
{
    struct rig r = rig_open(&three_heads);
    int64_t want = 3 * HEAD * HEAD * 4 + 11 * 4, bytes = solo_state_bytes(r.solo);
    cr_assert(bytes >= want && bytes <= want + 128, "%d bytes of state", (int)bytes);
    rig_close(&r);
}
