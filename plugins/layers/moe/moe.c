/* moe.c - a mixture of SwiGLU experts that balances itself without an auxiliary loss
 * (arXiv 2408.15664; gate and shared experts as in 2412.19437; names in layers.md):
 *
 *     s_e = sigmoid(gate_e x);   chosen = the K experts of the largest s_e + b_e
 *     w_e = route_scale s_e / (sum of s over the chosen + 1e-20)
 *     y   = shared(x) + sum over the chosen of w_e FFN_e(x)
 *
 * The bias b only tilts the choice; the weights come from s alone and b has no gradient.
 * backward() collects in b's gradient slot how many rows each expert had, over all calls of
 * a step, and settle() then moves b_e by bias_update towards the mean.
 *
 * Dispatch: a counting sort by expert makes one list of (row, choice); each expert that
 * anybody chose gets its rows gathered, and no other expert's weights are read.  A row adds
 * its experts in the order of their index, so its bits depend on no other row.          */
#include <chimera/math.h>
#include <chimera/plugin.h>

#include <stdio.h>
#include <string.h>

struct moe_conf {
    int64_t n_routed_experts, n_shared_experts, num_experts_per_tok, moe_intermediate_size;
    double  bias_update, route_scale;
};

static const struct chi_option options[] = {
    CHI_INT(struct moe_conf, n_routed_experts, "16", 1, 1024, "experts to choose from", CHI_OPT_SHAPE),
    CHI_INT(struct moe_conf, n_shared_experts, "1", 0, 64,
            "experts that every row passes, as one of this many times the width", CHI_OPT_SHAPE),
    CHI_INT(struct moe_conf, num_experts_per_tok, "2", 1, 64, "experts chosen for a row", CHI_OPT_SHAPE),
    CHI_INT(struct moe_conf, moe_intermediate_size, NULL, 1, 1 << 20,
            "width inside one expert", CHI_OPT_SHAPE | CHI_OPT_REQUIRED),
    CHI_FLOAT(struct moe_conf, bias_update, "1e-3", 0, 1,
              "how far a step moves the bias that balances experts", 0),
    CHI_FLOAT(struct moe_conf, route_scale, "1.0", 0, 1000,
              "factor on the weights of the chosen", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

static chi_status moe_check(const struct chi_host *h, const void *conf)
{
    const struct moe_conf *c = conf;
    if (c->num_experts_per_tok > c->n_routed_experts)
        return h->fail(h, CHI_ECONF, "num_experts_per_tok = %lld, but there are n_routed_experts = %lld to "
                       "choose from", (long long)c->num_experts_per_tok, (long long)c->n_routed_experts);
    return CHI_OK;
}

struct ffn {
    const struct chi_linear *in[2], *down;          /* gate, up                  */
    int64_t width;                                  /* 0: there is none          */
};

/* n experts, k chosen a row.  "slot" t k + j is the j-th choice of row t; "place" is where
 * the sort put it.                                                              */
struct moe {
    const struct chi_host *host;
    const struct chi_tally *tally;                  /* NULL: this host keeps none */
    int64_t d, n, k;
    float   route_scale, bias_update;
    const struct chi_linear *router;                /* [n, d], f32               */
    int64_t bias;                                   /* param [n]                 */
    struct ffn shared, *expert;                     /* expert[n]                 */
    int64_t logits;                                 /* [rows, n], then scores    */
    int64_t chosen, score, weight;                  /* [rows, k], by slot        */
    int64_t slot, place;                            /* [rows, k]: of a place; of a slot */
    int64_t first;                                  /* [n + 1]: places of expert e
                                                       are first[e] .. first[e+1]-1 */
    int64_t gate, up, out;                          /* [rows k, width | d] by place */
    int64_t shared_gate, shared_up;                 /* [rows, shared.width]      */
    int64_t load;                                   /* [n]: rows of each expert  */
    int64_t x, h;                                   /* of one expert: [rows, d | widest] */
    int64_t dout, dx, dh, dgate, dup;               /* likewise, training only   */
};

enum { BLOCK = 16384 };                             /* values that a task does   */

/* ---- plan ------------------------------------------------------------------------ */

static struct ffn ffn_plan(const struct chi_plan_ops *p, struct chi_plan *plan, const char *prefix, int64_t d,
                           int64_t width)
{
    struct ffn f = { .width = width };
    char name[64];
    snprintf(name, sizeof name, "%s.gate_proj", prefix);
    f.in[0] = p->linear(plan, name, width, d, 0);
    snprintf(name, sizeof name, "%s.up_proj", prefix);
    f.in[1] = p->linear(plan, name, width, d, 0);
    snprintf(name, sizeof name, "%s.down_proj", prefix);
    f.down = p->linear(plan, name, d, width, 0);
    return f;
}

static void plan_arrays(struct moe *m, int64_t width, bool training, const struct chi_plan_ops *p,
                        struct chi_plan *plan)
{
    int64_t widest = m->shared.width > width ? m->shared.width : width;
    m->logits = p->array(plan, "logits", CHI_F32, m->n, CHI_PER_ROW, 0);
    m->chosen = p->array(plan, "chosen", CHI_I32, m->k, CHI_PER_ROW, CHI_ARRAY_KEEP);
    m->score  = p->array(plan, "score", CHI_F32, m->k, CHI_PER_ROW, CHI_ARRAY_KEEP);
    m->weight = p->array(plan, "weight", CHI_F32, m->k, CHI_PER_ROW, CHI_ARRAY_KEEP);
    m->slot   = p->array(plan, "slot", CHI_I64, m->k, CHI_PER_ROW, CHI_ARRAY_KEEP);
    m->place  = p->array(plan, "place", CHI_I64, m->k, CHI_PER_ROW, CHI_ARRAY_KEEP);
    m->first  = p->array(plan, "first", CHI_I64, m->n + 1, CHI_PER_CALL, CHI_ARRAY_KEEP);
    m->load   = p->array(plan, "load", CHI_I64, m->n, CHI_PER_CALL, 0);
    m->gate   = p->array(plan, "gate", CHI_F32, m->k * width, CHI_PER_ROW, CHI_ARRAY_KEEP);
    m->up     = p->array(plan, "up", CHI_F32, m->k * width, CHI_PER_ROW, CHI_ARRAY_KEEP);
    m->out    = p->array(plan, "out", CHI_F32, m->k * m->d, CHI_PER_ROW, CHI_ARRAY_KEEP);
    if (m->shared.width) {
        m->shared_gate = p->array(plan, "shared_gate", CHI_F32, m->shared.width, CHI_PER_ROW, CHI_ARRAY_KEEP);
        m->shared_up   = p->array(plan, "shared_up", CHI_F32, m->shared.width, CHI_PER_ROW, CHI_ARRAY_KEEP);
    }
    m->x = p->array(plan, "x", CHI_F32, m->d, CHI_PER_ROW, 0);
    m->h = p->array(plan, "h", CHI_F32, widest, CHI_PER_ROW, 0);
    p->scratch(plan, m->n > 4 * m->k ? m->n : 4 * m->k);
    if (!training) return;
    m->dout  = p->array(plan, "dout", CHI_F32, m->d, CHI_PER_ROW, 0);
    m->dx    = p->array(plan, "dx", CHI_F32, m->d, CHI_PER_ROW, 0);
    m->dh    = p->array(plan, "dh", CHI_F32, widest, CHI_PER_ROW, 0);
    m->dgate = p->array(plan, "dgate", CHI_F32, widest, CHI_PER_ROW, 0);
    m->dup   = p->array(plan, "dup", CHI_F32, widest, CHI_PER_ROW, 0);
}

static chi_status moe_open(const struct chi_host *host, void *self, const void *conf,
                           const struct chi_shape *shape, const struct chi_plan_ops *p,
                           struct chi_plan *plan)
{
    const struct moe_conf *c = conf;
    struct moe *m = self;
    char name[32];

    if (shape->d_in != shape->d_out)
        return host->fail(host, CHI_ESHAPE, "input %lld and output %lld wide: a mixture of experts keeps the width",
                          (long long)shape->d_in, (long long)shape->d_out);
    *m = (struct moe){ .host = host, .d = shape->d_in, .n = c->n_routed_experts, .k = c->num_experts_per_tok,
                       .route_scale = (float)c->route_scale, .bias_update = (float)c->bias_update,
                       .tally = host->service(host, "chimera.tally/1") };
    m->expert = host->alloc(host, (size_t)m->n * sizeof *m->expert);
    if (!m->expert) return CHI_ENOMEM;
    m->router = p->linear(plan, "gate", m->n, m->d, CHI_LINEAR_F32);
    m->bias = p->param(plan, "gate.e_score_correction_bias", (int64_t[]){ m->n, 0 }, CHI_INIT_ZERO, 0, 0,
                       CHI_PARAM_MANUAL);
    if (c->n_shared_experts)
        m->shared = ffn_plan(p, plan, "shared_experts", m->d, c->n_shared_experts * c->moe_intermediate_size);
    p->choice(plan, m->k, m->n);
    for (int64_t e = 0; e < m->n; e++) {
        snprintf(name, sizeof name, "experts.%d", (int)e);
        m->expert[e] = ffn_plan(p, plan, name, m->d, c->moe_intermediate_size);
    }
    p->choice(plan, 1, 1);
    plan_arrays(m, c->moe_intermediate_size, shape->training, p, plan);
    return CHI_OK;
}

/* ---- one call --------------------------------------------------------------------- */

/* A call's arrays, and the rows of the expert that is at work                       */
struct job {
    const struct moe *m;
    const struct chi_kernels *k;
    const float *bias, *x, *dy;
    float   *logits, *y, *dx;
    int32_t *chosen;
    float   *score, *weight, *out;
    int64_t *slot, *place, *first;
    float   *some_x, *some_dy, *some_dx;            /* [n, d] gathered, dx to be scattered */
    int64_t  at, n;                                 /* first place and number of its rows */
};

static struct job make_job(const struct moe *m, const struct chi_run *r)
{
    return (struct job){
        .m = m, .k = r->h->k, .bias = CHI_PARAM(r, m->bias, float), .logits = CHI_ARRAY(r, m->logits, float),
        .chosen = CHI_ARRAY(r, m->chosen, int32_t), .score = CHI_ARRAY(r, m->score, float),
        .weight = CHI_ARRAY(r, m->weight, float), .out = CHI_ARRAY(r, m->out, float),
        .slot = CHI_ARRAY(r, m->slot, int64_t), .place = CHI_ARRAY(r, m->place, int64_t),
        .first = CHI_ARRAY(r, m->first, int64_t), .some_x = CHI_ARRAY(r, m->x, float), .n = r->rows,
    };
}

/* task over j->n rows, block_rows() of them at a time                               */
static int64_t block_rows(const struct moe *m)
{
    return m->d < BLOCK ? BLOCK / m->d : 1;
}

static int64_t block_end(const struct job *j, int64_t i)
{
    int64_t end = (i + 1) * block_rows(j->m);
    return end < j->n ? end : j->n;
}

static void for_rows(const struct chi_run *r, chi_task *task, struct job *j)
{
    int64_t block = block_rows(j->m);
    r->h->parallel(r->h, (j->n + block - 1) / block, task, j);
}

/* ---- routing ------------------------------------------------------------------------ */

/* The k largest s + b: on equal terms the lower index; a NaN is never larger         */
static void choose(const struct moe *m, const float *s, const float *bias, bool *taken)
{
    memset(taken, 0, (size_t)m->n * sizeof *taken);
    for (int64_t j = 0; j < m->k; j++) {
        int64_t best = -1;
        for (int64_t e = 0; e < m->n; e++)
            if (!taken[e] && (best < 0 || s[e] + bias[e] > s[best] + bias[best])) best = e;
        taken[best] = true;
    }
}

/* Choices in the order of their index, and their weights                             */
static void route_row(const struct job *j, int64_t t, bool *taken)
{
    const struct moe *m = j->m;
    float *s = j->logits + t * m->n, *score = j->score + t * m->k, sum = 1e-20f;
    int32_t *chosen = j->chosen + t * m->k;
    int64_t c = 0;

    for (int64_t e = 0; e < m->n; e++) s[e] = chi_sigmoid(s[e]);
    choose(m, s, j->bias, taken);
    for (int64_t e = 0; e < m->n; e++)
        if (taken[e]) {
            chosen[c] = (int32_t)e;
            score[c++] = s[e];
            sum += s[e];
        }
    for (c = 0; c < m->k; c++) j->weight[t * m->k + c] = score[c] / sum * m->route_scale;
}

static void route_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    bool *taken = chi_take(scratch, (size_t)j->m->n * sizeof *taken);
    for (int64_t t = i * block_rows(j->m); t < block_end(j, i); t++) route_row(j, t, taken);
}

/* Counting sort of the slots by expert; within an expert the order of rows           */
static void sort_slots(const struct job *j)
{
    const struct moe *m = j->m;
    int64_t slots = j->n * m->k, *first = j->first;
    memset(first, 0, (size_t)(m->n + 1) * sizeof *first);
    for (int64_t s = 0; s < slots; s++) first[j->chosen[s] + 1]++;
    for (int64_t e = 0; e < m->n; e++) first[e + 1] += first[e];
    for (int64_t s = 0; s < slots; s++) {
        j->place[s] = first[j->chosen[s]]++;
        j->slot[j->place[s]] = s;
    }
    memmove(first + 1, first, (size_t)m->n * sizeof *first);     /* each was moved to its end */
    first[0] = 0;
}

/* For MaxVio over all that a measurement reads                                       */
static void tally_loads(const struct chi_run *r, const struct job *j)
{
    const struct moe *m = j->m;
    int64_t *load = CHI_ARRAY(r, m->load, int64_t);
    if (!m->tally) return;
    for (int64_t e = 0; e < m->n; e++) load[e] = j->first[e + 1] - j->first[e];
    m->tally->add(r->h, "moe_global_load_balance", load, m->n);
}

/* ---- feed-forward networks ------------------------------------------------------------ */

/* The values between the linears of one network, all its rows in one run of floats     */
struct between {
    const struct chi_kernels *k;
    int64_t n;
    const float *gate, *up;
    float *h, *dh, *dgate, *dup;
};

static int64_t block_size(const struct between *b, int64_t i)
{
    int64_t left = b->n - i * BLOCK;
    return left < BLOCK ? left : BLOCK;
}

static void multiply(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct between *b = arg;
    int64_t at = i * BLOCK;
    (void)scratch;
    b->k->silu_mul(b->h + at, b->gate + at, b->up + at, block_size(b, i));
}

/* multiply() again, and an empty dh for linears_back() to add to                       */
static void prepare_back(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct between *b = arg;
    multiply(arg, i, scratch);
    memset(b->dh + i * BLOCK, 0, (size_t)block_size(b, i) * sizeof(float));
}

/* h = silu(g) u:  du = silu(g) dh,  dg = silu'(g) u dh                                 */
static void multiply_back(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct between *b = arg;
    int64_t at = i * BLOCK, n = block_size(b, i);
    const float *up = b->up + at, *dh = b->dh + at;
    float *dgate = b->dgate + at;
    (void)scratch;
    for (int64_t c = 0; c < n; c++) dgate[c] = dh[c] * up[c];
    b->k->silu_back(dgate, b->gate + at, dgate, n);
    b->k->silu_mul(b->dup + at, b->gate + at, dh, n);
}

static void for_blocks(const struct chi_run *r, chi_task *task, struct between *b)
{
    r->h->parallel(r->h, (b->n + BLOCK - 1) / BLOCK, task, b);
}

static chi_status ffn_forward(const struct moe *m, const struct ffn *f, struct chi_run *r, const float *x,
                              int64_t rows, float *gate, float *up, float *y)
{
    struct between b = { .k = r->h->k, .n = rows * f->width, .gate = gate, .up = up,
                         .h = CHI_ARRAY(r, m->h, float) };
    chi_status e = r->h->linears(f->in, 2, r, x, rows, (float *[]){ gate, up });
    if (e != CHI_OK) return e;
    for_blocks(r, multiply, &b);
    return r->h->linears(&f->down, 1, r, b.h, rows, &y);
}

/* dx gets added to                                                                      */
static chi_status ffn_backward(const struct moe *m, const struct ffn *f, struct chi_run *r, const float *x,
                               int64_t rows, const float *gate, const float *up, const float *dy, float *dx)
{
    struct between b = {
        .k = r->h->k, .n = rows * f->width, .gate = gate, .up = up, .h = CHI_ARRAY(r, m->h, float),
        .dh = CHI_ARRAY(r, m->dh, float), .dgate = CHI_ARRAY(r, m->dgate, float),
        .dup = CHI_ARRAY(r, m->dup, float),
    };
    for_blocks(r, prepare_back, &b);
    chi_status e = r->h->linears_back(&f->down, 1, r, b.h, rows, &dy, b.dh);
    if (e != CHI_OK) return e;
    for_blocks(r, multiply_back, &b);
    return r->h->linears_back(f->in, 2, r, x, rows, (const float *[]){ b.dgate, b.dup }, dx);
}

/* ---- forward ---------------------------------------------------------------------------- */

static void gather(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t d = j->m->d, k = j->m->k;
    (void)scratch;
    for (int64_t p = i * block_rows(j->m); p < block_end(j, i); p++)
        memcpy(j->some_x + p * d, j->x + j->slot[j->at + p] / k * d, (size_t)d * sizeof(float));
}

/* Each row adds its experts to what the shared one left in y                             */
static void combine(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t d = j->m->d, k = j->m->k;
    (void)scratch;
    for (int64_t t = i * block_rows(j->m); t < block_end(j, i); t++)
        for (int64_t s = t * k; s < (t + 1) * k; s++)
            j->k->axpy(j->y + t * d, j->weight[s], j->out + j->place[s] * d, d);
}

/* The places of expert e; false: nobody chose it                                         */
static bool take_expert(struct job *j, int64_t e)
{
    j->at = j->first[e];
    j->n = j->first[e + 1] - j->at;
    return j->n > 0;
}

static chi_status moe_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct moe *m = self;
    struct job j = make_job(m, r);
    float *gate = CHI_ARRAY(r, m->gate, float), *up = CHI_ARRAY(r, m->up, float);
    j.x = x;
    j.y = y;

    chi_status st = r->h->linears(&m->router, 1, r, x, r->rows, &j.logits);
    if (st != CHI_OK) return st;
    for_rows(r, route_task, &j);
    sort_slots(&j);
    if (!r->keep) tally_loads(r, &j);
    if (m->shared.width)
        st = ffn_forward(m, &m->shared, r, x, r->rows, CHI_ARRAY(r, m->shared_gate, float),
                         CHI_ARRAY(r, m->shared_up, float), y);
    else
        memset(y, 0, (size_t)(r->rows * m->d) * sizeof *y);
    for (int64_t e = 0; e < m->n && st == CHI_OK; e++) {
        if (!take_expert(&j, e)) continue;
        int64_t at = j.at * m->expert[e].width;
        for_rows(r, gather, &j);
        st = ffn_forward(m, &m->expert[e], r, j.some_x, j.n, gate + at, up + at, j.out + j.at * m->d);
    }
    j.n = r->rows;
    if (st == CHI_OK) for_rows(r, combine, &j);
    return st;
}

/* ---- backward ------------------------------------------------------------------------------ */

/* With w = c s / Z, Z the sum of s over the chosen:  dw_e = dy . out_e,
 * ds_e = c/Z (dw_e - sum over the chosen of (s_i / Z) dw_i),  dlogit_e = ds_e s_e (1 - s_e)   */
static void route_back(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct moe *m = j->m;
    float *dw = chi_take(scratch, (size_t)m->k * sizeof *dw);
    for (int64_t t = i * block_rows(m); t < block_end(j, i); t++) {
        const float *s = j->score + t * m->k;
        float *dlogit = j->logits + t * m->n, sum = 1e-20f, mean = 0;
        memset(dlogit, 0, (size_t)m->n * sizeof *dlogit);
        for (int64_t c = 0; c < m->k; c++) {
            dw[c] = j->k->dot(j->dy + t * m->d, j->out + j->place[t * m->k + c] * m->d, m->d);
            sum += s[c];
        }
        for (int64_t c = 0; c < m->k; c++) mean += s[c] / sum * dw[c];
        for (int64_t c = 0; c < m->k; c++)
            dlogit[j->chosen[t * m->k + c]] = m->route_scale / sum * (dw[c] - mean) * s[c] * (1 - s[c]);
    }
}

/* x and w dy of the expert's rows, and an empty dx                                        */
static void gather_back(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t d = j->m->d, k = j->m->k;
    gather(arg, i, scratch);
    for (int64_t p = i * block_rows(j->m); p < block_end(j, i); p++) {
        int64_t slot = j->slot[j->at + p];
        const float *dy = j->dy + slot / k * d;
        for (int64_t c = 0; c < d; c++) j->some_dy[p * d + c] = j->weight[slot] * dy[c];
        memset(j->some_dx + p * d, 0, (size_t)d * sizeof(float));
    }
}

/* A row comes once at most among those of an expert                                      */
static void scatter_back(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t d = j->m->d, k = j->m->k;
    (void)scratch;
    for (int64_t p = i * block_rows(j->m); p < block_end(j, i); p++)
        j->k->axpy(j->dx + j->slot[j->at + p] / k * d, 1, j->some_dx + p * d, d);
}

static chi_status router_backward(const struct moe *m, struct chi_run *r, struct job *j)
{
    const float *dlogits = j->logits;
    for_rows(r, route_back, j);
    if (r->grads)
        for (int64_t e = 0; e < m->n; e++)
            CHI_GRAD(r, m->bias, float)[e] += (float)(j->first[e + 1] - j->first[e]);
    return r->h->linears_back(&m->router, 1, r, j->x, r->rows, &dlogits, j->dx);
}

static chi_status moe_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct moe *m = self;
    struct job j = make_job(m, r);
    const float *gate = CHI_ARRAY(r, m->gate, float), *up = CHI_ARRAY(r, m->up, float);
    j.x = x;
    j.dy = dy;
    j.dx = dx;
    j.some_dy = CHI_ARRAY(r, m->dout, float);
    j.some_dx = CHI_ARRAY(r, m->dx, float);

    chi_status st = r->rows ? router_backward(m, r, &j) : CHI_OK;
    if (st == CHI_OK && m->shared.width)
        st = ffn_backward(m, &m->shared, r, x, r->rows, CHI_ARRAY(r, m->shared_gate, float),
                          CHI_ARRAY(r, m->shared_up, float), dy, dx);
    for (int64_t e = 0; e < m->n && r->rows && st == CHI_OK; e++) {
        if (!take_expert(&j, e)) continue;
        int64_t at = j.at * m->expert[e].width;
        for_rows(r, gather_back, &j);
        st = ffn_backward(m, &m->expert[e], r, j.some_x, j.n, gate + at, up + at, j.some_dy, j.some_dx);
        if (st == CHI_OK) for_rows(r, scatter_back, &j);
    }
    return st;
}

/* ---- balance --------------------------------------------------------------------------------- */

/* load_e rows chose e in this step, mean is their average:  b_e += bias_update sign(mean - load_e).
 * The meter is MaxVio of 2408.15664, max load / mean - 1, of this batch; tally_loads() has the
 * global one.                                                                              */
static void moe_settle(const void *self, unsigned char *params, const unsigned char *grads)
{
    const struct moe *m = self;
    float *bias = (float *)(void *)(params + m->bias);
    const float *load = (const float *)(const void *)(grads + m->bias);
    double sum = 0, most = 0;

    for (int64_t e = 0; e < m->n; e++) {
        sum += (double)load[e];
        most = (double)load[e] > most ? (double)load[e] : most;
    }
    if (!(sum > 0)) return;
    double mean = sum / (double)m->n;
    for (int64_t e = 0; e < m->n; e++) {
        int side = ((double)load[e] < mean) - ((double)load[e] > mean);
        bias[e] += m->bias_update * (float)side;
    }
    m->host->meter(m->host, "moe_expert_load_balance", most / mean - 1);
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct moe),
    .open = moe_open,
    .forward = moe_forward,
    .backward = moe_backward,
    .settle = moe_settle,
};

static const char *const meters[] = { "moe_expert_load_balance", "moe_global_load_balance", NULL };

static const struct chi_component moe = {
    .struct_size = sizeof moe,
    .kind = CHI_LAYER,
    .name = "moe",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_STATELESS | CHI_LAYER_SPLIT_FREE,
    .summary = "a few of many feed-forward networks a row, balanced without an auxiliary loss",
    .papers = "2408.15664 2412.19437 2506.12119",
    .meters = meters,
    .options = options,
    .conf_size = sizeof(struct moe_conf),
    .check = moe_check,
    .ops = &ops,
};

CHI_PLUGIN(moe, .version = "1.0", .license = "MIT",
           .summary = "mixture of experts",
           .components = CHI_COMPONENTS(&moe));
