/* row_position.c - takes the call's row for the position in the stream. */
#define SIN ROW_POSITION
#include "mixer.h"
MIXER(row_position);
