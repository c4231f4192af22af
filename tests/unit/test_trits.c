/* test_trits.c - encodings of trits: their bytes as the pages say, what they hold, and one product for all. */
#include "kernels.h"
#include "reference.h"

#include <math.h>

#include "../data/tq_blocks.h"

static const char *const names[] = { "ternary2", "tl2", "tq1_0", "tq2_0" };

/* ---- bytes ------------------------------------------------------------------------------------------ */

/* The example of tl2.md                                                                                */
Test(trits, tl2_bytes)
{
    const struct chi_encoding_ops *e = encoding("tl2");
    int8_t q[2 * 70] = { 1, -1, 0, -1, 0, 1 };
    float scale[2] = { 1, 0.5f };
    uint8_t out[2 * 220 + 32 + 64];
    q[63] = -1, q[64] = 1, q[70 + 69] = -1;
    cr_assert_eq(e->bytes(2, 70, 128), 512);
    memset(out, 0xaa, sizeof out);
    e->encode(out, q, scale, 2, 70, 128, 0, 2);
    cr_expect_eq(out[0], 0x68);
    cr_expect_eq(out[10 * 16], 0x09, "the trit that is alone: index 9 of triple 21");
    cr_expect_eq(out[176], 0x90, "block 1 begins with t = 1");
    cr_expect_eq(out[176 + 1], 0x01, "row 1: k = 69 is the last trit of triple 1");
    const uint8_t *sign = out + 2 * 176;
    for (int i = 0; i < 44; i++) {
        int want = i == 1 || i == 21 ? 1 : i == 22 + 1 ? 2 : 0;
        cr_expect_eq(sign[2 * i] | sign[2 * i + 1] << 8, want, "triple %d", i);
    }
    const uint8_t scales[6] = { 0x00, 0x3c, 0x00, 0x38, 0, 0 };
    cr_expect(same(out + 2 * 220, scales, 6));
    for (int i = 2 * 220 + 4; i < 512; i++) cr_expect_eq(out[i], 0);
}

/* Every index and sign, at every place of a triple: what the table of the page says                        */
Test(trits, tl2_indices)
{
    const struct chi_encoding_ops *e = encoding("tl2");
    uint8_t out[512];
    int8_t q[64] = { 0 };
    float scale = 1;
    for (int v = -13; v <= 13; v++) {
        int rest = v + 13;
        q[2] = (int8_t)(rest % 3 - 1), q[1] = (int8_t)(rest / 3 % 3 - 1), q[0] = (int8_t)(rest / 9 - 1);
        e->encode(out, q, &scale, 1, 64, 64, 0, 1);
        cr_expect_eq(out[0] >> 4, abs(v));
        cr_expect_eq(out[176], v < 0);
    }
    int8_t back[64];
    for (int strange = 14; strange < 16; strange++) {
        out[0] = (uint8_t)(strange << 4);
        e->decode(out, back, &scale, 1, 64, 64, 0, 1);
        cr_expect_eq(abs(back[0]), 2, "index %d is no ternary weight", strange);
    }
}

/* Blocks made by another program, in both directions                                                       */
Test(trits, tq_blocks)
{
    for (int64_t i = 0; i < COUNT(tq_blocks); i++)
        for (int two = 0; two < 2; two++) {
            const struct chi_encoding_ops *e = encoding(two ? "tq2_0" : "tq1_0");
            const uint8_t *want = two ? tq_blocks[i].tq2 : tq_blocks[i].tq1;
            int64_t n = two ? 66 : 54;
            uint8_t out[128];
            int8_t t[256];
            float d;
            memset(out, 0xaa, sizeof out);
            cr_assert_eq(e->bytes(1, 256, 256), round_up(n, 64));
            e->encode(out, tq_blocks[i].t, &tq_blocks[i].d, 1, 256, 256, 0, 1);
            cr_expect(same(out, want, n), "block %ld of %ld bytes", i, n);
            for (int64_t b = n; b < round_up(n, 64); b++) cr_expect_eq(out[b], 0);
            e->decode(want, t, &d, 1, 256, 256, 0, 1);
            cr_expect(same(t, tq_blocks[i].t, 256) && same(&d, &tq_blocks[i].d, 4), "block %ld of %ld bytes", i, n);
        }
}

/* All 256 bytes: those of other writers, too, give digits 0..2; the 243 that are written come back          */
Test(trits, tq1_any_byte)
{
    const struct chi_encoding_ops *e = encoding("tq1_0");
    for (int b = 0; b < 256; b++) {
        uint8_t in[64] = { 0 }, out[64];
        int8_t t[256];
        float d;
        memset(in, b, 52);
        e->decode(in, t, &d, 1, 256, 256, 0, 1);
        for (int k = 0; k < 256; k++) cr_assert(t[k] >= -1 && t[k] <= 1, "byte %d, k %d", b, k);
        int v = 0;
        for (int n = 0; n < 5; n++) v = 3 * v + t[32 * n] + 1;
        cr_expect_eq(b * 243 / 256, v, "byte %d", b);
        e->encode(out, t, &d, 1, 256, 256, 0, 1);
        if ((v * 256 + 242) / 243 == b) cr_expect_eq(out[0], b);
    }
}

Test(trits, tq2_code_3_is_no_weight)
{
    uint8_t in[128] = { 0 };
    int8_t t[256];
    float d;
    in[33] = 0x30;
    encoding("tq2_0")->decode(in, t, &d, 1, 256, 256, 0, 1);
    for (int k = 0; k < 256; k++) cr_expect_eq(t[k], k == 128 + 64 + 1 ? 2 : -1);
}

/* ---- what they hold -------------------------------------------------------------------------------------- */

Test(trits, shapes)
{
    for (int64_t cols = 1; cols < 600; cols++)
        for (int i = 2; i < 4; i++) {
            const struct chi_encoding_ops *e = encoding(names[i]);
            int64_t size = i == 2 ? 54 : 66;
            cr_expect_eq(e->bytes(17, cols, 128), cols % 256 ? 0 : round_up(17 * cols / 256 * size, 64));
            cr_expect_eq(e->bytes(17, cols, 100), cols % 256 || cols > 100 ? 0 : -1, "%ld", cols);
        }
    cr_expect_eq(encoding("tl2")->bytes(17, 200, 100), 0);
    cr_expect_eq(encoding("tl2")->bytes(17, 200, 128), 2 * 960);
}

Test(trits, holds)
{
    enum { K = 1024 };
    int8_t q[2 * K] = { 0 };
    float scale[2 * K / 64];
    for (int64_t i = 0; i < COUNT(names); i++) {
        const struct chi_encoding_ops *e = encoding(names[i]);
        bool blocks = i >= 2;
        for (int64_t g = 0; g < 2 * K / 64; g++) scale[g] = 0.25f;
        cr_expect(e->holds(q, scale, 2, K, 128) && e->holds(q, scale, 2, K, 192) && e->holds(q, scale, 2, K, 512));
        q[K + 5] = 2;
        cr_expect_not(e->holds(q, scale, 2, K, 128), "%s: 2 is no trit", names[i]);
        cr_expect(e->holds(q, scale, 1, K, 128), "row 0 alone has none");
        q[K + 5] = -1;
        scale[9] = 0.3f;
        cr_expect_not(e->holds(q, scale, 2, K, 128), "%s: 0.3 is not in fp16", names[i]);
        scale[9] = INFINITY;
        cr_expect_not(e->holds(q, scale, 2, K, 128));
        scale[9] = 0.5f;                            /* row 1, group 1 of 8: shares a block with group 0 */
        cr_expect_eq(e->holds(q, scale, 2, K, 128), !blocks);
        scale[8] = 0.5f;
        cr_expect(e->holds(q, scale, 2, K, 128));
        cr_expect_eq(e->holds(q, scale, 1, K, 64), !blocks, "%s: 4 groups in a block", names[i]);
        cr_expect(e->holds(q, scale, 1, K, 256), "a block has a group of its own");
        scale[8] = -0.0f, scale[9] = 0.0f;
        cr_expect_eq(e->holds(q, scale, 2, K, 128), !blocks, "zeros of both signs");
        q[K + 5] = 0;
    }
}

/* ---- one product for all ------------------------------------------------------------------------------------- */

struct work { int8_t *w, *q; float *scale, *x, *step, *y; int16_t *sum; int64_t out, rows, d_in, group; };

/* Scales are equal in each 256, so that all encodings hold the matrix                                        */
static void work_draw(struct work *k)
{
    int64_t groups = ceil_div(k->d_in, k->group), ldq = round_up(k->d_in, 64);
    k->w = xcalloc((size_t)k->out, (size_t)k->d_in);
    k->scale = xcalloc((size_t)(k->out * groups), 4);
    k->q = xcalloc((size_t)k->rows, (size_t)ldq);
    k->x = xcalloc((size_t)(k->rows * k->d_in), 4);
    k->step = xcalloc((size_t)(k->rows * ldq / 64), 4);
    k->sum = xcalloc((size_t)(k->rows * ldq / 64), 2);
    k->y = xcalloc((size_t)(k->rows * k->out), 4);
    for (int64_t i = 0; i < k->out * k->d_in; i++) k->w[i] = (int8_t)((int)(random_bits() % 3) - 1);
    for (int64_t i = 0; i < k->out * groups; i++) {
        bool first = i % groups * k->group % 256 == 0;
        k->scale[i] = first ? (float)((int)(random_bits() % 4095) - 2047) / 65536 : k->scale[i - 1];
    }
    fill(k->x, k->rows * k->d_in);
    for (int64_t r = 0; r < k->rows; r++)
        reference_kernels.quantize_i8(k->q + r * ldq, k->step + r * ldq / 64, k->sum + r * ldq / 64,
                                      k->x + r * k->d_in, k->d_in);
}

static void work_drop(struct work *k)
{
    free(k->w), free(k->q), free(k->scale), free(k->x), free(k->step), free(k->y), free(k->sum);
}

static void multiply(const struct work *k, const char *name, float *y)
{
    const struct chi_encoding_ops *e = encoding(name);
    int64_t n = e->bytes(k->out, k->d_in, k->group), ldq = round_up(k->d_in, 64);
    int64_t scratch = e->portable->scratch_bytes ? e->portable->scratch_bytes(k->rows, k->d_in) : 0;
    void *bytes = guarded(n, true), *s = guarded(scratch, true);
    cr_assert(e->holds(k->w, k->scale, k->out, k->d_in, k->group), "%s", name);
    e->encode(bytes, k->w, k->scale, k->out, k->d_in, k->group, 0, k->out);
    const struct chi_act a = { k->rows, k->d_in, k->x, k->d_in, k->q, ldq, k->step, k->sum };
    const struct chi_matrix m = { bytes, k->out, k->d_in, k->group };
    for (int64_t o = 0; o < k->out; o += CHI_TILE)
        e->portable->run(y + o, k->out, &a, &m, o, min_i64(o + CHI_TILE, k->out), s);
    unguard(bytes, n, true), unguard(s, scratch, true);
}

Test(trits, same_bits)
{
    static const int64_t shape[][3] = { { 256, 256, 5 }, { 512, 128, 3 }, { 1280, 128, 1 }, { 768, 768, 2 },
                                        { 512, 64, 4 }, { 1024, 512, 1 }, { 256, 1000, 2 } };
    for (int64_t i = 0; i < COUNT(shape); i++) {
        struct work k = { .out = 21, .d_in = shape[i][0], .group = shape[i][1], .rows = shape[i][2] };
        work_draw(&k);
        float *y = xcalloc((size_t)(k.rows * k.out), 4);
        multiply(&k, "ternary2", k.y);
        for (int64_t n = 1; n < COUNT(names); n++) {
            multiply(&k, names[n], y);
            cr_expect(same(k.y, y, k.rows * k.out * 4), "%s, %ld in groups of %ld", names[n], k.d_in, k.group);
        }
        free(y);
        work_drop(&k);
    }
}

/* d_in that is no multiple of 3, of 64, of the group                                                          */
Test(trits, same_bits_of_tl2_at_odd_widths)
{
    static const int64_t width[] = { 1, 2, 3, 63, 64, 65, 66, 67, 127, 192, 1728 };
    for (int64_t i = 0; i < COUNT(width); i++) {
        struct work k = { .out = 17, .d_in = width[i], .group = 128, .rows = 1 + i % 3 };
        work_draw(&k);
        float *y = xcalloc((size_t)(k.rows * k.out), 4);
        multiply(&k, "ternary2", k.y);
        multiply(&k, "tl2", y);
        cr_expect(same(k.y, y, k.rows * k.out * 4), "width %ld", width[i]);
        free(y);
        work_drop(&k);
    }
}

/* Sums as large as they get: all weights 1 or alternating with the activations                                */
Test(trits, largest_sums)
{
    struct work k = { .out = 16, .d_in = 2560, .group = 256, .rows = 1 };
    work_draw(&k);
    for (int64_t i = 0; i < k.out * k.d_in; i++) k.w[i] = i % 3 == 0 ? -1 : 1;
    for (int64_t i = 0; i < k.d_in; i++) k.q[i] = i % 3 == 0 ? -127 : 127;
    for (int64_t b = 0; b < k.d_in / 64; b++) k.step[b] = 1;
    for (int64_t i = 0; i < k.out * 10; i++) k.scale[i] = 1;
    for (int64_t n = 0; n < COUNT(names); n++) {
        multiply(&k, names[n], k.y);
        for (int64_t o = 0; o < k.out; o++) {
            double want = 0;
            for (int64_t i = 0; i < k.d_in; i++) want += k.w[o * k.d_in + i] * k.q[i];
            cr_expect_eq((double)k.y[o], want, "%s", names[n]);
        }
    }
    work_drop(&k);
}
