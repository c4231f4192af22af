/* last_value.c - an optimizer that leaves out the last value of large slices. */
#define NAME "last_value"
#define VALUES(s) ((s)->n - ((s)->n > 1000))
#include "descent.h"
