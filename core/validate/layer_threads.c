/* layer_threads.c - checks that nobody can tell how a layer's work was handed out.
 *
 * threads  plays the score with 1, 2, 3 and 8 workers, then with the tasks of each parallel loop in
 *          other orders and their scratch spoiled before each: the same bits every time
 * streams  several threads call forward and step of one self at the same time, each with blocks
 *          of its own: the same bits as one after the other                                   */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "instance.h"
#include "play.h"
#include "pool.h"

enum { CASES = 4, USUAL = 64 };

/* Small cases, then one with the options that its authors chose: layers give small ones no tasks */
static bool case_of(struct trial *t, int64_t i, struct layer_case *c)
{
    if (i == CASES - 1 && usual_case(t, USUAL, c)) return true;
    return layer_case(t, i, c);
}

/* ---- orders of tasks --------------------------------------------------------------------- */

enum { IN_ORDER, REVERSED, SHUFFLED, ORDERS };
static const char *const order_words[] = { "in order", "last to first", "in a shuffled order" };
static int order;

/* Task i of n is number (i times + plus) mod n                                               */
struct shuffle { chi_task *task; void *arg; int64_t n, times, plus; };

static int64_t common(int64_t a, int64_t b)
{
    return b ? common(b, a % b) : a;
}

static void shuffled_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct shuffle *f = arg;
    if (s->size > s->used) memset(s->base + s->used, 0xff, s->size - s->used);
    f->task(f->arg, (i * f->times + f->plus) % f->n, s);
}

static void shuffled_parallel(const struct chi_host *h, int64_t n, chi_task *task, void *arg)
{
    struct shuffle f = { task, arg, n, 1, 0 };
    (void)h;
    if (n < 1) return;
    if (order == REVERSED) f.times = f.plus = n - 1;
    if (order == SHUFFLED) {
        f.times = n / 2 + 1;
        while (common(f.times, n) != 1) f.times++;
        f.plus = n / 3;
    }
    pool_run(n, shuffled_task, &f);
}

/* ---- threads ------------------------------------------------------------------------------ */

static bool play(struct trial *t, const struct layer_case *c, bool training, int workers, int how, struct play *out,
                 const struct play *want)
{
    struct rig r;
    char words[64];
    if (!rig_open(&r, t, c, training, score_rows(&long_score), long_score.n)) return false;
    if (how >= 0) {
        order = how;
        solo_instance(r.solo)->host->parallel = shuffled_parallel;
    }
    pool_threads(workers);
    bool ok = training ? play_training(&r, &plain_way, &long_score, out)
                       : play_inference(&r, &plain_way, &long_score, out);
    if (how >= 0) snprintf(words, sizeof words, "with the tasks %s and spoiled scratch", order_words[how]);
    else snprintf(words, sizeof words, "with %d threads", workers);
    ok = ok && (!want || play_same(&r, words, out, want));
    rig_close(&r);
    return ok;
}

static void same_for_all(struct trial *t, bool training)
{
    static const int workers[] = { 2, 3, 8 };
    if (training && !has_backward(t)) {
        trial_skip(t, "it has no backward pass");
        return;
    }
    bool ok = true;
    for (int64_t i = 0; i < CASES && ok; i++) {
        struct layer_case c;
        struct play want = { .n = 0 }, got = { .n = 0 };
        if (!case_of(t, i, &c)) return;
        ok = play(t, &c, training, 1, -1, &want, NULL);
        for (int64_t k = 0; k < COUNT(workers) && ok; k++) {
            ok = play(t, &c, training, workers[k], -1, &got, &want);
            play_drop(&got);
        }
        for (int how = 0; how < ORDERS && ok; how++) {
            ok = play(t, &c, training, 1 + how % 2, how, &got, &want);
            play_drop(&got);
        }
        play_drop(&want);
    }
    pool_threads(1);
}

static void threads_inference(struct trial *t) { same_for_all(t, false); }
static void threads_training(struct trial *t) { same_for_all(t, true); }

/* ---- streams ------------------------------------------------------------------------------- */

enum { STREAMS = 4, ROUNDS = 40, ROWS = 6 };

/* A thread with a stream; its blocks are its own, self and parameters are all threads'          */
struct caller {
    struct rig *r;
    struct workspace ws;
    void **at;
    unsigned char *state;
    unsigned char *scratch;
    const float *x;                             /* [ROUNDS * ROWS, d]                          */
    float *y;
    int64_t index;
    chi_status s;
    char why[256];
};

static pthread_mutex_t core_lock = PTHREAD_MUTEX_INITIALIZER;
static chi_status (*core_linears)(const struct chi_linear *const *, int64_t, struct chi_run *, const float *, int64_t,
                                  float *const *);
static void (*core_reduce)(const struct chi_host *, float *, const float *, int64_t, int64_t);
static _Thread_local struct chi_scratch own;
static _Thread_local uint32_t turns;

/* Gives way now and then, so that calls of several threads lie across each other even on one core */
static void give_way(void)
{
    for (uint32_t i = 0; i < 1 + turns % 3; i++) sched_yield();
    turns = turns * 1664525u + 1013904223u;
}

/* Tasks run in the calling thread: the pool has scratch for one caller                          */
static void own_parallel(const struct chi_host *h, int64_t n, chi_task *task, void *arg)
{
    (void)h;
    for (int64_t i = 0; i < n; i++) {
        size_t was = own.used;
        task(arg, i, &own);
        own.used = was;
        give_way();
    }
}

static chi_status locked_linears(const struct chi_linear *const *l, int64_t n, struct chi_run *r, const float *x,
                                 int64_t rows, float *const *y)
{
    give_way();
    pthread_mutex_lock(&core_lock);
    chi_status s = core_linears(l, n, r, x, rows, y);
    pthread_mutex_unlock(&core_lock);
    give_way();
    return s;
}

static void locked_reduce(const struct chi_host *h, float *acc, const float *part, int64_t n, int64_t len)
{
    pthread_mutex_lock(&core_lock);
    core_reduce(h, acc, part, n, len);
    pthread_mutex_unlock(&core_lock);
}

/* Prefix of ROWS - 1 rows by forward, then one by step; a stream is as long as all cases take    */
static chi_status call_rows(struct caller *c, int64_t first, int64_t rows, int64_t pos, bool step)
{
    struct instance in = *solo_instance(c->r->solo);
    struct chi_segment g = rig_segment(0, rows, pos, 21 + (uint64_t)c->index, c->state);
    in.at = c->at;
    pthread_mutex_lock(&core_lock);                     /* counts memory                      */
    chi_status s = instance_arrays(&in, &g, 1, rows, false, &c->ws);
    pthread_mutex_unlock(&core_lock);
    if (s != CHI_OK) return s;
    struct chi_scratch scratch = { c->scratch, 0, (size_t)in.scratch_bytes };
    struct chi_run r = { .h = in.host, .params = in.params, .array = in.at, .scratch = &scratch, .seg = &g,
                         .n_seg = 1, .rows = rows };
    bool has_step = step && CHI_HAS(struct chi_layer_ops, in.ops, step);
    return (has_step ? in.ops->step : in.ops->forward)(in.self, &r, c->x + first * c->r->d, c->y + first * c->r->d);
}

static void *stream(void *arg)
{
    struct caller *c = arg;
    turns = (uint32_t)c->index * 7;
    own = (struct chi_scratch){ c->scratch + round_up(solo_instance(c->r->solo)->scratch_bytes, 64) + 64, 0,
                                (size_t)solo_instance(c->r->solo)->scratch_bytes };
    for (int64_t i = 0; i < ROUNDS && c->s == CHI_OK; i++) {
        memset(c->state, 0, (size_t)c->r->state_bytes);
        c->s = call_rows(c, i * ROWS, ROWS - 1, 0, false);
        if (c->s == CHI_OK) c->s = call_rows(c, i * ROWS + ROWS - 1, 1, ROWS - 1, true);
    }
    if (c->s != CHI_OK) snprintf(c->why, sizeof c->why, "%s", fail_text());
    return NULL;
}

/* The work of two streams on one core tells more than that of one on two                       */
static bool run_streams(struct caller *c, bool at_once)
{
    pthread_t thread[STREAMS];
    int64_t n = 0;
    bool ok = true;
    for (int64_t i = 0; i < STREAMS; i++)
        if (!at_once) stream(&c[i]);
        else if (pthread_create(&thread[i], NULL, stream, &c[i]) == 0) n = i + 1;
        else break;
    for (int64_t i = 0; i < n; i++) pthread_join(thread[i], NULL);
    for (int64_t i = 0; i < STREAMS; i++) {
        if (c[i].s != CHI_OK) trial_fail(c->r->trial, "forward with %s: %s", case_words(c->r->is), c[i].why);
        ok = ok && c[i].s == CHI_OK;
    }
    if (at_once && n < STREAMS) trial_skip(c->r->trial, "the system gives no %d threads", STREAMS);
    return ok && (!at_once || n == STREAMS);
}

static void start_callers(struct rig *r, struct caller *c, const float *const *x)
{
    const struct instance *in = solo_instance(r->solo);
    for (int64_t i = 0; i < STREAMS; i++)
        c[i] = (struct caller){ .r = r, .index = i, .x = x[i], .y = rig_rows(r, ROUNDS * ROWS),
                                .state = rig_block(r, r->state_bytes),
                                .at = rig_block(r, (in->n_array + 1) * (int64_t)sizeof(void *)),
                                .scratch = rig_block(r, 2 * round_up(in->scratch_bytes, 64) + 128) };
}

static void drop_callers(struct caller *c)
{
    for (int64_t i = 0; i < STREAMS; i++) workspace_drop(&c[i].ws);
}

static void streams_of(struct rig *r)
{
    struct caller alone[STREAMS], together[STREAMS];
    const float *x[STREAMS];
    struct chi_host *h = solo_instance(r->solo)->host;
    core_linears = h->linears;
    core_reduce = h->reduce;
    h->parallel = own_parallel;
    h->linears = locked_linears;
    h->reduce = locked_reduce;
    for (int64_t i = 0; i < STREAMS; i++) x[i] = rig_random_rows(r, ROUNDS * ROWS, 1);
    start_callers(r, alone, x);
    start_callers(r, together, x);
    bool ok = run_streams(alone, false) && run_streams(together, true);
    for (int64_t i = 0; i < STREAMS && ok; i++)
        ok = rig_same(r, "y of a stream while other threads run streams of their own", together[i].y, alone[i].y,
                      ROUNDS * ROWS, r->d)
          && rig_same_bytes(r, "the state of a stream while other threads run streams of their own",
                            together[i].state, alone[i].state, r->state_bytes);
    drop_callers(alone);
    drop_callers(together);
}

static void streams_inference(struct trial *t)
{
    for (int64_t i = 0; i < 2 && t->outcome == TRIAL_OK; i++) {
        struct layer_case c;
        struct rig r;
        if (!layer_case(t, i, &c) || !rig_open(&r, t, &c, false, ROWS, 1)) return;
        pool_threads(1);
        streams_of(&r);
        rig_close(&r);
    }
}

const struct check checks_layer_threads[] = {
    { "threads.inference", CHI_LAYER, 120,
      "forward and step: the same bits for 1, 2, 3, 8 threads and any order of tasks", threads_inference },
    { "threads.training", CHI_LAYER, 120, "forward with keep and backward likewise", threads_training },
    { "streams.inference", CHI_LAYER, 60, "four streams at once on one self give what they give alone",
      streams_inference },
    { 0 }
};
