/* floats.h - small things that layers do with floats.                           */
#ifndef LAYER_FLOATS_H
#define LAYER_FLOATS_H

#include <chimera/layer.h>
#include <string.h>

static inline float *take(struct chi_scratch *scratch, int64_t n)
{
    return chi_take(scratch, (size_t)n * sizeof(float));
}

static inline void copy(float *to, const float *from, int64_t n)
{
    memcpy(to, from, (size_t)n * sizeof(float));
}

static inline void zero(float *x, int64_t n)
{
    memset(x, 0, (size_t)n * sizeof(float));
}

/* n floats are needed soon: a decode step finds its state and parameters in memory, in pieces too
 * short for the CPU to see where they go on                                      */
static inline void fetch(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(x + i);
}

enum { TAPS_MAX = 16 };                         /* of a depthwise convolution     */

/* Its weights w[n][taps] to [taps][ld], so that loops run along channels         */
static inline void taps_by_row(float *restrict to, int64_t ld, const float *restrict w, int64_t n, int64_t taps)
{
    if (taps == 4) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < 4; j++) to[j * ld + i] = w[4 * i + j];
        return;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < taps; j++) to[j * ld + i] = w[i * taps + j];
}

/* c[n] = sum over j of w_j x_j, j = 0 first; w[taps][ld], x[j] a row of n         */
static inline void tap_sum(float *restrict c, const float *restrict w, int64_t ld, const float *const *x,
                           int64_t taps, int64_t n)
{
    if (taps == 4) {
        const float *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
        for (int64_t i = 0; i < n; i++)
            c[i] = w[i] * x0[i] + w[ld + i] * x1[i] + w[2 * ld + i] * x2[i] + w[3 * ld + i] * x3[i];
        return;
    }
    for (int64_t i = 0; i < n; i++) c[i] = w[i] * x[0][i];
    for (int64_t j = 1; j < taps; j++)
        for (int64_t i = 0; i < n; i++) c[i] += w[j * ld + i] * x[j][i];
}

/* Rows of the chunk that begins at row of the segment: up to the next multiple of
 * every in the stream                                                           */
static inline int64_t rows_to_grid(const struct chi_segment *g, int64_t row, int64_t every)
{
    int64_t n = every - (g->pos + row) % every, left = g->rows - row;
    return n < left ? n : left;
}

#endif
