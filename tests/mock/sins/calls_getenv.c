/* calls_getenv.c - reads the environment, so that a run depends on more than its INI file. */
#include <stdlib.h>
static const char *volatile seen;
#define NAME calls_getenv
#define OPEN seen = getenv("HOME");
#include "healthy.h"
