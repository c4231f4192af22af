/* delta.c - the memories of one head and their gradients: the gated delta rule (arXiv
 * 2412.06464) and, at the end, the same without the delta term.
 *
 *     u_i = b (v_i - a <S_i, k>);   S_i = a S_i + u_i k;   o_i = <S_i, q>
 *
 * for the rows i of S[dv,dk].  Rows are independent within a step; eight of them go
 * together, so that their eight horizontal sums cost as much as one and a half.     */
#include "avx2.h"
#include <string.h>

#ifdef __clang__                        /* it says so where one row leaves nothing to unroll */
# pragma clang diagnostic ignored "-Wpass-failed"
#endif

/* ---- pieces ------------------------------------------------------------------------ */

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

/* A decode step reads a state that no cache has: the next rows of S come while these are at
 * work.  What lies behind S is asked for in vain.                                          */
static inline void fetch_rows(const float *S, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) _mm_prefetch((const char *)(S + i), _MM_HINT_T0);
}

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
        for (int64_t i = 0; i < dv; i += 8) {
            if (rows == 1) fetch_rows(S + (i + 8) * dk, 8 * dk);
            step8(S + i * dk, q + t * ld, k + t * ld, v + t * ld + i, a[t * lds], b[t * lds],
                  o + t * ld + i, dv - i < 8 ? dv - i : 8, dk);
        }
}

/* ---- gradient: the formulas of core/src/reference.c -------------------------------------- *
 *
 * Four rows go together: they share the loads of k and q and the sums of dq and dk.
 * Going forward, dv_ keeps r = v - <a S, k> for the way back.                            */

#define INLINE static inline __attribute__((always_inline))

struct step { const float *q, *k, *v, *go; float *gq, *gk, *gv; float a, b, gb, ku; __m256 ga; };

/* Eight or, at the end, n columns of rows (1 or 4) rows: next = decay (s + u k)            */
INLINE void decay_columns(float *next, const float *s, const float *k, const float u[4], float decay,
                          int64_t dk, int64_t n, int rows)
{
    __m256 vk = load(k, n), vd = _mm256_set1_ps(decay);
    UNROLL
    for (int i = 0; i < rows; i++) {
        __m256 x = _mm256_fmadd_ps(_mm256_set1_ps(u[i]), vk, load(s + i * dk, n));
        store(next + i * dk, n, _mm256_mul_ps(vd, x));
    }
}

/* r[rows] = v - <s, k> of one step; unless next is NULL, the decayed state of the next step */
INLINE void forward_rows(float *next, const float *s, const float *k, const float *v, float *r,
                         float b, float decay, int64_t dk, int rows)
{
    __m256 sum[8] = { _mm256_setzero_ps() };
    float p[8], u[4];
    UNROLL
    for (int i = 0; i < 8; i++) sum[i] = i < rows ? lanes(s + i * dk, k, dk) : _mm256_setzero_ps();
    _mm256_storeu_ps(p, fold8(sum));
    for (int i = 0; i < rows; i++) {
        r[i] = v[i] - p[i];
        u[i] = b * r[i];
    }
    if (!next) return;
    int64_t j = 0;
    for (; j + 8 <= dk; j += 8) decay_columns(next + j, s + j, k + j, u, decay, dk, 8, rows);
    if (j < dk) decay_columns(next + j, s + j, k + j, u, decay, dk, dk - j, rows);
}

/* dS += do q';  dq += S' do;  du += dS k                                                    */
INLINE void first_columns(const struct step *t, float *ds, const float *s, const float *go,
                          int64_t j, int64_t dk, int64_t n, int rows, __m256 du[8])
{
    __m256 vk = load(t->k + j, n), vq = load(t->q + j, n), gq = load(t->gq + j, n);
    UNROLL
    for (int i = 0; i < rows; i++) {
        __m256 o = _mm256_set1_ps(go[i]);
        __m256 d = _mm256_fmadd_ps(o, vq, load(ds + i * dk + j, n));
        store(ds + i * dk + j, n, d);
        gq = _mm256_fmadd_ps(o, load(s + i * dk + j, n), gq);
        du[i] = _mm256_fmadd_ps(d, vk, du[i]);
    }
    store(t->gq + j, n, gq);
}

/* dk += dS' u - (aS)' dr;  dS -= dr k';  dlog a += <dS, aS>;  dS = a dS                       */
INLINE void second_columns(struct step *t, float *ds, const float *s, const float *u,
                           const float *dr, int64_t j, int64_t dk, int64_t n, int rows)
{
    __m256 vk = load(t->k + j, n), gk = load(t->gk + j, n), va = _mm256_set1_ps(t->a);
    __m256 less = _mm256_setzero_ps(), ga = less;
    UNROLL
    for (int i = 0; i < rows; i++) {
        __m256 vs = load(s + i * dk + j, n), d = load(ds + i * dk + j, n);
        __m256 vdr = _mm256_set1_ps(dr[i]);
        gk = _mm256_fmadd_ps(d, _mm256_set1_ps(u[i]), gk);
        less = _mm256_fmadd_ps(vs, vdr, less);
        d = _mm256_fnmadd_ps(vdr, vk, d);
        ga = _mm256_fmadd_ps(d, vs, ga);
        store(ds + i * dk + j, n, _mm256_mul_ps(d, va));
    }
    store(t->gk + j, n, _mm256_sub_ps(gk, less));
    t->ga = _mm256_add_ps(t->ga, ga);
}

/* Rows i .. i + rows of S and dS for one step; s is the decayed state before the write       */
INLINE void back_rows(struct step *t, float *ds, const float *s, int64_t i, int64_t dk, int rows)
{
    __m256 du[8];
    float grad_u[8], u[4], dr[4];
    UNROLL
    for (int r = 0; r < 8; r++) du[r] = _mm256_setzero_ps();
    int64_t j = 0;
    for (; j + 8 <= dk; j += 8) first_columns(t, ds, s, t->go + i, j, dk, 8, rows, du);
    if (j < dk) first_columns(t, ds, s, t->go + i, j, dk, dk - j, rows, du);
    _mm256_storeu_ps(grad_u, fold8(du));
    for (int r = 0; r < rows; r++) {
        float left = t->gv[i + r];
        u[r] = t->b * left;
        dr[r] = t->b * grad_u[r];
        t->ku += u[r] * t->go[i + r];                   /* dq also has k u do            */
        t->gb += grad_u[r] * left;
        t->gv[i + r] = dr[r];
    }
    for (j = 0; j + 8 <= dk; j += 8) second_columns(t, ds, s, u, dr, j, dk, 8, rows);
    if (j < dk) second_columns(t, ds, s, u, dr, j, dk, dk - j, rows);
}

/* work[t] = a_t S_{t-1}, dv_[t] = v_t - <work[t], k_t> for all rows t                        */
static void forward_again(const float *S, const float *k, const float *v, int64_t ld, const float *a,
                          const float *b, int64_t lds, float *dv_, int64_t rows, int64_t dk,
                          int64_t dv, float *work)
{
    int64_t size = dv * dk;
    for (int64_t j = 0; rows && j < size; j++) work[j] = a[0] * S[j];
    for (int64_t t = 0; t < rows; t++) {
        float *s = work + t * size, *next = t + 1 < rows ? s + size : NULL;
        float decay = next ? a[(t + 1) * lds] : 0;
        for (int64_t i = 0; i < dv; i += dv - i >= 4 ? 4 : 1) {
            const float *vi = v + t * ld + i;
            float *r = dv_ + t * ld + i, *to = next ? next + i * dk : NULL;
            if (dv - i >= 4)
                forward_rows(to, s + i * dk, k + t * ld, vi, r, b[t * lds], decay, dk, 4);
            else
                forward_rows(to, s + i * dk, k + t * ld, vi, r, b[t * lds], decay, dk, 1);
        }
    }
}

void avx2_delta_rule_back(const float *S, float *dS, const float *q, const float *k,
                          const float *v, int64_t ld, const float *a, const float *b,
                          int64_t lds, const float *dout, float *dq, float *dk_, float *dv_,
                          float *dlog_a, float *db, int64_t rows, int64_t dk, int64_t dv,
                          float *work)
{
    forward_again(S, k, v, ld, a, b, lds, dv_, rows, dk, dv, work);
    for (int64_t t = rows - 1; t >= 0; t--) {
        struct step s = { q + t * ld, k + t * ld, v + t * ld, dout + t * ld, dq + t * ld, dk_ + t * ld,
                          dv_ + t * ld, a[t * lds], b[t * lds], 0, 0, _mm256_setzero_ps() };
        const float *state = work + t * dv * dk;
        memset(s.gq, 0, (size_t)dk * sizeof *s.gq);
        memset(s.gk, 0, (size_t)dk * sizeof *s.gk);
        int64_t i = 0;
        for (; i + 4 <= dv; i += 4) back_rows(&s, dS + i * dk, state + i * dk, i, dk, 4);
        for (; i < dv; i++) back_rows(&s, dS + i * dk, state + i * dk, i, dk, 1);
        avx2_axpy(s.gq, s.ku, s.k, dk);
        db[t * lds] = s.gb;
        dlog_a[t * lds] = fold(s.ga, _mm256_setzero_ps());
    }
}

/* ---- without the delta term: u_i = b v_i --------------------------------------------------- */

static void hebb_step8(float *S, const float *q, const float *k, const float *v, float a, float b,
                       float *o, int64_t count, int64_t dk)
{
    __m256 r[8];
    float u[8];
    _mm256_storeu_ps(u, _mm256_mul_ps(_mm256_set1_ps(b), load(v, count)));
    UNROLL
    for (int64_t i = 0; i < 8; i++)
        r[i] = i < count ? write_row(S + i * dk, a, u[i], k, q, dk) : _mm256_setzero_ps();
    store(o, count, fold8(r));
}

void avx2_hebb_rule(float *S, const float *q, const float *k, int64_t ldk, const float *v, int64_t ldv,
                    const float *a, const float *b, int64_t lds, float *o, int64_t rows, int64_t dk,
                    int64_t dv)
{
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < dv; i += 8) {
            if (rows == 1) fetch_rows(S + (i + 8) * dk, 8 * dk);
            hebb_step8(S + i * dk, q + t * ldk, k + t * ldk, v + t * ldv + i, a[t * lds], b[t * lds],
                       o + t * ldv + i, dv - i < 8 ? dv - i : 8, dk);
        }
}

/* The pass of up to four rows of S through time: work[t] is what row t of time makes of them  */
struct hebb {
    const float *S, *q, *k, *v, *a, *b, *go;
    float *dS, *gq, *gk, *gv, *ga, *gb, *work;
    int64_t ldk, ldv, lds, rows, dk;
};

/* n columns of rows (1 or 4) rows: s = a before + u k;  gq += go s                             */
INLINE void hebb_columns(float *s, const float *before, const float *k, float *gq, const float u[4],
                         const float *go, float a, int64_t dk, int64_t n, int rows)
{
    __m256 vk = load(k, n), g = load(gq, n), va = _mm256_set1_ps(a);
    UNROLL
    for (int i = 0; i < rows; i++) {
        __m256 x = _mm256_fmadd_ps(_mm256_set1_ps(u[i]), vk, _mm256_mul_ps(va, load(before + i * dk, n)));
        store(s + i * dk, n, x);
        g = _mm256_fmadd_ps(_mm256_set1_ps(go[i]), x, g);
    }
    store(gq, n, g);
}

INLINE const float *hebb_before(const struct hebb *h, int64_t t, int64_t i, int rows)
{
    return t ? h->work + (t - 1) * rows * h->dk : h->S + i * h->dk;
}

INLINE void hebb_forward_rows(const struct hebb *h, int64_t t, int64_t i, int rows)
{
    const float *before = hebb_before(h, t, i, rows), *k = h->k + t * h->ldk, *go = h->go + t * h->ldv + i;
    float *s = h->work + t * rows * h->dk, *gq = h->gq + t * h->ldk, a = h->a[t * h->lds], u[4];
    int64_t j = 0, dk = h->dk;
    for (int r = 0; r < rows; r++) u[r] = h->b[t * h->lds] * h->v[t * h->ldv + i + r];
    for (; j + 8 <= dk; j += 8) hebb_columns(s + j, before + j, k + j, gq + j, u, go, a, dk, 8, rows);
    if (j < dk) hebb_columns(s + j, before + j, k + j, gq + j, u, go, a, dk, dk - j, rows);
}

/* One step of the way back, at its columns j: sum[0 .. rows-1] of <dS, k>, sum[4 .. ] of <dS, before> */
struct hebb_step { const float *k, *q, *before, *u, *go; float *gk, *ds, a; };

/* n columns: dS += do q';  dk += u dS;  dS = a dS                                              */
INLINE void hebb_back_columns(const struct hebb_step *t, int64_t j, int64_t dk, int64_t n, int rows, __m256 sum[8])
{
    __m256 vk = load(t->k + j, n), vq = load(t->q + j, n), gk = load(t->gk + j, n);
    __m256 va = _mm256_set1_ps(t->a);
    UNROLL
    for (int i = 0; i < rows; i++) {
        __m256 d = _mm256_fmadd_ps(_mm256_set1_ps(t->go[i]), vq, load(t->ds + i * dk + j, n));
        sum[i] = _mm256_fmadd_ps(d, vk, sum[i]);
        sum[4 + i] = _mm256_fmadd_ps(d, load(t->before + i * dk + j, n), sum[4 + i]);
        gk = _mm256_fmadd_ps(_mm256_set1_ps(t->u[i]), d, gk);
        store(t->ds + i * dk + j, n, _mm256_mul_ps(d, va));
    }
    store(t->gk + j, n, gk);
}

INLINE void hebb_back_rows(const struct hebb *h, int64_t t, int64_t i, int rows)
{
    const float *v = h->v + t * h->ldv + i;
    float b = h->b[t * h->lds], u[4], grad[8], sum_v = 0, sum_s = 0;
    struct hebb_step s = { h->k + t * h->ldk, h->q + t * h->ldk, hebb_before(h, t, i, rows), u,
                           h->go + t * h->ldv + i, h->gk + t * h->ldk, h->dS + i * h->dk, h->a[t * h->lds] };
    __m256 sum[8];
    UNROLL
    for (int r = 0; r < 8; r++) sum[r] = _mm256_setzero_ps();
    for (int r = 0; r < rows; r++) u[r] = b * v[r];
    int64_t j = 0;
    for (; j + 8 <= h->dk; j += 8) hebb_back_columns(&s, j, h->dk, 8, rows, sum);
    if (j < h->dk) hebb_back_columns(&s, j, h->dk, h->dk - j, rows, sum);
    _mm256_storeu_ps(grad, fold8(sum));
    for (int r = 0; r < rows; r++) {
        h->gv[t * h->ldv + i + r] = b * grad[r];
        sum_v += v[r] * grad[r];
        sum_s += grad[4 + r];
    }
    h->gb[t * h->lds] += sum_v;
    h->ga[t * h->lds] += s.a * sum_s;
}

INLINE void hebb_rows(const struct hebb *h, int64_t i, int rows)
{
    for (int64_t t = 0; t < h->rows; t++) hebb_forward_rows(h, t, i, rows);
    for (int64_t t = h->rows - 1; t >= 0; t--) hebb_back_rows(h, t, i, rows);
}

void avx2_hebb_rule_back(const float *S, float *dS, const float *q, const float *k, int64_t ldk,
                         const float *v, int64_t ldv, const float *a, const float *b, int64_t lds,
                         const float *dout, float *dq, float *dk_, float *dv_, float *dlog_a, float *db,
                         int64_t rows, int64_t dk, int64_t dv, float *work)
{
    struct hebb h = { S, q, k, v, a, b, dout, dS, dq, dk_, dv_, dlog_a, db, work, ldk, ldv, lds, rows, dk };
    int64_t i = 0;
    for (int64_t t = 0; t < rows; t++) {
        memset(dq + t * ldk, 0, (size_t)dk * sizeof *dq);
        memset(dk_ + t * ldk, 0, (size_t)dk * sizeof *dk_);
        dlog_a[t * lds] = db[t * lds] = 0;
    }
    for (; i + 4 <= dv; i += 4) hebb_rows(&h, i, 4);
    for (; i < dv; i++) hebb_rows(&h, i, 1);
}
