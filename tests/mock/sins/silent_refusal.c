/* silent_refusal.c - refuses odd widths and does not say why. */
#define NAME silent_refusal
#define OPEN if (l->d % 2) return CHI_ESHAPE;
#include "healthy.h"
