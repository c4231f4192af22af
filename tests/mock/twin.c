/* twin.c - no sin of its own, but brings the component of good_layer.c, too. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("good_layer", .conf_size = 0);
MOCK_NAMED("twin", &layer);
