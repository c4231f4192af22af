/* tiny_input.c - scales the input of its linear by 2^-108 and the result back: exact in floats, but int8 activations
 * below 1e-30 count as zero.                                                              */
#define NAME "tiny_input"
#define LINEAR_SCALE 0x1p-108f
#include "leaky.h"
