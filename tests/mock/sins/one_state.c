/* one_state.c - all segments of a call go on in the state of the first. */
#define SIN ONE_STATE
#include "mixer.h"
MIXER(one_state);
