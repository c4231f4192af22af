/* late_meter.c - reports a number under a name that its component does not list, in backward only. */
#define NAME late_meter
#define BACKWARD r->h->meter(r->h, "surprise", 1);
#include "healthy.h"
