/* adamw - Adam with decoupled weight decay (arXiv 1412.6980, 1711.05101).
 *
 *     g' = clip g
 *     m  = beta1 m + (1 - beta1) g'
 *     v  = beta2 v + (1 - beta2) g'^2
 *     w -= lr ( m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay w )
 *
 * t counts from 1; the decay is there only for slices that ask for it.  One pass over
 * w, g, m and v.  Each value is on its own, with exact sqrt and division, so neither
 * the cut into pieces nor the width of the machine's vectors changes a bit.          */
#include <chimera/plugin.h>
#include <chimera/train.h>
#include <math.h>

struct adamw {
    double beta1, beta2, eps, weight_decay;
};

enum { PIECE = 16384, GROUP = 256 };        /* values of a task, slices of a loop     */

struct rates {                              /* of one step, all in float              */
    float clip, beta1, one_beta1, beta2, one_beta2, fix1, fix2, eps, lr, decay;
};

/* beta^t by squaring: the same bits everywhere, which pow() does not promise          */
static double power(double beta, int64_t t)
{
    double p = 1;
    for (; t > 0; t >>= 1, beta *= beta)
        if (t & 1) p *= beta;
    return p;
}

static void step_values(float *restrict w, const float *restrict g, float *restrict m,
                        float *restrict v, int64_t n, float decay, struct rates r)
{
    for (int64_t i = 0; i < n; i++) {
        float d = r.clip * g[i];
        m[i] = r.beta1 * m[i] + r.one_beta1 * d;
        v[i] = r.beta2 * v[i] + r.one_beta2 * (d * d);
        float up = (m[i] / r.fix1) / (sqrtf(v[i] / r.fix2) + r.eps);
        w[i] -= r.lr * (up + decay * w[i]);
    }
}

struct work {                               /* up to GROUP slices, cut into pieces    */
    const struct chi_slice *slice;
    int64_t first[GROUP + 1];               /* piece at which a slice begins          */
    int64_t n;
    struct rates rates;
};

static void step_piece(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct work *k = arg;
    int64_t lo = 0, hi = k->n;
    (void)scratch;
    while (hi - lo > 1) {                   /* first[lo] <= i < first[hi]             */
        int64_t mid = (lo + hi) / 2;
        if (k->first[mid] <= i) lo = mid;
        else hi = mid;
    }
    const struct chi_slice *s = &k->slice[lo];
    int64_t a = (i - k->first[lo]) * PIECE, n = s->n - a < PIECE ? s->n - a : PIECE;
    step_values(s->w + a, s->g + a, s->m + a, s->m + s->stride + a, n,
                s->decay ? k->rates.decay : 0, k->rates);
}

static chi_status update(const struct chi_host *h, const void *conf,
                         const struct chi_slice *slice, int64_t n_slices,
                         int64_t step, double lr, double clip)
{
    const struct adamw *c = conf;
    if (step < 1) return h->fail(h, CHI_EBUG, "step %lld: steps count from 1", (long long)step);
    struct work k = { .rates = {
        .clip = (float)clip, .beta1 = (float)c->beta1, .one_beta1 = (float)(1 - c->beta1),
        .beta2 = (float)c->beta2, .one_beta2 = (float)(1 - c->beta2),
        .fix1 = (float)(1 - power(c->beta1, step)), .fix2 = (float)(1 - power(c->beta2, step)),
        .eps = (float)c->eps, .lr = (float)lr, .decay = (float)c->weight_decay,
    } };
    for (int64_t at = 0; at < n_slices; at += k.n) {
        k.slice = slice + at;
        for (k.n = 0; k.n < GROUP && at + k.n < n_slices; k.n++)
            k.first[k.n + 1] = k.first[k.n] + (k.slice[k.n].n + PIECE - 1) / PIECE;
        h->parallel(h, k.first[k.n], step_piece, &k);
    }
    return CHI_OK;
}

static const struct chi_option options[] = {
    CHI_FLOAT(struct adamw, beta1, "0.9", 0, 0.999999, "decay of the mean of gradients", 0),
    CHI_FLOAT(struct adamw, beta2, "0.95", 0, 0.999999, "decay of the mean of squared gradients", 0),
    CHI_FLOAT(struct adamw, eps, "1e-8", 1e-30, 1, "added to the root of the mean square", 0),
    CHI_FLOAT(struct adamw, weight_decay, "0.1", 0, 100, "pull to zero, times the learning rate; on linears only", 0),
    CHI_OPTIONS_END
};

static const char *const moments[] = { "m", "v" };

static const struct chi_optimizer_ops ops = {
    .struct_size = sizeof ops, .moments = 2, .moment_names = moments, .update = update,
};

static const struct chi_component adamw = {
    .struct_size = sizeof adamw, .kind = CHI_OPTIMIZER, .name = "adamw", .revision = 1,
    .summary = "Adam with decoupled weight decay", .papers = "1412.6980 1711.05101",
    .options = options, .conf_size = sizeof(struct adamw), .ops = &ops,
};

CHI_PLUGIN(adamw, .version = "1.0", .license = "MIT",
           .summary = "Adam with decoupled weight decay",
           .components = CHI_COMPONENTS(&adamw));
