/* writes_input.c - backward writes to dy, which is const: the value that is there, so that no result tells. */
#define NAME "writes_input"
#define IN_BACKWARD if (r->rows) *(volatile float *)(uintptr_t)dy = dy[0];
#include "leaky.h"
