/* allocates.c - takes memory until there is none. */
#define NAME allocates
#define OPEN while (h->alloc(h, 1 << 20)) { } return CHI_ENOMEM;
#include "healthy.h"
