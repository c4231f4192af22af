/* test_stats.c - the statistics against printed tables (Student's t and F, as in Fisher and Yates) and
 * against worked examples whose results are in print: Student's sleep data (Biometrika 6, 1908), Darwin's
 * maize by Fisher (The Design of Experiments, 1935, section 21), power as in Cohen (1988).            */
#include <criterion/criterion.h>
#include <math.h>

#include "stats.h"

static void near(double got, double want, double by, const char *what)
{
    cr_expect(fabs(got - want) <= by, "%s: %.9g, want %.9g", what, got, want);
}

Test(stats, t_quantiles_of_the_table)
{
    static const struct { double df, q90, q95, q975, q995; } row[] = {
        { 1, 3.078, 6.314, 12.706, 63.657 }, { 2, 1.886, 2.920, 4.303, 9.925 }, { 3, 1.638, 2.353, 3.182, 5.841 },
        { 4, 1.533, 2.132, 2.776, 4.604 }, { 5, 1.476, 2.015, 2.571, 4.032 }, { 10, 1.372, 1.812, 2.228, 3.169 },
        { 20, 1.325, 1.725, 2.086, 2.845 }, { 30, 1.310, 1.697, 2.042, 2.750 }, { 120, 1.289, 1.658, 1.980, 2.617 },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        near(stat_t_quantile(0.9, row[i].df), row[i].q90, 6e-4, "t 0.9");
        near(stat_t_quantile(0.95, row[i].df), row[i].q95, 6e-4, "t 0.95");
        near(stat_t_quantile(0.975, row[i].df), row[i].q975, 6e-4, "t 0.975");
        near(stat_t_quantile(0.995, row[i].df), row[i].q995, 6e-4, "t 0.995");
        near(stat_t_quantile(0.025, row[i].df), -row[i].q975, 6e-4, "t 0.025");
    }
    near(stat_t_quantile(0.975, 1e7), 1.959964, 1e-5, "normal");
}

/* df 1 is Cauchy's: 1/2 + atan(t) / pi; df 2 is 1/2 + t / (2 sqrt(2 + t^2))                          */
Test(stats, t_where_it_has_a_closed_form)
{
    for (double t = -30; t <= 30; t += 0.37) {
        near(stat_t_cdf(t, 1), 0.5 + atan(t) / acos(-1), 1e-13, "df 1");
        near(stat_t_cdf(t, 2), 0.5 + t / (2 * sqrt(2 + t * t)), 1e-13, "df 2");
    }
    near(stat_t_cdf(0, 5), 0.5, 1e-15, "middle");
    near(stat_t_tails(40, 10) / 2.28085774e-12, 1, 1e-8, "far tail keeps its digits");
}

/* F(x; m, n) = I_{mx / (mx + n)}(m/2, n/2)                                                            */
Test(stats, f_quantiles_of_the_table)
{
    static const struct { double m, n, p, x; } row[] = {
        { 1, 1, 0.95, 161.4476 }, { 2, 10, 0.95, 4.1028 }, { 5, 10, 0.95, 3.3258 }, { 10, 20, 0.95, 2.3479 },
        { 3, 12, 0.99, 5.9525 }, { 24, 60, 0.95, 1.7001 }, { 1, 120, 0.95, 3.9201 }, { 4, 6, 0.99, 9.1483 },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        double a = row[i].m * row[i].x;
        near(stat_beta(row[i].m / 2, row[i].n / 2, a / (a + row[i].n)), row[i].p, 1e-5, "F");
    }
    near(stat_beta(3, 4, 0), 0, 0, "at 0");
    near(stat_beta(3, 4, 1), 1, 0, "at 1");
    near(stat_beta(3, 4, 0.3) + stat_beta(4, 3, 0.7), 1, 1e-14, "mirrored");
}

static const double sleep_1[] = { 0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0 };
static const double sleep_2[] = { 1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4 };

Test(stats, mean_spread_and_interval)
{
    struct stat_sample s = stat_sample((const double[]){ 2, 4, 4, 4, 5, 5, 7, 9 }, 8);
    near(s.mean, 5, 1e-15, "mean");
    near(s.sd, sqrt(32.0 / 7), 1e-15, "sd");
    near(s.hi - s.lo, 2 * 2.364624 * sqrt(32.0 / 7 / 8), 1e-5, "interval");
    s = stat_sample((const double[]){ 3 }, 1);
    cr_expect(s.mean == 3 && isnan(s.sd) && isnan(s.lo) && isnan(s.hi));
    s = stat_sample(NULL, 0);
    cr_expect(isnan(s.mean));
}

Test(stats, student_1908_paired)
{
    struct stat_test r = stat_paired(sleep_1, sleep_2, 10, 0.05);
    cr_expect(r.paired && !r.flat);
    near(r.diff, -1.58, 1e-12, "difference");
    near(r.t, -4.0621277, 1e-6, "t");
    near(r.df, 9, 0, "df");
    near(r.p, 0.00283289, 1e-7, "p");
    near(r.lo, -2.4598858, 1e-6, "lo");
    near(r.hi, -0.7001142, 1e-6, "hi");
    near(r.d, -4.0621277 / sqrt(10), 1e-6, "d_z");
    near(r.flip, 4 / 1024.0, 1e-15, "sign flips: nine differences of one sign and a zero");
}

Test(stats, student_1908_welch)
{
    struct stat_test r = stat_welch(sleep_1, 10, sleep_2, 10, 0.05);
    near(r.t, -1.8608135, 1e-6, "t");
    near(r.df, 17.776474, 1e-5, "df");
    near(r.p, 0.07939414, 1e-7, "p");
    near(r.lo, -3.3654832, 1e-6, "lo");
    near(r.hi, 0.2054832, 1e-6, "hi");
    near(r.d, -0.8321811, 1e-6, "Cohen's d");
    cr_expect(!r.paired && isnan(r.flip));
}

/* 863 of the 32768 sign patterns of Darwin's 15 pairs reach their sum, and as many its negative       */
Test(stats, fisher_1935_sign_flips)
{
    static const double d[] = { 49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48 };
    static const double zero[15];
    near(stat_sign_flip(d, 15), 2 * 863 / 32768.0, 1e-15, "sign flips");
    struct stat_test r = stat_paired(d, zero, 15, 0.05);
    near(r.t, 2.148, 5e-4, "t");
    near(r.p, 0.0497, 5e-5, "p");
    near(r.flip, 2 * 863 / 32768.0, 1e-15, "of the pair");
}

/* Beyond 20 pairs signs are drawn: the same every time, and near the exact share.  24 differences of 1 and
 * -1, 18 of them 1: |sum| >= 12 has probability 2 P(Bin(24, 1/2) >= 18)                               */
Test(stats, drawn_sign_flips_come_near_the_exact_share)
{
    double d[24], exact = 0, choose = 1;
    for (int i = 0; i < 24; i++) d[i] = i < 18 ? 1 : -1;
    for (int k = 0; k <= 24; k++) {
        if (k >= 18) exact += 2 * choose / 16777216.0;
        choose = choose * (24 - k) / (k + 1);
    }
    double p = stat_sign_flip(d, 24);
    near(p, exact, 6 * sqrt(exact / (1 << 20)), "drawn");
    cr_expect_eq(p, stat_sign_flip(d, 24));
}

Test(stats, holm_1979)
{
    double out[6];
    stat_holm((const double[]){ 0.01, 0.04, 0.03, 0.005 }, 4, out);
    near(out[0], 0.03, 1e-15, "second of four");
    near(out[1], 0.06, 1e-15, "last, made monotone");
    near(out[2], 0.06, 1e-15, "third");
    near(out[3], 0.02, 1e-15, "first");
    stat_holm((const double[]){ NAN, 0.02, 0.7, NAN, 0.6, 0.02 }, 6, out);
    cr_expect(isnan(out[0]) && isnan(out[3]), "no test stays none");
    near(out[1], 0.08, 1e-15, "tie");
    near(out[5], 0.08, 1e-15, "tie");
    near(out[2], 1, 1e-15, "at most one");
}

/* Two groups of 20 with d = 1: 0.8689528.  Power 0.8 for d = 0.5 takes 33.36713 pairs, or two groups of 63.76561 */
Test(stats, power_of_t_tests)
{
    near(stat_t_power(sqrt(10), 38, 0.05), 0.8689528, 1e-6, "two groups");
    near(stat_t_power(0.5 * sqrt(33.36713), 32.36713, 0.05), 0.8, 1e-6, "pairs");
    near(stat_t_power(0.5 * sqrt(63.76561 / 2), 2 * 62.76561, 0.05), 0.8, 1e-6, "two groups, d 0.5");
    near(stat_t_power(0, 4, 0.05), 0.05, 1e-6, "no effect: the level");
    near(stat_t_power(0, 1, 0.05), 0.05, 1e-5, "no effect: the level");
    near(stat_t_least(32.36713, 0.05, 0.8) / sqrt(33.36713), 0.5, 1e-6, "and back");
    struct stat_test r = stat_paired(sleep_1, sleep_2, 10, 0.05);
    near(stat_t_power(r.least / (r.diff / r.t), 9, 0.05), 0.8, 1e-6, "least");
}

Test(stats, no_spread_no_test)
{
    struct stat_test r = stat_paired((const double[]){ 1.3, 2.3, 3.3 }, (const double[]){ 1, 2, 3 }, 3, 0.05);
    cr_expect(r.flat && isnan(r.p) && isnan(r.t), "equal differences say nothing of chance");
    near(r.diff, 0.3, 1e-12, "difference");
    r = stat_paired((const double[]){ 1.3 }, (const double[]){ 1 }, 1, 0.05);
    cr_expect(!r.flat && isnan(r.p));
    r = stat_welch((const double[]){ 1, 1 }, 2, (const double[]){ 2, 2 }, 2, 0.05);
    cr_expect(r.flat && isnan(r.p));
    r = stat_welch((const double[]){ 1, 2 }, 2, (const double[]){ 2 }, 1, 0.05);
    cr_expect(!r.flat && isnan(r.p));
}

Test(stats, verdicts)
{
    struct stat_test r = { .diff = -0.1 };
    cr_expect_eq(stat_verdict(&r, 0.04, false), STAT_BETTER);
    cr_expect_eq(stat_verdict(&r, 0.04, true), STAT_WORSE);
    cr_expect_eq(stat_verdict(&r, 0.05, false), STAT_UNSURE);
    cr_expect_eq(stat_verdict(&r, NAN, false), STAT_UNSURE);
    r.diff = 0.1;
    cr_expect_eq(stat_verdict(&r, 0.01, false), STAT_WORSE);
    cr_expect_eq(stat_verdict(&r, 0.01, true), STAT_BETTER);
}
