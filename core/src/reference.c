/* reference.c - the arithmetic of kernel.h, written to be read.  Every backend is
 * tested against this file: bit for bit where kernel.h says EXACT.
 *
 * The canonical sum of floats has 16 lanes, term i in lane i mod 16, folded 8, 4, 2,
 * 1.  A vector unit of 4, 8 or 16 floats does exactly this without extra work.    */
#include "reference.h"

#include <chimera/math.h>
#include <math.h>
#include <string.h>

static float fold(float lane[16])
{
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}

static float dot(const float *a, const float *b, int64_t n)
{
    float lane[16] = { 0 };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) lane[j] += a[i + j] * b[i + j];
    for (int j = 0; i + j < n; j++) lane[j] += a[i + j] * b[i + j];
    return fold(lane);
}

static void axpy(float *y, float a, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
}

static void dots(float *y, const float *W, int64_t ldw, const float *x, int64_t rows, int64_t n)
{
    for (int64_t i = 0; i < rows; i++) y[i] = dot(W + i * ldw, x, n);
}

static void axpys(float *y, const float *a, const float *X, int64_t ldx, int64_t rows, int64_t n)
{
    for (int64_t i = 0; i < rows; i++) axpy(y, a[i], X + i * ldx, n);
}

static float rmsnorm(float *y, const float *x, const float *gain, int64_t n, float eps)
{
    float r = 1.0f / sqrtf(dot(x, x, n) / (float)n + eps);
    if (gain)
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] * r) * gain[i];
    else
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * r;
    return r;
}

static void silu(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = chi_silu(x[i]);
}

static void silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = chi_silu(g[i]) * u[i];
}

static void silu_back(float *dx, const float *x, const float *dy, int64_t n)
{
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * chi_silu_slope(x[i]);
}

/* NaN anywhere comes out as NaN: it wins the comparison below or enters the sum.  */
static float softmax(float *y, const float *x, int64_t n)
{
    float max = x[0], lane[16] = { 0 };
    for (int64_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i++) {
        y[i] = chi_exp(x[i] - max);
        lane[i % 16] += y[i];
    }
    float sum = fold(lane);
    for (int64_t i = 0; i < n; i++) y[i] /= sum;
    return max + chi_log(sum);
}

/* ---- matrix product --------------------------------------------------------- */

static void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A,
                 int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc)
{
    enum { KC = 256 };
    for (int64_t i = 0; i < m; i++) {
        float *c = C + i * ldc;
        if (beta == 0) memset(c, 0, (size_t)n * sizeof *c);
        for (int64_t k0 = 0; k0 < k; k0 += KC) {
            int64_t k1 = k0 + KC < k ? k0 + KC : k;
            for (int64_t j = 0; j < n; j++) {
                float s = 0;
                for (int64_t p = k0; p < k1; p++)
                    s += (ta ? A[p * lda + i] : A[i * lda + p]) * (tb ? B[j * ldb + p] : B[p * ldb + j]);
                c[j] += s;
            }
        }
    }
}

/* ---- gated delta rule (arXiv 2412.06464, eq. 10), one head ------------------- */

static void delta_rule(float *S, const float *q, const float *k, const float *v, int64_t ld,
                       const float *a, const float *b, int64_t lds, float *o, int64_t rows,
                       int64_t dk, int64_t dv)
{
    for (int64_t t = 0; t < rows; t++) {
        const float *qt = q + t * ld, *kt = k + t * ld, *vt = v + t * ld;
        float at = a[t * lds], bt = b[t * lds];
        for (int64_t i = 0; i < dv; i++) {
            float *s = S + i * dk;
            float u = bt * (vt[i] - at * dot(s, kt, dk));
            for (int64_t j = 0; j < dk; j++) s[j] = at * s[j] + u * kt[j];
            o[t * ld + i] = dot(s, qt, dk);
        }
    }
}

/* The state that row t decays is a_t S_{t-1}; work[t] keeps it, so that the pass back
 * in time (backbone 2.4) finds every state that the pass forward went through:
 *     dS += do q';  dq = S' do;  du = dS k;  dk = dS' u;  db = <du, v - p>
 *     dr = b du;  dv = dr;  dk -= (aS)' dr;  dS' = dS - dr k';  dlog a = <dS', aS>
 *     dS <- a dS'                                                               */
static void delta_rule_back(const float *S, float *dS, const float *q, const float *k,
                            const float *v, int64_t ld, const float *a, const float *b,
                            int64_t lds, const float *dout, float *dq, float *dk_, float *dv_,
                            float *dlog_a, float *db, int64_t rows, int64_t dk, int64_t dv,
                            float *work)
{
    for (int64_t t = 0; t < rows; t++) {                /* forward again         */
        const float *kt = k + t * ld, *vt = v + t * ld;
        for (int64_t i = 0; i < dv; i++) {
            const float *before = t ? work + ((t - 1) * dv + i) * dk : S + i * dk;
            float *s = work + (t * dv + i) * dk, u_before = 0;
            if (t) {                                    /* finish row t-1        */
                const float *kp = kt - ld;
                u_before = b[(t - 1) * lds] * (vt[i - ld] - dot(before, kp, dk));
                for (int64_t j = 0; j < dk; j++) s[j] = a[t * lds] * (before[j] + u_before * kp[j]);
            } else
                for (int64_t j = 0; j < dk; j++) s[j] = a[0] * before[j];
        }
    }
    for (int64_t t = rows - 1; t >= 0; t--) {
        const float *qt = q + t * ld, *kt = k + t * ld, *vt = v + t * ld, *go = dout + t * ld;
        float *gq = dq + t * ld, *gk = dk_ + t * ld, *gv = dv_ + t * ld;
        float bt = b[t * lds], at = a[t * lds], gb = 0, ga = 0;
        memset(gq, 0, (size_t)dk * sizeof *gq);
        memset(gk, 0, (size_t)dk * sizeof *gk);
        for (int64_t i = 0; i < dv; i++) {
            const float *s = work + (t * dv + i) * dk;  /* a S before the write  */
            float *ds = dS + i * dk;
            float r = vt[i] - dot(s, kt, dk), u = bt * r;
            for (int64_t j = 0; j < dk; j++) {
                ds[j] += go[i] * qt[j];
                gq[j] += (s[j] + u * kt[j]) * go[i];
            }
            float du = dot(ds, kt, dk), dr = bt * du;
            gb += du * r;
            gv[i] = dr;
            float g = 0;
            for (int64_t j = 0; j < dk; j++) {
                gk[j] += ds[j] * u - s[j] * dr;
                ds[j] -= dr * kt[j];
                g += ds[j] * s[j];
                ds[j] *= at;
            }
            ga += g;
        }
        db[t * lds] = gb;
        dlog_a[t * lds] = ga;
    }
}

/* ---- decayed sum of outer products, one head ------------------------------------- */

static void hebb_rule(float *S, const float *q, const float *k, int64_t ldk, const float *v,
                      int64_t ldv, const float *a, const float *b, int64_t lds, float *o,
                      int64_t rows, int64_t dk, int64_t dv)
{
    for (int64_t t = 0; t < rows; t++) {
        const float *qt = q + t * ldk, *kt = k + t * ldk;
        float at = a[t * lds], bt = b[t * lds];
        for (int64_t i = 0; i < dv; i++) {
            float *s = S + i * dk, u = bt * v[t * ldv + i];
            for (int64_t j = 0; j < dk; j++) s[j] = at * s[j] + u * kt[j];
            o[t * ldv + i] = dot(s, qt, dk);
        }
    }
}

/* Row i of S goes through time alone, work[t] keeps it after row t of time, and on the way back
 *     dq = S' do;  dS += do q';  du = dS k;  dv = b du;  db = <v, du>;  dk = dS' (b v)
 *     dlog a = a <dS, S_{t-1}>;  dS <- a dS
 * <dS_t, S_t> - b db is dlog a too, but where little of S_{t-1} is left it is the small
 * difference of large numbers.                                                      */
static void hebb_rule_back(const float *S, float *dS, const float *q, const float *k, int64_t ldk,
                           const float *v, int64_t ldv, const float *a, const float *b, int64_t lds,
                           const float *dout, float *dq, float *dk_, float *dv_, float *dlog_a,
                           float *db, int64_t rows, int64_t dk, int64_t dv, float *work)
{
    for (int64_t t = 0; t < rows; t++) {
        memset(dq + t * ldk, 0, (size_t)dk * sizeof *dq);
        memset(dk_ + t * ldk, 0, (size_t)dk * sizeof *dk_);
        dlog_a[t * lds] = db[t * lds] = 0;
    }
    for (int64_t i = 0; i < dv; i++) {
        const float *first = S + i * dk;
        float *ds = dS + i * dk;
        for (int64_t t = 0; t < rows; t++) {
            const float *kt = k + t * ldk, *before = t ? work + (t - 1) * dk : first;
            float *s = work + t * dk, u = b[t * lds] * v[t * ldv + i];
            for (int64_t j = 0; j < dk; j++) s[j] = a[t * lds] * before[j] + u * kt[j];
            for (int64_t j = 0; j < dk; j++) dq[t * ldk + j] += dout[t * ldv + i] * s[j];
        }
        for (int64_t t = rows - 1; t >= 0; t--) {
            const float *qt = q + t * ldk, *kt = k + t * ldk, *before = t ? work + (t - 1) * dk : first;
            float *gk = dk_ + t * ldk, at = a[t * lds], bt = b[t * lds], vt = v[t * ldv + i];
            for (int64_t j = 0; j < dk; j++) ds[j] += dout[t * ldv + i] * qt[j];
            for (int64_t j = 0; j < dk; j++) gk[j] += bt * vt * ds[j];
            float du = dot(ds, kt, dk);
            dv_[t * ldv + i] = bt * du;
            db[t * lds] += vt * du;
            dlog_a[t * lds] += at * dot(ds, before, dk);
            for (int64_t j = 0; j < dk; j++) ds[j] *= at;
        }
    }
}

/* ---- activations to int8 ----------------------------------------------------- */

static void quantize_i8(int8_t *q, float *step, int16_t *sum, const float *x, int64_t n)
{
    for (int64_t b = 0; b * CHI_ACT_BLOCK < n; b++) {
        const float *xb = x + b * CHI_ACT_BLOCK;
        int8_t *qb = q + b * CHI_ACT_BLOCK;
        int64_t len = n - b * CHI_ACT_BLOCK < CHI_ACT_BLOCK ? n - b * CHI_ACT_BLOCK : CHI_ACT_BLOCK;
        float max = 0;
        for (int64_t i = 0; i < len; i++) max = fabsf(xb[i]) > max ? fabsf(xb[i]) : max;
        for (int64_t i = 0; i < len; i++) max = isnan(xb[i]) ? NAN : max;
        bool some = max >= 1e-30f;
        float inv = some ? 127.0f / max : 0;
        int total = 0;
        for (int64_t i = 0; i < len; i++) {
            float y = nearbyintf(xb[i] * inv);
            qb[i] = (int8_t)(y > 127 ? 127 : y > -127 ? y : -127);
            total += qb[i];
        }
        step[b] = some ? max / 127.0f : isnan(max) ? NAN : 0;
        sum[b] = (int16_t)total;
    }
}

const struct chi_kernels reference_kernels = {
    .struct_size = sizeof reference_kernels,
    .dot = dot, .axpy = axpy, .rmsnorm = rmsnorm, .silu = silu, .silu_mul = silu_mul,
    .silu_back = silu_back, .softmax = softmax, .gemm = gemm, .delta_rule = delta_rule,
    .delta_rule_back = delta_rule_back, .quantize_i8 = quantize_i8,
    .hebb_rule = hebb_rule, .hebb_rule_back = hebb_rule_back, .dots = dots, .axpys = axpys,
};

/* ---- members by name, and merging ------------------------------------------------ */

#define MEMBER(m) { #m, offsetof(struct chi_kernels, m) }
const struct kernel_member kernel_members[] = {
    MEMBER(dot), MEMBER(axpy), MEMBER(rmsnorm), MEMBER(silu), MEMBER(silu_mul), MEMBER(silu_back), MEMBER(softmax),
    MEMBER(gemm), MEMBER(delta_rule), MEMBER(delta_rule_back), MEMBER(quantize_i8), MEMBER(hebb_rule),
    MEMBER(hebb_rule_back), MEMBER(dots), MEMBER(axpys), { NULL, 0 }
};

_Static_assert(sizeof kernel_members / sizeof *kernel_members - 1
               == (sizeof(struct chi_kernels) - offsetof(struct chi_kernels, dot)) / sizeof(void (*)(void)),
               "a member of struct chi_kernels has no name here");

bool kernels_have(const struct chi_kernels *k, const struct kernel_member *m)
{
    void (*f)(void) = NULL;
    if (k->struct_size < m->offset + sizeof f) return false;
    memcpy(&f, (const char *)k + m->offset, sizeof f);
    return f != NULL;
}

void kernels_merge(struct chi_kernels *out, const struct chi_kernels *const *table, int n)
{
    *out = reference_kernels;
    for (const struct kernel_member *m = kernel_members; m->name; m++) {
        int i = 0;
        while (i < n && !kernels_have(table[i], m)) i++;
        if (i < n) memcpy((char *)out + m->offset, (const char *)table[i] + m->offset, sizeof(void (*)(void)));
    }
}
