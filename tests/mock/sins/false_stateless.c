/* false_stateless.c - claims CHI_LAYER_STATELESS and keeps a state. */
#define SIN FALSE_CLAIM
#include "mixer.h"
MIXER(false_stateless);
