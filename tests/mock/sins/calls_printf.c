/* calls_printf.c - writes to the program's standard output. */
#include <stdio.h>
#define NAME calls_printf
#define OPEN printf("hello from a plugin %d\n", 1); fflush(stdout);
#include "healthy.h"
