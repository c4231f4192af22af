/* avx512.h - what the files of this backend share                                     */
#ifndef AVX512_H
#define AVX512_H

#include "../shared/zmm.h"

float avx512_dot(const float *a, const float *b, int64_t n);
void  avx512_axpy(float *y, float a, const float *x, int64_t n);
float avx512_rmsnorm(float *y, const float *x, const float *gain, int64_t n, float eps);
void  avx512_silu(float *y, const float *x, int64_t n);
void  avx512_silu_mul(float *y, const float *g, const float *u, int64_t n);
void  avx512_silu_back(float *dx, const float *x, const float *dy, int64_t n);
float avx512_softmax(float *y, const float *x, int64_t n);
void  avx512_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
                  const float *B, int64_t ldb, float beta, float *C, int64_t ldc);
void  avx512_delta_rule(float *S, const float *q, const float *k, const float *v, int64_t ld,
                        const float *a, const float *b, int64_t lds, float *o, int64_t rows,
                        int64_t dk, int64_t dv);
void  avx512_delta_rule_back(const float *S, float *dS, const float *q, const float *k,
                             const float *v, int64_t ld, const float *a, const float *b,
                             int64_t lds, const float *dout, float *dq, float *dk_, float *dv_,
                             float *dlog_a, float *db, int64_t rows, int64_t dk, int64_t dv,
                             float *work);
void  avx512_hebb_rule(float *S, const float *q, const float *k, int64_t ldk, const float *v, int64_t ldv,
                       const float *a, const float *b, int64_t lds, float *o, int64_t rows, int64_t dk,
                       int64_t dv);
void  avx512_hebb_rule_back(const float *S, float *dS, const float *q, const float *k, int64_t ldk,
                            const float *v, int64_t ldv, const float *a, const float *b, int64_t lds,
                            const float *dout, float *dq, float *dk_, float *dv_, float *dlog_a, float *db,
                            int64_t rows, int64_t dk, int64_t dv, float *work);
void  avx512_quantize_i8(int8_t *q, float *step, int16_t *sum, const float *x, int64_t n);

extern const struct chi_linear_kernel avx512_linear_f32, avx512_linear_bf16, avx512_linear_int8,
                                      avx512_linear_ternary2, avx512_linear_sherry125,
                                      avx512_linear_base3;
extern const struct chi_linear_kernel vnni_linear_int8, vnni_linear_ternary2, vnni_linear_sherry125,
                                      vnni_linear_base3;

#endif
