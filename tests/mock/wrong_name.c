/* wrong_name.c - calls itself otherwise than its file. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("wrong_name", .conf_size = 0);
MOCK_NAMED("somebody_else", &layer);
