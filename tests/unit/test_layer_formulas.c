/* test_layer_formulas.c - the layers' formulas, written again as plain loops in double, from
 * which each part can be left out: the layer must equal the whole and be far from each remainder.  */
#include "layer_rig.h"

enum { WHOLE, NO_DECAY, NO_BETA, NO_CONV, NO_L2, NO_GATE, NO_NORM, NO_SCALE, NO_DELTA, NO_ROPE, NO_WINDOW,
       NO_SILU, NO_UP };

static const float *weight(const struct rig *r, const char *name)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = solo_tensor(r->solo, i)); i++) {
        size_t a = strlen(t->name), b = strlen(name);
        if (a >= b && strcmp(t->name + a - b, name) == 0) return t->w;
    }
    cr_assert_fail("there is no parameter %s", name);
    return NULL;
}

static double *project(const struct rig *r, const char *name, int64_t out)
{
    const float *w = weight(r, name);
    double *y = calloc((size_t)(ROWS * out), sizeof *y);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < r->d; i++) y[t * out + o] += (double)w[o * r->d + i] * (double)r->x[t * r->d + i];
    return y;
}

static void project_out(const struct rig *r, const char *name, const double *h, int64_t n, double *y)
{
    const float *w = weight(r, name);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t o = 0; o < r->d; o++) {
            y[t * r->d + o] = 0;
            for (int64_t i = 0; i < n; i++) y[t * r->d + o] += (double)w[o * n + i] * h[t * n + i];
        }
}

static double logistic(double x) { return 1 / (1 + exp(-x)); }

/* silu(conv(p)), then each head to length 1 if unit                             */
static double *short_conv(const struct rig *r, double *p, const char *name, int64_t H, int64_t D,
                          int64_t W, bool unit, int without)
{
    const float *w = weight(r, name);
    int64_t n = H * D;
    double *y = calloc((size_t)(ROWS * n), sizeof *y);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t c = 0; c < n; c++) {
            double s = without == NO_CONV ? p[t * n + c] : 0;
            for (int64_t j = 0; j < W && without != NO_CONV; j++)
                if (t - W + 1 + j >= 0) s += (double)w[c * W + j] * p[(t - W + 1 + j) * n + c];
            y[t * n + c] = s * logistic(s);
        }
    for (double *h = y; unit && without != NO_L2 && h < y + ROWS * n; h += D) {
        double s = 1e-6;
        for (int64_t c = 0; c < D; c++) s += h[c] * h[c];
        for (int64_t c = 0; c < D; c++) h[c] /= sqrt(s);
    }
    free(p);
    return y;
}

/* One step of one head: S, o and then the gated output h[D]                     */
static void delta_step(const struct rig *r, double *S, const double *q, const double *k, const double *v,
                       const double *g, double alpha, double beta, int64_t D, int without, double *h)
{
    const float *gain = weight(r, "o_norm.weight");
    double mean = 0, scale = without == NO_SCALE ? 1 : 1 / sqrt((double)D);
    for (int64_t i = 0; i < D; i++) {
        double p = 0;
        for (int64_t j = 0; j < D; j++) p += (S[i * D + j] *= alpha) * k[j];
        double u = beta * (v[i] - (without == NO_DELTA ? 0 : p));
        h[i] = 0;
        for (int64_t j = 0; j < D; j++) h[i] += (S[i * D + j] += u * k[j]) * q[j] * scale;
        mean += h[i] * h[i] / (double)D;
    }
    for (int64_t i = 0; i < D; i++) {
        if (without != NO_NORM) h[i] *= (double)gain[i] / sqrt(mean + r->spec->model.rms_norm_eps);
        if (without != NO_GATE) h[i] *= g[i] * logistic(g[i]);
    }
}

static void gdn_reference(const struct rig *r, int64_t H, int64_t D, int64_t W, double top, int without, double *y)
{
    int64_t n = H * D;
    double *q = short_conv(r, project(r, "q_proj.weight", n), "q_conv1d.weight", H, D, W, true, without);
    double *k = short_conv(r, project(r, "k_proj.weight", n), "k_conv1d.weight", H, D, W, true, without);
    double *v = short_conv(r, project(r, "v_proj.weight", n), "v_conv1d.weight", H, D, W, false, without);
    double *g = project(r, "g_proj.weight", n), *h = calloc((size_t)(ROWS * n), sizeof *h);
    double *a = project(r, "a_proj.weight", H), *b = project(r, "b_proj.weight", H);
    double *S = calloc((size_t)(n * D), sizeof *S);
    const float *A_log = weight(r, "A_log"), *dt_bias = weight(r, "dt_bias");

    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t i = 0; i < H; i++) {
            double decay = exp(-exp((double)A_log[i]) * log1p(exp(a[t * H + i] + (double)dt_bias[i])));
            double beta = top * logistic(b[t * H + i]);
            int64_t at = t * n + i * D;
            delta_step(r, S + i * D * D, q + at, k + at, v + at, g + at, without == NO_DECAY ? 1 : decay,
                       without == NO_BETA ? 1 : beta, D, without, h + at);
        }
    project_out(r, "o_proj.weight", h, n, y);
    free(q); free(k); free(v); free(g); free(h); free(a); free(b); free(S);
}

static void rotate(double *x, int64_t H, int64_t D, double theta)
{
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t i = 0; i < H; i++)
            for (int64_t j = 0; j < D / 2; j++) {
                double angle = (double)t * pow(theta, -2.0 * (double)j / (double)D);
                double *a = x + t * H * D + i * D + j, *b = a + D / 2, p = *a;
                *a = p * cos(angle) - *b * sin(angle);
                *b = p * sin(angle) + *b * cos(angle);
            }
}

static void attention_reference(const struct rig *r, int64_t H, int64_t D, int64_t window, double theta,
                                int without, double *y)
{
    int64_t n = H * D;
    double *q = project(r, "q_proj.weight", n), *k = project(r, "k_proj.weight", n);
    double *v = project(r, "v_proj.weight", n), *h = calloc((size_t)(ROWS * n), sizeof *h), p[ROWS];
    if (without != NO_ROPE) {
        rotate(q, H, D, theta);
        rotate(k, H, D, theta);
    }
    if (without == NO_WINDOW) window = ROWS;
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t i = 0; i < H; i++) {
            double sum = 0;
            for (int64_t j = max_i64(0, t - window + 1); j <= t; j++) {
                double z = 0;
                for (int64_t c = i * D; c < (i + 1) * D; c++) z += q[t * n + c] * k[j * n + c];
                sum += p[j] = exp(without == NO_SCALE ? z : z / sqrt((double)D));
            }
            for (int64_t j = max_i64(0, t - window + 1); j <= t; j++)
                for (int64_t c = i * D; c < (i + 1) * D; c++) h[t * n + c] += p[j] / sum * v[j * n + c];
        }
    project_out(r, "o_proj.weight", h, n, y);
    free(q); free(k); free(v); free(h);
}

static void swiglu_reference(const struct rig *r, int64_t n, int without, double *y)
{
    double *g = project(r, "gate_proj.weight", n), *u = project(r, "up_proj.weight", n);
    for (int64_t i = 0; i < ROWS * n; i++)
        g[i] *= (without == NO_SILU ? 1 : logistic(g[i])) * (without == NO_UP ? 1 : u[i]);
    project_out(r, "down_proj.weight", g, n, y);
    free(g); free(u);
}

/* Largest difference from the layer's output, relative to its largest value     */
static double distance(const struct rig *r, const double *y)
{
    double worst = 0, size = 0;
    for (int64_t i = 0; i < ROWS * r->d; i++) {
        worst = fmax(worst, fabs(y[i] - (double)r->y[i]));
        size = fmax(size, fabs((double)r->y[i]));
    }
    return worst / size;
}

static void judge(const struct rig *r, int without, const double *y)
{
    double e = distance(r, y);
    if (without == WHOLE) cr_assert(e < 5e-5, "%g from the formula", e);
    else cr_assert(e > 1e-2, "only %g from the formula without its part %d", e, without);
}

Test(layer_formulas, gated_deltanet_is_its_formula_and_none_without_a_part)
{
    static const int parts[] = { WHOLE, NO_DECAY, NO_BETA, NO_CONV, NO_L2, NO_GATE, NO_NORM, NO_DELTA };
    struct rig r = rig_open(&shapes[0]);
    double *y = calloc((size_t)(ROWS * r.d), sizeof *y);
    run_rows(&r, 0, ROWS, false, r.y);
    for (int64_t i = 0; i < COUNT(parts); i++) {
        gdn_reference(&r, 2, 8, 4, 1, parts[i], y);
        judge(&r, parts[i], y);
    }
    rig_close(&r);

    struct rig other = rig_open(&shapes[2]);            /* beta up to 2          */
    run_rows(&other, 0, ROWS, false, other.y);
    gdn_reference(&other, 1, 17, 1, 2, WHOLE, y);
    judge(&other, WHOLE, y);
    gdn_reference(&other, 1, 17, 1, 1, WHOLE, y);
    cr_assert(distance(&other, y) > 1e-2, "allow_neg_eigval changes nothing");
    rig_close(&other);
    free(y);
}

/* With a tiny o the norm's eps shows whether q was scaled by D^-1/2             */
Test(layer_formulas, gated_deltanet_scales_its_queries)
{
    struct rig r = rig_open(&shapes[0]);
    double *y = calloc((size_t)(ROWS * r.d), sizeof *y);
    float *w = (float *)(uintptr_t)weight(&r, "v_proj.weight");
    for (int64_t i = 0; i < 16 * r.d; i++) w[i] *= 1e-2f;
    must(solo_bind(r.solo));
    run_rows(&r, 0, ROWS, false, r.y);
    gdn_reference(&r, 2, 8, 4, 1, WHOLE, y);
    judge(&r, WHOLE, y);
    gdn_reference(&r, 2, 8, 4, 1, NO_SCALE, y);
    judge(&r, NO_SCALE, y);
    rig_close(&r);
    free(y);
}

Test(layer_formulas, attention_is_its_formula_and_none_without_a_part)
{
    static const int parts[] = { WHOLE, NO_ROPE, NO_WINDOW, NO_SCALE };
    struct rig r = rig_open(&shapes[5]);
    double *y = calloc((size_t)(ROWS * r.d), sizeof *y);
    run_rows(&r, 0, ROWS, false, r.y);
    for (int64_t i = 0; i < COUNT(parts); i++) {
        attention_reference(&r, 3, 6, 5, 100, parts[i], y);
        judge(&r, parts[i], y);
    }
    rig_close(&r);
    free(y);
}

Test(layer_formulas, swiglu_is_its_formula_and_none_without_a_part)
{
    static const int parts[] = { WHOLE, NO_SILU, NO_UP };
    struct rig r = rig_open(&shapes[8]);
    double *y = calloc((size_t)(ROWS * r.d), sizeof *y);
    run_rows(&r, 0, ROWS, false, r.y);
    for (int64_t i = 0; i < COUNT(parts); i++) {
        swiglu_reference(&r, 33, parts[i], y);
        judge(&r, parts[i], y);
    }
    rig_close(&r);
    free(y);
}

/* Far along a stream the angle is still right: the score of two tokens depends on
 * their distance only, so a window of a late stream equals that of an early one */
Test(layer_formulas, rotary_positions_hold_at_any_distance)
{
    struct rig r = rig_open(&shapes[5]);
    float *early = zeros(ROWS * r.d * 4);
    struct chi_segment seg = segment(&r, 0, 0, ROWS, 5);
    double worst = 0;

    must(solo_forward(r.solo, &seg, 1, false, r.x, early));
    memset(r.state, 0, (size_t)r.state_bytes);
    seg.pos = 40000000;                     /* a multiple of the ring's 5 slots  */
    must(solo_forward(r.solo, &seg, 1, false, r.x, r.y));
    for (int64_t i = 5 * r.d; i < ROWS * r.d; i++) worst = fmax(worst, fabs((double)(r.y[i] - early[i])));
    cr_assert(worst < 1e-4, "%g", worst);
    free(early);
    rig_close(&r);
}
