/* backend_linears.c - a backend's linear kernels against the portable kernel of the same encoding: the same
 * bits for any rows, outputs and alignment, on numbers that bring sums to their limits.          */
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "core.h"
#include "kinds.h"

/* A kernel, a matrix in its encoding, activations                                                 */
struct bench {
    struct trial *t;
    const struct chi_linear_kernel *k, *portable;
    const struct chi_encoding_ops *encoding;
    struct matrix m;
    struct acts acts;
    struct pile pile;
    struct chi_matrix bytes, packed;            /* for the portable kernel; for k                */
    int64_t rows;
    char with[128];
};

/* The calls that run guarded                                                                       */
struct call { const struct chi_linear_kernel *k; struct chi_matrix m; struct chi_act a; float *y; int64_t ldy, o0, o1;
              void *scratch; };

static void do_run(void *arg)
{
    const struct call *c = arg;
    c->k->run(c->y, c->ldy, &c->a, &c->m, c->o0, c->o1, c->scratch);
}

static void do_pack(void *arg)
{
    const struct call *c = arg;
    c->k->pack(c->scratch, &c->m);
}

static bool pack(struct bench *b)
{
    int64_t n = b->k->pack_bytes ? b->k->pack_bytes(b->m.rows, b->m.cols, b->m.group) : 0;
    b->packed = b->bytes;
    if (!n) return true;
    struct call c = { .k = b->k, .m = b->bytes, .scratch = pile_take(&b->pile, n, 64, true, "the packed matrix") };
    if (!c.scratch || !call_guarded(b->t, "pack", b->with, do_pack, &c)) return false;
    guard_read_only(c.scratch, true);
    b->packed.bytes = c.scratch;
    return true;
}

/* False: the encoding cannot hold it, or the trial has failed                                       */
static bool start(struct bench *b, int64_t rows, int64_t d_out, int64_t d_in, int64_t group, int extreme)
{
    int64_t n = b->encoding->bytes(d_out, d_in, group);
    b->pile.n = 0;
    b->rows = rows;
    static const char *const sums[] = { "", ", all ones", ", largest sums", ", smallest sums" };
    snprintf(b->with, sizeof b->with, "%lld rows, %lld x %lld in groups of %lld%s", (long long)rows, (long long)d_out,
             (long long)d_in, (long long)group, sums[extreme]);
    if (n <= 0 || (b->k->group && b->k->group != group)
        || !matrix_draw_held(&b->m, b->t, b->encoding, d_out, d_in, group, extreme))
        return false;
    void *bytes = pile_take(&b->pile, n, 64, true, "the encoded matrix");
    if (bytes) b->encoding->encode(bytes, b->m.q, b->m.scale, d_out, d_in, group, 0, d_out);
    if (bytes) guard_read_only(bytes, true);
    b->bytes = (struct chi_matrix){ bytes, d_out, d_in, group };
    acts_draw(&b->acts, b->t, rows, d_in, extreme);
    return bytes && pack(b);
}

static void end(struct bench *b)
{
    pile_drop(&b->pile);
    matrix_drop(&b->m);
    acts_drop(&b->acts);
}

/* y[rows of act, o1 - o0] by kernel k into y with stride ldy; what lies between rows must stay.      */
static bool run(struct bench *b, const struct chi_linear_kernel *k, const struct chi_act *act, int64_t o0, int64_t o1,
                int64_t ldy, float *y)
{
    struct pile p = { .n = 0 };
    bool at_end = (b->m.cols + o0) % 2 == 0;
    struct acts some = { .act = *act, .x = (float *)(uintptr_t)act->x, .q = (int8_t *)(uintptr_t)act->q,
                         .step = (float *)(uintptr_t)act->step, .sum = (int16_t *)(uintptr_t)act->sum };
    int64_t n = (act->rows - 1) * ldy + o1 - o0, need = k->scratch_bytes ? k->scratch_bytes(act->rows, b->m.cols) : 0;
    struct call c = { .k = k, .m = k == b->k ? b->packed : b->bytes, .a = acts_guarded(&p, &some, k->integer, at_end),
                      .y = pile_take(&p, n * 4, 4, at_end, "y"), .ldy = ldy, .o0 = o0, .o1 = o1,
                      .scratch = pile_take(&p, need, 64, true, "the scratch") };
    for (int64_t i = 0; i < n; i++) c.y[i] = 1e9f;
    bool ok = call_guarded(b->t, "run", b->with, do_run, &c);
    for (int64_t i = 0; ok && i < n; i++)
        if (i % ldy >= o1 - o0 && c.y[i] != 1e9f) {
            trial_fail(b->t, "run writes between the rows of y (%s)", b->with);
            ok = false;
        }
    if (ok) memcpy(y, c.y, (size_t)n * 4);
    pile_drop(&p);
    return ok;
}

static bool agrees(struct bench *b, const char *how, const float *got, int64_t ld, const float *want, int64_t ldw,
                   int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows * cols; i++) {
        const float *a = got + i / cols * ld + i % cols, *w = want + i / cols * ldw + i % cols;
        if (!memcmp(a, w, sizeof *a)) continue;
        trial_fail(b->t, "%s: row %lld, output %lld %s is %.9g, wanted are the bits of %.9g (%s)", b->k->encoding,
                   (long long)(i / cols), (long long)(i % cols), how, (double)*a, (double)*w, b->with);
        return false;
    }
    return true;
}

/* Outputs in two calls, cut at any tile                                                             */
static bool cuts(struct bench *b, const float *y, int64_t ldy, float *part)
{
    int64_t d_out = b->m.rows;
    for (int64_t cut = CHI_TILE; cut < d_out; cut += CHI_TILE) {
        if (!run(b, b->k, &b->acts.act, 0, cut, cut + 1, part)
            || !agrees(b, "of a range alone", part, cut + 1, y, ldy, b->rows, cut))
            return false;
        if (!run(b, b->k, &b->acts.act, cut, d_out, d_out - cut, part)
            || !agrees(b, "of a range alone", part, d_out - cut, y + cut, ldy, b->rows, d_out - cut))
            return false;
    }
    return true;
}

static void rows_alone(struct bench *b, const float *y, int64_t ldy, float *part)
{
    for (int64_t r = 0; r < b->rows; r += 1 + b->rows / 4) {
        struct chi_act one = b->acts.act;
        int64_t blocks = one.ldq / CHI_ACT_BLOCK;
        one.rows = 1;
        one.x += r * one.ldx;
        one.q += r * one.ldq;
        one.step += r * blocks;
        one.sum += r * blocks;
        if (!run(b, b->k, &one, 0, b->m.rows, b->m.rows, part)
            || !agrees(b, "of a row alone", part, b->m.rows, y + r * ldy, ldy, 1, b->m.rows))
            return;
    }
}

static void compare(struct bench *b, int64_t rows, int64_t d_out, int64_t d_in, int64_t group, int extreme)
{
    if (b->t->outcome >= TRIAL_FAILED) return;
    if (start(b, rows, d_out, d_in, group, extreme)) {
        int64_t ldy = d_out + 3;
        float *y = xcalloc((size_t)(rows * ldy), 4), *want = xcalloc((size_t)(rows * ldy), 4);
        float *part = xcalloc((size_t)(rows * ldy), 4);
        if (run(b, b->k, &b->acts.act, 0, d_out, ldy, y) && run(b, b->portable, &b->acts.act, 0, d_out, ldy, want)
            && agrees(b, "against the portable kernel", y, ldy, want, ldy, rows, d_out) && cuts(b, y, ldy, part))
            rows_alone(b, y, ldy, part);
        free(y);
        free(want);
        free(part);
    }
    end(b);
}

static void all_shapes(struct bench *b)
{
    static const int64_t d_out[] = { 1, 15, 16, 17, 40, 80 };
    static const int64_t d_in[] = { 1, 5, 21, 63, 64, 65, 100, 128, 192, 256, 513, 576, 1280, 1728 };
    const char *values = b->encoding->values;
    int64_t group[4];
    for (int64_t i = 0; i < COUNT(d_out); i++)
        for (int64_t j = 0; j < COUNT(d_in); j++) {
            int n = matrix_groups(values, d_in[j], group);
            compare(b, 1 + (i * COUNT(d_in) + j) % 9, d_out[i], d_in[j], group[(i + j) % n], EXTREME_NONE);
        }
    for (int64_t rows = 1; rows <= 20; rows++) {
        matrix_groups(values, 192, group);
        compare(b, rows, 24, 192, group[0], EXTREME_NONE);
    }
    for (int extreme = EXTREME_ONES; extreme < EXTREMES; extreme++) {
        matrix_groups(values, 2560, group);
        compare(b, 1, 48, 2560, group[0], extreme);
        compare(b, 6, 32, 2560, group[0], extreme);
    }
    matrix_groups(values, 200, group);
    compare(b, 130, 33, 200, group[0], EXTREME_NONE);
}

void check_backend_linears(struct trial *t)
{
    const struct chi_backend_ops *ops = t->component->ops;
    if (!ops->linears || !*ops->linears) {
        trial_skip(t, "it has no linear kernels: the portable ones serve");
        return;
    }
    if (!backend_ready(t)) return;
    for (const struct chi_linear_kernel *const *k = ops->linears; *k && t->outcome < TRIAL_FAILED; k++) {
        const struct chi_component *c;
        struct bench b = { .t = t, .k = *k };
        if (registry_find(t->registry, CHI_ENCODING, (*k)->encoding, &c) != CHI_OK) {
            trial_warn(t, "its kernel for encoding %s cannot be tried: %s", (*k)->encoding, fail_text());
            continue;
        }
        b.encoding = c->ops;
        b.portable = b.encoding->portable;
        if (b.k->integer != b.portable->integer)
            trial_fail(t, "its kernel for %s says integer = %d, the portable one %d", b.k->encoding, b.k->integer,
                       b.portable->integer);
        else
            all_shapes(&b);
    }
}
