/* wrong_magic.c - its manifest begins with another number. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("wrong_magic", .conf_size = 0);
MOCK_PLUGIN(0x12345678u, CHI_ABI_MAJOR, CHI_ABI_MINOR, sizeof(struct chi_plugin), CHI_LAYOUT, "wrong_magic", &layer);
