/* third_choice.c - with the last of three values of an option dx is off. */
#define NAME third_choice
#define OPTIONS CHI_ENUM(struct conf, kind, "a", "a|b|c", "one of three", 0),
#define BACKWARD for (int64_t i = 0; l->conf.kind == 2 && i < r->rows * l->d; i++) dx[i] += 0.1f * dy[i];
#include "healthy.h"
