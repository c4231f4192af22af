/* healthy.c - no sin: every check passes. */
#define NAME healthy
#include "healthy.h"
