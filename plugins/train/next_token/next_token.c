/* next_token - cross-entropy of the token that follows.
 *
 *     loss(row)  = lse(x) - x[target],   lse(x) = log(sum over j of e^x[j])
 *     dlogits[j] = scale ( e^x[j] / (sum of e^x) - (j == target) )
 *
 * A row is cut into chunks of 4096 ids: each gives a softmax p_c and its lse_c, and
 * lse = M + log(sum over c of e^(lse_c - M)) with M the largest, in double.  So the loss
 * has the same bits whether the gradient is wanted or not, and needs no memory.  Rows
 * run in parallel; their losses are added in row order in double.  A NaN anywhere in
 * a row makes its loss NaN.                                                          */
#include <chimera/plugin.h>
#include <chimera/train.h>
#include <chimera/math.h>

enum { CHUNK = 4096, BLOCK = 1024, TASK = 8 };      /* ids; rows of a loop, of a task */

struct work {
    const struct chi_kernels *k;
    const float   *logits;                  /* [rows, vocab]                          */
    const int32_t *target;
    float         *dlogits;                 /* or NULL                                */
    int64_t        rows, vocab;
    double         scale;
    double         loss[BLOCK];
};

/* log(e^a + e^b) without overflow; NaN if either is                                   */
static double log_add(double a, double b)
{
    double hi = a > b ? a : b, lo = a > b ? b : a;
    if (lo == -INFINITY) return hi;
    return hi + (double)chi_log(1.0f + chi_exp((float)(lo - hi)));
}

/* p = e^(x - lse), returns lse = log(sum of e^x).  Nothing but -inf has lse -inf and p 0 */
static double chunk_softmax(const struct chi_kernels *k, const float *x, int64_t n, float *p)
{
    int64_t j = 0;
    while (j < n && x[j] == -INFINITY) j++;
    if (j < n) return k->softmax(p, x, n);
    for (j = 0; j < n; j++) p[j] = 0;
    return -INFINITY;
}

/* lse of x[n]; n > CHUNK: over chunks in order                                        */
static double row_lse(const struct chi_kernels *k, const float *x, int64_t n)
{
    float p[CHUNK];
    double lse = chunk_softmax(k, x, n < CHUNK ? n : CHUNK, p);
    for (int64_t c = CHUNK; c < n; c += CHUNK)
        lse = log_add(lse, chunk_softmax(k, x + c, n - c < CHUNK ? n - c : CHUNK, p));
    return lse;
}

/* d[n] = scale e^(x - lse); in place                                                  */
static double row_softmax(const struct chi_kernels *k, const float *x, int64_t n,
                          double scale, float *d)
{
    double lse = n > CHUNK ? row_lse(k, x, n) : 0;
    for (int64_t c = 0; c < n; c += CHUNK) {
        int64_t m = n - c < CHUNK ? n - c : CHUNK;
        double l = chunk_softmax(k, x + c, m, d + c);
        if (n <= CHUNK) lse = l;
        float f = (float)scale * chi_exp((float)(l - lse));
        for (int64_t j = c; j < c + m; j++) d[j] *= f;
    }
    return lse;
}

static double row_loss(const struct work *w, int64_t row)
{
    const float *x = w->logits + row * w->vocab;
    float *d = w->dlogits ? w->dlogits + row * w->vocab : NULL;
    int32_t target = w->target[row];
    if (target < 0) {
        for (int64_t j = 0; d && j < w->vocab; j++) d[j] = 0;
        return 0;
    }
    double at = x[target], lse;             /* read before x may be overwritten       */
    if (!d) return row_lse(w->k, x, w->vocab) - at;
    lse = row_softmax(w->k, x, w->vocab, w->scale, d);
    d[target] -= (float)w->scale;
    return lse - at;
}

static void rows_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    struct work *w = arg;
    (void)scratch;
    for (int64_t r = i * TASK; r < w->rows && r < (i + 1) * TASK; r++)
        w->loss[r] = row_loss(w, r);
}

static chi_status loss(const struct chi_host *h, const void *conf, const float *logits,
                       const int32_t *target, int64_t rows, int64_t vocab, double scale,
                       float *dlogits, double *sum)
{
    (void)conf;
    for (int64_t r = 0; r < rows; r++)
        if (target[r] >= vocab)
            return h->fail(h, CHI_EDATA, "target %d is outside the vocabulary of %lld ids",
                           (int)target[r], (long long)vocab);
    for (int64_t at = 0; at < rows; at += BLOCK) {
        struct work w = {
            .k = h->k, .logits = logits + at * vocab, .target = target + at,
            .dlogits = dlogits ? dlogits + at * vocab : NULL,
            .rows = rows - at < BLOCK ? rows - at : BLOCK, .vocab = vocab, .scale = scale,
        };
        h->parallel(h, (w.rows + TASK - 1) / TASK, rows_task, &w);
        for (int64_t r = 0; r < w.rows; r++) *sum += w.loss[r];
    }
    return CHI_OK;
}

static const struct chi_objective_ops ops = { .struct_size = sizeof ops, .loss = loss };

static const struct chi_component next_token = {
    .struct_size = sizeof next_token, .kind = CHI_OBJECTIVE, .name = "next_token",
    .revision = 1, .summary = "cross-entropy of the token that follows", .ops = &ops,
};

CHI_PLUGIN(next_token, .version = "1.0", .license = "MIT",
           .summary = "cross-entropy of the token that follows",
           .components = CHI_COMPONENTS(&next_token));
