/* formats.c - checks of quantizers, encodings and backends. */
#include "validate.h"

const struct check checks_formats[] = {
    { 0 }
};
