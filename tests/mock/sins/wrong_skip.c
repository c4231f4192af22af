/* wrong_skip.c - the gradient of one parameter, skip, is half of what it is. */
#define SIN WRONG_SKIP
#include "mixer.h"
MIXER(wrong_skip);
