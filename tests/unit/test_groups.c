/* test_groups.c - group_size of the ternary quantizers: what shares a scale, and that multiples of
 * 128 are served by the kernels that 128 has, with the portable kernel's bits.
 *
 *     scale of k = fp16 of the mean |W| over the group_size weights around k (a last group is
 *     shorter), for sherry over those that are kept
 *     y = sum over k of scale t q step                                                         */
#include "kernels.h"
#include "linear.h"
#include "reference.h"
#include "tune.h"

#include <math.h>

enum { OUT = 37, ROWS = 17, WIDEST = 1100, SHERRY = 1 };

struct conf { int64_t group_size; double arenas, arenas_warmup; };

static const char *const quantizers[] = { "ternary", "sherry" };
static const int64_t widths[] = { 60, 130, 512, 700, WIDEST };

static struct matrix {
    int64_t d_in, group, groups;
    float   w[OUT * WIDEST], scale[OUT * WIDEST];
    int8_t  t[OUT * WIDEST];
} m;

static void make(int quantizer, int64_t group_size, int64_t d_in)
{
    const struct chi_quantizer_ops *o = component(CHI_QUANTIZER, quantizers[quantizer])->ops;
    const struct conf conf = { group_size, 0, 0 };
    fill(m.w, OUT * d_in);
    for (int64_t i = 0; i < OUT * d_in; i++) m.w[i] *= (float)(1 + i / 64 % 5);     /* 64s differ in size */
    m.d_in = d_in;
    m.group = o->group(&conf, d_in);
    m.groups = ceil_div(d_in, m.group);
    for (int64_t i = 0; i < OUT * WIDEST; i++) m.scale[i] = -1;
    cr_assert_eq(o->quantize(&conf, m.w, OUT, d_in, m.t, m.scale), CHI_OK);
}

/* ---- numbers ------------------------------------------------------------------------------------ */

/* The weights [k0, k1) of row o are those that share a scale                                       */
static void check_range(int quantizer, int64_t o, int64_t k0, int64_t k1)
{
    double sum = 0, n = 0;
    float scale = m.scale[o * m.groups + k0 / m.group];
    for (int64_t k = k0; k < k1; k++) {
        bool counts = quantizer != SHERRY || m.t[o * m.d_in + k];
        sum += counts ? fabs((double)m.w[o * m.d_in + k]) : 0;
        n += counts;
    }
    cr_expect_float_eq((double)scale, sum / n, sum / n * 0x1p-11, "%s, %ld..%ld of %ld", quantizers[quantizer], k0, k1,
                       m.d_in);
    for (int64_t k = k0; k < k1; k++) {
        float size = fabsf(m.w[o * m.d_in + k]);
        int t = m.t[o * m.d_in + k];
        cr_expect_eq(m.scale[o * m.groups + k / m.group], scale, "%ld", k);
        if (quantizer != SHERRY) cr_expect_eq(t != 0, size > scale / 2, "%ld", k);
    }
}

Test(groups, a_scale_is_of_group_size_weights)
{
    static const int64_t size[] = { 64, 128, 192, 256, 384, 512, 65536 };
    for (int q = 0; q < COUNT(quantizers); q++)
        for (int s = 0; s < COUNT(size); s++)
            for (int d = 0; d < COUNT(widths); d++) {
                make(q, size[s], widths[d]);
                cr_expect_eq(m.group, size[s] % 128 ? size[s] : 128, "%ld become %ld", size[s], m.group);
                for (int64_t o = 0; o < OUT; o += 6)
                    for (int64_t k = 0; k < m.d_in; k += size[s])
                        check_range(q, o, k, min_i64(k + size[s], m.d_in));
                cr_expect_eq(m.scale[OUT * m.groups], -1, "more scales than ceil(%ld / %ld) a row", m.d_in, m.group);
            }
}

/* ---- products ------------------------------------------------------------------------------------- */

static struct acts {
    float   x[ROWS * WIDEST], step[ROWS * 32];
    int8_t  q[ROWS * 32 * CHI_ACT_BLOCK];
    int16_t sum[ROWS * 32];
} acts;

static struct chi_act draw_acts(int64_t rows)
{
    int64_t ldq = round_up(m.d_in, CHI_ACT_BLOCK), blocks = ldq / CHI_ACT_BLOCK;
    memset(&acts, 0, sizeof acts);
    fill(acts.x, rows * m.d_in);
    for (int64_t r = 0; r < rows; r++)
        reference_kernels.quantize_i8(acts.q + r * ldq, acts.step + r * blocks, acts.sum + r * blocks,
                                      acts.x + r * m.d_in, m.d_in);
    return (struct chi_act){ rows, m.d_in, acts.x, m.d_in, acts.q, ldq, acts.step, acts.sum };
}

static void run(const struct chi_linear_kernel *k, const void *bytes, const struct chi_act *a, float *y)
{
    struct chi_matrix b = { bytes, OUT, m.d_in, m.group };
    void *packed = k->pack ? mem_take((size_t)k->pack_bytes(OUT, m.d_in, m.group), "a pack") : NULL;
    void *scratch = mem_take((size_t)(k->scratch_bytes ? k->scratch_bytes(a->rows, m.d_in) : 0) + 64, "scratch");
    if (packed) {
        k->pack(packed, &b);
        b.bytes = packed;
    }
    k->run(y, OUT, a, &b, 0, OUT, scratch);
    mem_free(packed);
    mem_free(scratch);
}

static void check_sums(const struct chi_act *a, const float *y, const char *what)
{
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t o = 0; o < OUT; o++) {
            double want = 0, terms = 0;
            for (int64_t k = 0; k < m.d_in; k++) {
                double t = (double)m.scale[o * m.groups + k / m.group] * m.t[o * m.d_in + k] * a->q[r * a->ldq + k]
                         * (double)a->step[r * (a->ldq / CHI_ACT_BLOCK) + k / CHI_ACT_BLOCK];
                want += t, terms += fabs(t);
            }
            cr_expect_float_eq((double)y[r * OUT + o], want, 1e-5 * terms + 1e-30, "%s, %ld wide: %ld %ld", what, m.d_in,
                               r, o);
        }
}

/* All kernels for this matrix in this encoding; returns how many there are                            */
static int check_kernels(const struct spec *s, const char *name)
{
    const struct chi_component *c = component(CHI_ENCODING, name);
    const struct chi_encoding_ops *e = c->ops;
    struct contender by[CONTENDERS_MAX];
    int n = contenders(s, c, OUT, m.d_in, m.group, false, by);
    static float y[ROWS * OUT], want[ROWS * OUT];
    void *bytes = mem_take((size_t)e->bytes(OUT, m.d_in, m.group), "a matrix");
    cr_assert(e->holds(m.t, m.scale, OUT, m.d_in, m.group), "%s", name);
    e->encode(bytes, m.t, m.scale, OUT, m.d_in, m.group, 0, OUT);
    for (int rows = 1; rows <= ROWS; rows += 8) {
        struct chi_act a = draw_acts(rows);
        run(e->portable, bytes, &a, want);
        check_sums(&a, want, name);
        for (int i = 0; i < n; i++) {
            run(by[i].kernel, bytes, &a, y);
            cr_expect(same(y, want, rows * OUT * 4), "%s of %s: %d rows, %ld wide in groups of %ld", name, by[i].backend,
                      rows, m.d_in, m.group);
        }
    }
    mem_free(bytes);
    return n;
}

static struct spec *open_spec(void)
{
    struct config *config;
    struct spec *s;
    cr_assert_eq(config_load_text(&config, "test", "[model]\nhidden_size = 64\nnum_hidden_layers = 1\nvocab_size = 9\n"
                                  "layer_pattern = X\nffn_pattern = X\n[layer.X]\nuse = swiglu\nintermediate_size = 8\n",
                                  NULL, 0), CHI_OK, "%s", fail_text());
    cr_assert_eq(spec_open(&s, config, SPEC_MODEL), CHI_OK, "%s", fail_text());
    return s;
}

Test(groups, multiples_of_128_have_its_kernels)
{
    static const struct { const char *name; int quantizer; } pair[] = { { "ternary2", 0 }, { "tl2", 0 }, { "base3", 0 },
                                                                        { "sherry125", SHERRY } };
    static const int64_t size[] = { 256, 384, 512, 65536 };
    struct spec *s = open_spec();
    bool avx2 = (cpu_features() & (CHI_CPU_AVX2 | CHI_CPU_FMA)) == (CHI_CPU_AVX2 | CHI_CPU_FMA);
    for (int p = 0; p < COUNT(pair); p++)
        for (int d = 0; d < COUNT(widths); d++) {
            make(pair[p].quantizer, 128, widths[d]);
            int usual = check_kernels(s, pair[p].name);
            cr_expect(usual > 1 || !avx2, "%s has no fast kernel", pair[p].name);
            for (int i = 0; i < COUNT(size); i++) {
                make(pair[p].quantizer, size[i], widths[d]);
                cr_expect_eq(check_kernels(s, pair[p].name), usual, "%s, group_size = %ld", pair[p].name, size[i]);
            }
            make(pair[p].quantizer, 64, widths[d]);
            check_kernels(s, pair[p].name);
        }
    cr_expect(!avx2 || fast_group(s, "ternary2") == 128, "a warning names %ld", fast_group(s, "ternary2"));
    cr_expect_eq(fast_group(s, "tq2_0"), 0, "no backend has one");
    spec_close(s);
}
