/* old_optimizer.c - how a step moves the weights, in formulas; why; the source.
 *
 * This one is Lion (arXiv 2302.06675, algorithm 2): the sign of a moving average.
 *
 *     g' = clip g
 *     w -= lr (sign(beta1 m + (1 - beta1) g') + weight_decay w)
 *     m  = beta2 m + (1 - beta2) g'
 *
 * Every value is on its own, so the cut into pieces changes no bit.                          */
#include <chimera/plugin.h>
#include <chimera/train.h>

struct conf {                               /* what [optimizer] says; the core fills it  */
    double beta1, beta2, weight_decay;
};

static const struct chi_option options[] = {
    CHI_FLOAT(struct conf, beta1, "0.9", 0, 0.999999, "share of the past in the direction", 0),
    CHI_FLOAT(struct conf, beta2, "0.99", 0, 0.999999, "decay of the mean of gradients", 0),
    CHI_FLOAT(struct conf, weight_decay, "0.1", 0, 100, "pull to zero, times the learning rate; on linears only", 0),
    CHI_OPTIONS_END
};

enum { PIECE = 16384 };                     /* values of a task                          */

struct job {
    const struct chi_slice *slice;
    float beta1, beta2, lr, decay, clip;
};

static void piece(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct chi_slice *s = j->slice;
    int64_t end = (i + 1) * PIECE < s->n ? (i + 1) * PIECE : s->n;
    float decay = s->decay ? j->decay : 0;
    (void)scratch;

    for (int64_t k = i * PIECE; k < end; k++) {
        float g = j->clip * s->g[k], d = j->beta1 * s->m[k] + (1 - j->beta1) * g;
        s->w[k] -= j->lr * ((float)((d > 0) - (d < 0)) + decay * s->w[k]);
        s->m[k] = j->beta2 * s->m[k] + (1 - j->beta2) * g;
    }
}

static chi_status update(const struct chi_host *h, const void *conf, const struct chi_slice *slice, int64_t n_slices,
                         int64_t step, double lr, double clip)
{
    const struct conf *c = conf;
    struct job j = { .beta1 = (float)c->beta1, .beta2 = (float)c->beta2, .lr = (float)lr,
                     .decay = (float)c->weight_decay, .clip = (float)clip };
    (void)step;                             /* nothing depends on how many there were    */
    for (int64_t i = 0; i < n_slices; i++) {
        j.slice = &slice[i];
        h->parallel(h, (slice[i].n + PIECE - 1) / PIECE, piece, &j);
    }
    return CHI_OK;
}

static const char *const moments[] = { "m" };

static const struct chi_optimizer_ops ops = {
    .struct_size = sizeof ops, .moments = 1, .moment_names = moments, .update = update,
};

static const struct chi_component component = {
    .struct_size = sizeof component, .kind = CHI_OPTIMIZER, .name = "old_optimizer", .revision = 1,
    .summary = "the sign of a moving average (Lion)", .papers = "2302.06675",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(old_optimizer, .version = "0.1", .license = "MIT", .summary = "the sign of a moving average (Lion)",
           .components = CHI_COMPONENTS(&component));
