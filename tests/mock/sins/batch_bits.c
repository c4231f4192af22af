/* batch_bits.c - a linear kernel for f32 that adds backwards when five rows or more come together, so that a
 * row's bits depend on its company.                                                             */
#define NAME "batch_bits"
#include <chimera/kernel.h>
#include <string.h>
static void run(float *, int64_t, const struct chi_act *, const struct chi_matrix *, int64_t, int64_t, void *);
static const struct chi_linear_kernel f32 = { .struct_size = sizeof f32, .encoding = "f32", .group = 1, .run = run };
static const struct chi_linear_kernel *const linears[] = { &f32, NULL };
#define LINEARS linears
#include "vectors.h"
/* f32's tiles: [tile][k][16 rows]                                                               */
static void run(float *y, int64_t ldy, const struct chi_act *a, const struct chi_matrix *m, int64_t o0, int64_t o1,
                void *s)
{
    (void)s;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t o = o0; o < o1; o++) {
            const float *w = (const float *)m->bytes + o / CHI_TILE * CHI_TILE * m->d_in + o % CHI_TILE;
            float sum = 0;
            for (int64_t i = 0; i < m->d_in; i++) {
                int64_t k = a->rows < 5 ? i : m->d_in - 1 - i;
                sum += a->x[r * a->ldx + k] * w[k * CHI_TILE];
            }
            y[r * ldy + o - o0] = sum;
        }
}
