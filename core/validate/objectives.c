/* objectives.c - checks of objectives. */
#include "kinds.h"

const struct check checks_objectives[] = {
    { 0 }
};
