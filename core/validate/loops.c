/* loops.c - checks of loops: the gradient of two turns without layers,
 *
 *     e = enter(x);  y = leave(inject(e, inject(e, h)))
 *
 * and that a row's result depends neither on its neighbours nor on threads, and depths on nothing
 * but the sequence and the step.                                                               */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "crumb.h"
#include "instance.h"
#include "pool.h"
#include "rig.h"

enum { CASES = 4, WIDTH = 137, ROWS = 6, DIRECTIONS = 3 };         /* columns for several tasks */
enum { X, E, H0, H1, H2, Y, DY, DX, DE, DH0, DH1, DH2, VECTORS };

struct bench {
    struct trial *t;
    struct spec *spec;
    struct solo *solo;
    struct instance *in;
    struct workspace ws;
    void  *scratch;
    char   options[512];
    float *v[VECTORS];                      /* [ROWS, WIDTH]                            */
};

/* ---- a loop that is open --------------------------------------------------------------- */

/* Case 0 has the defaults; later ones draw switches and enums                             */
static void draw(struct trial *t, int64_t i, char *out, size_t size)
{
    size_t used = 0;
    *out = 0;
    for (const struct chi_option *o = t->component->options; i && o && o->name; o++) {
        int64_t n = 2;
        const char *at = "no|yes";
        if (o->type == CHI_OPT_ENUM) {
            at = o->choices;
            n = 1;
            for (const char *c = at; *c; c++) n += *c == '|';
        } else if (o->type != CHI_OPT_BOOL)
            continue;
        for (int64_t skip = trial_between(t, 0, n - 1); skip; skip--) at = strchr(at, '|') + 1;
        int more = snprintf(out + used, size - used, "%s = %.*s\n", o->name, (int)strcspn(at, "|"), at);
        if (more < 0 || used + (size_t)more >= size) break;
        used += (size_t)more;
    }
}

static chi_status open_spec(struct bench *b, struct spec **out)
{
    struct config *config;
    char *text = xprintf("[model]\nhidden_size = %d\nnum_hidden_layers = 1\nvocab_size = 97\nlayer_pattern = X\n"
                         "ffn_pattern = X\n[run]\nthreads = 1\n[layer.X]\nuse = swiglu\nintermediate_size = 8\n"
                         "[linear]\nquantizer = f32\n[loop]\nuse = %s\nloop = 0\n%s", WIDTH, b->t->component->name,
                         b->options);
    chi_status s = config_load_text(&config, "drawn options", text, NULL, 0);
    free(text);
    return s == CHI_OK ? spec_open(out, config, SPEC_MODEL) : s;
}

static void random_values(struct trial *t, float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = trial_uniform(t);
}

static bool bench_open(struct bench *b, struct trial *t, int64_t i)
{
    const struct model_tensor *w;
    *b = (struct bench){ .t = t };
    draw(t, i, b->options, sizeof b->options);
    if (!trial_must(t, open_spec(b, &b->spec), "a model of one swiglu layer with this loop")) return false;
    if (!trial_must(t, solo_open(&b->solo, b->spec, &b->spec->loop.part, true, ROWS, ROWS), "open")) return false;
    b->in = solo_instance(b->solo);
    for (int64_t k = 0; (w = solo_tensor(b->solo, k)); k++) {
        float scale = w->linear ? 2 / sqrtf(WIDTH) : 0.5f;
        for (int64_t j = 0; j < w->n; j++) w->w[j] = (w->linear ? 0 : w->w[j]) + scale * trial_uniform(t);
    }
    b->scratch = xcalloc(1, (size_t)max_i64(4096, b->in->scratch_bytes));
    for (int k = 0; k < VECTORS; k++) b->v[k] = xcalloc(ROWS * WIDTH, sizeof(float));
    random_values(t, b->v[X], ROWS * WIDTH);
    random_values(t, b->v[H0], ROWS * WIDTH);
    random_values(t, b->v[DY], ROWS * WIDTH);
    return trial_must(t, solo_bind(b->solo), "binding random weights");
}

static void bench_close(struct bench *b)
{
    solo_close(b->solo);
    spec_close(b->spec);
    workspace_drop(&b->ws);
    free(b->scratch);
    for (int k = 0; k < VECTORS; k++) free(b->v[k]);
}

/* ---- calls ------------------------------------------------------------------------------ */

/* Rows from .. from + rows of every vector, as one segment each or all in one              */
static bool pass(struct bench *b, int64_t from, int64_t rows, bool alone, bool back)
{
    const struct chi_loop_ops *o = b->in->loop;
    struct chi_segment seg[ROWS];
    struct chi_scratch scratch = { b->scratch, 0, (size_t)max_i64(4096, b->in->scratch_bytes) };
    int64_t n = alone ? rows : 1;
    float *v[VECTORS];
    for (int64_t i = 0; i < n; i++) seg[i] = rig_segment(i, alone ? 1 : rows, from + i, (uint64_t)i, NULL);
    for (int k = 0; k < VECTORS; k++) v[k] = b->v[k] + from * WIDTH;
    if (!trial_must(b->t, instance_arrays(b->in, seg, n, rows, KEPT_NOT, &b->ws), "arrays")) return false;
    struct chi_run r = { .h = b->in->host, .params = b->in->params, .grads = back ? b->in->grads : NULL,
                         .array = b->in->at,
                         .scratch = &scratch, .seg = seg, .n_seg = n, .rows = rows, .keep = back };
    struct crumb crumb = { "", b->t->component->name, back ? "a pass and its gradient" : "a pass" };
    crumb_set(&crumb);
    chi_status s = o->enter(b->in->self, &r, v[X], v[E]);
    if (s == CHI_OK) s = o->inject(b->in->self, &r, v[E], v[H0], v[H1]);
    if (s == CHI_OK) s = o->inject(b->in->self, &r, v[E], v[H1], v[H2]);
    if (s == CHI_OK) s = o->leave(b->in->self, &r, v[H2], v[Y]);
    for (int k = DX; back && k < VECTORS; k++) memset(v[k], 0, (size_t)(rows * WIDTH) * sizeof(float));
    if (s == CHI_OK && back) s = o->leave_back(b->in->self, &r, v[H2], v[DY], v[DH2]);
    if (s == CHI_OK && back) s = o->inject_back(b->in->self, &r, v[E], v[H1], v[DH2], v[DE], v[DH1]);
    if (s == CHI_OK && back) s = o->inject_back(b->in->self, &r, v[E], v[H0], v[DH1], v[DE], v[DH0]);
    if (s == CHI_OK && back) s = o->enter_back(b->in->self, &r, v[X], v[DE], v[DX]);
    crumb_set(NULL);
    return trial_must(b->t, s, "a pass");
}

/* ---- gradients ---------------------------------------------------------------------------- */

static double loss_at(struct bench *b, float *w, const float *was, const float *way, int64_t n, double by)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) w[i] = (float)((double)was[i] + by * (double)way[i]);
    if (!trial_must(b->t, solo_bind(b->solo), "binding weights") || !pass(b, 0, ROWS, false, false)) return NAN;
    for (int64_t i = 0; i < ROWS * WIDTH; i++) sum += (double)b->v[DY][i] * (double)b->v[Y][i];
    return sum;
}

/* d loss / d w along random directions, by differences of two step sizes                     */
static void compare(struct bench *b, const char *what, float *w, const float *g, int64_t n)
{
    float *was = xcalloc((size_t)n, sizeof *was), *way = xcalloc((size_t)n, sizeof *way);
    memcpy(was, w, (size_t)n * sizeof *w);
    for (int k = 0; k < DIRECTIONS; k++) {
        double got = 0, size = 0, slope[2];
        for (int64_t i = 0; i < n; i++) {
            way[i] = trial_uniform(b->t);
            got += (double)way[i] * (double)g[i];
            size += fabs((double)way[i] * (double)g[i]);
        }
        for (int s = 0; s < 2; s++) {
            double h = s ? 0.01 : 0.02;
            slope[s] = (loss_at(b, w, was, way, n, h) - loss_at(b, w, was, way, n, -h)) / (2 * h);
        }
        double want = (4 * slope[1] - slope[0]) / 3, error = fabs(got - want) / (fmax(size, fabs(want)) + 1e-3);
        if (!(error <= 2e-3)) {
            trial_fail(b->t, "the gradient of %s along a random direction is %.6g, differences give %.6g (%s)", what,
                       got, want, *b->options ? b->options : "defaults");
            break;
        }
    }
    memcpy(w, was, (size_t)n * sizeof *w);
    free(was);
    free(way);
}

static void gradients(struct trial *t)
{
    for (int64_t i = 0; i < CASES; i++) {
        struct bench b;
        const struct model_tensor *w;
        bool ok = bench_open(&b, t, i) && pass(&b, 0, ROWS, false, true);
        float *dx = xcalloc(ROWS * WIDTH, sizeof *dx), *dh = xcalloc(ROWS * WIDTH, sizeof *dh);
        if (ok) {
            memcpy(dx, b.v[DX], ROWS * WIDTH * sizeof *dx);
            memcpy(dh, b.v[DH0], ROWS * WIDTH * sizeof *dh);
            compare(&b, "x", b.v[X], dx, ROWS * WIDTH);
            compare(&b, "h", b.v[H0], dh, ROWS * WIDTH);
        }
        for (int64_t k = 0; ok && (w = solo_tensor(b.solo, k)); k++) compare(&b, w->name, w->w, w->g, w->n);
        free(dx);
        free(dh);
        bench_close(&b);
    }
}

/* ---- bits --------------------------------------------------------------------------------- */

/* y and dx of a pass over these rows against the ones that are wanted                         */
static void same(struct bench *b, const char *how, const float *y, const float *dx, bool back)
{
    size_t bytes = ROWS * WIDTH * sizeof *y;
    if (memcmp(b->v[Y], y, bytes)) trial_fail(b->t, "y has other bits %s (%s)", how, b->options);
    if (back && memcmp(b->v[DX], dx, bytes)) trial_fail(b->t, "dx has other bits %s (%s)", how, b->options);
}

static void rows(struct trial *t)
{
    for (int64_t i = 0; i < CASES; i++) {
        struct bench b;
        float y[ROWS * WIDTH];
        if (bench_open(&b, t, i) && pass(&b, 0, ROWS, false, false)) {
            memcpy(y, b.v[Y], sizeof y);
            if (pass(&b, 0, ROWS, true, false)) same(&b, "if each row is a segment", y, NULL, false);
            bool ok = true;
            for (int64_t r = 0; ok && r < ROWS; r++) ok = pass(&b, r, 1, true, false);
            if (ok) same(&b, "if each row is a call", y, NULL, false);
        }
        bench_close(&b);
    }
}

static void threads(struct trial *t)
{
    for (int64_t i = 0; i < CASES; i++) {
        struct bench b;
        float y[ROWS * WIDTH], dx[ROWS * WIDTH];
        if (bench_open(&b, t, i) && pass(&b, 0, ROWS, false, true)) {
            memcpy(y, b.v[Y], sizeof y);
            memcpy(dx, b.v[DX], sizeof dx);
            for (int n = 2; n <= 8; n += n == 3 ? 5 : 1) {
                char how[32];
                snprintf(how, sizeof how, "on %d threads", n);
                pool_threads(n);
                if (pass(&b, 0, ROWS, false, true)) same(&b, how, y, dx, true);
            }
            pool_threads(1);
        }
        bench_close(&b);
    }
}

/* ---- depths ------------------------------------------------------------------------------- */

static void depths(struct trial *t)
{
    const struct chi_loop_ops *o = t->component->ops;
    if (!CHI_HAS(struct chi_loop_ops, o, depth)) {
        trial_skip(t, "it draws no depths: every sequence has loop_default turns");
        return;
    }
    for (int64_t i = 0; i < CASES; i++) {
        struct bench b;
        bool ok = bench_open(&b, t, i);
        for (int64_t k = 0; ok && k < 400 && t->outcome < TRIAL_FAILED; k++) {
            int64_t usual = 1 + k % 4, step = k / 16;
            struct chi_depth most = o->deepest(b.in->self, usual);
            struct chi_depth d = o->depth(b.in->self, b.in->host, usual, (uint64_t)(k % 16), step);
            struct chi_depth again = o->depth(b.in->self, b.in->host, usual, (uint64_t)(k % 16), step);
            if (d.turns < 1 || d.graded < 1 || d.graded > d.turns || d.turns > most.turns || d.graded > most.graded)
                trial_fail(t, "depth gives %d turns, %d of them differentiated; wanted is 1..%d and 1..%d, at most "
                           "the turns (%s)", d.turns, d.graded, most.turns, most.graded, b.options);
            if (d.turns != again.turns || d.graded != again.graded)
                trial_fail(t, "depth gives %d and then %d turns for one sequence and step (%s)", d.turns, again.turns,
                           b.options);
        }
        bench_close(&b);
    }
}

const struct check checks_loops[] = {
    { "loop.grad", CHI_LOOP, 30, "gradients of two turns in x, h and every parameter equal those of differences",
      gradients },
    { "loop.rows", CHI_LOOP, 20, "a row has the same bits alone, in a segment of its own and among others", rows },
    { "loop.threads", CHI_LOOP, 20, "the same bits on 1, 2, 3 and 8 threads", threads },
    { "loop.depth", CHI_LOOP, 20, "depths lie in their bounds and depend on sequence and step alone", depths },
    { 0 }
};
