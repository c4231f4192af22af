/* lost_sign.c - an encoding that stores the size of a scale alone.                            */
#define NAME "lost_sign"
#define ENCODED_SCALE(s) ((s) < 0 ? -(s) : (s))
#include "rowwise.h"
