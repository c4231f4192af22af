/* pointer_in_state.c - the state holds its own address. */
#define SIN POINTER
#include "mixer.h"
MIXER(pointer_in_state);
