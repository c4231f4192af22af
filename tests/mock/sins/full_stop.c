/* full_stop.c - its texts end with full stops. */
#define NAME full_stop
#define MORE .summary = "It sums the past."
#include "healthy.h"
