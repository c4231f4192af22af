/* dot_last_bit.c - a dot product whose last bit is wrong if n % 16 is 5.                         */
#define NAME "dot_last_bit"
#define IN_DOT if (n % 16 == 5) sum *= 1.0000001f;
#include "vectors.h"
