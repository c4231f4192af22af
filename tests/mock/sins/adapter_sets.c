/* adapter_sets.c - an adapter that writes its result over the linear's. */
#define NAME "adapter_sets"
#define ADD(y, v) ((y) = (v))
#include "diagonal.h"
