/* signals.c - see signals.h.                                                         */
#include "signals.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "core.h"

static const struct { int number; const char *name; } caught[] = {
    { SIGINT, "SIGINT" }, { SIGTERM, "SIGTERM" }, { SIGUSR1, "SIGUSR1" },
};
enum { CAUGHT = sizeof caught / sizeof *caught };

static volatile sig_atomic_t pending;
static struct sigaction before[CAUGHT], before_pipe;

static void on_signal(int number)
{
    if (pending) {                              /* off the status line                */
        if (isatty(2) && write(2, "\n", 1) < 0) _exit(128 + number);
        _exit(128 + number);
    }
    pending = number;
}

void signals_catch(void)
{
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_signal;
    a.sa_flags = SA_RESTART;
    sigemptyset(&a.sa_mask);
    pending = 0;
    sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, &before_pipe);
    for (int i = 0; i < CAUGHT; i++) sigaction(caught[i].number, &a, &before[i]);
}

void signals_release(void)
{
    for (int i = 0; i < CAUGHT; i++) sigaction(caught[i].number, &before[i], NULL);
    sigaction(SIGPIPE, &before_pipe, NULL);
}

int signals_pending(void)
{
    return pending;
}

chi_status signals_stop(void)
{
    return pending ? fail(CHI_EREFUSED, "%s came", signals_name(pending)) : CHI_OK;
}

const char *signals_name(int number)
{
    for (int i = 0; i < CAUGHT; i++)
        if (caught[i].number == number) return caught[i].name;
    return "a signal";
}
