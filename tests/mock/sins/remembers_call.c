/* remembers_call.c - keeps what the last training call left in an array if the first number is the same. */
#define SIN REMEMBERS
#include "mixer.h"
MIXER(remembers_call);
