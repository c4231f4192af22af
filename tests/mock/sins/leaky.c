/* leaky.c - no sin. */
#include "leaky.h"
