/* test_neon.c - the backends for 64-bit ARM: the checks of all backends (backend_checks.h).
 * tests/arm.sh runs it under an emulator, on CPUs with and without dotprod and i8mm.      */
#include "backend_checks.h"

Test(neon, vectors_are_exact)        { check_vectors("neon"); }
Test(neon, exp_is_exact_everywhere)  { check_exp("neon"); }
Test(neon, not_finite)               { check_not_finite("neon"); }
Test(neon, quantize_i8_is_exact)     { check_quantize_i8("neon"); }
Test(neon, delta_rule_is_exact)      { check_delta_rule("neon"); }
Test(neon, delta_rule_gradient)      { check_delta_rule_back("neon"); }
Test(neon, hebb_rule_is_exact)       { check_hebb_rule("neon"); }
Test(neon, hebb_rule_gradient)       { check_hebb_rule_back("neon"); }
Test(neon, gemm_is_right)            { check_gemm("neon"); }
Test(neon, gemm_invariance)          { check_gemm_invariance("neon"); }
Test(neon, f32_is_exact)             { check_linear("neon", "f32"); }
Test(neon, bf16_is_exact)            { check_linear("neon", "bf16"); }

Test(neon, int8_is_exact)            { check_linear("neon", "int8"); }
Test(neon, ternary2_is_exact)        { check_linear("neon", "ternary2"); }
Test(neon, sherry125_is_exact)       { check_linear("neon", "sherry125"); }
Test(neon, base3_is_exact)           { check_linear("neon", "base3"); }
Test(neon, ternary2_does_not_wrap)   { check_no_wrap("neon", "ternary2"); }

Test(neon_dotprod, int8_is_exact)          { check_linear("neon_dotprod", "int8"); }
Test(neon_dotprod, ternary2_is_exact)      { check_linear("neon_dotprod", "ternary2"); }
Test(neon_dotprod, sherry125_is_exact)     { check_linear("neon_dotprod", "sherry125"); }
Test(neon_dotprod, base3_is_exact)         { check_linear("neon_dotprod", "base3"); }
Test(neon_dotprod, ternary2_does_not_wrap) { check_no_wrap("neon_dotprod", "ternary2"); }

Test(neon_i8mm, int8_is_exact)             { check_linear("neon_i8mm", "int8"); }
Test(neon_i8mm, ternary2_is_exact)         { check_linear("neon_i8mm", "ternary2"); }
Test(neon_i8mm, sherry125_is_exact)        { check_linear("neon_i8mm", "sherry125"); }
Test(neon_i8mm, base3_is_exact)            { check_linear("neon_i8mm", "base3"); }
Test(neon_i8mm, ternary2_does_not_wrap)    { check_no_wrap("neon_i8mm", "ternary2"); }
