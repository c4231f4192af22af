/* no_dstate.c - ignores d loss/d state that later calls left. */
#define SIN NO_DSTATE
#include "mixer.h"
MIXER(no_dstate);
