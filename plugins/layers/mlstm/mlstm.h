/* mlstm.h - what the cell and the two blocks around it share.                   */
#ifndef MLSTM_H
#define MLSTM_H

#include <chimera/math.h>
#include "../shared/causal.h"
#include "../shared/hebb.h"

enum { Q, K, V };
enum { OGATE = 3, IGATE, FGATE, N_IN };         /* linears of block v2            */

struct mlstm {
    struct hebb memory;                         /* S: C [dim,dk] and, as its last row, n */
    int64_t heads, dk, dim, inner;              /* a head's q and k; its v and output; all of that */
    float   cap, norm_eps, cell_eps, scale;
    int64_t m;                                  /* state [H]                      */
    int64_t igate_bias, fgate_bias, norm;       /* parameters                     */
    int64_t stabiliser, ipre, fpre, h;          /* arrays: m and gates of each row, kept; */
    int64_t dipre, dfpre, dh;                   /* input of the last linear       */
    int64_t part_gate, part_norm;               /* gradients by (segment, head)   */
    /* Where q, k, v of a row lie: values from offset[] of rows of stride[] values */
    int64_t qkv[3], dqkv[3], offset[3], stride[3];
    /* block v2                                                                   */
    const struct chi_linear *in[N_IN], *out;
    int64_t pre[N_IN], dpre[N_IN];
    /* block v1; in[] are proj_up and the gates, out is proj_down                 */
    bool    v1;
    struct causal conv;
    int64_t block;                              /* of the headwise maps           */
    int64_t skip, headwise[3];                  /* parameters                     */
    int64_t up, c, dup, du, part_skip, part_headwise;   /* arrays; c: before silu */
};

/* Channels of a head's q, k and v                                                */
static inline int64_t width(const struct mlstm *s, int i)
{
    return i == V ? s->dim : s->dk;
}

/* Rows of the layer's own scratch                                                */
static inline float *own_row(const struct hebb_chunk *c, int64_t i)
{
    return c->own + 16 + i * ((const struct mlstm *)c->layer)->dim;
}

enum { OWN_NORMAL, OWN_ONES, OWN_DNORM, OWN_T, OWN_T2, OWN_DSKIP, OWN_ROWS };
enum { DIBIAS, DFBIAS, DM };                    /* sums in own[]                  */

#endif
