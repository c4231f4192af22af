/* overflow.c - what an option asks for is more memory than there is in the world, and nobody looks. */
#define NAME overflow
#define OPTIONS CHI_INT(struct conf, width, "8", 1, 1ll << 58, "how wide it is", 0),
#define OPEN ops->state(plan, "more", CHI_F32, l->conf.width);
#include "healthy.h"
