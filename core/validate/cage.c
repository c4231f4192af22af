/* cage.c - see cage.h.                                                                        */
#include "cage.h"

#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "guard.h"
#include "instance.h"
#include "pool.h"

/* Room behind blocks where only writing counts                                               */
enum { LOOSE = 1 << 16 };

static struct cage *present;                        /* whose operation runs                   */

static void *take(const struct cage *c, int64_t bytes, int64_t align, const char *name)
{
    return guard_take(bytes + (c->mode == CAGE_READ_ONLY ? LOOSE : 0), align, c->at_end, name);
}

static void lock(const struct cage *c, void *p)
{
    if (c->mode == CAGE_READ_ONLY) guard_read_only(p, true);
}

/* ---- tasks ------------------------------------------------------------------------------- */

/* One after the other in this thread, each with exactly the scratch that was announced       */
static void cage_parallel(const struct chi_host *h, int64_t n, chi_task *task, void *arg)
{
    struct cage *c = present;
    bool outer = !c->in_task;
    (void)h;
    c->in_task = true;
    for (int64_t i = 0; i < n; i++) {
        size_t was = c->now.used;
        if (outer) {
            c->now = (struct chi_scratch){ c->task_scratch, was = 0,
                                           (size_t)solo_instance(c->rig.solo)->scratch_bytes };
            if (c->mode == CAGE_BOUNDS) guard_spoil(c->task_scratch);
        }
        task(arg, i, &c->now);
        c->most = max_i64(c->most, (int64_t)c->now.used);
        c->now.used = was;
    }
    if (outer) c->in_task = false;
}

/* ---- life --------------------------------------------------------------------------------- */

/* The layer's options in a block of their own, so that writing to them shows                  */
static void *cage_conf(const struct cage *c, const struct part *p)
{
    int64_t bytes = p->component->conf_size;
    void *conf = take(c, bytes, 64, "conf");
    if (conf && p->conf) memcpy(conf, p->conf, (size_t)bytes);
    return conf;
}

static chi_status open_solo(struct cage *c, bool training)
{
    struct rig *r = &c->rig;
    TRY(case_spec(r->trial, r->is, &r->spec));
    struct part *mixer = &r->spec->mixer[0], own = *mixer;
    own.conf = c->conf = cage_conf(c, mixer);
    if (!own.conf) return fail(CHI_ENOMEM, "no memory for a block");
    lock(c, c->conf);
    linear_room_drop();
    guard_mem(true, c->at_end);
    chi_status s = solo_open(&r->solo, r->spec, &own, training, r->max_rows, r->max_segs);
    guard_mem(false, false);
    if (s != CHI_OK) return s;
    struct instance *in = solo_instance(r->solo);
    in->part = mixer;                               /* own ends here                          */
    in->host->parallel = cage_parallel;
    r->state_bytes = round_up(max_i64(in->state_bytes, 1), 64);
    c->task_scratch = take(c, in->scratch_bytes, 64, "the scratch of a task");
    c->call_scratch = take(c, in->scratch_bytes, 64, "the scratch of the calling thread");
    for (int64_t i = 0; i < in->n_array; i++) in->at[i] = NULL;
    return c->task_scratch && c->call_scratch ? CHI_OK : fail(CHI_ENOMEM, "no memory for a block");
}

struct opening { struct cage *c; bool training; chi_status s; };

static void open_watched(void *arg)
{
    struct opening *o = arg;
    o->s = open_solo(o->c, o->training);
}

bool cage_open(struct cage *c, struct trial *t, const struct layer_case *is, bool training, int mode, bool at_end,
               int64_t max_rows, int64_t max_segs)
{
    char words[GUARD_WORDS];
    *c = (struct cage){ .mode = mode, .at_end = at_end,
                        .rig = { .trial = t, .is = is, .d = is->d, .max_rows = max_rows, .max_segs = max_segs } };
    struct opening o = { c, training, CHI_OK };
    c->broken = !guard_call(open_watched, &o, words);
    guard_mem(false, false);
    if (c->broken) trial_fail(t, "opening: it %s (%s)", words, case_words(is));
    else if (o.s != CHI_OK) trial_fail(t, "opening it with %s: %s", case_words(is), fail_text());
    if (c->broken || o.s != CHI_OK) {
        cage_close(c);
        return false;
    }
    pool_threads(1);                                /* faults are caught in this thread        */
    rig_weights(&c->rig, t->seed + 1);
    if (mode == CAGE_READ_ONLY) {
        guard_read_only_all("self", true);
        guard_read_only_all(t->component->name, true);
        guard_read_only_all("params", true);
    }
    return true;
}

static void drop_arrays(struct cage *c)
{
    struct instance *in = solo_instance(c->rig.solo);
    for (int64_t i = 0; i < in->n_array; i++) {
        guard_drop(in->at[i]);
        in->at[i] = NULL;
    }
}

/* What a fault left behind may not be closed                                                  */
void cage_close(struct cage *c)
{
    if (c->broken) return;
    guard_read_only_all("self", false);
    guard_read_only_all(c->rig.trial->component->name, false);
    if (c->rig.solo) drop_arrays(c);
    rig_close(&c->rig);
    guard_drop(c->task_scratch);
    guard_drop(c->call_scratch);
    guard_drop(c->conf);
}

/* ---- operations ------------------------------------------------------------------------------ */

struct call {
    struct cage *c;
    const char *op;
    chi_status (*run)(const struct call *, struct chi_run *);
    struct chi_segment *g;              /* guarded, as all below                            */
    int64_t n, rows;
    bool keep;
    float *x, *y, *dy, *dx;
    chi_status s;
};

static chi_status run_forward(const struct call *k, struct chi_run *r)
{
    const struct instance *in = solo_instance(k->c->rig.solo);
    return in->ops->forward(in->self, r, k->x, k->y);
}

static chi_status run_step(const struct call *k, struct chi_run *r)
{
    const struct instance *in = solo_instance(k->c->rig.solo);
    if (!CHI_HAS(struct chi_layer_ops, in->ops, step)) return run_forward(k, r);
    return in->ops->step(in->self, r, k->x, k->y);
}

static chi_status run_backward(const struct call *k, struct chi_run *r)
{
    const struct instance *in = solo_instance(k->c->rig.solo);
    return in->ops->backward(in->self, r, k->x, k->dy, k->dx);
}

static void run_call(void *arg)
{
    struct call *k = arg;
    const struct instance *in = solo_instance(k->c->rig.solo);
    struct chi_scratch scratch = { k->c->call_scratch, 0, (size_t)in->scratch_bytes };
    struct chi_run r = { .h = in->host, .params = in->params, .grads = k->keep ? in->grads : NULL, .array = in->at,
                         .scratch = &scratch, .seg = k->g, .n_seg = k->n, .rows = k->rows, .keep = k->keep };
    k->s = k->run(k, &r);
    k->c->most = max_i64(k->c->most, (int64_t)scratch.used);
}

/* Arrays of a forward call, all undefined; in backward those that are not kept are so again    */
static bool set_arrays(struct call *k)
{
    struct cage *c = k->c;
    struct instance *in = solo_instance(c->rig.solo);
    bool back = k->run == run_backward;
    if (!back) drop_arrays(c);
    for (int64_t i = 0; i < in->n_array; i++) {
        const struct planned_array *a = &in->array[i];
        char name[48];
        snprintf(name, sizeof name, "array %s", a->name);
        if (!back) in->at[i] = take(c, array_times(a, k->g, k->n, k->rows) * a->bytes, 64, name);
        if (!in->at[i]) return false;
        if (c->mode == CAGE_BOUNDS && !(back && a->keep)) guard_spoil(in->at[i]);
    }
    return true;
}

static void *copy_in(const struct cage *c, const void *from, int64_t bytes, int64_t align, const char *name)
{
    void *p = take(c, bytes, align, name);
    if (p && bytes) memcpy(p, from, (size_t)bytes);
    return p;
}

/* Segments with states of their own blocks                                                     */
static bool set_segments(struct call *k, const struct chi_segment *g)
{
    struct cage *c = k->c;
    int64_t bytes = solo_instance(c->rig.solo)->state_bytes;
    k->g = copy_in(c, g, k->n * (int64_t)sizeof *g, 64, "the segments");
    for (int64_t i = 0; k->g && i < k->n; i++) {
        struct chi_segment *s = &k->g[i];
        k->rows += s->rows;
        if (s->state && !(s->state = copy_in(c, g[i].state, bytes, 64, "a state"))) return false;
        if (s->dstate && !(s->dstate = copy_in(c, g[i].dstate, bytes, 64, "a dstate"))) return false;
        if (k->run == run_backward) lock(c, s->state);
    }
    if (k->g) lock(c, k->g);
    return k->g != NULL;
}

static bool set_rows(struct call *k, const float *x, const float *dy, const float *dx)
{
    const struct cage *c = k->c;
    int64_t bytes = k->rows * c->rig.d * (int64_t)sizeof *x;
    k->x = copy_in(c, x, bytes, 4, "x");
    k->y = take(c, dy ? 0 : bytes, 4, "y");
    k->dy = dy ? copy_in(c, dy, bytes, 4, "dy") : NULL;
    k->dx = dy ? copy_in(c, dx, bytes, 4, "dx") : NULL;
    if (!k->x || !k->y || (dy && (!k->dy || !k->dx))) return false;
    lock(c, k->x);
    lock(c, k->dy);
    if (c->mode == CAGE_BOUNDS) guard_spoil(k->y);
    return true;
}

static void drop_call(struct call *k)
{
    for (int64_t i = 0; k->g && i < k->n; i++) {
        guard_drop(k->g[i].state);
        guard_drop(k->g[i].dstate);
    }
    guard_drop(k->g);
    guard_drop(k->x);
    guard_drop(k->y);
    guard_drop(k->dy);
    guard_drop(k->dx);
}

/* What is to be seen after the operation, whether it changed its results or not               */
static bool judge(struct call *k)
{
    struct cage *c = k->c;
    struct trial *t = c->rig.trial;
    const char *broken;
    int64_t announced = round_up(solo_instance(c->rig.solo)->scratch_bytes, 64);
    if (k->s != CHI_OK) {
        trial_fail(t, "%s with %s: %s", k->op, case_words(c->rig.is), fail_text());
        return false;
    }
    if (c->mode != CAGE_BOUNDS) return true;
    if ((broken = guard_broken())) {
        trial_fail(t, "%s writes beside %s (%s)", k->op, broken, case_words(c->rig.is));
        return false;
    }
    if (c->most > announced)
        trial_fail(t, "%s takes %lld bytes of scratch, open() announced %lld (%s)", k->op, (long long)c->most,
                   (long long)announced, case_words(c->rig.is));
    return c->most <= announced;
}

static void copy_out(const struct call *k, const struct chi_segment *g, float *y, float *dx)
{
    size_t rows = (size_t)(k->rows * k->c->rig.d) * sizeof *y;
    size_t state = (size_t)solo_instance(k->c->rig.solo)->state_bytes;
    if (y && rows) memcpy(y, k->y, rows);
    if (dx && rows) memcpy(dx, k->dx, rows);
    for (int64_t i = 0; i < k->n; i++) {
        if (g[i].state && state) memcpy(g[i].state, k->g[i].state, state);
        if (g[i].dstate && state) memcpy(g[i].dstate, k->g[i].dstate, state);
    }
}

static bool operate(struct call *k, const struct chi_segment *g, const float *x, float *y, const float *dy, float *dx)
{
    struct cage *c = k->c;
    char words[GUARD_WORDS];
    if (!set_segments(k, g) || !set_rows(k, x, dy, dx) || !set_arrays(k)) {
        trial_fail(c->rig.trial, "no memory for guarded blocks");
        drop_call(k);
        return false;
    }
    lock(c, solo_instance(c->rig.solo)->params);
    if (c->mode == CAGE_READ_ONLY) guard_read_only_all("grads", !dy);
    if (c->mode == CAGE_BOUNDS) guard_spoil(c->call_scratch);
    present = c;
    c->in_task = false;
    c->most = 0;
    c->now = (struct chi_scratch){ 0 };
    c->broken = !guard_call(run_call, k, words);
    if (c->mode == CAGE_READ_ONLY) guard_read_only_all("grads", false);
    if (c->broken) {
        trial_fail(c->rig.trial, "%s %s (%s)", k->op, words, case_words(c->rig.is));
        return false;
    }
    bool ok = judge(k);
    if (ok) copy_out(k, g, y, dx);
    drop_call(k);
    return ok;
}

static struct cage *cage_of(struct rig *r)
{
    return (struct cage *)(void *)r;
}

static bool cage_forward(struct rig *r, const struct chi_segment *g, int64_t n, bool keep, const float *x, float *y)
{
    struct call k = { .c = cage_of(r), .op = "forward", .run = run_forward, .n = n, .keep = keep };
    return operate(&k, g, x, y, NULL, NULL);
}

static bool cage_step(struct rig *r, const struct chi_segment *g, int64_t n, const float *x, float *y)
{
    struct call k = { .c = cage_of(r), .op = "step", .run = run_step, .n = n };
    return operate(&k, g, x, y, NULL, NULL);
}

static bool cage_backward(struct rig *r, const struct chi_segment *g, int64_t n, const float *x, const float *dy,
                          float *dx)
{
    struct call k = { .c = cage_of(r), .op = "backward", .run = run_backward, .n = n, .keep = true };
    return operate(&k, g, x, NULL, dy, dx);
}

const struct way cage_way = { cage_forward, cage_step, cage_backward };
