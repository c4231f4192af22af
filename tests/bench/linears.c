/* linears.c - every backend's linear kernels on one thread, in the cache and from memory, for 1 to
 * 128 rows of activations: G multiply-adds a second, best of many windows, beside the registers' own
 * pace.  All backends take turns in one process.  linears [ENCODING]...                            */
#include "core.h"
#include "registry.h"

#include <chimera/format.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
# include <immintrin.h>
#endif

#ifndef LDQ                                             /* 2048 apart, rows share two sets of a cache */
# define LDQ (D_IN + 64)
#endif
enum { D_OUT = 512, D_IN = 2048, ROWS = 128, WINDOWS = 25 };

struct data {
    const struct chi_encoding_ops *encoding;
    int64_t group, bytes, copies;
    uint8_t *matrix;                                    /* copies of it               */
    float *x, *y, *step;
    int8_t *q;
    int16_t *sum;
    void *scratch;
};

/* ---- what registers can do ------------------------------------------------------------ */

#ifdef __x86_64__
#define TWELVE(op) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define TIMES(clear, step, n) \
    __asm__ volatile(clear "\n1:\n\t" step "sub $1, %0\n\tjnz 1b" : "+r"(n) : : "cc", "memory")
#define MADDUBS(r) "vpmaddubsw %%ymm0, %%ymm1, %%ymm" #r "\n\t"
#define DPBUSD(r)  "vpdpbusd %%zmm0, %%zmm1, %%zmm" #r "\n\t"

static void turn_maddubs(int64_t n) { TIMES("vpxor %%ymm0, %%ymm0, %%ymm0", TWELVE(MADDUBS), n); }
static void turn_dpbusd(int64_t n)  { TIMES("vpxor %%xmm0, %%xmm0, %%xmm0", TWELVE(DPBUSD), n); }

static void turn_tiles(int64_t n)
{
    uint8_t config[64] = { 1 };
    for (int i = 0; i < 8; i++) config[16 + 2 * i] = 64, config[48 + i] = 16;
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
    TIMES("tilezero %%tmm4\n\ttilezero %%tmm5\n\ttilezero %%tmm6\n\ttilezero %%tmm7",
          "tdpbssd %%tmm6, %%tmm4, %%tmm0\n\ttdpbssd %%tmm7, %%tmm4, %%tmm1\n\t"
          "tdpbssd %%tmm6, %%tmm5, %%tmm2\n\ttdpbssd %%tmm7, %%tmm5, %%tmm3\n\t", n);
    __asm__ volatile("tilerelease");
}

static void peak(const char *name, uint32_t needs, void (*turn)(int64_t), double products)
{
    double best = 0;
    if ((cpu_features() & needs) != needs) return;
    for (int i = 0; i < WINDOWS; i++) {
        double t = now_s();
        turn(1 << 18);
        double rate = products * (1 << 18) / (now_s() - t);
        best = rate > best ? rate : best;
    }
    printf("%-24s %8.0f GMAC/s on registers\n", name, best / 1e9);
}

static void peaks(void)
{
    peak("vpmaddubsw, 256 bits", CHI_CPU_AVX2, turn_maddubs, 12 * 32);
    peak("vpdpbusd, 512 bits", CHI_CPU_AVX512 | CHI_CPU_VNNI, turn_dpbusd, 12 * 64);
    peak("tdpbssd", CHI_CPU_AMX, turn_tiles, 4 * 16 * 16 * 64);
}
#else
static void peaks(void) { }
#endif

/* ---- products --------------------------------------------------------------------------- */

static double window(const struct chi_linear_kernel *k, struct data *d, int64_t rows, bool memory)
{
    int64_t n = memory ? d->copies : 1 + 256 / rows;
    const struct chi_act a = { rows, D_IN, d->x, D_IN, d->q, LDQ, d->step, d->sum };
    double t = now_s();
    for (int64_t i = 0; i < n; i++) {
        const struct chi_matrix m = { d->matrix + (memory ? i : 0) * d->bytes, D_OUT, D_IN, d->group };
        k->run(d->y, D_OUT, &a, &m, 0, D_OUT, d->scratch);
    }
    return (double)(n * rows) * D_OUT * D_IN / (now_s() - t);
}

static struct data data_for(const struct chi_encoding_ops *e)
{
    bool ternary = !strcmp(e->values, "ternary");
    struct data d = { .encoding = e, .group = ternary ? 128 : !strcmp(e->values, "int8") ? D_IN : 1 };
    int64_t groups = ceil_div(D_IN, d.group);
    int8_t *w = xcalloc(D_OUT * D_IN, 1);
    float *scale = xcalloc((size_t)(D_OUT * groups), 4);
    for (int64_t i = 0; i < D_OUT * D_IN; i++)          /* one zero in four: all ternary encodings  */
        w[i] = (int8_t)(ternary ? (i % 4 == i / 4 % 4 ? 0 : rand() % 2 * 2 - 1) : rand() % 255 - 127);
    for (int64_t i = 0; i < D_OUT * groups; i++) scale[i] = 0.5f;
    d.bytes = e->bytes(D_OUT, D_IN, d.group);
    d.copies = (160 << 20) / d.bytes;
    d.matrix = aligned_alloc(64, (size_t)(d.bytes * d.copies));
    if (!d.matrix) exit(exit_code(CHI_ENOMEM));
    e->encode(d.matrix, w, scale, D_OUT, D_IN, d.group, 0, D_OUT);
    for (int64_t i = 1; i < d.copies; i++) memcpy(d.matrix + i * d.bytes, d.matrix, (size_t)d.bytes);
    d.x = xcalloc(ROWS * D_IN, 4), d.y = xcalloc(ROWS * D_OUT, 4), d.q = xcalloc(ROWS * LDQ, 1);
    d.step = xcalloc(ROWS * LDQ / 64, 4), d.sum = xcalloc(ROWS * LDQ / 64, 2);
    for (int64_t i = 0; i < ROWS * D_IN; i++) {
        int64_t at = i / D_IN * LDQ + i % D_IN;
        d.q[at] = (int8_t)(rand() % 255 - 127), d.x[i] = d.q[at];
        d.sum[at / 64] = (int16_t)(d.sum[at / 64] + d.q[at]);
    }
    for (int64_t i = 0; i < ROWS * LDQ / 64; i++) d.step[i] = 0.01f;
    d.scratch = aligned_alloc(64, 1 << 22);
    free(w), free(scale);
    return d;
}

static const struct chi_linear_kernel *kernel_of(const struct chi_component *c, const char *encoding)
{
    const struct chi_backend_ops *o = c->ops;
    for (int i = 0; o->linears && o->linears[i]; i++)
        if (!strcmp(o->linears[i]->encoding, encoding)) return o->linears[i];
    return NULL;
}

static void measure(struct registry *r, const char *name)
{
    static const int64_t rows[] = { 1, 2, 4, 8, 16, 32, 64, 128 };
    const struct chi_component *c;
    if (registry_find(r, CHI_ENCODING, name, &c) != CHI_OK) {
        fprintf(stderr, "linears: %s\n", fail_text());
        return;
    }
    struct data d = data_for(c->ops);
    for (int64_t i = 0; (c = registry_component(r, CHI_BACKEND, i)); i++) {
        const struct chi_linear_kernel *k = kernel_of(c, name);
        if (!k || k->pack) continue;
        printf("%-9s %-12s", name, c->name);
        for (int64_t j = -1; j < COUNT(rows); j++) {    /* -1: one row, each matrix from memory    */
            double best = 0;
            for (int w = 0; w < (j < 0 ? 5 : WINDOWS); w++) {
                double rate = window(k, &d, j < 0 ? 1 : rows[j], j < 0);
                best = rate > best ? rate : best;
            }
            if (j < 0) printf(" memory %5.1f GB/s;", best * (double)d.bytes / (D_OUT * D_IN) / 1e9);
            else printf(" %ld: %.0f", (long)rows[j], best / 1e9);
            fflush(stdout);
        }
        printf(" GMAC/s\n");
    }
    free(d.matrix), free(d.x), free(d.y), free(d.q), free(d.step), free(d.sum), free(d.scratch);
}

int main(int argc, char **argv)
{
    static char *all[] = { "", "ternary2", "sherry125", "base3", "int8", "f32", "bf16", NULL };
    struct registry *r;
    if (registry_open(&r, NULL) != CHI_OK) {
        fprintf(stderr, "linears: %s\n", fail_text());
        return 1;
    }
    printf("%s; %d x %d, rows of activations: rate\n", cpu_name(), D_OUT, D_IN);
    peaks();
    for (char **name = argc > 1 ? argv + 1 : all + 1; *name; name++) measure(r, *name);
    registry_close(r);
    return 0;
}
