/* stats.c - tests for few runs; see stats.h.
 *
 *   mean m = sum x / n, sd^2 = sum (x - m)^2 / (n - 1), interval m +- t_{0.975, n-1} sd / sqrt n
 *   paired     d_i = x_i - y_i: t = mean d / (sd_d / sqrt n), n - 1 degrees of freedom, d_z = mean d / sd_d
 *   Welch      t = (m_x - m_y) / sqrt(v_x + v_y), v = sd^2 / n, degrees of freedom
 *              (v_x + v_y)^2 / (v_x^2 / (n_x - 1) + v_y^2 / (n_y - 1))   (Welch, Biometrika 34, 1947)
 *   sign flip  share of the sign patterns s with |sum s_i d_i| >= |sum d_i|   (Fisher 1935, section 21)
 *   Holm       p_(k) of the k-th smallest times (m - k + 1), made monotone   (Scand. J. Stat. 6, 1979)
 *   power      P(|T'| > t_{1-a/2}), T' noncentral t: (Z + delta) / S, S^2 = chi^2_df / df          */
#include "stats.h"

#include <math.h>
#include <stdlib.h>

#include "core.h"
#include "rng.h"

enum { FLIP_EXACT = 20, FLIP_DRAWS = 1 << 20, FLIP_SEED = 1935 };

/* ---- distributions ------------------------------------------------------------- */

/* Continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method  */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double h = d;
    for (int m = 1; m < 10000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        for (int k = 0; k < 2; k++) {
            double term = k ? odd : even;
            d = 1 + term * d;
            c = 1 + term / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            if (fabs(c) < tiny) c = tiny;
            h *= d * c;
        }
        if (fabs(d * c - 1) < 1e-15) break;
    }
    return h;
}

double stat_beta(double a, double b, double x)
{
    if (!(x > 0)) return isnan(x) ? NAN : 0;
    if (x >= 1) return 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double stat_t_tails(double t, double df)
{
    return isinf(t) ? 0 : stat_beta(df / 2, 0.5, df / (df + t * t));
}

double stat_t_cdf(double t, double df)
{
    double tail = stat_t_tails(t, df) / 2;
    return t > 0 ? 1 - tail : tail;
}

double stat_t_quantile(double p, double df)
{
    if (!(p > 0 && p < 1)) return p == 0 ? -INFINITY : p == 1 ? INFINITY : NAN;
    double tails = 2 * (p < 0.5 ? p : 1 - p), lo = 0, hi = 1;
    while (stat_t_tails(hi, df) > tails) hi *= 2;
    for (int i = 0; i < 100; i++) {
        double mid = (lo + hi) / 2;
        if (stat_t_tails(mid, df) > tails) lo = mid;
        else hi = mid;
    }
    return p < 0.5 ? -hi : hi;
}

static double normal_cdf(double z)
{
    return erfc(-z / sqrt(2)) / 2;
}

/* Simpson's rule over the density of S, 2 (df/2)^(df/2) / Gamma(df/2) s^(df-1) exp(-df s^2 / 2)   */
double stat_t_power(double noncentral, double df, double alpha)
{
    enum { STEPS = 4000 };
    double critical = stat_t_quantile(1 - alpha / 2, df), end = 1 + 12 / sqrt(2 * df), sum = 0;
    double log_front = log(2) + df / 2 * log(df / 2) - lgamma(df / 2), h = end / STEPS;
    for (int i = 0; i <= STEPS; i++) {
        double s = i * h;
        double density = s > 0 ? exp(log_front + (df - 1) * log(s) - df * s * s / 2) : df > 1 ? 0 : exp(log_front);
        double reject = normal_cdf(noncentral - critical * s) + normal_cdf(-noncentral - critical * s);
        sum += (i == 0 || i == STEPS ? 1 : i % 2 ? 4 : 2) * density * reject;
    }
    return sum * h / 3;
}

double stat_t_least(double df, double alpha, double power)
{
    double lo = 0, hi = 1;
    while (stat_t_power(hi, df, alpha) < power && hi < 1e6) hi *= 2;
    for (int i = 0; i < 40; i++) {
        double mid = (lo + hi) / 2;
        if (stat_t_power(mid, df, alpha) < power) lo = mid;
        else hi = mid;
    }
    return hi;
}

/* ---- samples ------------------------------------------------------------------- */

struct stat_sample stat_sample(const double *x, int64_t n)
{
    struct stat_sample s = { .n = n, .mean = NAN, .sd = NAN, .lo = NAN, .hi = NAN };
    double sum = 0, square = 0;
    if (n < 1) return s;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    s.mean = sum / (double)n;
    if (n < 2) return s;
    for (int64_t i = 0; i < n; i++) square += (x[i] - s.mean) * (x[i] - s.mean);
    s.sd = sqrt(square / (double)(n - 1));
    double half = stat_t_quantile(0.975, (double)(n - 1)) * s.sd / sqrt((double)n);
    s.lo = s.mean - half;
    s.hi = s.mean + half;
    return s;
}

/* Of values this large, is a spread of sd more than what rounding leaves?               */
static bool is_flat(double sd, double size)
{
    return sd <= 1e-12 * size;
}

static void finish_test(struct stat_test *r, double error, double alpha)
{
    double half = stat_t_quantile(0.975, r->df) * error;
    r->t = r->diff / error;
    r->p = stat_t_tails(r->t, r->df);
    r->lo = r->diff - half;
    r->hi = r->diff + half;
    r->least = stat_t_least(r->df, alpha, 0.8) * error;
}

static struct stat_test no_test(bool paired, int64_t n, double diff)
{
    return (struct stat_test){ .paired = paired, .n = n, .diff = diff, .lo = NAN, .hi = NAN, .t = NAN,
                               .df = NAN, .p = NAN, .flip = NAN, .d = NAN, .least = NAN };
}

struct stat_test stat_paired(const double *x, const double *y, int64_t n, double alpha)
{
    double *d = xcalloc((size_t)max_i64(n, 1), sizeof *d), size = 0;
    for (int64_t i = 0; i < n; i++) {
        d[i] = x[i] - y[i];
        size = fmax(size, fmax(fabs(x[i]), fabs(y[i])));
    }
    struct stat_sample s = stat_sample(d, n);
    struct stat_test r = no_test(true, n, s.mean);
    if (n > 1 && !(r.flat = is_flat(s.sd, size))) {
        r.df = (double)(n - 1);
        r.d = s.mean / s.sd;
        r.flip = stat_sign_flip(d, n);
        finish_test(&r, s.sd / sqrt((double)n), alpha);
    }
    free(d);
    return r;
}

struct stat_test stat_welch(const double *x, int64_t nx, const double *y, int64_t ny, double alpha)
{
    struct stat_sample a = stat_sample(x, nx), b = stat_sample(y, ny);
    struct stat_test r = no_test(false, nx + ny, a.mean - b.mean);
    if (nx < 2 || ny < 2) return r;
    double va = a.sd * a.sd / (double)nx, vb = b.sd * b.sd / (double)ny;
    r.flat = is_flat(sqrt(va + vb), fmax(fabs(a.mean), fabs(b.mean)));
    if (r.flat) return r;
    double pooled = ((double)(nx - 1) * a.sd * a.sd + (double)(ny - 1) * b.sd * b.sd) / (double)(nx + ny - 2);
    r.df = (va + vb) * (va + vb) / (va * va / (double)(nx - 1) + vb * vb / (double)(ny - 1));
    r.d = r.diff / sqrt(pooled);
    finish_test(&r, sqrt(va + vb), alpha);
    return r;
}

/* ---- sign flips ------------------------------------------------------------------ */

static double flipped(const double *d, int64_t n, uint64_t signs)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += signs >> i & 1 ? -d[i] : d[i];
    return sum;
}

/* One draw: 128 signs a block of the counter                                             */
static double flipped_at_random(const double *d, int64_t n, uint64_t draw)
{
    double sum = 0;
    uint32_t w[4];
    for (int64_t i = 0; i < n; i++) {
        if (i % 128 == 0) rng_words(w, FLIP_SEED, RNG_BENCH, (uint32_t)(i / 128), 0, draw);
        sum += w[i / 32 % 4] >> (i % 32) & 1 ? -d[i] : d[i];
    }
    return sum;
}

double stat_sign_flip(const double *d, int64_t n)
{
    double seen = 0, size = 0;
    for (int64_t i = 0; i < n; i++) seen += d[i];
    for (int64_t i = 0; i < n; i++) size += fabs(d[i]);
    double edge = fabs(seen) - 1e-12 * size;                  /* ties differ by rounding        */
    int64_t hits = 0, all = n <= FLIP_EXACT ? (int64_t)1 << n : FLIP_DRAWS;
    for (int64_t i = 0; i < all; i++)
        hits += fabs(n <= FLIP_EXACT ? flipped(d, n, (uint64_t)i) : flipped_at_random(d, n, (uint64_t)i)) >= edge;
    if (n <= FLIP_EXACT) return (double)hits / (double)all;
    return (double)(hits + 1) / (double)(all + 1);      /* what was seen is one of them    */
}

/* ---- several arms ------------------------------------------------------------------ */

void stat_holm(const double *p, int64_t n, double *adjusted)
{
    int64_t m = 0, done = 0;
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        adjusted[i] = NAN;
        m += !isnan(p[i]);
    }
    for (; done < m; done++) {
        int64_t least = -1;
        for (int64_t i = 0; i < n; i++)
            if (!isnan(p[i]) && isnan(adjusted[i]) && (least < 0 || p[i] < p[least])) least = i;
        worst = fmax(worst, fmin(1, p[least] * (double)(m - done)));
        adjusted[least] = worst;
    }
}

enum stat_verdict stat_verdict(const struct stat_test *r, double adjusted_p, bool higher_is_better)
{
    if (!(adjusted_p < 0.05)) return STAT_UNSURE;
    return (r->diff > 0) == higher_is_better ? STAT_BETTER : STAT_WORSE;
}
