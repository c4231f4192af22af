/* array_not_kept.c - backward reads an array that is not CHI_ARRAY_KEEP.                   */
#define NAME "array_not_kept"
#define H_FLAGS 0
#include "leaky.h"
