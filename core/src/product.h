/* product.h - matrix products of training, cut over the pool.                             */
#ifndef PRODUCT_H
#define PRODUCT_H

#include <chimera/kernel.h>

/* C[m,n] = beta C + op(A) op(B)                                                           */
struct product {
    bool ta, tb;
    int64_t m, n, k;
    const float *A; int64_t lda;
    const float *B; int64_t ldb;
    float beta, *C; int64_t ldc;
};

/* n products with results of their own                                                    */
void products_run(const struct chi_kernels *, const struct product *, int64_t n);
/* n products that add to the same C, in order                                             */
void chain_run(const struct chi_kernels *, const struct product *, int64_t n);

#endif
