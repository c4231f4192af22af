/* delta.c - the memories of one head: the gated delta rule (arXiv 2412.06464) and the same
 * without the delta term.
 *
 *     u_i = b (v_i - a <S_i, k>);   S_i = a S_i + u_i k;   o_i = <S_i, q>
 *
 * for the rows i of S[dv,dk].  Rows are independent within a step; four of them go
 * together, so that their four horizontal sums cost little more than one.           */
#include "wasm_simd128.h"

/* s = a s + u k; returns <s, q>, all but the last two folds                            */
static v128_t write_row(float *s, float a, float u, const float *k, const float *q, int64_t n)
{
    v128_t sum[4], va = wasm_f32x4_splat(a), vu = wasm_f32x4_splat(u);
    clear(sum);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        UNROLL
        for (int j = 0; j < 4; j++) {
            float *at = s + i + 4 * j;
            v128_t x = muladd(wasm_f32x4_mul(va, wasm_v128_load(at)), vu, wasm_v128_load(k + i + 4 * j));
            wasm_v128_store(at, x);
            sum[j] = muladd(sum[j], x, wasm_v128_load(q + i + 4 * j));
        }
    UNROLL
    for (int j = 0; j < 4; j++) {
        int64_t at = i + 4 * j, left = n - at;
        if (left <= 0) continue;
        v128_t x = muladd(wasm_f32x4_mul(va, load(s + at, left)), vu, load(k + at, left));
        store(s + at, left, x);
        if (left < 4) x = load(s + at, left);                   /* what lies behind may be NaN */
        sum[j] = muladd(sum[j], x, load(q + at, left));
    }
    return halves(sum);
}

/* Up to four rows of S for one step; without the delta term, p is not taken off        */
INLINE void step4(float *S, const float *q, const float *k, const float *v, float a, float b, float *o,
                  int64_t count, int64_t dk, bool delta)
{
    v128_t r[4], vv = load(v, count);
    float u[4];
    clear(r);
    if (delta) {
        for (int64_t i = 0; i < count; i++) r[i] = read_row(S + i * dk, k, dk);
        vv = wasm_f32x4_sub(vv, wasm_f32x4_mul(wasm_f32x4_splat(a), fold4(r)));
    }
    wasm_v128_store(u, wasm_f32x4_mul(wasm_f32x4_splat(b), vv));
    for (int64_t i = 0; i < count; i++) r[i] = write_row(S + i * dk, a, u[i], k, q, dk);
    store(o, count, fold4(r));
}

void w128_delta_rule(float *S, const float *q, const float *k, const float *v, int64_t ld, const float *a,
                     const float *b, int64_t lds, float *o, int64_t rows, int64_t dk, int64_t dv)
{
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < dv; i += 4)
            step4(S + i * dk, q + t * ld, k + t * ld, v + t * ld + i, a[t * lds], b[t * lds], o + t * ld + i,
                  dv - i < 4 ? dv - i : 4, dk, true);
}

void w128_hebb_rule(float *S, const float *q, const float *k, int64_t ldk, const float *v, int64_t ldv,
                    const float *a, const float *b, int64_t lds, float *o, int64_t rows, int64_t dk, int64_t dv)
{
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < dv; i += 4)
            step4(S + i * dk, q + t * ldk, k + t * ldk, v + t * ldv + i, a[t * lds], b[t * lds], o + t * ldv + i,
                  dv - i < 4 ? dv - i : 4, dk, false);
}
