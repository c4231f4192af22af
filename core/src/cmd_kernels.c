/* cmd_kernels.c - `chimera kernels`: which kernel serves what in a configuration, and why.  */
#include "bench_limit.h"
#include "cli.h"
#include "core.h"
#include "hosting.h"
#include "network.h"
#include "pool.h"
#include "progress.h"
#include "reference.h"
#include "run.h"
#include "tune.h"

#include <stdlib.h>
#include <string.h>

static bool tune;

/* ---- backends ------------------------------------------------------------------------- */

static bool in_use(const struct spec *s, const struct chi_component *c)
{
    for (const struct chi_component **b = s->backend; *b; b++)
        if (*b == c) return true;
    return false;
}

/* Does a word of [backend] use name it?                                                   */
static bool named(const struct spec *s, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = s->backends.use; at && (at = strstr(at, name)); at += n)
        if ((at == s->backends.use || strchr(" ,\t", at[-1])) && (!at[n] || strchr(" ,\t", at[n]))) return true;
    return false;
}

/* Why a backend does not compute; caller frees                                            */
static char *why_not(const struct spec *s, const struct chi_component *c)
{
    const struct chi_backend_ops *ops = c->ops;
    uint32_t missing = c->needs & ~cpu_features();
    if (missing) {
        char names[128];
        cpu_feature_names(missing, names);
        return xprintf("this CPU lacks %s", names);
    }
    if (!backends_auto(s) && !named(s, c->name))
        return xprintf("[backend] use = %s does not name it", s->backends.use);
    if (ops->rank < 0 && !named(s, c->name)) return xprintf("its rank is below 0: only if [backend] use names it");
    if (!CHI_HAS(struct chi_backend_ops, ops, open)) return xprintf("it is not in use");
    struct chi_host *h = host_open(s, c->name);
    chi_status st = ops->open(h);
    host_close(h);
    return st == CHI_OK ? xprintf("it is not in use") : xprintf("it refuses: %s", fail_text());
}

static void print_backends(const struct spec *s)
{
    const struct chi_component *c;
    char have[128];
    cpu_feature_names(cpu_features(), have);
    printf("CPU         %s (%s), %d thread%s\n", cpu_name(), have, pool_size(), pool_size() == 1 ? "" : "s");
    printf("[backend]   use = %s, autotune = %s%s\n\nbackend      rank\n", s->backends.use,
           s->backends.autotune ? "yes" : "no",
           backends_auto(s) || !s->backends.autotune ? "" : ": no part here, the order is forced");
    for (const struct chi_component **b = s->backend; *b; b++)
        printf("  %-10s %4d  used\n", (*b)->name, (int)((const struct chi_backend_ops *)(*b)->ops)->rank);
    printf("  %-10s    -  used for what the others leave\n", "portable");
    for (int64_t i = 0; (c = registry_any(s->registry, CHI_BACKEND, i)); i++) {
        if (in_use(s, c)) continue;
        char *why = why_not(s, c);
        printf("  %-10s %4d  not used: %s\n", c->name, (int)((const struct chi_backend_ops *)c->ops)->rank, why);
        free(why);
    }
}

/* ---- functions ------------------------------------------------------------------------- */

/* The backends that have a member, in order, and the one that serves it                     */
static void print_member(const struct spec *s, const struct kernel_member *m)
{
    const char *first = NULL;
    char *others = xstrdup("");
    for (const struct chi_component **b = s->backend; *b; b++) {
        const struct chi_backend_ops *ops = (*b)->ops;
        if (!ops->kernels || !kernels_have(ops->kernels, m)) continue;
        if (!first) {
            first = (*b)->name;
            continue;
        }
        char *more = xprintf("%s %s,", others, (*b)->name);
        free(others);
        others = more;
    }
    const char *by = backends_auto(s) ? "the highest rank" : "the first in [backend] use";
    if (first) printf("  %-16s %-10s %s; after it%s portable\n", m->name, first, by, others);
    else printf("  %-16s %-10s the only one\n", m->name, "portable");
    free(others);
}

/* ---- linears ----------------------------------------------------------------------------- */

struct shape { const struct chi_linear *l; int64_t n; };

static bool alike(const struct chi_linear *a, const struct chi_linear *b)
{
    return a->d_out == b->d_out && a->d_in == b->d_in && a->f32_only == b->f32_only
        && (a->f32_only || (a->encoding == b->encoding && a->group == b->group
                            && a->quantizer == b->quantizer));
}

/* The distinct shapes of the model's linears; returns how many, *out is malloc'ed           */
static int64_t shapes(const struct model *m, struct shape **out)
{
    struct shape *v = xcalloc((size_t)max_i64(m->n_tensor, 1), sizeof *v);
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) {
            const struct chi_linear *l = m->all[i]->param[j].linear;
            int64_t at = 0;
            if (!l) continue;
            while (at < n && !alike(v[at].l, l)) at++;
            if (at == n) v[n++].l = l;
            v[at].n++;
        }
    *out = v;
    return n;
}

/* Backends that this CPU cannot run and that have a kernel for the encoding                  */
static void print_missing(const struct spec *s, const struct chi_linear *l)
{
    const struct chi_component *c;
    for (int64_t i = 0; (c = registry_any(s->registry, CHI_BACKEND, i)); i++) {
        if (!kernel_of(c->ops, l->encoding_name, l->group) || in_use(s, c)) continue;
        char *why = why_not(s, c);
        printf("      %s has one, too: %s\n", c->name, why);
        free(why);
    }
}

static void print_why(const struct spec *s, const struct contender *c, int n, struct choice by)
{
    if (n == 1) printf("the only one");
    else if (!backends_auto(s)) printf("the first in [backend] use");
    else if (!by.tuned)
        printf("the highest rank; %s", s->backends.autotune ? "not timed here (--tune does)" : "autotune = no");
    else printf("autotune");
    printf("\n");
    for (int i = 0; i < n && (n > 1 || c[i].time); i++)
        if (c[i].time)
            printf("      %-10s one row %10.1f us   %d rows %10.1f us\n", c[i].backend, c[i].time->one, TUNE_ROWS,
                   c[i].time->many);
}

static void print_linear(const struct spec *s, const struct shape *g, bool memory)
{
    const struct chi_linear *l = g->l;
    struct contender c[CONTENDERS_MAX];
    char size[48], example[160];
    snprintf(size, sizeof size, "%lldx%lld", (long long)l->d_out, (long long)l->d_in);
    snprintf(example, sizeof example, "%s%s", l->name, g->n > 1 ? ", ..." : "");
    if (l->f32_only) {
        printf("  %-10s %-14s %4lld  %s\n      dot, as above: these weights are never quantised\n", "f32", size,
               (long long)g->n, example);
        return;
    }
    int n = contenders(s, linear_encoding(l, s), l->d_out, l->d_in, l->group, memory, c);
    struct choice by = choose_kernels(c, n);
    printf("  %-10s %-14s %4lld  %s\n      ", l->encoding_name, size, (long long)g->n, example);
    if (by.one == by.many) printf("%s: ", c[by.one].backend);
    else printf("%s for one row, %s for more: ", c[by.one].backend, c[by.many].backend);
    print_why(s, c, n, by);
    print_missing(s, l);
}

/* ---- measuring ------------------------------------------------------------------------------ */

/* One shape in one encoding: its times into the spec's                                          */
static chi_status measure(struct spec *s, const struct chi_linear *l, const struct chi_component *encoding,
                          const uint8_t *others)
{
    struct contender c[CONTENDERS_MAX];
    struct tune_time time[CONTENDERS_MAX];
    int n = contenders(s, encoding, l->d_out, l->d_in, l->group, others, c);
    TRY(tune_measure(l, s, encoding, c, n, others, time));
    for (int i = 0; i < n; i++) tune_put(&s->tune, &time[i]);
    return CHI_OK;
}

/* Every encoding that could hold what the quantizer of l makes                                   */
static chi_status measure_encodings(struct spec *s, const struct chi_linear *l, const uint8_t *others)
{
    const struct chi_component *e;
    for (int64_t i = 0; (e = registry_component(s->registry, CHI_ENCODING, i)); i++)
        if (e->ops == l->encoding || tune_holds(l, e)) TRY(measure(s, l, e, others));
    return CHI_OK;
}

/* The other encodings, each with its own best kernels: what `linear.encoding` would change         */
static void print_encodings(const struct spec *s, const struct chi_linear *l, bool memory)
{
    const struct chi_component *e;
    for (int64_t i = 0; (e = registry_component(s->registry, CHI_ENCODING, i)); i++) {
        struct contender c[CONTENDERS_MAX];
        if (e->ops == l->encoding || !tune_holds(l, e)) continue;
        int n = contenders(s, e, l->d_out, l->d_in, l->group, memory, c);
        struct choice by = choose_kernels(c, n);
        if (!c[by.one].time || !c[by.many].time) continue;
        printf("      as %-10s  one row %8.1f us (%s)   %d rows %8.1f us (%s)\n", e->name, c[by.one].time->one,
               c[by.one].backend, TUNE_ROWS, c[by.many].time->many, c[by.many].backend);
    }
}

static chi_status measure_all(struct spec *s, const struct shape *g, int64_t n, bool memory)
{
    char *path = NULL;
    uint8_t *others = NULL;                 /* is read before each call, so that no cache holds the matrix */
    if (!backends_auto(s))
        return fail(CHI_ECONF, "--tune: [backend] use = %s forces the order; times count with use = auto only",
                    s->backends.use);
    if (memory) {
        others = mem_take((size_t)limit_bytes(), "what pushes matrices out of the cache");
        if (!others) return CHI_ENOMEM;
        memset(others, 1, (size_t)limit_bytes());
    }
    struct progress p;
    chi_status st = CHI_OK;
    progress_begin(&p, 0);
    for (int64_t i = 0; i < n && st == CHI_OK; i++) {
        if (!g[i].l->f32_only) st = measure_encodings(s, g[i].l, others);
        progress_part(&p, "timing kernels", i + 1, n);
    }
    progress_end(&p);
    mem_free(others);
    TRY(st);
    st = tune_write(s->tune, s, &path);
    if (st == CHI_OK) printf("times in    %s\n", path);
    free(path);
    return st;
}

/* ---- the verb --------------------------------------------------------------------------------- */

static chi_status kernels_of(struct spec *s, const struct model *m)
{
    struct shape *g;
    int64_t n = shapes(m, &g);
    bool memory = model_from_memory(m);
    chi_status st = tune ? measure_all(s, g, n, memory) : CHI_OK;
    if (st == CHI_OK) {
        print_backends(s);
        printf("\nfunction\n");
        for (const struct kernel_member *k = kernel_members; k->name; k++) print_member(s, k);
        printf("\nlinear maps, by encoding and size\n");
        for (int64_t i = 0; i < n; i++) {
            print_linear(s, &g[i], memory);
            if (tune && !g[i].l->f32_only) print_encodings(s, g[i].l, memory);
        }
    }
    free(g);
    return st;
}

static chi_status run(const struct cli_args *a)
{
    struct spec *spec;
    struct model *m;
    TRY(run_spec(a->word[0], a->override, a->n_override, SPEC_MODEL, &spec));
    chi_status st = model_open(&m, spec, MODEL_PLAN, 1, 1);
    if (st == CHI_OK) {
        st = kernels_of(spec, m);
        linear_room_drop();
        model_close(m);
    }
    spec_close(spec);
    return st;
}

static const struct cli_flag flags[] = {
    { "tune", 0, CLI_SWITCH, &tune, NULL, "time every usable kernel on this CPU and keep the times" },
    CLI_FLAGS_END
};

const struct verb verb_kernels = {
    .name = "kernels",
    .usage = "CONF|RUN|FILE.b158 [section.key=value ...]",
    .summary = "which CPU backend serves each function and each linear map, and why",
    .doc = "Lists the backends with what this CPU lacks for those that cannot run, who serves each function, and for the\n"
           "linear maps of the model, those of one size and encoding together, which kernel multiplies them: the only\n"
           "one, the one of the highest rank, the fastest by times that --tune left, or the one that [backend] use forces.\n"
           "\n"
           "--tune times every usable kernel for one row and for 32, with weights in the cache if all of the model's fit\n"
           "there, else from memory (some 2 ms, or 0.1 s each), and writes the times to\n"
           "$XDG_CACHE_HOME/chimera (or ~/.cache/chimera) for this CPU, these plugin files, and this number of threads.\n"
           "Whatever opens a model later reads them unless backend.autotune = no. It prints the times of other encodings that\n"
           "could hold the weights, too; an encoding is never changed by itself. No choice changes a result.\n",
    .examples = "chimera kernels conf/quickstart.ini\n"
                "chimera kernels conf/anchor.ini --tune linear.quantizer=ternary\n"
                "chimera kernels conf/quickstart.ini backend.use=portable\n",
    .flags = flags,
    .min_words = 1, .max_words = 1,
    .run = run
};
