/* criterion.h - stands in for Criterion where its own processes cannot run: under an emulator.
 *
 * Enough of its interface for the tests of kernels and formats; tests run one after the other in
 * one process, and a crash ends it.  tests/arm/criterion.c has main() and the rest.            */
#ifndef ARM_CRITERION_H
#define ARM_CRITERION_H

#include <stdbool.h>
#include <string.h>

#ifdef __cplusplus
# error "C only"
#endif

struct cr_test { const char *suite, *name; void (*run)(void); struct cr_test *next; };
void cr_add(struct cr_test *t);
void cr_result(bool good, bool fatal, const char *file, int line, const char *what, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
_Noreturn void cr_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define Test(suite_, name_)                                                                     \
    static void cr_run_##suite_##_##name_(void);                                                \
    __attribute__((constructor)) static void cr_add_##suite_##_##name_(void)                    \
    {                                                                                           \
        static struct cr_test t = { #suite_, #name_, cr_run_##suite_##_##name_, NULL };         \
        cr_add(&t);                                                                             \
    }                                                                                           \
    static void cr_run_##suite_##_##name_(void)

#define CR_CHECK(fatal, good, ...) cr_result(good, fatal, __FILE__, __LINE__, #good, "" __VA_ARGS__)

#define cr_skip_test(...)             cr_skip("" __VA_ARGS__)
#define cr_expect_fail(...)           CR_CHECK(false, false, __VA_ARGS__)
#define cr_assert_fail(...)           CR_CHECK(true, false, __VA_ARGS__)
#define cr_assert(x, ...)             CR_CHECK(true, !!(x), __VA_ARGS__)
#define cr_expect(x, ...)             CR_CHECK(false, !!(x), __VA_ARGS__)
#define cr_expect_not(x, ...)         CR_CHECK(false, !(x), __VA_ARGS__)
#define cr_assert_eq(a, b, ...)       CR_CHECK(true, (a) == (b), __VA_ARGS__)
#define cr_expect_eq(a, b, ...)       CR_CHECK(false, (a) == (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...)      CR_CHECK(true, (a) != (b), __VA_ARGS__)
#define cr_expect_neq(a, b, ...)      CR_CHECK(false, (a) != (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...)       CR_CHECK(true, (a) < (b), __VA_ARGS__)
#define cr_expect_lt(a, b, ...)       CR_CHECK(false, (a) < (b), __VA_ARGS__)
#define cr_assert_leq(a, b, ...)      CR_CHECK(true, (a) <= (b), __VA_ARGS__)
#define cr_expect_leq(a, b, ...)      CR_CHECK(false, (a) <= (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...)       CR_CHECK(true, (a) > (b), __VA_ARGS__)
#define cr_expect_gt(a, b, ...)       CR_CHECK(false, (a) > (b), __VA_ARGS__)
#define cr_assert_geq(a, b, ...)      CR_CHECK(true, (a) >= (b), __VA_ARGS__)
#define cr_expect_geq(a, b, ...)      CR_CHECK(false, (a) >= (b), __VA_ARGS__)
#define cr_assert_null(x, ...)        CR_CHECK(true, (x) == NULL, __VA_ARGS__)
#define cr_expect_null(x, ...)        CR_CHECK(false, (x) == NULL, __VA_ARGS__)
#define cr_assert_not_null(x, ...)    CR_CHECK(true, (x) != NULL, __VA_ARGS__)
#define cr_expect_not_null(x, ...)    CR_CHECK(false, (x) != NULL, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)   CR_CHECK(true, strcmp(a, b) == 0, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...)   CR_CHECK(false, strcmp(a, b) == 0, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...) CR_CHECK(false, memcmp(a, b, n) == 0, __VA_ARGS__)
#define cr_expect_float_eq(a, b, e, ...) CR_CHECK(false, (a) - (b) <= (e) && (b) - (a) <= (e), __VA_ARGS__)

#endif
