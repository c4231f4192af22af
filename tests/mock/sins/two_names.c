/* two_names.c - plans two parameters of one name. */
#define NAME two_names
#define OPEN ops->param(plan, "a", (int64_t[]){ 1, 0 }, CHI_INIT_CONST, 1, 0, 0);
#include "healthy.h"
