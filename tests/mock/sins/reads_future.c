/* reads_future.c - a row reads the input of the next one, if the call has it. */
#define SIN FUTURE
#include "mixer.h"
MIXER(reads_future);
