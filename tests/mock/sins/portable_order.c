/* portable_order.c - a portable kernel that rounds in another order than kernel.h says.         */
#define NAME "portable_order"
#define PRODUCT(scale, p) ((float)((double)(scale) * 1.0000001) * (p))
#include "rowwise.h"
