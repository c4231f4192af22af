/* tune_time.c - how long each kernel takes for a weight matrix.
 *
 * A matrix of the right shape is drawn at random and bound as a model's would be, and host->
 * linears() multiplies it: slices, threads and the rounding of activations take part as they
 * do later.  A time is the best of several windows, which take turns among the kernels.  The
 * matrix stays in the cache if it fits there, or, as in a step of a model that does not fit, comes
 * from memory: then a window is one call, before which all threads read something else.  Its
 * activations, which another layer has just written, are in the cache either way.      */
#include "tune.h"

#include <stdlib.h>
#include <string.h>

#include "bench_limit.h"
#include "core.h"
#include "hosting.h"
#include "pool.h"

enum { WINDOWS = 5 };
#define WINDOW_S 4e-4                       /* WINDOWS of them: about 2 ms a kernel    */
#define HOPELESS 3.0                        /* times the best: not timed any further   */

struct timing { struct chi_run run; const float *x; float *y; int64_t n_x, n_y; const uint8_t *others; };

static void draw(float *w, int64_t n, float scale)
{
    uint64_t s = 1;
    for (int64_t i = 0; i < n; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        w[i] = scale * ((float)(int32_t)(s >> 32) / 2147483648.0f);
    }
}

/* l with this encoding and kernel, bound to w                                           */
static chi_status bind(struct chi_linear *copy, const struct chi_linear *l, const struct chi_component *encoding,
                       const struct chi_linear_kernel *k, const float *w)
{
    *copy = *l;
    copy->training = false;
    copy->encoding = encoding->ops;
    copy->encoding_name = encoding->name;
    copy->adapter = NULL;
    copy->n_adapter = 0;
    copy->kernel = copy->many = k;
    copy->n_bytes = copy->encoding->bytes(l->d_out, l->d_in, l->group);
    copy->w = copy->g = NULL;
    copy->bytes = copy->packed = NULL;
    copy->mapped = false;
    TRY(linear_room(TUNE_ROWS, l->d_in, 0, false));
    TRY(pool_scratch(linear_scratch(copy, TUNE_ROWS)));
    return linear_bind(copy, w, 1);
}

static volatile float kept;                 /* what nobody uses may not be computed    */

static void chill(struct timing *t)
{
    reader *f[LIMIT_READERS];
    if (!t->others || limit_readers(f) < 1) return;
    limit_read_rate(f[0], t->others);
    memset(t->y, 0, (size_t)t->n_y * sizeof *t->y);
    for (int64_t i = 0; i < t->n_x; i += 16) kept = t->x[i];
}

/* Seconds of a call, the mean of a window at least so long                              */
static chi_status window(struct timing *t, const struct chi_linear *l, int64_t rows, double least, double *s)
{
    chill(t);
    double begin = now_s(), now = begin;
    int64_t n = 0;
    while (!n || (!t->others && now - begin < least)) {
        TRY(linears(&l, 1, &t->run, t->x, rows, &t->y));
        now = now_s();
        n++;
    }
    *s = (now - begin) / (double)n;
    return CHI_OK;
}

/* best[n]: seconds of each                                                              */
static chi_status compete(struct timing *t, const struct chi_linear *l, int n, int64_t rows, double *best)
{
    double top = 1e30;
    for (int i = 0; i < n; i++) {
        TRY(window(t, &l[i], rows, 0, &best[i]));
        if (best[i] < top) top = best[i];
    }
    for (int w = 0; w < WINDOWS; w++)
        for (int i = 0; i < n; i++) {
            double s;
            if (best[i] > HOPELESS * top && best[i] > WINDOW_S) continue;
            TRY(window(t, &l[i], rows, WINDOW_S, &s));
            if (s < best[i]) best[i] = s;
            if (s < top) top = s;
        }
    return CHI_OK;
}

static chi_status measure(struct timing *t, const struct chi_linear *l, const struct contender *c, int n,
                          const char *encoding, struct tune_time *time)
{
    double one[CONTENDERS_MAX], many[CONTENDERS_MAX];
    TRY(compete(t, l, n, 1, one));
    TRY(compete(t, l, n, TUNE_ROWS, many));
    for (int i = 0; i < n; i++) {
        time[i] = (struct tune_time){ .d_out = l->d_out, .d_in = l->d_in, .group = l->group, .threads = pool_size(),
                                      .memory = t->others, .one = 1e6 * one[i], .many = 1e6 * many[i] };
        snprintf(time[i].encoding, sizeof time[i].encoding, "%s", encoding);
        snprintf(time[i].backend, sizeof time[i].backend, "%s", c[i].backend);
    }
    return CHI_OK;
}

chi_status tune_measure(const struct chi_linear *l, const struct spec *s, const struct chi_component *encoding,
                        const struct contender *c, int n, const uint8_t *others, struct tune_time *time)
{
    struct chi_linear bound[CONTENDERS_MAX] = { 0 };
    struct chi_host *h = host_open(s, "kernels");
    float *w = mem_take((size_t)(l->d_out * l->d_in) * sizeof *w, "a matrix to time kernels with");
    float *x = mem_take((size_t)(TUNE_ROWS * l->d_in) * sizeof *x, "rows to time kernels with");
    float *y = mem_take((size_t)(TUNE_ROWS * l->d_out) * sizeof *y, "rows to time kernels with");
    chi_status st = w && x && y ? CHI_OK : CHI_ENOMEM;
    if (st == CHI_OK) {
        draw(w, l->d_out * l->d_in, 0.05f);
        draw(x, TUNE_ROWS * l->d_in, 1);
    }
    for (int i = 0; i < n && st == CHI_OK; i++) st = bind(&bound[i], l, encoding, c[i].kernel, w);
    struct timing t = { .run = { .h = h, .rows = TUNE_ROWS }, .x = x, .y = y, .n_x = TUNE_ROWS * l->d_in,
                        .n_y = TUNE_ROWS * l->d_out, .others = others };
    if (st == CHI_OK) st = measure(&t, bound, c, n, encoding->name, time);
    for (int i = 0; i < n; i++) linear_drop(&bound[i]);
    mem_free(w);
    mem_free(x);
    mem_free(y);
    host_close(h);
    return st;
}

bool tune_holds(const struct chi_linear *l, const struct chi_component *encoding)
{
    const struct chi_encoding_ops *e = encoding->ops;
    if (strcmp(e->values, l->quantizer->values) != 0 || e->bytes(l->d_out, l->d_in, l->group) <= 0) return false;
    if (!CHI_HAS(struct chi_encoding_ops, e, holds)) return true;
    float *w = xcalloc((size_t)(CHI_TILE * l->d_in), sizeof *w);
    float *scale = xcalloc((size_t)(CHI_TILE * ceil_div(l->d_in, l->group)), sizeof *scale);
    int8_t *q = xcalloc((size_t)(CHI_TILE * l->d_in), 1);
    draw(w, CHI_TILE * l->d_in, 0.05f);
    bool holds = l->quantizer->quantize(l->rule->quantizer.conf, w, CHI_TILE, l->d_in, q, scale) == CHI_OK
              && e->holds(q, scale, CHI_TILE, l->d_in, l->group);
    free(w);
    free(scale);
    free(q);
    return holds;
}
