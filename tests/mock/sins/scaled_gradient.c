/* scaled_gradient.c - the gradient of gain is 1.01 times what it is. */
#define SIN SCALED
#include "mixer.h"
MIXER(scaled_gradient);
