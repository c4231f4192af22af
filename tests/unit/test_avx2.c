/* test_avx2.c - the AVX2 backend: the checks of all backends (backend_checks.h)       */
#include "backend_checks.h"

Test(avx2, vectors_are_exact)        { check_vectors("avx2"); }
Test(avx2, exp_is_exact_everywhere)  { check_exp("avx2"); }
Test(avx2, not_finite)               { check_not_finite("avx2"); }
Test(avx2, quantize_i8_is_exact)     { check_quantize_i8("avx2"); }
Test(avx2, delta_rule_is_exact)      { check_delta_rule("avx2"); }
Test(avx2, delta_rule_gradient)      { check_delta_rule_back("avx2"); }
Test(avx2, hebb_rule_is_exact)       { check_hebb_rule("avx2"); }
Test(avx2, hebb_rule_gradient)       { check_hebb_rule_back("avx2"); }
Test(avx2, gemm_is_right)            { check_gemm("avx2"); }
Test(avx2, gemm_invariance)          { check_gemm_invariance("avx2"); }
Test(avx2, f32_is_exact)             { check_linear("avx2", "f32"); }
Test(avx2, bf16_is_exact)            { check_linear("avx2", "bf16"); }
Test(avx2, int8_is_exact)            { check_linear("avx2", "int8"); }
Test(avx2, ternary2_is_exact)        { check_linear("avx2", "ternary2"); }
Test(avx2, ternary2_does_not_wrap)   { check_no_wrap("avx2", "ternary2"); }
Test(avx2, sherry125_is_exact)       { check_linear("avx2", "sherry125"); }
Test(avx2, sherry125_does_not_wrap)  { check_no_wrap("avx2", "sherry125"); }
Test(avx2, base3_is_exact)           { check_linear("avx2", "base3"); }
Test(avx2, base3_does_not_wrap)      { check_no_wrap("avx2", "base3"); }
Test(avx2, tl2_is_exact)             { check_linear("avx2", "tl2"); }
Test(avx2, tl2_does_not_wrap)        { check_no_wrap("avx2", "tl2"); }
