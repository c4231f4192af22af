/* writes_self.c - forward counts its calls in self, which is const.                       */
#define NAME "writes_self"
#define IN_FORWARD ((struct leaky *)(uintptr_t)self)->calls++;
#include "leaky.h"
