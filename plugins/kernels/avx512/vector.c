/* vector.c - elementwise kernels, sums and the int8 step of activations.
 *
 * Each function does the operations of core/src/reference.c and chimera/math.h in
 * their order, 16 values at a time; a tail goes through a mask.                     */
#include "avx512.h"
#include <chimera/math.h>
#include <string.h>

/* ---- sums ------------------------------------------------------------------------ */

float avx512_dot(const float *a, const float *b, int64_t n)
{
    __m512 s = _mm512_setzero_ps();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) s = muladd(s, _mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
    if (i < n) s = muladd(s, load(a + i, n - i), load(b + i, n - i));   /* + 0 * 0 changes nothing */
    return fold(s);
}

void avx512_axpy(float *y, float a, const float *x, int64_t n)
{
    __m512 va = _mm512_set1_ps(a);
    for (int64_t i = 0; i < n; i += 16)
        store(y + i, n - i, muladd(load(y + i, n - i), va, load(x + i, n - i)));
}

/* Eight rows go together, whose eight horizontal sums cost as much as one and a half.  Long
 * rows come from memory one after the other                                             */
void avx512_dots(float *y, const float *W, int64_t ldw, const float *x, int64_t rows, int64_t n)
{
    enum { LONG = 512 };
    if (n >= LONG) {
        for (int64_t i = 0; i < rows; i++) y[i] = avx512_dot(x, W + i * ldw, n);
        return;
    }
    for (int64_t i = 0; i < rows; i += 8) {
        __m512 r[8];
        UNROLL
        for (int64_t k = 0; k < 8; k++) r[k] = i + k < rows ? lanes(W + (i + k) * ldw, x, n) : _mm512_setzero_ps();
        store8(y + i, rows - i, fold8(r));
    }
}

/* y stays in registers while the rows go by, 64 columns at a time                        */
void avx512_axpys(float *y, const float *a, const float *X, int64_t ldx, int64_t rows, int64_t n)
{
    int64_t c = 0;
    for (; c + 64 <= n; c += 64) {
        __m512 sum[4];
        UNROLL
        for (int i = 0; i < 4; i++) sum[i] = _mm512_loadu_ps(y + c + 16 * i);
        for (int64_t r = 0; r < rows; r++) {
            __m512 va = _mm512_set1_ps(a[r]);
            UNROLL
            for (int i = 0; i < 4; i++) sum[i] = muladd(sum[i], va, _mm512_loadu_ps(X + r * ldx + c + 16 * i));
        }
        UNROLL
        for (int i = 0; i < 4; i++) _mm512_storeu_ps(y + c + 16 * i, sum[i]);
    }
    for (; c < n; c += 16) {
        __m512 sum = load(y + c, n - c);
        for (int64_t r = 0; r < rows; r++) sum = muladd(sum, _mm512_set1_ps(a[r]), load(X + r * ldx + c, n - c));
        store(y + c, n - c, sum);
    }
}

float avx512_rmsnorm(float *y, const float *x, const float *gain, int64_t n, float eps)
{
    float r = 1.0f / sqrtf(avx512_dot(x, x, n) / (float)n + eps);
    __m512 vr = _mm512_set1_ps(r);
    for (int64_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_mul_ps(load(x + i, n - i), vr);
        store(y + i, n - i, gain ? _mm512_mul_ps(v, load(gain + i, n - i)) : v);
    }
    return r;
}

/* ---- e^x and its friends: chimera/math.h in vectors -------------------------------- */

static __m512 poly(__m512 p, __m512 x, float c)
{
    return _mm512_add_ps(_mm512_mul_ps(p, x), _mm512_set1_ps(c));
}

static __m512 two_to(__m512i n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}

static __m512 vexp(__m512 x)
{
    __mmask16 sign = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    __mmask16 low = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-103.9f), _CMP_LT_OQ);
    __mmask16 high = _mm512_cmp_ps_mask(x, _mm512_set1_ps(88.72f), _CMP_NLT_UQ);     /* or NaN */
    __m512 half = _mm512_mask_blend_ps(sign, _mm512_set1_ps(0.5f), _mm512_set1_ps(-0.5f));
    __m512i n = _mm512_cvttps_epi32(_mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), half));
    __m512 f = _mm512_cvtepi32_ps(n);
    __m512 r = _mm512_sub_ps(x, _mm512_mul_ps(f, _mm512_set1_ps(0.693359375f)));
    r = _mm512_add_ps(r, _mm512_mul_ps(f, _mm512_set1_ps(2.12194440e-4f)));
    __m512 p = poly(_mm512_set1_ps(1.98756915e-4f), r, 1.39819995e-3f);
    p = poly(p, r, 8.33345191e-3f);
    p = poly(p, r, 4.16657959e-2f);
    p = poly(p, r, 1.66666655e-1f);
    p = poly(p, r, 5.00000012e-1f);
    p = _mm512_add_ps(_mm512_mul_ps(p, _mm512_mul_ps(r, r)), r);
    p = _mm512_add_ps(p, _mm512_set1_ps(1.0f));
    __m512i a = _mm512_srai_epi32(_mm512_add_epi32(n, _mm512_srli_epi32(n, 31)), 1);  /* n / 2 */
    p = _mm512_mul_ps(_mm512_mul_ps(p, two_to(a)), two_to(_mm512_sub_epi32(n, a)));
    p = _mm512_mask_mul_ps(p, high, x, _mm512_set1_ps(INFINITY));
    return _mm512_maskz_mov_ps((__mmask16)~low, p);
}

static __m512 vsigmoid(__m512 x)
{
    __m512 one = _mm512_set1_ps(1.0f), minus = _mm512_set1_ps(-0.0f);
    __m512 e = vexp(_mm512_or_ps(x, minus));                            /* e^-|x|    */
    __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_div_ps(_mm512_mask_blend_ps(negative, one, e), _mm512_add_ps(one, e));
}

void avx512_silu(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        __m512 v = load(x + i, n - i);
        store(y + i, n - i, _mm512_mul_ps(v, vsigmoid(v)));
    }
}

void avx512_silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        __m512 v = load(g + i, n - i);
        v = _mm512_mul_ps(v, vsigmoid(v));
        store(y + i, n - i, _mm512_mul_ps(v, load(u + i, n - i)));
    }
}

void avx512_silu_back(float *dx, const float *x, const float *dy, int64_t n)
{
    __m512 one = _mm512_set1_ps(1.0f);
    for (int64_t i = 0; i < n; i += 16) {
        __m512 v = load(x + i, n - i), s = vsigmoid(v);
        __m512 t = _mm512_add_ps(one, _mm512_mul_ps(v, _mm512_sub_ps(one, s)));
        store(dx + i, n - i, _mm512_mul_ps(load(dy + i, n - i), _mm512_mul_ps(s, t)));
    }
}

/* vmaxps(new, old) is new > old ? new : old, NaN included, as in the reference        */
static float greatest(const float *x, int64_t n)
{
    __m512 max = _mm512_set1_ps(x[0]);
    for (int64_t i = 0; i < n; i += 16)
        max = _mm512_mask_max_ps(max, first(n - i), load(x + i, n - i), max);
    float lane[16], top;
    _mm512_storeu_ps(lane, max);
    top = lane[0];
    for (int j = 1; j < 16; j++) top = lane[j] > top ? lane[j] : top;
    return top;
}

float avx512_softmax(float *y, const float *x, int64_t n)
{
    float top = greatest(x, n);
    __m512 max = _mm512_set1_ps(top), sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += 16) {
        __m512 e = vexp(_mm512_sub_ps(load(x + i, n - i), max));
        store(y + i, n - i, e);
        sum = _mm512_mask_add_ps(sum, first(n - i), sum, e);
    }
    float total = fold(sum);
    __m512 vt = _mm512_set1_ps(total);
    for (int64_t i = 0; i < n; i += 16) store(y + i, n - i, _mm512_div_ps(load(y + i, n - i), vt));
    return top + chi_log(total);
}

/* ---- activations to int8 --------------------------------------------------------------- */

static __m512i to_int(__m512 x, __m512 inv)         /* NaN becomes -127              */
{
    __m512 v = _mm512_max_ps(_mm512_mul_ps(x, inv), _mm512_set1_ps(-127.0f));
    return _mm512_cvtps_epi32(_mm512_min_ps(v, _mm512_set1_ps(127.0f)));
}

/* The first n of a block of 64, from four registers, zeros after them                   */
INLINE void quantize_block(int8_t *q, float *step, int16_t *sum, const __m512 x[4], int64_t n)
{
    /* Without their signs, floats are ordered as their bits are, and NaN is above all     */
    __m512i abs = _mm512_set1_epi32(0x7fffffff), max = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < 4; i++) max = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(x[i]), abs), max);
    float top = chi_float((uint32_t)_mm512_reduce_max_epi32(max));
    bool some = top >= 1e-30f;
    __m512 inv = _mm512_set1_ps(some ? 127.0f / top : 0);
    __m512i total = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i v = _mm512_maskz_mov_epi32(first(n - 16 * i), to_int(x[i], inv));
        total = _mm512_add_epi32(total, v);
        if (n >= 16 * i + 16) _mm_storeu_si128((__m128i *)(void *)(q + 16 * i), _mm512_cvtepi32_epi8(v));
        else _mm_mask_storeu_epi8(q + 16 * i, first(n - 16 * i), _mm512_cvtepi32_epi8(v));
    }
    *step = some ? top / 127.0f : isnan(top) ? NAN : 0;
    *sum = (int16_t)_mm512_reduce_add_epi32(total);
}

void avx512_quantize_i8(int8_t *q, float *step, int16_t *sum, const float *x, int64_t n)
{
    __m512 v[4];
    for (; n >= CHI_ACT_BLOCK; n -= CHI_ACT_BLOCK, x += CHI_ACT_BLOCK, q += CHI_ACT_BLOCK, step++, sum++) {
        UNROLL
        for (int i = 0; i < 4; i++) v[i] = _mm512_loadu_ps(x + 16 * i);
        quantize_block(q, step, sum, v, CHI_ACT_BLOCK);
    }
    if (n == 0) return;
    for (int i = 0; i < 4; i++) v[i] = n > 16 * i ? load(x + 16 * i, n - 16 * i) : _mm512_setzero_ps();
    quantize_block(q, step, sum, v, n);
}
