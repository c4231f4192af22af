/* other_major.c - built for another major version of the ABI. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("other_major", .conf_size = 0);
MOCK_PLUGIN(CHI_MAGIC, CHI_ABI_MAJOR + 1, 3, sizeof(struct chi_plugin), CHI_LAYOUT, "other_major", &layer);
