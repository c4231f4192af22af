/* product.c - matrix products over the pool; see product.h.                               */
#include "product.h"

#include "core.h"
#include "pool.h"

struct products { const struct chi_kernels *k; const struct product *p; int64_t n, pieces; };

/* Piece i of a product: a range of rows of C if it is tall, of columns if it is wide; a
 * tiling does not change a bit of gemm, so the number of threads may choose it.         */
static void product_piece(const struct chi_kernels *k, const struct product *p, int64_t i, int64_t pieces)
{
    bool tall = p->m >= p->n;
    int64_t all = tall ? p->m : p->n, size = round_up(ceil_div(all, pieces), 48);
    int64_t from = i * size, len = min_i64(size, all - from);
    if (len <= 0) return;
    if (tall)
        k->gemm(p->ta, p->tb, len, p->n, p->k, p->A + (p->ta ? from : from * p->lda), p->lda, p->B, p->ldb,
                p->beta, p->C + from * p->ldc, p->ldc);
    else
        k->gemm(p->ta, p->tb, p->m, len, p->k, p->A, p->lda, p->B + (p->tb ? from * p->ldb : from), p->ldb,
                p->beta, p->C + from, p->ldc);
}

static void product_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct products *all = arg;
    (void)s;
    product_piece(all->k, all->p + i / all->pieces, i % all->pieces, all->pieces);
}

static void chain_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct products *all = arg;
    (void)s;
    for (int64_t j = 0; j < all->n; j++) product_piece(all->k, all->p + j, i, all->pieces);
}

static double product_work(const struct product *p, int64_t n)
{
    double work = 0;
    for (int64_t i = 0; i < n; i++) work += (double)p[i].m * (double)p[i].n * (double)p[i].k;
    return work;
}

/* n products with results of their own.  Two pieces a thread even out a busy core.       */
void products_run(const struct chi_kernels *k, const struct product *p, int64_t n)
{
    int64_t threads = pool_size();
    bool whole = threads == 1 || product_work(p, n) < 1e6;
    struct products all = { k, p, n, whole ? 1 : ceil_div(2 * threads, n) };
    pool_run(n * all.pieces, product_task, &all);
}

/* n products that add to the same C, in order                                            */
void chain_run(const struct chi_kernels *k, const struct product *p, int64_t n)
{
    int64_t threads = pool_size();
    bool whole = threads == 1 || product_work(p, n) < 1e6;
    struct products all = { k, p, n, whole ? 1 : 2 * threads };
    pool_run(all.pieces, chain_task, &all);
}
