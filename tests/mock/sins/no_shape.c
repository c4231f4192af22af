/* no_shape.c - an option that decides how large a parameter is, and is not marked so. */
#define NAME no_shape
#define OPTIONS CHI_INT(struct conf, width, "4", 1, 64, "numbers that nobody reads", 0),
#define OPEN ops->param(plan, "unread", (int64_t[]){ l->conf.width, 0 }, CHI_INIT_CONST, 1, 0, 0);
#include "healthy.h"
