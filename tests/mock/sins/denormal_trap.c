/* denormal_trap.c - works a thousand times as long on a denormal number, as some CPUs do.   */
static volatile int sink;
#define NAME "denormal_trap"
#define ON_VALUE(v) if (v != 0 && v > -1.1e-38f && v < 1.1e-38f) for (int k = 0; k < 2000; k++) sink = k;
#include "leaky.h"
