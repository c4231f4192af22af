/* encodings.c - checks of encodings: integers <-> bytes, exactly, in any slices, inside their blocks;
 * and the portable kernel that defines what the bytes mean in a product.                       */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "kinds.h"

static const int64_t row_counts[] = { 1, 2, 15, 16, 17, 33, 48, 70 };
static const int64_t col_counts[] = { 1, 2, 3, 15, 16, 63, 64, 65, 100, 127, 128, 129, 191, 192, 200, 256, 385, 768 };

/* One matrix in one encoding; blocks are guarded                                               */
struct bytes {
    struct trial *t;
    const struct chi_encoding_ops *ops;
    struct matrix m;
    int64_t groups, n;                  /* scales of a row; bytes()                            */
    char with[96];                      /* "17 x 200 in groups of 128"                          */
    struct pile pile;
    bool at_end;
    void *out;                          /* where encode() writes, decode() and run() read         */
    int64_t r0, r1;                     /* rows of the present call                             */
    int8_t *q;                          /* of these rows                                       */
    float *scale;
};

static const void *rows_of(struct bytes *b, const void *all, int64_t row_bytes, int64_t align, const char *name)
{
    const char *from = all;
    return all ? pile_copy(&b->pile, from + b->r0 * row_bytes, (b->r1 - b->r0) * row_bytes, align, b->at_end, name)
        : NULL;
}

static void run_encode(void *arg)
{
    struct bytes *b = arg;
    b->ops->encode(b->out, b->q, b->scale, b->m.rows, b->m.cols, b->m.group, b->r0, b->r1);
}

/* Slices of so many tiles, the last one first; 0: all rows at once.  Returns the bytes, or NULL   */
static unsigned char *encode(struct bytes *b, int64_t tiles, int fill)
{
    int64_t step = tiles ? tiles * CHI_TILE : round_up(b->m.rows, CHI_TILE);
    unsigned char *out = pile_take(&b->pile, b->n, 64, b->at_end, "the encoded bytes");
    if (!out) return NULL;
    memset(out, fill, (size_t)b->n);
    b->out = out;
    for (b->r0 = (b->m.rows - 1) / step * step; b->r0 >= 0; b->r0 -= step) {
        struct pile inputs = b->pile;
        b->pile = (struct pile){ .n = 0 };
        b->r1 = min_i64(b->r0 + step, b->m.rows);
        b->q = (int8_t *)(uintptr_t)rows_of(b, b->m.q, b->m.cols, 1, "q");
        b->scale = (float *)(uintptr_t)rows_of(b, b->m.scale, b->groups * 4, 4, "scale");
        bool ok = call_guarded(b->t, "encode", b->with, run_encode, b);
        pile_drop(&b->pile);
        b->pile = inputs;
        if (!ok) return NULL;
    }
    return out;
}

static void run_decode(void *arg)
{
    struct bytes *b = arg;
    b->ops->decode(b->out, b->q, b->scale, b->m.rows, b->m.cols, b->m.group, b->r0, b->r1);
}

/* Rows r0..r1 come back                                                                         */
static bool comes_back(struct bytes *b, int64_t r0, int64_t r1)
{
    int64_t n = (r1 - r0) * b->m.cols, scales = (r1 - r0) * b->groups;
    const float *scale = b->m.scale + r0 * b->groups;
    b->r0 = r0;
    b->r1 = r1;
    b->q = b->m.q ? pile_take(&b->pile, n, 1, b->at_end, "q") : NULL;
    b->scale = pile_take(&b->pile, scales * 4, 4, b->at_end, "scale");
    if (!call_guarded(b->t, "decode", b->with, run_decode, b)) return false;
    for (int64_t i = 0; b->m.q && i < n; i++)
        if (b->q[i] != b->m.q[r0 * b->m.cols + i]) {
            trial_fail(b->t, "row %lld, column %lld went in as %d and came out as %d (%s)",
                       (long long)(r0 + i / b->m.cols),
                       (long long)(i % b->m.cols), b->m.q[r0 * b->m.cols + i], b->q[i], b->with);
            return false;
        }
    for (int64_t i = 0; i < scales; i++)
        if (memcmp(&b->scale[i], &scale[i], 4) != 0) {
            trial_fail(b->t, "the %s of row %lld, number %lld, went in as %.9g and came out as %.9g (%s)",
                       b->m.integer ? "scale" : "value", (long long)(r0 + i / b->groups), (long long)(i % b->groups),
                       (double)scale[i], (double)b->scale[i], b->with);
            return false;
        }
    return true;
}

static bool prepare(struct bytes *b, struct trial *t, int64_t rows, int64_t cols, int64_t group, bool at_end)
{
    *b = (struct bytes){ .t = t, .ops = t->component->ops, .groups = ceil_div(cols, group), .at_end = at_end };
    snprintf(b->with, sizeof b->with, "%lld x %lld in groups of %lld", (long long)rows, (long long)cols,
             (long long)group);
    b->n = b->ops->bytes(rows, cols, group);
    return b->n > 0;
}

static bool start(struct bytes *b, struct trial *t, int64_t rows, int64_t cols, int64_t group, bool at_end,
                  int extreme)
{
    return prepare(b, t, rows, cols, group, at_end) && matrix_draw_held(&b->m, t, b->ops, rows, cols, group, extreme);
}

static void end(struct bytes *b)
{
    pile_drop(&b->pile);
    matrix_drop(&b->m);
}

/* All shapes that it holds; false after a failure                                                */
static void each_shape(struct trial *t, void (*check)(struct bytes *))
{
    const struct chi_encoding_ops *ops = t->component->ops;
    int64_t held = 0, group[4];
    struct matrix m;
    if (!matrix_draw(&m, t, ops->values, 1, 1, 1, 0)) {
        trial_skip(t, "its value class %s is not one of f32, bf16, int8 and ternary", ops->values);
        return;
    }
    matrix_drop(&m);
    for (int64_t i = 0; i < COUNT(row_counts); i++)
        for (int64_t j = 0; j < COUNT(col_counts); j++)
            for (int g = matrix_groups(ops->values, col_counts[j], group) - 1; g >= 0; g--) {
                struct bytes b;
                if (t->outcome >= TRIAL_FAILED) return;
                if (!start(&b, t, row_counts[i], col_counts[j], group[g], (i + j) % 2 == 0, 0)) continue;
                held++;
                check(&b);
                end(&b);
            }
    if (!held) trial_fail(t, "bytes() is 0 or holds() says no for every matrix: it holds no %s weights", ops->values);
}

/* ---- checks ----------------------------------------------------------------------------------- */

static void round_trip(struct bytes *b)
{
    if (!encode(b, 0, 0x11)) return;
    guard_read_only(b->out, true);
    comes_back(b, 0, b->m.rows);
}

static void slices(struct bytes *b)
{
    unsigned char *whole = encode(b, 0, 0x11), *again = whole ? encode(b, 0, 0xee) : NULL;
    for (int64_t tiles = 1; again && tiles < 4; tiles++) {
        unsigned char *cut = encode(b, tiles, 0xee);
        if (!cut) return;
        for (int64_t i = 0; i < b->n; i++) {
            const char *how = again[i] != whole[i] ? "which encode() leaves as it was" : NULL;
            if (!how && cut[i] != whole[i]) how = "which differs when rows are encoded in slices";
            if (!how) continue;
            trial_fail(b->t, "byte %lld of %lld, %s (%s)", (long long)i, (long long)b->n, how, b->with);
            return;
        }
    }
    if (!again) return;
    b->out = whole;
    for (int i = 0; i < 4; i++) {
        int64_t r0 = trial_between(b->t, 0, b->m.rows - 1);
        if (!comes_back(b, r0, trial_between(b->t, r0, b->m.rows))) return;
    }
}

static void sizes(struct bytes *b)
{
    if (b->n % 64)
        trial_fail(b->t, "bytes() is %lld, wanted is a multiple of 64 (%s)", (long long)b->n, b->with);
    else if (b->n != b->ops->bytes(b->m.rows, b->m.cols, b->m.group))
        trial_fail(b->t, "bytes() answers differently when asked again (%s)", b->with);
}

/* ---- holds() -------------------------------------------------------------------------------------- */

struct question { struct bytes *b; const int8_t *q; const float *scale; int64_t rows; bool yes; };

static void run_holds(void *arg)
{
    struct question *x = arg;
    x->yes = x->b->ops->holds(x->q, x->scale, x->rows, x->b->m.cols, x->b->m.group);
}

/* holds() of rows from..to, which it may only read                                                */
static bool ask(struct bytes *b, int64_t from, int64_t to, bool *yes)
{
    struct pile was = b->pile;
    struct question x = { .b = b, .rows = to - from };
    b->pile = (struct pile){ .n = 0 };
    b->r0 = from;
    b->r1 = to;
    x.q = rows_of(b, b->m.q, b->m.cols, 1, "q");
    x.scale = rows_of(b, b->m.scale, b->groups * 4, 4, "scale");
    bool ok = call_guarded(b->t, "holds", b->with, run_holds, &x);
    pile_drop(&b->pile);
    b->pile = was;
    *yes = x.yes;
    return ok;
}

/* What it says of all rows is what it says of each, and what it holds comes back                    */
static bool true_answer(struct bytes *b)
{
    bool all, each = true;
    if (!ask(b, 0, b->m.rows, &all)) return false;
    for (int64_t r = 0; r < b->m.rows; r++) {
        bool one;
        if (!ask(b, r, r + 1, &one)) return false;
        each &= one;
    }
    if (all != each) {
        trial_fail(b->t, "holds() says %s of all rows together and %s of them one by one (%s)", all ? "yes" : "no",
                   each ? "yes" : "no", b->with);
        return false;
    }
    if (!all) return true;
    bool ok = encode(b, 0, 0x11) && comes_back(b, 0, b->m.rows);
    pile_drop(&b->pile);
    return ok;
}

/* One number is changed at a time: a scale by its last bit or its sign, an integer by one           */
static bool near_misses(struct bytes *b)
{
    int64_t n = b->m.rows * b->groups, last = b->m.rows * b->m.cols - 1;
    for (int i = 0; i < 4; i++) {
        float *scale = &b->m.scale[i < 2 ? n - 1 : 0], was = *scale;
        *scale = i % 2 ? -was - 1 : nextafterf(was, INFINITY);
        bool ok = true_answer(b);
        *scale = was;
        if (!ok) return false;
    }
    for (int step = -1; b->m.q && step < 2; step += 2) {
        int8_t was = b->m.q[last];
        if (was + step < -1 || was + step > 1) continue;
        b->m.q[last] = (int8_t)(was + step);
        bool ok = true_answer(b);
        b->m.q[last] = was;
        if (!ok) return false;
    }
    return true;
}

static void check_holds(struct trial *t)
{
    const struct chi_encoding_ops *ops = t->component->ops;
    if (!CHI_HAS(struct chi_encoding_ops, ops, holds)) {
        trial_skip(t, "it has no holds(): it must hold all that bytes() has a size for");
        return;
    }
    static const int64_t cols[] = { 64, 200, 256, 768 };
    for (int64_t i = 0; i < COUNT(cols) * WAYS; i++) {
        struct bytes b;
        int64_t group[4];
        int n = matrix_groups(ops->values, cols[i / WAYS], group);
        if (t->outcome >= TRIAL_FAILED) return;
        if (!prepare(&b, t, i % 2 ? 17 : 3, cols[i / WAYS], group[i % n], i % 2 == 0)
            || !matrix_draw(&b.m, t, ops->values, i % 2 ? 17 : 3, cols[i / WAYS], group[i % n], 0)) continue;
        matrix_turn(&b.m, (int)(i % WAYS));
        if (true_answer(&b)) near_misses(&b);
        end(&b);
    }
}

/* ---- the portable kernel -------------------------------------------------------------------------- */

struct product { struct bytes *b; const struct chi_linear_kernel *k; struct chi_act a; struct chi_matrix m; float *y;
                 int64_t ldy, o0, o1; void *scratch; };

static void run_kernel(void *arg)
{
    const struct product *p = arg;
    p->k->run(p->y, p->ldy, &p->a, &p->m, p->o0, p->o1, p->scratch);
}

static void run_pack(void *arg)
{
    struct product *p = arg;
    p->k->pack(p->scratch, &p->m);
}

/* The matrix as the kernel wants it                                                              */
static bool pack(struct product *p)
{
    struct bytes *b = p->b;
    int64_t n = p->k->pack_bytes ? p->k->pack_bytes(b->m.rows, b->m.cols, b->m.group) : 0;
    p->m = (struct chi_matrix){ b->out, b->m.rows, b->m.cols, b->m.group };
    if (!n) return true;
    p->scratch = pile_take(&b->pile, n, 64, b->at_end, "the packed matrix");
    if (!p->scratch || !call_guarded(b->t, "pack of the portable kernel", b->with, run_pack, p)) return false;
    p->m.bytes = p->scratch;
    return true;
}

static void portable_rows(struct bytes *b, int64_t rows, int extreme)
{
    struct acts acts;
    struct product p = { .b = b, .k = b->ops->portable, .o0 = b->m.rows / 32 * CHI_TILE, .o1 = b->m.rows };
    if (!pack(&p)) return;
    acts_draw(&acts, b->t, rows, b->m.cols, extreme);
    p.a = acts_guarded(&b->pile, &acts, p.k->integer, b->at_end);
    p.ldy = p.o1 - p.o0 + 3;
    int64_t n = (rows - 1) * p.ldy + p.o1 - p.o0, need = p.k->scratch_bytes ? p.k->scratch_bytes(rows, b->m.cols) : 0;
    p.y = pile_take(&b->pile, n * 4, 4, b->at_end, "y");
    p.scratch = pile_take(&b->pile, need, 64, b->at_end, "the scratch");
    if (call_guarded(b->t, "run of the portable kernel", b->with, run_kernel, &p))
        for (int64_t i = 0; i < rows * (p.o1 - p.o0); i++) {
            int64_t r = i / (p.o1 - p.o0), o = i % (p.o1 - p.o0);
            float got = p.y[r * p.ldy + o], want = product_of(&b->m, &acts.act, r, p.o0 + o);
            if (!memcmp(&got, &want, sizeof got)) continue;
            trial_fail(b->t, "the portable kernel: y[%lld, %lld] is %.9g, by the definition in kernel.h %.9g (%s, "
                       "%lld rows)",
                       (long long)r, (long long)(p.o0 + o), (double)got, (double)want, b->with, (long long)rows);
            break;
        }
    acts_drop(&acts);
}

static void portable(struct bytes *b)
{
    if (b->ops->portable->integer != b->m.integer) {
        trial_fail(b->t, "its portable kernel %s integer, but its values are %s",
                   b->ops->portable->integer ? "is" : "is not", b->ops->values);
        return;
    }
    if (strcmp(b->ops->portable->encoding, b->t->component->name) != 0) {
        trial_fail(b->t, "its portable kernel is for encoding %s", b->ops->portable->encoding);
        return;
    }
    if (!encode(b, 0, 0)) return;
    guard_read_only(b->out, true);
    portable_rows(b, 1 + b->m.cols % 3, EXTREME_NONE);
}

static void check_round_trip(struct trial *t) { each_shape(t, round_trip); }
static void check_slices(struct trial *t) { each_shape(t, slices); }
static void check_sizes(struct trial *t) { each_shape(t, sizes); }

static void check_portable(struct trial *t)
{
    each_shape(t, portable);
    const char *values = ((const struct chi_encoding_ops *)t->component->ops)->values;
    int64_t group[4];
    for (int extreme = EXTREME_ONES; extreme < EXTREMES && t->outcome == TRIAL_OK; extreme++) {
        struct bytes b;
        matrix_groups(values, 2560, group);
        if (!start(&b, t, 17, 2560, group[0], true, extreme)) continue;
        if (encode(&b, 0, 0)) portable_rows(&b, 3, extreme);
        end(&b);
    }
}

const struct check checks_encodings[] = {
    { "encoding.bytes", CHI_ENCODING, 20, "bytes() is a multiple of 64 and always the same", check_sizes },
    { "encoding.round_trip", CHI_ENCODING, 60, "what goes in comes out, for odd shapes, inside its blocks",
      check_round_trip },
    { "encoding.slices", CHI_ENCODING, 60, "all bytes are written, in any slices of rows; any rows are decoded",
      check_slices },
    { "encoding.portable", CHI_ENCODING, 60, "the portable kernel gives the bits of the definition", check_portable },
    { "encoding.holds", CHI_ENCODING, 60,
      "what holds() says yes to comes back, and rows are asked one by one or together", check_holds },
    { 0 }
};
