/* missing_default.c - an option that need not be given, without a default. */
#define NAME missing_default
#define OPTIONS CHI_INT(struct conf, width, NULL, 1, 64, "how wide it is", 0),
#include "healthy.h"
