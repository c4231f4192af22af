/* backends.h - what the two files about backends share.                                       */
#ifndef BACKENDS_H
#define BACKENDS_H

#include "validate.h"

/* open() of the backend was called and agrees; else the trial is skipped                       */
bool backend_ready(struct trial *);
void check_backend_linears(struct trial *);

#endif
