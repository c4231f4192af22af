/* duplicate_component.c - brings the same component twice. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("duplicate_component", .conf_size = 0);
static const struct chi_component again = MOCK_LAYER("duplicate_component", .conf_size = 0);
MOCK_NAMED("duplicate_component", &layer, &again);
