/* remembers_position.c - a call of one row takes what the last one left in an array if it stood at the same
 * position. */
#define SIN SAME_PLACE
#include "mixer.h"
MIXER(remembers_position);
