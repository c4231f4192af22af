/* test_layers.c - what every layer promises, for all of them but the plainest, in several
 * odd shapes: gradients (of input, parameters and state, by differences), any
 * cut of a stream, packed = alone, threads, causality; what open() plans.          */
#include "layer_rig.h"

/* ---- gradients ---------------------------------------------------------------------- */

/* A fresh stream over a chunk's edge, one that goes on, one shorter than a
 * convolution's tail, one that begins on a chunk's edge                         */
static void mixed_segments(const struct rig *r, struct chi_segment seg[SEGS])
{
    seg[0] = segment(r, 0, 0, 35, 0);
    seg[1] = segment(r, 1, 35, 8, 29);
    seg[2] = segment(r, 2, 43, 2, 3);
    seg[3] = segment(r, 3, 45, 3, 32);
}

struct start { unsigned char *state, *dstate; };    /* before the call, d after   */

static struct start random_start(const struct rig *r)
{
    struct start s = { zeros(SEGS * r->state_bytes), zeros(SEGS * r->state_bytes) };
    int64_t each = r->state_bytes / 4, n = solo_state_bytes(r->solo) / 4;
    for (int64_t i = 0; i < SEGS; i++) {
        if (i > 0) fill((float *)(void *)s.state + i * each, n, 0.5f);
        fill((float *)(void *)s.dstate + i * each, n, 0.5f);
    }
    return s;
}

/* sum dy y + sum dstate state, after the call                                   */
static double loss(struct rig *r, const struct start *s, bool keep)
{
    struct chi_segment seg[SEGS];
    int64_t bytes = SEGS * r->state_bytes;
    double sum = 0;

    memcpy(r->state, s->state, (size_t)bytes);
    mixed_segments(r, seg);
    must(solo_forward(r->solo, seg, SEGS, keep, r->x, r->y));
    for (int64_t i = 0; i < ROWS * r->d; i++) sum += (double)r->y[i] * (double)r->dy[i];
    const float *state = (const float *)(void *)r->state, *d = (const float *)(void *)s->dstate;
    for (int64_t i = 0; i < bytes / 4; i++) sum += (double)state[i] * (double)d[i];
    return sum;
}

static void backward(struct rig *r, const struct start *s)
{
    struct chi_segment seg[SEGS];
    const struct model_tensor *t;

    for (int64_t i = 0; (t = solo_tensor(r->solo, i)); i++)
        for (int64_t j = 0; j < t->n; j++) t->g[j] = 1;     /* '+=' must keep it */
    for (int64_t i = 0; i < ROWS * r->d; i++) r->dx[i] = 1;
    loss(r, s, true);
    memcpy(r->state, s->state, (size_t)(SEGS * r->state_bytes));
    memcpy(r->dstate, s->dstate, (size_t)(SEGS * r->state_bytes));
    mixed_segments(r, seg);
    for (int64_t i = 0; i < SEGS; i++) seg[i].dstate = r->dstate + i * r->state_bytes;
    must(solo_backward(r->solo, seg, SEGS, r->x, r->dy, r->dx));
}

static double loss_at(struct rig *r, const struct start *s, float *value, double x)
{
    *value = (float)x;
    must(solo_bind(r->solo));
    return loss(r, s, false);
}

/* Differences of the loss (of fourth order) at about 10 of the n values, against
 * got[] - offset                                                               */
static void differences(struct rig *r, const struct start *s, const char *what, float *value,
                        const float *got, float offset, int64_t n)
{
    double size = 0, h = 1.0 / 256;
    int64_t stride = max_i64(1, n / 9);
    for (int64_t i = 0; i < n; i++) size = fmax(size, fabs((double)(got[i] - offset)));
    for (int64_t i = 0; i < n; i += stride) {
        float before = value[i];
        double x = (double)before, found = (double)(got[i] - offset);
        double near = loss_at(r, s, &value[i], x + h) - loss_at(r, s, &value[i], x - h);
        double far = loss_at(r, s, &value[i], x + 2 * h) - loss_at(r, s, &value[i], x - 2 * h);
        double want = (8 * near - far) / (12 * h);
        value[i] = before;
        must(solo_bind(r->solo));
        cr_assert(fabs(want - found) <= 4e-3 * size + 4e-3,
                  "%s: d/d%s[%d] is %g, by differences %g", r->spec->mixer[0].component->name, what,
                  (int)i, found, want);
    }
}

static void check_gradients(const struct shape *shape)
{
    struct rig r = rig_open(shape);
    struct start s = random_start(&r);
    const struct model_tensor *t;
    int64_t each = r.state_bytes / 4, n = solo_state_bytes(r.solo) / 4;

    backward(&r, &s);
    differences(&r, &s, "x", r.x, r.dx, 1, ROWS * r.d);
    for (int64_t i = 0; (t = solo_tensor(r.solo, i)); i++)
        if (!t->manual) differences(&r, &s, t->name, t->w, t->g, 1, t->n);
    for (int64_t i = 1; i < SEGS; i++)
        differences(&r, &s, "state", (float *)(void *)s.state + i * each,
                    (const float *)(void *)r.dstate + i * each, 0, n);
    free(s.state);
    free(s.dstate);
    rig_close(&r);
}

Test(layers, gradients_are_those_of_differences)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) check_gradients(&shapes[i]);
}

static void run_threads(struct rig *r, const struct start *s, int threads, float *all)
{
    const struct model_tensor *t;
    int64_t n = ROWS * r->d;
    pool_threads(threads);
    backward(r, s);
    memcpy(all, r->y, (size_t)n * 4);
    memcpy(all + n, r->dx, (size_t)n * 4);
    all += 2 * n;
    memcpy(all, r->dstate, (size_t)(SEGS * r->state_bytes));
    all += SEGS * r->state_bytes / 4;
    for (int64_t i = 0; (t = solo_tensor(r->solo, i)); all += t->n, i++)
        memcpy(all, t->g, (size_t)t->n * 4);
}

Test(layers, any_number_of_threads_gives_the_same_bits)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) {
        struct rig r = rig_open(&shapes[i]);
        struct start s = random_start(&r);
        const struct model_tensor *t;
        int64_t n = 2 * ROWS * r.d + SEGS * r.state_bytes / 4;
        for (int64_t j = 0; (t = solo_tensor(r.solo, j)); j++) n += t->n;
        float *one = zeros(n * 4), *many = zeros(n * 4);

        run_threads(&r, &s, 1, one);
        for (int threads = 2; threads <= 8; threads += threads == 2 ? 1 : 5) {
            run_threads(&r, &s, threads, many);
            cr_assert(same(one, many, n), "shape %d, %d threads", (int)i, threads);
        }
        free(one);
        free(many);
        free(s.state);
        free(s.dstate);
        rig_close(&r);
    }
}

/* ---- streams ------------------------------------------------------------------------- */

static void check_cuts(const struct shape *shape)
{
    struct rig r = rig_open(shape);
    int64_t n = ROWS * r.d, floats = r.state_bytes / 4;
    float *whole = zeros(n * 4);
    unsigned char *end = zeros(r.state_bytes);

    run_rows(&r, 0, ROWS, false, whole);
    memcpy(end, r.state, (size_t)r.state_bytes);
    for (int64_t t = 0; t < ROWS; t++) run_rows(&r, t, t + 1, true, r.y);
    cr_assert(same(r.y, whole, n) && same(r.state, end, floats), "%s step by step", shape->layer);
    for (int64_t cut = 1; cut < ROWS; cut++) {
        memset(r.y, 0, (size_t)n * 4);
        run_rows(&r, 0, cut, false, r.y);
        run_rows(&r, cut, ROWS, false, r.y);
        cr_assert(same(r.y, whole, n) && same(r.state, end, floats), "%s cut at %d", shape->layer, (int)cut);
    }
    free(whole);
    free(end);
    rig_close(&r);
}

Test(layers, any_cut_of_a_stream_gives_the_same_bits)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) check_cuts(&shapes[i]);
}

/* Segments packed into one call; the second one's input is nothing but NaN      */
static void check_packing(const struct shape *shape)
{
    static const int64_t first[SEGS + 1] = { 0, 13, 20, 21, ROWS };
    struct rig r = rig_open(shape);
    struct chi_segment seg[SEGS];
    float *alone = zeros(ROWS * r.d * 4);

    for (int64_t i = first[1]; i < first[2]; i++)
        for (int64_t c = 0; c < r.d; c++) r.x[i * r.d + c] = NAN;
    for (int64_t i = 0; i < SEGS; i++) {
        struct chi_segment one = segment(&r, i, 0, first[i + 1] - first[i], 0);
        must(solo_forward(r.solo, &one, 1, false, r.x + first[i] * r.d, alone + first[i] * r.d));
        seg[i] = segment(&r, i, first[i], first[i + 1] - first[i], 0);
    }
    memset(r.state, 0, (size_t)(SEGS * r.state_bytes));
    must(solo_forward(r.solo, seg, SEGS, false, r.x, r.y));
    for (int64_t i = 0; i < SEGS; i++) {
        int64_t at = first[i] * r.d, n = (first[i + 1] - first[i]) * r.d;
        if (i == 1) cr_assert(isnan(r.y[at]), "%s lost a NaN", shape->layer);
        else cr_assert(same(r.y + at, alone + at, n) && !isnan(r.y[at]), "%s, segment %d",
                       shape->layer, (int)i);
    }
    free(alone);
    rig_close(&r);
}

Test(layers, packed_segments_equal_each_alone)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) check_packing(&shapes[i]);
}

Test(layers, a_row_depends_on_itself_and_on_no_later_one)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) {
        struct rig r = rig_open(&shapes[i]);
        float *before = zeros(ROWS * r.d * 4);
        run_rows(&r, 0, ROWS, false, before);
        for (int64_t t = 5; t < ROWS; t += 13) {
            float x = r.x[t * r.d + 1];
            r.x[t * r.d + 1] += 0.5f;
            run_rows(&r, 0, ROWS, false, r.y);
            r.x[t * r.d + 1] = x;
            cr_assert(same(r.y, before, t * r.d), "%s row %d", shapes[i].layer, (int)t);
            cr_assert(!same(r.y + t * r.d, before + t * r.d, r.d), "%s row %d", shapes[i].layer, (int)t);
        }
        free(before);
        rig_close(&r);
    }
}

Test(layers, attention_refuses_to_pass_max_context_and_keeps_the_state)
{
    struct rig r = rig_open(&shapes[4]);
    unsigned char *before = zeros(r.state_bytes);
    struct chi_segment seg = segment(&r, 0, 0, 2, 63);

    fill((float *)(void *)r.state, r.state_bytes / 4, 1);
    memcpy(before, r.state, (size_t)r.state_bytes);
    cr_assert_eq(solo_forward(r.solo, &seg, 1, false, r.x, r.y), CHI_EREFUSED);
    cr_assert(strstr(fail_text(), "max_context"), "%s", fail_text());
    cr_assert(same(before, r.state, r.state_bytes / 4));
    seg.rows = 1;
    must(solo_forward(r.solo, &seg, 1, false, r.x, r.y));
    free(before);
    rig_close(&r);
}

/* A copy of a state is a stream of its own: both go on as the one would have     */
static void check_fork(const struct shape *shape)
{
    enum { AT = 21 };
    struct rig r = rig_open(shape);
    int64_t n = ROWS * r.d, floats = r.state_bytes / 4;
    float *whole = zeros(n * 4), *other = zeros(n * 4);
    unsigned char *end = zeros(r.state_bytes);

    run_rows(&r, 0, ROWS, false, whole);
    memcpy(end, r.state, (size_t)r.state_bytes);
    run_rows(&r, 0, AT, false, r.y);
    memcpy(r.state + r.state_bytes, r.state, (size_t)r.state_bytes);
    fill(other, n, 1);
    struct chi_segment pair[] = { segment(&r, 1, 0, 3, AT), segment(&r, 0, 3, ROWS - AT, AT) };
    memcpy(other + 3 * r.d, r.x + AT * r.d, (size_t)((ROWS - AT) * r.d) * 4);
    must(solo_forward(r.solo, pair, 2, false, other, r.y));
    cr_assert(same(r.y + 3 * r.d, whole + AT * r.d, (ROWS - AT) * r.d) && same(r.state, end, floats),
              "%s: what one branch reads shows in the other", shape->layer);
    cr_assert(solo_state_bytes(r.solo) == 0 || !same(r.state + r.state_bytes, end, floats));
    free(whole);
    free(other);
    free(end);
    rig_close(&r);
}

Test(layers, a_copied_state_is_a_stream_of_its_own)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) check_fork(&shapes[i]);
}

/* forward with keep, then backward, of rows from..to-1 of stream 0; the state before
 * is in start, the one after comes into end if it is not NULL; r->dstate goes from after to before */
static void train_rows(struct rig *r, int64_t from, int64_t to, const unsigned char *start,
                       unsigned char *end, bool back)
{
    struct chi_segment seg = segment(r, 0, 0, to - from, from);
    memcpy(r->state, start, (size_t)r->state_bytes);
    must(solo_forward(r->solo, &seg, 1, true, r->x + from * r->d, r->y));
    if (end) memcpy(end, r->state, (size_t)r->state_bytes);
    if (!back) return;
    memcpy(r->state, start, (size_t)r->state_bytes);
    seg.dstate = r->dstate;
    must(solo_backward(r->solo, &seg, 1, r->x + from * r->d, r->dy + from * r->d, r->dx + from * r->d));
}

static double farthest(const float *a, const float *b, int64_t n)
{
    double worst = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        size = fmax(size, fabs((double)b[i]));
    }
    return worst / (size + 1e-6);
}

/* Gradients of one call, then of the same rows in two calls, joined by dstate   */
static void check_joined(const struct shape *shape, int64_t cut)
{
    struct rig r = rig_open(shape);
    const struct model_tensor *t;
    unsigned char *zero = zeros(r.state_bytes), *middle = zeros(r.state_bytes), *after = zeros(r.state_bytes);
    float *dx = zeros(ROWS * r.d * 4), *g[64];
    int64_t n = solo_state_bytes(r.solo) / 4;

    fill((float *)(void *)after, n, 0.5f);
    memcpy(r.dstate, after, (size_t)r.state_bytes);
    train_rows(&r, 0, ROWS, zero, NULL, true);
    memcpy(dx, r.dx, (size_t)(ROWS * r.d) * 4);
    for (int64_t i = 0; (t = solo_tensor(r.solo, i)); i++) {
        g[i] = zeros(t->n * 4);
        memcpy(g[i], t->g, (size_t)t->n * 4);
        memset(t->g, 0, (size_t)t->n * 4);
    }
    memset(r.dx, 0, (size_t)(ROWS * r.d) * 4);
    memcpy(r.dstate, after, (size_t)r.state_bytes);
    train_rows(&r, 0, cut, zero, middle, false);
    train_rows(&r, cut, ROWS, middle, NULL, true);
    train_rows(&r, 0, cut, zero, NULL, true);
    cr_assert_lt(farthest(r.dx, dx, ROWS * r.d), 2e-5, "%s cut at %d: dx", shape->layer, (int)cut);
    for (int64_t i = 0; (t = solo_tensor(r.solo, i)); i++) {
        cr_assert_lt(farthest(t->g, g[i], t->n), 2e-5, "%s cut at %d: %s", shape->layer, (int)cut, t->name);
        free(g[i]);
    }
    free(zero);
    free(middle);
    free(after);
    free(dx);
    rig_close(&r);
}

Test(layers, dstate_joins_calls_to_one)
{
    static const int64_t cuts[] = { 5, 32, 46 };
    for (int64_t i = 0; i < COUNT(shapes); i++)
        for (int64_t j = 0; j < COUNT(cuts); j++) check_joined(&shapes[i], cuts[j]);
}

/* A fresh stream may begin at any place of the grid, and starts from nothing but parameters */
Test(layers, a_fresh_stream_may_begin_anywhere)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) {
        struct rig r = rig_open(&shapes[i]);
        float *whole = zeros(ROWS * r.d * 4);
        struct chi_segment all = segment(&r, 0, 0, 24, 7), head = segment(&r, 0, 0, 3, 7), rest = segment(&r, 0, 0, 21, 10);
        all.fresh = head.fresh = true;
        must(solo_forward(r.solo, &all, 1, false, r.x, whole));
        memset(r.state, 0, (size_t)r.state_bytes);
        must(solo_forward(r.solo, &head, 1, false, r.x, r.y));
        must(solo_forward(r.solo, &rest, 1, false, r.x + 3 * r.d, r.y + 3 * r.d));
        cr_assert(same(r.y, whole, 24 * r.d), "%s", shapes[i].layer);
        free(whole);
        rig_close(&r);
    }
}

/* One row of a fresh stream meets an empty memory: no decay of it has a slope, not even one of 1e-9,
 * which would be all that there is of that gradient                                       */
Test(layers, an_empty_memory_decays_to_itself)
{
    static const char *const decay[] = { "A_log", "fgate_preact.bias", "fgate_preact.weight", "w0", "w_up.weight" };
    for (int64_t i = 0; i < COUNT(shapes); i++) {
        struct rig r = rig_open(&shapes[i]);
        const struct model_tensor *t;
        struct chi_segment seg = segment(&r, 0, 0, 1, 0);
        must(solo_forward(r.solo, &seg, 1, true, r.x, r.y));
        memset(r.state, 0, (size_t)r.state_bytes);
        must(solo_backward(r.solo, &seg, 1, r.x, r.dy, r.dx));
        for (int64_t j = 0; (t = solo_tensor(r.solo, j)); j++)
            for (int64_t k = 0; k < COUNT(decay); k++)
                for (int64_t c = 0; !strcmp(t->name, decay[k]) && c < t->n; c++)
                    cr_assert(t->g[c] == 0, "%s: d/d%s is %g", shapes[i].layer, t->name, (double)t->g[c]);
        rig_close(&r);
    }
}

/* ---- what open() plans ------------------------------------------------------------ */

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/* Matrices that a quantizer may take have names of this end, but for mlstm's    */
static bool is_matrix(const char *name)
{
    static const char *const other[] = { "q.weight", "k.weight", "v.weight", "ogate_preact.weight",
                                         "proj_up.weight", "proj_down.weight" };
    for (int64_t i = 0; i < COUNT(other); i++)
        if (!strcmp(name, other[i])) return true;
    return ends_with(name, "_proj.weight");
}

/* Projections decay, but for gates; nothing else does                           */
Test(layers, what_decays)
{
    static const char *const gate[] = { "a_proj.weight", "b_proj.weight", "alpha_proj.weight", "eta_proj.weight",
                                        "theta_proj.weight", "dt_proj.weight" };
    for (int64_t i = 0; i < COUNT(shapes); i++) {
        struct rig r = rig_open(&shapes[i]);
        const struct model_tensor *t;
        for (int64_t j = 0; (t = solo_tensor(r.solo, j)); j++) {
            bool matrix = is_matrix(t->name) && !t->shape[2], want = matrix;
            for (int64_t k = 0; k < COUNT(gate); k++) want = want && strcmp(t->name, gate[k]) != 0;
            cr_assert_eq(t->decay, want, "%s: %s", shapes[i].layer, t->name);
            bool linear = matrix || ends_with(t->name, "gate_preact.weight") || !strcmp(t->name, "gate.weight")
                          || ends_with(t->name, "_down.weight") || ends_with(t->name, "_up.weight");
            cr_assert_eq(t->linear, linear, "%s: %s", shapes[i].layer, t->name);
        }
        rig_close(&r);
    }
}

struct range { double min, max; };

/* Of the start values of one parameter                                          */
static struct range start_range(const struct solo *solo, const char *name)
{
    const struct model_tensor *t;
    struct range v = { INFINITY, -INFINITY };
    for (int64_t i = 0; (t = solo_tensor(solo, i)); i++)
        for (int64_t j = 0; strcmp(t->name, name) == 0 && j < t->n; j++) {
            v.min = fmin(v.min, (double)t->w[j]);
            v.max = fmax(v.max, (double)t->w[j]);
        }
    return v;
}

static void check_range(const struct solo *solo, const char *name, double low, double high, double slack)
{
    struct range v = start_range(solo, name);
    cr_expect(v.min >= low - 1e-6 && v.max <= high + 1e-6 && v.min <= low + slack && v.max >= high - slack,
              "%s starts in %g..%g, wanted %g..%g", name, v.min, v.max, low, high);
}

Test(layers, start_values)
{
    static const struct shape wide = { "use = gated_deltanet\nnum_heads = 256\nhead_dim = 4\nconv_size = 4\n", 16 };
    struct rig r = rig_open(&wide);
    struct solo *s;
    must(solo_open(&s, r.spec, &r.spec->mixer[0], true, 1, 1));
    check_range(s, "A_log", log(1e-3), log(16), 5);         /* A itself is uniform: few are small */
    cr_expect_lt(start_range(s, "A_log").min, -1);
    check_range(s, "dt_bias", log(expm1(1e-3)), log(expm1(0.1)), 0.2);
    check_range(s, "q_conv1d.weight", -0.5, 0.5, 0.01);
    check_range(s, "o_norm.weight", 1, 1, 0);
    double range = r.spec->model.initializer_range;
    check_range(s, "q_proj.weight", -4.2 * range, 4.2 * range, 1.2 * range);
    solo_close(s);
    rig_close(&r);

    static const struct shape memory = { "use = titans_mac\nnum_heads = 6\nhead_dim = 16\n", 16 };
    r = rig_open(&memory);
    must(solo_open(&s, r.spec, &r.spec->mixer[0], true, 1, 1));
    check_range(s, "alpha_proj.bias", -9, -4, 0);
    check_range(s, "eta_proj.bias", 0, 0, 0);
    check_range(s, "memory.w1", -1, 1, 0.3);                /* normal of deviation 1/4     */
    solo_close(s);
    rig_close(&r);
}

Test(layers, a_call_may_be_empty)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) {
        struct rig r = rig_open(&shapes[i]);
        struct chi_segment none = segment(&r, 0, 0, 1, 0);
        must(solo_forward(r.solo, &none, 0, true, r.x, r.y));
        must(solo_backward(r.solo, &none, 0, r.x, r.dy, r.dx));
        for (int64_t c = 0; c < ROWS * r.d; c++) cr_assert(r.y[c] == 0 && r.dx[c] == 0);
        rig_close(&r);
    }
}

/* Numbers so small that they have no full precision, and huge ones, neither hang nor spread
 * beyond their stream                                                            */
Test(layers, denormals_and_huge_numbers_are_only_numbers, .timeout = 10)
{
    static const float scale[] = { 1e-42f, 1e30f };
    for (int64_t i = 0; i < COUNT(shapes); i++)
        for (int64_t j = 0; j < COUNT(scale); j++) {
            struct rig r = rig_open(&shapes[i]);
            struct start s = { zeros(SEGS * r.state_bytes), zeros(SEGS * r.state_bytes) };
            for (int64_t c = 0; c < ROWS * r.d; c++) r.x[c] *= scale[j];
            backward(&r, &s);
            for (int64_t c = 0; j == 0 && c < ROWS * r.d; c++)
                cr_assert(isfinite(r.y[c]) && isfinite(r.dx[c]), "%s at %g", shapes[i].layer, (double)scale[j]);
            free(s.state);
            free(s.dstate);
            rig_close(&r);
        }
}
