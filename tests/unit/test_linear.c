/* test_linear.c - what a linear means in training, against plain loops in double:
 *
 *     xn = rmsnorm(x) with extra_rmsnorm, else x
 *     x~ = xn + lambda (x^ - xn),  W~ = W + lambda (W^ - W) + e W
 *     y = x~ W~',  dW += (1 + e) dy' x~,  dx += d rmsnorm (dy W~)
 *
 * x^ and W^ come from the kernels and encodings, which have tests of their own.  */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "hosting.h"
#include "linear.h"
#include "pool.h"

enum { ROWS = 9, IN = 100, OUT = 37, N = 2 };       /* IN: not a whole block of 64     */

struct bench {
    struct spec *spec;
    struct chi_host *h;
    struct chi_linear lin[N];                       /* quantised; never quantised      */
    float x[ROWS * IN], dy[N][ROWS * OUT], y[N][ROWS * OUT], dx[ROWS * IN];
    float w[N][OUT * IN], g[N][OUT * IN];
};

static uint64_t seed;
static void fill(float *x, int64_t n, double scale)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(scale * ((double)(seed >> 40) / 8388608.0 - 1.0));
    }
}

static void must(chi_status s)
{
    cr_assert_eq(s, CHI_OK, "%s", fail_text());
}

static struct bench *bench_open(const char *linear)
{
    static const char *const name[N] = { "layers.0.mixer.a", "layers.0.mixer.b" };
    struct bench *b = xcalloc(1, sizeof *b);
    struct config *config;
    char *text = xprintf("[model]\nhidden_size = %d\nnum_hidden_layers = 1\nvocab_size = 9\nlayer_pattern = X\n"
                         "ffn_pattern = X\n[layer.X]\nuse = swiglu\nintermediate_size = 8\n%s", IN, linear);
    int64_t scratch = 0;
    must(config_load_text(&config, "test", text, NULL, 0));
    free(text);
    must(spec_open(&b->spec, config, SPEC_MODEL));
    b->h = host_open(b->spec, "test");
    seed = 5;
    for (int i = 0; i < N; i++) {
        b->lin[i] = (struct chi_linear){ .d_out = OUT, .d_in = IN, .training = true, .f32_only = i == 1,
                                         .w = b->w[i], .g = b->g[i] };
        strcpy(b->lin[i].name, name[i]);
        must(linear_choose(&b->lin[i], b->spec));
        scratch = max_i64(scratch, linear_scratch(&b->lin[i], ROWS));
        fill(b->w[i], OUT * IN, 0.3);
        fill(b->dy[i], ROWS * OUT, 1);
    }
    fill(b->x, ROWS * IN, 2);
    must(pool_scratch(scratch));
    must(linear_room(ROWS, IN, OUT * IN, true));
    return b;
}

static void bench_close(struct bench *b)
{
    for (int i = 0; i < N; i++) linear_drop(&b->lin[i]);
    host_close(b->h);
    spec_close(b->spec);
    linear_room_drop();
    free(b);
}

/* y, gradients and dx of both in one call; what was in g and dx stays, plus 1    */
static void run(struct bench *b, double lambda)
{
    const struct chi_linear *lin[N];
    float *y[N];
    const float *dy[N];
    unsigned char grads;
    struct chi_run r = { .h = b->h, .grads = &grads, .keep = true, .rows = ROWS };
    for (int i = 0; i < N; i++) {
        lin[i] = &b->lin[i];
        y[i] = b->y[i];
        dy[i] = b->dy[i];
        must(linear_bind(&b->lin[i], b->w[i], lambda));
        for (int j = 0; j < OUT * IN; j++) b->g[i][j] = 1;
    }
    for (int j = 0; j < ROWS * IN; j++) b->dx[j] = 1;
    must(linears(lin, N, &r, b->x, ROWS, y));
    must(linears_back(lin, N, &r, b->x, ROWS, dy, b->dx));
}

/* Operands of the quantised linear at lambda, in double                          */
static void operands(struct bench *b, double lambda, double residual, bool norm, double *x, double *w)
{
    unsigned char room[8192];
    struct chi_scratch s = { room, 0, sizeof room };
    must(linear_bind(&b->lin[0], b->w[0], 1));
    for (int o = 0; o < OUT; o++) {
        float row[IN];
        linear_row(&b->lin[0], o, false, row, &s);
        for (int i = 0; i < IN; i++) {
            double master = (double)b->w[0][o * IN + i];
            w[o * IN + i] = master + lambda * ((double)row[i] - master) + residual * master;
        }
    }
    for (int r = 0; r < ROWS; r++) {
        float xn[IN], step[2];
        int8_t q[2 * CHI_ACT_BLOCK];
        int16_t sum[2];
        double square = 0;
        for (int i = 0; i < IN; i++) square += (double)b->x[r * IN + i] * (double)b->x[r * IN + i] / IN;
        for (int i = 0; i < IN; i++)
            xn[i] = (float)((double)b->x[r * IN + i] * (norm ? 1 / sqrt(square + b->spec->model.rms_norm_eps) : 1));
        b->h->k->quantize_i8(q, step, sum, xn, IN);
        for (int i = 0; i < IN; i++)
            x[r * IN + i] = (double)xn[i] + lambda * (q[i] * (double)step[i / CHI_ACT_BLOCK] - (double)xn[i]);
    }
}

static void near(const char *what, const float *got, const double *want, int64_t n)
{
    double worst = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)got[i] - want[i]));
        size = fmax(size, fabs(want[i]));
    }
    cr_assert(worst <= 2e-5 * size, "%s is %g off, of %g", what, worst, size);
}

/* y and dW of linear i, and its share of d loss / d (its input)                  */
static void products(const struct bench *b, int i, double residual, const double *x, const double *w, double *back)
{
    double y[ROWS * OUT] = { 0 }, g[OUT * IN];
    for (int j = 0; j < OUT * IN; j++) g[j] = 1;
    for (int r = 0; r < ROWS; r++)
        for (int o = 0; o < OUT; o++)
            for (int c = 0; c < IN; c++) {
                double dy = (double)b->dy[i][r * OUT + o];
                y[r * OUT + o] += x[r * IN + c] * w[o * IN + c];
                g[o * IN + c] += (1 + residual) * dy * x[r * IN + c];
                back[r * IN + c] += dy * w[o * IN + c];
            }
    near("y", b->y[i], y, ROWS * OUT);
    near("dW", b->g[i], g, OUT * IN);
}

/* a of one row -> r (a - xn mean(a xn))                                          */
static void norm_back(const struct bench *b, int row, double *a)
{
    double square = 0, mean = 0;
    const float *x = b->x + row * IN;
    for (int i = 0; i < IN; i++) square += (double)x[i] * (double)x[i] / IN;
    double r = 1 / sqrt(square + b->spec->model.rms_norm_eps);
    for (int i = 0; i < IN; i++) mean += a[i] * (double)x[i] * r / IN;
    for (int i = 0; i < IN; i++) a[i] = r * (a[i] - (double)x[i] * r * mean);
}

static void check(const char *linear, bool norm, double lambda, double progress, double residual)
{
    struct bench *b = bench_open(linear);
    linear_progress(&b->lin[0], progress);
    static double x[N][ROWS * IN], w[N][OUT * IN], back[N][ROWS * IN];
    memset(back, 0, sizeof back);
    operands(b, lambda, residual, norm, x[0], w[0]);
    for (int i = 0; i < ROWS * IN; i++) x[1][i] = (double)b->x[i];
    for (int i = 0; i < OUT * IN; i++) w[1][i] = (double)b->w[1][i];
    run(b, lambda);
    for (int i = 0; i < N; i++) products(b, i, i ? 0 : residual, x[i], w[i], back[i]);
    for (int r = 0; norm && r < ROWS; r++) norm_back(b, r, back[0] + r * IN);
    for (int i = 0; i < ROWS * IN; i++) back[0][i] += back[1][i] + 1;
    near("dx", b->dx, back[0], ROWS * IN);
    bench_close(b);
}

/* Rounding to int8 must not make a number of it                                   */
Test(linear, what_is_no_number_stays_none)
{
    struct bench *b = bench_open("[linear]\nquantizer = ternary\n");
    must(linear_bind(&b->lin[0], b->w[0], 1));
    b->x[2 * IN + IN - 1] = NAN;
    run(b, 1);
    for (int i = 0; i < ROWS * OUT; i++)
        cr_expect_eq(isnan(b->y[0][i]) != 0, i / OUT == 2, "row %d, output %d is %g", i / OUT, i % OUT,
                     (double)b->y[0][i]);
    bench_close(b);
}

Test(linear, training_is_its_formula_along_the_ramp)
{
    static const double lambda[] = { 0, 0.25, 0.75, 1 };
    for (int i = 0; i < COUNT(lambda); i++) {
        check("[linear]\nquantizer = ternary\n", false, lambda[i], 0.5, 0);
        check("[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n", true, lambda[i], 0.5, 0);
        check("[linear]\nquantizer = int8\n", false, lambda[i], 0.5, 0);
        check("[linear]\nquantizer = sherry\narenas = 0.5\n", false, lambda[i], 0.05, 0.25);
        check("[linear]\nquantizer = sherry\nextra_rmsnorm = yes\narenas = 0.5\n", true, lambda[i], 0.1, 0.5);
        check("[linear]\nquantizer = sherry\narenas = 0.5\n", false, lambda[i], 0.55, 0.25);
        check("[linear]\nquantizer = sherry\narenas = 0.5\n", false, lambda[i], 1, 0);
    }
}

/* y of linear 0 by the forward of training and by that of inference              */
static bool same_forward(struct bench *b, double lambda, double progress)
{
    const struct chi_linear *lin[] = { &b->lin[0] };
    static float y[2][ROWS * OUT];
    linear_progress(&b->lin[0], progress);
    must(linear_bind(&b->lin[0], b->w[0], lambda));
    for (int keep = 0; keep < 2; keep++) {
        struct chi_run r = { .h = b->h, .keep = keep, .rows = ROWS };
        float *to[] = { y[keep] };
        must(linears(lin, 1, &r, b->x, ROWS, to));
    }
    return !memcmp(y[0], y[1], sizeof y[0]);
}

/* Training's forward is the integer product of inference, once nothing of the master is left */
Test(linear, training_and_inference_have_the_same_bits)
{
    static const char *const linear[] = {
        "[linear]\nquantizer = ternary\n", "[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n",
        "[linear]\nquantizer = sherry\n", "[linear]\nquantizer = sherry\nextra_rmsnorm = yes\n",
        "[linear]\nquantizer = int8\n",
    };
    for (int i = 0; i < COUNT(linear); i++) {
        struct bench *b = bench_open(linear[i]);
        for (int threads = 1; threads <= 3; threads++) {
            pool_threads(threads);
            cr_expect(same_forward(b, 1, 1), "%s", linear[i]);
            cr_expect_not(same_forward(b, 0.9, 1), "the ramp is not finished: %s", linear[i]);
            cr_expect_eq(same_forward(b, 1, 0.99), !strstr(linear[i], "sherry"), "a residual: %s", linear[i]);
            cr_expect(same_forward(b, 1, 1));
        }
        bench_close(b);
    }
}

/* Threads cut the products of a call, never its sums                             */
Test(linear, threads_change_no_bit)
{
    struct bench *b = bench_open("[linear]\nquantizer = ternary\nextra_rmsnorm = yes\n");
    static float y[N][ROWS * OUT], g[N][OUT * IN], dx[ROWS * IN];
    for (int i = 0; i < 2; i++) {
        double lambda = i ? 1 : 0.5;
        pool_threads(1);
        run(b, lambda);
        memcpy(y, b->y, sizeof y);
        memcpy(g, b->g, sizeof g);
        memcpy(dx, b->dx, sizeof dx);
        for (int threads = 2; threads <= 8; threads += threads == 2 ? 1 : 5) {
            pool_threads(threads);
            run(b, lambda);
            cr_expect_arr_eq(y, b->y, sizeof y);
            cr_expect_arr_eq(g, b->g, sizeof g);
            cr_expect_arr_eq(dx, b->dx, sizeof dx);
        }
    }
    bench_close(b);
}

Test(linear, a_weight_that_is_no_number_is_refused)
{
    struct bench *b = bench_open("[linear]\nquantizer = ternary\n");
    b->w[0][OUT * IN - 1] = NAN;
    cr_assert_eq(linear_bind(&b->lin[0], b->w[0], 1), CHI_ENUMERIC);
    cr_assert(strstr(fail_text(), "layers.0.mixer.a"), "%s", fail_text());
    bench_close(b);
}

/* A row of one weight has a group of one, as classes of floats have; it is still an integer and a scale */
Test(linear, one_column_of_int8)
{
    struct bench *b = bench_open("[linear]\nquantizer = int8\n");
    unsigned char room[8192];
    struct chi_scratch s = { room, 0, sizeof room };
    struct chi_linear l = { .d_out = OUT, .d_in = 1, .training = true, .w = b->w[0] };
    strcpy(l.name, "layers.0.mixer.one");
    must(linear_choose(&l, b->spec));
    must(pool_scratch(linear_scratch(&l, 1)));
    must(linear_bind(&l, b->w[0], 1));
    for (int o = 0; o < OUT; o++) {
        float w;
        linear_row(&l, o, false, &w, &s);
        cr_expect_float_eq((double)w, (double)b->w[0][o], 1e-6, "%d", o);
    }
    linear_drop(&l);
    bench_close(b);
}

Test(linear, calls_beyond_the_plan_are_refused)
{
    struct bench *b = bench_open("[linear]\nquantizer = ternary\n");
    const struct chi_linear *lin[] = { &b->lin[0] };
    float *y[] = { b->y[0] };
    struct chi_run r = { .h = b->h, .rows = ROWS };
    must(linear_bind(&b->lin[0], b->w[0], 1));
    cr_assert_eq(linears(lin, 1, &r, b->x, 1 << 30, y), CHI_EBUG);
    cr_assert_eq(linears(lin, 0, &r, b->x, ROWS, y), CHI_EBUG);
    bench_close(b);
}

/* ---- which rule a name gets ------------------------------------------------------ */

static void expect_rule(const struct spec *s, const char *name, const char *pattern)
{
    const struct linear_rule *r = spec_linear(s, name);
    cr_assert_not_null(r, "%s", name);
    cr_expect_str_eq(r->pattern, pattern, "%s is of [linear.%s], not [linear.%s]", name, r->pattern, pattern);
}

Test(linear, the_longest_pattern_wins)
{
    struct bench *b = bench_open("[linear.layers.*.mixer.*]\nquantizer = int8\n[linear.*.q_proj]\nquantizer = bf16\n"
                                 "[linear.layers.1.mixer.q_proj]\nquantizer = ternary\n[linear.*b*d]\n"
                                 "[linear.***************************x]\n");
    expect_rule(b->spec, "layers.0.ffn.up_proj", "*");
    expect_rule(b->spec, "layers.0.ffn.q_proj", "*.q_proj");
    expect_rule(b->spec, "layers.0.mixer.q_proj", "layers.*.mixer.*");
    expect_rule(b->spec, "layers.1.mixer.q_proj", "layers.1.mixer.q_proj");
    expect_rule(b->spec, "layers.11.mixer.q_proj", "layers.*.mixer.*");
    expect_rule(b->spec, "embed", "embed");
    expect_rule(b->spec, "abacad", "*b*d");                 /* the star must take more than once */
    expect_rule(b->spec, "abdbd", "*b*d");
    expect_rule(b->spec, "abdb", "*");
    expect_rule(b->spec, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "*");
    bench_close(b);
}

/* A kernel that wants a pack, for which there is no memory: nothing half made stays behind */
static int64_t huge_pack(int64_t d_out, int64_t d_in, int64_t group)
{
    (void)d_out, (void)d_in, (void)group;
    return INT64_MAX / 4;
}

Test(linear, without_memory_for_its_pack_it_has_no_bytes_either)
{
    struct bench *b = bench_open("[linear]\nquantizer = ternary\n");
    struct chi_linear l = b->lin[0];
    struct chi_linear_kernel k = *l.kernel;
    int64_t before = mem_used();
    k.pack_bytes = huge_pack;
    l.kernel = &k;
    for (int again = 0; again < 2; again++) {
        cr_assert_eq(linear_bind(&l, b->w[0], 1), CHI_ENOMEM);
        cr_assert(!l.bytes && !l.packed);
        cr_assert_eq(mem_used(), before);
    }
    bench_close(b);
}
