/* layer_rig.h - layers in odd shapes, each alone, with random weights, rows and states.  */
#ifndef LAYER_RIG_H
#define LAYER_RIG_H

#include "core.h"
#include "model.h"
#include "pool.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 48, SEGS = 4 };

struct shape { const char *layer; int64_t d; };
static const struct shape shapes[] = {
    { "use = gated_deltanet\nnum_heads = 2\nhead_dim = 8\n", 12 },
    { "use = gated_deltanet\nnum_heads = 3\nhead_dim = 5\nconv_size = 2\n", 7 },
    { "use = gated_deltanet\nnum_heads = 1\nhead_dim = 17\nconv_size = 1\nallow_neg_eigval = yes\n", 9 },
    { "use = gated_deltanet\nnum_heads = 2\nhead_dim = 3\nconv_size = 6\n", 16 },
    { "use = attention\nnum_heads = 2\nhead_dim = 8\nmax_context = 64\n", 12 },
    { "use = attention\nnum_heads = 3\nhead_dim = 6\nwindow = 5\nrope_theta = 100\n", 7 },
    { "use = attention\nnum_heads = 1\nhead_dim = 2\nwindow = 1\n", 9 },
    { "use = swiglu\nintermediate_size = 10\n", 12 },
    { "use = swiglu\nintermediate_size = 33\n", 7 },
    { "use = titans_mac\nmemory_depth = 1\nnum_heads = 2\nhead_dim = 6\nchunk = 5\npersistent_memory_slots = 3\n", 12 },
    { "use = titans_mac\nmemory_depth = 1\nnum_heads = 3\nhead_dim = 4\npersistent_memory_slots = 1\n"
      "conv_size = 1\n", 7 },
    { "use = moe\nn_routed_experts = 5\nmoe_intermediate_size = 6\n", 12 },
    { "use = moe\nn_routed_experts = 4\nn_shared_experts = 2\nnum_experts_per_tok = 3\nmoe_intermediate_size = 5\n"
      "route_scale = 2.5\n", 7 },
    { "use = moe\nn_routed_experts = 3\nn_shared_experts = 0\nnum_experts_per_tok = 1\nmoe_intermediate_size = 7\n", 9 },
    { "use = titans_mac\nmemory_depth = 1\nnum_heads = 1\nhead_dim = 5\nchunk = 1\npersistent_memory_slots = 2\n"
      "conv_size = 5\ntheta_max = 1\n", 9 },
    { "use = mlstm\nnum_heads = 2\nhead_dim = 8\n", 12 },
    { "use = mlstm\nnum_heads = 3\nhead_dim = 5\ngate_soft_cap = 2\nnorm_eps = 1e-3\n", 7 },
    { "use = mlstm\nnum_heads = 1\nhead_dim = 17\ncell_eps = 0.1\n", 9 },
    { "use = mlstm\nblock = v1\nnum_heads = 2\nhead_dim = 6\nconv_size = 3\n", 7 },
    { "use = gated_deltanet\nnum_heads = 2\nnum_v_heads = 6\nhead_dim = 5\nhead_v_dim = 3\nconv_size = 3\n", 7 },
    { "use = span_knot\nnum_heads = 3\nhead_dim = 5\nconv_size = 2\n", 7 },
    { "use = span_knot\nnum_heads = 2\nhead_dim = 8\nefla = yes\nallow_neg_eigval = yes\n", 12 },
    { "use = deltanet\nnum_heads = 2\nhead_dim = 8\n", 12 },
    { "use = deltanet\nnum_heads = 1\nhead_dim = 17\nconv_size = 1\nuse_gate = yes\n", 9 },
    { "use = linear_attention\nnum_heads = 3\nhead_dim = 5\n", 7 },
    { "use = linear_attention\nnum_heads = 1\nhead_dim = 17\n", 12 },
    { "use = mamba2\nnum_heads = 3\nhead_dim = 5\nstate_dim = 7\nconv_size = 2\n", 7 },
    { "use = mamba2\nnum_heads = 2\nhead_dim = 4\nstate_dim = 9\n", 12 },
    { "use = causal_conv\nchannels = 70\nconv_size = 3\n", 7 },
    { "use = causal_conv\nchannels = 5\nconv_size = 37\n", 9 },
    { "use = titans_mac\nnum_heads = 2\nhead_dim = 5\nchunk = 6\npersistent_memory_slots = 2\n", 8 },
    { "use = titans_mac\nnum_heads = 1\nhead_dim = 6\nchunk = 8\npersistent_memory_slots = 5\n"
      "semi_exact = yes\ncore = window\nlocal_window_size = 5\n", 7 },
    { "use = titans_mac\nmemory_depth = 1\nnum_heads = 2\nhead_dim = 3\nchunk = 7\npersistent_memory_slots = 2\n"
      "core = window\nlocal_window_size = 40\nconv_size = 2\nsemi_exact = yes\ntheta_max = 2\n", 6 },
    { "use = titans_mac\nmemory_depth = 3\nnum_heads = 2\nhead_dim = 4\nchunk = 5\npersistent_memory_slots = 2\n", 6 },
    { "use = titans_mac\nmemory_depth = 3\nnum_heads = 1\nhead_dim = 5\npersistent_memory_slots = 2\n"
      "core = window\nlocal_window_size = 1\n", 5 },
    { "use = gated_deltanet\nnum_heads = 2\nhead_dim = 5\nhead_v_dim = 9\n", 7 },
    { "use = gated_deltanet\nnum_heads = 3\nhead_dim = 7\nhead_v_dim = 4\nconv_size = 3\nuse_gate = no\n", 12 },
    { "use = mlstm\nnum_heads = 2\nhead_dim = 4\nhead_v_dim = 9\n", 7 },
    { "use = mlstm\nnum_heads = 3\nhead_dim = 6\nhead_v_dim = 3\n", 12 },
    /* more values than a task takes: of the network's width, of the rows'               */
    { "use = swiglu\nintermediate_size = 400\n", 7 },
    { "use = moe\nn_routed_experts = 2\nmoe_intermediate_size = 400\n", 5 },
    { "use = moe\nn_routed_experts = 3\nmoe_intermediate_size = 3\nnum_experts_per_tok = 1\n", 400 },
    { "use = rwkv7\nnum_heads = 2\nhead_dim = 8\ndecay_rank = 3\nrate_rank = 4\ngate_rank = 6\n", 12 },
    { "use = rwkv7\nnum_heads = 3\nhead_dim = 5\ndecay_rank = 1\nrate_rank = 2\ngate_rank = 4\n", 7 },
};

struct rig {
    struct spec *spec;
    struct solo *solo;
    int64_t d, state_bytes;
    unsigned char *state, *dstate;          /* [SEGS]                            */
    float *x, *y, *dy, *dx;                 /* [ROWS][d]                         */
};

/* ---- a layer with random weights ------------------------------------------------- */

static uint64_t seed = 1;

static inline float uniform(void)                  /* in [-1, 1)                        */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 40) / 8388608.0 - 1.0);
}

static inline void fill(float *x, int64_t n, float scale)
{
    for (int64_t i = 0; i < n; i++) x[i] = scale * uniform();
}

static inline void must(chi_status e)
{
    cr_assert_eq(e, CHI_OK, "%s", fail_text());
}

static inline void *zeros(int64_t bytes)
{
    void *p = aligned_alloc(64, (size_t)round_up(max_i64(bytes, 1), 64));
    memset(p, 0, (size_t)round_up(max_i64(bytes, 1), 64));
    return p;
}

static inline void fill_params(struct rig *r)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = solo_tensor(r->solo, i)); i++) {
        int64_t fan_in = t->shape[1] ? t->shape[1] : 1;
        fill(t->w, t->n, t->linear ? 2.0f / sqrtf((float)fan_in) : t->manual ? 0.2f : 1.0f);
        if (strstr(t->name, "o_norm"))
            for (int64_t c = 0; c < t->n; c++) t->w[c] = 1 + 0.5f * t->w[c];
    }
    must(solo_bind(r->solo));
}

/* Which experts a row chooses must not change with a weight's last bits: rows of x are drawn
 * until no two of the values that the choice compares are close                 */
static inline void avoid_ties(struct rig *r)
{
    const struct model_tensor *t, *gate = NULL, *bias = NULL;
    for (int64_t i = 0; (t = solo_tensor(r->solo, i)); i++) {
        if (!strcmp(t->name, "gate.weight")) gate = t;
        if (!strcmp(t->name, "gate.e_score_correction_bias")) bias = t;
    }
    for (int64_t row = 0; bias && row < ROWS; row++) {
        double v[64], gap = 0;
        while (gap < 0.02) {
            fill(r->x + row * r->d, r->d, 1);
            gap = 1;
            for (int64_t e = 0; e < bias->n; e++) {
                double z = 0;
                for (int64_t c = 0; c < r->d; c++) z += (double)gate->w[e * r->d + c] * (double)r->x[row * r->d + c];
                v[e] = 1 / (1 + exp(-z)) + (double)bias->w[e];
                for (int64_t o = 0; o < e; o++) gap = fmin(gap, fabs(v[e] - v[o]));
            }
        }
    }
}

static inline struct rig rig_open(const struct shape *s)
{
    struct rig r = { .d = s->d };
    struct config *config;
    char *text = xprintf("[model]\nhidden_size = %d\nnum_hidden_layers = 1\nvocab_size = 97\n"
                         "layer_pattern = X\nffn_pattern = X\n[layer.X]\n%s"
                         "[linear]\nquantizer = f32\n", (int)s->d, s->layer);
    must(config_load_text(&config, "test", text, NULL, 0));
    must(spec_open(&r.spec, config, SPEC_MODEL));
    pool_threads(1);                        /* tiny calls; one test asks for more */
    must(solo_open(&r.solo, r.spec, &r.spec->mixer[0], true, ROWS, SEGS));
    free(text);
    seed = 1;
    fill_params(&r);
    r.state_bytes = round_up(max_i64(solo_state_bytes(r.solo), 1), 64);
    r.state  = zeros(SEGS * r.state_bytes);
    r.dstate = zeros(SEGS * r.state_bytes);
    r.x  = zeros(ROWS * r.d * 4);
    r.y  = zeros(ROWS * r.d * 4);
    r.dy = zeros(ROWS * r.d * 4);
    r.dx = zeros(ROWS * r.d * 4);
    fill(r.x, ROWS * r.d, 1);
    fill(r.dy, ROWS * r.d, 1);
    avoid_ties(&r);
    return r;
}

static inline void rig_close(struct rig *r)
{
    solo_close(r->solo);
    spec_close(r->spec);
    free(r->state);
    free(r->dstate);
    free(r->x);
    free(r->y);
    free(r->dy);
    free(r->dx);
}

static inline struct chi_segment segment(const struct rig *r, int64_t i, int64_t first, int64_t rows, int64_t pos)
{
    return (struct chi_segment){
        .first = first, .rows = rows, .pos = pos, .stream = (uint64_t)i, .fresh = pos == 0,
        .state = r->state + i * r->state_bytes,
    };
}

static inline bool same(const void *a, const void *b, int64_t floats)
{
    return memcmp(a, b, (size_t)floats * sizeof(float)) == 0;
}

/* Rows from..to-1 of one stream whose rows are all of x                         */
static inline void run_rows(struct rig *r, int64_t from, int64_t to, bool step, float *y)
{
    struct chi_segment seg = segment(r, 0, 0, to - from, from);
    if (from == 0) memset(r->state, 0, (size_t)r->state_bytes);
    must(step ? solo_step(r->solo, &seg, 1, r->x + from * r->d, y + from * r->d)
              : solo_forward(r->solo, &seg, 1, false, r->x + from * r->d, y + from * r->d));
}

#endif
