/* schedule.c - learning rate and quantisation ramp.
 *
 *     s < warmup_steps   lr (s + 1) / warmup_steps
 *     constant           lr
 *     cosine_warmup      min_lr + (lr - min_lr) (1 + cos(pi u)) / 2,
 *                        u = (s - warmup_steps) / (steps - warmup_steps)
 *     wsd                lr, then in the last decay_fraction of the steps a line from lr
 *                        to min_lr (warm-up, stable, decay: arXiv 2404.06395)
 *     lambda             min(1, (s + 1) / (lambda_warmup steps)); 1 if there is no ramp */
#include "schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

static double cosine(const struct train_options *o, int64_t s)
{
    int64_t span = o->steps - o->warmup_steps;
    double u = span > 0 ? (double)(s - o->warmup_steps) / (double)span : 1;
    return o->min_lr + (o->lr - o->min_lr) * (1 + cos(pi * (u < 1 ? u : 1))) / 2;
}

static double wsd(const struct train_options *o, int64_t s)
{
    double begin = (1 - o->decay_fraction) * (double)o->steps, end = (double)o->steps;
    if ((double)s < begin || begin >= end) return o->lr;
    double u = ((double)s - begin) / (end - begin);
    return o->lr + (o->min_lr - o->lr) * (u < 1 ? u : 1);
}

double schedule_lr(const struct train_options *o, int64_t s)
{
    if (s < o->warmup_steps) return o->lr * (double)(s + 1) / (double)o->warmup_steps;
    switch (o->schedule) {
    case SCHEDULE_COSINE_WARMUP: return cosine(o, s);
    case SCHEDULE_WSD:           return wsd(o, s);
    default:                     return o->lr;
    }
}

double schedule_lambda(const struct train_options *o, int64_t s)
{
    double ramp = o->lambda_warmup * (double)o->steps;
    return ramp > 0 && (double)(s + 1) < ramp ? (double)(s + 1) / ramp : 1;
}
