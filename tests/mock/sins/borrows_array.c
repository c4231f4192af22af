/* borrows_array.c - backward reads arrays that it did not ask to keep. */
#define SIN BORROWS
#include "mixer.h"
MIXER(borrows_array);
