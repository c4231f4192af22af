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

/* w[n][taps] of a depthwise convolution to [taps][ld], so that loops run along channels */
static inline void taps_by_row(float *to, int64_t ld, const float *w, int64_t n, int64_t taps)
{
    if (taps == 4) {
        float *a = to, *b = to + ld, *c = b + ld, *d = c + ld;
        for (int64_t i = 0; i < n; i++) {
            a[i] = w[4 * i];
            b[i] = w[4 * i + 1];
            c[i] = w[4 * i + 2];
            d[i] = w[4 * i + 3];
        }
        return;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < taps; j++) to[j * ld + i] = w[i * taps + j];
}

/* Rows of the chunk that begins at row of the segment: up to the next multiple of
 * every in the stream                                                           */
static inline int64_t rows_to_grid(const struct chi_segment *g, int64_t row, int64_t every)
{
    int64_t n = every - (g->pos + row) % every, left = g->rows - row;
    return n < left ? n : left;
}

#endif
