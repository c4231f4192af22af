/* short_ops.c - the table of functions ends too early. */
#include "mock.h"

static const struct chi_layer_ops mock_ops = { .struct_size = 16, .open = mock_open, .forward = mock_forward };
static const struct chi_component layer = MOCK_LAYER("short_ops", .conf_size = 0);
MOCK_NAMED("short_ops", &layer);
