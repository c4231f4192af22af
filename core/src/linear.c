/* linear.c - y = x W' for every weight matrix of a model.
 *
 * What W means decides the arithmetic (layers.md "bitlinear"):
 *   inference            the encoding's kernel; integer ones take x as int8
 *   training, f32        gemm on the master
 *   training, integers   the same integer kernel as inference, while lambda = 1, e = 0
 *   training, otherwise  gemm on W + lambda (W^ - W) + e W, x + lambda (x^ - x)
 * e is the quantizer's residual.  Backward is f32 with the operands that forward used,
 * passed straight through both quantisers: dx^ = dy (W^ + e W), dW = (1 + e) dy' x^.
 * How bytes are made of a master, and read again: linear_bind.c.                           */
#include "linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter.h"
#include "core.h"
#include "pool.h"
#include "product.h"
#include "profile.h"
#include "tune.h"

/* ---- choosing ----------------------------------------------------------------- */

bool linear_integer(const struct chi_linear *l)
{
    return l->kernel && l->kernel->integer;
}

bool linear_norms(const struct chi_linear *l)
{
    return linear_integer(l) && !l->plain && l->rule->o.extra_rmsnorm;
}

/* A packed model says itself in which bytes a matrix is                             */
static chi_status choose_packed(struct chi_linear *l, const struct spec *s, const struct chi_component **encoding)
{
    const struct chi_component *c;
    char *name = xprintf("%s.weight", l->name);
    const struct packed_tensor *t = packed_find(s->packed, name);
    free(name);
    if (!t || !*t->encoding)
        return fail(CHI_EDATA, "%s has no encoded weights %s: it belongs to another model", packed_path(s->packed), l->name);
    TRY(registry_find(s->registry, CHI_ENCODING, t->encoding, &c));
    *encoding = c;
    l->encoding = c->ops;
    l->encoding_name = c->name;
    l->group = t->group;
    if (t->rows != l->d_out || t->cols != l->d_in)
        return fail(CHI_EDATA, "%s: %s is %lld x %lld, its configuration wants %lld x %lld", t->path, l->name,
                    (long long)t->rows, (long long)t->cols, (long long)l->d_out, (long long)l->d_in);
    if (l->encoding->bytes(l->d_out, l->d_in, l->group) != t->t->bytes)
        return fail(CHI_EDATA, "%s: %s has %lld bytes, as %s in groups of %lld it would have %lld", t->path,
                    l->name, (long long)t->t->bytes, c->name, (long long)l->group,
                    (long long)l->encoding->bytes(l->d_out, l->d_in, l->group));
    return CHI_OK;
}

static void choose_kernel(struct chi_linear *l, const struct spec *s, const struct chi_component *encoding, bool memory)
{
    struct contender c[CONTENDERS_MAX];
    struct choice best = choose_kernels(c, contenders(s, encoding, l->d_out, l->d_in, l->group, memory, c));
    l->kernel = c[best.one].kernel;
    l->many = c[best.many].kernel;
}

void linear_from_memory(struct chi_linear *l, const struct spec *s)
{
    if (!l->f32_only) choose_kernel(l, s, linear_encoding(l, s), true);
}

chi_status linear_choose(struct chi_linear *l, const struct spec *s)
{
    l->eps = (float)s->model.rms_norm_eps;
    l->lambda = 1;
    l->plain = true;
    if (l->f32_only) return CHI_OK;
    l->rule = spec_linear(s, l->name);
    if (!l->rule || !l->rule->encoding)
        return fail(CHI_ECONF, "%s: no [linear] section says what its weights are", l->name);
    l->quantizer = l->rule->quantizer.component->ops;
    l->encoding = l->rule->encoding->ops;
    l->encoding_name = l->rule->encoding->name;
    l->group = l->quantizer->group(l->rule->quantizer.conf, l->d_in);
    const struct chi_component *encoding = l->rule->encoding;
    if (s->packed) TRY(choose_packed(l, s, &encoding));
    choose_kernel(l, s, encoding, false);
    l->n_bytes = l->encoding->bytes(l->d_out, l->d_in, l->group);
    l->plain = !strcmp(l->quantizer->values, "f32");
    if (l->n_bytes <= 0)
        return fail(CHI_ESHAPE, "%s: encoding %s cannot hold %lld x %lld with groups of %lld", l->name,
                    l->encoding_name, (long long)l->d_out, (long long)l->d_in, (long long)l->group);
    return CHI_OK;
}

int64_t linear_packed_bytes(const struct chi_linear *l)
{
    return l->kernel && l->kernel->pack_bytes ? l->kernel->pack_bytes(l->d_out, l->d_in, l->group) : 0;
}

int64_t linear_bytes(const struct chi_linear *l)
{
    return l->f32_only ? 0 : l->n_bytes;
}

/* One slice of quantisation: 16 rows of q and scale.                                 */
static int64_t bind_scratch(const struct chi_linear *l)
{
    return CHI_TILE * (round_up(l->d_in, 64) + 4 * round_up(ceil_div(l->d_in, l->group), 16)) + 128;
}

static int64_t kernel_scratch(const struct chi_linear_kernel *k, int64_t rows, int64_t d_in)
{
    return k->scratch_bytes ? k->scratch_bytes(rows, d_in) : 0;
}

int64_t linear_scratch(const struct chi_linear *l, int64_t rows)
{
    int64_t need = 4 * round_up(l->d_in, 64) + 64;          /* a normalised row       */
    if (l->f32_only) return need;
    need = max_i64(need, max_i64(bind_scratch(l), adapters_scratch(l)));
    return max_i64(need, max_i64(kernel_scratch(l->kernel, 1, l->d_in), kernel_scratch(l->many, rows, l->d_in)) + 64);
}

void linear_drop(struct chi_linear *l)
{
    if (!l->mapped) mem_free(l->bytes);
    mem_free(l->packed);
    l->bytes = l->packed = NULL;
    l->mapped = false;
}

chi_status linear_take(struct chi_linear *l)
{
    int64_t packed = linear_packed_bytes(l);
    if (l->f32_only || (l->bytes && (l->packed || !packed))) return CHI_OK;
    if (!l->bytes) l->bytes = mem_take((size_t)l->n_bytes, l->name);
    if (!l->bytes) return CHI_ENOMEM;
    if (!packed || (l->packed = mem_take((size_t)packed, l->name))) return CHI_OK;
    linear_drop(l);                          /* bytes alone would pass for complete           */
    return CHI_ENOMEM;
}

/* ---- room --------------------------------------------------------------------------- */

/* x^ has a copy with and one without extra_rmsnorm, since linears of one call may differ. */
static struct room {
    int64_t rows, d_in, weight;
    bool    training;
    int8_t *q; float *step; int16_t *sum;   /* activations of a call                     */
    float  *x[2], *dx;                      /* training: x^ [rows, d_in]; its gradient   */
    float  *w;                              /* training: W^ of one linear                */
} room;

static int64_t act_bytes(int64_t rows, int64_t d_in)
{
    return rows * round_up(d_in, CHI_ACT_BLOCK);
}

double linear_room_bytes(int64_t rows, int64_t d_in, int64_t weight, bool training)
{
    double a = (double)rows * (double)round_up(d_in, CHI_ACT_BLOCK);
    return a + a / CHI_ACT_BLOCK * 6 + (training ? 4 * (3.0 * (double)rows * (double)d_in + (double)weight) : 0);
}

double linear_room_held(void)
{
    return room.q ? linear_room_bytes(room.rows, room.d_in, room.weight, room.training) : 0;
}

static void room_drop(void)
{
    mem_free(room.q);
    mem_free(room.step);
    mem_free(room.sum);
    mem_free(room.x[0]);
    mem_free(room.x[1]);
    mem_free(room.dx);
    mem_free(room.w);
    room = (struct room){ 0 };
}

void linear_room_drop(void)
{
    room_drop();
    adapters_room_drop();
}

chi_status linear_room(int64_t rows, int64_t d_in, int64_t weight, bool training)
{
    if (rows <= room.rows && d_in <= room.d_in && (!training || (room.training && weight <= room.weight)))
        return CHI_OK;
    struct room want = { .rows = max_i64(rows, room.rows), .d_in = max_i64(d_in, room.d_in),
                         .weight = max_i64(weight, room.weight), .training = training || room.training };
    room_drop();
    int64_t a = act_bytes(want.rows, want.d_in), blocks = a / CHI_ACT_BLOCK;
    size_t floats = (size_t)(want.rows * want.d_in) * sizeof(float);
    const char *what = "activations of linears";
    want.q = mem_take((size_t)a, what);
    want.step = mem_take((size_t)blocks * sizeof *want.step, what);
    want.sum = mem_take((size_t)blocks * sizeof *want.sum, what);
    bool ok = want.q && want.step && want.sum;
    if (want.training) {
        want.x[0] = mem_take(floats, what);
        want.x[1] = mem_take(floats, what);
        want.dx = mem_take(floats, what);
        want.w = mem_take((size_t)want.weight * sizeof(float), "a dequantised weight matrix");
        ok = ok && want.x[0] && want.x[1] && want.dx && want.w;
    }
    room = want;
    if (ok) return CHI_OK;
    room_drop();
    return CHI_ENOMEM;
}

/* ---- activations ---------------------------------------------------------------------- */

/* Rows of x, normalised if asked, to int8; and back to float for training's f32 products  */
struct acts {
    const struct chi_kernels *k;
    const float *x;
    float *out;                             /* x^, blended by lambda; NULL: not wanted    */
    int64_t rows, d_in, ldq, block;         /* block: rows of a task                      */
    bool norm;
    float eps, lambda;
};

static void act_row(const struct acts *a, int64_t r, float *normed)
{
    const float *x = a->x + r * a->d_in;
    int64_t blocks = a->ldq / CHI_ACT_BLOCK;
    int8_t *q = room.q + r * a->ldq;
    float *step = room.step + r * blocks;
    if (a->norm) {
        a->k->rmsnorm(normed, x, NULL, a->d_in, a->eps);
        x = normed;
    }
    a->k->quantize_i8(q, step, room.sum + r * blocks, x, a->d_in);
    for (int64_t i = a->d_in; i < a->ldq; i++) q[i] = 0;
    if (!a->out) return;
    float *out = a->out + r * a->d_in;
    for (int64_t i = 0; i < a->d_in; i++) out[i] = (float)q[i] * step[i / CHI_ACT_BLOCK];
    if (a->lambda < 1)
        for (int64_t i = 0; i < a->d_in; i++) out[i] = x[i] + a->lambda * (out[i] - x[i]);
}

static void act_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct acts *a = arg;
    float *normed = a->norm ? chi_take(s, (size_t)a->d_in * sizeof *normed) : NULL;
    for (int64_t r = i * a->block; r < min_i64((i + 1) * a->block, a->rows); r++) act_row(a, r, normed);
}

static void acts_run(struct acts *a)
{
    a->ldq = round_up(a->d_in, CHI_ACT_BLOCK);
    a->block = max_i64(1, 8192 / a->d_in);
    pool_run(ceil_div(a->rows, a->block), act_task, a);
}

/* ---- forward ---------------------------------------------------------------------------- */

struct slices {
    const struct chi_linear *const *lin;
    float *const *y;
    const struct chi_kernels *k;
    struct chi_act act;
    int64_t n, *first;                      /* first task of each linear; [n] = all        */
    int64_t *size;                          /* outputs of a task                           */
};

/* A linear that is never quantised: canonical dot products with the master, some outputs for all
 * rows of x before the next                                                                 */
static void dots(const struct slices *c, const struct chi_linear *l, float *y, int64_t o0, int64_t o1)
{
    enum { OUTPUTS = 16 };
    int64_t some = c->act.rows > 1 ? OUTPUTS : o1 - o0;
    for (int64_t o = o0; o < o1; o += some)
        for (int64_t r = 0; r < c->act.rows; r++)
            c->k->dots(y + r * l->d_out + o, l->w + o * l->d_in, l->d_in, c->act.x + r * c->act.ldx,
                       min_i64(some, o1 - o), l->d_in);
}

static void slice_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct slices *c = arg;
    int64_t j = 0;
    while (i >= c->first[j + 1]) j++;
    const struct chi_linear *l = c->lin[j];
    int64_t o0 = (i - c->first[j]) * c->size[j], o1 = min_i64(o0 + c->size[j], l->d_out);
    if (!l->kernel) {
        dots(c, l, c->y[j], o0, o1);
        return;
    }
    linear_outputs(l, &c->act, o0, o1, c->y[j] + o0, l->d_out, s);
}

static void all_slices(void *arg, int64_t i, struct chi_scratch *s)
{
    struct slices *c = arg;
    (void)i;
    for (int64_t t = 0; t < c->first[c->n]; t++) {
        size_t was = s->used;
        slice_task(c, t, s);
        s->used = was;
    }
}

/* ---- a few outputs -------------------------------------------------------------------------- */

struct chi_act linear_input(const struct chi_linear *l, const struct chi_kernels *k, const float *x, int64_t rows)
{
    int64_t ldq = round_up(l->d_in, CHI_ACT_BLOCK);
    if (linear_integer(l)) {
        struct acts a = { .k = k, .x = x, .rows = rows, .d_in = l->d_in, .norm = l->rule->o.extra_rmsnorm,
                          .eps = l->eps, .lambda = 1 };
        acts_run(&a);
    }
    return (struct chi_act){ .rows = rows, .d_in = l->d_in, .x = x, .ldx = l->d_in, .q = room.q, .ldq = ldq,
                             .step = room.step, .sum = room.sum };
}

void linear_outputs(const struct chi_linear *l, const struct chi_act *a, int64_t o0, int64_t o1, float *y, int64_t ldy,
                    struct chi_scratch *s)
{
    struct chi_matrix m = { l->packed ? l->packed : l->bytes, l->d_out, l->d_in, l->group };
    const struct chi_linear_kernel *k = a->rows == 1 ? l->kernel : l->many;
    int64_t bytes = kernel_scratch(k, a->rows, l->d_in);
    k->run(y, ldy, a, &m, o0, o1, bytes ? chi_take(s, (size_t)bytes) : NULL);
}

enum { LINEARS_MAX = 16 };

/* Enough work to pay for handing it out, long enough for kernels to read in streams, and a few
 * slices a thread, so that one that comes late costs little: multiples of two tiles, rounded down, for
 * three rounds of a larger slice are worse than five of a smaller one.  Kernels for many rows prepare the
 * activations anew for each slice: WIDE to WIDEST outputs, in as many slices for one thread as for another,
 * two at least, where there are so many.  How outputs are cut changes no bit                    */
enum { SOME = 8, WIDE = 640, WIDEST = 1280, PAIR = 2 * CHI_TILE };

int64_t linear_slice(int64_t total, int64_t rows, int64_t d_in)
{
    int64_t n = pool_size(), output = d_in * rows, least = max_i64((1 << 20) / n, 1 << 17);
    int64_t target = min_i64(max_i64(total / max_i64(16, 4 * n), least), 1 << 28);
    if (rows > SOME && total / (2 * n) >= WIDE * output)
        target = max_i64(target, total / round_up(ceil_div(total, WIDEST * output), 2 * n));
    return max_i64(PAIR, target / output / PAIR * PAIR);
}

/* Work of an output, in multiply-adds of a kernel; a weight that stays float is 4 bytes      */
enum { FLOAT_WORK = 8 };

static int64_t output_work(const struct chi_linear *l, int64_t rows)
{
    return l->d_in * rows * (l->kernel ? 1 : FLOAT_WORK);
}

static int64_t slice_of(const struct chi_linear *l, int64_t rows, int64_t total)
{
    enum { LEAST = (1 << 17) / FLOAT_WORK };
    int64_t n = l->kernel ? linear_slice(total, rows, l->d_in) : round_up(max_i64(1, LEAST / (l->d_in * rows)), 4);
    if (n >= WIDE) n = round_up(ceil_div(l->d_out, max_i64(1, l->d_out / n)), PAIR);     /* no small rest */
    return min_i64(n, round_up(l->d_out, CHI_TILE));
}

/* Kernels over slices of outputs                                                            */
static void run_kernels(const struct chi_linear *const *lin, float *const *y, int64_t n,
                        const struct chi_kernels *k, const float *x, int64_t rows)
{
    int64_t first[LINEARS_MAX + 1] = { 0 }, size[LINEARS_MAX], total = 0, d_in = lin[0]->d_in;
    int64_t ldq = round_up(d_in, CHI_ACT_BLOCK);
    struct slices c = {
        .lin = lin, .y = y, .k = k, .n = n, .first = first, .size = size,
        .act = { .rows = rows, .d_in = d_in, .x = x, .ldx = d_in, .q = room.q, .ldq = ldq,
                 .step = room.step, .sum = room.sum },
    };
    for (int64_t j = 0; j < n; j++) total += lin[j]->d_out * output_work(lin[j], rows);
    for (int64_t j = 0; j < n; j++) {
        size[j] = slice_of(lin[j], rows, total);
        first[j + 1] = first[j] + ceil_div(lin[j]->d_out, size[j]);
    }
    if (total < 1 << 18) pool_run(1, all_slices, &c);
    else pool_run(first[n], slice_task, &c);
}

struct weights { const struct chi_linear *l; float *out; int64_t rows; };

static void weights_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct weights *w = arg;
    int64_t o0 = i * w->rows, o1 = min_i64(o0 + w->rows, w->l->d_out);
    linear_dequantize(w->l, true, o0, o1, w->out + o0 * w->l->d_in, s);
}

/* W^, or the blend, of a linear into the room                                                */
static const float *weights(const struct chi_linear *l)
{
    if (l->plain) return l->w;
    struct weights w = { l, room.w, max_i64(16, 65536 / l->d_in) };
    pool_run(ceil_div(l->d_out, w.rows), weights_task, &w);
    return room.w;
}

static const float *operand(const struct chi_linear *l, const struct chi_kernels *k, const float *x,
                            int64_t rows, bool done[2])
{
    if (l->plain || !linear_integer(l)) return x;
    bool norm = l->rule->o.extra_rmsnorm;
    if (!done[norm]) {
        struct acts a = { .k = k, .x = x, .out = room.x[norm], .rows = rows, .d_in = l->d_in,
                          .norm = norm, .eps = l->eps, .lambda = (float)l->lambda };
        acts_run(&a);
        done[norm] = true;
    }
    return room.x[norm];
}

/* Does training's forward of this linear use the kernel of inference?                        */
static bool by_kernel(const struct chi_linear *l, bool keep)
{
    return !keep || (linear_integer(l) && !l->plain && l->lambda == 1 && l->residual == 0);
}

static void forward_products(const struct chi_linear *const *lin, int64_t n, const struct chi_kernels *k,
                             const float *x, int64_t rows, float *const *y)
{
    struct product p[LINEARS_MAX];
    int64_t n_p = 0;
    bool done[2] = { false, false };
    for (int64_t i = 0; i < n; i++) {
        const struct chi_linear *l = lin[i];
        if (by_kernel(l, true)) continue;
        struct product one = { false, true, rows, l->d_out, l->d_in, operand(l, k, x, rows, done), l->d_in,
                               l->w, l->d_in, 0, y[i], l->d_out };
        if (l->plain) {
            p[n_p++] = one;
            continue;
        }
        one.B = weights(l);                  /* one at a time: the room holds one matrix      */
        products_run(k, &one, 1);
    }
    if (n_p) products_run(k, p, n_p);
}

static chi_status check_call(const struct chi_linear *const *lin, int64_t n, int64_t rows)
{
    if (n < 1 || n > LINEARS_MAX)
        return fail(CHI_EBUG, "%s: %lld linears in one call, 1..%d are possible", lin[0]->name, (long long)n, LINEARS_MAX);
    for (int64_t i = 1; i < n; i++)
        if (lin[i]->d_in != lin[0]->d_in)
            return fail(CHI_EBUG, "%s and %s share no input: %lld and %lld wide", lin[0]->name, lin[i]->name,
                        (long long)lin[0]->d_in, (long long)lin[i]->d_in);
    if (rows > room.rows || lin[0]->d_in > room.d_in)
        return fail(CHI_EBUG, "%s: %lld rows x %lld, planned for %lld x %lld", lin[0]->name, (long long)rows,
                    (long long)lin[0]->d_in, (long long)room.rows, (long long)room.d_in);
    return CHI_OK;
}

static chi_status forward(const struct chi_linear *const *lin, int64_t n, struct chi_run *r, const float *x,
                          int64_t rows, float *const *y)
{
    const struct chi_kernels *k = r->h->k;
    TRY(check_call(lin, n, rows));
    if (!rows) return CHI_OK;
    bool any[2] = { false, false };
    for (int64_t i = 0; i < n; i++)
        if (by_kernel(lin[i], r->keep) && linear_integer(lin[i])) any[lin[i]->rule->o.extra_rmsnorm] = true;
    for (int norm = 0; norm < 2; norm++) {   /* kernels, by how their input is prepared       */
        const struct chi_linear *some[LINEARS_MAX];
        float *to[LINEARS_MAX];
        int64_t n_some = 0;
        for (int64_t i = 0; i < n; i++) {
            /* Float ones read x as it is: they go with the others, in one loop              */
            bool with = linear_integer(lin[i]) ? lin[i]->rule->o.extra_rmsnorm : any[1];
            if (!by_kernel(lin[i], r->keep) || with != (norm == 1)) continue;
            some[n_some] = lin[i];
            to[n_some++] = y[i];
        }
        if (any[norm]) {
            struct acts a = { .k = k, .x = x, .rows = rows, .d_in = lin[0]->d_in, .norm = norm,
                              .eps = lin[0]->eps, .lambda = 1 };
            acts_run(&a);
        }
        if (n_some) run_kernels(some, to, n_some, k, x, rows);
    }
    if (r->keep) forward_products(lin, n, k, x, rows, y);
    return adapters_forward(lin, n, r, x, rows, y);
}

chi_status linears(const struct chi_linear *const *lin, int64_t n, struct chi_run *r, const float *x,
                   int64_t rows, float *const *y)
{
    if (!profile_on || !profile_products) return forward(lin, n, r, x, rows, y);
    double bytes = 0, weights = 0;
    for (int64_t i = 0; i < n; i++) {
        weights += (double)lin[i]->d_out * (double)lin[i]->d_in;
        bytes += lin[i]->f32_only ? 4.0 * (double)lin[i]->d_out * (double)lin[i]->d_in : (double)lin[i]->n_bytes;
    }
    profile_begin("linears", "core", "products");
    profile_add(bytes, 2 * weights * (double)rows);
    chi_status st = forward(lin, n, r, x, rows, y);
    profile_end();
    return st;
}

/* ---- backward --------------------------------------------------------------------------- */

/* dx += d rmsnorm: with xn = x r and a = d xn:  r (a - xn mean(a xn))                       */
struct norm_back { const struct chi_kernels *k; const float *x, *a; float *dx; int64_t rows, d, block; float eps; };

static void norm_back_task(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct norm_back *b = arg;
    float *xn = chi_take(s, (size_t)b->d * sizeof *xn);
    for (int64_t t = i * b->block; t < min_i64((i + 1) * b->block, b->rows); t++) {
        const float *a = b->a + t * b->d;
        float *dx = b->dx + t * b->d;
        float r = b->k->rmsnorm(xn, b->x + t * b->d, NULL, b->d, b->eps);
        float mean = b->k->dot(a, xn, b->d) / (float)b->d;
        for (int64_t j = 0; j < b->d; j++) dx[j] += r * (a[j] - xn[j] * mean);
    }
}

/* g[n] += rule(dW) + e dW: the residual holds W itself, whose gradient no rule changes       */
static void add_gradient(const struct chi_linear *l, const float *dw)
{
    int64_t n = l->d_out * l->d_in;
    if (CHI_HAS(struct chi_quantizer_ops, l->quantizer, grad))
        l->quantizer->grad(l->rule->quantizer.conf, l->w, dw, n, l->g);
    else
        for (int64_t i = 0; i < n; i++) l->g[i] += dw[i];
    if (l->residual != 0)
        for (int64_t i = 0; i < n; i++) l->g[i] += (float)l->residual * dw[i];
}

static void weight_gradients(const struct chi_linear *const *lin, int64_t n, const struct chi_kernels *k,
                             const float *x, int64_t rows, const float *const *dy)
{
    struct product p[LINEARS_MAX];
    int64_t n_p = 0;
    bool done[2] = { false, false };
    for (int64_t i = 0; i < n; i++) {
        const struct chi_linear *l = lin[i];
        if (!l->g) continue;
        struct product one = { true, false, l->d_out, l->d_in, rows, dy[i], l->d_out,
                               operand(l, k, x, rows, done), l->d_in, 1, l->g, l->d_in };
        if (!l->plain && (l->residual != 0 || CHI_HAS(struct chi_quantizer_ops, l->quantizer, grad))) {
            one.C = room.w;
            one.beta = 0;
            products_run(k, &one, 1);
            add_gradient(l, room.w);
        } else
            p[n_p++] = one;
    }
    if (n_p) products_run(k, p, n_p);
}

/* Gradients of normalised inputs go to room.dx; true if there are any                       */
static bool input_gradient(const struct chi_linear *const *lin, int64_t n, const struct chi_kernels *k,
                           int64_t rows, const float *const *dy, float *dx)
{
    struct product chain[LINEARS_MAX];
    int64_t n_chain = 0;
    bool normed = false;
    for (int64_t i = 0; i < n; i++) {
        const struct chi_linear *l = lin[i];
        bool norm = linear_norms(l);
        struct product one = { false, false, rows, l->d_in, l->d_out, dy[i], l->d_out, l->w, l->d_in,
                               1, dx, l->d_in };
        if (l->plain) {
            chain[n_chain++] = one;
            continue;
        }
        one.B = weights(l);
        if (norm) {
            one.C = room.dx;
            one.beta = normed ? 1.0f : 0.0f;
            normed = true;
        }
        products_run(k, &one, 1);
    }
    if (n_chain) chain_run(k, chain, n_chain);
    return normed;
}

chi_status linears_back(const struct chi_linear *const *lin, int64_t n, struct chi_run *r, const float *x,
                        int64_t rows, const float *const *dy, float *dx)
{
    TRY(check_call(lin, n, rows));
    if (!rows) return CHI_OK;
    const struct chi_kernels *k = r->h->k;
    if (r->grads) weight_gradients(lin, n, k, x, rows, dy);
    bool normed = dx && input_gradient(lin, n, k, rows, dy, dx);
    TRY(adapters_back(lin, n, r, x, rows, dy, dx, room.dx));
    if (!normed) return CHI_OK;
    struct norm_back b = { k, x, room.dx, dx, rows, lin[0]->d_in, max_i64(1, 65536 / lin[0]->d_in), lin[0]->eps };
    pool_run(ceil_div(rows, b.block), norm_back_task, &b);
    return CHI_OK;
}
