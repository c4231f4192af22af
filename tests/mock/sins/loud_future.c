/* loud_future.c - clips by the mean of all rows of a call, later ones, too; quiet rows never notice. */
#define SIN LOUD
#include "mixer.h"
MIXER(loud_future);
