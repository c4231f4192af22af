/* vector.c - elementwise kernels, sums and the int8 step of activations.
 *
 * Each function does the operations of core/src/reference.c and chimera/math.h in their
 * order, 4 or 16 values at a time.                                                         */
#include "neon.h"
#include <chimera/math.h>

/* ---- sums ------------------------------------------------------------------------------- */

float neon_dot(const float *a, const float *b, int64_t n)
{
    float32x4_t s[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        UNROLL
        for (int j = 0; j < 4; j++) s[j] = muladd(s[j], vld1q_f32(a + i + 4 * j), vld1q_f32(b + i + 4 * j));
    UNROLL
    for (int j = 0; j < 4; j++)                         /* + 0 * 0 leaves a sum as it is     */
        if (i + 4 * j < n) s[j] = muladd(s[j], load(a + i + 4 * j, n - i - 4 * j), load(b + i + 4 * j, n - i - 4 * j));
    return fold(s);
}

void neon_axpy(float *y, float a, const float *x, int64_t n)
{
    float32x4_t va = vdupq_n_f32(a);
    for (int64_t i = 0; i < n; i += 4) store(y + i, n - i, muladd(load(y + i, n - i), va, load(x + i, n - i)));
}

/* Four rows go together: their sums hide each other's latency and share the loads of x         */
void neon_dots(float *y, const float *W, int64_t ldw, const float *x, int64_t rows, int64_t n)
{
    for (int64_t i = 0; i < rows; i += 4) {
        float32x4_t r[4];
        UNROLL
        for (int64_t j = 0; j < 4; j++) r[j] = i + j < rows ? lanes(W + (i + j) * ldw, x, n) : vdupq_n_f32(0);
        store(y + i, rows - i, fold4(r));
    }
}

/* y stays in registers while the rows go by, 64 columns at a time                              */
void neon_axpys(float *y, const float *a, const float *X, int64_t ldx, int64_t rows, int64_t n)
{
    int64_t c = 0;
    for (; c + 64 <= n; c += 64) {
        float32x4_t sum[16];
        UNROLL
        for (int i = 0; i < 16; i++) sum[i] = vld1q_f32(y + c + 4 * i);
        for (int64_t r = 0; r < rows; r++) {
            float32x4_t va = vdupq_n_f32(a[r]);
            UNROLL
            for (int i = 0; i < 16; i++) sum[i] = muladd(sum[i], va, vld1q_f32(X + r * ldx + c + 4 * i));
        }
        UNROLL
        for (int i = 0; i < 16; i++) vst1q_f32(y + c + 4 * i, sum[i]);
    }
    for (; c < n; c += 4) {
        float32x4_t sum = load(y + c, n - c);
        for (int64_t r = 0; r < rows; r++) sum = muladd(sum, vdupq_n_f32(a[r]), load(X + r * ldx + c, n - c));
        store(y + c, n - c, sum);
    }
}

float neon_rmsnorm(float *y, const float *x, const float *gain, int64_t n, float eps)
{
    float r = 1.0f / sqrtf(neon_dot(x, x, n) / (float)n + eps);
    float32x4_t vr = vdupq_n_f32(r);
    for (int64_t i = 0; i < n; i += 4) {
        float32x4_t v = vmulq_f32(load(x + i, n - i), vr);
        store(y + i, n - i, gain ? vmulq_f32(v, load(gain + i, n - i)) : v);
    }
    return r;
}

/* ---- e^x and its friends: chimera/math.h in vectors ---------------------------------------- */

INLINE float32x4_t poly(float32x4_t p, float32x4_t x, float c)
{
    return muladd(vdupq_n_f32(c), p, x);
}

INLINE float32x4_t two_to(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

static float32x4_t vexp(float32x4_t x)
{
    float32x4_t half = vbslq_f32(vcltzq_f32(x), vdupq_n_f32(-0.5f), vdupq_n_f32(0.5f));
    uint32x4_t low = vcltq_f32(x, vdupq_n_f32(-103.9f));
    uint32x4_t good = vcltq_f32(x, vdupq_n_f32(88.72f));                /* no NaN either       */
    int32x4_t n = vcvtq_s32_f32(vaddq_f32(vmulq_f32(x, vdupq_n_f32(1.44269504f)), half));
    float32x4_t f = vcvtq_f32_s32(n);
    float32x4_t r = vsubq_f32(x, vmulq_f32(f, vdupq_n_f32(0.693359375f)));
    r = muladd(r, f, vdupq_n_f32(2.12194440e-4f));
    float32x4_t p = poly(vdupq_n_f32(1.98756915e-4f), r, 1.39819995e-3f);
    p = poly(p, r, 8.33345191e-3f);
    p = poly(p, r, 4.16657959e-2f);
    p = poly(p, r, 1.66666655e-1f);
    p = poly(p, r, 5.00000012e-1f);
    p = vaddq_f32(muladd(r, p, vmulq_f32(r, r)), vdupq_n_f32(1.0f));
    int32x4_t a = vshrq_n_s32(vsubq_s32(n, vshrq_n_s32(n, 31)), 1);     /* n / 2, towards zero */
    p = vmulq_f32(vmulq_f32(p, two_to(a)), two_to(vsubq_s32(n, a)));
    p = vbslq_f32(good, p, vmulq_f32(x, vdupq_n_f32(INFINITY)));
    return vbslq_f32(low, vdupq_n_f32(0), p);
}

static float32x4_t vsigmoid(float32x4_t x)
{
    float32x4_t one = vdupq_n_f32(1.0f), e = vexp(vnegq_f32(vabsq_f32(x)));
    return vdivq_f32(vbslq_f32(vcltzq_f32(x), e, one), vaddq_f32(one, e));
}

void neon_silu(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) {
        float32x4_t v = load(x + i, n - i);
        store(y + i, n - i, vmulq_f32(v, vsigmoid(v)));
    }
}

void neon_silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) {
        float32x4_t v = load(g + i, n - i);
        v = vmulq_f32(v, vsigmoid(v));
        store(y + i, n - i, vmulq_f32(v, load(u + i, n - i)));
    }
}

void neon_silu_back(float *dx, const float *x, const float *dy, int64_t n)
{
    float32x4_t one = vdupq_n_f32(1.0f);
    for (int64_t i = 0; i < n; i += 4) {
        float32x4_t v = load(x + i, n - i), s = vsigmoid(v);
        float32x4_t t = muladd(one, v, vsubq_f32(one, s));
        store(dx + i, n - i, vmulq_f32(load(dy + i, n - i), vmulq_f32(s, t)));
    }
}

/* new > old ? new : old, as in the reference: a NaN in front stays, another is passed by       */
static float greatest(const float *x, int64_t n)
{
    float32x4_t max = vdupq_n_f32(x[0]);
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t v = vld1q_f32(x + i);
        max = vbslq_f32(vcgtq_f32(v, max), v, max);
    }
    float lane[4], top;
    vst1q_f32(lane, max);
    top = lane[0];
    for (int j = 1; j < 4; j++) top = lane[j] > top ? lane[j] : top;
    for (; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

float neon_softmax(float *y, const float *x, int64_t n)
{
    float top = greatest(x, n);
    float32x4_t max = vdupq_n_f32(top);
    float32x4_t sum[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
    for (int64_t i = 0; i < n; i += 4) {
        float32x4_t e = vexp(vsubq_f32(load(x + i, n - i), max));
        store(y + i, n - i, e);
        sum[i / 4 % 4] = vaddq_f32(sum[i / 4 % 4], n - i < 4 ? load(y + i, n - i) : e);
    }
    float total = fold(sum);
    float32x4_t vt = vdupq_n_f32(total);
    for (int64_t i = 0; i < n; i += 4) store(y + i, n - i, vdivq_f32(load(y + i, n - i), vt));
    return top + chi_log(total);
}

/* ---- activations to int8 ---------------------------------------------------------------------- */

/* Half to even, within +-127; NaN becomes -127, since a maximum by number passes it by            */
INLINE int16x4_t to_int(const float *x, float32x4_t inv)
{
    float32x4_t v = vmaxnmq_f32(vmulq_f32(vld1q_f32(x), inv), vdupq_n_f32(-127.0f));
    return vmovn_s32(vcvtnq_s32_f32(vminnmq_f32(v, vdupq_n_f32(127.0f))));
}

/* A whole block of 64                                                                             */
static void quantize_block(int8_t *q, float *step, int16_t *sum, const float *x)
{
    /* Without their signs, floats are ordered as their bits are, and NaN is above all           */
    uint32x4_t max = vdupq_n_u32(0);
    for (int i = 0; i < CHI_ACT_BLOCK; i += 4)
        max = vmaxq_u32(max, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
    float top = chi_float(vmaxvq_u32(max));
    bool some = top >= 1e-30f;
    float32x4_t inv = vdupq_n_f32(some ? 127.0f / top : 0);
    int32_t total = 0;
    for (int i = 0; i < CHI_ACT_BLOCK; i += 16) {
        int16x8_t lo = vcombine_s16(to_int(x + i, inv), to_int(x + i + 4, inv));
        int16x8_t hi = vcombine_s16(to_int(x + i + 8, inv), to_int(x + i + 12, inv));
        vst1q_s8(q + i, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
        total += vaddvq_s16(vaddq_s16(lo, hi));
    }
    *step = some ? top / 127.0f : isnan(top) ? NAN : 0;
    *sum = (int16_t)total;
}

void neon_quantize_i8(int8_t *q, float *step, int16_t *sum, const float *x, int64_t n)
{
    int64_t b = 0;
    for (; (b + 1) * CHI_ACT_BLOCK <= n; b++, x += CHI_ACT_BLOCK, q += CHI_ACT_BLOCK)
        quantize_block(q, step + b, sum + b, x);
    int64_t len = n - b * CHI_ACT_BLOCK;
    if (len <= 0) return;
    float last[CHI_ACT_BLOCK] = { 0 };
    int8_t whole[CHI_ACT_BLOCK];
    memcpy(last, x, (size_t)len * sizeof *x);
    quantize_block(whole, step + b, sum + b, last);
    memcpy(q, whole, (size_t)len);
}
