/* schedule.h - what changes from step to step: pure functions of the step, from 0.   */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include "spec.h"

double schedule_lr(const struct train_options *, int64_t step);
double schedule_lambda(const struct train_options *, int64_t step);

#endif
