/* carry.c - see carry.h.
 *
 *     out:  w = fl(scale q), which F16 has exactly when scale is a half and q a trit
 *     in:   q = rne(w / scale), and fl(scale q) = w is checked; without a scale the trits of a group are the
 *           signs of its values, which all have the same size or are 0                                        */
#include "carry.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "half.h"
#include "mapped.h"

void carried_drop(struct carried *c)
{
    mem_free(c->data);
    *c = (struct carried){ .plain = true };
}

chi_status carry_open(const struct packed_tensor *t, struct registry *r, const struct chi_component **encoding)
{
    TRY(registry_find(r, CHI_ENCODING, t->encoding, encoding));
    const struct chi_encoding_ops *e = (*encoding)->ops;
    TRY(packed_check(t));
    if (e->bytes(t->rows, t->cols, t->group) == t->t->bytes) return CHI_OK;
    return fail(CHI_EDATA, "%s: %s has %lld bytes, as %s in groups of %lld it would have %lld", t->path, t->t->name,
                (long long)t->t->bytes, t->encoding, (long long)t->group,
                (long long)e->bytes(t->rows, t->cols, t->group));
}

chi_status carry_read(struct weights *w, const struct packed_tensor *t, const struct chi_component *encoding, int64_t r0,
                      int64_t r1)
{
    const struct chi_encoding_ops *e = encoding->ops;
    TRY(weights_take(w, e->portable->integer, r1 - r0, t->cols, t->group, t->t->name));
    weights_decode_rows(w, e, t->t->data, t->rows, r0);
    if (values_fit(e->values, w->q, w->scale, w->rows * w->cols, w->rows * w->groups)) return CHI_OK;
    weights_drop(w);
    return fail(CHI_EDATA, "%s: %s holds numbers that are no %s weights: another program wrote it, or it was changed",
                t->path, t->t->name, e->values);
}

/* ---- back to integers ------------------------------------------------------------------------------------- */

static bool same_bits(float a, float b)
{
    return !memcmp(&a, &b, sizeof a);
}

/* One group of n values; *scale is known, or found if find is set.  False: these are no such products          */
static bool recover_group(const float *w, int64_t n, bool find, float *scale, int8_t *q)
{
    if (find) *scale = 0;
    for (int64_t k = 0; find && k < n && *scale == 0; k++) *scale = fabsf(w[k]);
    for (int64_t k = 0; k < n; k++) {
        double x = *scale != 0 ? nearbyint((double)w[k] / (double)*scale) : 0;
        if (!(x >= -127 && x <= 127)) return false;
        q[k] = (int8_t)x;
        if (!same_bits(*scale * q[k], w[k])) return false;
    }
    return true;
}

/* Fills q and scale of w from the floats; scale is read if it is given                                         */
static bool recover_row(struct weights *w, int64_t r, const float *row, const float *scale)
{
    for (int64_t g = 0; g < w->groups; g++) {
        int64_t k = g * w->group;
        float *s = &w->scale[r * w->groups + g];
        if (scale) *s = scale[r * w->groups + g];
        if (!recover_group(row + k, min_i64(w->group, w->cols - k), !scale, s, w->q + r * w->cols + k)) return false;
    }
    return true;
}

/* Do the floats alone give the same integers and scales?  with: scales are known                                */
static chi_status recovers(const struct weights *w, bool with, const char *name, bool *yes)
{
    struct weights back;
    float *row = mem_take((size_t)w->cols * sizeof *row, name);
    if (!row) return CHI_ENOMEM;
    chi_status s = weights_take(&back, true, w->rows, w->cols, w->group, name);
    *yes = s == CHI_OK;
    for (int64_t r = 0; *yes && r < w->rows; r++) {
        weights_row(w, r, row);
        *yes = recover_row(&back, r, row, with ? w->scale : NULL);
    }
    if (*yes)
        *yes = !memcmp(back.q, w->q, (size_t)(w->rows * w->cols))
               && !memcmp(back.scale, w->scale, (size_t)(w->rows * w->groups) * sizeof *w->scale);
    if (s == CHI_OK) weights_drop(&back);
    mem_free(row);
    return s;
}

/* Do the rows come back, by their floats alone or with their scales beside them?                               */
static chi_status comes_back(struct carried *c, const struct weights *w, const char *name)
{
    bool scaled = true;
    if (!w->q) return CHI_OK;
    TRY(recovers(w, false, name, &c->plain));
    if (!c->plain) TRY(recovers(w, true, name, &scaled));
    if (scaled) return CHI_OK;
    return fail(CHI_ECONF, "%s: its products of scale and integer underflow: floats cannot carry it exactly", name);
}

/* ---- out ---------------------------------------------------------------------------------------------------- */

static const char *tq_name(int type)
{
    return type == GGUF_TQ1_0 ? "tq1_0" : "tq2_0";
}

static chi_status as_blocks(struct carried *c, const struct weights *w, const char *values, int type,
                            struct registry *r, const char *name)
{
    const struct chi_component *to;
    TRY(registry_find(r, CHI_ENCODING, tq_name(type), &to));
    TRY(fit_exact(w, values, to, name, &c->data));
    c->bytes = gguf_bytes(type, w->rows * w->cols);
    return CHI_OK;
}

static chi_status as_halves(struct carried *c, const struct weights *w, const char *name)
{
    bool exact = true;
    float *row = mem_take((size_t)w->cols * sizeof *row, name);
    uint16_t *to = mem_take((size_t)(w->rows * w->cols) * sizeof *to, name);
    c->data = to;
    c->bytes = w->rows * w->cols * (int64_t)sizeof *to;
    chi_status s = row && to ? CHI_OK : CHI_ENOMEM;
    for (int64_t r = 0; s == CHI_OK && exact && r < w->rows; r++) {
        weights_row(w, r, row);
        for (int64_t k = 0; k < w->cols; k++) exact = half_exact(row[k], &to[r * w->cols + k]) && exact;
    }
    mem_free(row);
    if (s == CHI_OK && !exact) s = fail(CHI_ECONF, "%s: F16 does not hold its values exactly", name);
    return s == CHI_OK ? comes_back(c, w, name) : s;
}

static chi_status as_floats(struct carried *c, const struct weights *w, const char *name)
{
    float *to = mem_take((size_t)(w->rows * w->cols) * sizeof *to, name);
    if (!to) return CHI_ENOMEM;
    for (int64_t r = 0; r < w->rows; r++) weights_row(w, r, to + r * w->cols);
    c->data = to;
    c->bytes = w->rows * w->cols * (int64_t)sizeof *to;
    return comes_back(c, w, name);
}

int carry_first(int wanted, const struct chi_component *encoding)
{
    bool trits = !strcmp(((const struct chi_encoding_ops *)encoding->ops)->values, "ternary");
    if (wanted == GGUF_F16 || wanted == GGUF_F32) return wanted;
    return !trits ? GGUF_F16 : wanted == CARRY_BEST ? GGUF_TQ2_0 : wanted;
}

int carry_next(int type)
{
    return type == GGUF_F32 ? CARRY_BEST : type == GGUF_F16 ? GGUF_F32 : GGUF_F16;
}

/* Of blocks: why those of 256 do not hold these trits                                                            */
const char *carry_why(int type, int64_t cols)
{
    if (type == GGUF_F16) return "values that are no halves";
    return cols % 256 ? "rows of no multiple of 256" : "several scales in a block of 256, or one that is no half";
}

chi_status carry_out(struct carried *c, const struct weights *w, const struct chi_component *encoding, int type,
                     struct registry *r, const char *name)
{
    const char *values = ((const struct chi_encoding_ops *)encoding->ops)->values;
    *c = (struct carried){ .plain = true };
    chi_status s = type == GGUF_F32 ? as_floats(c, w, name) : type == GGUF_F16 ? as_halves(c, w, name)
                 : as_blocks(c, w, values, type, r, name);
    if (s != CHI_OK) carried_drop(c);
    return s;
}

/* ---- lines ---------------------------------------------------------------------------------------------------- */

static bool take(const char **p, const char *key)
{
    size_t n = strlen(key);
    if (strncmp(*p, key, n) != 0) return false;
    *p += n;
    return true;
}

static bool count(const char **p, int64_t *v)
{
    const char *from = *p;
    for (*v = 0; **p >= '0' && **p <= '9' && *v <= (int64_t)1 << 40; ++*p) *v = *v * 10 + (**p - '0');
    return *p > from && *v > 0 && *v <= (int64_t)1 << 40;
}

static bool name(const char **p, const char *of, char *out, size_t room)
{
    size_t n = of ? strspn(*p, of) : strcspn(*p, " \n");
    if (!n || n >= room) return false;
    memcpy(out, *p, n);
    out[n] = 0;
    *p += n;
    return true;
}

bool carry_line(const char **p, struct carry_line *l)
{
    *l = (struct carry_line){ .rows = 0 };
    if (!name(p, NULL, l->name, sizeof l->name) || !take(p, " ")) return false;
    if (take(p, "encoding=")
        && (!name(p, "abcdefghijklmnopqrstuvwxyz0123456789_", l->encoding, sizeof l->encoding)
            || !take(p, " shape=") || !count(p, &l->rows) || !take(p, "x") || !count(p, &l->cols)
            || !take(p, " group=") || !count(p, &l->group) || !take(p, " ")))
        return false;
    if (!take(p, "xxh3=") || strspn(*p, "0123456789abcdef") != 16) return false;
    l->hash = strtoull(*p, NULL, 16);
    *p += 16;
    return take(p, "\n");
}

chi_status carry_check(const struct st_file *f)
{
    const char *p = st_meta(f, "tensors");
    while (p && *p) {
        struct carry_line l;
        if (!carry_line(&p, &l))
            return fail(CHI_EDATA, "%s: its list of tensors goes wrong before \"%.40s\"", st_path(f), p);
        const struct st_tensor *t = st_find(f, l.name);
        if (!t) return fail(CHI_EDATA, "%s: tensor %s is missing", st_path(f), l.name);
        uint64_t hash = xxh3(t->data, (size_t)t->bytes);
        mapped_let_go(t->data, t->bytes);
        if (hash != l.hash)
            return fail(CHI_EDATA, "%s: tensor %s is damaged: its XXH3 is %016llx, its line says %016llx", st_path(f),
                        l.name, (unsigned long long)hash, (unsigned long long)l.hash);
    }
    return CHI_OK;
}

/* ---- in ------------------------------------------------------------------------------------------------ */

static void row_of(float *out, int type, const void *data, int64_t r, int64_t cols)
{
    if (type == GGUF_F32) memcpy(out, (const unsigned char *)data + r * cols * 4, (size_t)cols * sizeof *out);
    for (int64_t k = 0; type == GGUF_F16 && k < cols; k++) {
        uint16_t h;
        memcpy(&h, (const unsigned char *)data + (r * cols + k) * 2, sizeof h);
        out[k] = half_value(h);
    }
}

static chi_status from_floats(struct weights *w, const struct carry_line *l, int type, const void *data,
                              const float *scale)
{
    float *row = mem_take((size_t)w->cols * sizeof *row, l->name);
    bool fine = row != NULL;
    for (int64_t r = 0; fine && r < w->rows; r++) {
        if (!w->q) row_of(w->scale + r * w->cols, type, data, r, w->cols);
        else {
            row_of(row, type, data, r, w->cols);
            fine = recover_row(w, r, row, scale);
        }
    }
    mem_free(row);
    if (!row) return CHI_ENOMEM;
    return fine ? CHI_OK
                : fail(CHI_EDATA,
                       "%s: its values are no products of integers with one scale for each %lld of a row",
                       l->name, (long long)l->group);
}

static chi_status from_blocks(struct weights *w, const struct carry_line *l, int type, const void *data,
                              struct registry *r)
{
    const struct chi_component *from;
    TRY(registry_find(r, CHI_ENCODING, tq_name(type), &from));
    const struct chi_encoding_ops *e = from->ops;
    if (!w->q || e->bytes(w->rows, w->cols, w->group) <= 0)
        return fail(CHI_EDATA, "%s: %s cannot hold %lld x %lld weights in groups of %lld for encoding %s",
                    l->name, from->name, (long long)w->rows, (long long)w->cols, (long long)w->group,
                    l->encoding);
    weights_decode(w, e, data);
    if (values_fit("ternary", w->q, w->scale, w->rows * w->cols, w->rows * w->groups)) return CHI_OK;
    return fail(CHI_EDATA, "%s: its blocks hold codes that are no trits, or scales that are not finite", l->name);
}

chi_status carry_in(struct weights *w, const struct carry_line *l, int type, const void *data, const float *scale,
                    struct registry *r, const struct chi_component **encoding)
{
    TRY(registry_find(r, CHI_ENCODING, l->encoding, encoding));
    const struct chi_encoding_ops *e = (*encoding)->ops;
    bool integer = e->portable->integer, blocks = type == GGUF_TQ1_0 || type == GGUF_TQ2_0;
    if (!integer && l->group != 1)
        return fail(CHI_EDATA, "%s: floats in groups of %lld, wanted 1", l->name, (long long)l->group);
    TRY(weights_take(w, integer, l->rows, l->cols, l->group, l->name));
    chi_status s = blocks ? from_blocks(w, l, type, data, r) : from_floats(w, l, type, data, scale);
    if (s == CHI_OK && !values_fit(e->values, w->q, w->scale, w->rows * w->cols, w->rows * w->groups))
        s = fail(CHI_EDATA, "%s: its numbers are no %s weights", l->name, e->values);
    if (s != CHI_OK) weights_drop(w);
    return s;
}
