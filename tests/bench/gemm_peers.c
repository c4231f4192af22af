/* gemm_peers.c - our gemm beside the libraries' sgemm, in one process, in alternating windows.
 *
 *     gemm_peers THREADS avx2.so LIBRARY...        (make bench-gemm finds them)
 *
 * With several threads ours is cut into row ranges, one call each, as the core does; a
 * library uses its own threads, so THREADS and the environment (OPENBLAS_NUM_THREADS,
 * BLIS_NUM_THREADS, OMP_NUM_THREADS) must say the same.  Every product is checked against
 * ours.  Prints the best and the median of the windows: other programs only ever slow them. */
#include <chimera/plugin.h>

#include <dlfcn.h>
#ifdef _OPENMP
# include <omp.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WINDOWS = 15, LIBRARIES = 8, ROW_MAJOR = 101, PLAIN = 111, PIECES = 4 };

typedef void sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *A,
                   int lda, const float *B, int ldb, float beta, float *C, int ldc);

struct peer { const char *name; sgemm *run; double seconds[WINDOWS]; };

static const struct chi_kernels *ours;
static int threads;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void product(const struct peer *p, int m, int n, int k, const float *A, const float *B, float *C)
{
    if (p->run) {
        p->run(ROW_MAJOR, PLAIN, PLAIN, m, n, k, 1, A, k, B, n, 0, C, n);
        return;
    }
    int pieces = threads > 1 ? PIECES * threads : 1, wide = n > m;
    int all = wide ? n : m, size = ((all + pieces - 1) / pieces + 47) / 48 * 48;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int from = 0; from < all; from += size) {
        int len = all - from < size ? all - from : size;
        if (wide) ours->gemm(false, false, m, len, k, A, k, B + from, n, 0, C + from, n);
        else ours->gemm(false, false, len, n, k, A + (int64_t)from * k, k, B, n, 0, C + (int64_t)from * n, n);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Largest difference; entries are below 0.5, so a sum of k of them errs by some 1e-7 k      */
static double distance(const float *a, const float *b, int64_t n)
{
    double far = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        if (!(d < 0 ? -d <= far : d <= far)) far = d < 0 ? -d : d;
    }
    return far;
}

static int shape(struct peer *p, int n_peers, int m, int n, int k)
{
    int64_t na = (int64_t)m * k, nb = (int64_t)k * n, nc = (int64_t)m * n;
    float *A = malloc((size_t)(na + nb + 2 * nc) * sizeof *A), *B = A + na, *C = B + nb, *want = C + nc;
    if (!A) return 1;
    for (int64_t i = 0; i < na + nb; i++) A[i] = (float)(i * 7919 % 509) / 509 - 0.5f;
    product(p, m, n, k, A, B, want);
    for (int w = 0; w < WINDOWS; w++)
        for (int i = 0; i < n_peers; i++) {
            double t = now_s();
            product(p + i, m, n, k, A, B, C);
            p[i].seconds[w] = now_s() - t;
            if (w == 0 && !(distance(C, want, nc) < 1e-4 * k)) {
                printf("%s: another product than ours\n", p[i].name);
                free(A);
                return 1;
            }
        }
    free(A);
    double work = 2e-9 * m * n * k, top = 1e30;
    for (int i = 0; i < n_peers; i++) {
        qsort(p[i].seconds, WINDOWS, sizeof *p[i].seconds, by_value);
        if (i > 0 && p[i].seconds[0] < top) top = p[i].seconds[0];
    }
    for (int i = 0; i < n_peers; i++)
        printf("%dx%dx%d  %d threads  best %6.1f  median %6.1f GFLOP/s  %s\n", m, n, k, threads,
               work / p[i].seconds[0], work / p[i].seconds[WINDOWS / 2], p[i].name);
    if (n_peers > 1) printf("    ours / best library: %.2f\n", top / p[0].seconds[0]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 2 + LIBRARIES) {
        fprintf(stderr, "usage: gemm_peers THREADS avx2.so LIBRARY...\n");
        return 2;
    }
    threads = atoi(argv[1]) > 1 ? atoi(argv[1]) : 1;
    void *h = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    const struct chi_plugin *plugin = h ? dlsym(h, "chimera_plugin") : NULL;
    if (!plugin) {
        fprintf(stderr, "gemm_peers: %s\n", dlerror());
        return 1;
    }
    ours = ((const struct chi_backend_ops *)plugin->components[0]->ops)->kernels;
    struct peer peers[1 + LIBRARIES] = { { .name = "ours" } };
    int n = 1;
    for (int i = 3; i < argc; i++) {
        void *lib = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        void *f = lib ? dlsym(lib, "cblas_sgemm") : NULL;
        if (!f) {
            printf("%s: %s\n", argv[i], dlerror());
            continue;
        }
        peers[n].name = argv[i];
        memcpy(&peers[n++].run, &f, sizeof f);
    }
    return shape(peers, n, 512, 2560, 2560) || shape(peers, n, 2048, 512, 512)
        || shape(peers, n, 512, 6912, 2560);
}
