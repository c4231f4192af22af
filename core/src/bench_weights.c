/* bench_weights.c - weights for benchmarks; see bench_weights.h.                          */
#include "bench_weights.h"

#include <string.h>

#include "core.h"
#include "network.h"

void bench_fill(float *w, int64_t n, double range)
{
    uint64_t s = 1;
    for (int64_t i = 0; i < n; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        w[i] = (float)(range * ((double)(s >> 40) / (1 << 23) - 1));
    }
}

chi_status bench_bind_new(struct chi_linear *l, double range)
{
    float *w = mem_take((size_t)(l->d_out * l->d_in) * sizeof *w, l->name);
    if (!w) return CHI_ENOMEM;
    bench_fill(w, l->d_out * l->d_in, range);
    chi_status st = linear_bind(l, w, 1);
    mem_free(w);
    return st;
}

chi_status bench_bind_like(struct chi_linear *l, const struct chi_linear *from)
{
    TRY(linear_take(l));
    memcpy(l->bytes, from->bytes, (size_t)l->n_bytes);
    if (l->packed) memcpy(l->packed, from->packed, (size_t)linear_packed_bytes(l));
    return CHI_OK;
}

static bool alike(const struct chi_linear *a, const struct chi_linear *b)
{
    return a->d_out == b->d_out && a->d_in == b->d_in && a->encoding == b->encoding && a->group == b->group
        && a->kernel == b->kernel;
}

/* A linear before this one whose bytes serve                                              */
static const struct chi_linear *twin(const struct model *m, const struct chi_linear *l)
{
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) {
            const struct planned_param *p = &m->all[i]->param[j];
            if (p->linear == l) return NULL;
            if (p->absent && alike(p->linear, l)) return p->linear;
        }
    return NULL;
}

static chi_status set_values(const struct model *m, const struct instance *in, const struct planned_param *p)
{
    double range = m->spec->model.initializer_range;
    const struct chi_linear *from = p->absent ? twin(m, p->linear) : NULL;
    if (from) return bench_bind_like(p->linear, from);
    if (p->absent) return bench_bind_new(p->linear, range);
    float *w = (float *)(void *)(in->params + p->offset);
    if (p->linear && p->init == CHI_INIT_NORMAL) bench_fill(w, p->n, range);
    else init_values(w, p, p->name, 1, range);
    return CHI_OK;
}

chi_status bench_model_weights(struct model *m)
{
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) TRY(set_values(m, m->all[i], &m->all[i]->param[j]));
    return model_bind(m, 1);
}
