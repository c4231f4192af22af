/* config.c - checks of options. */
#include "validate.h"

const struct check checks_config[] = {
    { 0 }
};
