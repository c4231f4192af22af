/* mallocs_forever.c - takes memory past the core until there is none, and then follows the null pointer. */
#include <stdlib.h>
#include <string.h>
#define NAME mallocs_forever
#define OPEN for (;;) memset(malloc(1 << 24), 1, 1 << 24);
#include "healthy.h"
