/* adapter.c - see adapter.h.                                                            */
#include "adapter.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "crumb.h"
#include "hosting.h"
#include "pool.h"
#include "profile.h"

/* ---- what open() calls ------------------------------------------------------------- */

static int64_t plan_param(struct chi_plan *p, const char *name, const int64_t *shape, int init, double a, double b,
                          uint32_t flags)
{
    struct adapter *ad = p->adapter;
    const char *alias = ad->part->section + strlen("adapter.");
    char *full = xprintf("%s%s%s.%s", ad->linear, *ad->linear ? "." : "", alias, name ? name : "?");
    int64_t before = p->in->n_param, at = instance_plan.param(p, full, shape, init, a, b, flags);
    free(full);
    if (p->in->n_param == before) return at;
    struct planned_param *new = &p->in->param[before];
    new->adapter = true;
    new->share = p->in->share;
    ad->n_param++;
    return at;
}

static int64_t plan_array(struct chi_plan *p, const char *name, int dtype, int64_t n, int64_t every, uint32_t flags)
{
    struct adapter *ad = p->adapter;
    if (p->error) return 0;
    if ((every != CHI_PER_ROW && every != CHI_PER_CALL) || (flags & CHI_ARRAY_KEEP) || n < 0 || n > INT64_MAX / 16) {
        p->error = fail(CHI_EPLUGIN, "%s: array %s: an adapter's arrays are per row or per call and not kept",
                        ad->host->instance, name ? name : "?");
        return 0;
    }
    ad->array = xrealloc(ad->array, (size_t)(ad->n_array + 1) * sizeof *ad->array);
    ad->array[ad->n_array] = (struct planned_array){ .bytes = n * dtype_bytes(dtype), .every = every };
    return ad->n_array++;
}

static void plan_scratch(struct chi_plan *p, int64_t bytes)
{
    if (!p->error && bytes < 0)
        p->error = fail(CHI_ESHAPE, "%s: scratch of %lld bytes", p->adapter->host->instance, (long long)bytes);
    p->adapter->scratch_bytes = max_i64(p->adapter->scratch_bytes, bytes);
}

static void refuse(struct chi_plan *p, const char *what)
{
    if (!p->error) p->error = fail(CHI_EPLUGIN, "%s: an adapter plans no %s", p->adapter->host->instance, what);
}

static int64_t plan_state(struct chi_plan *p, const char *name, int dtype, int64_t n)
{
    (void)name, (void)dtype, (void)n;
    refuse(p, "state: rows are alike to it");
    return 0;
}

static const struct chi_linear *plan_linear(struct chi_plan *p, const char *name, int64_t d_out, int64_t d_in,
                                            uint32_t flags)
{
    (void)name, (void)d_out, (void)d_in, (void)flags;
    refuse(p, "linear: its matrices are parameters");
    return NULL;
}

static void plan_choice(struct chi_plan *p, int64_t k, int64_t n)
{
    (void)k, (void)n;
    refuse(p, "choice");
}

static const struct chi_plan_ops adapter_plan = {
    .struct_size = sizeof adapter_plan, .param = plan_param, .state = plan_state, .array = plan_array,
    .scratch = plan_scratch, .linear = plan_linear, .choice = plan_choice,
};

/* ---- life --------------------------------------------------------------------------- */

static chi_status open_one(struct adapter *a, struct chi_linear *l, struct instance *in, const struct spec *s)
{
    struct chi_plan plan = { .in = in, .spec = s, .adapter = a };
    char *name = xprintf("%s.%s", l->name, a->part->section + strlen("adapter."));
    a->host = host_open(s, name);
    free(name);
    a->self = mem_take(max_i64(a->ops->self_size, 1), "self");
    if (!a->self) return CHI_ENOMEM;
    struct crumb crumb = { a->host->instance, a->part->component->name, "open" };
    const struct crumb *was = crumb_set(&crumb);
    chi_status st = a->ops->open(a->host, a->self, a->part->conf, l->d_out, l->d_in, &adapter_plan, &plan);
    crumb_set(was);
    a->at = xcalloc((size_t)a->n_array + 1, sizeof *a->at);
    return st == CHI_OK ? plan.error : st;
}

chi_status adapters_open(struct chi_linear *l, const char *name, struct instance *in, const struct spec *s)
{
    if (!l->rule || !l->rule->n_adapter) return CHI_OK;
    int64_t weight = in->n_param - 1;
    l->adapter = xcalloc((size_t)l->rule->n_adapter, sizeof *l->adapter);
    for (int64_t i = 0; i < l->rule->n_adapter; i++) {
        struct adapter *a = &l->adapter[l->n_adapter++];
        const struct part *part = l->rule->adapter[i];
        *a = (struct adapter){ .ops = part->component->ops, .part = part, .linear = name, .first = in->n_param };
        TRY(open_one(a, l, in, s));
        a->linear = NULL;                    /* the name is the plan's                  */
        if (CHI_HAS(struct chi_adapter_ops, a->ops, freezes)
            && a->ops->freezes(part->conf)) in->param[weight].held = true;
    }
    return CHI_OK;
}

void adapters_close(struct chi_linear *l)
{
    for (int64_t i = 0; i < l->n_adapter; i++) {
        free(l->adapter[i].array);
        free(l->adapter[i].at);
        mem_free(l->adapter[i].self);
        host_close(l->adapter[i].host);
    }
    free(l->adapter);
    l->adapter = NULL;
    l->n_adapter = 0;
}

/* ---- room ---------------------------------------------------------------------------- */

static struct { unsigned char *base; double bytes; } room;

static int64_t normed_bytes(const struct chi_linear *l, int64_t rows)
{
    return linear_norms(l) ? round_up(rows * l->d_in * (int64_t)sizeof(float), 64) : 0;
}

static int64_t array_bytes(const struct planned_array *a, int64_t rows)
{
    return round_up(max_i64(1, (a->every == CHI_PER_ROW ? rows : 1) * a->bytes), 64);
}

int64_t adapters_scratch(const struct chi_linear *l)
{
    int64_t most = 0;
    for (int64_t i = 0; i < l->n_adapter; i++) most = max_i64(most, l->adapter[i].scratch_bytes);
    return most;
}

double adapters_room_bytes(const struct chi_linear *l, int64_t rows)
{
    double most = 0;
    for (int64_t i = 0; i < l->n_adapter; i++) {
        const struct adapter *a = &l->adapter[i];
        double sum = 64 + (linear_norms(l) ? 4 * (double)rows * (double)l->d_in + 64 : 0);
        for (int64_t j = 0; j < a->n_array; j++)
            sum += (a->array[j].every == CHI_PER_ROW ? (double)rows : 1) * (double)a->array[j].bytes + 64;
        most = sum > most ? sum : most;
    }
    return most;
}

double adapters_room_held(void)
{
    return room.bytes;
}

void adapters_room_drop(void)
{
    mem_free(room.base);
    room.base = NULL;
    room.bytes = 0;
}

chi_status adapters_room(double bytes)
{
    if (bytes <= room.bytes) return CHI_OK;
    adapters_room_drop();
    room.base = mem_take((size_t)bytes, "arrays of adapters");
    if (!room.base) return CHI_ENOMEM;
    room.bytes = bytes;
    return CHI_OK;
}

/* ---- calls ---------------------------------------------------------------------------- */

struct norm { const struct chi_kernels *k; const float *x; float *out; int64_t rows, d, block; float eps; };

static void norm_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct norm *n = arg;
    (void)s;
    for (int64_t r = i * n->block; r < min_i64((i + 1) * n->block, n->rows); r++)
        n->k->rmsnorm(n->out + r * n->d, n->x + r * n->d, NULL, n->d, n->eps);
}

/* What the adapters of l read: x, or rmsnorm(x) in the room                               */
static const float *input_of(const struct chi_linear *l, const struct chi_kernels *k, const float *x, int64_t rows)
{
    if (!linear_norms(l)) return x;
    struct norm n = { k, x, (float *)(void *)room.base, rows, l->d_in, max_i64(1, 65536 / l->d_in), l->eps };
    pool_run(ceil_div(rows, n.block), norm_task, &n);
    return n.out;
}

static struct chi_run run_of(const struct chi_linear *l, struct adapter *a, const struct chi_run *r, int64_t rows)
{
    int64_t at = normed_bytes(l, rows);
    for (int64_t i = 0; i < a->n_array; i++) {
        a->at[i] = room.base + at;
        at += array_bytes(&a->array[i], rows);
    }
    return (struct chi_run){ .h = a->host, .params = r->params, .grads = r->grads, .array = a->at, .rows = rows,
                             .keep = r->keep };
}

chi_status adapters_forward(const struct chi_linear *const *lin, int64_t n, struct chi_run *r, const float *x,
                            int64_t rows, float *const *y)
{
    const float *normed = NULL;
    for (int64_t i = 0; i < n; i++) {
        const struct chi_linear *l = lin[i];
        if (!l->n_adapter) continue;
        if (linear_norms(l) && !normed) normed = input_of(l, r->h->k, x, rows);
        for (int64_t j = 0; j < l->n_adapter; j++) {
            struct adapter *a = &l->adapter[j];
            struct chi_run own = run_of(l, a, r, rows);
            struct crumb crumb = { a->host->instance, a->part->component->name, "forward" };
            const struct crumb *was = crumb_set(&crumb);
            span(crumb.instance, crumb.component, crumb.op);
            chi_status st = a->ops->forward(a->self, &own, linear_norms(l) ? normed : x, y[i]);
            span_end();
            crumb_set(was);
            TRY(st);
        }
        if (!linear_norms(l)) normed = NULL;        /* its arrays lay there             */
    }
    return CHI_OK;
}

chi_status adapters_back(const struct chi_linear *const *lin, int64_t n, struct chi_run *r, const float *x,
                         int64_t rows, const float *const *dy, float *dx, float *dnorm)
{
    const float *normed = NULL;
    for (int64_t i = 0; i < n; i++) {
        const struct chi_linear *l = lin[i];
        if (!l->n_adapter) continue;
        if (linear_norms(l) && !normed) normed = input_of(l, r->h->k, x, rows);
        for (int64_t j = 0; j < l->n_adapter; j++) {
            struct adapter *a = &l->adapter[j];
            struct chi_run own = run_of(l, a, r, rows);
            struct crumb crumb = { a->host->instance, a->part->component->name, "backward" };
            const struct crumb *was = crumb_set(&crumb);
            float *to = !dx ? NULL : linear_norms(l) ? dnorm : dx;
            span(crumb.instance, crumb.component, crumb.op);
            chi_status st = a->ops->backward(a->self, &own, linear_norms(l) ? normed : x, dy[i], to);
            span_end();
            crumb_set(was);
            TRY(st);
        }
        if (!linear_norms(l)) normed = NULL;        /* its arrays lay there             */
    }
    return CHI_OK;
}

static void steer_one(struct instance *in, const struct adapter *a, double progress)
{
    if (!CHI_HAS(struct chi_adapter_ops, a->ops, steer)) return;
    struct crumb crumb = { a->host->instance, a->part->component->name, "steer" };
    const struct crumb *was = crumb_set(&crumb);
    uint32_t held = a->ops->steer(a->self, progress, in->params, in->grads);
    crumb_set(was);
    for (int64_t i = 0; i < min_i64(a->n_param, 32); i++) {
        struct planned_param *p = &in->param[a->first + i];
        p->held = held >> i & 1;
        if (p->held) memset(in->grads + p->offset, 0, (size_t)p->n * sizeof(float));
    }
}

void adapters_steer(struct instance *in, double progress)
{
    for (int64_t i = 0; i < in->n_param; i++) {
        const struct chi_linear *l = in->param[i].linear;
        for (int64_t j = 0; l && j < l->n_adapter; j++) steer_one(in, &l->adapter[j], progress);
    }
}
