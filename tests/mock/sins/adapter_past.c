/* adapter_past.c - an adapter that writes behind its array. */
#define NAME "adapter_past"
#define AFTER(copy, n) ((copy)[n] = 1)
#include "diagonal.h"
