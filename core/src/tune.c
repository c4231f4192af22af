/* tune.c - contenders for a weight matrix, the choice among them, and the file of times.
 *
 * The file, cache/chimera/kernels-HASH, is text:
 *
 *     chimera kernels 2
 *     AMD EPYC 7V13 64-Core Processor | 0.1.0 | avx2 3f0c...         what HASH is of
 *     ternary2 512 256 128 2 cache avx2 12.25 80.5                   a line a time
 *     sum 0123456789abcdef                                           XXH3 of all before
 *
 * Another CPU, version or build of a backend has another HASH and so no times.  A file that
 * is not as it was written is left alone, with a warning: ranks decide.               */
#include "tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_limit.h"
#include "core.h"
#include "fs.h"
#include "pool.h"

struct tune { struct tune_time *v; int64_t n; };

/* ---- who can serve, and who does ---------------------------------------------------------- */

const struct chi_linear_kernel *kernel_of(const struct chi_backend_ops *ops, const char *encoding, int64_t group)
{
    for (const struct chi_linear_kernel *const *k = ops->linears; k && *k; k++)
        if (!strcmp((*k)->encoding, encoding) && (!group || !(*k)->group || (*k)->group == group)) return *k;
    return NULL;
}

int64_t fast_group(const struct spec *s, const char *encoding)
{
    for (const struct chi_component **b = s->backend; *b; b++) {
        const struct chi_linear_kernel *k = kernel_of((*b)->ops, encoding, 0);
        if (k) return k->group;
    }
    return 0;
}

int contenders(const struct spec *s, const struct chi_component *encoding, int64_t d_out, int64_t d_in,
               int64_t group, bool memory, struct contender out[CONTENDERS_MAX])
{
    int n = 0;
    for (const struct chi_component **b = s->backend; *b && n < CONTENDERS_MAX - 1; b++) {
        const struct chi_backend_ops *ops = (*b)->ops;
        const struct chi_linear_kernel *k = kernel_of(ops, encoding->name, group);
        if (k) out[n++] = (struct contender){ (*b)->name, ops->rank, k, NULL };
    }
    out[n++] = (struct contender){ "portable", 0, ((const struct chi_encoding_ops *)encoding->ops)->portable, NULL };
    struct tune_time like = { .d_out = d_out, .d_in = d_in, .group = group, .threads = pool_size(),
                              .memory = memory };
    snprintf(like.encoding, sizeof like.encoding, "%s", encoding->name);
    for (int i = 0; s->tune && i < n; i++) {
        snprintf(like.backend, sizeof like.backend, "%s", out[i].backend);
        out[i].time = tune_find(s->tune, &like);
    }
    return n;
}

bool tune_from_memory(int64_t weights)
{
    return weights > limit_bytes() / 4;
}

/* The first that nobody behind it beats by more than 1 in 20, which is what the same kernel
 * differs from itself; weigh picks the time                                                    */
static int fastest(const struct contender *c, int n, double (*weigh)(const struct tune_time *))
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (weigh(c[i].time) < 0.95 * weigh(c[best].time)) best = i;
    return best;
}

static double one_row(const struct tune_time *t) { return t->one; }
static double many_rows(const struct tune_time *t) { return t->many; }
static double both(const struct tune_time *t) { return sqrt(t->one * t->many); }

struct choice choose_kernels(const struct contender *c, int n)
{
    struct choice by = { 0, 0, n > 1 };
    for (int i = 0; i < n; i++) by.tuned = by.tuned && c[i].time;
    if (!by.tuned) return by;
    by.one = fastest(c, n, one_row);
    by.many = fastest(c, n, many_rows);
    if (by.one != by.many && (c[by.one].kernel->pack_bytes || c[by.many].kernel->pack_bytes))
        by.one = by.many = fastest(c, n, both);
    return by;
}

/* ---- times in memory ------------------------------------------------------------------------ */

static bool same(const struct tune_time *a, const struct tune_time *b)
{
    return a->d_out == b->d_out && a->d_in == b->d_in && a->group == b->group && a->threads == b->threads
        && a->memory == b->memory && !strcmp(a->encoding, b->encoding) && !strcmp(a->backend, b->backend);
}

const struct tune_time *tune_find(const struct tune *t, const struct tune_time *like)
{
    for (int64_t i = 0; t && i < t->n; i++)
        if (same(&t->v[i], like)) return &t->v[i];
    return NULL;
}

void tune_put(struct tune **t, const struct tune_time *time)
{
    if (!*t) *t = xcalloc(1, sizeof **t);
    for (int64_t i = 0; i < (*t)->n; i++)
        if (same(&(*t)->v[i], time)) {
            (*t)->v[i] = *time;
            return;
        }
    (*t)->v = xrealloc((*t)->v, (size_t)((*t)->n + 1) * sizeof *(*t)->v);
    (*t)->v[(*t)->n++] = *time;
}

void tune_close(struct tune *t)
{
    if (!t) return;
    free(t->v);
    free(t);
}

/* ---- the file ------------------------------------------------------------------------------- */

static const char first_line[] = "chimera kernels 2\n";
enum { SUM_LINE = 21 };                     /* "sum 0123456789abcdef\n"                         */

/* What the times belong to, a line; caller frees                                               */
static char *key_of(const struct spec *s)
{
    char *key = xprintf("%s | " CHIMERA_VERSION " |", cpu_name());
    for (const struct chi_component **b = s->backend; *b; b++) {
        const struct plugin_info *from = registry_owner(s->registry, *b);
        char *more = xprintf("%s %s %016llx", key, (*b)->name, (unsigned long long)(from ? from->hash : 0));
        free(key);
        key = more;
    }
    char *line = xprintf("%s\n", key);
    free(key);
    return line;
}

/* Of a key; NULL: there is no cache folder                                                      */
static char *path_of(const char *key)
{
    char *folder = fs_cache_folder();
    char *path = !folder ? NULL : xprintf("%s/kernels-%016llx", folder, (unsigned long long)xxh3(key, strlen(key)));
    free(folder);
    return path;
}

static bool parse_line(const char *line, struct tune_time *t)
{
    long long d_out, d_in, group, threads;
    char place[8];
    int end = 0;
    if (sscanf(line, "%47s %lld %lld %lld %lld %7s %47s %lf %lf%n", t->encoding, &d_out, &d_in, &group, &threads, place,
               t->backend, &t->one, &t->many, &end) != 9 || line[end]) return false;
    t->d_out = d_out, t->d_in = d_in, t->group = group, t->threads = threads;
    t->memory = !strcmp(place, "memory");
    return isfinite(t->one) && isfinite(t->many) && t->one > 0 && t->many > 0;
}

/* NULL: text[n] is not a whole file of this key.  It is cut into lines                           */
static struct tune *parse(char *text, int64_t n, const char *key)
{
    size_t head = strlen(first_line), keyed = strlen(key);
    char sum[SUM_LINE + 1];
    if (n < (int64_t)(head + keyed) + SUM_LINE || memchr(text, 0, (size_t)n)) return NULL;
    snprintf(sum, sizeof sum, "sum %016llx\n", (unsigned long long)xxh3(text, (size_t)(n - SUM_LINE)));
    if (memcmp(text + n - SUM_LINE, sum, SUM_LINE) != 0 || memcmp(text, first_line, head) != 0
        || memcmp(text + head, key, keyed) != 0) return NULL;
    struct tune *t = xcalloc(1, sizeof *t);
    text[n - SUM_LINE] = 0;
    for (char *line = text + head + keyed, *next; *line; line = next) {
        struct tune_time time;
        next = line + strcspn(line, "\n");
        if (*next) *next++ = 0;
        if (parse_line(line, &time)) tune_put(&t, &time);
    }
    return t;
}

struct tune *tune_read(const struct spec *s)
{
    char *key = key_of(s), *path = path_of(key);
    unsigned char *text = NULL;
    int64_t n = 0;
    struct tune *t = NULL;
    if (path && fs_exists(path)) {
        chi_status st = fs_read(path, &text, &n);
        if (st == CHI_OK) t = parse((char *)text, n, key);
        if (st != CHI_OK) warn("%s: kernels are chosen by rank", fail_text());
        else if (!t) warn("%s is damaged: kernels are chosen by rank (chimera kernels CONF --tune writes it anew)", path);
        mem_free(text);
    }
    free(path);
    free(key);
    return t;
}

chi_status tune_write(const struct tune *t, const struct spec *s, char **path)
{
    char *key = key_of(s), *text = NULL, *folder = fs_cache_folder();
    size_t n = 0;
    chi_status st = folder ? fs_mkdirs(folder) : fail(CHI_EIO, "there is no folder to keep times in: set HOME or XDG_CACHE_HOME");
    FILE *f = open_memstream(&text, &n);
    if (!f) st = fail_errno(CHI_ENOMEM, "no memory for the times");
    *path = path_of(key);
    if (st == CHI_OK) {
        fprintf(f, "%s%s", first_line, key);
        for (int64_t i = 0; t && i < t->n; i++) {
            const struct tune_time *v = &t->v[i];
            fprintf(f, "%s %lld %lld %lld %lld %s %s %.6g %.6g\n", v->encoding, (long long)v->d_out,
                    (long long)v->d_in, (long long)v->group, (long long)v->threads, v->memory ? "memory" : "cache",
                    v->backend, v->one, v->many);
        }
        fflush(f);
        fprintf(f, "sum %016llx\n", (unsigned long long)xxh3(text, n));
    }
    if (f) fclose(f);
    if (st == CHI_OK) st = fs_write_atomic(*path, text, (int64_t)n);
    free(text);
    free(folder);
    free(key);
    return st;
}
