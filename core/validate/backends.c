/* backends.c - checks of a backend's kernels against core/src/reference.c: bit for bit where kernel.h
 * says EXACT, within its bound elsewhere, on arrays of any alignment that end at forbidden pages.   */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "core.h"
#include "hosting.h"
#include "kinds.h"
#include "reference.h"

bool backend_ready(struct trial *t)
{
    const struct chi_backend_ops *ops = t->component->ops;
    if (!CHI_HAS(struct chi_backend_ops, ops, open)) return true;
    struct chi_host *h = host_open(NULL, t->component->name);
    chi_status s = ops->open(h);
    host_close(h);
    if (s != CHI_OK) trial_skip(t, "it refuses to run here: %s", fail_text());
    return s == CHI_OK;
}

static const struct chi_kernels *kernels(const struct trial *t)
{
    return ((const struct chi_backend_ops *)t->component->ops)->kernels;
}

/* Is the member at this offset there?                                                             */
static bool has(const struct trial *t, size_t member)
{
    static const unsigned char none[sizeof(void (*)(void))];
    const struct chi_kernels *k = kernels(t);
    return k && k->struct_size >= member + sizeof none
        && memcmp((const unsigned char *)k + member, none, sizeof none) != 0;
}

static bool lacks(struct trial *t, size_t member, const char *name)
{
    if (!has(t, member)) trial_skip(t, "it has no %s: the reference serves", name);
    return !has(t, member) || !backend_ready(t);
}

/* ---- vectors ----------------------------------------------------------------------------------- */

struct vec { const struct chi_kernels *k; int64_t n; const float *a, *b; float *y, result; };

static void v_dot(void *p)       { struct vec *v = p; v->result = v->k->dot(v->a, v->b, v->n); }
static void v_axpy(void *p)      { struct vec *v = p; v->k->axpy(v->y, 0.3f, v->a, v->n); }
static void v_rmsnorm(void *p)   { struct vec *v = p; v->result = v->k->rmsnorm(v->y, v->a, v->b, v->n, 1e-6f); }
static void v_rms_plain(void *p) { struct vec *v = p; v->result = v->k->rmsnorm(v->y, v->a, NULL, v->n, 1e-6f); }
static void v_rms_self(void *p)  { struct vec *v = p; v->result = v->k->rmsnorm(v->y, v->y, v->b, v->n, 1e-6f); }
static void v_silu(void *p)      { struct vec *v = p; v->k->silu(v->y, v->a, v->n); }
static void v_silu_self(void *p) { struct vec *v = p; v->k->silu(v->y, v->y, v->n); }
static void v_mul(void *p)       { struct vec *v = p; v->k->silu_mul(v->y, v->a, v->b, v->n); }
static void v_mul_g(void *p)     { struct vec *v = p; v->k->silu_mul(v->y, v->y, v->b, v->n); }
static void v_mul_u(void *p)     { struct vec *v = p; v->k->silu_mul(v->y, v->b, v->y, v->n); }
static void v_back(void *p)      { struct vec *v = p; v->k->silu_back(v->y, v->a, v->b, v->n); }
static void v_back_x(void *p)    { struct vec *v = p; v->k->silu_back(v->y, v->y, v->b, v->n); }
static void v_back_dy(void *p)   { struct vec *v = p; v->k->silu_back(v->y, v->b, v->y, v->n); }
static void v_softmax(void *p)   { struct vec *v = p; v->result = v->k->softmax(v->y, v->a, v->n); }
static void v_soft_self(void *p) { struct vec *v = p; v->result = v->k->softmax(v->y, v->y, v->n); }

/* y: what it holds before: 'a', a copy of a; 'n', nothing; '-': there is no y                       */
struct vector_op { const char *name; size_t member; void (*run)(void *); char y; int64_t least; };
#define OP(m, words, run, y, least) { words, offsetof(struct chi_kernels, m), run, y, least }
static const struct vector_op vector_ops[] = {
    OP(dot, "dot", v_dot, '-', 0), OP(axpy, "axpy", v_axpy, 'a', 0),
    OP(rmsnorm, "rmsnorm", v_rmsnorm, 'n', 1), OP(rmsnorm, "rmsnorm without gain", v_rms_plain, 'n', 1),
    OP(rmsnorm, "rmsnorm in place", v_rms_self, 'a', 1),
    OP(silu, "silu", v_silu, 'n', 0), OP(silu, "silu in place", v_silu_self, 'a', 0),
    OP(silu_mul, "silu_mul", v_mul, 'n', 0), OP(silu_mul, "silu_mul in place of g", v_mul_g, 'a', 0),
    OP(silu_mul, "silu_mul in place of u", v_mul_u, 'a', 0),
    OP(silu_back, "silu_back", v_back, 'n', 0), OP(silu_back, "silu_back in place of x", v_back_x, 'a', 0),
    OP(silu_back, "silu_back in place of dy", v_back_dy, 'a', 0),
    OP(softmax, "softmax", v_softmax, 'n', 1), OP(softmax, "softmax in place", v_soft_self, 'a', 1),
};

static void vector_differs(struct trial *t, const struct vector_op *op, const struct vec *got, const struct vec *want,
                           const char *with)
{
    if (!same_floats(&got->result, &want->result, 1))
        trial_fail(t, "%s returns %.9g, the reference %.9g (%s)", op->name, (double)got->result, (double)want->result,
                   with);
    for (int64_t i = 0; op->y != '-' && i < got->n; i++) {
        if (same_floats(got->y + i, want->y + i, 1)) continue;
        trial_fail(t, "%s: value %lld is %.9g, in the reference %.9g (%s)", op->name, (long long)i, (double)got->y[i],
                   (double)want->y[i], with);
        return;
    }
}

/* Kind 4 has one number that is not finite                                                           */
static void try_vector(struct trial *t, const struct vector_op *op, int64_t n, int kind, bool at_end)
{
    struct pile p = { .n = 0 };
    float *a = xcalloc((size_t)n + 1, 4), *b = xcalloc((size_t)n + 1, 4), *z = xcalloc((size_t)n + 1, 4);
    char with[64];
    snprintf(with, sizeof with, "n = %lld, %s", (long long)n, (const char *[]){ "numbers about 1", "wide numbers",
             "denormal numbers", "special numbers", "a number that is not finite" }[kind]);
    draw_floats(t, a, n, kind % 4);
    draw_floats(t, b, n, kind % 4);
    if (kind == 4 && n) a[trial_between(t, 0, n - 1)] = (const float[]){ NAN, INFINITY, -INFINITY }[n % 3];
    struct vec got = { .k = kernels(t), .n = n }, want = { .k = &reference_kernels, .n = n, .a = a, .b = b, .y = z };
    got.a = pile_copy(&p, a, 4 * n, 4, at_end, "a");
    got.b = pile_copy(&p, b, 4 * n, 4, at_end, "b");
    got.y = pile_take(&p, op->y == '-' ? 0 : 4 * n, 4, at_end, "y");
    if (op->y == 'a' && n) {
        memcpy(got.y, a, (size_t)n * 4);
        memcpy(z, a, (size_t)n * 4);
    }
    op->run(&want);
    if (call_guarded(t, op->name, with, op->run, &got)) vector_differs(t, op, &got, &want, with);
    pile_drop(&p);
    free(a);
    free(b);
    free(z);
}

static void check_vectors(struct trial *t)
{
    int64_t tried = 0;
    if (!backend_ready(t)) return;
    for (int64_t o = 0; o < COUNT(vector_ops); o++) {
        const struct vector_op *op = &vector_ops[o];
        enum outcome was = t->outcome;
        if (!has(t, op->member)) continue;
        tried++;
        for (int64_t n = op->least; n <= 70 && t->outcome == was; n++)
            for (int kind = 0; kind < 5; kind++) try_vector(t, op, n, kind, (n + kind) % 2);
        for (int i = 0; i < 8 && t->outcome == was; i++) try_vector(t, op, trial_between(t, 100, 3000), i % 5, i % 2);
    }
    if (!tried) trial_skip(t, "it has no vector kernels: the reference serves");
}

/* ---- many rows at once ----------------------------------------------------------------------------- */

/* dots: y[rows] from W[rows,n] and x[n]; axpys: y[n] from a = x[rows] and W                          */
struct many { const struct chi_kernels *k; float *y; const float *W, *x; int64_t ld, rows, n; };

static void run_dots(void *arg)
{
    const struct many *m = arg;
    m->k->dots(m->y, m->W, m->ld, m->x, m->rows, m->n);
}

static void run_axpys(void *arg)
{
    const struct many *m = arg;
    m->k->axpys(m->y, m->x, m->W, m->ld, m->rows, m->n);
}

static void try_many(struct trial *t, bool dots, int64_t rows, int64_t n, int kind)
{
    struct pile p = { .n = 0 };
    int64_t ld = n + (rows + n) % 3, all = rows ? (rows - 1) * ld + n : 0, in = dots ? n : rows,
        out = dots ? rows : n;
    bool at_end = (n + kind) % 2;
    const char *name = dots ? "dots" : "axpys";
    char with[64];
    float *w = xcalloc((size_t)all + 1, 4), *x = xcalloc((size_t)in + 1, 4), *y = xcalloc((size_t)out + 1, 4);
    snprintf(with, sizeof with, "%lld rows of %lld", (long long)rows, (long long)n);
    draw_floats(t, w, all, kind);
    draw_floats(t, x, in, kind);
    draw_floats(t, y, out, kind);
    struct many got = { kernels(t), pile_take(&p, 4 * out, 4, at_end, "y"),
                        pile_copy(&p, w, 4 * all, 4, at_end, "the matrix"),
                        pile_copy(&p, x, 4 * in, 4, at_end, "the vector"), ld, rows, n };
    struct many want = { &reference_kernels, y, w, x, ld, rows, n };
    void (*run)(void *) = dots ? run_dots : run_axpys;
    if (out) memcpy(got.y, y, (size_t)out * 4);
    run(&want);
    if (call_guarded(t, name, with, run, &got))
        for (int64_t i = 0; i < out; i++) {
            if (same_floats(got.y + i, y + i, 1)) continue;
            trial_fail(t, "%s: value %lld is %.9g, in the reference %.9g (%s)", name, (long long)i, (double)got.y[i],
                       (double)y[i], with);
            break;
        }
    pile_drop(&p);
    free(w);
    free(x);
    free(y);
}

static void check_many(struct trial *t)
{
    static const int64_t size[] = { 0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 40, 64, 65, 77, 130, 511, 600, 1030 };
    bool has_dots = has(t, offsetof(struct chi_kernels, dots)),
        has_axpys = has(t, offsetof(struct chi_kernels, axpys));
    if (!has_dots && !has_axpys) trial_skip(t, "it has neither dots nor axpys: the reference serves");
    if ((!has_dots && !has_axpys) || !backend_ready(t)) return;
    for (int64_t i = 0; i < COUNT(size); i++)
        for (int64_t rows = 0; rows <= 20 && t->outcome == TRIAL_OK; rows += rows < 10 ? 1 : 5) {
            if (has_dots) try_many(t, true, rows, size[i], (int)(rows + i) % 4);
            if (has_axpys) try_many(t, false, rows, size[i], (int)(rows + i) % 4);
        }
}

/* ---- activations to int8 ---------------------------------------------------------------------------- */

struct quantize { const struct chi_kernels *k; int8_t *q; float *step; int16_t *sum; const float *x; int64_t n; };

static void run_quantize(void *arg)
{
    const struct quantize *j = arg;
    j->k->quantize_i8(j->q, j->step, j->sum, j->x, j->n);
}

static void draw_activations(struct trial *t, float *x, int64_t n, int kind)
{
    draw_floats(t, x, n, kind % 4);
    for (int64_t i = 0; kind == 4 && i < n; i++)            /* inv = 128: ties                    */
        x[i] = i % CHI_ACT_BLOCK ? (float)trial_between(t, -127, 127) / 256 : 127.0f / 128;
    if (kind == 5 && n) x[trial_between(t, 0, n - 1)] = (const float[]){ NAN, INFINITY, -INFINITY }[n % 3];
}

static void try_quantize(struct trial *t, int64_t n, int kind)
{
    struct pile p = { .n = 0 };
    int64_t blocks = ceil_div(n, CHI_ACT_BLOCK);
    bool at_end = (n + kind) % 2;
    char with[64];
    float *x = xcalloc((size_t)n + 1, 4), *step = xcalloc((size_t)blocks + 1, 4);
    int8_t *q = xcalloc((size_t)n + 1, 1);
    int16_t *sum = xcalloc((size_t)blocks + 1, 2);
    snprintf(with, sizeof with, "n = %lld, kind %d", (long long)n, kind);
    draw_activations(t, x, n, kind);
    struct quantize got = { kernels(t), pile_take(&p, n, 1, at_end, "q"),
                            pile_take(&p, 4 * blocks, 4, at_end, "step"),
                            pile_take(&p, 2 * blocks, 2, at_end, "sum"), pile_copy(&p, x, 4 * n, 4, at_end, "x"), n };
    reference_kernels.quantize_i8(q, step, sum, x, n);
    if (call_guarded(t, "quantize_i8", with, run_quantize, &got)
        && (memcmp(got.q, q, (size_t)n) != 0 || !same_floats(got.step, step, blocks)
            || memcmp(got.sum, sum, (size_t)blocks * 2) != 0))
        trial_fail(t, "quantize_i8 differs from the reference (%s)", with);
    pile_drop(&p);
    free(x);
    free(step);
    free(q);
    free(sum);
}

static void check_quantize(struct trial *t)
{
    if (lacks(t, offsetof(struct chi_kernels, quantize_i8), "quantize_i8")) return;
    for (int64_t n = 0; n <= 200 && t->outcome == TRIAL_OK; n++)
        for (int kind = 0; kind < 6; kind++) try_quantize(t, n, kind);
}

/* ---- matrix product ---------------------------------------------------------------------------------- */

struct gemm { const struct chi_kernels *k; bool ta, tb; int64_t m, n, depth, lda, ldb, ldc; const float *A,
              *B; float beta, *C; };

static void run_gemm(void *arg)
{
    const struct gemm *g = arg;
    g->k->gemm(g->ta, g->tb, g->m, g->n, g->depth, g->A, g->lda, g->B, g->ldb, g->beta, g->C, g->ldc);
}

/* |error| <= 8 ulp of the sum of |terms|                                                               */
static bool within_bound(struct trial *t, const struct gemm *g, const float *before, const char *with)
{
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            double sum = g->beta != 0 ? (double)before[i * g->ldc + j] : 0, terms = fabs(sum);
            for (int64_t p = 0; p < g->depth; p++) {
                double x = (double)(g->ta ? g->A[p * g->lda + i] : g->A[i * g->lda + p])
                         * (double)(g->tb ? g->B[j * g->ldb + p] : g->B[p * g->ldb + j]);
                sum += x;
                terms += fabs(x);
            }
            double off = fabs((double)g->C[i * g->ldc + j] - sum);
            if (off <= 8 * 0x1p-23 * terms + 1e-37) continue;
            trial_fail(t, "gemm: C[%lld, %lld] is %.9g, the sum in double %.9g: beyond 8 ulp of the sum of |terms| "
                       "(%s)", (long long)i, (long long)j, (double)g->C[i * g->ldc + j], sum, with);
            return false;
        }
    return true;
}

/* The product of some rows and columns alone has the bits that these have in the whole                */
static void part_alone(struct trial *t, struct pile *p, const struct gemm *g, const float *before, const char *with)
{
    struct gemm s = *g;
    int64_t i0 = g->m / 3, j0 = g->n / 2;
    s.m = g->m - i0;
    s.n = g->n - j0;
    s.A += g->ta ? i0 : i0 * g->lda;
    s.B += g->tb ? j0 * g->ldb : j0;
    s.C = pile_take(p, ((s.m - 1) * s.ldc + s.n) * 4, 4, true, "C");
    for (int64_t i = 0; i < s.m; i++) memcpy(s.C + i * s.ldc, before + (i0 + i) * g->ldc + j0, (size_t)s.n * 4);
    if (!call_guarded(t, "gemm", with, run_gemm, &s)) return;
    for (int64_t i = 0; i < s.m; i++)
        if (!same_floats(s.C + i * s.ldc, g->C + (i0 + i) * g->ldc + j0, s.n)) {
            trial_fail(t, "gemm: row %lld differs when rows from %lld and columns from %lld are computed alone (%s)",
                       (long long)(i0 + i), (long long)i0, (long long)j0, with);
            return;
        }
}

static void try_gemm(struct trial *t, int which, int64_t m, int64_t n, int64_t depth)
{
    struct pile p = { .n = 0 };
    bool ta = which & 1, tb = which & 2, at_end = which % 3 != 0;
    int64_t a_rows = ta ? depth : m, a_cols = ta ? m : depth, b_rows = tb ? n : depth, b_cols = tb ? depth : n;
    struct gemm g = { .k = kernels(t), .ta = ta, .tb = tb, .m = m, .n = n, .depth = depth, .lda = a_cols + which % 3,
                      .ldb = b_cols + which % 2, .ldc = n + which % 5, .beta = which & 4 ? 1 : 0 };
    int64_t na = (a_rows - 1) * g.lda + a_cols, nb = (b_rows - 1) * g.ldb + b_cols, nc = (m - 1) * g.ldc + n;
    float *a = xcalloc((size_t)na, 4), *b = xcalloc((size_t)nb, 4), *c = xcalloc((size_t)nc, 4);
    char with[96];
    snprintf(with, sizeof with, "m %lld, n %lld, k %lld, ta %d, tb %d, beta %d", (long long)m, (long long)n,
             (long long)depth, ta, tb, (int)g.beta);
    draw_floats(t, a, na, 0);
    draw_floats(t, b, nb, 0);
    draw_floats(t, c, nc, 0);
    g.A = pile_copy(&p, a, na * 4, 4, at_end, "A");
    g.B = pile_copy(&p, b, nb * 4, 4, at_end, "B");
    g.C = pile_take(&p, nc * 4, 4, at_end, "C");
    if (g.beta != 0) memcpy(g.C, c, (size_t)nc * 4);
    else for (int64_t i = 0; i < nc; i++) g.C[i] = NAN;
    if (call_guarded(t, "gemm", with, run_gemm, &g) && within_bound(t, &g, c, with)) part_alone(t, &p, &g, c, with);
    pile_drop(&p);
    free(a);
    free(b);
    free(c);
}

static void check_gemm(struct trial *t)
{
    static const int64_t size[] = { 1, 2, 5, 7, 8, 15, 16, 17, 33, 70 }, deep[] = { 1, 3, 8, 31, 255, 256, 257, 600 };
    if (lacks(t, offsetof(struct chi_kernels, gemm), "gemm")) return;
    for (int i = 0; i < 160 && t->outcome == TRIAL_OK; i++)
        try_gemm(t, i % 8, size[trial_between(t, 0, COUNT(size) - 1)], size[trial_between(t, 0, COUNT(size) - 1)],
                 deep[trial_between(t, 0, COUNT(deep) - 1)]);
}

/* ---- delta rule ---------------------------------------------------------------------------------------- */

enum { D_ROWS = 7 };
/* Inputs of a call, with results that the reference wrote and that the backend wrote into guarded blocks  */
struct delta {
    const struct chi_kernels *k;
    int64_t dk, dv, ld;
    const float *q, *key, *v, *a, *b, *S0, *dout;
    float *S, *o;                               /* forward                                     */
    float *dS, *dq, *dk_, *dv_, *da, *db, *work;   /* back                                     */
};

static void run_delta(void *arg)
{
    struct delta *d = arg;
    d->k->delta_rule(d->S, d->q, d->key, d->v, d->ld, d->a, d->b, 2, d->o, D_ROWS, d->dk, d->dv);
}

static void run_delta_back(void *arg)
{
    struct delta *d = arg;
    d->k->delta_rule_back(d->S0, d->dS, d->q, d->key, d->v, d->ld, d->a, d->b, 2, d->dout, d->dq, d->dk_, d->dv_,
                          d->da, d->db, D_ROWS, d->dk, d->dv, d->work);
}

static const float *drawn(struct trial *t, struct pile *p, int64_t n, const char *name, bool positive)
{
    float *x = pile_take(p, n * 4, 4, n % 2, name);
    draw_floats(t, x, n, 0);
    for (int64_t i = 0; positive && i < n; i++) x[i] = 0.5f + 0.5f * x[i];
    guard_read_only(x, true);
    return x;
}

/* Results of d: written by the backend into blocks of exactly their size                                  */
static void delta_results(struct pile *p, struct delta *d, const struct delta *from, bool at_end)
{
    int64_t dim = max_i64(d->dk, d->dv), rows = (D_ROWS - 1) * d->ld, lds = 2 * D_ROWS - 1, S = d->dk * d->dv;
    (void)dim;
    d->S = pile_take(p, S * 4, 4, at_end, "S");
    d->o = pile_take(p, (rows + d->dv) * 4, 4, at_end, "o");
    d->dS = pile_take(p, S * 4, 4, at_end, "dS");
    d->dq = pile_take(p, (rows + d->dk) * 4, 4, at_end, "dq");
    d->dk_ = pile_take(p, (rows + d->dk) * 4, 4, at_end, "dk");
    d->dv_ = pile_take(p, (rows + d->dv) * 4, 4, at_end, "dv");
    d->da = pile_take(p, lds * 4, 4, at_end, "dlog_a");
    d->db = pile_take(p, lds * 4, 4, at_end, "db");
    d->work = pile_take(p, D_ROWS * S * 4, 4, at_end, "work");
    memcpy(d->S, from->S0, (size_t)S * 4);
    memcpy(d->dS, from->S0, (size_t)S * 4);
}

static bool rows_agree(struct trial *t, const char *what, const float *got, const float *want, int64_t rows,
                       int64_t ld, int64_t cols, double bound, const char *with)
{
    double top = 1e-6;
    for (int64_t i = 0; i < rows * cols; i++) top = fmax(top, fabs((double)want[i / cols * ld + i % cols]));
    for (int64_t i = 0; i < rows * cols; i++) {
        const float *a = got + i / cols * ld + i % cols, *b = want + i / cols * ld + i % cols;
        if (bound == 0 ? same_floats(a, b, 1) : fabs((double)*a - (double)*b) <= bound * top) continue;
        trial_fail(t, "%s: row %lld, column %lld is %.9g, in the reference %.9g (%s)", what, (long long)(i / cols),
                   (long long)(i % cols), (double)*a, (double)*b, with);
        return false;
    }
    return true;
}

static void compare_back(struct trial *t, const struct delta *d, const struct delta *r, const char *with)
{
    enum { R = D_ROWS };
    const double bound = 1e-5;
    if (rows_agree(t, "delta_rule_back, dq", d->dq, r->dq, R, d->ld, d->dk, bound, with)
        && rows_agree(t, "delta_rule_back, dk", d->dk_, r->dk_, R, d->ld, d->dk, bound, with)
        && rows_agree(t, "delta_rule_back, dv", d->dv_, r->dv_, R, d->ld, d->dv, bound, with)
        && rows_agree(t, "delta_rule_back, dlog_a", d->da, r->da, R, 2, 1, bound, with)
        && rows_agree(t, "delta_rule_back, db", d->db, r->db, R, 2, 1, bound, with))
        rows_agree(t, "delta_rule_back, dS", d->dS, r->dS, 1, 0, d->dk * d->dv, bound, with);
}

static void try_delta(struct trial *t, int64_t dk, int64_t dv, bool back)
{
    struct pile p = { .n = 0 };
    struct delta d = { .k = kernels(t), .dk = dk, .dv = dv, .ld = max_i64(dk, dv) + 2 };
    int64_t keys = (D_ROWS - 1) * d.ld + dk, values = (D_ROWS - 1) * d.ld + dv;
    char with[64];
    snprintf(with, sizeof with, "dk %lld, dv %lld", (long long)dk, (long long)dv);
    d.q = drawn(t, &p, keys, "q", false);
    d.key = drawn(t, &p, keys, "k", false);
    d.v = drawn(t, &p, values, "v", false);
    d.dout = drawn(t, &p, values, "dout", false);
    d.a = drawn(t, &p, 2 * D_ROWS - 1, "a", true);
    d.b = drawn(t, &p, 2 * D_ROWS - 1, "b", true);
    d.S0 = drawn(t, &p, dk * dv, "S", false);
    struct delta r = d;
    r.k = &reference_kernels;
    delta_results(&p, &d, &d, dk % 2);
    delta_results(&p, &r, &d, true);
    if (back) {
        run_delta_back(&r);
        if (call_guarded(t, "delta_rule_back", with, run_delta_back, &d)) compare_back(t, &d, &r, with);
    } else {
        run_delta(&r);
        if (call_guarded(t, "delta_rule", with, run_delta, &d)
            && rows_agree(t, "delta_rule, o", d.o, r.o, D_ROWS, d.ld, dv, 0, with))
            rows_agree(t, "delta_rule, S", d.S, r.S, 1, 0, dk * dv, 0, with);
    }
    pile_drop(&p);
}

static void check_delta(struct trial *t)
{
    if (lacks(t, offsetof(struct chi_kernels, delta_rule), "delta_rule")) return;
    for (int64_t dk = 1; dk <= 70; dk += dk < 36 ? 1 : 7)
        for (int64_t dv = 1; dv <= 20 && t->outcome == TRIAL_OK; dv += 3) try_delta(t, dk, dv, false);
}

static void check_delta_back(struct trial *t)
{
    if (lacks(t, offsetof(struct chi_kernels, delta_rule_back), "delta_rule_back")) return;
    for (int64_t dk = 1; dk <= 70; dk += dk < 20 ? 1 : 7)
        for (int64_t dv = 1; dv <= 20 && t->outcome == TRIAL_OK; dv += 3) try_delta(t, dk, dv, true);
}

const struct check checks_backends[] = {
    { "backend.vectors", CHI_BACKEND, 60, "dot, axpy, rmsnorm, silu, ... have the reference's bits", check_vectors },
    { "backend.rows", CHI_BACKEND, 60, "dots and axpys have the bits of the reference's dot and axpy row by row",
      check_many },
    { "backend.quantize_i8", CHI_BACKEND, 30, "activations to int8 have the reference's bits", check_quantize },
    { "backend.gemm", CHI_BACKEND, 60, "the matrix product is within its bound, whatever else is computed",
      check_gemm },
    { "backend.delta_rule", CHI_BACKEND, 60, "the gated delta rule has the reference's bits", check_delta },
    { "backend.delta_rule_back", CHI_BACKEND, 60, "its gradient is within its bound", check_delta_back },
    { "backend.linears", CHI_BACKEND, 120, "linear kernels have the bits of their encoding's portable one",
      check_backend_linears },
    { 0 }
};
