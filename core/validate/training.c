/* training.c - checks of objectives and optimizers. */
#include "validate.h"

const struct check checks_training[] = {
    { 0 }
};
