/* linear_bind.c - bytes of a linear's encoding from its master or from a packed file, and numbers from
 * those bytes.                                                                                  */
#include "linear.h"

#include <stdatomic.h>
#include <string.h>

#include "core.h"
#include "pool.h"

struct bind { struct chi_linear *l; const float *w; atomic_int not_finite, not_held; };

static void bind_slice(void *arg, int64_t i, struct chi_scratch *s)
{
    struct bind *b = arg;
    struct chi_linear *l = b->l;
    int64_t r0 = i * CHI_TILE, r1 = min_i64(r0 + CHI_TILE, l->d_out);
    int8_t *q = !linear_integer(l) ? NULL : chi_take(s, (size_t)(CHI_TILE * l->d_in));
    float *scale = chi_take(s, (size_t)(CHI_TILE * ceil_div(l->d_in, l->group)) * sizeof *scale);
    if (l->quantizer->quantize(l->rule->quantizer.conf, b->w + r0 * l->d_in, r1 - r0, l->d_in, q, scale))
        atomic_store(&b->not_finite, 1);
    else if (CHI_HAS(struct chi_encoding_ops, l->encoding, holds)
             && !l->encoding->holds(q, scale, r1 - r0, l->d_in, l->group))
        atomic_store(&b->not_held, 1);
    else l->encoding->encode(l->bytes, q, scale, l->d_out, l->d_in, l->group, r0, r1);
}

static void pack(struct chi_linear *l)
{
    struct chi_matrix m = { l->bytes, l->d_out, l->d_in, l->group };
    if (l->packed) l->kernel->pack(l->packed, &m);
}

const struct chi_component *linear_encoding(const struct chi_linear *l, const struct spec *s)
{
    const struct chi_component *e;
    for (int64_t i = 0; (e = registry_component(s->registry, CHI_ENCODING, i)); i++)
        if (e->ops == l->encoding) return e;
    return l->rule->encoding;
}

chi_status linear_bind(struct chi_linear *l, const float *w, double lambda)
{
    l->lambda = lambda;
    if (l->f32_only) return CHI_OK;
    TRY(linear_take(l));
    struct bind b = { .l = l, .w = w };
    pool_run(ceil_div(l->d_out, CHI_TILE), bind_slice, &b);
    if (atomic_load(&b.not_finite)) return fail(CHI_ENUMERIC, "%s: a weight is not finite", l->name);
    if (atomic_load(&b.not_held))
        return fail(CHI_ECONF,
                    "%s: encoding %s holds only a part of the %s weights, and not these: choose another [linear] "
                    "encoding (chimera plugins lists them)", l->name, l->encoding_name, l->encoding->values);
    pack(l);
    return CHI_OK;
}

/* Pieces that are large against the handing out, so that all threads copy and none waits long               */
struct copy { unsigned char *to; const unsigned char *from; int64_t n; };
enum { COPY_PIECE = 4 << 20 };

static void copy_piece(void *arg, int64_t i, struct chi_scratch *s)
{
    const struct copy *c = arg;
    (void)s;
    memcpy(c->to + i * COPY_PIECE, c->from + i * COPY_PIECE, (size_t)min_i64(COPY_PIECE, c->n - i * COPY_PIECE));
}

chi_status linear_load(struct chi_linear *l, const struct packed_tensor *t, int how)
{
    if (how == WEIGHTS_MAP && !l->bytes) {
        l->bytes = (void *)(uintptr_t)t->t->data;           /* nobody writes into it: the pages are read-only  */
        l->mapped = true;
    }
    TRY(linear_take(l));
    struct copy c = { l->bytes, t->t->data, l->n_bytes };
    if (!l->mapped) pool_run(ceil_div(c.n, COPY_PIECE), copy_piece, &c);
    pack(l);
    return CHI_OK;
}

void linear_progress(struct chi_linear *l, double progress)
{
    bool has = l->quantizer && CHI_HAS(struct chi_quantizer_ops, l->quantizer, residual);
    l->residual = has ? l->quantizer->residual(l->rule->quantizer.conf, progress) : 0;
}

/* Rows [o0, o1) of W^ in float: scale times integer, or the float itself; if asked with what
 * training adds of the master: the ramp's share and the residual.                       */
void linear_dequantize(const struct chi_linear *l, bool keep, int64_t o0, int64_t o1, float *out,
                       struct chi_scratch *s)
{
    float lambda = keep ? (float)l->lambda : 1, residual = keep ? (float)l->residual : 0;
    int64_t groups = ceil_div(l->d_in, l->group);
    int8_t *q = !linear_integer(l) ? NULL : chi_take(s, (size_t)l->d_in);
    float *scale = chi_take(s, (size_t)groups * sizeof *scale);
    for (int64_t o = o0; o < o1; o++, out += l->d_in) {
        l->encoding->decode(l->bytes, q, scale, l->d_out, l->d_in, l->group, o, o + 1);
        if (!q) memcpy(out, scale, (size_t)l->d_in * sizeof *out);
        else
            for (int64_t g = 0; g < groups; g++)
                for (int64_t i = g * l->group; i < min_i64((g + 1) * l->group, l->d_in); i++)
                    out[i] = scale[g] * q[i];
        const float *w = l->w ? l->w + o * l->d_in : NULL;
        if (lambda < 1)
            for (int64_t i = 0; i < l->d_in; i++) out[i] = w[i] + lambda * (out[i] - w[i]);
        if (residual != 0)
            for (int64_t i = 0; i < l->d_in; i++) out[i] += residual * w[i];
    }
}

void linear_row(const struct chi_linear *l, int64_t o, bool keep, float *out, struct chi_scratch *s)
{
    size_t was = s->used;
    if (l->w && l->plain) memcpy(out, l->w + o * l->d_in, (size_t)l->d_in * sizeof *out);
    else linear_dequantize(l, keep, o, o + 1, out, s);
    s->used = was;
}
