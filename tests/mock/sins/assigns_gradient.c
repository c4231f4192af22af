/* assigns_gradient.c - backward begins the gradient of skip anew instead of adding to it. */
#define SIN ASSIGNS
#include "mixer.h"
MIXER(assigns_gradient);
