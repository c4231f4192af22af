/* manifest.c - checks of the plugin file. */
#include "validate.h"

const struct check checks_manifest[] = {
    { 0 }
};
