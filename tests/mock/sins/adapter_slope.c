/* adapter_slope.c - an adapter whose gradient is too small by half. */
#define NAME "adapter_slope"
#define SLOPE(x) (0.5f * (x))
#include "diagonal.h"
