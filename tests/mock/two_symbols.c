/* two_symbols.c - exports a second symbol. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component layer = MOCK_LAYER("two_symbols", .conf_size = 0);
MOCK_NAMED("two_symbols", &layer);
extern const int another_symbol;
CHI_EXPORT const int another_symbol = 1;
