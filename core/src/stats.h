/* stats.h - the statistics of a comparison: few runs, unknown spread, several arms.
 *
 * Distributions come from the regularised incomplete beta function, never from tables, so
 * that any degree of freedom works (Welch's are no integers).  Formulas stand in stats.c;
 * doc/report.md says how to read the results.                                    */
#ifndef STATS_H
#define STATS_H

#include <chimera/base.h>

/* ---- distributions ---------------------------------------------------------- */
double stat_beta(double a, double b, double x);         /* I_x(a, b)              */
double stat_t_cdf(double t, double df);
double stat_t_tails(double t, double df);               /* P(|T| >= |t|)          */
double stat_t_quantile(double p, double df);
/* P(reject | noncentrality) of a two-sided t-test at level alpha                 */
double stat_t_power(double noncentral, double df, double alpha);
/* The noncentrality at which that power is reached                               */
double stat_t_least(double df, double alpha, double power);

/* ---- one arm ------------------------------------------------------------------ */
struct stat_sample {
    int64_t n;
    double  mean, sd;                   /* sd with n - 1; NaN for n < 2            */
    double  lo, hi;                     /* 95 % interval of the mean; NaN likewise */
};
struct stat_sample stat_sample(const double *x, int64_t n);

/* ---- two arms ----------------------------------------------------------------- */
struct stat_test {
    bool    paired;
    bool    flat;                       /* no spread: no test                      */
    int64_t n;                          /* pairs, or runs of both arms             */
    double  diff, lo, hi;               /* mean difference x - y, 95 % interval    */
    double  t, df, p;                   /* two-sided; NaN where there is no test   */
    double  flip;                       /* sign-flip p, paired only, or NaN        */
    double  d;                          /* effect size: d_z paired, else Cohen's d */
    double  least;                      /* smallest |diff| seen with power 0.8     */
};
/* alpha is the level at which `least` is asked for (0.05 over the number of arms) */
struct stat_test stat_paired(const double *x, const double *y, int64_t n, double alpha);
struct stat_test stat_welch(const double *x, int64_t nx, const double *y, int64_t ny, double alpha);
/* Two-sided p of the mean of d[n] under flipped signs: all 2^n up to n = 20, then
 * 2^20 drawn from a fixed seed                                                    */
double stat_sign_flip(const double *d, int64_t n);
/* adjusted[n] from p[n]; NaN stays NaN and does not count                         */
void stat_holm(const double *p, int64_t n, double *adjusted);

enum stat_verdict { STAT_BASELINE, STAT_BETTER, STAT_WORSE, STAT_UNSURE };
enum stat_verdict stat_verdict(const struct stat_test *, double adjusted_p, bool higher_is_better);

#endif
