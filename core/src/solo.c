/* solo.c - one layer outside a network, for tests, reference vectors and benchmarks.       */
#include <stdlib.h>
#include <string.h>

#include "adapter.h"
#include "core.h"
#include "crumb.h"
#include "instance.h"
#include "model.h"
#include "pool.h"

struct solo {
    struct instance in;
    struct model_tensor *tensor;
    unsigned char *params, *grads;
    bool frozen;
    int64_t scratch_bytes;
    void *scratch;
    struct workspace ws;
};

static chi_status solo_memory(struct solo *s, int64_t rows)
{
    struct instance *in = &s->in;
    s->scratch_bytes = max_i64(4096, in->scratch_bytes);
    for (int64_t i = 0; i < in->n_param; i++)
        if (in->param[i].linear)
            s->scratch_bytes = max_i64(s->scratch_bytes, linear_scratch(in->param[i].linear, rows));
    TRY(pool_scratch(s->scratch_bytes));
    TRY(linear_room(rows, max_i64(in->widest, 1), in->heaviest, in->training));
    for (int64_t i = 0; i < in->n_param; i++)
        if (in->param[i].linear) TRY(adapters_room(adapters_room_bytes(in->param[i].linear, rows)));
    s->params = mem_take((size_t)in->param_bytes, "params");
    s->grads = mem_take((size_t)in->param_bytes, "grads");
    s->scratch = mem_take((size_t)s->scratch_bytes, "scratch");
    if (!s->params || !s->grads || !s->scratch) return CHI_ENOMEM;
    in->params = s->params;
    in->grads = in->training ? s->grads : NULL;
    return instance_ready(in);
}

chi_status solo_open(struct solo **out, const struct spec *spec, const struct part *part, bool training,
                     int64_t max_rows, int64_t max_segs)
{
    struct solo *s = *out = xcalloc(1, sizeof *s);
    chi_status st = instance_open(&s->in, spec, "", part, training ? MODEL_TRAIN : MODEL_INFER, max_rows, max_segs);
    /* Alone, every master is there: tests set weights through them.                          */
    for (int64_t i = 0; st == CHI_OK && i < s->in.n_param; i++) {
        struct planned_param *p = &s->in.param[i];
        if (!p->absent) continue;
        p->absent = false;
        p->offset = s->in.param_bytes;
        s->in.param_bytes += round_up(p->n * (int64_t)sizeof(float), 64);
    }
    if (st == CHI_OK) st = solo_memory(s, max_rows);
    if (st != CHI_OK) {
        solo_close(s);
        *out = NULL;
        return st;
    }
    s->tensor = xcalloc((size_t)s->in.n_param + 1, sizeof *s->tensor);
    for (int64_t i = 0; i < s->in.n_param; i++) {
        const struct planned_param *p = &s->in.param[i];
        struct model_tensor *t = &s->tensor[i];
        *t = (struct model_tensor){ .n = p->n, .decay = p->decay, .manual = p->manual, .linear = p->linear,
                                    .held = &p->held,
                                    .w = (float *)(void *)(s->params + p->offset),
                                    .g = (float *)(void *)(s->grads + p->offset) };
        memcpy(t->shape, p->shape, sizeof t->shape);
        snprintf(t->name, sizeof t->name, "%s", p->name);
        init_values(t->w, p, t->name, (uint64_t)spec->run.seed, spec->model.initializer_range);
    }
    st = solo_bind(s);
    if (st == CHI_OK) return st;
    solo_close(s);
    *out = NULL;
    return st;
}

void solo_close(struct solo *s)
{
    if (!s) return;
    instance_close(&s->in);
    workspace_drop(&s->ws);
    mem_free(s->params);
    mem_free(s->grads);
    mem_free(s->scratch);
    free(s->tensor);
    free(s);
}

const struct model_tensor *solo_tensor(const struct solo *s, int64_t i)
{
    return i >= 0 && i < s->in.n_param ? &s->tensor[i] : NULL;
}

chi_status solo_bind(struct solo *s)
{
    for (int64_t i = 0; i < s->in.n_param; i++)
        if (s->in.param[i].linear) TRY(linear_bind(s->in.param[i].linear, s->tensor[i].w, 1));
    return CHI_OK;
}

struct instance *solo_instance(struct solo *s)
{
    return &s->in;
}

int64_t solo_state_bytes(const struct solo *s)
{
    return s->in.state_bytes;
}

static struct chi_run start(struct solo *s, struct chi_scratch *scratch, const struct chi_segment *seg, int64_t n,
                            bool keep)
{
    *scratch = (struct chi_scratch){ s->scratch, 0, (size_t)s->scratch_bytes };
    return (struct chi_run){ .h = s->in.host, .params = s->params, .grads = keep && !s->frozen ? s->in.grads : NULL,
                             .array = s->in.at, .scratch = scratch, .seg = seg, .n_seg = n,
                             .rows = n ? seg[n - 1].first + seg[n - 1].rows : 0, .keep = keep };
}

static chi_status call(struct solo *s, const char *op, chi_status (*f)(const void *, struct chi_run *,
                                                                       const float *, float *),
                       struct chi_run *r, const float *x, float *y)
{
    struct crumb crumb = { s->in.host->instance, s->in.part->component->name, op };
    const struct crumb *was = crumb_set(&crumb);
    chi_status st = f(s->in.self, r, x, y);
    crumb_set(was);
    return st;
}

chi_status solo_forward(struct solo *s, const struct chi_segment *seg, int64_t n, bool keep, const float *x, float *y)
{
    struct chi_scratch scratch;
    struct chi_run r = start(s, &scratch, seg, n, keep);
    TRY(instance_arrays(&s->in, seg, n, r.rows, keep ? 0 : KEPT_NOT, &s->ws));
    return call(s, "forward", s->in.ops->forward, &r, x, y);
}

chi_status solo_step(struct solo *s, const struct chi_segment *seg, int64_t n, const float *x, float *y)
{
    struct chi_scratch scratch;
    struct chi_run r = start(s, &scratch, seg, n, false);
    TRY(instance_arrays(&s->in, seg, n, r.rows, KEPT_NOT, &s->ws));
    if (CHI_HAS(struct chi_layer_ops, s->in.ops, step)) return call(s, "step", s->in.ops->step, &r, x, y);
    return call(s, "forward", s->in.ops->forward, &r, x, y);
}

chi_status solo_backward(struct solo *s, const struct chi_segment *seg, int64_t n, const float *x, const float *dy,
                         float *dx)
{
    struct chi_scratch scratch;
    struct chi_run r = start(s, &scratch, seg, n, true);
    if (!s->in.ops->backward) return fail(CHI_ENOTSUP, "%s has no backward pass", s->in.part->component->name);
    struct crumb crumb = { s->in.host->instance, s->in.part->component->name, "backward" };
    const struct crumb *was = crumb_set(&crumb);
    chi_status st = s->in.ops->backward(s->in.self, &r, x, dy, dx);
    crumb_set(was);
    return st;
}

chi_status solo_tree(struct solo *s, const struct chi_segment *seg, int64_t n, const float *x, float *y,
                     const int32_t *parent)
{
    struct chi_scratch scratch;
    struct chi_run r = start(s, &scratch, seg, n, false);
    if (!CHI_HAS(struct chi_layer_ops, s->in.ops, tree))
        return fail(CHI_ENOTSUP, "%s has no tree()", s->in.part->component->name);
    TRY(instance_arrays(&s->in, seg, n, r.rows, KEPT_NOT, &s->ws));
    struct crumb crumb = { s->in.host->instance, s->in.part->component->name, "tree" };
    const struct crumb *was = crumb_set(&crumb);
    chi_status st = s->in.ops->tree(s->in.self, &r, x, y, parent);
    crumb_set(was);
    return st;
}

void solo_settle(struct solo *s)
{
    if (CHI_HAS(struct chi_layer_ops, s->in.ops, settle)) s->in.ops->settle(s->in.self, s->params, s->grads);
}

void solo_freeze(struct solo *s, bool on)
{
    s->frozen = on;
}

void solo_poison(struct solo *s, bool kept)
{
    if (s->ws.base) memset(s->ws.base, 0xff, (size_t)s->ws.bytes);
    for (int64_t i = 0; kept && i < s->in.n_kept; i++)
        if (s->in.kept[i].base) memset(s->in.kept[i].base, 0xff, (size_t)s->in.kept[i].bytes);
}
