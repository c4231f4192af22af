/* position_fresh.c - a stream begins where pos is 0, whatever fresh says. */
#define SIN POSITION_FRESH
#include "mixer.h"
MIXER(position_fresh);
