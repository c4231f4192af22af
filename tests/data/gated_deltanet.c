/* gated_deltanet.c - writes gated_deltanet.safetensors, reference vectors of Gated DeltaNet (arXiv
 * 2412.06464) that share no code with the layer: plain loops in double, one stream after the other,
 *
 *     q, k, v = silu(conv(W x));  q, k over sqrt(|.|^2 + 1e-6)
 *     a = exp(-exp(A_log) softplus(w_a x + dt_bias));  b = sigmoid(w_b x)
 *     S = a S;  S += b (v - S k) k';  o = S q / sqrt(D)
 *     y = W_o (rmsnorm(o) o_norm * silu(W_g x))
 *
 * and gradients of sum(dy y) by differences of fourth order, which in double are good to ten digits.
 * Inputs and parameters are multiples of 2^-10, exact in float.
 *     gated_deltanet FILE                                                                       */
#include "safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, T = 19, D_MODEL = 6, H = 2, D = 4, N = H * D, TAPS = 3 };
static const double RMS_EPS = 1e-6;

enum { A_LOG, B_PROJ, A_PROJ, DT_BIAS, G_PROJ, K_CONV, K_PROJ, O_NORM, O_PROJ, Q_CONV, Q_PROJ, V_CONV, V_PROJ, X, DY, N_TENSORS };
static struct tensor { const char *name; int64_t dim[3]; double scale, centre, *v; } tensor[N_TENSORS] = {
    [A_LOG]   = { "A_log", { H }, 0.7, 0, NULL },             [DT_BIAS] = { "dt_bias", { H }, 0.7, -0.5, NULL },
    [A_PROJ]  = { "a_proj.weight", { H, D_MODEL }, 0.8, 0, NULL }, [B_PROJ] = { "b_proj.weight", { H, D_MODEL }, 1.2, 0, NULL },
    [G_PROJ]  = { "g_proj.weight", { N, D_MODEL }, 0.8, 0, NULL }, [Q_PROJ] = { "q_proj.weight", { N, D_MODEL }, 0.8, 0, NULL },
    [K_PROJ]  = { "k_proj.weight", { N, D_MODEL }, 0.8, 0, NULL }, [V_PROJ] = { "v_proj.weight", { N, D_MODEL }, 0.8, 0, NULL },
    [O_PROJ]  = { "o_proj.weight", { D_MODEL, N }, 0.6, 0, NULL }, [O_NORM] = { "o_norm.weight", { D }, 0.4, 1, NULL },
    [Q_CONV]  = { "q_conv1d.weight", { N, TAPS }, 0.8, 0.3, NULL }, [K_CONV] = { "k_conv1d.weight", { N, TAPS }, 0.8, 0.3, NULL },
    [V_CONV]  = { "v_conv1d.weight", { N, TAPS }, 0.8, 0.3, NULL },
    [X]       = { "x", { BATCH, T, D_MODEL }, 1, 0, NULL },   [DY]      = { "dy", { BATCH, T, D_MODEL }, 1, 0, NULL },
};

static int64_t count(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < 3 && t->dim[i]; i++) n *= t->dim[i];
    return n;
}

static int dims(const struct tensor *t)
{
    int n = 0;
    while (n < 3 && t->dim[n]) n++;
    return n;
}

static void draw(struct tensor *t)
{
    static uint64_t state = 20250101;
    static double room[N_TENSORS * BATCH * T * D_MODEL];
    t->v = room + (t - tensor) * BATCH * T * D_MODEL;
    for (int64_t i = 0; i < count(t); i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        double u = (double)(state >> 11) / 4503599627370496.0 - 1;          /* in [-1, 1)           */
        t->v[i] = nearbyint((t->centre + t->scale * u) * 1024) / 1024;
    }
}

/* ---- the formula ------------------------------------------------------------------------------- */

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double silu(double x) { return x * sigmoid(x); }

/* out[o] = row o of w times in[d]                                                                 */
static void product(double *out, const struct tensor *w, const double *in)
{
    for (int64_t o = 0; o < w->dim[0]; o++) {
        out[o] = 0;
        for (int64_t i = 0; i < w->dim[1]; i++) out[o] += w->v[o * w->dim[1] + i] * in[i];
    }
}

/* silu of the convolution of row t and those before it, of all channels; then unit length         */
static void branch(double *out, int proj, int conv, const double *x, int t, int unit)
{
    double sum[N] = { 0 }, row[N];
    for (int j = 0; j < TAPS; j++) {
        if (t - (TAPS - 1) + j < 0) continue;
        product(row, &tensor[proj], x + (t - (TAPS - 1) + j) * D_MODEL);
        for (int c = 0; c < N; c++) sum[c] += tensor[conv].v[c * TAPS + j] * row[c];
    }
    for (int c = 0; c < N; c++) out[c] = silu(sum[c]);
    for (int h = 0; unit && h < H; h++) {
        double square = 1e-6;
        for (int c = 0; c < D; c++) square += out[h * D + c] * out[h * D + c];
        for (int c = 0; c < D; c++) out[h * D + c] /= sqrt(square);
    }
}

/* One step of one head: o[D]                                                                       */
static void recall(double S[D][D], double a, double b, const double *q, const double *k, const double *v, double *o)
{
    for (int i = 0; i < D; i++) {
        double read = 0;
        for (int j = 0; j < D; j++) {
            S[i][j] *= a;
            read += S[i][j] * k[j];
        }
        o[i] = 0;
        for (int j = 0; j < D; j++) {
            S[i][j] += b * (v[i] - read) * k[j];
            o[i] += S[i][j] * q[j] / sqrt((double)D);
        }
    }
}

static void stream(const double *x, double *y)
{
    double S[H][D][D] = { { { 0 } } };
    for (int t = 0; t < T; t++) {
        double q[N], k[N], v[N], g[N], o[N], a[H], b[H];
        branch(q, Q_PROJ, Q_CONV, x, t, 1);
        branch(k, K_PROJ, K_CONV, x, t, 1);
        branch(v, V_PROJ, V_CONV, x, t, 0);
        product(g, &tensor[G_PROJ], x + t * D_MODEL);
        product(a, &tensor[A_PROJ], x + t * D_MODEL);
        product(b, &tensor[B_PROJ], x + t * D_MODEL);
        for (int h = 0; h < H; h++) {
            double decay = exp(-exp(tensor[A_LOG].v[h]) * log1p(exp(a[h] + tensor[DT_BIAS].v[h]))), mean = 0;
            recall(S[h], decay, sigmoid(b[h]), q + h * D, k + h * D, v + h * D, o + h * D);
            for (int c = h * D; c < h * D + D; c++) mean += o[c] * o[c] / D;
            for (int c = h * D; c < h * D + D; c++)
                o[c] *= tensor[O_NORM].v[c - h * D] / sqrt(mean + RMS_EPS) * silu(g[c]);
        }
        product(y + t * D_MODEL, &tensor[O_PROJ], o);
    }
}

static void forward(double *y)
{
    for (int b = 0; b < BATCH; b++) stream(tensor[X].v + b * T * D_MODEL, y + b * T * D_MODEL);
}

static double loss(void)
{
    static double y[BATCH * T * D_MODEL];
    double sum = 0;
    forward(y);
    for (int64_t i = 0; i < count(&tensor[DY]); i++) sum += y[i] * tensor[DY].v[i];
    return sum;
}

static double slope(double *v)
{
    const double at = *v, h = 1.0 / 4096;
    double l[4];
    static const double step[] = { 1, -1, 2, -2 };
    for (int i = 0; i < 4; i++) {
        *v = at + step[i] * h;
        l[i] = loss();
    }
    *v = at;
    return (8 * (l[0] - l[1]) - (l[2] - l[3])) / (12 * h);
}

/* ---- the file ------------------------------------------------------------------------------------- */

static const char config[] =
    "[model]\nhidden_size = 6\nnum_hidden_layers = 1\nvocab_size = 97\nrms_norm_eps = 1e-6\n"
    "layer_pattern = GD\nffn_pattern = GD\n"
    "[layer.GD]\nuse = gated_deltanet\nnum_heads = 2\nhead_dim = 4\nconv_size = 3\n[linear]\nquantizer = f32\n";

static chi_status put_f32(struct st_writer *w, const struct tensor *t)
{
    float f[BATCH * T * D_MODEL];
    for (int64_t i = 0; i < count(t); i++) f[i] = (float)t->v[i];
    return st_write(w, f, count(t) * (int64_t)sizeof *f);
}

static chi_status put_gradient(struct st_writer *w, struct tensor *t)
{
    double g[BATCH * T * D_MODEL];
    for (int64_t i = 0; i < count(t); i++) g[i] = slope(&t->v[i]);
    return st_write(w, g, count(t) * (int64_t)sizeof *g);
}

/* Doubles first: expect.y, expect.dx, expect.grad.*; then x, dy, param.*                              */
static chi_status write_file(FILE *f)
{
    static double y[BATCH * T * D_MODEL];
    struct st_writer *w = st_create(f);
    char name[64];
    st_put_meta(w, "chimera.vectors", "1");
    st_put_meta(w, "kind", "layer");
    st_put_meta(w, "subject", "gated_deltanet");
    st_put_meta(w, "config", config);
    st_put_meta(w, "layer", "GD");
    st_put_meta(w, "tolerance", "2e-5");
    st_add(w, "expect.y", ST_F64, 3, tensor[X].dim);
    st_add(w, "expect.dx", ST_F64, 3, tensor[X].dim);
    for (int i = 0; i < X; i++) {
        snprintf(name, sizeof name, "expect.grad.%s", tensor[i].name);
        st_add(w, name, ST_F64, dims(&tensor[i]), tensor[i].dim);
    }
    for (int i = 0; i < N_TENSORS; i++) {
        snprintf(name, sizeof name, "%s%s", i < X ? "param." : "", tensor[i].name);
        st_add(w, name, ST_F32, dims(&tensor[i]), tensor[i].dim);
    }
    chi_status e = st_begin(w);
    forward(y);
    if (e == CHI_OK) e = st_write(w, y, (int64_t)sizeof y);
    if (e == CHI_OK) e = put_gradient(w, &tensor[X]);
    for (int i = 0; e == CHI_OK && i < X; i++) e = put_gradient(w, &tensor[i]);
    for (int i = 0; e == CHI_OK && i < N_TENSORS; i++) e = put_f32(w, &tensor[i]);
    return e == CHI_OK ? st_finish(w) : e;
}

int main(int argc, char **argv)
{
    FILE *f = argc == 2 ? fopen(argv[1], "wb") : NULL;
    if (!f) return 2;
    for (int i = 0; i < N_TENSORS; i++) draw(&tensor[i]);
    chi_status e = write_file(f);
    return fclose(f) || e != CHI_OK;
}
