/* settles_others.c - settle() moves a parameter that belongs to the optimizer. */
#define SIN SETTLES
#include "mixer.h"
MIXER(settles_others);
