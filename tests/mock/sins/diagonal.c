/* diagonal.c - a healthy adapter. */
#define NAME "diagonal"
#include "diagonal.h"
