/* crash_in_open.c - follows a null pointer. */
#define NAME crash_in_open
#define OPEN *(int *volatile)0 = 1;
#include "healthy.h"
