/* vector.c - elementwise kernels, sums and the int8 step of activations.
 *
 * Each function does the operations of core/src/reference.c and chimera/math.h in
 * their order, four values at a time.                                              */
#include "wasm_simd128.h"
#include <chimera/math.h>
#include <string.h>

/* ---- sums ------------------------------------------------------------------------ */

float w128_dot(const float *a, const float *b, int64_t n)
{
    v128_t s[4];
    clear(s);
    lanes(s, a, b, n);
    return fold(s);
}

void w128_axpy(float *y, float a, const float *x, int64_t n)
{
    v128_t va = wasm_f32x4_splat(a);
    for (int64_t i = 0; i < n; i += 4) store(y + i, n - i, muladd(load(y + i, n - i), va, load(x + i, n - i)));
}

/* Four rows go together: their four horizontal sums cost little more than one           */
void w128_dots(float *y, const float *W, int64_t ldw, const float *x, int64_t rows, int64_t n)
{
    for (int64_t i = 0; i < rows; i += 4) {
        v128_t r[4];
        UNROLL
        for (int64_t j = 0; j < 4; j++)
            r[j] = i + j < rows ? read_row(W + (i + j) * ldw, x, n) : wasm_f32x4_const_splat(0);
        store(y + i, rows - i, fold4(r));
    }
}

/* y stays in locals while the rows go by, 32 columns at a time                          */
void w128_axpys(float *y, const float *a, const float *X, int64_t ldx, int64_t rows, int64_t n)
{
    int64_t c = 0;
    for (; c + 32 <= n; c += 32) {
        v128_t sum[8];
        UNROLL
        for (int i = 0; i < 8; i++) sum[i] = wasm_v128_load(y + c + 4 * i);
        for (int64_t r = 0; r < rows; r++) {
            v128_t va = wasm_f32x4_splat(a[r]);
            UNROLL
            for (int i = 0; i < 8; i++) sum[i] = muladd(sum[i], va, wasm_v128_load(X + r * ldx + c + 4 * i));
        }
        UNROLL
        for (int i = 0; i < 8; i++) wasm_v128_store(y + c + 4 * i, sum[i]);
    }
    for (; c < n; c += 4) {
        v128_t sum = load(y + c, n - c);
        for (int64_t r = 0; r < rows; r++) sum = muladd(sum, wasm_f32x4_splat(a[r]), load(X + r * ldx + c, n - c));
        store(y + c, n - c, sum);
    }
}

float w128_rmsnorm(float *y, const float *x, const float *gain, int64_t n, float eps)
{
    float r = 1.0f / sqrtf(w128_dot(x, x, n) / (float)n + eps);
    v128_t vr = wasm_f32x4_splat(r);
    for (int64_t i = 0; i < n; i += 4) {
        v128_t v = wasm_f32x4_mul(load(x + i, n - i), vr);
        store(y + i, n - i, gain ? wasm_f32x4_mul(v, load(gain + i, n - i)) : v);
    }
    return r;
}

/* ---- e^x and its friends: chimera/math.h in vectors -------------------------------- */

INLINE v128_t poly(v128_t p, v128_t x, float c)
{
    return wasm_f32x4_add(wasm_f32x4_mul(p, x), wasm_f32x4_splat(c));
}

INLINE v128_t two_to(v128_t n)
{
    return wasm_i32x4_shl(wasm_i32x4_add(n, wasm_i32x4_const_splat(127)), 23);
}

static v128_t vexp(v128_t x)
{
    v128_t below = wasm_f32x4_lt(x, wasm_f32x4_const_splat(0));
    v128_t half = wasm_v128_bitselect(wasm_f32x4_const_splat(-0.5f), wasm_f32x4_const_splat(0.5f), below);
    v128_t low = wasm_f32x4_lt(x, wasm_f32x4_const_splat(-103.9f));
    v128_t fine = wasm_f32x4_lt(x, wasm_f32x4_const_splat(88.72f));             /* NaN is not */
    v128_t turns = wasm_f32x4_mul(x, wasm_f32x4_const_splat(1.44269504f));
    v128_t n = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_add(turns, half));
    v128_t f = wasm_f32x4_convert_i32x4(n);
    v128_t r = wasm_f32x4_sub(x, wasm_f32x4_mul(f, wasm_f32x4_const_splat(0.693359375f)));
    r = wasm_f32x4_add(r, wasm_f32x4_mul(f, wasm_f32x4_const_splat(2.12194440e-4f)));
    v128_t p = poly(wasm_f32x4_const_splat(1.98756915e-4f), r, 1.39819995e-3f);
    p = poly(p, r, 8.33345191e-3f);
    p = poly(p, r, 4.16657959e-2f);
    p = poly(p, r, 1.66666655e-1f);
    p = poly(p, r, 5.00000012e-1f);
    p = wasm_f32x4_add(wasm_f32x4_mul(p, wasm_f32x4_mul(r, r)), r);
    p = wasm_f32x4_add(p, wasm_f32x4_const_splat(1.0f));
    v128_t a = wasm_i32x4_shr(wasm_i32x4_add(n, wasm_u32x4_shr(n, 31)), 1);     /* n / 2    */
    p = wasm_f32x4_mul(wasm_f32x4_mul(p, two_to(a)), two_to(wasm_i32x4_sub(n, a)));
    p = wasm_v128_bitselect(p, wasm_f32x4_mul(x, wasm_f32x4_const_splat(INFINITY)), fine);
    return wasm_v128_andnot(p, low);
}

static v128_t vsigmoid(v128_t x)
{
    v128_t one = wasm_f32x4_const_splat(1.0f);
    v128_t e = vexp(wasm_v128_or(x, wasm_f32x4_const_splat(-0.0f)));            /* e^-|x|   */
    v128_t below = wasm_f32x4_lt(x, wasm_f32x4_const_splat(0));
    return wasm_f32x4_div(wasm_v128_bitselect(e, one, below), wasm_f32x4_add(one, e));
}

void w128_silu(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) {
        v128_t v = load(x + i, n - i);
        store(y + i, n - i, wasm_f32x4_mul(v, vsigmoid(v)));
    }
}

void w128_silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) {
        v128_t v = load(g + i, n - i);
        v = wasm_f32x4_mul(v, vsigmoid(v));
        store(y + i, n - i, wasm_f32x4_mul(v, load(u + i, n - i)));
    }
}

void w128_silu_back(float *dx, const float *x, const float *dy, int64_t n)
{
    v128_t one = wasm_f32x4_const_splat(1.0f);
    for (int64_t i = 0; i < n; i += 4) {
        v128_t v = load(x + i, n - i), s = vsigmoid(v);
        v128_t t = wasm_f32x4_add(one, wasm_f32x4_mul(v, wasm_f32x4_sub(one, s)));
        store(dx + i, n - i, wasm_f32x4_mul(load(dy + i, n - i), wasm_f32x4_mul(s, t)));
    }
}

/* pmax(old, new) is old < new ? new : old, NaN included, as in the reference           */
static float greatest(const float *x, int64_t n)
{
    v128_t max = wasm_f32x4_splat(x[0]);
    for (int64_t i = 0; i + 4 <= n; i += 4) max = wasm_f32x4_pmax(max, wasm_v128_load(x + i));
    float lane[4], top;
    wasm_v128_store(lane, max);
    top = lane[0];
    for (int j = 1; j < 4; j++) top = lane[j] > top ? lane[j] : top;
    for (int64_t i = n & ~(int64_t)3; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

/* Lanes below n (1..4), all ones                                                       */
static v128_t first(int64_t n)
{
    return wasm_i32x4_gt(wasm_i32x4_splat(n > 4 ? 4 : (int32_t)n), wasm_i32x4_const(0, 1, 2, 3));
}

float w128_softmax(float *y, const float *x, int64_t n)
{
    float top = greatest(x, n);
    v128_t max = wasm_f32x4_splat(top), sum[4];
    clear(sum);
    for (int64_t i = 0; i < n; i += 4) {
        v128_t e = vexp(wasm_f32x4_sub(load(x + i, n - i), max));
        store(y + i, n - i, e);
        sum[i >> 2 & 3] = wasm_f32x4_add(sum[i >> 2 & 3], wasm_v128_and(e, first(n - i)));
    }
    float total = fold(sum);
    v128_t vt = wasm_f32x4_splat(total);
    for (int64_t i = 0; i < n; i += 4) store(y + i, n - i, wasm_f32x4_div(load(y + i, n - i), vt));
    return top + chi_log(total);
}

/* ---- activations to int8 --------------------------------------------------------------- */

INLINE v128_t to_int(v128_t x, v128_t inv)              /* NaN becomes -127             */
{
    v128_t v = wasm_f32x4_pmax(wasm_f32x4_const_splat(-127.0f), wasm_f32x4_mul(x, inv));
    v = wasm_f32x4_pmin(wasm_f32x4_const_splat(127.0f), v);
    return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(v));
}

/* Without their signs, floats are ordered as their bits are, and NaN is above all      */
static float greatest_abs(const float x[CHI_ACT_BLOCK])
{
    v128_t max = wasm_i32x4_const_splat(0);
    for (int i = 0; i < CHI_ACT_BLOCK; i += 4)
        max = wasm_i32x4_max(max, wasm_v128_and(wasm_v128_load(x + i), wasm_i32x4_const_splat(0x7fffffff)));
    max = wasm_i32x4_max(max, wasm_i32x4_shuffle(max, max, 2, 3, 0, 1));
    max = wasm_i32x4_max(max, wasm_i32x4_shuffle(max, max, 1, 0, 3, 2));
    return wasm_f32x4_extract_lane(max, 0);
}

static void quantize_block(int8_t q[CHI_ACT_BLOCK], float *step, int16_t *sum, const float x[CHI_ACT_BLOCK])
{
    float top = greatest_abs(x);
    bool some = top >= 1e-30f;
    v128_t inv = wasm_f32x4_splat(some ? 127.0f / top : 0), total = wasm_i32x4_const_splat(0);
    for (int i = 0; i < CHI_ACT_BLOCK; i += 16) {
        v128_t v[4];
        UNROLL
        for (int j = 0; j < 4; j++) {
            v[j] = to_int(wasm_v128_load(x + i + 4 * j), inv);
            total = wasm_i32x4_add(total, v[j]);
        }
        wasm_v128_store(q + i, wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(v[0], v[1]),
                                                       wasm_i16x8_narrow_i32x4(v[2], v[3])));
    }
    total = wasm_i32x4_add(total, wasm_i32x4_shuffle(total, total, 2, 3, 0, 1));
    *step = some ? top / 127.0f : isnan(top) ? NAN : 0;
    *sum = (int16_t)(wasm_i32x4_extract_lane(total, 0) + wasm_i32x4_extract_lane(total, 1));
}

void w128_quantize_i8(int8_t *q, float *step, int16_t *sum, const float *x, int64_t n)
{
    int64_t b = 0;
    for (; (b + 1) * CHI_ACT_BLOCK <= n; b++, x += CHI_ACT_BLOCK, q += CHI_ACT_BLOCK)
        quantize_block(q, step + b, sum + b, x);
    int64_t left = n - b * CHI_ACT_BLOCK;
    if (left <= 0) return;
    float last[CHI_ACT_BLOCK] = { 0 };
    int8_t whole[CHI_ACT_BLOCK];
    memcpy(last, x, (size_t)left * sizeof *last);
    quantize_block(whole, step + b, sum + b, last);
    memcpy(q, whole, (size_t)left);
}
