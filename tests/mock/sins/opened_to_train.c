/* opened_to_train.c - a layer that was opened for training computes something else. */
#define SIN OPENED
#include "mixer.h"
MIXER(opened_to_train);
