/* no_forward.c - a layer lacks a function that all layers need. */
#include "mock.h"

static const struct chi_layer_ops mock_ops = { .struct_size = sizeof mock_ops, .open = mock_open };
static const struct chi_component layer = MOCK_LAYER("no_forward", .conf_size = 0);
MOCK_NAMED("no_forward", &layer);
