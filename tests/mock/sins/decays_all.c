/* decays_all.c - an optimizer whose weight decay pulls at every slice.                            */
#define NAME "decays_all"
#define DECAYS(s) 1
#include "descent.h"
