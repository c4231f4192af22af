/* first_dstate.c - whether any stream has a dstate is read off the first one. */
#define SIN FIRST_DSTATE
#include "mixer.h"
MIXER(first_dstate);
