/* no_ops.c - a component has no table of functions. */
#include "mock.h"

static const struct chi_component layer = {
    .struct_size = sizeof layer, .kind = CHI_LAYER, .name = "no_ops", .summary = "a mock",
};
MOCK_NAMED("no_ops", &layer);
