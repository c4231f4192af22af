/* criterion.c - runs the tests of a program one after the other and prints TAP: see criterion.h  */
#include <criterion/criterion.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST_TOLD = 10 };                        /* failures of a test that are told             */

static struct cr_test *first, **last = &first;
static jmp_buf out;
static int wrong;
static char skipped[256];

void cr_add(struct cr_test *t)
{
    *last = t;
    last = &t->next;
}

void cr_result(bool good, bool fatal, const char *file, int line, const char *what, const char *format, ...)
{
    va_list args;
    if (good) return;
    if (wrong++ < MOST_TOLD) {
        printf("# %s:%d: %s: ", file, line, what);
        va_start(args, format);
        vprintf(format, args);
        va_end(args);
        puts("");
    }
    if (fatal) longjmp(out, 1);
}

_Noreturn void cr_skip(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(skipped, sizeof skipped, format, args);
    va_end(args);
    longjmp(out, 1);
}

/* Has it passed?                                                                               */
static bool run_test(const struct cr_test *t, int number)
{
    wrong = 0;
    skipped[0] = 0;
    if (setjmp(out) == 0) t->run();
    printf("%s %d - %s::%s%s%s\n", wrong ? "not ok" : "ok", number, t->suite, t->name,
           skipped[0] ? " # SKIP " : "", skipped);
    fflush(stdout);
    return !wrong;
}

/* Without words all tests, else those of the suites that the words name                         */
static bool wanted(const char *suite, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], suite)) return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    int n = 0, failed = 0;
    for (const struct cr_test *t = first; t; t = t->next)
        if (wanted(t->suite, argc, argv)) failed += !run_test(t, ++n);
    printf("1..%d\n", n);
    return failed || !n;
}
