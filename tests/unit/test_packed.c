/* test_packed.c - encodings sherry125 and base3: their bytes as the pages say, what they hold, and the
 * product of ternary2.                                                                                */
#include "kernels.h"
#include "reference.h"

#include <math.h>

static const char *const names[] = { "sherry125", "base3" };

/* One zero in four, at another place in each quad                                                     */
static void draw(int8_t *w, float *scale, int64_t rows, int64_t cols, int64_t group)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < cols; k += 4) {
            int64_t zero = random_bits() % 4;
            for (int64_t i = k; i < k + 4 && i < cols; i++)
                w[r * cols + i] = (int8_t)(i == k + zero ? 0 : random_bits() % 2 ? 1 : -1);
        }
    for (int64_t i = 0; i < rows * ceil_div(cols, group); i++)
        scale[i] = (float)((int)(random_bits() % 4095) - 2047) / 65536;
}

/* ---- sherry125 ---------------------------------------------------------------------------------------- */

/* The example of sherry125.md                                                                          */
Test(packed, sherry125_bytes)
{
    const struct chi_encoding_ops *e = encoding("sherry125");
    int8_t q[3 * 64];
    float scale[3] = { 1, 0.5f, -2 };
    uint8_t out[160 + 32];
    for (int i = 0; i < 3 * 64; i++) q[i] = (int8_t)(i % 4 ? 1 : 0);
    memcpy(q + 2 * 64, (const int8_t[16]){ 1, 0, -1, -1, -1, -1, 0, 1, 1, -1, 1, 0, 0, 1, 1, -1 }, 16);
    cr_assert_eq(e->bytes(3, 64, 128), (int64_t)sizeof out);
    memset(out, 0xaa, sizeof out);
    e->encode(out, q, scale, 3, 64, 128, 0, 3);
    for (int i = 0; i < 160; i++)
        cr_expect_eq(out[i], i == 2 ? 0xd7 : i == 16 + 2 ? 0x2a : i == 128 + 16 + 2 ? 0x80 : 0, "byte %d: %02x", i,
                     out[i]);
    const uint8_t scales[8] = { 0x00, 0x3c, 0x00, 0x38, 0x00, 0xc0, 0, 0 };
    cr_expect(same(out + 160, scales, 8));
    for (int i = 166; i < 192; i++) cr_expect_eq(out[i], 0);
}

/* Every quad of 81 at every place of a block: 32 are held, have codes of their own and come back       */
Test(packed, sherry125_codes)
{
    const struct chi_encoding_ops *e = encoding("sherry125");
    int8_t q[64], back[64];
    float scale = 1;
    uint8_t out[192];
    for (int i = 0; i < 16; i++) {
        uint32_t seen = 0;
        for (int v = 0; v < 81; v++) {
            int zeros = 0;
            for (int j = 0; j < 64; j++) q[j] = (int8_t)(j % 4 != 3);
            for (int j = 0, rest = v; j < 4; j++, rest /= 3) zeros += !(q[4 * i + j] = (int8_t)(rest % 3 - 1));
            cr_assert_eq(e->holds(q, &scale, 1, 64, 64), zeros == 1, "quad %d of %d", v, i);
            if (zeros != 1) continue;
            e->encode(out, q, &scale, 1, 64, 64, 0, 1);
            e->decode(out, back, &scale, 1, 64, 64, 0, 1);
            cr_assert(same(q, back, 64), "quad %d of %d", v, i);
            int slot = out[i / 4 * 32 + i % 2 * 16] >> i % 4 / 2 * 4 & 15,
                sign = out[128 + i % 2 * 16] >> (7 - i / 2) & 1;
            seen |= 1u << (16 * sign + slot);
        }
        cr_expect_eq(seen, 0xffffffffu);
    }
}

/* A last quad that is cut off: at most one zero among its weights                                      */
Test(packed, sherry125_short_quads)
{
    const struct chi_encoding_ops *e = encoding("sherry125");
    float scale = 1;
    uint8_t out[192];
    for (int64_t n = 1; n < 4; n++)
        for (int v = 0; v < (n == 1 ? 3 : n == 2 ? 9 : 27); v++) {
            int8_t q[8] = { 1, 0, 1, -1 }, back[8];
            int zeros = 0;
            for (int j = 0, rest = v; j < n; j++, rest /= 3) zeros += !(q[4 + j] = (int8_t)(rest % 3 - 1));
            cr_expect_eq(e->holds(q, &scale, 1, 4 + n, 64), zeros < 2, "%d of %ld weights", v, n);
            if (zeros > 1) continue;
            e->encode(out, q, &scale, 1, 4 + n, 64, 0, 1);
            e->decode(out, back, &scale, 1, 4 + n, 64, 0, 1);
            cr_expect(same(q, back, 4 + n), "%d of %ld weights", v, n);
        }
}

/* ---- base3 --------------------------------------------------------------------------------------------- */

/* The example of base3.md                                                                              */
Test(packed, base3_bytes)
{
    const struct chi_encoding_ops *e = encoding("base3");
    int8_t q[4 * 192] = { 0 };
    float scale[4 * 2] = { 0, 0, 0, 0, 0, 0, 1, 0.5f };
    uint8_t out[3 * 208 + 64 + 16];
    memcpy(q + 3 * 192, (const int8_t[10]){ 1, 0, -1, 0, 1, 0, 0, 0, 0, -1 }, 10);
    q[3 * 192 + 63] = -1, q[3 * 192 + 64] = 1, q[3 * 192 + 128 + 5] = 1;
    cr_assert_eq(e->bytes(4, 192, 128), (int64_t)sizeof out);
    memset(out, 0xaa, sizeof out);
    e->encode(out, q, scale, 4, 192, 128, 0, 4);
    for (int i = 0; i < 3 * 208; i++) {
        int want = i == 3 ? 194 : i == 35 ? 40 : i == 12 * 32 + 3 ? 121 - 27 : i == 19 ? 122 : i == 416 + 16 + 3
            ? 122 : 121;
        cr_expect_eq(out[i], want, "byte %d: %d", i, out[i]);
    }
    const uint8_t scales[40] = { [6] = 0x00, [7] = 0x3c, [38] = 0x00, [39] = 0x38 };
    cr_expect(same(out + 3 * 208, scales, 40));
    for (int i = 3 * 208 + 64; i < (int)sizeof out; i++) cr_expect_eq(out[i], 0);
}

/* All 256 bytes: 243 come back, the others say that they are none                                      */
Test(packed, base3_any_byte)
{
    const struct chi_encoding_ops *e = encoding("base3");
    for (int b = 0; b < 256; b++) {
        uint8_t in[256], out[256];
        int8_t t[64];
        float d;
        memset(in, b, sizeof in);
        e->decode(in, t, &d, 1, 64, 64, 0, 1);
        int v = 0, top = -1;
        for (int i = 4; i >= 0; i--) v = 3 * v + t[i] + 1;
        for (int k = 0; k < 64; k++) top = t[k] > top ? t[k] : top;
        cr_expect_eq(v, b);
        cr_expect_eq(top == 2, b > 242, "byte %d", b);
        for (int k = 0; k < 60; k++) cr_expect_eq(t[k], t[k % 5]);
        if (b > 242) continue;
        e->encode(out, t, &(float){ 1 }, 1, 64, 64, 0, 1);
        for (int j = 0; j < 12; j++) cr_expect_eq(out[16 * j], b);
    }
}

/* ---- both ---------------------------------------------------------------------------------------------- */

Test(packed, shapes)
{
    const struct chi_encoding_ops *s = encoding("sherry125"), *b = encoding("base3");
    for (int64_t cols = 1; cols < 400; cols++) {
        int64_t scales = 32 * ceil_div(cols, 128), blocks = ceil_div(cols, 64);
        cr_expect_eq(s->bytes(17, cols, 128), 2 * round_up(160 * blocks + scales, 64));
        cr_expect_eq(b->bytes(17, cols, 128), 2 * round_up(208 * blocks + scales, 64));
    }
    for (int i = 0; i < 2; i++) {
        cr_expect_eq(encoding(names[i])->bytes(16, 200, 100), 0, "a group that cuts a block");
        cr_expect_eq(encoding(names[i])->bytes(16, 200, 0), 0);
        cr_expect_gt(encoding(names[i])->bytes(16, 100, 100), 0, "one group that is the row");
    }
}

Test(packed, holds)
{
    enum { K = 192 };
    int8_t q[2 * K];
    float scale[2 * 2];
    for (int i = 0; i < 2; i++) {
        const struct chi_encoding_ops *e = encoding(names[i]);
        draw(q, scale, 2, K, 128);
        cr_expect(e->holds(q, scale, 2, K, 128), "%s", names[i]);
        q[K + 5] = 2;
        cr_expect_not(e->holds(q, scale, 2, K, 128), "%s: 2 is no trit", names[i]);
        cr_expect(e->holds(q, scale, 1, K, 128), "row 0 alone has none");
        draw(q, scale, 2, K, 128);
        scale[3] = 0.3f;
        cr_expect_not(e->holds(q, scale, 2, K, 128), "%s: 0.3 is not in fp16", names[i]);
        scale[3] = NAN;
        cr_expect_not(e->holds(q, scale, 2, K, 128));
        draw(q, scale, 2, K, 128);
        memset(q + K, 0, K);
        cr_expect_eq(e->holds(q, scale, 2, K, 128), i == 1, "%s: a row of zeros", names[i]);
    }
}

static void multiply(const char *name, const struct chi_act *a, const int8_t *w, const float *scale, int64_t rows,
                     int64_t group, float *y)
{
    const struct chi_encoding_ops *e = encoding(name);
    int64_t n = e->bytes(rows, a->d_in, group);
    int64_t need = e->portable->scratch_bytes ? e->portable->scratch_bytes(a->rows, a->d_in) : 0;
    void *bytes = guarded(n, true), *s = guarded(round_up(need, 64), true);
    cr_assert(e->holds(w, scale, rows, a->d_in, group), "%s", name);
    e->encode(bytes, w, scale, rows, a->d_in, group, 0, rows);
    const struct chi_matrix m = { bytes, rows, a->d_in, group };
    e->portable->run(y, rows, a, &m, 0, rows, s);
    unguard(bytes, n, true), unguard(s, round_up(need, 64), true);
}

/* Widths that are no multiple of 4, 5, 64 or the group; the largest sums                                */
Test(packed, product_of_ternary2)
{
    static const int64_t width[] = { 1, 3, 4, 5, 63, 64, 65, 100, 128, 129, 192, 320, 1728 };
    enum { OUT = 19, ROWS = 3, WIDE = 1728 };
    static int8_t w[OUT * WIDE], q[ROWS * WIDE];
    static float scale[OUT * WIDE], x[ROWS * WIDE], step[ROWS * WIDE / 64], y[ROWS * OUT], z[ROWS * OUT];
    static int16_t sum[ROWS * WIDE / 64];
    for (int64_t i = 0; i < 2 * COUNT(width); i++) {
        int64_t d = width[i / 2], group = i % 2 ? 192 : 128, ld = round_up(d, 64);
        draw(w, scale, OUT, d, group);
        memset(q, 0, sizeof q);
        for (int64_t r = 0; r < ROWS; r++) {
            for (int64_t k = 0; k < d; k++) x[k] = r ? random_float() : w[k] ? w[k] : 1;
            reference_kernels.quantize_i8(q + r * ld, step + r * ld / 64, sum + r * ld / 64, x, d);
        }
        const struct chi_act a = { ROWS, d, x, d, q, ld, step, sum };
        multiply("ternary2", &a, w, scale, OUT, group, y);
        for (int n = 0; n < 2; n++) {
            multiply(names[n], &a, w, scale, OUT, group, z);
            cr_expect(same(y, z, sizeof y), "%s, width %ld in groups of %ld", names[n], d, group);
        }
    }
}
