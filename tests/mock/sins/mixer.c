/* mixer.c - no sin: every check passes. */
#define SIN NONE
#include "mixer.h"
MIXER(mixer);
