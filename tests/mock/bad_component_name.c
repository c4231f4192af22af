/* bad_component_name.c - a component has capital letters and a blank in its name. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("Good Layer", .conf_size = 0);
MOCK_NAMED("bad_component_name", &layer);
