/* test_titans_mac.c - titans_mac against its formula, written again in double with M and S
 * of every token formed: the layer must equal the whole and be far from the formula without
 * any one part.  Then what the formula implies: the delta rule as a special case, the
 * semi-exact chunk of one matrix as the chunk of one token, the guard, training = use.
 * Gradients, cuts, packing and threads: test_layers.c.                          */
#include "hosting.h"
#include "titans_rig.h"

/* ---- the formula -------------------------------------------------------------------- */

enum { WHOLE, NO_CONV, NO_L2, NO_GATE, NO_NORM, NO_FORGET, NO_MOMENTUM, NO_AVERAGE, NO_THETA, NO_WRITE, NO_START,
       NO_BEND, NO_SLOPE, NO_CHUNK, NO_AFTER, NO_SLOTS, NO_SCALE, NO_TOKENS, NO_ROWS, NO_WINDOW, NO_SEMI, PARTS };

static double logistic(double x) { return 1 / (1 + exp(-x)); }
static double silu(double x) { return x * logistic(x); }

static double *project(const struct rig *r, const char *name, const char *bias, int64_t out)
{
    const float *w = weight(r, name, NULL), *b = bias ? weight(r, bias, NULL) : NULL;
    int64_t d = r->c.d;
    double *y = calloc((size_t)(ROWS * out), sizeof *y);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t o = 0; o < out; o++) {
            y[t * out + o] = b ? (double)b[o] : 0;
            for (int64_t i = 0; i < d; i++) y[t * out + o] += (double)w[o * d + i] * (double)r->x[t * d + i];
        }
    return y;
}

static double *shaped(const struct rig *r, const char *name, const char *conv, bool unit, int without)
{
    const struct shape *c = &r->c;
    int64_t n = c->H * c->D, W = c->W;
    const float *w = weight(r, conv, NULL);
    double *p = project(r, name, NULL, n), *y = calloc((size_t)(ROWS * n), sizeof *y);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t i = 0; i < n; i++) {
            double s = without == NO_CONV ? p[t * n + i] : 0;
            for (int64_t j = 0; j < W && without != NO_CONV; j++)
                if (t - W + 1 + j >= 0) s += (double)w[i * W + j] * p[(t - W + 1 + j) * n + i];
            y[t * n + i] = silu(s);
        }
    for (double *h = y; unit && without != NO_L2 && h < y + ROWS * n; h += c->D) {
        double s = 1e-6;
        for (int64_t i = 0; i < c->D; i++) s += h[i] * h[i];
        for (int64_t i = 0; i < c->D; i++) h[i] /= sqrt(s);
    }
    free(p);
    return y;
}

enum { TOP = 16, DEPTH = 3 };
struct mlp { double w[DEPTH][TOP][TOP]; };
struct trace { double z[DEPTH][TOP], a[DEPTH + 1][TOP]; };  /* a[0]: the input; a[L]: the output */

static void apply(const struct shape *c, const struct mlp *m, const double *x, int without, struct trace *s)
{
    memcpy(s->a[0], x, (size_t)c->D * sizeof *x);
    for (int64_t l = 0; l < c->L; l++)
        for (int64_t i = 0; i < c->D; i++) {
            s->z[l][i] = 0;
            for (int64_t j = 0; j < c->D; j++) s->z[l][i] += m->w[l][i][j] * s->a[l][j];
            s->a[l + 1][i] = l + 1 < c->L && without != NO_BEND ? silu(s->z[l][i]) : s->z[l][i];
        }
}

/* Gradient of 1/2 |M'(k) - v|^2; the error is that of `last` if it is not NULL    */
static void inner_gradient(const struct shape *c, const struct mlp *start, const struct mlp *last, const double *k,
                           const double *v, int without, struct mlp *u)
{
    struct trace s;
    double e[TOP], back[TOP];
    apply(c, start, k, without, &s);
    for (int64_t i = 0; i < c->D; i++) {
        double out = s.a[c->L][i];
        for (int64_t j = 0; last && j < c->D; j++)
            out += (last->w[c->L - 1][i][j] - start->w[c->L - 1][i][j]) * s.a[c->L - 1][j];
        e[i] = out - v[i];
    }
    for (int64_t l = c->L - 1; l >= 0; l--) {
        for (int64_t i = 0; i < c->D; i++)
            for (int64_t j = 0; j < c->D; j++) u->w[l][i][j] = e[i] * s.a[l][j];
        for (int64_t j = 0; l > 0 && j < c->D; j++) {
            double z = s.z[l - 1][j], g = logistic(z);
            back[j] = 0;
            for (int64_t i = 0; i < c->D; i++) back[j] += start->w[l][i][j] * e[i];
            if (without != NO_BEND && without != NO_SLOPE) back[j] *= g * (1 + z * (1 - g));
        }
        memcpy(e, back, sizeof e);
    }
}

struct gate3 { double alpha, eta, theta; };

static void learn(const struct shape *c, struct mlp *M, struct mlp *S, const struct mlp *u, struct gate3 g,
                  int without)
{
    for (int64_t l = 0; l < c->L; l++)
        for (int64_t i = 0; i < c->D; i++)
            for (int64_t j = 0; j < c->D; j++) {
                double *m = &M->w[l][i][j], *s = &S->w[l][i][j];
                *s = (without == NO_MOMENTUM ? 0 : g.eta * *s) - g.theta * u->w[l][i][j];
                *m = (without == NO_FORGET ? 1 : 1 - g.alpha) * *m + *s;
            }
}

/* o += what slots and window answer to q: rows of stride n, got the retrieved ones */
static void attend(const struct rig *r, int64_t h, int64_t t, const double *q, const double *k, const double *v,
                   const double *got, int without, double *o)
{
    const struct shape *c = &r->c;
    int64_t n = c->H * c->D, D = c->D, m = 0, P = without == NO_SLOTS ? 0 : c->P;
    const float *pk = weight(r, "persistent.k", NULL) + h * c->P * D,
        *pv = weight(r, "persistent.v", NULL) + h * c->P * D;
    double key[64 + 2 * ROWS][TOP], value[64 + 2 * ROWS][TOP], p[64 + 2 * ROWS], sum = 0;
    int64_t from = c->window ? max_i64(0, t - c->window + 1) : t + 1;

    if (without == NO_WINDOW) from = 0;
    for (int64_t i = 0; i < P; i++, m++)
        for (int64_t d = 0; d < D; d++) key[m][d] = (double)pk[i * D + d], value[m][d] = (double)pv[i * D + d];
    for (int64_t j = from; j <= t && without != NO_TOKENS; j++, m++)
        for (int64_t d = 0; d < D; d++) key[m][d] = k[j * n + d], value[m][d] = v[j * n + d];
    for (int64_t j = from; j <= t && without != NO_ROWS; j++, m++)
        for (int64_t d = 0; d < D; d++) key[m][d] = value[m][d] = got[j * n + d];
    for (int64_t i = 0; i < m; i++) {
        double z = 0;
        for (int64_t d = 0; d < D; d++) z += key[i][d] * q[t * n + d];
        sum += p[i] = exp(without == NO_SCALE ? z : z / sqrt((double)D));
    }
    for (int64_t i = 0; i < m; i++)
        for (int64_t d = 0; d < D; d++) o[d] += p[i] / sum * value[i][d];
}

static void output(const struct rig *r, const double *o, const double *g, int without, double *h)
{
    const float *gain = weight(r, "o_norm.weight", NULL);
    double mean = 0;
    for (int64_t d = 0; d < r->c.D; d++) mean += o[d] * o[d] / (double)r->c.D;
    for (int64_t d = 0; d < r->c.D; d++) {
        h[d] = without == NO_NORM ? o[d] : o[d] * (double)gain[d] / sqrt(mean + r->spec->model.rms_norm_eps);
        if (without != NO_GATE) h[d] *= silu(g[d]);
    }
}

struct rows { double *q, *k, *v, *g, *alpha, *eta, *theta, *h, *got; };

static struct gate3 gates_at(const struct shape *c, const struct rows *x, int64_t t, int64_t h, int without)
{
    struct gate3 g = { logistic(x->alpha[t * c->H + h]), logistic(x->eta[t * c->H + h]), c->theta_max };
    if (without != NO_THETA) g.theta *= logistic(x->theta[t * c->H + h]);
    if (without != NO_AVERAGE) g.theta *= 1 - g.eta;
    if (without == NO_WRITE) g.theta = 0;
    return g;
}

static void one_head(const struct rig *r, int64_t h, const struct rows *x, int without)
{
    const struct shape *c = &r->c;
    int64_t n = c->H * c->D, D = c->D;
    struct mlp M = { 0 }, S = { 0 }, start, u;
    char name[] = "memory.w1";
    for (int64_t l = 0; l < c->L && without != NO_START; l++) {
        name[8] = (char)('1' + l);
        const float *w = weight(r, name, NULL) + h * D * D;
        for (int64_t i = 0; i < D * D; i++) M.w[l][i / D][i % D] = (double)w[i];
    }
    for (int64_t t = 0; t < ROWS; t++) {
        int64_t at = t * n + h * D;
        struct trace read;
        if (t % c->C == 0 || without == NO_CHUNK) start = M;
        inner_gradient(c, &start, c->semi && without != NO_SEMI ? &M : NULL, x->k + at, x->v + at, without, &u);
        if (without == NO_AFTER) apply(c, &M, x->q + at, without, &read);
        learn(c, &M, &S, &u, gates_at(c, x, t, h, without), without);
        if (without != NO_AFTER) apply(c, &M, x->q + at, without, &read);
        double o[TOP];
        memcpy(o, read.a[c->L], sizeof o);
        memcpy(x->got + at, o, (size_t)D * sizeof *o);
        attend(r, h, t, x->q + h * D, x->k + h * D, x->v + h * D, x->got + h * D, without, o);
        output(r, o, x->g + at, without, x->h + at);
    }
}

static void reference(const struct rig *r, int without, double *y)
{
    const struct shape *c = &r->c;
    int64_t n = c->H * c->D;
    const float *w = weight(r, "o_proj.weight", NULL);
    struct rows x = {
        shaped(r, "q_proj.weight", "q_conv1d.weight", true, without),
        shaped(r, "k_proj.weight", "k_conv1d.weight", true, without),
        shaped(r, "v_proj.weight", "v_conv1d.weight", false, without), project(r, "g_proj.weight", NULL, n),
        project(r, "alpha_proj.weight", "alpha_proj.bias", c->H),
        project(r, "eta_proj.weight", "eta_proj.bias", c->H),
        project(r, "theta_proj.weight", "theta_proj.bias", c->H), calloc((size_t)(ROWS * n), sizeof(double)),
        calloc((size_t)(ROWS * n), sizeof(double)),
    };
    for (int64_t h = 0; h < c->H; h++) one_head(r, h, &x, without);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t o = 0; o < c->d; o++) {
            y[t * c->d + o] = 0;
            for (int64_t i = 0; i < n; i++) y[t * c->d + o] += (double)w[o * n + i] * x.h[t * n + i];
        }
    double *all[] = { x.q, x.k, x.v, x.g, x.alpha, x.eta, x.theta, x.h, x.got };
    for (int64_t i = 0; i < COUNT(all); i++) free(all[i]);
}

static bool applies(const struct shape *c, int part)
{
    switch (part) {
    case NO_CONV: return c->W > 1;
    case NO_BEND: case NO_SLOPE: return c->L > 1;
    case NO_CHUNK: return c->C > 1 && !(c->semi && c->L == 1);
    case NO_TOKENS: case NO_ROWS: return c->window > 0;
    case NO_WINDOW: return c->window > 0 && c->window < ROWS;
    case NO_SEMI: return c->semi && c->C > 1;
    default: return true;
    }
}

static const struct shape shapes[] = {
    { .H = 2, .D = 6, .L = 1, .C = 5, .P = 3, .W = 4, .d = 12, .theta_max = 1 },
    { .H = 2, .D = 8, .L = 2, .C = 6, .P = 4, .W = 3, .d = 10, .theta_max = 1 },
    { .H = 1, .D = 7, .L = 3, .C = 8, .P = 2, .W = 1, .d = 7, .theta_max = 0.5 },
    { .H = 2, .D = 8, .L = 2, .C = 7, .P = 3, .W = 2, .d = 9, .theta_max = 2, .semi = true },
    { .H = 1, .D = 6, .L = 1, .C = 16, .P = 2, .W = 4, .d = 6, .theta_max = 1, .semi = true, .window = 5 },
    { .H = 2, .D = 5, .L = 2, .C = 4, .P = 2, .W = 2, .d = 8, .theta_max = 1, .window = 9 },
    { .H = 1, .D = 16, .L = 2, .C = 1, .P = 60, .W = 4, .d = 8, .theta_max = 1, .window = 64 },
};

Test(titans_mac, is_its_formula_and_none_without_a_part)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) {
        struct rig r = rig_open(&shapes[i]);
        double *y = calloc((size_t)(ROWS * r.c.d), sizeof *y);
        run(&r, false, r.y);
        for (int part = 0; part < PARTS; part++) {
            if (!applies(&r.c, part)) continue;
            reference(&r, part, y);
            double e = distance(&r, y);
            if (part == WHOLE) cr_expect(e < 1e-4, "shape %d: %g from the formula", (int)i, e);
            else cr_expect(e > 2e-3, "shape %d: only %g from the formula without its part %d", (int)i, e, part);
        }
        free(y);
        rig_close(&r);
    }
}

/* Training sums in another order, by gemm                                       */
Test(titans_mac, training_computes_what_use_computes)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) {
        struct rig r = rig_open(&shapes[i]);
        float *kept = calloc((size_t)(ROWS * r.c.d), sizeof *kept);
        double *y = calloc((size_t)(ROWS * r.c.d), sizeof *y);
        run(&r, true, kept);
        run(&r, false, r.y);
        for (int64_t j = 0; j < ROWS * r.c.d; j++) y[j] = (double)kept[j];
        cr_expect_lt(distance(&r, y), 2e-5, "shape %d: %g", (int)i, distance(&r, y));
        free(kept);
        free(y);
        rig_close(&r);
    }
}

/* ---- what it implies ------------------------------------------------------------------ */

/* alpha = eta = 0, one matrix, chunks of one token: S += theta (v - S k) k'      */
Test(titans_mac, is_the_delta_rule_in_its_simplest_case)
{
    static const struct shape c = { .H = 2, .D = 8, .L = 1, .C = 1, .P = 1, .W = 3, .d = 10, .theta_max = 1 };
    struct rig r = rig_open(&c);
    int64_t n = c.H * c.D, D = c.D;
    set(&r, "alpha_proj.bias", -200);
    set(&r, "eta_proj.bias", -200);
    set(&r, "persistent.v", 0);
    set(&r, "memory.w1", 0);
    must(solo_bind(r.solo));
    run(&r, false, r.y);

    double *q = shaped(&r, "q_proj.weight", "q_conv1d.weight", true, WHOLE);
    double *k = shaped(&r, "k_proj.weight", "k_conv1d.weight", true, WHOLE);
    double *v = shaped(&r, "v_proj.weight", "v_conv1d.weight", false, WHOLE),
        *g = project(&r, "g_proj.weight", NULL, n);
    double *beta = project(&r, "theta_proj.weight", "theta_proj.bias", c.H), *h = calloc((size_t)n, sizeof *h);
    double *S = calloc((size_t)(n * D), sizeof *S), *y = calloc((size_t)(ROWS * c.d), sizeof *y), o[TOP];
    const float *w = weight(&r, "o_proj.weight", NULL);
    for (int64_t t = 0; t < ROWS; t++) {
        for (int64_t i = 0; i < n; i++) {
            double *s = S + i * D, p = 0;
            const double *kt = k + t * n + i / D * D, *qt = q + t * n + i / D * D;
            for (int64_t j = 0; j < D; j++) p += s[j] * kt[j];
            o[i % D] = 0;
            for (int64_t j = 0; j < D; j++) {
                s[j] += logistic(beta[t * c.H + i / D]) * (v[t * n + i] - p) * kt[j];
                o[i % D] += s[j] * qt[j];
            }
            if (i % D == D - 1) output(&r, o, g + t * n + i / D * D, WHOLE, h + i / D * D);
        }
        for (int64_t a = 0; a < c.d; a++)
            for (int64_t i = 0; i < n; i++) y[t * c.d + a] += (double)w[a * n + i] * h[i];
    }
    cr_expect_lt(distance(&r, y), 2e-5, "%g", distance(&r, y));
    set(&r, "eta_proj.bias", 0);
    run(&r, false, r.y);
    cr_expect_gt(distance(&r, y), 1e-2, "momentum changes nothing");
    free(q); free(k); free(v); free(g); free(beta); free(h); free(S); free(y);
    rig_close(&r);
}

/* With one matrix nothing is frozen but what the error corrects, so any chunk is exact */
Test(titans_mac, semi_exact_chunks_of_one_matrix_are_chunks_of_one_token)
{
    static const struct shape one = { .H = 2, .D = 8, .L = 1, .C = 1, .P = 3, .W = 3, .d = 10, .theta_max = 2 };
    for (int64_t chunk = 2; chunk < 50; chunk += 13) {
        struct shape c = one;
        struct rig want = rig_open(&c);
        c.C = chunk;
        c.semi = true;
        struct rig got = rig_open(&c);
        double *y = calloc((size_t)(ROWS * c.d), sizeof *y);
        run(&want, false, want.y);
        run(&got, false, got.y);
        for (int64_t i = 0; i < ROWS * c.d; i++) y[i] = (double)want.y[i];
        cr_expect_lt(distance(&got, y), 2e-5, "chunk %d: %g", (int)chunk, distance(&got, y));
        rig_close(&want);
        rig_close(&got);
        free(y);
    }
}

/* One key again and again within a chunk: stale errors add up and diverge, the semi-exact
 * ones do not                                                                    */
Test(titans_mac, semi_exact_chunks_bear_steps_that_plain_ones_do_not)
{
    struct shape c = { .H = 1, .D = 8, .L = 1, .C = 8, .P = 1, .W = 1, .d = 8, .theta_max = 3, .max_norm = 1e15 };
    double size[2];
    for (int semi = 0; semi < 2; semi++) {
        c.semi = semi;
        struct rig r = rig_open(&c);
        set(&r, "alpha_proj.bias", -200);
        set(&r, "eta_proj.bias", -200);
        for (int64_t i = 0; i < ROWS * c.d; i++) r.x[i] = r.x[i % c.d];
        must(solo_bind(r.solo));
        run(&r, false, r.y);
        const float *M = (const float *)(const void *)r.state;
        size[semi] = 0;
        for (int64_t i = 0; i < c.D * c.D; i++) size[semi] = fmax(size[semi], fabs((double)M[i]));
        rig_close(&r);
    }
    cr_expect(size[0] > 100 * size[1] && size[1] < 10, "plain %g, semi-exact %g", size[0], size[1]);
}

static double meter(const char *want)
{
    const char *name;
    double value;
    for (int64_t i = 0; host_meter(i, &name, &value); i++)
        if (strcmp(name, want) == 0) return value;
    return -1;
}

/* The guard: a chunk that ends with a matrix too long, or with NaN, leaves the memory as
 * that of a fresh stream                                                         */
Test(titans_mac, a_memory_that_blew_up_starts_again)
{
    struct shape c = { .H = 2, .D = 6, .L = 2, .C = 8, .P = 2, .W = 1, .d = 8, .theta_max = 1, .max_norm = 1e-3 };
    struct rig r = rig_open(&c);
    float *late = calloc((size_t)(ROWS * c.d), sizeof *late);
    run(&r, true, r.y);
    cr_expect_eq(meter("memory_resets"), (double)(ROWS / c.C * c.H), "%g", meter("memory_resets"));
    run(&r, false, r.y);
    struct chi_segment seg = { .rows = c.C, .pos = 16, .fresh = true, .state = r.state };
    memset(r.state, 0, (size_t)solo_state_bytes(r.solo));
    must(solo_forward(r.solo, &seg, 1, false, r.x + 16 * c.d, late));
    cr_expect_eq(memcmp(late, r.y + 16 * c.d, (size_t)(c.C * c.d) * sizeof *late), 0);
    rig_close(&r);

    c.max_norm = 1000;
    r = rig_open(&c);
    r.x[3 * c.d] = NAN;
    run(&r, false, r.y);
    for (int64_t i = 3 * c.d; i < 8 * c.d; i++) cr_expect(isnan(r.y[i]), "a NaN vanished at %d", (int)i);
    for (int64_t i = 8 * c.d; i < ROWS * c.d; i++) cr_assert(isfinite(r.y[i]), "a NaN outlived its chunk");
    free(late);
    rig_close(&r);
}

/* Rows of zeros write nothing, and alpha halves what there is: 0 in the end, never numbers that halve to themselves  */
Test(titans_mac, a_memory_that_died_out_is_zero)
{
    static const struct shape c = { .H = 2, .D = 6, .L = 2, .C = 8, .P = 2, .W = 1, .d = 8, .theta_max = 1 };
    struct rig r = rig_open(&c);
    struct chi_segment seg = { .rows = ROWS, .fresh = true, .state = r.state };
    const float *memory = (const float *)(const void *)r.state;
    memset(r.x, 0, (size_t)(ROWS * c.d) * sizeof *r.x);
    for (; seg.pos < 400; seg.pos += ROWS, seg.fresh = false) {
        must(solo_forward(r.solo, &seg, 1, false, r.x, r.y));
        for (int64_t i = 0; i < 2 * c.L * c.H * c.D * c.D; i++)
            cr_assert_neq(fpclassify(memory[i]), FP_SUBNORMAL, "%g after %d tokens", memory[i], (int)seg.pos);
    }
    for (int64_t i = 0; i < 2 * c.L * c.H * c.D * c.D; i++) cr_assert_eq(memory[i], 0, "%g is left", memory[i]);
    rig_close(&r);
}

/* Errors that grow from row to row of a chunk, and answers through matrices full of them  */
Test(titans_mac, within_a_chunk_everything_stays_a_number)
{
    static const struct shape wild[] = {
        { .H = 2, .D = 16, .L = 6, .C = 32, .P = 2, .W = 2, .d = 8, .theta_max = 3, .semi = true },
        { .H = 1, .D = 8, .L = 6, .C = 1, .P = 2, .W = 2, .d = 8, .theta_max = 3, .window = 7 },
    };
    for (int64_t i = 0; i < COUNT(wild); i++) {
        struct rig r = rig_open(&wild[i]);
        float *dx = calloc((size_t)(ROWS * r.c.d), sizeof *dx);
        struct chi_segment seg = { .rows = ROWS, .fresh = true, .state = r.state };
        for (int64_t j = 0; j < ROWS * r.c.d; j++) r.x[j] *= 1e6f;
        run(&r, false, r.y);
        for (int64_t j = 0; j < ROWS * r.c.d; j++) cr_assert(isfinite(r.y[j]), "shape %d at %d", (int)i, (int)j);
        run(&r, true, r.y);
        for (int64_t j = 0; j < ROWS * r.c.d; j++) cr_assert(isfinite(r.y[j]), "shape %d at %d", (int)i, (int)j);
        memset(r.state, 0, (size_t)solo_state_bytes(r.solo));
        must(solo_backward(r.solo, &seg, 1, r.x, r.x, dx));
        free(dx);
        rig_close(&r);
    }
}

static double loss(struct rig *r)
{
    double sum = 0;
    must(solo_bind(r->solo));
    run(r, false, r->y);
    for (int64_t i = 0; i < ROWS * r->c.d; i++) sum += (double)r->y[i] * (0.5 - (double)(i % 7) / 7);
    return sum;
}

/* Through a guard nothing flows: each start again is a start from the parameters */
Test(titans_mac, gradients_hold_where_the_guard_cuts)
{
    static const char *const names[] = { "memory.w1", "memory.w2", "k_proj.weight", "theta_proj.bias" };
    struct shape c = { .H = 2, .D = 6, .L = 2, .C = 8, .P = 2, .W = 2, .d = 8, .theta_max = 1, .max_norm = 1e-3 };
    struct rig r = rig_open(&c);
    float *dy = calloc((size_t)(ROWS * c.d), sizeof *dy), *dx = calloc((size_t)(ROWS * c.d), sizeof *dx);
    struct chi_segment seg = { .rows = ROWS, .fresh = true, .state = r.state };
    const struct model_tensor *t;

    for (int64_t i = 0; i < ROWS * c.d; i++) dy[i] = 0.5f - (float)(i % 7) / 7;
    run(&r, true, r.y);
    memset(r.state, 0, (size_t)solo_state_bytes(r.solo));
    must(solo_backward(r.solo, &seg, 1, r.x, dy, dx));
    for (int64_t k = 0; (t = solo_tensor(r.solo, k)); k++)
        for (int64_t j = 0; j < COUNT(names); j++) {
            if (strcmp(t->name, names[j])) continue;
            for (int64_t i = 0; i < t->n; i += max_i64(1, t->n / 7)) {
                float before = t->w[i];
                double h = 1.0 / 256, want = 0, step[] = { h, -h, 2 * h, -2 * h }, by[] = { 8, -8, -1, 1 };
                for (int s = 0; s < 4; s++) {
                    t->w[i] = (float)((double)before + step[s]);
                    want += by[s] * loss(&r) / (12 * h);
                }
                t->w[i] = before;
                cr_expect(fabs(want - (double)t->g[i]) < 4e-3 + 4e-3 * fabs(want), "%s[%d]: %g, by differences %g",
                          t->name, (int)i, (double)t->g[i], want);
            }
        }
    free(dy);
    free(dx);
    rig_close(&r);
}

/* Without a convolution only the memory joins the first token to the last         */
Test(titans_mac, the_first_token_reaches_the_last_through_the_memory)
{
    static const struct shape c = { .H = 1, .D = 16, .L = 2, .C = 4, .P = 1, .W = 1, .d = 16, .theta_max = 2 };
    struct rig r = rig_open(&c);
    float *other = calloc((size_t)(ROWS * c.d), sizeof *other);
    set(&r, "alpha_proj.bias", -20);
    must(solo_bind(r.solo));
    run(&r, false, r.y);
    for (int64_t i = 0; i < c.d; i++) r.x[i] = -r.x[i];
    run(&r, false, other);
    double far = 0, size = 0;
    for (int64_t i = (ROWS - 1) * c.d; i < ROWS * c.d; i++) {
        far = fmax(far, fabs((double)(other[i] - r.y[i])));
        size = fmax(size, fabs((double)r.y[i]));
    }
    cr_expect_gt(far / size, 1e-4, "the first token changes the last one's output by %g", far / size);
    free(other);
    rig_close(&r);
}

Test(titans_mac, state_is_as_the_page_says)
{
    for (int64_t i = 0; i < COUNT(shapes); i++) {
        const struct shape *c = &shapes[i];
        struct rig r = rig_open(c);
        int64_t n = c->H * c->D, parts[] = { c->L * n * c->D, c->L * n * c->D, c->L * c->C * n, c->L * c->C * n,
            c->H * (2 * c->C + 3), 3 * (c->W - 1) * n, 3 * c->window * n }, bytes = 0;
        for (int64_t j = 0; j < COUNT(parts); j++) bytes += round_up(4 * parts[j], 64);
        cr_expect_eq(solo_state_bytes(r.solo), bytes, "shape %d: %lld, not %lld", (int)i,
                     (long long)solo_state_bytes(r.solo), (long long)bytes);
        rig_close(&r);
    }
}
