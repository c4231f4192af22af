/* two_rows.c - a call of two rows rounds otherwise than two calls of one. */
#define SIN TWO_ROWS
#include "mixer.h"
MIXER(two_rows);
