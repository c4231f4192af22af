/* large_input.c - the gradient of skip has the wrong sign where |x| > 2. */
#define SIN LARGE
#include "mixer.h"
MIXER(large_input);
