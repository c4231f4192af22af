/* test_avx512.c - the AVX-512 backends: the checks of all backends (backend_checks.h)   */
#include "backend_checks.h"

Test(avx512, vectors_are_exact)        { check_vectors("avx512"); }
Test(avx512, exp_is_exact_everywhere)  { check_exp("avx512"); }
Test(avx512, not_finite)               { check_not_finite("avx512"); }
Test(avx512, quantize_i8_is_exact)     { check_quantize_i8("avx512"); }
Test(avx512, delta_rule_is_exact)      { check_delta_rule("avx512"); }
Test(avx512, delta_rule_gradient)      { check_delta_rule_back("avx512"); }
Test(avx512, hebb_rule_is_exact)       { check_hebb_rule("avx512"); }
Test(avx512, hebb_rule_gradient)       { check_hebb_rule_back("avx512"); }
Test(avx512, gemm_is_right)            { check_gemm("avx512"); }
Test(avx512, gemm_invariance)          { check_gemm_invariance("avx512"); }
Test(avx512, f32_is_exact)             { check_linear("avx512", "f32"); }
Test(avx512, bf16_is_exact)            { check_linear("avx512", "bf16"); }
Test(avx512, int8_is_exact)            { check_linear("avx512", "int8"); }
Test(avx512, ternary2_is_exact)        { check_linear("avx512", "ternary2"); }
Test(avx512, ternary2_does_not_wrap)   { check_no_wrap("avx512", "ternary2"); }
Test(avx512, sherry125_is_exact)           { check_linear("avx512", "sherry125"); }
Test(avx512, sherry125_does_not_wrap)      { check_no_wrap("avx512", "sherry125"); }
Test(avx512, base3_is_exact)               { check_linear("avx512", "base3"); }
Test(avx512, base3_does_not_wrap)          { check_no_wrap("avx512", "base3"); }

Test(vnni, int8_is_exact)              { check_linear("avx512_vnni", "int8"); }
Test(vnni, ternary2_is_exact)          { check_linear("avx512_vnni", "ternary2"); }
Test(vnni, ternary2_does_not_wrap)     { check_no_wrap("avx512_vnni", "ternary2"); }
Test(vnni, sherry125_is_exact)           { check_linear("avx512_vnni", "sherry125"); }
Test(vnni, sherry125_does_not_wrap)      { check_no_wrap("avx512_vnni", "sherry125"); }
Test(vnni, base3_is_exact)               { check_linear("avx512_vnni", "base3"); }
Test(vnni, base3_does_not_wrap)          { check_no_wrap("avx512_vnni", "base3"); }
