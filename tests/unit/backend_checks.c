/* backend_checks.c - the vectors, memories and matrix product of a backend; its linear kernels
 * are in linear_checks.c.  Arrays lie directly before and behind forbidden pages, so they are
 * misaligned as well.                                                                         */
#include "backend_checks.h"
#include "reference.h"

#include <math.h>
#include <stdarg.h>

/* A backend that this CPU cannot run, or that the compiler could not make, skips the test       */
const struct chi_backend_ops *backend_ops(const char *backend)
{
    static struct registry *r;
    const struct chi_component *c = NULL;
    if (!r) cr_assert_eq(registry_open(&r, NULL), CHI_OK, "%s", fail_text());
    if (registry_find(r, CHI_BACKEND, backend, &c) == CHI_OK) return c->ops;
    bool lacks = strstr(fail_text(), "does not provide");
    bool unmade = strstr(fail_text(), "no backend is called") && !strstr(fail_text(), "refused");
    cr_assert(lacks || unmade, "%s", fail_text());
    cr_skip_test("nothing was tested: %s", fail_text());
    return NULL;
}

const struct chi_kernels *backend_kernels(const char *backend)
{
    const struct chi_kernels *k = backend_ops(backend)->kernels;
    cr_assert(k, "%s has no kernels besides linear ones", backend);
    return k;
}

bool agree(const float *got, const float *want, int64_t n, const char *what, ...)
{
    static int reports;
    char text[160];
    va_list args;
    int64_t i = 0;
    while (i < n && (same(got + i, want + i, 4) || (isnan(got[i]) && isnan(want[i])))) i++;
    if (i >= n) return true;
    va_start(args, what);
    vsnprintf(text, sizeof text, what, args);
    va_end(args);
    cr_expect_fail("%s: [%ld] of %ld is %a, not %a", text, (long)i, (long)n, (double)got[i], (double)want[i]);
    cr_assert(++reports < 8, "more differs");
    return false;
}

/* ---- vectors ------------------------------------------------------------------------- */

/* Kinds of numbers: plain, wide (e^x over its whole range), denormal, with -0 and ties   */
static void draw(float *x, int64_t n, int kind)
{
    for (int64_t i = 0; i < n; i++) {
        float u = random_float();
        x[i] = kind == 0 ? u : kind == 1 ? 120 * u : kind == 2 ? u * 0x1p-128f
             : (float[]){ 0, -0.0f, 0.5f, -1.5f, 88.72f, -103.9f, 1e-30f, 2e30f }[random_bits() % 8];
    }
}

static void vectors_of(const struct chi_kernels *f, int64_t n, int kind, bool at_end)
{
    const struct chi_kernels *r = &reference_kernels;
    float *a = guarded(4 * n, at_end), *b = guarded(4 * n, at_end), *y = guarded(4 * n, at_end);
    float *z = xcalloc((size_t)n + 1, 4), p, q;
    draw(a, n, kind), draw(b, n, kind);
#define AGREE(name) agree(y, z, n, "%s, n %ld, kind %d", name, n, kind)
#define SUM_AGREES(name) agree(&p, &q, 1, "%s, n %ld, kind %d", name, n, kind)
    p = f->dot(a, b, n), q = r->dot(a, b, n);
    SUM_AGREES("dot");
    for (int64_t i = 0; i < n; i++) y[i] = z[i] = b[i];
    f->axpy(y, 0.3f, a, n), r->axpy(z, 0.3f, a, n);
    AGREE("axpy");
    if (n) {
        p = f->rmsnorm(y, a, b, n, 1e-6f), q = r->rmsnorm(z, a, b, n, 1e-6f);
        AGREE("rmsnorm");
        SUM_AGREES("rmsnorm's r");
        p = f->softmax(y, a, n), q = r->softmax(z, a, n);
        AGREE("softmax");
        SUM_AGREES("softmax's log sum");
        memcpy(y, a, (size_t)n * 4), memcpy(z, a, (size_t)n * 4);
        f->rmsnorm(y, y, NULL, n, 1e-6f), r->rmsnorm(z, z, NULL, n, 1e-6f);
        AGREE("rmsnorm in place");
    }
    f->silu(y, a, n), r->silu(z, a, n);
    AGREE("silu");
    f->silu_mul(y, a, b, n), r->silu_mul(z, a, b, n);
    AGREE("silu_mul");
    memcpy(y, b, (size_t)n * 4);
    f->silu_mul(y, a, y, n);
    AGREE("silu_mul in place");
    f->silu_back(y, a, b, n), r->silu_back(z, a, b, n);
    AGREE("silu_back");
    unguard(a, 4 * n, at_end), unguard(b, 4 * n, at_end), unguard(y, 4 * n, at_end);
    free(z);
}

void check_vectors(const char *backend)
{
    const struct chi_kernels *f = backend_kernels(backend);
    cr_assert(f->dot && f->axpy && f->rmsnorm && f->softmax && f->silu && f->silu_mul && f->silu_back,
              "%s lacks one of dot, axpy, rmsnorm, softmax, silu, silu_mul, silu_back", backend);
    for (int64_t n = 0; n <= 70; n++)
        for (int kind = 0; kind < 4; kind++) vectors_of(f, n, kind, n % 2);
    for (int64_t n = 0; n <= 33; n++) vectors_of(f, n, 0, n % 2 == 0);
    for (int i = 0; i < 8; i++) vectors_of(f, 100 + random_bits() % 3000, i % 4, i % 2);
}

void check_exp(const char *backend)
{
    enum { N = 1 << 16 };
    const struct chi_kernels *f = backend_kernels(backend);
    float *x = xcalloc(N, 4), *y = xcalloc(N, 4), *z = xcalloc(N, 4);
    for (uint32_t part = 0; part < 24; part++) {
        for (uint32_t i = 0; i < N; i++) {
            uint32_t u = (i * 24 + part) * 2731u;                   /* all signs, exponents */
            memcpy(x + i, &u, 4);
        }
        f->silu(y, x, N), reference_kernels.silu(z, x, N);
        agree(y, z, N, "silu of the bits (24 i + %u) * 2731", part);
    }
    free(x), free(y), free(z);
}

void check_not_finite(const char *backend)
{
    const struct chi_kernels *f = backend_kernels(backend), *r = &reference_kernels;
    float x[40], y[40], z[40], step[2];
    int8_t q[40], p[40];
    int16_t s[2];
    for (int at = 0; at < 40; at++)
        for (int kind = 0; kind < 3; kind++) {
            fill(x, 40);
            x[at] = (float[]){ NAN, INFINITY, -INFINITY }[kind];
            float a = f->softmax(y, x, 40), b = r->softmax(z, x, 40);
            agree(y, z, 40, "softmax, kind %d at %d", kind, at);
            agree(&a, &b, 1, "softmax's log sum, kind %d at %d", kind, at);
            f->quantize_i8(q, step, s, x, 40), r->quantize_i8(p, step + 1, s + 1, x, 40);
            cr_expect(same(q, p, 40) && s[0] == s[1], "quantize_i8, kind %d at %d", kind, at);
            agree(step, step + 1, 1, "quantize_i8's step, kind %d at %d", kind, at);
            cr_expect(kind ? isinf(step[0]) : isnan(step[0]), "step %g, kind %d at %d", (double)step[0], kind, at);
        }
}

void check_quantize_i8(const char *backend)
{
    const struct chi_kernels *f = backend_kernels(backend), *r = &reference_kernels;
    for (int64_t n = 0; n <= 200; n++)
        for (int kind = 0; kind < 5; kind++) {
            bool at_end = (n + kind) % 2;
            int64_t nb = ceil_div(n, 64);
            float *x = guarded(4 * n, at_end), *step = guarded(4 * nb, at_end), step2[4];
            int8_t *q = guarded(n, at_end), q2[200];
            int16_t *sum = guarded(2 * nb, at_end), sum2[4];
            draw(x, n, kind < 4 ? kind : 0);
            for (int64_t i = 0; kind == 4 && i < n; i++)            /* inv = 128: ties      */
                x[i] = i % 64 ? (float)((int)(random_bits() % 254) - 127) / 256 : 127.0f / 128;
            f->quantize_i8(q, step, sum, x, n), r->quantize_i8(q2, step2, sum2, x, n);
            cr_assert(same(q, q2, n), "q, n %ld, kind %d", n, kind);
            cr_assert(same(sum, sum2, 2 * nb), "sum, n %ld, kind %d", n, kind);
            agree(step, step2, nb, "quantize_i8's step, n %ld, kind %d", n, kind);
            unguard(x, 4 * n, at_end), unguard(step, 4 * nb, at_end);
            unguard(q, n, at_end), unguard(sum, 2 * nb, at_end);
        }
}

/* ---- delta rule ----------------------------------------------------------------------------- */

enum { D_ROWS = 7 };

void check_delta_rule(const char *backend)
{
    const struct chi_kernels *f = backend_kernels(backend);
    for (int64_t dk = 1; dk <= 70; dk += dk < 36 ? 1 : 7)
        for (int64_t dv = 1; dv <= 20; dv += 3) {
            int64_t ld = max_i64(dk, dv) + 2, ns = dk * dv, n[3], last = (D_ROWS - 1) * ld + dv;
            float *in[3], *a = guarded(8 * D_ROWS, true), *b = guarded(8 * D_ROWS, true);
            float *S = guarded(4 * ns, dk % 2), *S2 = xcalloc((size_t)ns, 4);
            float *o = guarded(4 * last, true), *o2 = xcalloc((size_t)last, 4);
            for (int i = 0; i < 3; i++) {
                n[i] = (D_ROWS - 1) * ld + (i < 2 ? dk : dv);
                in[i] = guarded(4 * n[i], true), fill(in[i], n[i]);
            }
            fill(a, 2 * D_ROWS), fill(b, 2 * D_ROWS), fill(S, ns);
            memcpy(S2, S, (size_t)ns * 4);
            f->delta_rule(S, in[0], in[1], in[2], ld, a, b, 2, o, D_ROWS, dk, dv);
            reference_kernels.delta_rule(S2, in[0], in[1], in[2], ld, a, b, 2, o2, D_ROWS, dk, dv);
            agree(S, S2, ns, "delta_rule: S, dk %ld, dv %ld", dk, dv);
            for (int64_t t = 0; t < D_ROWS; t++)
                agree(o + t * ld, o2 + t * ld, dv, "delta_rule: o of row %ld, dk %ld, dv %ld", t, dk, dv);
            unguard(a, 8 * D_ROWS, true), unguard(b, 8 * D_ROWS, true);
            unguard(S, 4 * ns, dk % 2), unguard(o, 4 * last, true);
            for (int i = 0; i < 3; i++) unguard(in[i], 4 * n[i], true);
            free(S2), free(o2);
        }
}

static void near(const char *what, const float *a, const float *b, int64_t n)
{
    double top = 1e-6;
    for (int64_t i = 0; i < n; i++) top = fmax(top, fabs((double)b[i]));
    for (int64_t i = 0; i < n; i++)
        cr_assert(fabs((double)a[i] - (double)b[i]) <= 1e-5 * top, "%s[%ld] of %ld: %g, not %g", what, i, n,
                  (double)a[i], (double)b[i]);
}

void check_delta_rule_back(const char *backend)
{
    const struct chi_kernels *f = backend_kernels(backend);
    for (int64_t dk = 1; dk <= 40; dk += 13)
        for (int64_t dv = 1; dv <= 19; dv += 6) {
            int64_t ld = max_i64(dk, dv), n = D_ROWS * ld, ns = dk * dv;
            float *in[4], a[D_ROWS], b[D_ROWS], *g[2][4], ga[2][D_ROWS], gb[2][D_ROWS];
            float *S = xcalloc((size_t)ns, 4), *dS = xcalloc((size_t)ns, 4);
            float *work = guarded(4 * ns * D_ROWS, true);
            for (int i = 0; i < 4; i++) in[i] = xcalloc((size_t)n, 4), fill(in[i], n);
            for (int i = 0; i < D_ROWS; i++) a[i] = 0.9f, b[i] = 0.5f + 0.5f * random_float();
            fill(S, ns), fill(dS, ns);
            for (int i = 0; i < 2; i++) {
                const struct chi_kernels *k = i ? &reference_kernels : f;
                for (int j = 0; j < 4; j++) g[i][j] = xcalloc((size_t)(n + ns), 4);
                memcpy(g[i][3], dS, (size_t)ns * 4);
                k->delta_rule_back(S, g[i][3], in[0], in[1], in[2], ld, a, b, 1, in[3], g[i][0],
                                   g[i][1], g[i][2], ga[i], gb[i], D_ROWS, dk, dv, work);
            }
            near("dq", g[0][0], g[1][0], n), near("dk", g[0][1], g[1][1], n);
            near("dv", g[0][2], g[1][2], n), near("dS", g[0][3], g[1][3], ns);
            near("dlog a", ga[0], ga[1], D_ROWS), near("db", gb[0], gb[1], D_ROWS);
            unguard(work, 4 * ns * D_ROWS, true);
        }
}

/* ---- hebb rule: q and k of one stride, v and o of another ------------------------------------- */

struct hebb {
    int64_t dk, dv, ldk, ldv;
    float *q, *k, *v, *dout, *S, *dS, a[2 * D_ROWS], b[2 * D_ROWS];
};

static float *some(int64_t n)
{
    float *x = xcalloc((size_t)n, 4);
    fill(x, n);
    return x;
}

static struct hebb hebb(int64_t dk, int64_t dv)
{
    struct hebb h = { .dk = dk, .dv = dv, .ldk = dk + 3, .ldv = dv + 1 };
    h.q = some(D_ROWS * h.ldk), h.k = some(D_ROWS * h.ldk), h.v = some(D_ROWS * h.ldv);
    h.dout = some(D_ROWS * h.ldv), h.S = some(dk * dv), h.dS = some(dk * dv);
    for (int i = 0; i < 2 * D_ROWS; i++) h.a[i] = 0.55f + 0.45f * random_float(), h.b[i] = random_float();
    return h;
}

static void hebb_free(struct hebb *h)
{
    free(h->q), free(h->k), free(h->v), free(h->dout), free(h->S), free(h->dS);
}

void check_hebb_rule(const char *backend)
{
    const struct chi_kernels *f = backend_kernels(backend);
    for (int64_t dk = 1; dk <= 70; dk += dk < 36 ? 1 : 7)
        for (int64_t dv = 1; dv <= 20; dv += 3) {
            struct hebb h = hebb(dk, dv);
            int64_t last = (D_ROWS - 1) * h.ldv + dv, ns = dk * dv;
            float *S = guarded(4 * ns, dk % 2), *o = guarded(4 * last, true), *o2 = some(last);
            memcpy(S, h.S, (size_t)ns * 4);
            f->hebb_rule(S, h.q, h.k, h.ldk, h.v, h.ldv, h.a, h.b, 2, o, D_ROWS, dk, dv);
            reference_kernels.hebb_rule(h.S, h.q, h.k, h.ldk, h.v, h.ldv, h.a, h.b, 2, o2, D_ROWS, dk, dv);
            agree(S, h.S, ns, "hebb_rule: S, dk %ld, dv %ld", dk, dv);
            for (int64_t t = 0; t < D_ROWS; t++)
                agree(o + t * h.ldv, o2 + t * h.ldv, dv, "hebb_rule: o of row %ld, dk %ld, dv %ld", t, dk, dv);
            unguard(S, 4 * ns, dk % 2), unguard(o, 4 * last, true);
            free(o2), hebb_free(&h);
        }
}

/* sum of dout o and dS S after the rows, in double                                              */
static double hebb_loss(const struct hebb *h)
{
    double sum = 0;
    for (int64_t i = 0; i < h->dv; i++) {
        double *s = xcalloc((size_t)h->dk, sizeof *s);
        for (int64_t j = 0; j < h->dk; j++) s[j] = (double)h->S[i * h->dk + j];
        for (int64_t t = 0; t < D_ROWS; t++)
            for (int64_t j = 0; j < h->dk; j++) {
                s[j] = (double)h->a[2 * t] * s[j] + (double)h->b[2 * t] * (double)h->v[t * h->ldv + i] * (double)h->k[t * h->ldk + j];
                sum += (double)h->dout[t * h->ldv + i] * s[j] * (double)h->q[t * h->ldk + j];
            }
        for (int64_t j = 0; j < h->dk; j++) sum += (double)h->dS[i * h->dk + j] * s[j];
        free(s);
    }
    return sum;
}

/* The loss is linear in each single value, so one difference is the derivative                  */
static void differs(const char *what, const struct hebb *h, float *x, float got, float factor)
{
    float before = *x, up = before + 0.5f, down = before - 0.5f;
    *x = up;
    double high = hebb_loss(h);
    *x = down;
    double low = hebb_loss(h), want = (high - low) / ((double)up - (double)down) * (double)factor;
    *x = before;
    cr_assert(fabs((double)got - want) < 1e-4 * (1 + fabs(want)), "%s: %g, not %g", what, (double)got, want);
}

void check_hebb_rule_back(const char *backend)
{
    for (int64_t dk = 1; dk <= 40; dk += 13)
        for (int64_t dv = 1; dv <= 19; dv += 6)
            for (int i = 0; i < 2; i++) {
                const struct chi_kernels *k = i ? &reference_kernels : backend_kernels(backend);
                struct hebb h = hebb(dk, dv);
                int64_t room = (dv + 4 * D_ROWS) * dk;
                for (int64_t t = 0; t < D_ROWS; t += 2) h.a[2 * t] = 1e-4f;  /* next to nothing is left of S */
                float *dq = some(D_ROWS * h.ldk), *gk = some(D_ROWS * h.ldk), *gv = some(D_ROWS * h.ldv);
                float da[2 * D_ROWS], db[2 * D_ROWS], *dS = some(dk * dv), *work = guarded(4 * room, true);
                memcpy(dS, h.dS, (size_t)(dk * dv) * 4);
                k->hebb_rule_back(h.S, dS, h.q, h.k, h.ldk, h.v, h.ldv, h.a, h.b, 2, h.dout, dq, gk, gv, da, db,
                                  D_ROWS, dk, dv, work);
                for (int64_t t = 0; t < D_ROWS; t++) {
                    for (int64_t j = t * h.ldk; j < t * h.ldk + dk; j += 5) {
                        differs("dq", &h, &h.q[j], dq[j], 1);
                        differs("dk", &h, &h.k[j], gk[j], 1);
                    }
                    for (int64_t j = t * h.ldv; j < t * h.ldv + dv; j += 3) differs("dv", &h, &h.v[j], gv[j], 1);
                    differs("da", &h, &h.a[2 * t], da[2 * t] / h.a[2 * t], 1);
                    differs("db", &h, &h.b[2 * t], db[2 * t], 1);
                }
                for (int64_t j = 0; j < dk * dv; j += 7) differs("dS", &h, &h.S[j], dS[j], 1);
                unguard(work, 4 * room, true);
                free(dq), free(gk), free(gv), free(dS), hebb_free(&h);
            }
}

/* ---- gemm -------------------------------------------------------------------------------------- */

/* C = op(A) op(B) with every array before a forbidden page, against double                        */
static void multiply(const struct chi_kernels *f, int64_t m, int64_t n, int64_t k, bool ta, bool tb, float beta)
{
    int64_t lda = (ta ? m : k) + 1, ldb = (tb ? k : n) + 2, ldc = n + 3;
    int64_t na = ((ta ? k : m) - 1) * lda + (ta ? m : k), nb = ((tb ? n : k) - 1) * ldb + (tb ? k : n);
    int64_t nc = (m - 1) * ldc + n;
    float *A = guarded(4 * na, true), *B = guarded(4 * nb, true), *C = guarded(4 * nc, true);
    float *C0 = xcalloc((size_t)nc, 4);
    fill(A, na), fill(B, nb), fill(C0, nc);
    for (int64_t i = 0; i < nc; i++) C[i] = beta == 0 ? NAN : C0[i];
    for (int64_t i = 0; i < nc; i++) if (i % ldc >= n) C[i] = C0[i] = 7;
    f->gemm(ta, tb, m, n, k, A, lda, B, ldb, beta, C, ldc);
    for (int64_t i = 0; i < nc; i++) {
        if (i % ldc >= n) { cr_expect_eq(C[i], 7); continue; }
        double want = (double)(beta * C0[i]), terms = fabs(want);
        for (int64_t p = 0; p < k; p++) {
            int64_t r = i / ldc, c = i % ldc;
            double t = (double)(ta ? A[p * lda + r] : A[r * lda + p]) * (double)(tb ? B[c * ldb + p]
                                                                                 : B[p * ldb + c]);
            want += t, terms += fabs(t);
        }
        cr_assert(fabs((double)C[i] - want) <= 8 * 0x1p-24 * terms + 1e-37,
                  "gemm %ldx%ldx%ld, ta %d, tb %d, beta %g: [%ld] is %g, not %g", m, n, k, ta, tb,
                  (double)beta, i, (double)C[i], want);
    }
    unguard(A, 4 * na, true), unguard(B, 4 * nb, true), unguard(C, 4 * nc, true);
    free(C0);
}

void check_gemm(const char *backend)
{
    const struct chi_kernels *f = backend_kernels(backend);
    static const int64_t sizes[] = { 1, 2, 5, 6, 7, 15, 16, 17, 33 };
    for (int64_t i = 0; i < 200; i++)
        multiply(f, sizes[random_bits() % 9], sizes[random_bits() % 9], sizes[random_bits() % 9],
                 i & 1, i & 2, i & 4 ? 1 : 0);
    for (int i = 0; i < 4; i++) {
        multiply(f, 150, 35, 300, i & 1, i & 2, 0);
        multiply(f, 13, 1030, 259, i & 1, i & 2, 1);
    }
    float C[4] = { 1, 2, 3, 4 };
    f->gemm(false, false, 2, 2, 0, C, 1, C, 1, 0, C, 2);       /* k = 0            */
    cr_expect(C[0] == 0 && C[3] == 0);
}

/* An element has the same bits in whatever product it comes                              */
void check_gemm_invariance(const char *backend)
{
    enum { M = 163, N = 1045, K = 700 };
    const struct chi_kernels *f = backend_kernels(backend);
    float *A = xcalloc(M * K, 4), *B = xcalloc(K * N, 4), *At = xcalloc(M * K, 4), *Bt = xcalloc(K * N, 4);
    float *C = xcalloc(M * N, 4), *D = xcalloc(M * N, 4);
    fill(A, M * K), fill(B, K * N);
    for (int64_t i = 0; i < M * K; i++) At[i % K * M + i / K] = A[i];
    for (int64_t i = 0; i < K * N; i++) Bt[i % N * K + i / N] = B[i];
    f->gemm(false, false, M, N, K, A, K, B, N, 0, C, N);
    for (int i = 1; i < 4; i++) {
        f->gemm(i & 1, i & 2, M, N, K, i & 1 ? At : A, i & 1 ? M : K, i & 2 ? Bt : B, i & 2 ? K : N, 0, D, N);
        agree(D, C, M * N, "gemm %dx%dx%d, transposed %d", M, N, K, i);
    }
    for (int64_t cut = 256; cut < K; cut += 256) {
        f->gemm(false, false, M, N, cut, A, K, B, N, 0, D, N);
        f->gemm(false, false, M, N, K - cut, A + cut, K, B + cut * N, N, 1, D, N);
        agree(D, C, M * N, "gemm %dx%dx%d, k cut at %ld", M, N, K, cut);
    }
    for (int i = 0; i < 30; i++) {                                  /* any part of C    */
        int64_t r = random_bits() % M, c = random_bits() % N;
        int64_t m = 1 + random_bits() % (M - r), n = 1 + random_bits() % min_i64(N - c, 60);
        f->gemm(false, false, m, n, K, A + r * K, K, B + c, N, 0, D, n);
        for (int64_t j = 0; j < m; j++)
            agree(D + j * n, C + (r + j) * N + c, n, "gemm: row %ld of %ldx%ld at %ld, %ld", j, m, n, r, c);
    }
    free(A), free(B), free(At), free(Bt), free(C), free(D);
}
