/* far_row.c - the row 64 of a call is slightly off. */
#define SIN FAR_ROW
#include "mixer.h"
MIXER(far_row);
