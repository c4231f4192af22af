/* tasks.c - checks of tasks. */
#include "kinds.h"

const struct check checks_tasks[] = {
    { 0 }
};
