/* adapter_holds.c - an adapter that holds a parameter which it does not have. */
#define NAME "adapter_holds"
#define HELD 2
#include "diagonal.h"
