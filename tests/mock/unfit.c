/* unfit.c - no sin: needs a CPU feature that no CPU has. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("unfit", .needs = 1u << 31);
MOCK_NAMED("unfit", &layer);
