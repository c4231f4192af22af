/* layer.c - checks of a layer's results. */
#include "validate.h"

const struct check checks_layer[] = {
    { 0 }
};
