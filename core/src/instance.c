/* instance.c - what a layer's open() announced, and the memory it then gets.           */
#include "instance.h"

#include "adapter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "crumb.h"
#include "hosting.h"
#include "pool.h"
#include "rng.h"

enum { ALIGN = 64 };

/* ---- what open() calls ------------------------------------------------------------- */

static void copy_name(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s", name);
}

int64_t instance_param(struct instance *in, const char *name, const int64_t *shape, int init,
                       double a, double b, uint32_t flags)
{
    in->param = xrealloc(in->param, (size_t)(in->n_param + 1) * sizeof *in->param);
    struct planned_param *p = &in->param[in->n_param++];
    *p = (struct planned_param){ .n = 1, .offset = in->param_bytes, .init = init, .a = a, .b = b, .share = 1,
                                 .decay = flags & CHI_PARAM_DECAY, .manual = flags & CHI_PARAM_MANUAL };
    copy_name(p->name, sizeof p->name, name);
    for (int i = 0; i < 3 && shape[i]; i++) p->shape[i] = shape[i], p->n *= shape[i];
    in->param_bytes += round_up(p->n * (int64_t)sizeof(float), ALIGN);
    return p->offset;
}

static bool name_taken(const struct instance *in, const char *name)
{
    for (int64_t i = 0; i < in->n_param; i++)
        if (!strcmp(in->param[i].name, name)) return true;
    return false;
}

static bool name_fits(struct chi_plan *p, const char *name, const char *tail)
{
    char full[64];
    if (snprintf(full, sizeof full, "%s%s", name, tail) >= (int)sizeof full)
        p->error = fail(CHI_EPLUGIN, "%s: the name %s%s has more than 63 characters", p->in->name, name, tail);
    else if (name_taken(p->in, full))
        p->error = fail(CHI_EPLUGIN, "%s: two parameters are called %s - each name is there once", p->in->name, full);
    return p->error == CHI_OK;
}

static int64_t plan_param(struct chi_plan *p, const char *name, const int64_t *shape, int init, double a,
                          double b, uint32_t flags)
{
    if (p->error || !name_fits(p, name, "")) return 0;
    for (int i = 0; i < 3 && (!i || shape[i]); i++)
        if (shape[i] < 1) {
            p->error = fail(CHI_ESHAPE, "%s: parameter %s has a dimension of %lld", p->in->name, name,
                            (long long)shape[i]);
            return 0;
        }
    return instance_param(p->in, name, shape, init, a, b, flags);
}

int64_t dtype_bytes(int dtype)
{
    switch (dtype) {
    case CHI_I8: case CHI_U8:   return 1;
    case CHI_I64: case CHI_U64: return 8;
    default:                    return 4;
    }
}

/* Is n a number of values of a state or an array?                                              */
static bool size_fits(struct chi_plan *p, const char *what, const char *name, int64_t n, const char *unit)
{
    if (p->error) return false;
    if (n < 0 || n > INT64_MAX / 16)
        p->error = fail(CHI_ESHAPE, "%s: %s %s has %lld %s", p->in->name, what, name ? name : "?", (long long)n,
                        unit);
    return p->error == CHI_OK;
}

static int64_t plan_state(struct chi_plan *p, const char *name, int dtype, int64_t n)
{
    if (!size_fits(p, "state", name, n, "values")) return 0;
    int64_t at = p->in->state_bytes;
    p->in->state_bytes += round_up(n * dtype_bytes(dtype), ALIGN);
    return at;
}

static int64_t plan_array(struct chi_plan *p, const char *name, int dtype, int64_t n, int64_t every, uint32_t flags)
{
    struct instance *in = p->in;
    if (!size_fits(p, "array", name, n, "values")) return 0;
    if (every < CHI_PER_CALL) {
        p->error = fail(CHI_EPLUGIN, "%s: array %s is planned for every %lld rows", in->name, name ? name : "?",
                        (long long)every);
        return 0;
    }
    in->array = xrealloc(in->array, (size_t)(in->n_array + 1) * sizeof *in->array);
    in->array[in->n_array] = (struct planned_array){ n * dtype_bytes(dtype), every, flags & CHI_ARRAY_KEEP, "" };
    copy_name(in->array[in->n_array].name, sizeof in->array->name, name ? name : "?");
    return in->n_array++;
}

static void plan_scratch(struct chi_plan *p, int64_t bytes)
{
    if (!size_fits(p, "scratch", "of a task", bytes, "bytes")) return;
    p->in->scratch_bytes = max_i64(p->in->scratch_bytes, bytes);
}

chi_status instance_linear(struct instance *in, const struct spec *s, const char *name, int64_t d_out, int64_t d_in,
                           uint32_t flags, struct chi_linear **out)
{
    struct chi_linear *l = xcalloc(1, sizeof *l);
    char full[80];
    *l = (struct chi_linear){ .d_out = d_out, .d_in = d_in, .f32_only = flags & CHI_LINEAR_F32,
                              .training = in->training };
    snprintf(l->name, sizeof l->name, "%s%s%s", in->name, *in->name && *name ? "." : "", name);
    *out = NULL;
    chi_status chosen = linear_choose(l, s);
    if (chosen != CHI_OK) {
        free(l);
        return chosen;
    }
    snprintf(full, sizeof full, "%s%sweight", name, *name ? "." : "");
    int64_t before = in->param_bytes;
    instance_param(in, full, (int64_t[]){ d_out, d_in, 0 }, CHI_INIT_NORMAL, 0, 0,
                   l->f32_only ? 0 : CHI_PARAM_DECAY);
    if (flags & CHI_LINEAR_EYE) in->param[in->n_param - 1].init = CHI_INIT_EYE;
    struct planned_param *p = &in->param[in->n_param - 1];
    p->linear = l;
    p->share = in->share;
    if (!in->training && !l->f32_only) {
        p->absent = true;
        in->param_bytes = before;
    }
    in->widest = max_i64(in->widest, d_in);
    in->heaviest = max_i64(in->heaviest, d_out * d_in);
    /* The linear is the instance's now, which closes it                                */
    *out = l;
    return adapters_open(l, name, in, s);
}

static const struct chi_linear *plan_linear(struct chi_plan *p, const char *name, int64_t d_out, int64_t d_in,
                                            uint32_t flags)
{
    if (p->error || !name_fits(p, name, ".weight")) return NULL;
    if (d_out < 1 || d_in < 1) {
        p->error = fail(CHI_ESHAPE, "%s: linear %s is %lld x %lld", p->in->name, name, (long long)d_out,
                        (long long)d_in);
        return NULL;
    }
    struct chi_linear *l;
    p->error = instance_linear(p->in, p->spec, name, d_out, d_in, flags, &l);
    return l;
}

static void plan_choice(struct chi_plan *p, int64_t k, int64_t n)
{
    if (!p->error && (k < 0 || n < 1 || k > n))
        p->error = fail(CHI_EPLUGIN, "%s: a choice of %lld out of %lld", p->in->name, (long long)k, (long long)n);
    p->in->share = p->error ? 1 : (double)k / (double)n;
}

const struct chi_plan_ops instance_plan = {
    .struct_size = sizeof instance_plan, .param = plan_param, .state = plan_state, .array = plan_array,
    .scratch = plan_scratch, .linear = plan_linear, .choice = plan_choice,
};

/* ---- life --------------------------------------------------------------------------- */

static chi_status open_part(struct instance *in, const struct spec *s, const struct chi_shape *shape)
{
    struct chi_plan plan = { .in = in, .spec = s };
    const void *conf = in->part->conf;
    struct crumb crumb = { in->host->instance, in->part->component->name, "open" };
    const struct crumb *was = crumb_set(&crumb);
    uint32_t size = in->loop ? in->loop->self_size : in->ops->self_size;
    in->self = mem_take(size, "self");
    if (!in->self) return CHI_ENOMEM;
    chi_status st = in->loop ? in->loop->open(in->host, in->self, conf, shape, &instance_plan, &plan)
                  : in->ops->open(in->host, in->self, conf, shape, &instance_plan, &plan);
    crumb_set(was);
    return st == CHI_OK ? plan.error : st;
}

chi_status instance_open(struct instance *in, const struct spec *s, const char *name, const struct part *part,
                         int mode, int64_t max_rows, int64_t max_segs)
{
    *in = (struct instance){ .part = part, .training = mode != MODEL_INFER, .share = 1 };
    copy_name(in->name, sizeof in->name, name);
    if (!part) return CHI_OK;
    in->host = host_open(s, *name ? name : part->component->name);
    if (part->component->kind == CHI_LOOP) in->loop = part->component->ops;
    else in->ops = part->component->ops;
    if (mode == MODEL_TRAIN && in->ops && !in->ops->backward)
        return fail(CHI_ECONF, "%s: layer %s has no backward pass: it can run, but not train", in->host->instance,
                    part->component->name);
    struct chi_shape shape = {
        .struct_size = sizeof shape, .d_in = s->model.hidden_size, .d_out = s->model.hidden_size,
        .max_rows = max_rows, .max_segs = max_segs, .rms_norm_eps = s->model.rms_norm_eps,
        .training = in->training,
    };
    return open_part(in, s, &shape);
}

chi_status instance_ready(struct instance *in)
{
    for (int64_t i = 0; i < in->n_param; i++) {
        struct planned_param *p = &in->param[i];
        if (!p->linear || p->absent) continue;
        p->linear->w = (float *)(void *)(in->params + p->offset);
        p->linear->g = in->grads && !p->held ? (float *)(void *)(in->grads + p->offset) : NULL;
    }
    in->at = xcalloc((size_t)in->n_array + 1, sizeof *in->at);
    if (!in->ops || !CHI_HAS(struct chi_layer_ops, in->ops, ready)) return CHI_OK;
    struct crumb crumb = { in->host->instance, in->part->component->name, "ready" };
    const struct crumb *was = crumb_set(&crumb);
    chi_status st = in->ops->ready(in->host, in->self, in->part->conf);
    crumb_set(was);
    return st;
}

void instance_close(struct instance *in)
{
    if (in->ops && in->self && CHI_HAS(struct chi_layer_ops, in->ops, close)) {
        struct crumb crumb = { in->host->instance, in->part->component->name, "close" };
        const struct crumb *was = crumb_set(&crumb);
        in->ops->close(in->self);
        crumb_set(was);
    }
    for (int64_t i = 0; i < in->n_param; i++)
        if (in->param[i].linear) {
            linear_drop(in->param[i].linear);
            adapters_close(in->param[i].linear);
            free(in->param[i].linear);
        }
    for (int64_t i = 0; i < in->n_kept; i++) workspace_drop(&in->kept[i]);
    free(in->kept);
    free(in->at);
    free(in->param);
    free(in->array);
    mem_free(in->self);
    host_close(in->host);
    *in = (struct instance){ 0 };
}

/* ---- arrays of a call ----------------------------------------------------------------- */

int64_t array_times(const struct planned_array *a, const struct chi_segment *seg, int64_t n_seg, int64_t rows)
{
    if (a->every == CHI_PER_CALL) return 1;
    if (a->every == CHI_PER_SEG) return n_seg;
    if (a->every == CHI_PER_ROW) return rows;
    struct chi_run r = { .seg = seg, .n_seg = n_seg };
    return chi_first_chunk(&r, n_seg, a->every);
}

static chi_status grow(struct workspace *ws, int64_t want, const char *what)
{
    if (want <= ws->bytes) return CHI_OK;
    workspace_drop(ws);
    ws->base = mem_take((size_t)want, what);
    ws->bytes = ws->base ? want : 0;
    return ws->base ? CHI_OK : CHI_ENOMEM;
}

/* The memory of a turn's KEEP arrays                                                      */
static struct workspace *kept_of(struct instance *in, int64_t turn)
{
    if (turn >= in->n_kept) {
        in->kept = xrealloc(in->kept, (size_t)(turn + 1) * sizeof *in->kept);
        while (in->n_kept <= turn) in->kept[in->n_kept++] = (struct workspace){ 0 };
    }
    return &in->kept[turn];
}

chi_status instance_arrays(struct instance *in, const struct chi_segment *seg, int64_t n_seg, int64_t rows,
                           int64_t turn, struct workspace *ws)
{
    struct workspace *own = turn == KEPT_NOT ? NULL : kept_of(in, turn);
    int64_t kept = 0, others = 0;
    for (int pass = 0; pass < 2; pass++) {
        kept = others = 0;
        for (int64_t i = 0; i < in->n_array; i++) {
            const struct planned_array *a = &in->array[i];
            bool mine = own && a->keep;
            int64_t *at = mine ? &kept : &others;
            if (pass) in->at[i] = (mine ? own->base : ws->base) + *at;
            *at += round_up(max_i64(1, array_times(a, seg, n_seg, rows) * a->bytes), ALIGN);
        }
        if (pass) break;
        if (own) TRY(grow(own, kept, in->name));
        TRY(grow(ws, others, "arrays of layers"));
    }
    return CHI_OK;
}

void workspace_drop(struct workspace *ws)
{
    mem_free(ws->base);
    *ws = (struct workspace){ 0 };
}

void instance_array_bytes(const struct instance *in, int64_t rows, int64_t n_seg, double *kept, double *others)
{
    *kept = *others = 0;
    for (int64_t i = 0; i < in->n_array; i++) {
        const struct planned_array *a = &in->array[i];
        int64_t n = a->every == CHI_PER_CALL ? 1 : a->every == CHI_PER_SEG ? n_seg
                  : a->every == CHI_PER_ROW ? rows : min_i64(rows, rows / a->every + n_seg);
        *(a->keep ? kept : others) += (double)n * (double)a->bytes + ALIGN / 2;
    }
}

/* ---- start values ------------------------------------------------------------------------ */

struct init { float *w; const struct planned_param *p; uint64_t seed; uint32_t who; double range; };
enum { INIT_PIECE = 65536 };

static double draw(const struct init *c, int64_t i)
{
    const struct planned_param *p = c->p;
    uint32_t w[4];
    if (p->init == CHI_INIT_ZERO) return 0;
    if (p->init == CHI_INIT_CONST) return p->a;
    if (p->init == CHI_INIT_EYE) return i / max_i64(1, p->shape[1]) == i % max_i64(1, p->shape[1]);
    if (p->init == CHI_INIT_LINEAR) return p->n > 1 ? p->a + (p->b - p->a) * (double)i / (double)(p->n - 1) : p->a;
    if (p->init == CHI_INIT_NORMAL)
        return (p->a != 0 ? p->a : c->range) * rng_normal(c->seed, RNG_INIT, c->who, (uint64_t)i);
    rng_words(w, c->seed, RNG_INIT, 0, c->who, (uint64_t)i);
    double u = rng_uniform(w[0]);
    if (p->init == CHI_INIT_UNIFORM) return p->a + (p->b - p->a) * u;
    if (p->init == CHI_INIT_LOG_UNIFORM) return log(p->a + (p->b - p->a) * u);
    double dt = exp(log(p->a) + (log(p->b) - log(p->a)) * u);   /* softplus^-1(dt)             */
    return dt + log(-expm1(-dt));
}

/* w[0] is value from                                                                       */
static void draw_some(const struct init *c, float *w, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) w[i - from] = (float)draw(c, i);
}

static void init_piece(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct init *c = arg;
    int64_t from = i * INIT_PIECE;
    (void)s;
    draw_some(c, c->w + from, from, min_i64(from + INIT_PIECE, c->p->n));
}

void init_values(float *w, const struct planned_param *p, const char *full_name, uint64_t seed, double range)
{
    struct init c = { w, p, seed, rng_who(full_name), range };
    pool_run(ceil_div(p->n, INIT_PIECE), init_piece, &c);
}

void init_some(float *w, const struct planned_param *p, const char *full_name, uint64_t seed, double range,
               int64_t from, int64_t to)
{
    struct init c = { NULL, p, seed, rng_who(full_name), range };
    draw_some(&c, w, from, to);
}
