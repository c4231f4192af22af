/* unlisted_meter.c - reports a number under a name that its component does not list. */
#define NAME unlisted_meter
#define FORWARD r->h->meter(r->h, "surprise", 1);
#include "healthy.h"
