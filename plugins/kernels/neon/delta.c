/* delta.c - the memories of one head: the gated delta rule (arXiv 2412.06464) and, at the
 * end, the same without the delta term.
 *
 *     u_i = b (v_i - a <S_i, k>);   S_i = a S_i + u_i k;   o_i = <S_i, q>
 *
 * for the rows i of S[dv,dk].  Four rows go together: they share the loads of k and q, and
 * their sums hide each other's latency.                                                   */
#include "neon.h"

/* s = a s + u k; returns the lanes of <s, q>                                                */
static float32x4_t write_row(float *s, float a, float u, const float *k, const float *q, int64_t n)
{
    float32x4_t sum[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
    float32x4_t va = vdupq_n_f32(a), vu = vdupq_n_f32(u);
    int64_t j = 0;
    for (; j + 16 <= n; j += 16)
        UNROLL
        for (int h = 0; h < 4; h++) {
            int64_t at = j + 4 * h;
            float32x4_t x = muladd(vmulq_f32(va, vld1q_f32(s + at)), vu, vld1q_f32(k + at));
            vst1q_f32(s + at, x);
            sum[h] = muladd(sum[h], x, vld1q_f32(q + at));
        }
    UNROLL
    for (int h = 0; h < 4; h++) {
        int64_t at = j + 4 * h;
        if (at >= n) break;
        float32x4_t x = muladd(vmulq_f32(va, load(s + at, n - at)), vu, load(k + at, n - at));
        store(s + at, n - at, x);
        sum[h] = muladd(sum[h], x, load(q + at, n - at));
    }
    return add4(sum);
}

/* Up to four rows of S are written with u and read with q                                    */
INLINE void write_rows(float *S, const float *q, const float *k, float a, float32x4_t u, float *o, int64_t count,
                       int64_t dk)
{
    float32x4_t r[4];
    float each[4];
    vst1q_f32(each, u);
    for (int64_t i = 0; i < 4; i++)
        r[i] = i < count ? write_row(S + i * dk, a, each[i], k, q, dk) : vdupq_n_f32(0);
    store(o, count, fold4(r));
}

void neon_delta_rule(float *S, const float *q, const float *k, const float *v, int64_t ld, const float *a,
                     const float *b, int64_t lds, float *o, int64_t rows, int64_t dk, int64_t dv)
{
    for (int64_t t = 0; t < rows; t++, q += ld, k += ld, v += ld, o += ld)
        for (int64_t i = 0; i < dv; i += 4) {
            float32x4_t r[4];
            float at = a[t * lds];
            for (int64_t j = 0; j < 4; j++) r[j] = i + j < dv ? lanes(S + (i + j) * dk, k, dk) : vdupq_n_f32(0);
            float32x4_t u = vsubq_f32(load(v + i, dv - i), vmulq_f32(vdupq_n_f32(at), fold4(r)));
            write_rows(S + i * dk, q, k, at, vmulq_f32(vdupq_n_f32(b[t * lds]), u), o + i, dv - i, dk);
        }
}

/* Without the delta term: u_i = b v_i                                                         */
void neon_hebb_rule(float *S, const float *q, const float *k, int64_t ldk, const float *v, int64_t ldv,
                    const float *a, const float *b, int64_t lds, float *o, int64_t rows, int64_t dk, int64_t dv)
{
    for (int64_t t = 0; t < rows; t++, q += ldk, k += ldk, v += ldv, o += ldv)
        for (int64_t i = 0; i < dv; i += 4)
            write_rows(S + i * dk, q, k, a[t * lds], vmulq_f32(vdupq_n_f32(b[t * lds]), load(v + i, dv - i)),
                       o + i, dv - i, dk);
}
