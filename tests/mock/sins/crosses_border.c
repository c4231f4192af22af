/* crosses_border.c - without dstate, a segment inherits the gradient of the segment behind it. */
#define SIN ACROSS
#include "mixer.h"
MIXER(crosses_border);
