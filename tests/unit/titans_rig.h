/* titans_rig.h - titans_mac alone with random parameters and rows: what test_titans_mac.c runs and compares. */
#ifndef TITANS_RIG_H
#define TITANS_RIG_H

#include "core.h"
#include "model.h"
#include "pool.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 40 };

struct shape { int64_t H, D, L, C, P, W, d, window; bool semi; double theta_max, max_norm; };

struct rig {
    struct shape c;
    struct spec *spec;
    struct solo *solo;
    unsigned char *state;
    float *x, *y;                           /* [ROWS][d]                         */
};

static uint64_t seed;

static float uniform(void)                  /* in [-1, 1)                        */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 40) / 8388608.0 - 1.0);
}

static void must(chi_status e)
{
    cr_assert_eq(e, CHI_OK, "%s", fail_text());
}

static float *weight(const struct rig *r, const char *name, int64_t *n)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = solo_tensor(r->solo, i)); i++)
        if (strcmp(t->name, name) == 0) {
            if (n) *n = t->n;
            return t->w;
        }
    cr_assert_fail("there is no parameter %s", name);
    return NULL;
}

static void set(const struct rig *r, const char *name, float value)
{
    int64_t n = 0;
    float *w = weight(r, name, &n);
    for (int64_t i = 0; i < n; i++) w[i] = value;
}

static struct rig rig_open(const struct shape *c)
{
    struct rig r = { .c = *c };
    struct config *config;
    const struct model_tensor *t;
    char *text = xprintf("[model]\nhidden_size = %d\nnum_hidden_layers = 1\nvocab_size = 97\n"
        "layer_pattern = X\nffn_pattern = X\n[layer.X]\nuse = titans_mac\nnum_heads = %d\nhead_dim = %d\n"
        "memory_depth = %d\nchunk = %d\npersistent_memory_slots = %d\nconv_size = %d\ntheta_max = %g\n"
        "max_norm = %g\nsemi_exact = %s\ncore = %s\nlocal_window_size = %d\n[linear]\nquantizer = f32\n",
        (int)c->d, (int)c->H, (int)c->D, (int)c->L, (int)c->C, (int)c->P, (int)c->W, c->theta_max,
        c->max_norm > 0 ? c->max_norm : 1000, c->semi ? "yes" : "no", c->window ? "window" : "gated",
        (int)max_i64(c->window, 1));
    must(config_load_text(&config, "test", text, NULL, 0));
    must(spec_open(&r.spec, config, SPEC_MODEL));
    pool_threads(1);                        /* tiny calls                        */
    must(solo_open(&r.solo, r.spec, &r.spec->mixer[0], true, ROWS, 1));
    free(text);
    seed = 1;
    for (int64_t i = 0; (t = solo_tensor(r.solo, i)); i++) {
        int64_t fan_in = t->shape[1] ? t->shape[1] : 1;
        float scale = t->linear ? 2 / sqrtf((float)fan_in) : 1;
        for (int64_t j = 0; j < t->n; j++)
            t->w[j] = strstr(t->name, "o_norm") ? 1 + 0.5f * uniform() : scale * uniform();
    }
    must(solo_bind(r.solo));
    r.state = calloc(1, (size_t)solo_state_bytes(r.solo) + 64);
    r.x = calloc((size_t)(ROWS * c->d), sizeof *r.x);
    r.y = calloc((size_t)(ROWS * c->d), sizeof *r.y);
    for (int64_t i = 0; i < ROWS * c->d; i++) r.x[i] = uniform();
    return r;
}

static void rig_close(struct rig *r)
{
    solo_close(r->solo);
    spec_close(r->spec);
    free(r->state);
    free(r->x);
    free(r->y);
}

static void run(struct rig *r, bool keep, float *y)
{
    struct chi_segment seg = { .rows = ROWS, .fresh = true, .state = r->state };
    memset(r->state, 0, (size_t)solo_state_bytes(r->solo));
    must(solo_forward(r->solo, &seg, 1, keep, r->x, y));
}

/* Largest difference relative to the layer's largest value                      */
static double distance(const struct rig *r, const double *y)
{
    double worst = 0, size = 0;
    for (int64_t i = 0; i < ROWS * r->c.d; i++) {
        worst = fmax(worst, fabs(y[i] - (double)r->y[i]));
        size = fmax(size, fabs((double)r->y[i]));
    }
    return worst / size;
}

#endif
