/* crumb.c - see crumb.h.  The handler calls nothing but write(), sigaction() and raise().  */
#include "crumb.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Thread_local const struct crumb *now;
static volatile int64_t step;
static char advice[512];
static volatile int log_fd = -1;
static char *mirror;

static const struct { int number; const char *name; } crashes[] = {
    { SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGFPE, "SIGFPE" }, { SIGILL, "SIGILL" }, { SIGABRT, "SIGABRT" },
};
enum { CRASHES = sizeof crashes / sizeof *crashes };

const struct crumb *crumb_set(const struct crumb *c)
{
    const struct crumb *was = now;
    now = c;
    if (mirror && c) snprintf(mirror, CRUMB_PAGE, "in %s of %s", c->op, c->component);
    else if (mirror && was) snprintf(mirror, CRUMB_PAGE, "after %s of %s", was->op, was->component);
    __asm__ volatile("" ::: "memory");          /* before the call that follows       */
    return was;
}

void crumb_mirror(char page[CRUMB_PAGE])
{
    mirror = page;
}

const struct crumb *crumb_now(void)
{
    return now;
}

void crumb_adopt(const struct crumb *c)
{
    now = c;
}

void crash_step(int64_t s)
{
    step = s;
}

void crash_log(int fd)
{
    log_fd = fd;
}

void crash_advice(const char *text)
{
    snprintf(advice, sizeof advice, "%s", text ? text : "");
}

/* ---- the message ------------------------------------------------------------------ */

struct line { char text[1200]; size_t n; };

static void add(struct line *l, const char *s)
{
    while (*s && l->n < sizeof l->text - 1) l->text[l->n++] = *s++;
}

static void add_number(struct line *l, int64_t x)
{
    char digit[24], *d = digit + sizeof digit - 1;
    for (*d = 0; x > 0; x /= 10) *--d = (char)('0' + x % 10);
    add(l, d);
}

static void describe(struct line *l, int number)
{
    const struct crumb *c = now;
    add(l, "chimera: crashed in ");
    if (c) {
        add(l, c->instance);
        add(l, " (");
        add(l, c->component);
        add(l, ") ");
        add(l, c->op);
    } else
        add(l, "the program itself");
    if (step) {
        add(l, ", step ");
        add_number(l, step);
    }
    for (int i = 0; i < CRASHES; i++)
        if (crashes[i].number == number) add(l, ": "), add(l, crashes[i].name);
    add(l, "\n");
    if (*advice) add(l, "chimera: "), add(l, advice), add(l, "\n");
}

static void on_crash(int number)
{
    struct line l = { .n = 0 };
    describe(&l, number);
    ssize_t told = isatty(2) ? write(2, "\n", 1) : 0;    /* off the status line      */
    told += write(2, l.text, l.n);
    if (log_fd >= 0) told += write(log_fd, l.text, l.n);
    (void)told;
    raise(number);                              /* SA_RESETHAND: this one ends us     */
}

void crash_catch(void)
{
    static char stack[64 << 10];                /* the other one may have overflown   */
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    sigaltstack(&alternate, NULL);
    for (int i = 0; i < CRASHES; i++) {
        struct sigaction a, before;
        if (sigaction(crashes[i].number, NULL, &before) || before.sa_handler != SIG_DFL) continue;
        memset(&a, 0, sizeof a);
        a.sa_handler = on_crash;
        a.sa_flags = (int)(SA_RESETHAND | SA_NODEFER | SA_ONSTACK);
        sigemptyset(&a.sa_mask);
        sigaction(crashes[i].number, &a, NULL);
    }
}
