/* other_layout.c - compiled with other struct sizes. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("other_layout", .conf_size = 0);
MOCK_PLUGIN(CHI_MAGIC, CHI_ABI_MAJOR, CHI_ABI_MINOR, sizeof(struct chi_plugin), CHI_LAYOUT ^ 8u, "other_layout",
            &layer);
