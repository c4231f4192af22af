/* needs_grads.c - writes gradients of parameters where nobody wants any (grads is NULL). */
#define SIN FROZEN
#include "mixer.h"
MIXER(needs_grads);
