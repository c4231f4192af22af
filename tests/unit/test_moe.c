/* test_moe.c - what only a mixture of experts promises: the choice and its weights, dispatch
 * equal to a plain loop over rows and experts, and experts that nobody chose stay untouched.
 * test_moe_balance.c is about the bias.                                            */
#include "core.h"
#include "model.h"
#include "network.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { D = 12, N = 5, K = 2, WIDTH = 6, ROWS = 60 };

/* ---- one layer ------------------------------------------------------------------------ */

struct rig { struct spec *spec; struct solo *solo; float *x, *y, *dy, *dx; };

static uint64_t seed = 1;

static float uniform(void)                          /* in [-1, 1)                    */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 40) / 8388608.0 - 1.0);
}

static void must(chi_status e)
{
    cr_assert_eq(e, CHI_OK, "%s", fail_text());
}

static const struct model_tensor *tensor(const struct solo *s, const char *name)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = solo_tensor(s, i)); i++)
        if (!strcmp(t->name, name)) return t;
    cr_assert_fail("there is no parameter %s", name);
    return NULL;
}

static struct spec *open_spec(const char *text, int needs)
{
    struct config *c;
    struct spec *s;
    must(config_load_text(&c, "test", text, NULL, 0));
    must(spec_open(&s, c, needs));
    return s;
}

static float *rows_of(int64_t n)
{
    float *x = xcalloc((size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = uniform();
    return x;
}

/* n_routed_experts 5 of which 2, unless options say otherwise                           */
static struct rig rig_open(const char *options, const char *linear)
{
    struct rig r;
    const struct model_tensor *t;
    char *text = xprintf("[model]\nhidden_size = 12\nnum_hidden_layers = 1\nlayer_pattern = X\nffn_pattern = X\n"
                         "[layer.X]\nuse = moe\nn_routed_experts = 5\nmoe_intermediate_size = 6\n%s[linear]\n%s",
                         options, linear);
    seed = 1;
    r.spec = open_spec(text, SPEC_MODEL);
    must(solo_open(&r.solo, r.spec, &r.spec->mixer[0], true, ROWS, ROWS));
    free(text);
    for (int64_t i = 0; (t = solo_tensor(r.solo, i)); i++)
        for (int64_t j = 0; j < t->n; j++) t->w[j] = uniform() * (t->manual ? 0.3f : 2 / sqrtf((float)t->shape[1]));
    must(solo_bind(r.solo));
    r.x = rows_of(ROWS * D);
    r.dy = rows_of(ROWS * D);
    r.y = xcalloc(ROWS * D, sizeof *r.y);
    r.dx = xcalloc(ROWS * D, sizeof *r.dx);
    return r;
}

static void rig_close(struct rig *r)
{
    solo_close(r->solo);
    spec_close(r->spec);
    free(r->x);
    free(r->y);
    free(r->dy);
    free(r->dx);
}

static void forward(struct rig *r, int64_t from, int64_t rows, bool keep, float *y)
{
    struct chi_segment seg = { .rows = rows, .pos = from, .fresh = !from };
    must(solo_forward(r->solo, &seg, 1, keep, r->x + from * D, y));
}

/* Gradients from zero                                                                    */
static void backward(struct rig *r)
{
    struct chi_segment seg = { .rows = ROWS, .fresh = true };
    const struct model_tensor *t;
    for (int64_t i = 0; (t = solo_tensor(r->solo, i)); i++) memset(t->g, 0, (size_t)t->n * sizeof(float));
    forward(r, 0, ROWS, true, r->y);
    must(solo_backward(r->solo, &seg, 1, r->x, r->dy, r->dx));
}

/* ---- the formula as a plain loop over rows and experts ---------------------------------- */

enum { WHOLE, NO_BIAS, BIAS_IN_WEIGHT, NO_SIGMOID, NO_NORM, NO_SCALE, NO_WEIGHT, NO_SHARED, NO_EXPERTS, PARTS };

static double logistic(double x) { return 1 / (1 + exp(-x)); }

static double dot_row(const float *w, const float *x, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += (double)w[i] * (double)x[i];
    return s;
}

/* y += weight FFN(x)                                                                     */
static void add_ffn(const struct rig *r, const char *prefix, double weight, const float *x, double *y)
{
    char *name[3];
    const struct model_tensor *t[3];
    const char *part[] = { "gate", "up", "down" };
    for (int i = 0; i < 3; i++) t[i] = tensor(r->solo, name[i] = xprintf("%s.%s_proj.weight", prefix, part[i]));
    for (int64_t h = 0; h < t[0]->shape[0]; h++) {
        double g = dot_row(t[0]->w + h * D, x, D), v = g * logistic(g) * dot_row(t[1]->w + h * D, x, D);
        for (int64_t c = 0; c < D; c++) y[c] += weight * v * (double)t[2]->w[c * t[0]->shape[0] + h];
    }
    for (int i = 0; i < 3; i++) free(name[i]);
}

/* chosen[e]: did the row choose e; s: scores                                             */
static void choose(const struct rig *r, const float *x, int k, int without, double *s, bool *chosen)
{
    const float *gate = tensor(r->solo, "gate.weight")->w, *bias = tensor(r->solo, "gate.e_score_correction_bias")->w;
    for (int e = 0; e < N; e++) {
        double z = dot_row(gate + e * D, x, D);
        s[e] = without == NO_SIGMOID ? exp(z) : logistic(z);
        chosen[e] = false;
    }
    for (int j = 0; j < k; j++) {
        int best = -1;
        for (int e = 0; e < N; e++) {
            double b = without == NO_BIAS ? 0 : (double)bias[e],
                c = without == NO_BIAS ? 0 : best < 0 ? 0 : (double)bias[best];
            if (!chosen[e] && (best < 0 || s[e] + b > s[best] + c)) best = e;
        }
        chosen[best] = true;
    }
    for (int e = 0; e < N; e++) s[e] += without == BIAS_IN_WEIGHT ? (double)bias[e] : 0;
}

static void reference_row(const struct rig *r, const float *x, int k, double scale, int without, double *y)
{
    double s[N], sum = 0;
    bool chosen[N];
    memset(y, 0, D * sizeof *y);
    choose(r, x, k, without, s, chosen);
    for (int e = 0; e < N; e++) sum += chosen[e] ? s[e] : 0;
    if (without == NO_NORM) sum = 1;
    if (without == NO_SCALE) scale = 1;
    if (without != NO_SHARED) add_ffn(r, "shared_experts", 1, x, y);
    for (int e = 0; e < N && without != NO_EXPERTS; e++) {
        char *name = xprintf("experts.%d", e);
        if (chosen[e]) add_ffn(r, name, without == NO_WEIGHT ? scale / k : scale * s[e] / sum, x, y);
        free(name);
    }
}

/* Largest difference from the layer's output, relative to its largest value              */
static double distance(const struct rig *r, int k, double scale, int without)
{
    double worst = 0, size = 0, y[D];
    for (int64_t t = 0; t < ROWS; t++) {
        reference_row(r, r->x + t * D, k, scale, without, y);
        for (int64_t c = 0; c < D; c++) {
            worst = fmax(worst, fabs(y[c] - (double)r->y[t * D + c]));
            size = fmax(size, fabs((double)r->y[t * D + c]));
        }
    }
    return worst / size;
}

Test(moe, is_a_plain_loop_over_rows_and_experts_and_none_without_a_part)
{
    struct rig r = rig_open("route_scale = 2.5\nn_shared_experts = 2\n", "");
    for (int keep = 0; keep < 2; keep++) {
        forward(&r, 0, ROWS, keep, r.y);
        for (int without = WHOLE; without < PARTS; without++) {
            double e = distance(&r, K, 2.5, without);
            if (without == WHOLE) cr_assert(e < 2e-6, "%g from the formula", e);
            else cr_assert(e > 1e-2, "only %g from the formula without its part %d", e, without);
        }
    }
    rig_close(&r);
}

Test(moe, any_number_of_experts_may_be_chosen)
{
    for (int k = 1; k <= N; k++) {
        char *options = xprintf("num_experts_per_tok = %d\nn_shared_experts = 0\n", k);
        struct rig r = rig_open(options, "");
        forward(&r, 0, ROWS, false, r.y);
        cr_assert(distance(&r, k, 1, NO_SHARED) < 2e-6, "%d of %d", k, N);
        rig_close(&r);
        free(options);
    }
}

/* ---- choices ------------------------------------------------------------------------------ */

static void hand_count(const struct rig *r, int k, int64_t count[N])
{
    memset(count, 0, N * sizeof *count);
    for (int64_t t = 0; t < ROWS; t++) {
        double s[N];
        bool chosen[N];
        choose(r, r->x + t * D, k, WHOLE, s, chosen);
        for (int e = 0; e < N; e++) count[e] += chosen[e];
    }
}

Test(moe, the_gradient_slot_of_the_bias_counts_rows)
{
    struct rig r = rig_open("", "");
    const struct model_tensor *bias = tensor(r.solo, "gate.e_score_correction_bias");
    float before[N];
    int64_t count[N], sum = 0;
    memcpy(before, bias->w, sizeof before);
    hand_count(&r, K, count);
    backward(&r);
    for (int e = 0; e < N; e++) {
        cr_assert_eq(bias->g[e], (float)count[e], "expert %d: %g, counted by hand %lld", e, (double)bias->g[e],
                     (long long)count[e]);
        sum += count[e];
    }
    cr_assert(sum == K * ROWS && !memcmp(before, bias->w, sizeof before), "the bias moved");
    struct chi_segment seg = { .rows = ROWS, .fresh = true };
    forward(&r, 0, ROWS, true, r.y);
    must(solo_backward(r.solo, &seg, 1, r.x, r.dy, r.dx));          /* a second micro-batch  */
    for (int e = 0; e < N; e++) cr_assert_eq(bias->g[e], (float)(2 * count[e]));
    rig_close(&r);
}

/* Equal terms: the lower index                                                            */
Test(moe, ties_go_to_the_lower_index)
{
    struct rig r = rig_open("", "");
    memset(tensor(r.solo, "gate.weight")->w, 0, N * D * sizeof(float));
    const struct model_tensor *bias = tensor(r.solo, "gate.e_score_correction_bias");
    for (int e = 0; e < N; e++) bias->w[e] = 0;
    must(solo_bind(r.solo));
    backward(&r);
    for (int e = 0; e < N; e++) cr_assert_eq(bias->g[e], (float)(e < K ? ROWS : 0), "expert %d: %g", e,
                                             (double)bias->g[e]);
    rig_close(&r);
}

/* The bias decides nothing but the choice                                                 */
Test(moe, a_bias_that_changes_no_choice_changes_no_bit)
{
    struct rig r = rig_open("", "");
    const struct model_tensor *bias = tensor(r.solo, "gate.e_score_correction_bias");
    float *y = xcalloc(ROWS * D, sizeof *y);
    for (int e = 0; e < N; e++) bias->w[e] = e == 1 || e == 4 ? 3.0f : 0;
    forward(&r, 0, ROWS, false, y);
    bias->w[1] = 2.25f;
    forward(&r, 0, ROWS, false, r.y);
    cr_assert_eq(memcmp(y, r.y, ROWS * D * sizeof *y), 0);
    bias->w[1] = -3;
    forward(&r, 0, ROWS, false, r.y);
    cr_assert_neq(memcmp(y, r.y, ROWS * D * sizeof *y), 0);
    free(y);
    rig_close(&r);
}

Test(moe, idle_experts_have_a_gradient_of_zero)
{
    struct rig r = rig_open("", "");
    const struct model_tensor *bias = tensor(r.solo, "gate.e_score_correction_bias"), *t;
    for (int e = 0; e < N; e++) bias->w[e] = e == 0 || e == 3 ? 2.0f : 0;
    backward(&r);
    for (int64_t i = 0; (t = solo_tensor(r.solo, i)); i++) {
        double size = 0;
        for (int64_t j = 0; j < t->n; j++) size = fmax(size, fabs((double)t->g[j]));
        bool idle = !strncmp(t->name, "experts.", 8) && t->name[8] != '0' && t->name[8] != '3';
        cr_assert_eq(size == 0, idle, "%s: %g", t->name, size);
    }
    const float *gate = tensor(r.solo, "gate.weight")->g;
    for (int64_t e = 0; e < N; e++) cr_assert_eq(gate[e * D] == 0, e != 0 && e != 3, "gate of expert %d", (int)e);
    rig_close(&r);
}

/* ---- a row's bits do not depend on its neighbours ------------------------------------------ */

Test(moe, a_row_alone_has_the_bits_of_a_row_among_others)
{
    static const char *const linear[] = {
        "quantizer = f32\n", "quantizer = ternary\n", "quantizer = ternary\nextra_rmsnorm = yes\n",
            "quantizer = int8\n" };
    for (int64_t q = 0; q < COUNT(linear); q++) {
        struct rig r = rig_open("", linear[q]);
        float y[D], *train = xcalloc(ROWS * D, sizeof *train);
        forward(&r, 0, ROWS, false, r.y);
        for (int64_t t = 0; t < ROWS; t++) {
            forward(&r, t, 1, false, y);
            cr_assert_eq(memcmp(y, r.y + t * D, sizeof y), 0, "%s row %d", linear[q], (int)t);
        }
        forward(&r, 0, ROWS, true, train);
        for (int64_t t = 0; t < ROWS; t++) {
            forward(&r, t, 1, true, y);
            cr_assert_eq(memcmp(y, train + t * D, sizeof y), 0, "%s row %d in training", linear[q], (int)t);
        }
        free(train);
        rig_close(&r);
    }
}

/* In ternary the weight of an expert has its gradient from what the expert really gave, not from
 * what it would have given with the float weights: y is linear in route_scale and the loss in y */
Test(moe, ternary_experts_train)
{
    struct rig r = rig_open("n_shared_experts = 0\n", "quantizer = ternary\nextra_rmsnorm = yes\n");
    const struct model_tensor *gate = tensor(r.solo, "gate.weight");
    int compared = 0;
    backward(&r);
    for (int64_t i = 0; i < N * D; i += 3) {
        float was = gate->w[i], *y[2] = { xcalloc(ROWS * D, sizeof(float)), xcalloc(ROWS * D, sizeof(float)) };
        double side[2] = { 0, 0 }, h = 1.0 / 1024;
        int64_t count[2][N];
        for (int s = 0; s < 2; s++) {
            gate->w[i] = was + (float)(s ? -h : h);
            forward(&r, 0, ROWS, false, y[s]);
            hand_count(&r, K, count[s]);
            for (int64_t j = 0; j < ROWS * D; j++) side[s] += (double)y[s][j] * (double)r.dy[j];
        }
        gate->w[i] = was;
        double found = (side[0] - side[1]) / (2 * h);
        free(y[0]);
        free(y[1]);
        if (memcmp(count[0], count[1], sizeof count[0])) continue;  /* a row chose otherwise  */
        cr_assert(fabs(found - (double)gate->g[i]) < 5e-3, "gate %d: %g, by differences %g", (int)i,
                  (double)gate->g[i], found);
        compared++;
    }
    cr_assert_geq(compared, 8);
    rig_close(&r);
}

/* ---- what nobody chose is not touched -------------------------------------------------------- */

enum { WIDE = 128 };
static const char *const wide_text =
    "[model]\nhidden_size = 128\nnum_hidden_layers = 1\nvocab_size = 41\nlayer_pattern = GD\nffn_pattern = MOE\n"
    "[layer.GD]\nuse = gated_deltanet\nnum_heads = 1\nhead_dim = 16\n"
    "[layer.MOE]\nuse = moe\nn_routed_experts = 6\nmoe_intermediate_size = 256\n[linear]\nquantizer = %s\n";

/* The whole pages of memory inside [p, p + n)                                              */
static int64_t lock_pages(void *p, int64_t n, int how)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)p + page - 1) / page * page;
    uintptr_t to = ((uintptr_t)p + (uintptr_t)n) / page * page;
    if (!p || to <= from) return 0;
    cr_assert_eq(mprotect((void *)from, to - from, how), 0);
    return (int64_t)((to - from) / page);
}

/* Of the experts whose bit in `which` is set                                               */
static int64_t lock_experts(struct model *m, unsigned which, int how)
{
    const struct instance *in = &m->block[0].ffn;
    int64_t pages = 0;
    for (int64_t i = 0; i < in->n_param; i++) {
        const struct planned_param *p = &in->param[i];
        if (strncmp(p->name, "experts.", 8) || !(which >> (p->name[8] - '0') & 1)) continue;
        pages += lock_pages(p->linear->bytes, p->linear->n_bytes, how);
        if (p->linear->packed) pages += lock_pages(p->linear->packed, linear_packed_bytes(p->linear), how);
    }
    return pages;
}

static void check_untouched(const char *quantizer)
{
    char *text = xprintf(wide_text, quantizer);
    struct spec *spec = open_spec(text, SPEC_MODEL);
    struct model *m;
    const struct model_tensor *t, *bias = NULL;
    int32_t tokens[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    must(model_open(&m, spec, MODEL_INFER, 9, 1));
    must(model_init(m, 3));
    for (int64_t i = 0; (t = model_tensor(m, i)); i++)
        if (strstr(t->name, "correction_bias")) bias = t;
    float *open = xcalloc(9 * WIDE, sizeof *open), *locked = xcalloc(9 * WIDE, sizeof *locked);
    unsigned char *state = mem_take((size_t)model_state_bytes(m), "state");
    for (int rows = 1; rows <= 9; rows += 8) {
        struct model_segment seg = { .tokens = tokens, .rows = rows, .fresh = true, .state = state };
        for (int e = 0; e < 6; e++) bias->w[e] = e == 2 || e == 5 ? 2 : 0;
        memset(state, 0, (size_t)model_state_bytes(m));
        must(model_forward(m, &seg, 1, open));
        cr_assert_geq(lock_experts(m, ~(1u << 2 | 1u << 5), PROT_NONE), 12, "nothing was locked");
        memset(state, 0, (size_t)model_state_bytes(m));
        must(model_forward(m, &seg, 1, locked));            /* a touch ends the process       */
        lock_experts(m, ~0u, PROT_READ | PROT_WRITE);
        cr_assert_eq(memcmp(open, locked, (size_t)rows * WIDE * sizeof *open), 0);
    }
    free(open);
    free(locked);
    mem_free(state);
    free(text);
    model_close(m);
    spec_close(spec);
}

Test(moe, inference_touches_no_weight_of_an_expert_that_nobody_chose)
{
    check_untouched("f32");
    check_untouched("ternary");
    check_untouched("f32\n[backend]\nuse = portable");
}

/* ---- options and counts --------------------------------------------------------------------------- */

static struct model_counts count(const char *options)
{
    struct model_counts c;
    char *text = xprintf("[model]\nhidden_size = 64\nnum_hidden_layers = 1\nvocab_size = 10\nlayer_pattern = "
                         "X\nffn_pattern = X\n"
                         "[layer.X]\nuse = moe\nmoe_intermediate_size = 32\n%s", options);
    struct spec *s = open_spec(text, SPEC_MODEL | SPEC_TRAIN);
    must(model_describe(s, NULL, &c));
    spec_close(s);
    free(text);
    return c;
}

Test(moe, counts_say_what_a_row_meets_and_memory_grows_with_the_choices_only)
{
    struct model_counts few = count("n_routed_experts = 4\n"), many = count("n_routed_experts = 64\n");
    int64_t ffn = 3 * 64 * 32, rest = 64 * 10 + 3 * 64;             /* embed, norms                 */
    cr_assert_eq(few.params, rest + 2 * (5 * ffn + 4 * 64 + 4));    /* experts, gate, bias          */
    cr_assert_eq(few.active_params, rest + 2 * (3 * ffn + 4 * 64 + 4));
    cr_assert_eq(many.active_params, rest + 2 * (3 * ffn + 64 * 64 + 64));
    cr_assert_eq(many.read_bytes_per_token - few.read_bytes_per_token, 4 * (many.active_params - few.active_params));
    cr_assert(many.saved_bytes_per_row - few.saved_bytes_per_row < 64, "%lld and %lld bytes kept a row",
              (long long)many.saved_bytes_per_row, (long long)few.saved_bytes_per_row);
}

static const char *refusal(const char *options)
{
    struct config *c;
    struct spec *s;
    char *text = xprintf("[model]\nnum_hidden_layers = 1\nlayer_pattern = X\nffn_pattern = X\n[layer.X]\nuse = moe\n%s", options);
    must(config_load_text(&c, "test", text, NULL, 0));
    cr_assert_eq(spec_open(&s, c, SPEC_MODEL), CHI_ECONF);
    free(text);
    return fail_text();
}

Test(moe, wrong_options_are_refused)
{
    const char *e = refusal("moe_intermediate_size = 8\nn_routed_experts = 3\nnum_experts_per_tok = 4\n");
    cr_expect(strstr(e, "num_experts_per_tok = 4, but there are n_routed_experts = 3"), "%s", e);
    cr_expect(strstr(e = refusal(""), "moe_intermediate_size"), "%s", e);
    cr_expect(strstr(e = refusal("moe_intermediate_size = 8\nn_routed_experts = 0\n"), "n_routed_experts = 0"), "%s",
              e);
    cr_expect(strstr(e = refusal("moe_intermediate_size = 8\nexperts = 3\n"), "unknown key"), "%s", e);
}
