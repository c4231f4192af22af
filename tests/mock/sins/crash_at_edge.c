/* crash_at_edge.c - an option at the end of its range makes it divide by zero. */
#define NAME crash_at_edge
#define OPTIONS CHI_INT(struct conf, width, "8", 0, 64, "how wide it is", 0),
#define OPEN if (l->d / l->conf.width > 1000) return CHI_ESHAPE;
#include "healthy.h"
