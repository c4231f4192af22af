/* far_gradient.c - the gradient that passes row 64 of a call is halved. */
#define SIN FAR_GRADIENT
#include "mixer.h"
MIXER(far_gradient);
