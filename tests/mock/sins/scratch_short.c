/* scratch_short.c - tasks use more scratch than open() announced.                          */
#define NAME "scratch_short"
#define SCRATCH(d) 16
#include "leaky.h"
