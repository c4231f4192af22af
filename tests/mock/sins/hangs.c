/* hangs.c - never comes back from open. */
#define NAME hangs
#define OPEN for (volatile int on = 1; on;) { }
#include "healthy.h"
