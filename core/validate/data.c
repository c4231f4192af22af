/* data.c - checks of tokenizers and tasks. */
#include "validate.h"

const struct check checks_data[] = {
    { 0 }
};
