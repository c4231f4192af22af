/* layer_memory.c - checks of a layer and its memory. */
#include "validate.h"

const struct check checks_layer_memory[] = {
    { 0 }
};
