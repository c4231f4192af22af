/* linear_checks.c - a backend's linear kernel of any encoding against the encoding's portable
 * kernel: all bits, for odd shapes, 1 to 130 rows, ranges of outputs and the largest sums that
 * there are.  Every array lies against a forbidden page, in turn the one behind and before.   */
#include "backend_checks.h"
#include "reference.h"

struct linear {
    const struct chi_linear_kernel *fast, *plain;
    int64_t rows, d_out, d_in, group, bytes;
    bool at_end;                                        /* which page is the near one   */
    void *matrix;
    struct chi_act act;
};

static const struct chi_linear_kernel *find_linear(const char *backend, const char *name)
{
    const struct chi_backend_ops *o = backend_ops(backend);
    for (int i = 0; o->linears && o->linears[i]; i++)
        if (!strcmp(o->linears[i]->encoding, name)) return o->linears[i];
    cr_assert_fail("%s has no linear kernel for %s", backend, name);
    return NULL;
}

/* ---- matrices ---------------------------------------------------------------------------- */

static bool is_class(const struct chi_encoding_ops *e, const char *values)
{
    return !strcmp(e->values, values);
}

/* What the kernel takes, else 128 or what the class has; 0: no such matrix in this encoding */
static int64_t group_for(const struct chi_encoding_ops *e, const struct chi_linear_kernel *f,
                         int64_t d_out, int64_t d_in)
{
    int64_t group = is_class(e, "ternary") ? 128 : is_class(e, "int8") ? d_in : 1;
    if (f->group) group = f->group;
    return e->bytes(d_out, d_in, group) ? group : 0;
}

/* Ternary encodings that hold a part of the class only: one zero in four, one scale for two
 * groups, or both                                                                            */
static void make_fit(const struct chi_encoding_ops *e, int8_t *w, float *scale, int64_t d_out, int64_t d_in,
                     int64_t group)
{
    int64_t groups = ceil_div(d_in, group);
    for (int way = 1; way < 4 && e->holds && !e->holds(w, scale, d_out, d_in, group); way++) {
        for (int64_t i = 0; way != 1 && i < d_out * d_in; i++) {
            int64_t k = i % d_in, zero = (k / 4 + i / d_in) % 4;
            w[i] = (int8_t)(k % 4 == zero ? 0 : w[i] ? w[i] : k % 3 ? 1 : -1);
        }
        for (int64_t i = 0; way != 2 && i < d_out * groups; i++)
            if (i % groups % 2) scale[i] = scale[i - 1];
    }
    cr_assert(!e->holds || e->holds(w, scale, d_out, d_in, group), "no matrix of %ld x %ld fits", d_out, d_in);
}

/* extreme: 0 random; 1 all weights +1 (127), all q 127; 2 signs that agree, so that every
 * sum is as large as it can be; 3 signs that disagree                                       */
static void fill_matrix(struct linear *l, const struct chi_encoding_ops *e, int extreme)
{
    bool ternary = is_class(e, "ternary");
    int64_t groups = ceil_div(l->d_in, l->group), n = l->d_out * l->d_in;
    int8_t *w = xcalloc((size_t)n, 1);
    float *scale = xcalloc((size_t)(l->d_out * groups), 4);
    for (int64_t i = 0; i < n; i++) {
        int sign = extreme == 1 || i % l->d_in % 2 ? 1 : -1;
        w[i] = (int8_t)(extreme ? sign * (ternary ? 1 : 127)
                                : (int)(random_bits() % (ternary ? 3 : 255)) - (ternary ? 1 : 127));
    }
    for (int64_t i = 0; i < l->d_out * groups; i++) {
        scale[i] = ternary ? (float)(random_bits() % 2048) / 65536.0f : random_float();
        if (is_class(e, "bf16")) scale[i] = (float)((int)(random_bits() % 255) - 127) / 64.0f;
    }
    make_fit(e, w, scale, l->d_out, l->d_in, l->group);
    e->encode(l->matrix, w, scale, l->d_out, l->d_in, l->group, 0, l->d_out);
    free(w), free(scale);
}

static struct linear make(const char *backend, const char *name, int64_t rows, int64_t d_out, int64_t d_in,
                          int extreme, bool at_end)
{
    const struct chi_encoding_ops *e = encoding(name);
    struct linear l = { find_linear(backend, name), e->portable, rows, d_out, d_in,
                        .at_end = at_end };
    l.group = group_for(e, l.fast, d_out, d_in);
    if (l.group == 0) return l;
    int64_t ldq = round_up(d_in, 64) + 64 * (d_in % 3 == 0), nb = ldq / 64;
    int8_t *q = guarded(rows * ldq, at_end);
    float *x = guarded(rows * d_in * 4, at_end), *step = guarded(rows * nb * 4, at_end);
    int16_t *sum = guarded(rows * nb * 2, at_end);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t k = 0; k < d_in; k++)
            x[r * d_in + k] = extreme ? (extreme == 1 || (k % 2) == (extreme == 2) ? 2.0f : -2.0f)
                                      : random_float();
        reference_kernels.quantize_i8(q + r * ldq, step + r * nb, sum + r * nb, x + r * d_in, d_in);
    }
    l.act = (struct chi_act){ rows, d_in, x, d_in, q, ldq, step, sum };
    l.bytes = e->bytes(d_out, d_in, l.group);
    l.matrix = guarded(l.bytes, at_end);
    fill_matrix(&l, e, extreme);
    return l;
}

static void drop(struct linear *l)
{
    int64_t n = l->rows * l->act.ldq;
    unguard(l->matrix, l->bytes, l->at_end);
    unguard((void *)(uintptr_t)l->act.q, n, l->at_end);
    unguard((void *)(uintptr_t)l->act.x, l->rows * l->d_in * 4, l->at_end);
    unguard((void *)(uintptr_t)l->act.step, n / 16, l->at_end);
    unguard((void *)(uintptr_t)l->act.sum, n / 32, l->at_end);
}

/* ---- runs -------------------------------------------------------------------------------- */

/* The bytes that run() reads: the encoding's own or a private layout of them               */
static void *layout_of(const struct chi_linear_kernel *k, const struct linear *l, int64_t *size)
{
    const struct chi_matrix m = { l->matrix, l->d_out, l->d_in, l->group };
    *size = k->pack ? k->pack_bytes(l->d_out, l->d_in, l->group) : 0;
    if (!k->pack) return l->matrix;
    void *packed = guarded(round_up(*size, 64), true);
    k->pack(packed, &m);
    return packed;
}

/* y[rows, ldy] against a forbidden page; the gaps between rows keep what they had           */
static void run(const struct chi_linear_kernel *k, const struct linear *l,
                const struct chi_act *a, int64_t o0, int64_t o1, int64_t ldy, float *y)
{
    int64_t need = k->scratch_bytes ? k->scratch_bytes(a->rows, l->d_in) : 0, packed;
    int64_t size = ((a->rows - 1) * ldy + o1 - o0) * 4;
    float *out = guarded(size, l->at_end);
    void *scratch = guarded(round_up(need, 64), true), *bytes = layout_of(k, l, &packed);
    for (int64_t i = 0; i < size / 4; i++) out[i] = 1e9f;
    const struct chi_matrix m = { bytes, l->d_out, l->d_in, l->group };
    k->run(out, ldy, a, &m, o0, o1, scratch);
    memcpy(y, out, (size_t)size);
    unguard(out, size, l->at_end), unguard(scratch, round_up(need, 64), true);
    if (k->pack) unguard(bytes, round_up(packed, 64), true);
}

/* A range of outputs, and a row without the others                                          */
static void compare_parts(const struct linear *l, const float *y, int64_t ldy, const char *name)
{
    int64_t o0 = l->d_out / 32 * 16, width = l->d_out - o0;
    float *part = xcalloc((size_t)(l->rows * ldy), 4);
    run(l->fast, l, &l->act, o0, l->d_out, width, part);
    for (int64_t r = 0; r < l->rows; r++)
        agree(part + r * width, y + r * ldy + o0, width, "%s %ld x %ld: row %ld of %ld, outputs from %ld", name,
              l->d_out, l->d_in, r, l->rows, o0);
    for (int64_t r = 0; r < l->rows; r += 1 + l->rows / 3) {
        struct chi_act one = l->act;
        one.rows = 1, one.x += r * one.ldx, one.q += r * one.ldq;
        one.step += r * (one.ldq / 64), one.sum += r * (one.ldq / 64);
        run(l->fast, l, &one, 0, l->d_out, l->d_out, part);
        agree(part, y + r * ldy, l->d_out, "%s %ld x %ld: row %ld of %ld alone", name, l->d_out, l->d_in, r,
              l->rows);
    }
    free(part);
}

/* 1: compared; 0: the encoding has no such matrix                                           */
static int compare(const char *backend, const char *name, int64_t rows, int64_t d_out, int64_t d_in, int extreme)
{
    struct linear l = make(backend, name, rows, d_out, d_in, extreme, (rows + d_out + d_in) % 2);
    int64_t ldy = d_out + 3, n = rows * ldy;
    if (l.group == 0) return 0;
    float *y = xcalloc((size_t)n, 4), *z = xcalloc((size_t)n, 4);
    run(l.fast, &l, &l.act, 0, d_out, ldy, y), run(l.plain, &l, &l.act, 0, d_out, ldy, z);
    for (int64_t r = 0; r < rows; r++)
        agree(y + r * ldy, z + r * ldy, ldy * (r < rows - 1) + d_out * (r == rows - 1),
              "%s %ld x %ld: row %ld of %ld, extreme %d", name, d_out, d_in, r, rows, extreme);
    compare_parts(&l, y, ldy, name);
    free(y), free(z);
    drop(&l);
    return 1;
}

/* Activations that repeat in each block and have the signs of row 0: every code of that row adds the
 * same sum, so that sums which are kept in small pieces grow as far as they can                  */
static void repeated(const char *backend, const char *name)
{
    struct linear l = make(backend, name, 1, 16, 256, 1, true);
    if (l.group == 0) return;
    int8_t w[256], *q = (int8_t *)(uintptr_t)l.act.q;
    float scale[256], y[16], z[16];
    int16_t *sum = (int16_t *)(uintptr_t)l.act.sum;
    encoding(name)->decode(l.matrix, w, scale, 16, 256, l.group, 0, 1);
    for (int n = 0; n < 600; n++) {
        int period = 3 + n % 3, v[5];
        for (int i = 0; i < 5; i++) v[i] = (int)(random_bits() % 255) - 127;
        memset(sum, 0, 4 * sizeof *sum);
        for (int k = 0; k < 256; k++) {
            q[k] = (int8_t)(w[k] < 0 ? -v[k % 64 % period] : v[k % 64 % period]);
            sum[k / 64] = (int16_t)(sum[k / 64] + q[k]);
        }
        run(l.fast, &l, &l.act, 0, 16, 16, y), run(l.plain, &l, &l.act, 0, 16, 16, z);
        agree(y, z, 16, "%s: %d activations again and again", name, period);
    }
    drop(&l);
}

void check_linear(const char *backend, const char *name)
{
    static const int64_t d_out[] = { 1, 15, 16, 17, 40, 80 };
    static const int64_t d_in[] = { 1, 63, 64, 65, 100, 128, 192, 256, 513, 576, 768, 1728 };
    static const int64_t rows[] = { 1, 2, 3, 4, 5, 7, 9, 16, 17, 33 };
    int done = 0;
    for (int64_t i = 0; i < COUNT(d_out); i++)
        for (int64_t j = 0; j < COUNT(d_in); j++)
            done += compare(backend, name, rows[(i * COUNT(d_in) + j) % COUNT(rows)], d_out[i], d_in[j], 0);
    for (int64_t r = 1; r <= 130; r++) done += compare(backend, name, r, 17, r % 2 ? 96 : 256, 0);
    for (int64_t r = 127; r <= 130; r++) done += compare(backend, name, r, 33, 768, 0);
    done += compare(backend, name, 130, 49, 200, 0) + compare(backend, name, 32, 32, 1280, 0);
    for (int64_t r = 12; r <= 17; r++) done += compare(backend, name, r, 530 + r, r % 2 ? 320 : 200, 0);
    done += compare(backend, name, 29, 1301, 128, 0);
    for (int extreme = 1; extreme < 4; extreme++) {
        done += compare(backend, name, 1, 48, 2560, extreme);
        done += compare(backend, name, 6, 32, 768, extreme);
        done += compare(backend, name, 40, 32, 2560, extreme);
        done += compare(backend, name, 16, 514, 256, extreme);
    }
    cr_assert(done >= 90, "%s: %d shapes only", name, done);
    if (is_class(encoding(name), "ternary")) repeated(backend, name);
}

/* Kernels that let 16 bits wrap give another number                                          */
void check_no_wrap(const char *backend, const char *name)
{
    enum { K = 2560, R = 40, GROUPS = K / 64 };
    const struct chi_encoding_ops *e = encoding(name);
    struct linear l = { find_linear(backend, name), e->portable, R, 1, K, .at_end = true };
    static int8_t w[K], q[R * K];
    static float scale[GROUPS], step[R * K / 64], y[R];
    static int16_t sum[R * K / 64];
    l.group = group_for(e, l.fast, 1, K);
    cr_assert_gt(l.group, 0, "%s cannot hold 1 x %d", name, K);
    memset(w, 1, sizeof w), memset(q, 127, sizeof q);
    for (int i = 0; i < GROUPS; i++) scale[i] = 0.5f;
    for (int i = 0; i < R * K / 64; i++) step[i] = 1, sum[i] = 127 * 64;
    make_fit(e, w, scale, 1, K, l.group);
    int total = 0;
    for (int k = 0; k < K; k++) total += 127 * w[k];
    l.bytes = e->bytes(1, K, l.group), l.matrix = guarded(l.bytes, true);
    e->encode(l.matrix, w, scale, 1, K, l.group, 0, 1);
    for (int64_t rows = 1; rows <= R; rows++) {
        l.act = (struct chi_act){ rows, K, NULL, K, q, K, step, sum };
        run(l.fast, &l, &l.act, 0, 1, 1, y);
        for (int64_t r = 0; r < rows; r++) {
            float want = (float)total * 0.5f;
            agree(&y[r], &want, 1, "%s: %d times 127, row %ld of %ld", name, K, r, rows);
        }
    }
    unguard(l.matrix, l.bytes, true);
}
