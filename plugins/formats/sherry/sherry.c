/* sherry.c - ternary weights of which one in every four is zero (Sherry, arXiv 2601.07892).
 *
 * A row is cut into quads of 4 neighbours.  A quad drops its smallest |W| (among equal ones
 * the last) and keeps the other three:
 *
 *     t = 0 for the dropped, sign(W) for the others (+1 for a kept 0)
 *     alpha_g = fp16(mean |W_g| of the kept)
 *
 * For given t that mean is the alpha that is nearest to W, and dropping the smallest is the
 * nearest choice of t, so nothing of this form is nearer.  32 patterns a quad: 5 bits.  A last
 * quad of 1..3 weights counts as filled up with zeros, one of which is what it drops.
 *
 * With the straight-through gradient alone weights get stuck ("trapped"): those of a quad see
 * gradients that depend on x only.  Arenas therefore trains with a residual of the master,
 *
 *     y = x (W^ + e W)'        dW = (1 + e) dy' x        dx = dy (W^ + e W)
 *
 * whose share e rises to its peak over the first arenas_warmup of the steps, then falls along
 * half a cosine to 0 at the end: what is left is the quantised model.                       */
#include <chimera/plugin.h>
#include <chimera/kernel.h>
#include <chimera/format.h>
#include <chimera/math.h>

enum { QUAD = 4 };

struct conf {
    int64_t group_size;
    double  arenas, arenas_warmup;
};

/* Kernels are fast in groups of 128: of a multiple these are several with equal scales          */
static int64_t group_of(const void *conf, int64_t cols)
{
    int64_t size = ((const struct conf *)conf)->group_size;
    (void)cols;
    return size % CHI_GROUP ? size : CHI_GROUP;
}

static chi_status check(const struct chi_host *h, const void *conf)
{
    int64_t g = ((const struct conf *)conf)->group_size;
    if (g % CHI_ACT_BLOCK == 0) return CHI_OK;
    return h->fail(h, CHI_ECONF, "group_size = %lld is not a multiple of %d", (long long)g, CHI_ACT_BLOCK);
}

/* x >= 0 to the nearest number of fp16, ties to even; infinity beyond 65504.  Its last place is
 * worth 2^(e - 10) with e = max(floor(log2 x), -14); adding 1.5 * 2^52 rounds to an integer.    */
static float fp16_round(double x)
{
    if (!(x < 65520)) return INFINITY;
    double unit = 0x1p-24;
    while (x >= 2048 * unit) unit *= 2;
    return (float)(((x / unit + 6755399441055744.0) - 6755399441055744.0) * unit);
}

/* t of one quad of n weights; the sizes of those that are kept are added to lane[].  False: a
 * weight is not finite.                                                                         */
static bool quad(const float *w, int64_t n, int8_t *t, double *lane)
{
    float size[QUAD] = { 0 };
    int drop = 0;
    for (int64_t j = 0; j < n; j++) {
        size[j] = fabsf(w[j]);
        if (!isfinite(size[j])) return false;
    }
    for (int j = 1; j < QUAD; j++)
        if (size[j] <= size[drop]) drop = j;
    size[drop] = 0;
    for (int j = 0; j < QUAD; j++) lane[j] += (double)size[j];
    for (int64_t j = 0; j < n; j++) t[j] = (int8_t)(j == drop ? 0 : w[j] < 0 ? -1 : 1);
    return true;
}

/* One group: t[n] and its alpha                                                                 */
static chi_status group(const float *w, int64_t n, int8_t *t, float *alpha)
{
    double lane[QUAD] = { 0 };
    for (int64_t k = 0; k < n; k += QUAD)
        if (!quad(w + k, n - k < QUAD ? n - k : QUAD, t + k, lane)) return CHI_ENUMERIC;
    *alpha = fp16_round(((lane[0] + lane[2]) + (lane[1] + lane[3])) / (double)(n - n / QUAD));
    return isinf(*alpha) ? CHI_ENUMERIC : CHI_OK;
}

static chi_status quantize(const void *conf, const float *w, int64_t rows, int64_t cols, int8_t *q, float *scale)
{
    int64_t size = ((const struct conf *)conf)->group_size, each = group_of(conf, cols);
    int64_t groups = (cols + each - 1) / each;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k0 = 0; k0 < cols; k0 += size) {
            int64_t n = cols - k0 < size ? cols - k0 : size;
            float alpha;
            if (group(w + r * cols + k0, n, q + r * cols + k0, &alpha) != CHI_OK) return CHI_ENUMERIC;
            for (int64_t k = k0; k < k0 + n; k += each) scale[r * groups + k / each] = alpha;
        }
    return CHI_OK;
}

/* e when this share of the steps is done; exactly the peak at the end of the rise, 0 at the end */
static double residual(const void *conf, double progress)
{
    const struct conf *c = conf;
    if (progress >= 1) return 0;
    if (progress < c->arenas_warmup) return c->arenas * progress / c->arenas_warmup;
    double u = (progress - c->arenas_warmup) / (1 - c->arenas_warmup);
    return c->arenas * (1 + cos(3.14159265358979323846 * u)) / 2;
}

static const struct chi_quantizer_ops ops = {
    .struct_size = sizeof ops, .values = "ternary", .group = group_of, .quantize = quantize, .residual = residual,
};
static const struct chi_option options[] = {
    CHI_INT(struct conf, group_size, "128", 64, 65536,
            "weights along a row that share a scale, a multiple of 64; of 128 to be fast", CHI_OPT_SHAPE),
    CHI_FLOAT(struct conf, arenas, "1", 0, 10,
            "peak share of the unquantised weights in training; 0: none", 0),
    CHI_FLOAT(struct conf, arenas_warmup, "0.1", 0, 0.9,
            "share of the steps in which it rises from 0 to its peak", 0),
    CHI_OPTIONS_END
};
static const struct chi_component quantizer = {
    .struct_size = sizeof quantizer, .kind = CHI_QUANTIZER, .name = "sherry", .revision = 1,
    .summary = "ternary weights, one of every four zero", .papers = "2601.07892", .options = options,
    .conf_size = sizeof(struct conf), .check = check, .ops = &ops,
};

CHI_PLUGIN(sherry, .version = "1.0", .license = "MIT", .summary = "3:4 sparse ternary weights",
           .components = CHI_COMPONENTS(&quantizer));
