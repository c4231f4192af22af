/* exit_constructor.c - ends the process while it is loaded, as if all were well. */
#include "mock.h"

#include <stdlib.h>

__attribute__((constructor)) static void leave(void)
{
    exit(0);
}

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("exit_constructor", .conf_size = 0);
MOCK_NAMED("exit_constructor", &layer);
