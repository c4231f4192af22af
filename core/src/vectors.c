/* vectors.c - checks components and models against reference vectors; see vectors.h.
 *
 * A file of kind "layer" or "linear" is run on the component alone, a file of kind
 * "model" on a whole model.  A linear is run through a layer that consists of nothing
 * else.  Everything runs on a training instance, whose weights can be set.      */
#include "vectors.h"

#include "core.h"
#include "model.h"
#include "pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct alone_conf { int64_t d_out; };           /* of a linear alone                 */

struct check {
    FILE           *out;
    struct st_file *file;
    struct spec    *spec;
    struct solo    *solo;
    struct model   *model;
    double          tolerance;
    int64_t         checked, missed;
    int64_t         B, T, d_in, d_out;      /* x [B,T,d_in], y [B,T,d_out]       */
    struct part     linear;                 /* kind "linear": what solo is of    */
    struct alone_conf linear_conf;
    int64_t         state_bytes;
    unsigned char  *state;                  /* [B] of one instance               */
    float          *buffer;                 /* packed rows of a call: x, then y  */
};

/* ---- comparing ------------------------------------------------------------------ */

static double value_at(const struct st_tensor *t, int64_t i)
{
    return t->dtype == ST_F64 ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
}

static void report(struct check *c, const char *name, double error, double tolerance)
{
    bool ok = error <= tolerance;           /* false for NaN, too                */
    c->checked++;
    c->missed += !ok;
    fprintf(c->out, "%-44s %10.3g  tolerance %.3g%s\n", name, error, tolerance, ok ? "" : "  MISSED");
}

static void compare(struct check *c, const char *name, const float *got, const struct st_tensor *want)
{
    double worst = 0, size = 0;
    for (int64_t i = 0; i < want->n; i++) {
        double e = fabs((double)got[i] - value_at(want, i)), v = fabs(value_at(want, i));
        if (!(e <= worst)) worst = e;       /* a NaN stays                       */
        if (v > size) size = v;
        if (isnan(worst)) break;
    }
    report(c, name, worst / (size + 1e-6), c->tolerance);
}

/* Bit for bit; the error is the number of values that differ                    */
static void compare_bits(struct check *c, const char *name, const float *a, const float *b, int64_t n)
{
    int64_t differ = 0;
    for (int64_t i = 0; i < n; i++) differ += memcmp(&a[i], &b[i], sizeof *a) != 0;
    report(c, name, (double)differ, 0);
}

/* ---- the file --------------------------------------------------------------------- */

static chi_status want_tensor(const struct check *c, const char *name, int n_dim, int dtype,
                              const struct st_tensor **t)
{
    *t = st_find(c->file, name);
    if (!*t)
        return fail(CHI_EDATA, "%s: there is no tensor %s", st_path(c->file), name);
    bool type_ok = (*t)->dtype == dtype || (dtype == ST_F64 && (*t)->dtype == ST_F32);
    if ((*t)->n_dim != n_dim || !type_ok)
        return fail(CHI_EDATA, "%s: tensor %s is %s with %d dimensions, not %s with %d",
                    st_path(c->file), name, st_dtype_name((*t)->dtype), (*t)->n_dim,
                    st_dtype_name(dtype), n_dim);
    return CHI_OK;
}

static chi_status want_meta(const struct check *c, const char *key, const char **value)
{
    *value = st_meta(c->file, key);
    if (!*value)
        return fail(CHI_EDATA, "%s: metadata has no '%s'; is this a file of reference vectors?",
                    st_path(c->file), key);
    return CHI_OK;
}

/* Is the tensor called so?  Components alone may carry their instance's prefix. */
static bool is_called(const struct model_tensor *t, const char *name)
{
    size_t a = strlen(t->name), b = strlen(name);
    return a >= b && strcmp(t->name + a - b, name) == 0 && (a == b || t->name[a - b - 1] == '.');
}

static const struct model_tensor *tensor_at(const struct check *c, int64_t i)
{
    return c->solo ? solo_tensor(c->solo, i) : model_tensor(c->model, i);
}

static const struct model_tensor *tensor_called(const struct check *c, const char *name)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = tensor_at(c, i)); i++)
        if (is_called(t, name)) return t;
    return NULL;
}

/* Every parameter of the file into the component, and none left over           */
static chi_status load_params(struct check *c)
{
    const struct model_tensor *t;
    const struct st_tensor *f;
    int64_t wanted = 0, given = 0;

    for (int64_t i = 0; (f = st_at(c->file, i)); i++) {
        if (strncmp(f->name, "param.", 6) != 0) continue;
        t = tensor_called(c, f->name + 6);
        if (!t || !t->w)
            return fail(CHI_EDATA, "%s: the component has no parameter %s", st_path(c->file), f->name + 6);
        if (t->n != f->n || f->dtype != ST_F32)
            return fail(CHI_EDATA, "%s: %s has %lld values, the component's has %lld (F32)",
                        st_path(c->file), f->name, (long long)f->n, (long long)t->n);
        memcpy(t->w, f->data, (size_t)f->n * sizeof(float));
        given++;
    }
    while (tensor_at(c, wanted)) wanted++;
    if (wanted != given)
        return fail(CHI_EDATA, "%s: the component has %lld parameters, the file %lld",
                    st_path(c->file), (long long)wanted, (long long)given);
    return CHI_OK;
}

/* A tensor that nothing is compared with would make a file look better than its check                      */
static chi_status known_tensors(const struct check *c, const char *kind)
{
    static const char *const names[2][2] = { { "y", "dx" }, { "logits", "loss" } };
    const char *const *known = names[!strcmp(kind, "model")];
    const struct st_tensor *f;
    for (int64_t i = 0; (f = st_at(c->file, i)); i++) {
        if (strncmp(f->name, "expect.", 7) != 0 || !strncmp(f->name + 7, "grad.", 5)) continue;
        if (strcmp(f->name + 7, known[0]) != 0 && strcmp(f->name + 7, known[1]) != 0)
            return fail(CHI_EDATA, "%s: nothing is compared with tensor %s: what a %s gives is expect.%s, expect.%s and "
                        "expect.grad.NAME", st_path(c->file), f->name, kind, known[0], known[1]);
    }
    return CHI_OK;
}

static void zero_grads(struct check *c)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = tensor_at(c, i)); i++)
        if (t->g) memset(t->g, 0, (size_t)t->n * sizeof(float));
}

static bool has_grad(const struct check *c, const struct model_tensor *t)
{
    const struct st_tensor *f;
    for (int64_t i = 0; (f = st_at(c->file, i)); i++)
        if (!strncmp(f->name, "expect.grad.", 12) && is_called(t, f->name + 12)) return true;
    return false;
}

/* A gradient that no tensor is compared with might be anything                  */
static chi_status every_grad_is_there(const struct check *c)
{
    const struct model_tensor *t;
    for (int64_t i = 0; (t = tensor_at(c, i)); i++)
        if (t->g && !t->manual && !has_grad(c, t))
            return fail(CHI_EDATA, "%s: there is no expect.grad. tensor for parameter %s: its gradient is compared with "
                        "nothing", st_path(c->file), t->name);
    return CHI_OK;
}

static chi_status compare_grads(struct check *c)
{
    const struct st_tensor *f;
    TRY(every_grad_is_there(c));
    for (int64_t i = 0; (f = st_at(c->file, i)); i++) {
        if (strncmp(f->name, "expect.grad.", 12) != 0) continue;
        const struct model_tensor *t = tensor_called(c, f->name + 12);
        if (!t || !t->g || t->n != f->n)
            return fail(CHI_EDATA, "%s: the component has no gradient for %s", st_path(c->file), f->name);
        compare(c, f->name + 7, t->g, f);
    }
    return CHI_OK;
}

/* ---- a linear alone ---------------------------------------------------------------- */

struct alone { const struct chi_linear *linear; };

static chi_status alone_open(const struct chi_host *h, void *self, const void *conf,
                             const struct chi_shape *shape, const struct chi_plan_ops *ops,
                             struct chi_plan *plan)
{
    (void)h;
    ((struct alone *)self)->linear =
        ops->linear(plan, "linear", ((const struct alone_conf *)conf)->d_out, shape->d_in, 0);
    return CHI_OK;
}

static chi_status alone_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    return r->h->linears(&((const struct alone *)self)->linear, 1, r, x, r->rows, &y);
}

static chi_status alone_backward(const void *self, struct chi_run *r, const float *x,
                                 const float *dy, float *dx)
{
    return r->h->linears_back(&((const struct alone *)self)->linear, 1, r, x, r->rows, &dy, dx);
}

static const struct chi_layer_ops alone_ops = {
    .struct_size = sizeof alone_ops,
    .self_size = sizeof(struct alone),
    .open = alone_open,
    .forward = alone_forward,
    .backward = alone_backward,
};

static const struct chi_component alone = {
    .struct_size = sizeof alone,
    .kind = CHI_LAYER,
    .name = "linear",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_STATELESS | CHI_LAYER_SPLIT_FREE,
    .summary = "one linear",
    .conf_size = sizeof(struct alone_conf),
    .ops = &alone_ops,
};

/* ---- layers and linears -------------------------------------------------------------- */

static unsigned char *take_states(struct check *c, int64_t bytes)
{
    c->state_bytes = round_up(max_i64(bytes, 1), 64);
    return mem_take((size_t)(c->B * c->state_bytes), "states of reference vectors");
}

static void piece(const struct check *c, struct chi_segment *seg, int64_t from, int64_t rows)
{
    for (int64_t b = 0; b < c->B; b++)
        seg[b] = (struct chi_segment){
            .first = b * rows, .rows = rows, .pos = from, .stream = (uint64_t)b,
            .fresh = from == 0, .state = c->state + b * c->state_bytes,
        };
}

/* Rows from..to-1 of every stream, in inference; y [B,T,d_out] is filled there  */
static chi_status run_piece(struct check *c, const float *x, float *y, int64_t from, int64_t to, bool step)
{
    int64_t rows = to - from, d = c->d_in, n = c->d_out;
    float *xp = c->buffer, *yp = c->buffer + c->B * c->T * d;
    struct chi_segment *seg = xcalloc((size_t)c->B, sizeof *seg);

    if (from == 0) memset(c->state, 0, (size_t)(c->B * c->state_bytes));
    piece(c, seg, from, rows);
    for (int64_t b = 0; b < c->B; b++)
        memcpy(xp + b * rows * d, x + (b * c->T + from) * d, (size_t)(rows * d) * sizeof(float));
    chi_status e = step ? solo_step(c->solo, seg, c->B, xp, yp)
                        : solo_forward(c->solo, seg, c->B, false, xp, yp);
    for (int64_t b = 0; b < c->B; b++)
        memcpy(y + (b * c->T + from) * n, yp + b * rows * n, (size_t)(rows * n) * sizeof(float));
    free(seg);
    return e;
}

/* Forward and backward of whole streams; dx and gradients are compared if asked */
static chi_status run_training(struct check *c, const float *x, float *y, float *dx)
{
    const struct st_tensor *dy;
    TRY(want_tensor(c, "dy", 3, ST_F32, &dy));
    if (dy->n != c->B * c->T * c->d_out)
        return fail(CHI_EDATA, "%s: dy has not the shape of expect.y", st_path(c->file));
    struct chi_segment *seg = xcalloc((size_t)c->B, sizeof *seg);

    zero_grads(c);
    memset(c->state, 0, (size_t)(c->B * c->state_bytes));
    memset(dx, 0, (size_t)(c->B * c->T * c->d_in) * sizeof(float));
    piece(c, seg, 0, c->T);
    chi_status e = solo_forward(c->solo, seg, c->B, true, x, y);
    memset(c->state, 0, (size_t)(c->B * c->state_bytes));
    if (e == CHI_OK) e = solo_backward(c->solo, seg, c->B, x, dy->data, dx);
    free(seg);
    return e;
}

static uint64_t grads_hash(const struct check *c)
{
    const struct model_tensor *t;
    uint64_t h = 0;
    for (int64_t i = 0; (t = tensor_at(c, i)); i++)
        if (t->g) h = h * 0x9e3779b97f4a7c15u + xxh3(t->g, (size_t)t->n * sizeof(float));
    return h;
}

/* The same bits for any number of threads, of y, dx and every gradient          */
static chi_status check_threads(struct check *c, const float *x, const float *y, const float *dx,
                                float *y2, float *dx2)
{
    static const int threads[] = { 1, 2, 3, 8 };
    int before = pool_size();
    uint64_t hash = grads_hash(c);
    chi_status e = CHI_OK;

    for (int64_t i = 0; i < COUNT(threads) && e == CHI_OK; i++) {
        char name[64];
        pool_threads(threads[i]);
        e = run_training(c, x, y2, dx2);
        snprintf(name, sizeof name, "y, %d threads", threads[i]);
        compare_bits(c, name, y2, y, c->B * c->T * c->d_out);
        snprintf(name, sizeof name, "dx, %d threads", threads[i]);
        compare_bits(c, name, dx2, dx, c->B * c->T * c->d_in);
        snprintf(name, sizeof name, "gradients, %d threads", threads[i]);
        report(c, name, grads_hash(c) != hash, 0);
    }
    pool_threads(before);
    return e;
}

/* Token by token, and every cut into two calls, against the uncut call          */
static chi_status check_cuts(struct check *c, const float *x, const float *whole, float *y)
{
    int64_t n = c->B * c->T * c->d_out, differ = 0;

    for (int64_t t = 0; t < c->T; t++) TRY(run_piece(c, x, y, t, t + 1, true));
    compare_bits(c, "y, step by step", y, whole, n);
    for (int64_t cut = 1; cut < c->T; cut++) {
        TRY(run_piece(c, x, y, 0, cut, false));
        TRY(run_piece(c, x, y, cut, c->T, false));
        differ += memcmp(y, whole, (size_t)n * sizeof(float)) != 0;
    }
    report(c, "y, every cut into two calls", (double)differ, 0);
    return CHI_OK;
}

static chi_status check_all(struct check *c, const float *x, float *y, float *y2, float *dx, float *dx2)
{
    const struct st_tensor *want_y, *want_dx;
    TRY(want_tensor(c, "expect.y", 3, ST_F64, &want_y));
    TRY(want_tensor(c, "expect.dx", 3, ST_F64, &want_dx));
    if (want_dx->n != c->B * c->T * c->d_in)
        return fail(CHI_EDATA, "%s: expect.dx has not the shape of x", st_path(c->file));

    TRY(run_training(c, x, y, dx));
    compare(c, "y", y, want_y);
    compare(c, "dx", dx, want_dx);
    TRY(compare_grads(c));
    TRY(check_threads(c, x, y, dx, y2, dx2));
    TRY(run_piece(c, x, y, 0, c->T, false));
    compare(c, "y, inference", y, want_y);
    return check_cuts(c, x, y, y2);
}

static chi_status open_solo(struct check *c, const char *kind)
{
    c->linear = (struct part){ .component = &alone, .section = "linear", .conf = &c->linear_conf };
    const struct part *part = &c->linear;

    if (strcmp(kind, "layer") == 0) {
        const char *alias;
        char section[128];
        TRY(want_meta(c, "layer", &alias));
        snprintf(section, sizeof section, "layer.%s", alias);
        part = strcmp(c->spec->mixer[0].section, section) == 0 ? &c->spec->mixer[0] : &c->spec->ffn[0];
        if (strcmp(part->section, section) != 0)
            return fail(CHI_EDATA, "%s: layer 0 of the configuration does not use [%s]",
                        st_path(c->file), section);
    }
    return solo_open(&c->solo, c->spec, part, true, c->B * c->T, c->B);
}

static chi_status check_solo(struct check *c, const char *kind)
{
    const struct st_tensor *x, *y;
    TRY(want_tensor(c, "x", 3, ST_F32, &x));
    TRY(want_tensor(c, "expect.y", 3, ST_F64, &y));
    c->B = x->dim[0]; c->T = x->dim[1]; c->d_in = x->dim[2];
    c->linear_conf.d_out = c->d_out = y->dim[2];
    if (c->d_in != c->spec->model.hidden_size || y->n != c->B * c->T * c->d_out || x->n == 0)
        return fail(CHI_EDATA, "%s: x, expect.y and hidden_size do not fit together", st_path(c->file));

    TRY(open_solo(c, kind));
    TRY(load_params(c));
    TRY(solo_bind(c->solo));
    int64_t rows = c->B * c->T, nx = rows * c->d_in, ny = rows * c->d_out;
    c->state  = take_states(c, solo_state_bytes(c->solo));
    c->buffer = mem_take((size_t)(3 * nx + 3 * ny) * sizeof(float), "rows of reference vectors");
    if (!c->state || !c->buffer) return CHI_ENOMEM;
    float *dx = c->buffer + nx + ny, *out = dx + 2 * nx;
    return check_all(c, x->data, out, out + ny, dx, dx + nx);
}

/* ---- models ----------------------------------------------------------------------- */

static void model_piece(const struct check *c, struct model_segment *seg, const int32_t *tokens,
                        int64_t from, int64_t rows)
{
    for (int64_t b = 0; b < c->B; b++)
        seg[b] = (struct model_segment){
            .tokens = tokens + b * c->T + from, .rows = rows, .pos = from, .stream = (uint64_t)b,
            .fresh = from == 0, .state = c->state + b * c->state_bytes,
        };
}

/* Logits [B,T,V] of rows from..to-1 of every stream                             */
static chi_status logits_piece(struct check *c, const int32_t *tokens, int64_t from, int64_t to, float *logits)
{
    int64_t rows = to - from, V = c->d_out;
    float *hidden = c->buffer, *packed = hidden + c->B * c->T * c->d_in;
    struct model_segment *seg = xcalloc((size_t)c->B, sizeof *seg);

    if (from == 0) memset(c->state, 0, (size_t)(c->B * c->state_bytes));
    model_piece(c, seg, tokens, from, rows);
    chi_status e = model_forward(c->model, seg, c->B, hidden);
    if (e == CHI_OK) e = model_logits(c->model, hidden, c->B * rows, packed);
    for (int64_t b = 0; b < c->B && e == CHI_OK; b++)
        memcpy(logits + (b * c->T + from) * V, packed + b * rows * V, (size_t)(rows * V) * sizeof(float));
    free(seg);
    return e;
}

static chi_status train_model(struct check *c, const int32_t *tokens, const int32_t *targets, double *loss)
{
    int64_t rows = c->B * c->T;
    struct model_segment *seg = xcalloc((size_t)c->B, sizeof *seg);
    model_piece(c, seg, tokens, 0, c->T);
    model_zero_grads(c->model);
    *loss = 0;
    chi_status e = model_train(c->model, seg, c->B, targets, 1.0 / (double)rows, loss);
    *loss /= (double)rows;
    free(seg);
    return e;
}

static chi_status check_training(struct check *c, const int32_t *tokens, const int32_t *targets)
{
    static const int threads[] = { 1, 2, 3, 8 };
    const struct st_tensor *want;
    double loss, again;
    int before = pool_size();
    chi_status e = CHI_OK;

    TRY(want_tensor(c, "expect.loss", 1, ST_F64, &want));
    TRY(train_model(c, tokens, targets, &loss));
    report(c, "loss", fabs(loss - value_at(want, 0)) / (fabs(value_at(want, 0)) + 1e-6), c->tolerance);
    TRY(compare_grads(c));
    uint64_t hash = grads_hash(c);
    for (int64_t i = 0; i < COUNT(threads) && e == CHI_OK; i++) {
        char name[64];
        pool_threads(threads[i]);
        e = train_model(c, tokens, targets, &again);
        snprintf(name, sizeof name, "loss and gradients, %d threads", threads[i]);
        report(c, name, grads_hash(c) != hash || again != loss, 0);
    }
    pool_threads(before);
    return e;
}

static chi_status check_logits(struct check *c, const int32_t *tokens, float *whole, float *y)
{
    const struct st_tensor *want;
    int64_t n = c->B * c->T * c->d_out, differ = 0;

    TRY(want_tensor(c, "expect.logits", 3, ST_F64, &want));
    if (want->n != n)
        return fail(CHI_EDATA, "%s: expect.logits is not [B,T,vocab_size]", st_path(c->file));
    TRY(logits_piece(c, tokens, 0, c->T, whole));
    compare(c, "logits", whole, want);
    for (int64_t t = 0; t < c->T; t++) TRY(logits_piece(c, tokens, t, t + 1, y));
    compare_bits(c, "logits, step by step", y, whole, n);
    for (int64_t cut = 1; cut < c->T; cut++) {
        TRY(logits_piece(c, tokens, 0, cut, y));
        TRY(logits_piece(c, tokens, cut, c->T, y));
        differ += memcmp(y, whole, (size_t)n * sizeof(float)) != 0;
    }
    report(c, "logits, every cut into two calls", (double)differ, 0);
    return CHI_OK;
}

static chi_status check_model(struct check *c)
{
    const struct st_tensor *tokens, *targets;
    TRY(want_tensor(c, "tokens", 2, ST_I32, &tokens));
    TRY(want_tensor(c, "targets", 2, ST_I32, &targets));
    if (tokens->n != targets->n || tokens->n == 0)
        return fail(CHI_EDATA, "%s: tokens and targets differ in shape", st_path(c->file));
    c->B = tokens->dim[0];
    c->T = tokens->dim[1];
    c->d_in = c->spec->model.hidden_size;
    c->d_out = c->spec->model.vocab_size;

    TRY(model_open(&c->model, c->spec, MODEL_TRAIN, c->B * c->T, c->B));
    TRY(load_params(c));
    TRY(model_bind(c->model, 1));
    int64_t rows = c->B * c->T;
    c->state  = take_states(c, model_state_bytes(c->model));
    c->buffer = mem_take((size_t)(rows * (c->d_in + 3 * c->d_out)) * sizeof(float), "rows of reference vectors");
    if (!c->state || !c->buffer) return CHI_ENOMEM;
    float *whole = c->buffer + rows * (c->d_in + c->d_out);
    TRY(check_training(c, tokens->data, targets->data));
    return check_logits(c, tokens->data, whole, whole + rows * c->d_out);
}

/* ---- the whole file ------------------------------------------------------------------ */

/* CHI_ENOTSUP: there is no such component, which is no miss.  A file of its name that is
 * refused is one.                                                              */
static chi_status find_component(struct registry *r, int kind, const char *name)
{
    const struct chi_component *found;
    const struct plugin_info *info;
    char file[128];
    if (!name || registry_find(r, kind, name, &found) == CHI_OK) return CHI_OK;
    int n = snprintf(file, sizeof file, "/%s.so", name);
    for (int64_t i = 0; (info = registry_plugin(r, i)); i++) {
        size_t length = strlen(info->path);
        bool its = length > (size_t)n && strcmp(info->path + length - n, file) == 0;
        if (its && !info->plugin && !info->shadowed) return CHI_EPLUGIN;
    }
    return CHI_ENOTSUP;
}

/* Are the components there that the configuration uses?  A section of the core that
 * does not exist yet, such as [loop], counts as one.                           */
static chi_status check_components(struct config *config)
{
    struct registry *registry;
    const char *section;
    bool loop = !config_has(config, "loop");

    for (int64_t i = 0; core_sections[i].name; i++) loop |= strcmp(core_sections[i].name, "loop") == 0;
    if (!loop) return fail(CHI_ENOTSUP, "there is no [loop] in this program");
    TRY(registry_open(&registry, NULL));
    chi_status e = find_component(registry, CHI_QUANTIZER, config_get(config, "linear", "quantizer"));
    for (int64_t i = 0; e == CHI_OK && (section = config_section(config, "layer.", i)); i++)
        e = find_component(registry, CHI_LAYER, config_get(config, section, "use"));
    registry_close(registry);
    return e;
}

/* A model's loss needs the objective, which belongs to training                 */
static chi_status open_spec(struct check *c, bool model)
{
    struct config *config;
    const char *text;
    TRY(want_meta(c, "config", &text));
    TRY(config_load_text(&config, st_path(c->file), text, NULL, 0));
    chi_status e = check_components(config);
    config_free(config);
    if (e != CHI_OK) return e;
    TRY(config_load_text(&config, st_path(c->file), text, NULL, 0));
    return spec_open(&c->spec, config, model ? SPEC_MODEL | SPEC_TRAIN : SPEC_MODEL);
}

static chi_status check_file(struct check *c)
{
    const char *version, *kind, *tolerance;
    TRY(want_meta(c, "chimera.vectors", &version));
    TRY(want_meta(c, "kind", &kind));
    TRY(want_meta(c, "tolerance", &tolerance));
    c->tolerance = strtod(tolerance, NULL);
    if (strcmp(version, "1") != 0 || !(c->tolerance > 0))
        return fail(CHI_EDATA, "%s: vectors version '%s' with tolerance '%s'; wanted version 1 and a "
                    "positive number", st_path(c->file), version, tolerance);

    TRY(known_tensors(c, kind));
    TRY(open_spec(c, strcmp(kind, "model") == 0));
    if (strcmp(kind, "model") == 0) TRY(check_model(c));
    else if (strcmp(kind, "layer") == 0 || strcmp(kind, "linear") == 0) TRY(check_solo(c, kind));
    else return fail(CHI_EDATA, "%s: kind '%s' is none of layer, linear, model", st_path(c->file), kind);
    if (c->missed)
        return fail(CHI_EPLUGIN, "%s: %lld of %lld checks missed their tolerance", st_path(c->file),
                    (long long)c->missed, (long long)c->checked);
    return CHI_OK;
}

chi_status vectors_check(const char *file, FILE *out)
{
    struct check c = { .out = out };
    TRY(st_open(&c.file, file));
    chi_status e = check_file(&c);
    if (c.solo)  solo_close(c.solo);
    if (c.model) model_close(c.model);
    if (c.spec)  spec_close(c.spec);
    mem_free(c.state);
    mem_free(c.buffer);
    st_close(c.file);
    return e;
}
