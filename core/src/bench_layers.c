/* bench_layers.c - one decode step of each layer of a configuration, beside the bandwidth of
 * reading in the same process.
 *
 * A token of a large model finds no layer in the cache: the others were there since.  So as
 * many copies of a layer as fill limit_bytes() take steps one after the other, and passes over
 * them alternate with passes of plain reading.  Copies have the same weights; quantising is
 * done once, and for the layers of a model that would not fit there, too.
 *
 * Bytes of a step: the weights that a token meets in their encodings with scales, on average
 * (a mixture of experts), the stream's state once as read, and the lines of it that a step
 * was seen to change as written.                                                         */
#include "bench.h"
#include "bench_limit.h"
#include "bench_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter.h"
#include "core.h"
#include "network.h"
#include "pool.h"
#include "rng.h"
#include "run.h"

enum { ROUNDS = 21, INPUTS = 32, LINE = 64, SEEN = 32 };

struct copy {
    struct instance in;
    struct chi_segment seg;
    unsigned char *state;
};

struct subject {
    const struct spec *spec;
    const struct part *part;
    char name[24];                          /* "GD", as the pattern calls it               */
    char where[32];                         /* "layers.0.mixer": rules of linears look there */
    struct copy *copy; int64_t n;
    unsigned char *params, *states;         /* of all copies                               */
    double weights, written;                /* bytes of a step                             */
    int64_t state;
    struct workspace ws;
    void *scratch; int64_t scratch_bytes;
    float *x, *y, *e, *h;                   /* [INPUTS,d]; [d]; of a loop                  */
    int64_t token;
};

/* ---- copies ------------------------------------------------------------------------------ */

static chi_status set_weights(const struct subject *s, struct copy *c, const struct copy *from)
{
    const struct model_options *o = &s->spec->model;
    for (int64_t i = 0; i < c->in.n_param; i++) {
        const struct planned_param *p = &c->in.param[i];
        float *w = (float *)(void *)(c->in.params + p->offset);
        if (p->absent) TRY(from ? bench_bind_like(p->linear, from->in.param[i].linear)
                                : bench_bind_new(p->linear, o->initializer_range));
        else if (p->linear) bench_fill(w, p->n, o->initializer_range);
        else init_values(w, p, p->name, 1, o->initializer_range);
    }
    return CHI_OK;
}

static chi_status take_weights(const struct subject *s, int64_t number)
{
    struct copy *c = &s->copy[number];
    struct instance *in = &c->in;
    int64_t scratch = max_i64(4096, in->scratch_bytes);
    for (int64_t i = 0; i < in->n_param; i++)
        if (in->param[i].linear) scratch = max_i64(scratch, linear_scratch(in->param[i].linear, 1));
    TRY(pool_scratch(scratch));
    TRY(linear_room(1, max_i64(in->widest, 1), in->heaviest, false));
    for (int64_t i = 0; i < in->n_param; i++)
        if (in->param[i].linear) TRY(adapters_room(adapters_room_bytes(in->param[i].linear, 1)));
    in->params = s->params + number * in->param_bytes;
    c->state = s->states + number * in->state_bytes;
    TRY(instance_ready(in));
    c->seg = (struct chi_segment){ .rows = 1, .fresh = true, .state = c->state };
    return set_weights(s, c, number ? &s->copy[0] : NULL);
}

/* The first says how many there will be                                                       */
static chi_status open_copies(struct subject *s)
{
    struct copy first = { .seg = { 0 } };
    chi_status st = instance_open(&first.in, s->spec, s->where, s->part, MODEL_INFER, 1, 1);
    double bytes = instance_read_bytes(&first.in) + (double)first.in.state_bytes;
    double room = (double)limit_bytes();
    int64_t n = (int64_t)ceil(room / fmax(bytes, room / 4096));
    s->copy = xcalloc((size_t)n, sizeof *s->copy);
    s->copy[s->n++] = first;
    TRY(st);
    for (; s->n < n; s->n++)
        if ((st = instance_open(&s->copy[s->n].in, s->spec, s->where, s->part, MODEL_INFER, 1, 1)) != CHI_OK) {
            s->n++;
            return st;
        }
    s->params = mem_take((size_t)(n * first.in.param_bytes) + LINE, s->name);
    s->states = mem_take((size_t)(n * first.in.state_bytes) + LINE, "states");
    if (!s->params || !s->states) return CHI_ENOMEM;
    for (int64_t i = 0; i < n; i++) TRY(take_weights(s, i));
    return CHI_OK;
}

/* ---- a step -------------------------------------------------------------------------------- */

static chi_status loop_step(const struct subject *s, const struct instance *in, struct chi_run *r, const float *x)
{
    TRY(in->loop->enter(in->self, r, x, s->e));
    memset(s->h, 0, (size_t)s->spec->model.hidden_size * sizeof *s->h);
    for (int64_t turn = 0; turn < s->spec->loop.turns; turn++) TRY(in->loop->inject(in->self, r, s->e, s->h, s->y));
    return in->loop->leave(in->self, r, s->y, s->h);
}

static chi_status step(struct subject *s, struct copy *c)
{
    struct instance *in = &c->in;
    struct chi_scratch scratch = { s->scratch, 0, (size_t)s->scratch_bytes };
    const float *x = s->x + s->token++ % INPUTS * s->spec->model.hidden_size;
    struct chi_run r = { .h = in->host, .params = in->params, .scratch = &scratch, .seg = &c->seg, .n_seg = 1,
                         .rows = 1 };
    TRY(instance_arrays(in, &c->seg, 1, 1, KEPT_NOT, &s->ws));
    r.array = in->at;
    if (in->loop) TRY(loop_step(s, in, &r, x));
    else if (CHI_HAS(struct chi_layer_ops, in->ops, step)) TRY(in->ops->step(in->self, &r, x, s->y));
    else TRY(in->ops->forward(in->self, &r, x, s->y));
    c->seg.fresh = false;
    c->seg.pos++;
    return CHI_OK;
}

struct pass { struct subject *s; double seconds; chi_status st; };

static void held_pass(void *arg)
{
    struct pass *p = arg;
    double begun = now_s();
    for (int64_t i = 0; p->st == CHI_OK && i < p->s->n; i++) p->st = step(p->s, &p->s->copy[i]);
    p->seconds = now_s() - begun;
}

/* As a pass through a model: threads stay at hand from the first step to the last               */
static chi_status pass(struct subject *s, double *seconds)
{
    struct pass p = { .s = s, .st = CHI_OK };
    pool_hold(held_pass, &p);
    *seconds = p.seconds;
    return p.st;
}

/* Bytes of the state that a step changes, on average over the first SEEN                        */
static chi_status count_written(struct subject *s)
{
    struct copy *c = &s->copy[0];
    int64_t changed = 0;
    unsigned char *was = mem_take((size_t)s->state + LINE, "a state");
    if (!was) return CHI_ENOMEM;
    chi_status st = CHI_OK;
    for (int i = 0; st == CHI_OK && i < SEEN; i++) {
        memcpy(was, c->state, (size_t)s->state);
        st = step(s, c);
        for (int64_t at = 0; at + LINE <= s->state; at += LINE) changed += memcmp(was + at, c->state + at, LINE) != 0;
    }
    mem_free(was);
    s->written = (double)changed * LINE / SEEN;
    return st;
}

/* Does a step look at these parameters?  What only a new stream reads (the start of a memory) is
 * no cost of a token: with NaN in their place its output stays finite.                            */
static chi_status looks_at(struct subject *s, const struct planned_param *p, bool *looks)
{
    struct copy *c = &s->copy[0];
    size_t bytes = (size_t)p->n * sizeof(float), state = (size_t)s->state;
    unsigned char *at = c->in.params + p->offset, *was = mem_take(bytes + state, "a copy");
    if (!was) return CHI_ENOMEM;
    memcpy(was, at, bytes);
    memcpy(was + bytes, c->state, state);
    memset(at, 0xff, bytes);
    chi_status st = step(s, c);
    *looks = false;
    const float *y = c->in.loop ? s->h : s->y;
    for (int64_t i = 0; i < s->spec->model.hidden_size; i++) *looks = *looks || !isfinite(y[i]);
    memcpy(at, was, bytes);
    memcpy(c->state, was + bytes, state);
    mem_free(was);
    return st;
}

static chi_status count_read(struct subject *s)
{
    const struct instance *in = &s->copy[0].in;
    s->weights = instance_read_bytes(in);
    for (int64_t i = 0; i < in->n_param; i++) {
        bool looks = true;
        if (!in->param[i].linear) TRY(looks_at(s, &in->param[i], &looks));
        if (!looks) s->weights -= 4.0 * (double)in->param[i].n;
    }
    return CHI_OK;
}

/* ---- one layer ------------------------------------------------------------------------------- */

static chi_status open_subject(struct subject *s)
{
    size_t row = (size_t)s->spec->model.hidden_size * sizeof(float);
    TRY(open_copies(s));
    s->state = s->copy[0].in.state_bytes;
    s->scratch_bytes = max_i64(4096, s->copy[0].in.scratch_bytes);
    s->scratch = mem_take((size_t)s->scratch_bytes, "scratch");
    s->x = mem_take(INPUTS * row, "inputs");
    s->y = mem_take(row, "an output");
    s->e = mem_take(row, "an output");
    s->h = mem_take(row, "an output");
    if (!s->scratch || !s->x || !s->y || !s->e || !s->h) return CHI_ENOMEM;
    for (int64_t i = 0; i < INPUTS * s->spec->model.hidden_size; i++)
        s->x[i] = (float)rng_normal(1, RNG_BENCH, 0, (uint64_t)i);
    TRY(count_written(s));
    TRY(count_read(s));
    for (int64_t i = 1; i < s->n; i++)       /* each at a place of its own in a chunk         */
        for (int64_t t = 0; t < i % SEEN; t++) TRY(step(s, &s->copy[i]));
    return CHI_OK;
}

static void close_subject(struct subject *s)
{
    for (int64_t i = 0; i < s->n; i++) instance_close(&s->copy[i].in);
    free(s->copy);
    workspace_drop(&s->ws);
    void *block[] = { s->params, s->states, s->scratch, s->x, s->y, s->e, s->h };
    for (int64_t i = 0; i < COUNT(block); i++) mem_free(block[i]);
}

static void print_line(const struct bench *b, const struct subject *s, int threads, double seconds, double limit)
{
    double bytes = s->weights + (double)s->state + s->written, rate = bytes / seconds;
    printf(b->json ? "{\"bench\": \"layer\", \"layer\": \"%s\", \"component\": \"%s\", \"threads\": %d, "
           "\"weight_bytes\": %.0f, "
                     "\"state_bytes\": %lld, \"written_bytes\": %.0f, \"us\": %.2f, \"gb_s\": %.3f, \"read_gb_s\": "
                     "%.3f, \"ratio\": %.3f}\n"
                   : "%-5s %-15s %d thread(s)  weights %9.0f  state %8lld  written %8.0f bytes  %8.1f us  %6.2f "
                     "GB/s of %6.2f: %.2f\n",
           s->name, s->part->component->name, threads, s->weights, (long long)s->state, s->written, 1e6 * seconds,
           rate / 1e9, limit / 1e9, rate / limit);
    fflush(stdout);
}

static chi_status measure(const struct bench *b, struct subject *s, const uint8_t *pool, int threads)
{
    double time[ROUNDS], read[LIMIT_READERS][ROUNDS], limit = 0, warm;
    reader *f[LIMIT_READERS];
    int n = limit_readers(f);
    pool_threads(threads);
    TRY(pool_scratch(64));
    TRY(pass(s, &warm));
    for (int i = 0; i < ROUNDS; i++) {
        TRY(pass(s, &time[i]));
        for (int k = 0; k < n; k++) read[k][i] = limit_read_rate(f[k], pool);
    }
    for (int k = 0; k < n; k++) limit = fmax(limit, bench_median(read[k], ROUNDS));
    print_line(b, s, threads, bench_median(time, ROUNDS) / (double)s->n, limit);
    return CHI_OK;
}

static chi_status one_layer(const struct bench *b, struct subject *s, const uint8_t *pool)
{
    chi_status st = open_subject(s);
    if (st == CHI_OK && b->threads > 1) st = measure(b, s, pool, 1);
    if (st == CHI_OK) st = measure(b, s, pool, b->threads);
    close_subject(s);
    return st;
}

/* ---- all of them --------------------------------------------------------------------------------- */

static bool met_before(const struct part *part, const struct part *in, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!strcmp(in[i].section, part->section)) return true;
    return false;
}

static chi_status kind(const struct bench *b, const struct spec *spec, const struct part *part, const char *slot,
                       const uint8_t *pool)
{
    for (int64_t l = 0; l < spec->model.num_hidden_layers; l++) {
        if (met_before(&part[l], part, l)) continue;
        struct subject s = { .spec = spec, .part = &part[l] };
        const char *dot = strchr(part[l].section, '.');
        snprintf(s.name, sizeof s.name, "%s", dot ? dot + 1 : part[l].section);
        snprintf(s.where, sizeof s.where, "layers.%lld.%s", (long long)l, slot);
        TRY(one_layer(b, &s, pool));
    }
    return CHI_OK;
}

chi_status bench_layers(const struct bench *b)
{
    struct spec *spec;
    TRY(run_spec(b->subject, b->override, b->n_override, SPEC_MODEL, &spec));
    uint8_t *pool = mem_take((size_t)limit_bytes(), "memory to read");
    chi_status st = pool ? CHI_OK : CHI_ENOMEM;
    if (pool) memset(pool, 1, (size_t)limit_bytes());
    if (st == CHI_OK) st = kind(b, spec, spec->mixer, "mixer", pool);
    if (st == CHI_OK) st = kind(b, spec, spec->ffn, "ffn", pool);
    if (st == CHI_OK && spec->loop.length) {
        struct subject s = { .spec = spec, .part = &spec->loop.part, .name = "loop", .where = "loop" };
        st = one_layer(b, &s, pool);
    }
    pool_threads(b->threads);
    mem_free(pool);
    spec_close(spec);
    return st;
}
