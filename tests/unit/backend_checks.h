/* backend_checks.h - what every CPU backend must pass, whatever its instructions: bit for
 * bit the reference where kernel.h says EXACT, within the bound elsewhere, and never a byte
 * beyond an array.  A backend's own test file is a list of these by its component's name;
 * where the CPU lacks what the component needs, the test is skipped with a message.        */
#ifndef BACKEND_CHECKS_H
#define BACKEND_CHECKS_H

#include "kernels.h"

/* struct chi_kernels of a backend                                                          */
void check_vectors(const char *backend);
void check_exp(const char *backend);
void check_not_finite(const char *backend);
void check_quantize_i8(const char *backend);
void check_delta_rule(const char *backend);
void check_delta_rule_back(const char *backend);
void check_hebb_rule(const char *backend);
void check_hebb_rule_back(const char *backend);
void check_gemm(const char *backend);
void check_gemm_invariance(const char *backend);

/* Its linear kernel of an encoding, against the encoding's portable kernel                 */
void check_linear(const char *backend, const char *encoding);
/* Ternary encodings: 2560 weights of one sign times 127                                    */
void check_no_wrap(const char *backend, const char *encoding);

/* For the files of checks: the tables of a backend that can run here, else the test is
 * skipped                                                                                  */
const struct chi_backend_ops *backend_ops(const char *backend);
const struct chi_kernels *backend_kernels(const char *backend);

/* Reports the first of n values that differ in their bits, and stops the test after eight
 * reports; NaNs may differ.  what: the function and its shape                              */
__attribute__((format(printf, 4, 5)))
bool agree(const float *got, const float *want, int64_t n, const char *what, ...);

#endif
