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

/* Rows of the chunk that begins at row of the segment: up to the next multiple of
 * every in the stream                                                           */
static inline int64_t rows_to_grid(const struct chi_segment *g, int64_t row, int64_t every)
{
    int64_t n = every - (g->pos + row) % every, left = g->rows - row;
    return n < left ? n : left;
}

#endif
