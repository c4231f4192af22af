/* crash_constructor.c - crashes while it is loaded. */
#include "mock.h"

#include <stdlib.h>

__attribute__((constructor)) static void crash(void)
{
    abort();
}

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("crash_constructor", .conf_size = 0);
MOCK_NAMED("crash_constructor", &layer);
