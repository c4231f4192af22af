/* tokenizers.c - checks of tokenizers. */
#include "kinds.h"

const struct check checks_tokenizers[] = {
    { 0 }
};
