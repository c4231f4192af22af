/* newer_minor.c - built for a later minor version of the ABI. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("newer_minor", .conf_size = 0);
MOCK_PLUGIN(CHI_MAGIC, CHI_ABI_MAJOR, CHI_ABI_MINOR + 1, sizeof(struct chi_plugin), CHI_LAYOUT, "newer_minor",
            &layer);
