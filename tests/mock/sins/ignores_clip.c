/* ignores_clip.c - an optimizer that takes gradients as they are.                                */
#define NAME "ignores_clip"
#define CLIP 1
#include "descent.h"
