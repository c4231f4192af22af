/* swallows_nan.c - NaN becomes zero, so that nobody sees a broken model.                   */
#define NAME "swallows_nan"
#define ON_VALUE(v) if (v != v) v = 0;
#include "leaky.h"
