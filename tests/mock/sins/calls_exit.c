/* calls_exit.c - ends the program when it is asked to compute. */
#include <stdlib.h>
#define NAME calls_exit
#define FORWARD exit(0);
#include "healthy.h"
