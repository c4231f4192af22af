/* calls_malloc.c - takes memory that nobody counts. */
#include <stdlib.h>
#define NAME calls_malloc
#define OPEN void *volatile p = malloc(100); free(p);
#include "healthy.h"
