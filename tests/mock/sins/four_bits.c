/* four_bits.c - no sin: a coarse quantizer. */
#define NAME "four_bits"
#include "coarse.h"
