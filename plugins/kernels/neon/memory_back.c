/* memory_back.c - the gradients of the two memories in delta.c: the formulas of
 * core/src/reference.c, four columns of a row of S or dS at a time, with fused multiply-adds.
 *
 * With decayed state s = a S before a write, r = v - <s, k>, u = b r, going back in time:
 *     dS += do q';  dq = (s + u k')' do;  du = dS k;  dr = b du;  db = <du, r>
 *     dk = dS' u - s' dr;  dv = dr;  dS -= dr k';  dlog a = <dS, s>;  dS = a dS             */
#include "neon.h"

static void clear(float *x, int64_t n)
{
    memset(x, 0, (size_t)n * sizeof *x);
}

/* next = decay (s + u k)                                                                    */
static void decay_row(float *next, const float *s, const float *k, float u, float decay, int64_t n)
{
    for (int64_t j = 0; j < n; j += 4) {
        float32x4_t x = vfmaq_n_f32(load(s + j, n - j), load(k + j, n - j), u);
        store(next + j, n - j, vmulq_n_f32(x, decay));
    }
}

/* ds += go q;  gq += go (s + u k);  returns <ds, k>                                          */
static float read_row(float *ds, float *gq, const float *s, const float *q, const float *k, float u, float go,
                      int64_t n)
{
    float32x4_t sum = vdupq_n_f32(0);
    for (int64_t j = 0; j < n; j += 4) {
        float32x4_t vk = load(k + j, n - j), x = vfmaq_n_f32(load(s + j, n - j), vk, u);
        float32x4_t d = vfmaq_n_f32(load(ds + j, n - j), load(q + j, n - j), go);
        store(ds + j, n - j, d);
        store(gq + j, n - j, vfmaq_n_f32(load(gq + j, n - j), x, go));
        sum = vfmaq_f32(sum, d, vk);
    }
    return vaddvq_f32(sum);
}

/* gk += u ds - dr s;  ds -= dr k;  returns <ds, s>;  ds = a ds                                */
static float write_row(float *ds, float *gk, const float *s, const float *k, float u, float dr, float a, int64_t n)
{
    float32x4_t sum = vdupq_n_f32(0);
    for (int64_t j = 0; j < n; j += 4) {
        float32x4_t vs = load(s + j, n - j), d = load(ds + j, n - j);
        float32x4_t g = vfmaq_n_f32(load(gk + j, n - j), d, u);
        store(gk + j, n - j, vfmaq_n_f32(g, vs, -dr));
        d = vfmaq_n_f32(d, load(k + j, n - j), -dr);
        sum = vfmaq_f32(sum, d, vs);
        store(ds + j, n - j, vmulq_n_f32(d, a));
    }
    return vaddvq_f32(sum);
}

/* work[t] = a_t S_{t-1}; dv_[t] = v_t - <work[t], k_t>, kept there for the way back           */
static void forward_again(const float *S, const float *k, const float *v, int64_t ld, const float *a, const float *b,
                          int64_t lds, float *dv_, int64_t rows, int64_t dk, int64_t dv, float *work)
{
    for (int64_t j = 0; rows && j < dv * dk; j++) work[j] = a[0] * S[j];
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < dv; i++) {
            const float *s = work + (t * dv + i) * dk, *kt = k + t * ld;
            float r = v[t * ld + i] - neon_dot(s, kt, dk);
            dv_[t * ld + i] = r;
            if (t + 1 < rows)
                decay_row(work + ((t + 1) * dv + i) * dk, s, kt, b[t * lds] * r, a[(t + 1) * lds], dk);
        }
}

void neon_delta_rule_back(const float *S, float *dS, const float *q, const float *k, const float *v, int64_t ld,
                          const float *a, const float *b, int64_t lds, const float *dout, float *dq, float *dk_,
                          float *dv_, float *dlog_a, float *db, int64_t rows, int64_t dk, int64_t dv, float *work)
{
    forward_again(S, k, v, ld, a, b, lds, dv_, rows, dk, dv, work);
    for (int64_t t = rows - 1; t >= 0; t--) {
        float *gq = dq + t * ld, *gk = dk_ + t * ld, *gv = dv_ + t * ld, gb = 0, ga = 0, bt = b[t * lds];
        clear(gq, dk);
        clear(gk, dk);
        for (int64_t i = 0; i < dv; i++) {
            const float *s = work + (t * dv + i) * dk;
            float r = gv[i], u = bt * r;
            float du = read_row(dS + i * dk, gq, s, q + t * ld, k + t * ld, u, dout[t * ld + i], dk);
            ga += write_row(dS + i * dk, gk, s, k + t * ld, u, bt * du, a[t * lds], dk);
            gb += du * r;
            gv[i] = bt * du;
        }
        db[t * lds] = gb;
        dlog_a[t * lds] = ga;
    }
}

/* ---- without the delta term: u = b v; work[t] is one row of S after row t of time -------------- */

/* s = a before + u k;  gq += go s                                                               */
static void hebb_forward(float *s, const float *before, float *gq, const float *k, float a, float u, float go,
                         int64_t n)
{
    for (int64_t j = 0; j < n; j += 4) {
        float32x4_t x = vfmaq_n_f32(vmulq_n_f32(load(before + j, n - j), a), load(k + j, n - j), u);
        store(s + j, n - j, x);
        store(gq + j, n - j, vfmaq_n_f32(load(gq + j, n - j), x, go));
    }
}

/* d = ds + go q;  gk += u d;  ds = a d;  returns <d, k> and in along <d, before>                */
static float hebb_back(float *ds, const float *before, float *gk, const float *q, const float *k, float u,
                       float go, float a, int64_t n, float *along)
{
    float32x4_t sum = vdupq_n_f32(0), sum_s = vdupq_n_f32(0);
    for (int64_t j = 0; j < n; j += 4) {
        float32x4_t d = vfmaq_n_f32(load(ds + j, n - j), load(q + j, n - j), go);
        store(gk + j, n - j, vfmaq_n_f32(load(gk + j, n - j), d, u));
        store(ds + j, n - j, vmulq_n_f32(d, a));
        sum = vfmaq_f32(sum, d, load(k + j, n - j));
        sum_s = vfmaq_f32(sum_s, d, load(before + j, n - j));
    }
    *along = vaddvq_f32(sum_s);
    return vaddvq_f32(sum);
}

void neon_hebb_rule_back(const float *S, float *dS, const float *q, const float *k, int64_t ldk, const float *v,
                         int64_t ldv, const float *a, const float *b, int64_t lds, const float *dout, float *dq,
                         float *dk_, float *dv_, float *dlog_a, float *db, int64_t rows, int64_t dk, int64_t dv,
                         float *work)
{
    for (int64_t t = 0; t < rows; t++) {
        clear(dq + t * ldk, dk);
        clear(dk_ + t * ldk, dk);
        dlog_a[t * lds] = db[t * lds] = 0;
    }
    for (int64_t i = 0; i < dv; i++) {
        for (int64_t t = 0; t < rows; t++)
            hebb_forward(work + t * dk, t ? work + (t - 1) * dk : S + i * dk, dq + t * ldk, k + t * ldk, a[t * lds],
                         b[t * lds] * v[t * ldv + i], dout[t * ldv + i], dk);
        for (int64_t t = rows - 1; t >= 0; t--) {
            const float *before = t ? work + (t - 1) * dk : S + i * dk;
            float at = a[t * lds], bt = b[t * lds], vt = v[t * ldv + i], along;
            float du = hebb_back(dS + i * dk, before, dk_ + t * ldk, q + t * ldk, k + t * ldk, bt * vt,
                                 dout[t * ldv + i], at, dk, &along);
            dv_[t * ldv + i] = bt * du;
            db[t * lds] += vt * du;
            dlog_a[t * lds] += at * along;
        }
    }
}
