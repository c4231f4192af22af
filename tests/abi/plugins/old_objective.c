/* old_objective.c - the loss and its gradient, in formulas; why; the source.
 *
 * This one is cross-entropy with smoothed targets (arXiv 1512.00567, section 7): the right token
 * gets 1 - e, and e is spread evenly over the V tokens of the vocabulary.
 *
 *     loss(row)  = lse(x) - (1 - e) x[target] - e mean(x),   lse(x) = log(sum over j of e^x[j])
 *     dlogits[j] = scale (softmax(x)[j] - (1 - e) (j == target) - e / V)                      */
#include <chimera/plugin.h>
#include <chimera/train.h>

#include <math.h>

struct conf {                               /* what [objective] says; the core fills it   */
    double smoothing;
};

static const struct chi_option options[] = {
    CHI_FLOAT(struct conf, smoothing, "0.1", 0, 0.99, "share of the target that all tokens have together", 0),
    CHI_OPTIONS_END
};

/* lse(x) - (1 - e) x[target] - e mean(x), in double                                          */
static double row_loss(const float *x, int64_t vocab, int32_t target, double e)
{
    double max = -INFINITY, sum = 0, mean = 0;
    for (int64_t j = 0; j < vocab; j++) {
        if ((double)x[j] > max) max = (double)x[j];
        mean += (double)x[j] / (double)vocab;
    }
    for (int64_t j = 0; j < vocab; j++) sum += exp((double)x[j] - max);
    double loss = max + log(sum) - (1 - e) * (double)x[target];
    return e > 0 ? loss - e * mean : loss;
}

static chi_status loss(const struct chi_host *h, const void *conf, const float *logits, const int32_t *target,
                       int64_t rows, int64_t vocab, double scale, float *dlogits, double *sum)
{
    double e = ((const struct conf *)conf)->smoothing;
    for (int64_t r = 0; r < rows; r++)
        if (target[r] >= vocab)
            return h->fail(h, CHI_EDATA, "target %d is outside the vocabulary of %lld ids", (int)target[r],
                           (long long)vocab);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = logits + r * vocab;
        float *d = dlogits ? dlogits + r * vocab : NULL;
        bool scored = target[r] >= 0;
        if (scored) *sum += row_loss(x, vocab, target[r], e);       /* before d overwrites x    */
        if (d && scored) h->k->softmax(d, x, vocab);
        for (int64_t j = 0; d && j < vocab; j++)
            d[j] = scored ? (float)(scale * ((double)d[j] - (1 - e) * (j == target[r]) - e / (double)vocab)) : 0;
    }
    return CHI_OK;
}

static const struct chi_objective_ops ops = { .struct_size = sizeof ops, .loss = loss };

static const struct chi_component component = {
    .struct_size = sizeof component, .kind = CHI_OBJECTIVE, .name = "old_objective", .revision = 1,
    .summary = "cross-entropy with smoothed targets", .papers = "1512.00567",
    .options = options, .conf_size = sizeof(struct conf), .ops = &ops,
};

CHI_PLUGIN(old_objective, .version = "0.1", .license = "MIT", .summary = "cross-entropy with smoothed targets",
           .components = CHI_COMPONENTS(&component));
