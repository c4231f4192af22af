/* remembers_call.c - takes what the last training call left in an array if the rows are the same: weights may
 * differ. */
#define SIN REMEMBERS
#include "mixer.h"
MIXER(remembers_call);
