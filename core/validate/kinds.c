/* kinds.c - see kinds.h.                                                                      */
#include "kinds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "hosting.h"
#include "reference.h"

/* ---- options ---------------------------------------------------------------------------- */

static void draw_int(struct trial *t, const struct chi_option *o, char *out, size_t size)
{
    static const int some[] = { 1, 2, 3, 5, 8, 64, 128, 192, 7, 1000 };
    int64_t lo = o->min < -9e18 ? INT64_MIN : (int64_t)o->min, hi = o->max > 9e18 ? INT64_MAX : (int64_t)o->max;
    int64_t v = some[trial_between(t, 0, COUNT(some) - 1)];
    snprintf(out, size, "%s = %lld\n", o->name, (long long)(v < lo ? lo : v > hi ? hi : v));
}

/* Value i of n, counted from the default: each case has the next one                           */
static int64_t next_value(const struct trial *t, int64_t i, int64_t n, int64_t start)
{
    return (start + i + (int64_t)(t->seed % 1000)) % n;
}

static void draw_enum(const struct trial *t, int64_t i, const struct chi_option *o, char *out, size_t size)
{
    int64_t n = 1;
    const char *at = o->choices;
    for (const char *c = at; *c; c++) n += *c == '|';
    for (n = next_value(t, i, n, 0); n; n--) at = strchr(at, '|') + 1;
    snprintf(out, size, "%s = %.*s\n", o->name, (int)strcspn(at, "|"), at);
}

static void draw_list(struct trial *t, const struct chi_option *o, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "%s = ", o->name);
    for (int64_t i = trial_between(t, 1, 3); i > 0 && n < size; i--)
        n += (size_t)snprintf(out + n, size - n, "%.6g%s", fmin(fmax((double)trial_between(t, 1, 8), o->min), o->max),
                              i > 1 ? ", " : "\n");
}

/* A line for the option of case i, or nothing: its default                                     */
static void draw_option(struct trial *t, int64_t i, const struct chi_option *o, char *out, size_t size)
{
    double v;
    bool choice = o->type == CHI_OPT_ENUM || o->type == CHI_OPT_BOOL;
    *out = 0;
    if (o->fallback && !choice && trial_between(t, 0, 2) == 0) return;
    switch (o->type) {
    case CHI_OPT_INT:  draw_int(t, o, out, size); break;
    case CHI_OPT_ENUM: draw_enum(t, i, o, out, size); break;
    case CHI_OPT_LIST: draw_list(t, o, out, size); break;
    case CHI_OPT_BOOL: snprintf(out, size, "%s = %s\n", o->name, next_value(t, i, 2, 0) ? "yes" : "no"); break;
    case CHI_OPT_FLOAT:
        v = (o->fallback ? strtod(o->fallback, NULL) : (o->min + o->max) / 2) * (1 + 0.5 * (double)trial_uniform(t));
        snprintf(out, size, "%s = %.6g\n", o->name, fmin(fmax(v, o->min), o->max));
        break;
    default: break;
    }
}

static char *draw_text(struct trial *t, int64_t i, const char *fixed)
{
    char *all = xprintf("[it]\n%s", fixed ? fixed : "");
    for (const struct chi_option *o = t->component->options; o && o->name; o++) {
        char line[160], *key = xprintf("\n%s =", o->name);
        draw_option(t, i, o, line, sizeof line);
        if (!strstr(all, key) && (i || !o->fallback)) {
            char *longer = xprintf("%s%s", all, line);
            free(all);
            all = longer;
        }
        free(key);
    }
    return all;
}

/* "[it]\na = 1\nb = 2\n" in one line                                                           */
static void in_words(const char *text, char out[DRAWN_TEXT])
{
    snprintf(out, DRAWN_TEXT, "%s", text[5] ? text + 5 : "defaults\n");
    for (char *c = out; *c; c++)
        if (*c == '\n') *c = c[1] ? ',' : 0;
}

static chi_status read_options(struct bench_part *b, struct trial *t, const char *text)
{
    const struct chi_component *c = t->component;
    TRY(config_load_text(&b->config, "drawn options", text, NULL, 0));
    if (c->options) config_parse(b->config, "it", c->options, b->conf, NULL);
    else config_ignore(b->config, "it");
    TRY(config_finish(b->config));
    return c->check ? c->check(b->host, b->conf) : CHI_OK;
}

bool part_bench_open(struct bench_part *b, struct trial *t, int64_t i, const char *fixed)
{
    enum { TRIES = 100, ORDERLY = 30 };         /* then any values, since some exclude others   */
    for (int tries = 0; tries < TRIES; tries++) {
        char *text = draw_text(t, tries < ORDERLY || !i ? i : trial_between(t, 1, 1000), fixed);
        *b = (struct bench_part){ .host = host_open(NULL, t->component->name) };
        b->host->k = &reference_kernels;
        b->conf = xcalloc(1, t->component->conf_size);
        in_words(text, b->options);
        bool ok = read_options(b, t, text) == CHI_OK;
        free(text);
        if (ok) return true;
        part_bench_close(b);
    }
    trial_fail(t, "none of %d draws of options is accepted; the last refusal: %s", TRIES, fail_text());
    return false;
}

void part_bench_close(struct bench_part *b)
{
    config_free(b->config);
    host_close(b->host);
    free(b->conf);
    b->config = NULL;
    b->host = NULL;
    b->conf = NULL;
}

/* ---- guarded blocks ---------------------------------------------------------------------- */

void *pile_take(struct pile *p, int64_t bytes, int64_t align, bool at_end, const char *name)
{
    void *block = p->n < COUNT(p->p) ? guard_take(bytes, align, at_end, name) : NULL;
    if (!block) return NULL;
    guard_spoil(block);
    return p->p[p->n++] = block;
}

const void *pile_copy(struct pile *p, const void *from, int64_t bytes, int64_t align, bool at_end, const char *name)
{
    void *block = pile_take(p, bytes, align, at_end, name);
    if (block && bytes) memcpy(block, from, (size_t)bytes);
    if (block) guard_read_only(block, true);
    return block;
}

void pile_drop(struct pile *p)
{
    while (p->n) guard_drop(p->p[--p->n]);
}

bool call_guarded(struct trial *t, const char *op, const char *with, void (*f)(void *), void *arg)
{
    char words[GUARD_WORDS];
    const char *broken;
    if (!guard_call(f, arg, words)) {
        trial_fail(t, "%s %s (%s)", op, words, with);
        return false;
    }
    if ((broken = guard_broken())) trial_fail(t, "%s writes beside %s (%s)", op, broken, with);
    return !broken;
}

bool same_floats(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

void draw_floats(struct trial *t, float *x, int64_t n, int kind)
{
    static const float special[] = { 0, -0.0f, 0.5f, -1.5f, 88.72f, -103.9f, 1e-30f, 2e30f };
    for (int64_t i = 0; i < n; i++) {
        float u = trial_uniform(t);
        x[i] = kind == 0 ? u : kind == 1 ? 120 * u : kind == 2 ? u * 0x1p-128f
             : special[trial_between(t, 0, COUNT(special) - 1)];
    }
}

/* ---- matrices -------------------------------------------------------------------------------- */

int matrix_groups(const char *values, int64_t cols, int64_t group[4])
{
    bool ternary = !strcmp(values, "ternary");
    if (!ternary) group[0] = strcmp(values, "int8") != 0 ? 1 : cols;
    for (int i = 0; ternary && i < 3; i++) group[i] = (const int64_t[]){ 128, 64, 192 }[i];
    return ternary ? 3 : 1;
}

/* Scales that 11 bits hold, as floats of 16 bits have them; float classes: the values themselves  */
static float draw_scale(struct trial *t, const char *values, int64_t i)
{
    if (!strcmp(values, "f32")) return i % 7 == 3 ? -0.0f : i % 11 == 5 ? 0x1.8p-140f : trial_uniform(t);
    if (!strcmp(values, "bf16")) return i % 7 == 3 ? -0.0f : (float)trial_between(t, -127, 127) / 64;
    if (!strcmp(values, "int8")) return trial_uniform(t);
    return (float)trial_between(t, -2047, 2047) / 65536;
}

bool matrix_draw(struct matrix *m, struct trial *t, const char *values, int64_t rows, int64_t cols, int64_t group,
                 int extreme)
{
    bool ternary = !strcmp(values, "ternary"), bytes = !strcmp(values, "int8");
    int64_t n = rows * cols, scales = rows * ceil_div(cols, group), most = ternary ? 1 : 127;
    *m = (struct matrix){ .values = values, .rows = rows, .cols = cols, .group = group, .integer = ternary || bytes };
    if (!m->integer && strcmp(values, "f32") != 0 && strcmp(values, "bf16") != 0) return false;
    m->scale = xcalloc((size_t)scales, sizeof *m->scale);
    for (int64_t i = 0; i < scales; i++) m->scale[i] = draw_scale(t, values, i);
    if (!m->integer) return true;
    m->q = xcalloc((size_t)n, 1);
    for (int64_t i = 0; i < n; i++) {
        bool plus = extreme == EXTREME_ONES || i % cols % 2;
        m->q[i] = (int8_t)(extreme ? (plus ? most : -most) : trial_between(t, -most, most));
    }
    return true;
}

void matrix_turn(struct matrix *m, int way)
{
    int64_t groups = ceil_div(m->cols, m->group), some = way >> 1;
    for (int64_t i = 0; way & 1 && m->integer && i < m->rows * groups; i++)
        m->scale[i] = m->scale[i / groups * groups];
    for (int64_t i = 0; some && m->q && i < m->rows * m->cols; i++) {
        int64_t r = i / m->cols, k = i % m->cols;
        if ((k + r + k / 4) % 4 >= some) m->q[i] = 0;
        else if (!m->q[i]) m->q[i] = i % 3 ? 1 : -1;
    }
}

bool matrix_held(const struct chi_encoding_ops *e, const struct matrix *m)
{
    return !CHI_HAS(struct chi_encoding_ops, e, holds) || e->holds(m->q, m->scale, m->rows, m->cols, m->group);
}

bool matrix_draw_held(struct matrix *m, struct trial *t, const struct chi_encoding_ops *e, int64_t rows, int64_t cols,
                      int64_t group, int extreme)
{
    if (e->bytes(rows, cols, group) <= 0) return false;
    for (int way = WAY_ANY; way < WAYS; way++) {
        if (!matrix_draw(m, t, e->values, rows, cols, group, extreme)) return false;
        matrix_turn(m, way);
        if (matrix_held(e, m)) return true;
        matrix_drop(m);
    }
    return false;
}

void matrix_drop(struct matrix *m)
{
    free(m->q);
    free(m->scale);
    *m = (struct matrix){ 0 };
}

void acts_draw(struct acts *a, struct trial *t, int64_t rows, int64_t d_in, int extreme)
{
    int64_t ldq = round_up(d_in, CHI_ACT_BLOCK) + CHI_ACT_BLOCK * (d_in % 3 == 0), blocks = ldq / CHI_ACT_BLOCK;
    a->x = xcalloc((size_t)(rows * d_in), sizeof *a->x);
    a->q = xcalloc((size_t)(rows * ldq), 1);
    a->step = xcalloc((size_t)(rows * blocks), sizeof *a->step);
    a->sum = xcalloc((size_t)(rows * blocks), sizeof *a->sum);
    for (int64_t r = 0; r < rows; r++) {
        float *x = a->x + r * d_in;
        for (int64_t k = 0; k < d_in; k++) {
            bool plus = extreme == EXTREME_ONES || (k % 2) == (extreme == EXTREME_AGREE);
            x[k] = extreme ? (plus ? 2.0f : -2.0f) : trial_uniform(t);
        }
        reference_kernels.quantize_i8(a->q + r * ldq, a->step + r * blocks, a->sum + r * blocks, x, d_in);
    }
    a->act = (struct chi_act){ rows, d_in, a->x, d_in, a->q, ldq, a->step, a->sum };
}

void acts_drop(struct acts *a)
{
    free(a->x);
    free(a->q);
    free(a->step);
    free(a->sum);
    *a = (struct acts){ .x = NULL };
}

struct chi_act acts_guarded(struct pile *p, const struct acts *a, bool integer, bool at_end)
{
    struct chi_act g = a->act;
    int64_t n = g.rows * g.ldq, blocks = n / CHI_ACT_BLOCK;
    g.x = integer ? NULL : pile_copy(p, a->x, g.rows * g.d_in * (int64_t)sizeof *g.x, 4, at_end, "x");
    g.q = integer ? pile_copy(p, a->q, n, 1, at_end, "q of the activations") : NULL;
    g.step = integer ? pile_copy(p, a->step, blocks * (int64_t)sizeof *g.step, 4, at_end, "the steps") : NULL;
    g.sum = integer ? pile_copy(p, a->sum, blocks * (int64_t)sizeof *g.sum, 2, at_end, "the sums") : NULL;
    return g;
}

/* kernel.h, chi_linear_kernel.run: every * and + is rounded by itself                             */
float product_of(const struct matrix *m, const struct chi_act *a, int64_t r, int64_t o)
{
    int64_t groups = ceil_div(m->cols, m->group), blocks = a->ldq / CHI_ACT_BLOCK;
    const float *scale = m->scale + o * groups;
    float y = 0;
    if (!m->integer) {
        for (int64_t k = 0; k < m->cols; k++) y += a->x[r * a->ldx + k] * scale[k];
        return y;
    }
    const int8_t *q = a->q + r * a->ldq, *w = m->q + o * m->cols;
    for (int64_t g = 0; g < groups; g++) {
        int64_t end = min_i64((g + 1) * m->group, m->cols);
        float p = 0;
        for (int64_t k0 = g * m->group; k0 < end; k0 += CHI_ACT_BLOCK) {
            int32_t sum = 0;
            for (int64_t k = k0; k < min_i64(k0 + CHI_ACT_BLOCK, end); k++) sum += w[k] * q[k];
            p += (float)sum * a->step[r * blocks + k0 / CHI_ACT_BLOCK];
        }
        y += scale[g] * p;
    }
    return y;
}
