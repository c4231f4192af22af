/* rowwise.c - no sin: an encoding. */
#define NAME "rowwise"
#include "rowwise.h"
