/* rig.c - a layer on the bench; see rig.h.                                               */
#include "rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "pool.h"

enum { DRAWS = 200, PROBE_ROWS = 48, SMALL = 6000, ORDERLY = 40 };

/* ---- cases --------------------------------------------------------------------------- */

/* How a draw is made.  The first case has the least sizes that work; all begin small and come closer to the
 * defaults with every refusal, since an option may be a limit that small numbers make useless.  While refusals
 * are few, a case goes through what chance might leave out: case 1 has odd sizes, and each case the next value
 * of every enum and switch.                                                                      */
struct taste {
    int64_t index, turn;                /* of the case; of the option's values                    */
    bool first, orderly;
    int64_t plain;                      /* of 100 options so many keep the default                */
};

static const int small_sizes[] = { 2, 3, 1, 4, 5, 7, 8, 16 };

static int64_t pick_size(struct trial *t, const struct taste *how, int64_t tries)
{
    if (how->first) return small_sizes[min_i64(tries + how->plain / 10, COUNT(small_sizes) - 1)];
    int64_t v = small_sizes[trial_between(t, 0, COUNT(small_sizes) - 1)];
    return how->orderly && how->index == 1 ? v | 1 : v;
}

static void draw_int(struct trial *t, const struct chi_option *o, const struct taste *how, char *out, size_t size)
{
    int64_t lo = o->min < -9e18 ? INT64_MIN : (int64_t)o->min, hi = o->max > 9e18 ? INT64_MAX : (int64_t)o->max;
    for (int64_t tries = 0; tries < 8; tries++) {
        int64_t v = pick_size(t, how, tries);
        if (v < lo || v > hi) continue;
        snprintf(out, size, "%s = %lld\n", o->name, (long long)v);
        return;
    }
    int64_t v = lo > INT64_MAX - 3 ? hi : min_i64(hi, lo + trial_between(t, 0, 3));
    snprintf(out, size, "%s = %lld\n", o->name, (long long)v);
}

/* Near the default; from zero, up to one                                                   */
static void draw_float(struct trial *t, const struct chi_option *o, const struct taste *how, char *out, size_t size)
{
    double v = o->fallback ? strtod(o->fallback, NULL) : fmin(fmax(0.5, o->min), o->max);
    if (!how->first && v != 0) v *= 1 + 0.5 * (double)trial_uniform(t);
    else if (!how->first && trial_between(t, 0, 1)) v = fabs((double)trial_uniform(t));
    snprintf(out, size, "%s = %.6g\n", o->name, fmin(fmax(v, o->min), o->max));
}

/* Value i of n: in order from the default on, or any                                       */
static int64_t pick(struct trial *t, const struct taste *how, int64_t n, int64_t start)
{
    return how->orderly ? (start + how->turn) % n : trial_between(t, 0, n - 1);
}

static void draw_enum(struct trial *t, const struct chi_option *o, const struct taste *how, char *out, size_t size)
{
    int64_t n = 0, start = 0;
    size_t length = o->fallback ? strlen(o->fallback) : 0;
    for (const char *c = o->choices; *c; c += strcspn(c, "|"), c += *c == '|', n++)
        if (strcspn(c, "|") == length && !strncmp(c, o->fallback, length)) start = n;
    const char *at = o->choices;
    for (int64_t skip = pick(t, how, n, start); skip; skip--) at = strchr(at, '|') + 1;
    snprintf(out, size, "%s = %.*s\n", o->name, (int)strcspn(at, "|"), at);
}

/* One to three small numbers                                                               */
static void draw_list(struct trial *t, const struct chi_option *o, const struct taste *how, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "%s = ", o->name);
    for (int64_t i = trial_between(t, 1, 3); i > 0 && n < size; i--) {
        double v = fmin(fmax((double)pick_size(t, how, 0), o->min), o->max);
        n += (size_t)snprintf(out + n, size - n, "%.6g%s", v, i > 1 ? ", " : "\n");
    }
}

/* A line for the option, or nothing: its default.  Paths, components and optional texts are not guessed.  */
static void draw_option(struct trial *t, const struct chi_option *o, const struct taste *how, char *out, size_t size)
{
    bool no = how->first && o->fallback;
    *out = 0;
    if (o->flags & CHI_OPT_DEPRECATED || (o->fallback && trial_between(t, 0, 99) < how->plain)) return;
    switch (o->type) {
    case CHI_OPT_INT:   draw_int(t, o, how, out, size); break;
    case CHI_OPT_FLOAT: draw_float(t, o, how, out, size); break;
    case CHI_OPT_BOOL:
        if (!no) snprintf(out, size, "%s = %s\n", o->name,
                          pick(t, how, 2, o->fallback && !strcmp(o->fallback, "yes")) ? "yes" : "no");
        break;
    case CHI_OPT_ENUM:
        if (!no && o->choices) draw_enum(t, o, how, out, size);
        break;
    case CHI_OPT_LIST:
        if (!no) draw_list(t, o, how, out, size);
        break;
    case CHI_OPT_STRING:
        if (!o->fallback) snprintf(out, size, "%s = x\n", o->name);
        break;
    default: break;
    }
}

static int64_t draw_width(struct trial *t, const struct taste *how)
{
    static const int width[] = { 8, 12, 7, 16, 9, 5, 24, 32, 64 };
    if (how->first && how->plain < 20) return width[0];
    int64_t d = width[trial_between(t, 0, how->plain < 50 ? COUNT(width) - 3 : COUNT(width) - 1)];
    return how->orderly && how->index == 1 ? d | 1 : d;
}

static void draw_case(struct trial *t, struct taste how, struct layer_case *c)
{
    size_t used = 0;
    *c = (struct layer_case){ .d = draw_width(t, &how), .linear = "quantizer = f32\n" };
    how.turn = how.index;
    for (const struct chi_option *o = t->component->options; o && o->name; o++) {
        char line[160];
        draw_option(t, o, &how, line, sizeof line);
        if (o->type == CHI_OPT_ENUM || o->type == CHI_OPT_BOOL) how.turn += (int64_t)((t->seed + 999) % 1000);
        size_t n = strlen(line);
        if (used + n + 1 > sizeof c->options) break;
        memcpy(c->options + used, line, n + 1);
        used += n;
    }
}

/* ---- a layer that is open -------------------------------------------------------------- */

/* The plugin itself is preferred by the registry, so no path stands in the text             */
chi_status case_spec(struct trial *t, const struct layer_case *c, struct spec **out)
{
    struct config *config;
    char *text = xprintf("[model]\nhidden_size = %lld\nnum_hidden_layers = 1\nvocab_size = 97\n"
                         "layer_pattern = X\nffn_pattern = X\n[run]\nthreads = 1\nmemory_limit_mb = 1024\n"
                         "[layer.X]\nuse = %s\n%s[linear]\n%s",
                         (long long)c->d, t->component->name, c->options, c->linear);
    chi_status s = config_load_text(&config, "drawn options", text, NULL, 0);
    free(text);
    return s == CHI_OK ? spec_open(out, config, SPEC_MODEL) : s;
}

static chi_status open_case(struct rig *r, struct trial *t, const struct layer_case *c, bool training,
                            int64_t max_rows, int64_t max_segs)
{
    *r = (struct rig){ .trial = t, .is = c, .d = c->d, .max_rows = max_rows, .max_segs = max_segs };
    TRY(case_spec(t, c, &r->spec));
    TRY(solo_open(&r->solo, r->spec, &r->spec->mixer[0], training, max_rows, max_segs));
    r->state_bytes = round_up(max_i64(solo_state_bytes(r->solo), 1), 64);
    return CHI_OK;
}

/* Numbers that the layer works with, if it opens and takes a stream of PROBE_ROWS rows; else -1 */
static int64_t case_size(struct trial *t, const struct layer_case *c)
{
    const struct model_tensor *w;
    struct rig r;
    int64_t n = -1;
    if (open_case(&r, t, c, false, PROBE_ROWS, 1) == CHI_OK) {
        struct chi_segment g = rig_segment(0, PROBE_ROWS, 0, 1, rig_block(&r, r.state_bytes));
        float *x = rig_random_rows(&r, PROBE_ROWS, 1), *y = rig_rows(&r, PROBE_ROWS);
        if (solo_forward(r.solo, &g, 1, false, x, y) == CHI_OK) n = r.state_bytes / 4;
    }
    for (int64_t i = 0; n >= 0 && (w = solo_tensor(r.solo, i)); i++) n += w->n;
    rig_close(&r);
    return n;
}

bool case_works(struct trial *t, const struct layer_case *c)
{
    return case_size(t, c) >= 0;
}

const char *refusal(void)
{
    const char *text = fail_text();
    return strncmp(text, ": ", 2) ? text : text + 2;
}

/* The first draw that works and is small; if none is, the smallest one                      */
bool layer_case(struct trial *t, int64_t i, struct layer_case *c)
{
    uint64_t kept = t->draw;
    int64_t least = -1;
    t->draw = t->seed * 1000003u + (uint64_t)i * 0x10001u;
    for (int tries = 0; tries < DRAWS; tries++) {
        struct layer_case draw;
        draw_case(t, (struct taste){ .index = i, .first = i == 0 && tries < DRAWS / 2, .orderly = tries < ORDERLY,
                                     .plain = tries % (DRAWS / 2) }, &draw);
        int64_t size = case_size(t, &draw);
        if (size < 0 || (least >= 0 && size >= least)) continue;
        *c = draw;
        least = size;
        if (size <= SMALL) break;
    }
    t->draw = kept;
    if (least < 0)
        trial_fail(t, "none of %d draws of options gives a layer that runs %d rows; the last refusal: %s", DRAWS,
                   PROBE_ROWS, refusal());
    return least >= 0;
}

const char *case_words(const struct layer_case *c)
{
    static char text[CASE_TEXT + 64];
    int n = snprintf(text, sizeof text, "hidden_size %lld, %.*s", (long long)c->d, (int)strcspn(c->linear, "\n"),
                     c->linear);
    for (const char *at = c->options; *at; at += strcspn(at, "\n") + 1) {
        const char *eq = strstr(at, " = ");
        n += snprintf(text + n, sizeof text - (size_t)n, ", %.*s %.*s", (int)(eq - at), at,
                      (int)strcspn(eq + 3, "\n"), eq + 3);
    }
    return text;
}

void rig_weights(struct rig *r, uint64_t seed)
{
    const struct model_tensor *w;
    uint64_t kept = r->trial->draw;
    r->trial->draw = seed;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++) {
        float scale = w->linear ? 2 / sqrtf((float)w->shape[1]) : 0.5f;
        for (int64_t j = 0; j < w->n; j++) w->w[j] = (w->linear ? 0 : w->w[j]) + scale * trial_uniform(r->trial);
    }
    r->trial->draw = kept;
    trial_must(r->trial, solo_bind(r->solo), "binding random weights");
}

bool rig_open(struct rig *r, struct trial *t, const struct layer_case *c, bool training, int64_t max_rows,
              int64_t max_segs)
{
    chi_status s = open_case(r, t, c, training, max_rows, max_segs);
    if (s != CHI_OK) {
        trial_fail(t, "opening it with %s: %s", case_words(c), fail_text());
        rig_close(r);
        return false;
    }
    rig_weights(r, t->seed + 1);
    return true;
}

void rig_close(struct rig *r)
{
    solo_close(r->solo);
    spec_close(r->spec);
    for (int64_t i = 0; i < r->n_block; i++) free(r->block[i]);
    free(r->block);
    *r = (struct rig){ 0 };
}

void rig_zero_grads(struct rig *r)
{
    const struct model_tensor *w;
    for (int64_t i = 0; (w = solo_tensor(r->solo, i)); i++)
        if (w->g) memset(w->g, 0, (size_t)w->n * sizeof *w->g);
}

/* ---- rows and calls --------------------------------------------------------------------- */

void *rig_block(struct rig *r, int64_t bytes)
{
    size_t n = (size_t)round_up(max_i64(bytes, 1), 64);
    void *p = aligned_alloc(64, n);
    if (!p) return xcalloc(n, 1);                       /* ends the program                   */
    memset(p, 0, n);
    r->block = xrealloc(r->block, (size_t)(r->n_block + 1) * sizeof *r->block);
    return r->block[r->n_block++] = p;
}

float *rig_rows(struct rig *r, int64_t rows)
{
    return rig_block(r, rows * r->d * (int64_t)sizeof(float));
}

float *rig_random_rows(struct rig *r, int64_t rows, float scale)
{
    float *x = rig_rows(r, rows);
    for (int64_t i = 0; i < rows * r->d; i++) x[i] = scale * trial_uniform(r->trial);
    return x;
}

struct chi_segment rig_segment(int64_t first, int64_t rows, int64_t pos, uint64_t stream, void *state)
{
    return (struct chi_segment){ .first = first, .rows = rows, .pos = pos, .stream = stream, .fresh = pos == 0,
                                 .state = state };
}

static bool call_ok(struct rig *r, chi_status s, const char *op)
{
    if (s != CHI_OK) trial_fail(r->trial, "%s with %s: %s", op, case_words(r->is), fail_text());
    return s == CHI_OK;
}

bool rig_forward(struct rig *r, const struct chi_segment *g, int64_t n, bool keep, const float *x, float *y)
{
    return call_ok(r, solo_forward(r->solo, g, n, keep, x, y), "forward");
}

bool rig_step(struct rig *r, const struct chi_segment *g, int64_t n, const float *x, float *y)
{
    return call_ok(r, solo_step(r->solo, g, n, x, y), "step");
}

bool rig_backward(struct rig *r, const struct chi_segment *g, int64_t n, const float *x, const float *dy, float *dx)
{
    return call_ok(r, solo_backward(r->solo, g, n, x, dy, dx), "backward");
}

/* ---- comparisons -------------------------------------------------------------------------- */

bool rig_same(struct rig *r, const char *what, const float *got, const float *want, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows * cols; i++) {
        if (!memcmp(&got[i], &want[i], sizeof *got) || (isnan(got[i]) && isnan(want[i]))) continue;
        trial_fail(r->trial, "%s: row %lld, column %lld is %.9g, wanted are the bits of %.9g (%s)", what,
                   (long long)(i / cols), (long long)(i % cols), (double)got[i], (double)want[i], case_words(r->is));
        return false;
    }
    return true;
}

bool rig_same_bytes(struct rig *r, const char *what, const void *got, const void *want, int64_t bytes)
{
    const unsigned char *a = got, *b = want;
    for (int64_t i = 0; i < bytes; i++) {
        if (a[i] == b[i]) continue;
        trial_fail(r->trial, "%s: byte %lld of %lld differs (%s)", what, (long long)i, (long long)bytes,
                   case_words(r->is));
        return false;
    }
    return true;
}

double rig_distance(const float *got, const float *want, int64_t n)
{
    double worst = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = fabs((double)got[i] - (double)want[i]);
        if (!(e <= worst)) worst = e;
        size = fmax(size, fabs((double)want[i]));
        if (isnan(worst)) break;
    }
    return worst / (size + 1e-30);
}
