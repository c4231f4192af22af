/* fit.c - see fit.h.
 *
 * Integers and their scales give a product by sums of integers per block, floats by one chain of float
 * products: so a matrix stays what it is only within its kind.  Within it, classes hold each other where
 * the numbers themselves fit (a bf16 is an f32, trits with one scale a row are int8), and only numbers that
 * came back from the bytes are believed.                                                             */
#include "fit.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "packed.h"
#include "pool.h"

chi_status weights_take(struct weights *w, bool integer, int64_t rows, int64_t cols, int64_t group, const char *name)
{
    *w = (struct weights){ .rows = rows, .cols = cols, .group = group, .groups = ceil_div(cols, group) };
    w->scale = mem_take((size_t)(rows * w->groups) * sizeof *w->scale, name);
    if (w->scale && integer) w->q = mem_take((size_t)(rows * cols), name);
    if (w->scale && (w->q || !integer)) return CHI_OK;
    weights_drop(w);
    return CHI_ENOMEM;
}

void weights_drop(struct weights *w)
{
    mem_free(w->q);
    mem_free(w->scale);
    *w = (struct weights){ .rows = 0 };
}

/* ---- rows, 16 at a time, on all threads ------------------------------------------------------------- */

struct rows {
    const struct weights *w;
    const struct chi_encoding_ops *e;
    const struct part *quantizer;
    const float *from;                  /* masters                                                    */
    void *bytes;
    int64_t of, first;                  /* bytes are those of so many rows, of which w's begin there  */
    const struct weights *other;        /* that w is compared with                                    */
    struct weights *out;                /* that is made of w, one scale for so many weights of a row  */
    int64_t span;
    float  *dense;                      /* [rows, cols]: w as floats                                  */
    double (*sum)[2];                   /* of each 16 rows                                            */
    void (*f)(struct rows *, int64_t r0, int64_t r1, int8_t *q, float *scale);
    atomic_int no;
};

static void rows_task(void *arg, int64_t i, struct chi_scratch *s)
{
    struct rows *a = arg;
    int64_t r0 = i * CHI_TILE, r1 = min_i64(r0 + CHI_TILE, a->w->rows);
    (void)s;
    a->f(a, r0, r1, a->w->q ? a->w->q + r0 * a->w->cols : NULL, a->w->scale + r0 * a->w->groups);
}

/* False: f said no of some rows                                                                       */
static bool rows_run(struct rows *a, void (*f)(struct rows *, int64_t, int64_t, int8_t *, float *))
{
    a->f = f;
    atomic_store(&a->no, 0);
    pool_run(ceil_div(a->w->rows, CHI_TILE), rows_task, a);
    return !atomic_load(&a->no);
}

static void quantize_rows(struct rows *a, int64_t r0, int64_t r1, int8_t *q, float *scale)
{
    const struct chi_quantizer_ops *ops = a->quantizer->component->ops;
    if (ops->quantize(a->quantizer->conf, a->from + r0 * a->w->cols, r1 - r0, a->w->cols, q, scale) != CHI_OK)
        atomic_store(&a->no, 1);
}

static void decode_rows(struct rows *a, int64_t r0, int64_t r1, int8_t *q, float *scale)
{
    a->e->decode(a->bytes, q, scale, a->of, a->w->cols, a->w->group, a->first + r0, a->first + r1);
}

static void encode_rows(struct rows *a, int64_t r0, int64_t r1, int8_t *q, float *scale)
{
    a->e->encode(a->bytes, q, scale, a->w->rows, a->w->cols, a->w->group, r0, r1);
}

static void hold_rows(struct rows *a, int64_t r0, int64_t r1, int8_t *q, float *scale)
{
    const struct weights *w = a->w;
    if (!values_fit(a->e->values, q, scale, (r1 - r0) * w->cols, (r1 - r0) * w->groups)
        || (CHI_HAS(struct chi_encoding_ops, a->e, holds) && !a->e->holds(q, scale, r1 - r0, w->cols, w->group)))
        atomic_store(&a->no, 1);
}

chi_status weights_quantize(struct weights *w, const struct part *quantizer, const float *from, const char *name)
{
    struct rows a = { .w = w, .quantizer = quantizer, .from = from };
    return rows_run(&a, quantize_rows) ? CHI_OK : fail(CHI_ENUMERIC, "%s: a weight is not finite", name);
}

void weights_decode_rows(struct weights *w, const struct chi_encoding_ops *e, const void *bytes, int64_t rows,
                         int64_t first)
{
    struct rows a = { .w = w, .e = e, .bytes = (void *)(uintptr_t)bytes, .of = rows, .first = first };
    rows_run(&a, decode_rows);
}

void weights_decode(struct weights *w, const struct chi_encoding_ops *e, const void *bytes)
{
    weights_decode_rows(w, e, bytes, w->rows, 0);
}

/* ---- exactly ------------------------------------------------------------------------------------------- */

bool weights_held(const struct weights *w, const struct chi_encoding_ops *e)
{
    struct rows a = { .w = w, .e = e };
    return e->bytes(w->rows, w->cols, w->group) > 0 && rows_run(&a, hold_rows);
}

/* Encodes w into *bytes and reads it again into *back                                                   */
static chi_status there_and_back(const struct weights *w, const struct chi_encoding_ops *e, const char *name,
                                 void **bytes, struct weights *back)
{
    struct rows a = { .w = w, .e = e };
    TRY(weights_take(back, w->q != NULL, w->rows, w->cols, w->group, name));
    a.bytes = *bytes = mem_take((size_t)e->bytes(w->rows, w->cols, w->group), name);
    if (!*bytes) {
        weights_drop(back);
        return CHI_ENOMEM;
    }
    rows_run(&a, encode_rows);
    weights_decode(back, e, *bytes);
    return CHI_OK;
}

static bool same_numbers(const struct weights *a, const struct weights *b)
{
    return !memcmp(a->scale, b->scale, (size_t)(a->rows * a->groups) * sizeof *a->scale)
        && (!a->q || !memcmp(a->q, b->q, (size_t)(a->rows * a->cols)));
}

chi_status fit_exact(const struct weights *w, const char *values, const struct chi_component *to, const char *name,
                     void **bytes)
{
    const struct chi_encoding_ops *e = to->ops;
    struct weights back;
    *bytes = NULL;
    if (e->portable->integer != (w->q != NULL))
        return fail(CHI_ECONF, "%s: found %s weights; %s holds %s ones, which are multiplied by other arithmetic",
                    name, values, to->name, e->values);
    if (e->bytes(w->rows, w->cols, w->group) <= 0)
        return fail(CHI_ECONF, "%s: found %lld x %lld %s weights in groups of %lld; %s has no form for that shape",
                    name, (long long)w->rows, (long long)w->cols, values, (long long)w->group, to->name);
    if (!weights_held(w, e))
        return fail(CHI_ECONF, "%s: found %s weights in groups of %lld that %s does not hold exactly", name, values,
                    (long long)w->group, to->name);
    TRY(there_and_back(w, e, name, bytes, &back));
    bool same = same_numbers(w, &back);
    weights_drop(&back);
    if (same) return CHI_OK;
    mem_free(*bytes);
    *bytes = NULL;
    return fail(CHI_ECONF, "%s: found %s weights that %s does not hold exactly", name, values, to->name);
}

/* ---- nearly ---------------------------------------------------------------------------------------------- */

/* Behind weight k, where a scale ends                                                                   */
static int64_t scale_end(const struct weights *w, int64_t k)
{
    return min_i64((k / w->group + 1) * w->group, w->cols);
}

void weights_row(const struct weights *w, int64_t r, float *out)
{
    const int8_t *q = w->q ? w->q + r * w->cols : NULL;
    for (int64_t k = 0, end; k < w->cols; k = end) {
        float s = w->scale[r * w->groups + k / w->group];
        end = scale_end(w, k);
        for (int64_t j = k; j < end; j++) out[j] = q ? s * q[j] : s;
    }
}

static void dense_rows(struct rows *a, int64_t r0, int64_t r1, int8_t *q, float *scale)
{
    (void)q, (void)scale;
    for (int64_t r = r0; r < r1; r++) weights_row(a->w, r, a->dense + r * a->w->cols);
}

/* sum (W' - W)^2 and sum W^2 of some rows, piece by piece with one scale in both                         */
static void distance_rows(struct rows *a, int64_t r0, int64_t r1, int8_t *q, float *scale)
{
    const struct weights *w = a->w, *v = a->other;
    double d = 0, all = 0;
    (void)q, (void)scale;
    for (int64_t r = r0; r < r1; r++)
        for (int64_t k = 0, end; k < w->cols; k = end) {
            end = min_i64(scale_end(w, k), scale_end(v, k));
            float s = w->scale[r * w->groups + k / w->group], t = v->scale[r * v->groups + k / v->group];
            for (int64_t j = r * w->cols + k; j < r * w->cols + end; j++) {
                double x = (double)(w->q ? s * w->q[j] : s), y = (double)(v->q ? t * v->q[j] : t) - x;
                d += y * y;
                all += x * x;
            }
        }
    a->sum[r0 / CHI_TILE][0] = d;
    a->sum[r0 / CHI_TILE][1] = all;
}

static double distance(const struct weights *w, const struct weights *other)
{
    int64_t n = ceil_div(w->rows, CHI_TILE);
    struct rows a = { .w = w, .other = other, .sum = xcalloc((size_t)n, sizeof *a.sum) };
    double d = 0, all = 0;
    rows_run(&a, distance_rows);
    for (int64_t i = 0; i < n; i++) {
        d += a.sum[i][0];
        all += a.sum[i][1];
    }
    free(a.sum);
    return all > 0 ? sqrt(d / all) : d > 0 ? INFINITY : 0;
}

/* Round to a scale of 11 bits, which all encodings of trits hold                                         */
static float eleven_bits(double s)
{
    int e;
    double m = frexp(s, &e);
    int bits = e < -13 ? 11 + 13 + e : 11;              /* fp16 is coarser below 2^-14                  */
    return (float)ldexp(rint(ldexp(m, bits)), e - bits);
}

/* One scale for span weights of a row, the one with the least squares: sum s_g n_g / sum n_g with n_g the
 * sum of q^2 of group g                                                                                 */
static float merged(const struct weights *w, int64_t r, int64_t k0, int64_t end)
{
    const int8_t *q = w->q + r * w->cols;
    double sum = 0, n = 0;
    for (int64_t k = k0, stop; k < end; k = stop) {
        int64_t squares = 0;
        stop = min_i64(scale_end(w, k), end);
        for (int64_t j = k; j < stop; j++) squares += q[j] * q[j];
        sum += (double)squares * (double)w->scale[r * w->groups + k / w->group];
        n += (double)squares;
    }
    return n > 0 ? eleven_bits(sum / n) : 0;
}

static void merge_rows(struct rows *a, int64_t r0, int64_t r1, int8_t *q, float *scale)
{
    const struct weights *w = a->w, *out = a->out;
    (void)scale;
    for (int64_t r = r0; r < r1; r++)
        for (int64_t k0 = 0; k0 < w->cols; k0 += a->span) {
            int64_t end = min_i64(k0 + a->span, w->cols);
            float s = merged(w, r, k0, end);
            for (int64_t k = k0; k < end; k += out->group) out->scale[r * out->groups + k / out->group] = s;
        }
    memcpy(out->q + r0 * w->cols, q, (size_t)((r1 - r0) * w->cols));
}

static void merge(const struct weights *w, int64_t span, struct weights *out)
{
    struct rows a = { .w = w, .out = out, .span = span };
    rows_run(&a, merge_rows);
}

/* A candidate that is held becomes *best if its error against w is smaller; else it goes                  */
static void choose(const struct weights *w, struct weights *candidate, const struct chi_encoding_ops *e,
                   struct weights *best, double *error)
{
    double d = weights_held(candidate, e) ? distance(w, candidate) : INFINITY;
    if (d < *error) {
        weights_drop(best);
        *best = *candidate;
        *error = d;
    } else
        weights_drop(candidate);
}

/* Integers as they are, each span of groups with one scale, from fine to coarse; the first that is held is
 * the nearest.  Where the encoding has no form for these groups the spans become the groups.              */
static chi_status try_merged(const struct weights *w, const struct weights *from, const struct chi_encoding_ops *e,
                             const char *name, struct weights *best, double *error)
{
    for (int64_t span = from->group;; span *= 2) {
        struct weights c;
        double before = *error;
        bool form = e->bytes(from->rows, from->cols, from->group) > 0;
        TRY(weights_take(&c, true, from->rows, from->cols, form ? from->group : span, name));
        merge(from, span, &c);
        choose(w, &c, e, best, error);
        if (*error < before || span >= from->cols) return CHI_OK;
    }
}

/* What a quantizer makes of the dequantised numbers                                                        */
static chi_status try_quantizer(const struct weights *w, const float *dense, const struct part *p,
                                const struct chi_encoding_ops *e, const char *name, struct weights *best,
                                double *error)
{
    const struct chi_quantizer_ops *ops = p->component->ops;
    struct weights c;
    TRY(weights_take(&c, e->portable->integer, w->rows, w->cols, ops->group(p->conf, w->cols), name));
    chi_status s = weights_quantize(&c, p, dense, name);
    if (s == CHI_OK && c.q) s = try_merged(w, &c, e, name, best, error);
    if (s != CHI_OK) {
        weights_drop(&c);
        return s;
    }
    choose(w, &c, e, best, error);
    return CHI_OK;
}

/* The component with its defaults; false: it has options that somebody must set                            */
static bool default_part(struct part *p, const struct chi_component *c, struct config **config)
{
    *p = (struct part){ .component = c, .conf = xcalloc(1, c->conf_size ? c->conf_size : 1) };
    if (config_load_text(config, "defaults", "", NULL, 0) != CHI_OK) return false;
    return !c->options || config_parse(*config, "it", c->options, p->conf, NULL);
}

static chi_status try_quantizers(const struct weights *w, const float *dense, const struct part *usual,
                                 struct registry *r, const struct chi_encoding_ops *e, const char *name,
                                 struct weights *best, double *error)
{
    const struct chi_component *c;
    for (int64_t i = 0; (c = registry_component(r, CHI_QUANTIZER, i)); i++) {
        struct part p;
        struct config *config = NULL;
        chi_status s = CHI_OK;
        if (strcmp(((const struct chi_quantizer_ops *)c->ops)->values, e->values) != 0) continue;
        bool set = default_part(&p, c, &config);
        if (c == usual->component) s = try_quantizer(w, dense, usual, e, name, best, error);
        else if (set) s = try_quantizer(w, dense, &p, e, name, best, error);
        config_free(config);
        free(p.conf);
        TRY(s);
    }
    return CHI_OK;
}

chi_status fit_nearly(const struct weights *w, const struct part *usual, struct registry *r,
                      const struct chi_component *to, const char *name, struct weights *out, double *error)
{
    const struct chi_encoding_ops *e = to->ops;
    float *dense = mem_take((size_t)(w->rows * w->cols) * sizeof *dense, name);
    if (!dense) return CHI_ENOMEM;
    struct rows a = { .w = w, .dense = dense };
    rows_run(&a, dense_rows);
    *out = (struct weights){ .rows = 0 };
    *error = INFINITY;
    chi_status s = w->q && e->portable->integer ? try_merged(w, w, e, name, out, error) : CHI_OK;
    if (s == CHI_OK) s = try_quantizers(w, dense, usual, r, e, name, out, error);
    mem_free(dense);
    if (s == CHI_OK && !(*error < INFINITY))
        s = fail(CHI_ECONF, "%s: %s cannot hold %lld x %lld weights, whatever their scales", name, to->name,
                 (long long)w->rows, (long long)w->cols);
    if (s != CHI_OK) weights_drop(out);
    return s;
}
