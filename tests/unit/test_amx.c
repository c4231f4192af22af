/* test_amx.c - the AMX backend: the checks of all backends (backend_checks.h)           */
#include "backend_checks.h"

Test(amx, int8_is_exact)            { check_linear("amx", "int8"); }
Test(amx, ternary2_is_exact)        { check_linear("amx", "ternary2"); }
Test(amx, ternary2_does_not_wrap)   { check_no_wrap("amx", "ternary2"); }
Test(amx, sherry125_is_exact)       { check_linear("amx", "sherry125"); }
Test(amx, sherry125_does_not_wrap)  { check_no_wrap("amx", "sherry125"); }
Test(amx, base3_is_exact)           { check_linear("amx", "base3"); }
Test(amx, base3_does_not_wrap)      { check_no_wrap("amx", "base3"); }
