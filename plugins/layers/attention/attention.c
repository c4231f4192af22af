/* attention.c - causal softmax attention (arXiv 1706.03762) with rotary positions
 * (arXiv 2104.09864), all of the past or a sliding window of it.  Per head:
 *
 *     q, k = rope(W x, position),  v = W x
 *     y_t  = W_o sum_j softmax_j(q_t . k_j / sqrt(D)) v_j,   t - window < j <= t
 *
 * The baseline against which recurrent mixers are measured: the only one whose
 * state and time grow with what it remembers.  A stream's state is `window` rows of
 * k and v, used as a ring, or max_context rows when the window is 0.
 *
 * A row's scores are taken key by key from the oldest on, wherever the key lies (in
 * the state or among the rows of the call), so that any cut of a stream gives the
 * same bits.                                                                    */
#include <chimera/plugin.h>

#include <math.h>
#include <string.h>

struct attention_conf {
    int64_t num_heads, head_dim, window, max_context;
    double  rope_theta;
};

static const struct chi_option options[] = {
    CHI_INT(struct attention_conf, num_heads, "4", 1, 1024, "number of heads", CHI_OPT_SHAPE),
    CHI_INT(struct attention_conf, head_dim, "64", 2, 1024, "channels of a head; even",
            CHI_OPT_SHAPE),
    CHI_INT(struct attention_conf, window, "0", 0, 1 << 24,
            "tokens that a token sees, itself included; 0 means all", CHI_OPT_SHAPE),
    CHI_INT(struct attention_conf, max_context, "4096", 1, 1 << 24,
            "longest stream when window is 0; rows of k and v in its state", CHI_OPT_RUNTIME),
    CHI_FLOAT(struct attention_conf, rope_theta, "10000", 1, 1e12,
              "base of the wavelengths of the rotary positions", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

enum { BLOCK = 16 };                        /* rows of a task                    */
enum { SMALL = 1 << 15 };                   /* values of k that need no second task */

struct attention {
    int64_t heads, dim, inner;
    int64_t window;                         /* INT64_MAX: all                    */
    int64_t slots;                          /* rows of k and v in the state      */
    float   scale;
    uint64_t *turns;                        /* [D/2] turn of a position, in 2^-64 turns */
    const struct chi_linear *in[3], *out;   /* q, k, v                           */
    int64_t k, v;                           /* state [slots][inner]              */
    int64_t row[3], o;                      /* arrays: q, k (turned), v; sum, all kept */
    int64_t drow[3], dout;                  /* training                          */
};

static chi_status check_conf(const struct chi_host *h, const void *conf)
{
    const struct attention_conf *c = conf;
    if (c->head_dim % 2)
        return h->fail(h, CHI_ECONF, "head_dim = %lld: rotary positions turn pairs of channels; "
                       "choose an even number", (long long)c->head_dim);
    return CHI_OK;
}

/* A position turns pair j by theta^(-2j/D) radians.  As a 64-bit fraction of a full
 * turn the angle of any position is one wrapping multiplication, exact and the same
 * everywhere, with no range to reduce.                                          */
static chi_status plan_turns(const struct chi_host *host, struct attention *s, double theta)
{
    int64_t pairs = s->dim / 2;
    s->turns = host->alloc(host, (size_t)pairs * sizeof *s->turns);
    if (!s->turns) return CHI_ENOMEM;
    for (int64_t j = 0; j < pairs; j++) {
        double radians = pow(theta, -2.0 * (double)j / (double)s->dim);
        s->turns[j] = (uint64_t)(radians / 6.283185307179586477 * 18446744073709551616.0);
    }
    return CHI_OK;
}

static chi_status attention_open(const struct chi_host *host, void *self, const void *conf,
                                 const struct chi_shape *shape, const struct chi_plan_ops *ops,
                                 struct chi_plan *plan)
{
    static const char *const name[] = { "q_proj", "k_proj", "v_proj" };
    static const char *const array[] = { "q", "k", "v" }, *const darray[] = { "dq", "dk", "dv" };
    const struct attention_conf *c = conf;
    struct attention *s = self;

    s->heads  = c->num_heads;
    s->dim    = c->head_dim;
    s->inner  = s->heads * s->dim;
    s->window = c->window ? c->window : INT64_MAX;
    s->slots  = c->window ? c->window : c->max_context;
    s->scale  = (float)(1 / sqrt((double)s->dim));
    for (int i = 0; i < 3; i++) {
        s->in[i]  = ops->linear(plan, name[i], s->inner, shape->d_in, 0);
        s->row[i] = ops->array(plan, array[i], CHI_F32, s->inner, CHI_PER_ROW, CHI_ARRAY_KEEP);
    }
    s->out = ops->linear(plan, "o_proj", shape->d_out, s->inner, 0);
    s->o   = ops->array(plan, "o", CHI_F32, s->inner, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->k   = ops->state(plan, "k", CHI_F32, s->slots * s->inner);
    s->v   = ops->state(plan, "v", CHI_F32, s->slots * s->inner);
    if (shape->training) {
        for (int i = 0; i < 3; i++)
            s->drow[i] = ops->array(plan, darray[i], CHI_F32, s->inner, CHI_PER_ROW, 0);
        s->dout = ops->array(plan, "dout", CHI_F32, s->inner, CHI_PER_ROW, 0);
    }
    ops->scratch(plan, 2 * ((s->slots * 4 + 63) & ~(int64_t)63) + ((s->dim * 4 + 63) & ~(int64_t)63));
    return plan_turns(host, s, c->rope_theta);
}

/* ---- rotary positions ----------------------------------------------------------- */

/* cos and sin of phase/2^64 turns: the nearest quarter turn, and Taylor series of
 * the rest, |r| <= pi/4, whose first dropped terms are below 1e-12.             */
static void cos_sin(uint64_t phase, float *cosine, float *sine)
{
    uint64_t quarter = (phase + (UINT64_C(1) << 61)) >> 62;
    int64_t rest = (int64_t)(phase - (quarter << 62));
    double r = (double)rest * (1.57079632679489661923 / 4611686018427387904.0), z = r * r;
    double s = r * (1 + z * (-1 / 6.0 + z * (1 / 120.0 + z * (-1 / 5040.0
               + z * (1 / 362880.0 + z * (-1 / 39916800.0 + z * (1 / 6227020800.0)))))));
    double c = 1 + z * (-1 / 2.0 + z * (1 / 24.0 + z * (-1 / 720.0
               + z * (1 / 40320.0 + z * (-1 / 3628800.0 + z * (1 / 479001600.0
               + z * (-1 / 87178291200.0)))))));
    double cs[] = { c, -s, -c, s }, sn[] = { s, c, -s, -c };
    *cosine = (float)cs[quarter & 3];
    *sine   = (float)sn[quarter & 3];
}

/* (a, b) = (x_j, x_{j + D/2}) becomes (a cos - b sin, a sin + b cos) in every head;
 * back turns the other way, which is the transpose.                            */
static void turn_row(const struct attention *s, float *x, const float *cosine,
                     const float *sine, bool back)
{
    int64_t half = s->dim / 2;
    float sign = back ? -1.0f : 1.0f;
    for (float *a = x; a < x + s->inner; a += s->dim)
        for (int64_t j = 0; j < half; j++) {
            float p = a[j], q = a[j + half], sn = sign * sine[j];
            a[j]        = p * cosine[j] - q * sn;
            a[j + half] = p * sn + q * cosine[j];
        }
}

struct job {
    const struct attention *s;
    struct chi_run *r;
    int64_t group, groups;                  /* heads of a task, tasks of a row block */
    bool    back;
};

/* The segment of a row, looked for from *seg on                                 */
static const struct chi_segment *segment_of(const struct chi_run *r, int64_t row, int64_t *seg)
{
    while (row >= r->seg[*seg].first + r->seg[*seg].rows) ++*seg;
    return &r->seg[*seg];
}

static int64_t block_end(const struct chi_run *r, int64_t block)
{
    int64_t end = (block + 1) * BLOCK;
    return end < r->rows ? end : r->rows;
}

static void turn_block(void *arg, int64_t block, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct attention *s = j->s;
    const int64_t *array = j->back ? s->drow : s->row;
    float *cosine = chi_take(scratch, (size_t)s->dim * sizeof(float)), *sine = cosine + s->dim / 2;

    for (int64_t row = block * BLOCK, seg = 0; row < block_end(j->r, block); row++) {
        const struct chi_segment *g = segment_of(j->r, row, &seg);
        uint64_t pos = (uint64_t)(g->pos + row - g->first);
        for (int64_t p = 0; p < s->dim / 2; p++) cos_sin(pos * s->turns[p], &cosine[p], &sine[p]);
        for (int i = 0; i < 2; i++)
            turn_row(s, CHI_ARRAY(j->r, array[i], float) + row * s->inner, cosine, sine, j->back);
    }
}

/* ---- one row of one head ---------------------------------------------------------- */

/* The keys that the token at position t sees: those before g->pos lie in the state,
 * the others among the rows of the call.                                       */
static int64_t oldest(const struct attention *s, int64_t t)
{
    return t - s->window + 1 > 0 && s->window != INT64_MAX ? t - s->window + 1 : 0;
}

/* k (i = 1) or v (i = 2) of a position; at is the head's first channel          */
static float *past(const struct attention *s, const struct chi_run *r,
                   const struct chi_segment *g, int i, int64_t pos, int64_t at)
{
    if (pos >= g->pos)
        return CHI_ARRAY(r, s->row[i], float) + (g->first + pos - g->pos) * s->inner + at;
    return CHI_STATE(g, i == 1 ? s->k : s->v, float) + pos % s->slots * s->inner + at;
}

/* p[0..n) = softmax(q . k_j scale) over the n visible keys; returns n          */
static int64_t weights(const struct attention *s, const struct chi_run *r,
                       const struct chi_segment *g, int64_t t, int64_t at, float *p)
{
    const float *q = CHI_ARRAY(r, s->row[0], float) + (g->first + t - g->pos) * s->inner + at;
    int64_t from = oldest(s, t), n = t - from + 1;

    for (int64_t j = 0; j < n; j++)
        p[j] = r->h->k->dot(q, past(s, r, g, 1, from + j, at), s->dim) * s->scale;
    r->h->k->softmax(p, p, n);
    return n;
}

static void attend(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct attention *s = j->s;
    int64_t block = i / j->groups, first = i % j->groups * j->group, end = first + j->group;
    float *p = chi_take(scratch, (size_t)s->slots * sizeof(float));

    for (int64_t head = first; head < end && head < s->heads; head++)
        for (int64_t row = block * BLOCK, seg = 0; row < block_end(j->r, block); row++) {
            const struct chi_segment *g = segment_of(j->r, row, &seg);
            int64_t at = head * s->dim, t = g->pos + row - g->first, from = oldest(s, t);
            int64_t n = weights(s, j->r, g, t, at, p);
            float *o = CHI_ARRAY(j->r, s->o, float) + row * s->inner + at;

            memset(o, 0, (size_t)s->dim * sizeof(float));
            for (int64_t key = 0; key < n; key++)
                j->r->h->k->axpy(o, p[key], past(s, j->r, g, 2, from + key, at), s->dim);
        }
}

/* ---- calls ----------------------------------------------------------------------- */

/* Every stream must fit; nothing is touched before this is known                */
static chi_status check_room(const struct attention *s, const struct chi_run *r)
{
    if (s->window != INT64_MAX) return CHI_OK;
    for (int64_t i = 0; i < r->n_seg; i++) {
        long long end = (long long)(r->seg[i].pos + r->seg[i].rows);
        if (end > s->slots)
            return r->h->fail(r->h, CHI_EREFUSED, "attention over all tokens would reach position "
                              "%lld of a stream, but max_context is %lld: set max_context = %lld "
                              "or more, or a window", end, (long long)s->slots, end);
    }
    return CHI_OK;
}

/* The last rows of the call go into the state, if there is one (layer.h, NO_TRAIL) */
static void remember(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct attention *s = j->s;
    const struct chi_segment *g = &j->r->seg[i];
    int64_t end = g->pos + g->rows, n = g->rows < s->slots ? g->rows : s->slots;

    (void)scratch;
    for (int64_t pos = end - n; g->state && pos < end; pos++) {
        int64_t slot = pos % s->slots * s->inner;
        size_t bytes = (size_t)s->inner * sizeof(float);
        memcpy(CHI_STATE(g, s->k, float) + slot, past(s, j->r, g, 1, pos, 0), bytes);
        memcpy(CHI_STATE(g, s->v, float) + slot, past(s, j->r, g, 2, pos, 0), bytes);
    }
}

static int64_t n_blocks(const struct chi_run *r)
{
    return (r->rows + BLOCK - 1) / BLOCK;
}

/* All heads in one task when there is little to read: short calls, few keys     */
static struct job make_job(const struct attention *s, struct chi_run *r)
{
    int64_t keys = 0;
    for (int64_t i = 0; i < r->n_seg; i++) {
        int64_t n = r->seg[i].pos + r->seg[i].rows;
        keys += r->seg[i].rows * (n < s->slots ? n : s->slots);
    }
    int64_t group = keys / n_blocks(r) * s->inner < SMALL ? s->heads : 1;
    return (struct job){ .s = s, .r = r, .group = group, .groups = s->heads / group };
}

static chi_status attention_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct attention *s = self;
    float *in[3];
    if (r->rows == 0) return CHI_OK;
    chi_status e = check_room(s, r);
    if (e != CHI_OK) return e;

    struct job j = make_job(s, r);
    for (int i = 0; i < 3; i++) in[i] = CHI_ARRAY(r, s->row[i], float);
    e = r->h->linears(s->in, 3, r, x, r->rows, in);
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, n_blocks(r), turn_block, &j);
    r->h->parallel(r->h, n_blocks(r) * j.groups, attend, &j);
    r->h->parallel(r->h, r->n_seg, remember, &j);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->o, float), r->rows, &y);
}

/* Where the gradient of k or v of a position goes: a row of the call, the state
 * before it, or nowhere (NULL)                                                  */
static float *past_grad(const struct attention *s, const struct chi_run *r,
                        const struct chi_segment *g, int i, int64_t pos, int64_t at)
{
    if (pos >= g->pos)
        return CHI_ARRAY(r, s->drow[i], float) + (g->first + pos - g->pos) * s->inner + at;
    if (!g->dstate) return NULL;
    return CHI_DSTATE(g, i == 1 ? s->k : s->v, float) + pos % s->slots * s->inner + at;
}

/* The rows of the call start from the gradient of the slots that they were copied
 * to; what was in those slots before starts from zero.                         */
static void begin_grads(const struct attention *s, const struct chi_run *r,
                        const struct chi_segment *g, int64_t at)
{
    int64_t end = g->pos + g->rows;
    size_t bytes = (size_t)s->dim * sizeof(float);

    for (int64_t pos = g->pos; pos < end; pos++)
        for (int i = 1; i < 3; i++) {
            float *to = past_grad(s, r, g, i, pos, at);
            if (g->dstate && pos >= end - s->slots) {
                float *slot = CHI_DSTATE(g, i == 1 ? s->k : s->v, float)
                              + pos % s->slots * s->inner + at;
                memcpy(to, slot, bytes);
                memset(slot, 0, bytes);
            } else {
                memset(to, 0, bytes);
            }
        }
}

/* p = softmax(z), o = sum p_j v_j:  dp_j = do . v_j;  dv_j += p_j do;
 * dz_j = p_j (dp_j - sum p dp);  dq += dz_j k_j scale;  dk_j += dz_j q scale    */
static void row_back(const struct attention *s, const struct chi_run *r,
                     const struct chi_segment *g, int64_t t, int64_t at, float *p, float *dp)
{
    const struct chi_kernels *k = r->h->k;
    int64_t row = (g->first + t - g->pos) * s->inner + at, from = oldest(s, t);
    const float *q = CHI_ARRAY(r, s->row[0], float) + row;
    const float *dout = CHI_ARRAY(r, s->dout, float) + row;
    float *dq = CHI_ARRAY(r, s->drow[0], float) + row;
    int64_t n = weights(s, r, g, t, at, p);

    for (int64_t j = 0; j < n; j++) dp[j] = k->dot(dout, past(s, r, g, 2, from + j, at), s->dim);
    float mean = k->dot(p, dp, n);
    memset(dq, 0, (size_t)s->dim * sizeof(float));
    for (int64_t j = 0; j < n; j++) {
        float dz = p[j] * (dp[j] - mean) * s->scale;
        float *dk = past_grad(s, r, g, 1, from + j, at), *dv = past_grad(s, r, g, 2, from + j, at);
        k->axpy(dq, dz, past(s, r, g, 1, from + j, at), s->dim);
        if (dk) k->axpy(dk, dz, q, s->dim);
        if (dv) k->axpy(dv, p[j], dout, s->dim);
    }
}

/* A task is one head of one segment: keys collect from their readers in order   */
static void attend_back(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct attention *s = j->s;
    const struct chi_segment *g = &j->r->seg[i / s->heads];
    int64_t at = i % s->heads * s->dim;
    float *p = chi_take(scratch, (size_t)s->slots * sizeof(float));
    float *dp = chi_take(scratch, (size_t)s->slots * sizeof(float));

    begin_grads(s, j->r, g, at);
    for (int64_t t = g->pos; t < g->pos + g->rows; t++) row_back(s, j->r, g, t, at, p, dp);
}

static chi_status attention_backward(const void *self, struct chi_run *r, const float *x,
                                     const float *dy, float *dx)
{
    const struct attention *s = self;
    float *dout = CHI_ARRAY(r, s->dout, float);
    const float *din[3];
    if (r->rows == 0) return CHI_OK;

    struct job j = make_job(s, r);
    memset(dout, 0, (size_t)(r->rows * s->inner) * sizeof(float));
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->o, float), r->rows, &dy, dout);
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, r->n_seg * s->heads, attend_back, &j);
    j.back = true;
    r->h->parallel(r->h, n_blocks(r), turn_block, &j);
    for (int i = 0; i < 3; i++) din[i] = CHI_ARRAY(r, s->drow[i], float);
    return r->h->linears_back(s->in, 3, r, x, r->rows, din, dx);
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct attention),
    .open = attention_open,
    .forward = attention_forward,
    .backward = attention_backward,
};

static const struct chi_component attention = {
    .struct_size = sizeof attention,
    .kind = CHI_LAYER,
    .name = "attention",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE | CHI_LAYER_NO_TRAIL,
    .summary = "causal softmax attention with rotary positions, full or windowed",
    .papers = "1706.03762 2104.09864",
    .options = options,
    .conf_size = sizeof(struct attention_conf),
    .check = check_conf,
    .ops = &ops,
};

CHI_PLUGIN(attention, .version = "1.0", .license = "MIT",
           .summary = "softmax attention, the baseline",
           .components = CHI_COMPONENTS(&attention));
