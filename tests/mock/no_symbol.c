/* no_symbol.c - exports something, but no manifest. */
#include "mock.h"

extern const int another_symbol;
CHI_EXPORT const int another_symbol = 1;
