/* faulty.c - a layer y = w x that goes wrong on demand: at the call of forward or backward that
 * an option counts, it crashes or puts a NaN where the option says.  The call is counted in the
 * plugin's own memory, which no real layer may do.                                      */
#include <chimera/math.h>
#include <chimera/plugin.h>
#include <stdlib.h>

enum { IN_FORWARD, IN_BACKWARD, IN_TASK };
enum { SEGV, ABORT, NAN_Y, NAN_DX, NAN_GRAD };

enum { SOUND, STATE, ARRAY, EVERY, SCRATCH };

struct faulty_conf { int64_t at; int32_t where, what, size; };

static const struct chi_option options[] = {
    CHI_INT(struct faulty_conf, at, "0", 0, 1e9, "which call goes wrong; 0: none", 0),
    CHI_ENUM(struct faulty_conf, where, "forward", "forward|backward|task", "in which call", 0),
    CHI_ENUM(struct faulty_conf, what, "segv", "segv|abort|nan_y|nan_dx|nan_grad", "what happens", 0),
    CHI_ENUM(struct faulty_conf, size, "sound", "sound|state|array|every|scratch",
             "what is planned with a negative size", 0),
    CHI_OPTIONS_END
};

struct faulty { const struct faulty_conf *conf; int64_t d, w; };

static int64_t forwards, backwards;

static chi_status faulty_open(const struct chi_host *h, void *self, const void *conf, const struct chi_shape *shape,
                              const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    struct faulty *s = self;
    (void)h;
    s->conf = conf;
    s->d = shape->d_in;
    s->w = ops->param(plan, "w", (int64_t[]){ s->d, 0 }, CHI_INIT_CONST, 1, 0, 0);
    if (s->conf->size == STATE) ops->state(plan, "memory", CHI_F32, -s->d);
    if (s->conf->size == ARRAY) ops->array(plan, "rows", CHI_F32, -1, CHI_PER_ROW, 0);
    if (s->conf->size == EVERY) ops->array(plan, "rows", CHI_F32, s->d, -2, 0);
    if (s->conf->size == SCRATCH) ops->scratch(plan, -64);
    return CHI_OK;
}

static int *volatile nowhere;

static void crash(int32_t what)
{
    if (what == ABORT) abort();
    if (what == SEGV) *nowhere = 1;
}

static void crash_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    (void)scratch;
    if (i == 3) crash(*(const int32_t *)arg);
}

static chi_status faulty_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct faulty *s = self;
    bool now = ++forwards == s->conf->at;
    int32_t what = s->conf->what;
    if (now && s->conf->where == IN_TASK) r->h->parallel(r->h, 8, crash_task, &what);
    now = now && s->conf->where == IN_FORWARD;
    if (now) crash(what);
    for (int64_t i = 0; i < r->rows * s->d; i++) y[i] = x[i] * CHI_PARAM(r, s->w, float)[i % s->d];
    if (now && what == NAN_Y) y[r->rows * s->d - 1] = NAN;
    return CHI_OK;
}

static chi_status faulty_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct faulty *s = self;
    bool now = ++backwards == s->conf->at && s->conf->where == IN_BACKWARD;
    if (now) crash(s->conf->what);
    for (int64_t i = 0; i < r->rows * s->d; i++) {
        dx[i] += dy[i] * CHI_PARAM(r, s->w, float)[i % s->d];
        CHI_GRAD(r, s->w, float)[i % s->d] += dy[i] * x[i];
    }
    if (now && s->conf->what == NAN_DX) dx[1] = NAN;
    if (now && s->conf->what == NAN_GRAD) CHI_GRAD(r, s->w, float)[2] = NAN;
    return CHI_OK;
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct faulty), .open = faulty_open,
    .forward = faulty_forward, .backward = faulty_backward,
};
static const struct chi_component faulty = {
    .struct_size = sizeof faulty, .kind = CHI_LAYER, .name = "faulty", .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_STATELESS | CHI_LAYER_SPLIT_FREE,
    .summary = "a layer that goes wrong on demand",
    .options = options, .conf_size = sizeof(struct faulty_conf), .ops = &ops,
};
CHI_PLUGIN(faulty, .version = "1.0", .license = "MIT", .summary = "a mock", .components = CHI_COMPONENTS(&faulty));
