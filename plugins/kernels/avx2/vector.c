/* vector.c - elementwise kernels, sums and the int8 step of activations.
 *
 * Each function does the operations of core/src/reference.c and chimera/math.h in
 * their order, 8 or 16 values at a time; a tail goes through masked loads.          */
#include "avx2.h"
#include <chimera/math.h>
#include <string.h>

/* ---- sums ------------------------------------------------------------------------ */

float avx2_dot(const float *a, const float *b, int64_t n)
{
    enum { LONG = 1024, AHEAD = 768 };      /* a long b comes from memory, and more after it */
    __m256 lo = _mm256_setzero_ps(), hi = lo;
    int64_t i = 0;
    for (; n >= LONG && i + 16 <= n; i += 16) {
        _mm_prefetch((const char *)(b + i + AHEAD), _MM_HINT_T0);
        lo = muladd(lo, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        hi = muladd(hi, _mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
    }
    for (; i + 16 <= n; i += 16) {
        lo = muladd(lo, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        hi = muladd(hi, _mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
    }
    if (i < n) {                            /* + 0 * 0 leaves a sum as it is         */
        __m256i m = first(n - i), m8 = first(n - i - 8);
        lo = muladd(lo, _mm256_maskload_ps(a + i, m), _mm256_maskload_ps(b + i, m));
        if (n - i > 8)
            hi = muladd(hi, _mm256_maskload_ps(a + i + 8, m8), _mm256_maskload_ps(b + i + 8, m8));
    }
    return fold(lo, hi);
}

void avx2_axpy(float *y, float a, const float *x, int64_t n)
{
    __m256 va = _mm256_set1_ps(a);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, muladd(_mm256_loadu_ps(y + i), va, _mm256_loadu_ps(x + i)));
    if (i < n) {
        __m256i m = first(n - i);
        _mm256_maskstore_ps(y + i, m, muladd(_mm256_maskload_ps(y + i, m), va,
                                             _mm256_maskload_ps(x + i, m)));
    }
}

/* lanes() of four rows, n a multiple of 16: they share the loads of x, are four streams of memory,
 * and their additions need not wait for each other                                       */
static inline __attribute__((always_inline))
void lanes4(__m256 r[4], const float *W, int64_t ldw, const float *x, int64_t n)
{
    __m256 lo[4], hi[4];
    UNROLL
    for (int k = 0; k < 4; k++) lo[k] = hi[k] = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        UNROLL
        for (int k = 0; k < 4; k++) {
            lo[k] = muladd(lo[k], a, _mm256_loadu_ps(W + k * ldw + i));
            hi[k] = muladd(hi[k], b, _mm256_loadu_ps(W + k * ldw + i + 8));
        }
    }
    UNROLL
    for (int k = 0; k < 4; k++) r[k] = _mm256_add_ps(lo[k], hi[k]);
}

/* Eight rows at once, two from each quarter of the matrix: their horizontal sums cost as much as one
 * and a half, and four streams come from memory at the pace of reading, which asking early by hand
 * makes slower.  Returns how many rows are done                                          */
static int64_t dots_by_quarters(float *y, const float *W, int64_t ldw, const float *x, int64_t rows, int64_t n)
{
    int64_t quarter = rows / 8 * 2;
    for (int64_t i = 0; i < quarter; i += 2) {
        __m256 r[8];
        float sum[8];
        lanes4(r, W + i * ldw, quarter * ldw, x, n);
        lanes4(r + 4, W + (i + 1) * ldw, quarter * ldw, x, n);
        _mm256_storeu_ps(sum, fold8(r));
        UNROLL
        for (int64_t k = 0; k < 4; k++) {
            y[i + k * quarter] = sum[k];
            y[i + 1 + k * quarter] = sum[4 + k];
        }
    }
    return 4 * quarter;
}

void avx2_dots(float *y, const float *W, int64_t ldw, const float *x, int64_t rows, int64_t n)
{
    enum { LONG = 512 };
    int64_t i = n % 16 == 0 ? dots_by_quarters(y, W, ldw, x, rows, n) : 0;
    for (; n >= LONG && i < rows; i++) y[i] = avx2_dot(x, W + i * ldw, n);
    for (; i < rows; i += 8) {
        __m256 r[8];
        UNROLL
        for (int64_t k = 0; k < 8; k++) r[k] = i + k < rows ? lanes(W + (i + k) * ldw, x, n) : _mm256_setzero_ps();
        store(y + i, rows - i, fold8(r));
    }
}

/* y stays in registers while the rows go by, 64 columns at a time                        */
void avx2_axpys(float *y, const float *a, const float *X, int64_t ldx, int64_t rows, int64_t n)
{
    int64_t c = 0;
    for (; c + 64 <= n; c += 64) {
        __m256 sum[8];
        UNROLL
        for (int i = 0; i < 8; i++) sum[i] = _mm256_loadu_ps(y + c + 8 * i);
        for (int64_t r = 0; r < rows; r++) {
            __m256 va = _mm256_set1_ps(a[r]);
            UNROLL
            for (int i = 0; i < 8; i++) sum[i] = muladd(sum[i], va, _mm256_loadu_ps(X + r * ldx + c + 8 * i));
        }
        UNROLL
        for (int i = 0; i < 8; i++) _mm256_storeu_ps(y + c + 8 * i, sum[i]);
    }
    for (; c < n; c += 8) {
        __m256 sum = load(y + c, n - c);
        for (int64_t r = 0; r < rows; r++) sum = muladd(sum, _mm256_set1_ps(a[r]), load(X + r * ldx + c, n - c));
        store(y + c, n - c, sum);
    }
}

float avx2_rmsnorm(float *y, const float *x, const float *gain, int64_t n, float eps)
{
    float r = 1.0f / sqrtf(avx2_dot(x, x, n) / (float)n + eps);
    __m256 vr = _mm256_set1_ps(r);
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(load(x + i, n - i), vr);
        store(y + i, n - i, gain ? _mm256_mul_ps(v, load(gain + i, n - i)) : v);
    }
    return r;
}

/* ---- e^x and its friends: chimera/math.h in vectors -------------------------------- */

static __m256 poly(__m256 p, __m256 x, float c)
{
    return _mm256_add_ps(_mm256_mul_ps(p, x), _mm256_set1_ps(c));
}

static __m256 two_to(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

static __m256 vexp(__m256 x)
{
    __m256 sign = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ);
    __m256 half = _mm256_blendv_ps(_mm256_set1_ps(0.5f), _mm256_set1_ps(-0.5f), sign);
    __m256 low = _mm256_cmp_ps(x, _mm256_set1_ps(-103.9f), _CMP_LT_OQ);
    __m256 high = _mm256_cmp_ps(x, _mm256_set1_ps(88.72f), _CMP_NLT_UQ);    /* or NaN */
    __m256i n = _mm256_cvttps_epi32(_mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), half));
    __m256 f = _mm256_cvtepi32_ps(n);
    __m256 r = _mm256_sub_ps(x, _mm256_mul_ps(f, _mm256_set1_ps(0.693359375f)));
    r = _mm256_add_ps(r, _mm256_mul_ps(f, _mm256_set1_ps(2.12194440e-4f)));
    __m256 p = poly(_mm256_set1_ps(1.98756915e-4f), r, 1.39819995e-3f);
    p = poly(p, r, 8.33345191e-3f);
    p = poly(p, r, 4.16657959e-2f);
    p = poly(p, r, 1.66666655e-1f);
    p = poly(p, r, 5.00000012e-1f);
    p = _mm256_add_ps(_mm256_mul_ps(p, _mm256_mul_ps(r, r)), r);
    p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
    __m256i a = _mm256_srai_epi32(_mm256_add_epi32(n, _mm256_srli_epi32(n, 31)), 1);  /* n / 2 */
    p = _mm256_mul_ps(_mm256_mul_ps(p, two_to(a)), two_to(_mm256_sub_epi32(n, a)));
    p = _mm256_blendv_ps(p, _mm256_mul_ps(x, _mm256_set1_ps(INFINITY)), high);
    return _mm256_andnot_ps(low, p);
}

static __m256 vsigmoid(__m256 x)
{
    __m256 one = _mm256_set1_ps(1.0f), minus = _mm256_set1_ps(-0.0f);
    __m256 e = vexp(_mm256_or_ps(x, minus));                            /* e^-|x|    */
    __m256 negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ);
    return _mm256_div_ps(_mm256_blendv_ps(one, e, negative), _mm256_add_ps(one, e));
}

void avx2_silu(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = load(x + i, n - i);
        store(y + i, n - i, _mm256_mul_ps(v, vsigmoid(v)));
    }
}

void avx2_silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = load(g + i, n - i);
        v = _mm256_mul_ps(v, vsigmoid(v));
        store(y + i, n - i, _mm256_mul_ps(v, load(u + i, n - i)));
    }
}

void avx2_silu_back(float *dx, const float *x, const float *dy, int64_t n)
{
    __m256 one = _mm256_set1_ps(1.0f);
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = load(x + i, n - i), s = vsigmoid(v);
        __m256 t = _mm256_add_ps(one, _mm256_mul_ps(v, _mm256_sub_ps(one, s)));
        store(dx + i, n - i, _mm256_mul_ps(load(dy + i, n - i), _mm256_mul_ps(s, t)));
    }
}

/* vmaxps(new, old) is new > old ? new : old, NaN included, as in the reference        */
static float greatest(const float *x, int64_t n)
{
    __m256 max = _mm256_set1_ps(x[0]);
    for (int64_t i = 0; i + 8 <= n; i += 8) max = _mm256_max_ps(_mm256_loadu_ps(x + i), max);
    float lane[8], top;
    _mm256_storeu_ps(lane, max);
    top = lane[0];
    for (int j = 1; j < 8; j++) top = lane[j] > top ? lane[j] : top;
    for (int64_t i = n & ~(int64_t)7; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

float avx2_softmax(float *y, const float *x, int64_t n)
{
    float top = greatest(x, n);
    __m256 max = _mm256_set1_ps(top), sum[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
    for (int64_t i = 0; i < n; i += 8) {
        __m256 e = vexp(_mm256_sub_ps(load(x + i, n - i), max));
        store(y + i, n - i, e);
        if (n - i < 8) e = _mm256_and_ps(e, _mm256_castsi256_ps(first(n - i)));
        sum[i >> 3 & 1] = _mm256_add_ps(sum[i >> 3 & 1], e);
    }
    float total = fold(sum[0], sum[1]);
    __m256 vt = _mm256_set1_ps(total);
    for (int64_t i = 0; i < n; i += 8) store(y + i, n - i, _mm256_div_ps(load(y + i, n - i), vt));
    return top + chi_log(total);
}

/* ---- activations to int8 --------------------------------------------------------------- */

static __m256i to_int(__m256 x, __m256 inv)         /* NaN becomes -127              */
{
    __m256 v = _mm256_max_ps(_mm256_mul_ps(x, inv), _mm256_set1_ps(-127.0f));
    return _mm256_cvtps_epi32(_mm256_min_ps(v, _mm256_set1_ps(127.0f)));
}

static int32_t sum_i32(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* A whole block of 64, from eight registers                                             */
static inline __attribute__((always_inline))
void quantize_block(int8_t *q, float *step, int16_t *sum, const __m256 x[8])
{
    /* Without their signs, floats are ordered as their bits are, and NaN is above all     */
    __m256i abs = _mm256_set1_epi32(0x7fffffff), max = _mm256_setzero_si256();
    UNROLL
    for (int i = 0; i < 8; i++) max = _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(x[i]), abs), max);
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    float top = _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1))));
    bool some = top >= 1e-30f;
    __m256 inv = _mm256_set1_ps(some ? 127.0f / top : 0);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i total = _mm256_setzero_si256();
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        __m256i a = to_int(x[i], inv), b = to_int(x[i + 1], inv);
        __m256i c = to_int(x[i + 2], inv), d = to_int(x[i + 3], inv);
        total = _mm256_add_epi32(total, _mm256_add_epi32(_mm256_add_epi32(a, b),
                                                         _mm256_add_epi32(c, d)));
        __m256i v = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        _mm256_storeu_si256((__m256i *)(void *)(q + 8 * i),
                            _mm256_permutevar8x32_epi32(v, order));
    }
    *step = some ? top / 127.0f : isnan(top) ? NAN : 0;
    *sum = (int16_t)sum_i32(total);
}

void avx2_quantize_i8(int8_t *q, float *step, int16_t *sum, const float *x, int64_t n)
{
    __m256 v[8];
    int64_t b = 0;
    for (; (b + 1) * CHI_ACT_BLOCK <= n; b++, x += CHI_ACT_BLOCK, q += CHI_ACT_BLOCK) {
        UNROLL
        for (int i = 0; i < 8; i++) v[i] = _mm256_loadu_ps(x + 8 * i);
        quantize_block(q, step + b, sum + b, v);
    }
    int64_t len = n - b * CHI_ACT_BLOCK;
    if (len <= 0) return;
    int8_t whole[CHI_ACT_BLOCK];
    for (int i = 0; i < 8; i++)
        v[i] = len > 8 * i ? load(x + 8 * i, len - 8 * i) : _mm256_setzero_ps();
    quantize_block(whole, step + b, sum + b, v);
    memcpy(q, whole, (size_t)len);
}
