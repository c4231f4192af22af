/* test_formats.c - quantizers against their formulas, encodings there and back, and
 * their portable kernels against sums in double.                                    */
#include "kernels.h"
#include "reference.h"

#include <math.h>
#include <stdarg.h>

static const int64_t row_counts[] = { 1, 15, 16, 17, 40, 73 };
static const int64_t col_counts[] = { 1, 63, 64, 65, 127, 128, 192, 1728, 2560 };

struct group_conf { int64_t group_size; };

/* ---- encodings ---------------------------------------------------------------------- */

/* Values of a class that its encoding must give back                                     */
static void draw(const char *values, int64_t rows, int64_t cols, int64_t group, int8_t *q,
                 float *scale)
{
    bool ternary = !strcmp(values, "ternary"), bf16 = !strcmp(values, "bf16");
    for (int64_t i = 0; group > 1 && i < rows * cols; i++)
        q[i] = (int8_t)(ternary ? (int)(random_bits() % 3) - 1 : (int)(random_bits() % 255) - 127);
    for (int64_t i = 0; i < rows * ceil_div(cols, group); i++) {
        scale[i] = random_float();
        if (ternary) scale[i] = (float)(random_bits() % 2048) / 65536.0f;   /* exact in fp16 */
        if (bf16) scale[i] = (float)((int)(random_bits() % 255) - 127) / 64.0f;
    }
}

static void round_trip(const char *name, int64_t rows, int64_t cols, int64_t group)
{
    const struct chi_encoding_ops *e = encoding(name);
    int64_t groups = ceil_div(cols, group), bytes = e->bytes(rows, cols, group);
    int64_t ns = rows * groups * 4, nq = rows * cols;
    cr_assert(bytes > 0 && bytes % 64 == 0, "%s %ldx%ld: %ld bytes", name, rows, cols, bytes);
    float *scale = xcalloc(1, (size_t)ns), *scale2 = guarded(ns, true);
    int8_t *q = xcalloc(1, (size_t)nq), *q2 = guarded(nq, true);
    draw(e->values, rows, cols, group, q, scale);
    uint8_t *a = guarded(bytes, true), *b = guarded(bytes, false);
    memset(a, 0x11, (size_t)bytes);
    memset(b, 0xee, (size_t)bytes);
    e->encode(a, q, scale, rows, cols, group, 0, rows);
    for (int64_t r = 0; r < rows; r += CHI_TILE)                    /* in slices, backwards */
        e->encode(b, q + r * cols, scale + r * groups, rows, cols, group, r,
                  min_i64(r + CHI_TILE, rows));
    cr_expect(same(a, b, bytes), "%s %ldx%ld: bytes that encode() leaves alone", name, rows, cols);
    e->decode(a, q2, scale2, rows, cols, group, 0, rows);
    cr_expect(same(scale, scale2, ns) && (group == 1 || same(q, q2, nq)), "%s %ldx%ld", name, rows, cols);
    int64_t r0 = rows / 3, r1 = rows - rows / 5;                    /* any rows             */
    memset(q2, 5, (size_t)nq);
    e->decode(a, q2, scale2, rows, cols, group, r0, r1);
    cr_expect(same(scale + r0 * groups, scale2, (r1 - r0) * groups * 4));
    cr_expect(group == 1 || same(q + r0 * cols, q2, (r1 - r0) * cols));
    unguard(a, bytes, true), unguard(b, bytes, false);
    unguard(q2, nq, true), unguard(scale2, ns, true);
    free(q), free(scale);
}

Test(formats, every_shape_comes_back)
{
    for (int64_t i = 0; i < COUNT(row_counts); i++)
        for (int64_t j = 0; j < COUNT(col_counts); j++) {
            int64_t rows = row_counts[i], cols = col_counts[j];
            round_trip("ternary2", rows, cols, 128);
            round_trip("ternary2", rows, cols, 192);
            round_trip("int8", rows, cols, max_i64(cols, 2));
            round_trip("f32", rows, cols, 1);
            round_trip("bf16", rows, cols, 1);
        }
    cr_expect_eq(encoding("ternary2")->bytes(16, 200, 100), 0, "a group that cuts a block");
    cr_expect_eq(encoding("int8")->bytes(16, 200, 100), 0);
    cr_expect_eq(encoding("f32")->bytes(16, 200, 100), 0);
}

/* The diagram of ternary.md: field j of byte 4r+c is k = 4j+c                              */
Test(formats, ternary2_bytes)
{
    int8_t q[32] = { 0 };
    float scale[2] = { 1, 0.5f };
    uint8_t out[16 * 16 + 64];
    q[0] = 1, q[5] = -1, q[15] = 1;                     /* row 0; row 1 is all zero   */
    const struct chi_encoding_ops *e = encoding("ternary2");
    cr_assert_eq(e->bytes(2, 16, 128), (int64_t)sizeof out);
    e->encode(out, q, scale, 2, 16, 128, 0, 2);
    const uint8_t first[8] = { 0x56, 0x51, 0x55, 0x95, 0x55, 0x55, 0x55, 0x55 };
    cr_expect(same(out, first, 8), "%02x %02x %02x %02x", out[0], out[1], out[2], out[3]);
    for (int64_t i = 8; i < 256; i++) cr_expect_eq(out[i], 0x55, "padding is zero trits");
    const uint8_t scales[6] = { 0x00, 0x3c, 0x00, 0x38, 0, 0 };
    cr_expect(same(out + 256, scales, 6));
}

/* ---- quantizers ---------------------------------------------------------------------------- */

static chi_status quantize(const char *name, int64_t group, const float *w, int64_t rows,
                           int64_t cols, int8_t *q, float *scale)
{
    const struct chi_quantizer_ops *o = component(CHI_QUANTIZER, name)->ops;
    struct group_conf conf = { group };
    cr_expect_eq(o->group(&conf, cols), !strcmp(name, "ternary") && group % 128 == 0 ? 128 : group);
    return o->quantize(&conf, w, rows, cols, q, scale);
}

Test(formats, ternary_by_hand)
{
    float w[200], scale[2];
    int8_t q[200];
    for (int i = 0; i < 128; i++) w[i] = i % 2 ? 2.0f : -2.0f;     /* alpha 2           */
    for (int i = 128; i < 200; i++) w[i] = 0;
    w[128] = 7.2f;                                                  /* mean 0.1 of 72    */
    cr_assert_eq(quantize("ternary", 128, w, 1, 200, q, scale), CHI_OK);
    cr_expect_eq(scale[0], 2.0f);
    cr_expect_eq(scale[1], 0x1.998p-4f, "0.1 in fp16, not %a", (double)scale[1]);
    for (int i = 0; i < 128; i++) cr_expect_eq(q[i], i % 2 ? 1 : -1);
    cr_expect(q[128] == 1 && q[129] == 0);
    for (int i = 0; i < 128; i++) w[i] = i < 64 ? 1.0f : 3.0f;     /* 1/2 is a tie: 0   */
    w[64] = -3.0f;
    cr_assert_eq(quantize("ternary", 128, w, 1, 128, q, scale), CHI_OK);
    cr_expect(scale[0] == 2.0f && q[0] == 0 && q[64] == -1 && q[65] == 1);
    memset(w, 0, sizeof w);                                         /* 1e-5: a subnormal */
    cr_assert_eq(quantize("ternary", 128, w, 1, 128, q, scale), CHI_OK);
    cr_expect_eq(scale[0], 168 * 0x1p-24f, "%a", (double)scale[0]);
    for (int i = 0; i < 128; i++) w[i] = 65519.0f;                  /* fp16's greatest   */
    cr_assert_eq(quantize("ternary", 128, w, 1, 128, q, scale), CHI_OK);
    cr_expect_eq(scale[0], 65504.0f);
    for (int i = 0; i < 128; i++) w[i] = 65520.0f;                  /* beyond fp16       */
    cr_expect_eq(quantize("ternary", 128, w, 1, 128, q, scale), CHI_ENUMERIC);
}

/* A last group whose length is no multiple of 8: every weight has its part in the mean     */
Test(formats, ternary_tail_counts_whole)
{
    for (int64_t tail = 1; tail < 16; tail++) {
        float w[64 + 16] = { 0 }, scale[2];
        int8_t q[64 + 16];
        for (int64_t i = 0; i < tail; i++) w[64 + i] = (float)(tail * (i + 1)) * (i % 2 ? -1.0f : 1.0f);
        cr_assert_eq(quantize("ternary", 64, w, 1, 64 + tail, q, scale), CHI_OK);
        float mean = (float)(tail * (tail + 1)) / 2;            /* exact in fp16             */
        cr_expect_eq(scale[1], mean, "%ld: %g, not %g", tail, (double)scale[1], (double)mean);
        for (int64_t i = 0; i < tail; i++) {
            float size = fabsf(w[64 + i]) / mean;
            cr_expect_eq(q[64 + i], size > 0.5f ? (w[64 + i] > 0 ? 1 : -1) : 0, "%ld of %ld", i, tail);
        }
    }
}

/* A float, which has no 2^24 + 1, would lose the ones: 2048 in the place of 2049.99988, which is 2050       */
Test(formats, ternary_sums_are_double)
{
    enum { N = 65536 };
    static float w[N];
    static int8_t q[N];
    static float scale[N / 128];
    for (int i = 0; i < N; i++) w[i] = i < 8 ? 0x1p24f + 8190 : 1.0f;
    cr_assert_eq(quantize("ternary", N, w, 1, N, q, scale), CHI_OK);
    for (int i = 0; i < N / 128; i++) cr_expect_eq(scale[i], 2050.0f, "%g", (double)scale[i]);
}

/* The encoding is a plain store: scales of another quantizer may be negative               */
Test(formats, ternary2_keeps_the_sign_of_a_scale)
{
    const float scale[3] = { -0.75f, 1.5f, -0x1p-24f };
    int8_t q[3 * 64], q2[64];
    float scale2[3], y[3];
    uint8_t bytes[1024];
    const struct chi_encoding_ops *e = encoding("ternary2");
    cr_assert_leq(e->bytes(3, 64, 64), (int64_t)sizeof bytes);
    for (int i = 0; i < 3 * 64; i++) q[i] = 1;
    e->encode(bytes, q, scale, 3, 64, 64, 0, 3);
    for (int r = 0; r < 3; r++) e->decode(bytes, q2, scale2 + r, 3, 64, 64, r, r + 1);
    cr_expect(same(scale, scale2, sizeof scale), "%g %g %g", (double)scale2[0], (double)scale2[1], (double)scale2[2]);
    int8_t x[64];
    const float step[1] = { 0.5f };
    const int16_t sum[1] = { 64 };
    memset(x, 1, sizeof x);
    const struct chi_act a = { 1, 64, NULL, 0, x, 64, step, sum };
    const struct chi_matrix m = { bytes, 3, 64, 64 };
    e->portable->run(y, 3, &a, &m, 0, 3, NULL);
    for (int o = 0; o < 3; o++) cr_expect_eq(y[o], 32 * scale[o]);
}

static chi_status refusal(const struct chi_host *h, chi_status s, const char *fmt, ...)
{
    va_list a;
    (void)h;
    va_start(a, fmt);
    char text[256];
    vsnprintf(text, sizeof text, fmt, a);
    va_end(a);
    return fail(s, "%s", text);
}

Test(formats, groups_of_trits_are_whole_blocks)
{
    static const char *const names[2] = { "ternary", "sherry" };
    const struct chi_host h = { .struct_size = sizeof h, .fail = refusal };
    for (int i = 0; i < 2; i++) {
        const struct chi_component *c = component(CHI_QUANTIZER, names[i]);
        for (int64_t g = 64; g <= 320; g++) {
            struct group_conf conf = { g };
            cr_expect_eq(c->check(&h, &conf), g % 64 ? CHI_ECONF : CHI_OK, "%s, %ld", names[i], g);
        }
        cr_expect_str_eq(fail_text(), "group_size = 319 is not a multiple of 64");
    }
}

Test(formats, share_of_zeros)
{
    enum { N = 128 * 1600 };
    float *w = xcalloc(N, sizeof *w), *scale = xcalloc(N / 128, sizeof *scale);
    int8_t *q = xcalloc(N, 1);
    for (int64_t i = 0; i < N; i++) {                   /* nearly normal: 12 uniforms    */
        for (int j = 0; j < 12; j++) w[i] += random_float();
        w[i] *= 0.02f;
    }
    cr_assert_eq(quantize("ternary", 128, w, 1, N, q, scale), CHI_OK);
    int64_t zeros = 0;
    for (int64_t i = 0; i < N; i++) zeros += q[i] == 0;
    cr_expect_float_eq((double)zeros / N, 0.3101, 0.006);
}

Test(formats, int8_by_hand)
{
    float w[8] = { 127, -127, 0.5f, 1.5f, -0.5f, -2.5f, 126.4f, 0 }, scale[2];
    const int8_t want[8] = { 127, -127, 0, 2, 0, -2, 126, 0 };      /* ties to even      */
    int8_t q[8];
    cr_assert_eq(quantize("int8", 8, w, 1, 8, q, scale), CHI_OK);
    cr_expect(scale[0] == 1.0f && same(q, want, 8));
    float tiny[4] = { 0, 0, 0x1p-149f, 0 };                         /* scale 0: all 0    */
    cr_assert_eq(quantize("int8", 2, tiny, 2, 2, q, scale), CHI_OK);
    cr_expect(scale[0] == 0 && q[0] == 0 && q[1] == 0 && scale[1] == 0 && q[2] == 0);
}

Test(formats, bf16_by_hand)
{
    float w[5] = { 1.0f, 0x1.01p0f, 0x1.03p0f, -0x1.010002p0f, 0x1p-149f }, scale[5];
    const float want[5] = { 1.0f, 1.0f, 0x1.04p0f, -0x1.02p0f, 0 };
    cr_assert_eq(quantize("bf16", 1, w, 1, 5, NULL, scale), CHI_OK);
    cr_expect(same(scale, want, sizeof want));
    w[0] = 0x1.ffp127f;
    cr_expect_eq(quantize("bf16", 1, w, 1, 5, NULL, scale), CHI_ENUMERIC, "rounds to infinity");
}

Test(formats, not_finite_is_refused)
{
    const float bad[3] = { NAN, INFINITY, -INFINITY };
    const struct { const char *name; int64_t group; } all[] = {
        { "f32", 1 }, { "bf16", 1 }, { "int8", 130 }, { "ternary", 128 } };
    float w[260], scale[260];
    int8_t q[260];
    for (int64_t i = 0; i < COUNT(all); i++)
        for (int64_t at = 0; at < 260; at += 37) {
            fill(w, 260);
            cr_expect_eq(quantize(all[i].name, all[i].group, w, 2, 130, q, scale), CHI_OK);
            w[at] = bad[at % 3];
            cr_expect_eq(quantize(all[i].name, all[i].group, w, 2, 130, q, scale), CHI_ENUMERIC);
        }
}

/* ---- portable kernels --------------------------------------------------------------------------- */

/* Against the definition in double: scale_g t[o,k] step_b q[k]                                    */
static void portable(const char *name, int64_t group, int64_t rows, int64_t d_in)
{
    const struct chi_encoding_ops *e = encoding(name);
    enum { O = 21 };
    int64_t ldq = round_up(d_in, 64), nb = ldq / 64, groups = ceil_div(d_in, group);
    int8_t *w = xcalloc(O, (size_t)d_in), *q = xcalloc((size_t)rows, (size_t)ldq);
    float *scale = xcalloc((size_t)(O * groups), 4), *x = xcalloc((size_t)(rows * d_in), 4);
    float *step = xcalloc((size_t)(rows * nb), 4), y[4 * O];
    int16_t *sum = xcalloc((size_t)(rows * nb), 2);
    void *m = xcalloc(1, (size_t)e->bytes(O, d_in, group));
    draw(e->values, O, d_in, group, w, scale);
    e->encode(m, w, scale, O, d_in, group, 0, O);
    fill(x, rows * d_in);
    for (int64_t r = 0; r < rows; r++)
        reference_kernels.quantize_i8(q + r * ldq, step + r * nb, sum + r * nb, x + r * d_in, d_in);
    const struct chi_act a = { rows, d_in, x, d_in, q, ldq, step, sum };
    const struct chi_matrix matrix = { m, O, d_in, group };
    e->portable->run(y, O, &a, &matrix, 0, O, NULL);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < O; o++) {
            double want = 0, terms = 0;
            for (int64_t k = 0; k < d_in; k++) {
                double t = (double)scale[o * groups + k / group]
                         * (group == 1 ? (double)x[r * d_in + k]
                            : (double)w[o * d_in + k] * q[r * ldq + k] * (double)step[r * nb + k / 64]);
                want += t, terms += fabs(t);
            }
            cr_expect_float_eq((double)y[r * O + o], want, 1e-5 * terms + 1e-30, "%s %ld %ld: %g, not %g",
                               name, r, o, (double)y[r * O + o], want);
        }
    free(w), free(q), free(scale), free(x), free(step), free(sum), free(m);
}

Test(formats, portable_kernels)
{
    for (int64_t i = 0; i < 6; i++) {
        int64_t d = (const int64_t[]){ 1, 64, 100, 192, 300, 1728 }[i];
        portable("ternary2", 128, 1 + i % 3, d);
        portable("ternary2", 192, 1 + i % 3, d);
        portable("int8", max_i64(d, 2), 1 + i % 3, d);
        portable("f32", 1, 1 + i % 3, d);
        portable("bf16", 1, 1 + i % 3, d);
    }
}
