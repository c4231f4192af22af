/* gradient.c - see gradient.h.                                                       */
#include "gradient.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "pool.h"

enum { PIECE = 65536, BLOCK = 4096, GROUP = 1024, LEVELS = 40 };

int tree_levels(int64_t micro_batches)
{
    int n = 0;
    while (micro_batches > 1 && n < LEVELS && (int64_t)1 << n <= micro_batches) n++;
    return n;
}

chi_status tree_open(struct gradient_tree *t, int64_t n, int64_t micro_batches)
{
    *t = (struct gradient_tree){ .n = n };
    int levels = tree_levels(micro_batches);
    for (int k = 0; k < levels; k++) {
        t->level[k] = mem_take((size_t)n * sizeof(float), "the sums of micro-batches");
        if (!t->level[k]) return CHI_ENOMEM;
    }
    return CHI_OK;
}

void tree_close(struct gradient_tree *t)
{
    for (int k = 0; k < LEVELS; k++) mem_free(t->level[k]);
    *t = (struct gradient_tree){ 0 };
}

struct add { float *to; const float *left; int64_t n; };

static void add_piece(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct add *a = arg;
    int64_t end = min_i64(a->n, (i + 1) * PIECE);
    (void)scratch;
    for (int64_t k = i * PIECE; k < end; k++) a->to[k] = a->left[k] + a->to[k];
}

/* to = left + to                                                                      */
static void add_left(float *to, const float *left, int64_t n)
{
    struct add a = { to, left, n };
    pool_run(ceil_div(n, PIECE), add_piece, &a);
}

void tree_add(struct gradient_tree *t, float *grad, double loss)
{
    int k = 0;
    for (; t->count >> k & 1; k++) {
        add_left(grad, t->level[k], t->n);
        loss = t->loss[k] + loss;
    }
    if (t->level[k]) memcpy(t->level[k], grad, (size_t)t->n * sizeof *grad);
    t->loss[k] = loss;
    t->count++;
}

void tree_sum(struct gradient_tree *t, float *grad, double *loss)
{
    bool empty = true;
    for (int k = 0; k < LEVELS; k++) {
        if (!(t->count >> k & 1)) continue;
        *loss = empty ? t->loss[k] : t->loss[k] + *loss;
        if (t->level[k] && empty) memcpy(grad, t->level[k], (size_t)t->n * sizeof *grad);
        else if (t->level[k]) add_left(grad, t->level[k], t->n);
        empty = false;
    }
    t->count = 0;
}

/* ---- squares -------------------------------------------------------------------- */

static double block_squares(const float *g, int64_t n)
{
    double lane[8] = { 0 };
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += (double)g[i + l] * (double)g[i + l];
    for (int l = 0; i < n; i++, l++) lane[l] += (double)g[i] * (double)g[i];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

struct squares { const float *g; int64_t n; double sum[GROUP]; };

static void squares_block(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct squares *s = arg;
    (void)scratch;
    s->sum[i] = block_squares(s->g + i * BLOCK, min_i64(BLOCK, s->n - i * BLOCK));
}

double gradient_squares(const struct gradient_run *run, int64_t n_runs)
{
    double sum = 0;
    struct squares s;
    for (int64_t r = 0; r < n_runs; r++)
        for (int64_t at = 0; at < run[r].n; at += s.n) {
            s.g = run[r].g + at;
            s.n = min_i64(run[r].n - at, (int64_t)GROUP * BLOCK);
            int64_t blocks = ceil_div(s.n, BLOCK);
            pool_run(blocks, squares_block, &s);
            for (int64_t b = 0; b < blocks; b++) sum += s.sum[b];
        }
    return sum;
}
