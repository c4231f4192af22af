/* wrong_size.c - its manifest claims another size. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("wrong_size", .conf_size = 0);
MOCK_PLUGIN(CHI_MAGIC, CHI_ABI_MAJOR, CHI_ABI_MINOR, 40, CHI_LAYOUT, "wrong_size", &layer);
