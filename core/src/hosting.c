/* hosting.c - see hosting.h.                                                       */
#include "hosting.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "linear.h"
#include "pool.h"
#include "rng.h"
#include "tally.h"

/* What a chi_host is to the core: the public part first.                           */
struct hosted {
    struct chi_host pub;
    uint64_t seed;
    uint32_t who;
    void   **block;                         /* alloc()ed, freed with the instance   */
    int64_t  n_block;
};

static const struct hosted *of(const struct chi_host *h)
{
    return (const struct hosted *)h;
}

static chi_status host_fail(const struct chi_host *h, chi_status s, const char *fmt, ...)
{
    va_list a;
    char text[1024];
    va_start(a, fmt);
    vsnprintf(text, sizeof text, fmt, a);
    va_end(a);
    return fail(s, "%s: %s", h->instance, text);
}

static void host_log(const struct chi_host *h, int level, const char *fmt, ...)
{
    va_list a;
    char text[1024];
    if (level < CHI_LOG_INFO) return;
    va_start(a, fmt);
    vsnprintf(text, sizeof text, fmt, a);
    va_end(a);
    if (level >= CHI_LOG_WARN) warn("%s: %s", h->instance, text);
    else note("%s: %s", h->instance, text);
}

static void *host_alloc(const struct chi_host *h, size_t bytes)
{
    struct hosted *me = (struct hosted *)(uintptr_t)h;  /* ours: const only to plugins */
    void *p = mem_take(bytes, h->instance);
    if (!p) return NULL;
    me->block = xrealloc(me->block, (size_t)(me->n_block + 1) * sizeof *me->block);
    return me->block[me->n_block++] = p;
}

static void host_parallel(const struct chi_host *h, int64_t n, chi_task *task, void *arg)
{
    (void)h;
    pool_run(n, task, arg);
}

static void host_reduce(const struct chi_host *h, float *acc, const float *part, int64_t n,
                        int64_t len)
{
    (void)h;
    pool_reduce(acc, part, n, len);
}

static uint64_t host_random(const struct chi_host *h, uint64_t stream, uint64_t counter)
{
    const struct hosted *me = of(h);
    uint32_t w[4];
    rng_words(w, me->seed ^ stream * 0x9E3779B97F4A7C15u, RNG_PLUGIN, 0, me->who, counter);
    return (uint64_t)w[0] << 32 | w[1];
}

/* ---- meters ----------------------------------------------------------------- */

enum { METERS = 256 };
static struct { const char *instance, *name; double value; } meter[METERS];
static int n_meter;
static atomic_flag meter_lock = ATOMIC_FLAG_INIT;

static void host_set_meter(const struct chi_host *h, const char *name, double value)
{
    int slot = -1;
    while (atomic_flag_test_and_set(&meter_lock)) { /* a few instructions long */ }
    for (int i = 0; i < n_meter && slot < 0; i++)
        if (meter[i].instance == h->instance && !strcmp(meter[i].name, name)) slot = i;
    if (slot < 0 && n_meter < METERS) slot = n_meter++;
    if (slot >= 0) {
        meter[slot].instance = h->instance;
        meter[slot].name = name;
        meter[slot].value = value;
    }
    atomic_flag_clear(&meter_lock);
}

bool host_meter(int64_t i, const char **name, double *value)
{
    for (int m = 0; m < n_meter; m++) {
        bool first = true;
        for (int e = 0; e < m; e++) first = first && strcmp(meter[e].name, meter[m].name);
        if (!first || i-- > 0) continue;
        double sum = 0;
        int n = 0;
        for (int e = m; e < n_meter; e++)
            if (!strcmp(meter[e].name, meter[m].name)) sum += meter[e].value, n++;
        *name = meter[m].name;
        *value = sum / n;
        return true;
    }
    return false;
}

/* ---- services ---------------------------------------------------------------- */

enum { SERVICES = 16 };
static struct { const char *id; const void *table; } service[SERVICES] = {
    { "chimera.tally/1", &tally_service },
};
static int n_service = 1;

void host_register_service(const char *id, const void *table)
{
    for (int i = 0; i < n_service; i++)
        if (!strcmp(service[i].id, id)) return;
    if (n_service < SERVICES) {
        service[n_service].id = id;
        service[n_service++].table = table;
    }
}

static const void *host_service(const struct chi_host *h, const char *id)
{
    (void)h;
    for (int i = 0; i < n_service; i++)
        if (!strcmp(service[i].id, id)) return service[i].table;
    return NULL;
}

struct chi_host *host_open(const struct spec *spec, const char *instance)
{
    struct hosted *h = xcalloc(1, sizeof *h);
    h->pub = (struct chi_host){
        .struct_size = sizeof h->pub, .abi_major = CHI_ABI_MAJOR, .abi_minor = CHI_ABI_MINOR,
        .core_version = CHIMERA_VERSION, .instance = xstrdup(instance),
        .fail = host_fail, .log = host_log, .alloc = host_alloc, .parallel = host_parallel,
        .reduce = host_reduce, .random = host_random, .meter = host_set_meter,
        .k = spec ? spec->kernels : NULL, .linears = linears, .linears_back = linears_back,
        .service = host_service,
    };
    h->seed = spec ? (uint64_t)spec->run.seed : 0;
    h->who = rng_who(instance);
    return &h->pub;
}

void host_close(struct chi_host *pub)
{
    struct hosted *h = (struct hosted *)pub;
    if (!h) return;
    int left = 0;
    for (int i = 0; i < n_meter; i++)
        if (meter[i].instance != pub->instance) meter[left++] = meter[i];
    n_meter = left;
    tally_forget(pub->instance);
    for (int64_t i = 0; i < h->n_block; i++) mem_free(h->block[i]);
    free(h->block);
    free((char *)(uintptr_t)pub->instance);
    free(h);
}
