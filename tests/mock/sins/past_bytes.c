/* past_bytes.c - an encoding that ends its last row with a byte too many.                      */
#define NAME "past_bytes"
#define AFTER_ENCODE if (r1 == rows) ((unsigned char *)out)[rows * row_bytes(cols)] = 0;
#include "rowwise.h"
