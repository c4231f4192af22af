/* optimizers.c - checks of optimizers. */
#include "kinds.h"

const struct check checks_optimizers[] = {
    { 0 }
};
