/* wraps_around.c - a quantizer whose largest positive weights wrap around to the most negative number. */
#define NAME "wraps_around"
#define ROUND(x) ((x) > 6.5f ? -7 : (x) < 0 ? (x) - 0.5f : (x) + 0.5f)
#include "coarse.h"
