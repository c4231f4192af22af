/* long_list.c - with a list of other than two numbers dx is off. */
#define NAME long_list
#define OPTIONS CHI_LIST(struct conf, list, "1, 2", 1, 9, "some numbers", 0),
#define BACKWARD for (int64_t i = 0; l->conf.list.n != 2 && i < r->rows * l->d; i++) dx[i] += 0.1f * dy[i];
#include "healthy.h"
