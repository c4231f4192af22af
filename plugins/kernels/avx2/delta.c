/* delta.c - the gated delta rule of one head (arXiv 2412.06464) and its gradient.
 *
 *     u_i = b (v_i - a <S_i, k>);   S_i = a S_i + u_i k;   o_i = <S_i, q>
 *
 * for the rows i of S[dv,dk].  Rows are independent within a step; eight of them go
 * together, so that their eight horizontal sums cost as much as one and a half.     */
#include "avx2.h"
#include <string.h>

/* ---- pieces ------------------------------------------------------------------------ */

static __m256 load(const float *x, int64_t n)
{
    return n >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, first(n));
}

static void store(float *y, int64_t n, __m256 v)
{
    if (n >= 8) _mm256_storeu_ps(y, v);
    else _mm256_maskstore_ps(y, first(n), v);
}

/* Canonical lanes of <s, x>, lanes i and i + 8 already added                           */
static __m256 lanes(const float *s, const float *x, int64_t n)
{
    __m256 lo = _mm256_setzero_ps(), hi = lo;
    int64_t j = 0;
    for (; j + 16 <= n; j += 16) {
        lo = muladd(lo, _mm256_loadu_ps(s + j), _mm256_loadu_ps(x + j));
        hi = muladd(hi, _mm256_loadu_ps(s + j + 8), _mm256_loadu_ps(x + j + 8));
    }
    if (j < n) lo = muladd(lo, load(s + j, n - j), load(x + j, n - j));
    if (j + 8 < n) hi = muladd(hi, load(s + j + 8, n - j - 8), load(x + j + 8, n - j - 8));
    return _mm256_add_ps(lo, hi);
}

/* Eight rows of eight lanes to eight sums: lanes i and i+4, i and i+2, i and i+1         */
static __m256 fold8(const __m256 r[8])
{
    __m256 h[4], g[2];
    UNROLL
    for (int i = 0; i < 4; i++)
        h[i] = _mm256_add_ps(_mm256_permute2f128_ps(r[i], r[i + 4], 0x20),
                             _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    UNROLL
    for (int i = 0; i < 2; i++) {
        __m256 a = _mm256_shuffle_ps(h[2 * i], h[2 * i + 1], 0x44);
        __m256 b = _mm256_shuffle_ps(h[2 * i], h[2 * i + 1], 0xee);
        g[i] = _mm256_add_ps(a, b);
    }
    return _mm256_add_ps(_mm256_shuffle_ps(g[0], g[1], 0x88), _mm256_shuffle_ps(g[0], g[1], 0xdd));
}

/* s = a s + u k; returns the lanes of <s, q>                                             */
static __m256 write_row(float *s, float a, float u, const float *k, const float *q, int64_t n)
{
    __m256 sum[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
    __m256 va = _mm256_set1_ps(a), vu = _mm256_set1_ps(u);
    int64_t j = 0;
    for (; j + 16 <= n; j += 16)
        UNROLL
        for (int h = 0; h < 2; h++) {
            float *at = s + j + 8 * h;
            __m256 x = muladd(_mm256_mul_ps(va, _mm256_loadu_ps(at)), vu,
                              _mm256_loadu_ps(k + j + 8 * h));
            _mm256_storeu_ps(at, x);
            sum[h] = muladd(sum[h], x, _mm256_loadu_ps(q + j + 8 * h));
        }
    for (int h = 0; j < n; j += 8, h++) {
        __m256 x = muladd(_mm256_mul_ps(va, load(s + j, n - j)), vu, load(k + j, n - j));
        store(s + j, n - j, x);
        sum[h] = muladd(sum[h], x, load(q + j, n - j));
    }
    return _mm256_add_ps(sum[0], sum[1]);
}

/* ---- forward --------------------------------------------------------------------------- */

/* Up to eight rows of S for one step                                                       */
static void step8(float *S, const float *q, const float *k, const float *v, float a, float b,
                  float *o, int64_t count, int64_t dk)
{
    __m256 r[8];
    float u[8];
    UNROLL
    for (int64_t i = 0; i < 8; i++)
        r[i] = i < count ? lanes(S + i * dk, k, dk) : _mm256_setzero_ps();
    __m256 p = _mm256_mul_ps(_mm256_set1_ps(a), fold8(r));
    _mm256_storeu_ps(u, _mm256_mul_ps(_mm256_set1_ps(b), _mm256_sub_ps(load(v, count), p)));
    for (int64_t i = 0; i < count; i++) r[i] = write_row(S + i * dk, a, u[i], k, q, dk);
    store(o, count, fold8(r));
}

void avx2_delta_rule(float *S, const float *q, const float *k, const float *v, int64_t ld,
                     const float *a, const float *b, int64_t lds, float *o, int64_t rows,
                     int64_t dk, int64_t dv)
{
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < dv; i += 8)
            step8(S + i * dk, q + t * ld, k + t * ld, v + t * ld + i, a[t * lds], b[t * lds],
                  o + t * ld + i, dv - i < 8 ? dv - i : 8, dk);
}

/* ---- gradient: the formulas of core/src/reference.c -------------------------------------- */

static float sum8(__m256 v)
{
    return fold(v, _mm256_setzero_ps());
}

/* next[dk] = decay (s + u k) with u = b (v - <s, k>): the write of one step, then the
 * decay of the next                                                                        */
static void forward_row(float *next, const float *s, const float *k, float v, float b,
                        float decay, int64_t dk)
{
    float u = b * (v - sum8(lanes(s, k, dk)));
    __m256 vu = _mm256_set1_ps(u), vd = _mm256_set1_ps(decay);
    for (int64_t j = 0; j < dk; j += 8)
        store(next + j, dk - j, _mm256_mul_ps(vd, _mm256_fmadd_ps(vu, load(k + j, dk - j),
                                                                  load(s + j, dk - j))));
}

struct step { const float *q, *k, *v, *go; float *gq, *gk, *gv; float a, b, gb, ga, ku; };

/* One row i of S and dS for one step; s is the decayed state before the write              */
static void back_row(struct step *t, float *ds, const float *s, int64_t i, int64_t dk)
{
    __m256 go = _mm256_set1_ps(t->go[i]), du = _mm256_setzero_ps(), sk = du, g = du;
    for (int64_t j = 0; j < dk; j += 8) {               /* dS += do q'; dq += S' do      */
        int64_t n = dk - j;
        __m256 vs = load(s + j, n), vk = load(t->k + j, n);
        __m256 d = _mm256_fmadd_ps(go, load(t->q + j, n), load(ds + j, n));
        store(ds + j, n, d);
        store(t->gq + j, n, _mm256_fmadd_ps(go, vs, load(t->gq + j, n)));
        sk = _mm256_fmadd_ps(vs, vk, sk);
        du = _mm256_fmadd_ps(d, vk, du);
    }
    float r = t->v[i] - sum8(sk), u = t->b * r, grad_u = sum8(du), dr = t->b * grad_u;
    t->ku += u * t->go[i];                              /* dq also has k u do            */
    t->gb += grad_u * r;
    t->gv[i] = dr;
    __m256 vu = _mm256_set1_ps(u), vdr = _mm256_set1_ps(dr), va = _mm256_set1_ps(t->a);
    for (int64_t j = 0; j < dk; j += 8) {               /* dk += dS' u - (aS)' dr        */
        int64_t n = dk - j;
        __m256 vs = load(s + j, n), d = load(ds + j, n);
        __m256 gk = _mm256_fmadd_ps(d, vu, load(t->gk + j, n));
        store(t->gk + j, n, _mm256_fnmadd_ps(vs, vdr, gk));
        d = _mm256_fnmadd_ps(vdr, load(t->k + j, n), d);
        g = _mm256_fmadd_ps(d, vs, g);
        store(ds + j, n, _mm256_mul_ps(d, va));
    }
    t->ga += sum8(g);
}

void avx2_delta_rule_back(const float *S, float *dS, const float *q, const float *k,
                          const float *v, int64_t ld, const float *a, const float *b,
                          int64_t lds, const float *dout, float *dq, float *dk_, float *dv_,
                          float *dlog_a, float *db, int64_t rows, int64_t dk, int64_t dv,
                          float *work)
{
    int64_t size = dv * dk;                             /* work[t] = a_t S_{t-1}         */
    for (int64_t j = 0; rows && j < size; j++) work[j] = a[0] * S[j];
    for (int64_t t = 0; t + 1 < rows; t++)
        for (int64_t i = 0; i < dv; i++)
            forward_row(work + (t + 1) * size + i * dk, work + t * size + i * dk, k + t * ld,
                        v[t * ld + i], b[t * lds], a[(t + 1) * lds], dk);
    for (int64_t t = rows - 1; t >= 0; t--) {
        struct step s = { q + t * ld, k + t * ld, v + t * ld, dout + t * ld,
                          dq + t * ld, dk_ + t * ld, dv_ + t * ld, a[t * lds], b[t * lds], 0, 0, 0 };
        memset(s.gq, 0, (size_t)dk * sizeof *s.gq);
        memset(s.gk, 0, (size_t)dk * sizeof *s.gk);
        for (int64_t i = 0; i < dv; i++) back_row(&s, dS + i * dk, work + t * size + i * dk, i, dk);
        avx2_axpy(s.gq, s.ku, s.k, dk);
        db[t * lds] = s.gb;
        dlog_a[t * lds] = s.ga;
    }
}
