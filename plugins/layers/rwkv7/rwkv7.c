/* rwkv7.c - the time mixing of RWKV-7 "Goose" (Peng et al., arXiv 2503.14456, section 4).
 *
 * For a row x_t of a stream, x_0 = 0, and m in r, k, v, w, a, g:
 *
 *     x^m = x_t + mu^m (x_{t-1} - x_t)                                token shift
 *     r = W_r x^r;  k = W_k x^k;  v = W_v x^v
 *     w = exp(-e^-1/2 sigmoid(w0 + B_w tanh(A_w x^w)))                decay, in (0.545, 1)
 *     a = sigmoid(a0 + B_a A_a x^a)                                   in-context learning rate
 *     g = B_g sigmoid(A_g x^g)                                        gate
 *
 * and for each head, whose state S is a matrix [head_dim (values), head_dim (keys)], S_0 = 0:
 *
 *     c = k k_k / |k k_k|                                             removal key, kappa^ in the paper
 *     l = k (1 + (a - 1) k_a)                                         replacement key, k~
 *     S_t = S_{t-1} (diag(w) - c' (a c)) + v' l
 *     o = GroupNorm(S_t r) o_norm.weight + o_norm.bias + (sum r r_k l) v      what is read, and the bonus
 *
 *     y_t = W_o (g o)
 *
 * Products without a sign are by element.  What differs from the paper: the value residual, which
 * mixes v with that of the model's first layer, is left out, since a layer sees no other layer's
 * rows; |u| is sqrt(sum u^2 + 1e-12); eps of the norm is 1e-5 head_dim, the paper's 64e-5 for 64.
 *
 * Gradients of one row of a head, D = d loss / d S_t in all, p = S_{t-1} c, b = a c:
 *
 *     D += do' r;           dr += S_t' do;   dv += D l;       dl += D' v
 *     dp = -D b;            db = -D' p;      dw = sum over values of D S_{t-1};   dc = S_{t-1}' dp + a db
 *     D = D diag(w) + dp' c
 *
 * They need the states of all rows.  forward() keeps one every CHUNK rows, backward() makes the
 * others again.  A task is one head of one segment.                                          */
#include <chimera/math.h>
#include <chimera/plugin.h>

enum { R, K, V, W, A, G, MIXES };           /* what the shifted rows are for            */
enum { DECAY_MLP, RATE_MLP, GATE_MLP };     /* of the maps of a low rank                */
enum { REMOVE, REPLACE, BONUS, DECAY, RATE, NORM_W, NORM_B, CHANNELS };     /* parameters [n] */

#define CHUNK 16                            /* rows between two kept states             */
#define ROWS  64                            /* of a task of bend()                      */
#define SLOWEST 0.60653066f                 /* e^-1/2                                   */

/* Vectors [hd] of a row in a task's scratch: what prepare() makes, what back_row() needs beside */
enum { V_W, V_A, V_C, V_L, V_B, V_P, VECTORS };
enum { B_U, B_DR, B_DV, B_DL, B_DO, B_DB, B_DP, B_DW, B_DC, B_VECTORS };

struct conf {
    int64_t num_heads, head_dim, decay_rank, rate_rank, gate_rank;
};

static const struct chi_option options[] = {
    CHI_INT(struct conf, num_heads, "4", 1, 1024, "heads, each with a matrix as its state", CHI_OPT_SHAPE),
    CHI_INT(struct conf, head_dim, "64", 1, 1024, "keys and values of a head", CHI_OPT_SHAPE),
    CHI_INT(struct conf, decay_rank, "32", 1, 4096, "inner width of the decay's MLP", CHI_OPT_SHAPE),
    CHI_INT(struct conf, rate_rank, "32", 1, 4096, "inner width of the learning rate's map", CHI_OPT_SHAPE),
    CHI_INT(struct conf, gate_rank, "64", 1, 4096, "inner width of the output gate's MLP", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

struct layer {                              /* written in open, const afterwards        */
    int64_t d, heads, hd, n;                /* n = heads * hd                           */
    int64_t rank[3];                        /* of decay, rate, gate                     */
    double norm_eps;
    const struct chi_linear *proj[3], *down[3], *up[3], *out;
    int64_t mu[MIXES], channel[CHANNELS];   /* parameters                               */
    int64_t last, S;                        /* state: [d], [heads][hd][hd]              */
    int64_t mix[MIXES], val[3], hid[3], low[3], read, z, kept;      /* arrays           */
    int64_t dz, dmix[MIXES], dval[3], dhid[3], dlow[3], part, part_mu;
};

static int64_t back_floats(int64_t hd)      /* scratch of back_task                     */
{
    return (CHUNK + 2) * hd * hd + CHUNK * VECTORS * hd + B_VECTORS * hd + CHUNK;
}

static chi_status open_layer(const struct chi_host *host, void *self, const void *conf,
                             const struct chi_shape *shape, const struct chi_plan_ops *ops,
                             struct chi_plan *plan)
{
    static const char *const mu[MIXES] = { "x_r", "x_k", "x_v", "x_w", "x_a", "x_g" };
    static const char *const proj[] = { "r_proj", "k_proj", "v_proj" };
    static const char *const down[] = { "w_down", "a_down", "g_down" };
    static const char *const up[] = { "w_up", "a_up", "g_up" };
    static const struct { const char *name; double first, last; } channel[CHANNELS] = {
        { "k_k", 0.76, 0.66 }, { "k_a", 1.02, 1.02 }, { "r_k", -0.04, -0.04 }, { "w0", -5.5, 0.5 },
        { "a0", -0.39, 0.01 }, { "o_norm.weight", 1, 1 },
        { "o_norm.bias", 0, 0 } };
    static const char *const dmu[MIXES] = { "dx_r", "dx_k", "dx_v", "dx_w", "dx_a", "dx_g" };
    static const char *const dproj[] = { "dr", "dk", "dv" };
    static const char *const ddown[] = { "dw_down", "da_down", "dg_down" };
    static const char *const dup[] = { "dw_up", "da_up", "dg_up" };
    const struct conf *c = conf;
    struct layer *s = self;
    int64_t d = s->d = shape->d_in, hd = s->hd = c->head_dim, n = s->n = c->num_heads * hd;
    (void)host;

    s->heads = c->num_heads;
    s->norm_eps = 1e-5 * (double)hd;
    s->rank[0] = c->decay_rank;
    s->rank[1] = c->rate_rank;
    s->rank[2] = c->gate_rank;

    for (int m = 0; m < MIXES; m++)
        s->mu[m] = ops->param(plan, mu[m], (int64_t[]){ d, 0 }, CHI_INIT_LINEAR, 1, 0, 0);
    for (int i = 0; i < CHANNELS; i++)
        s->channel[i] = ops->param(plan, channel[i].name, (int64_t[]){ n, 0 }, CHI_INIT_LINEAR,
                                   channel[i].first, channel[i].last, 0);
    for (int i = 0; i < 3; i++) s->proj[i] = ops->linear(plan, proj[i], n, d, 0);
    for (int i = 0; i < 3; i++) {
        s->down[i] = ops->linear(plan, down[i], s->rank[i], d, CHI_LINEAR_F32);
        s->up[i] = ops->linear(plan, up[i], n, s->rank[i], CHI_LINEAR_F32);
    }
    s->out = ops->linear(plan, "o_proj", shape->d_out, n, 0);

    s->last = ops->state(plan, "x", CHI_F32, d);
    s->S = ops->state(plan, "S", CHI_F32, n * hd);

    for (int m = 0; m < MIXES; m++) s->mix[m] = ops->array(plan, mu[m], CHI_F32, d, CHI_PER_ROW, 0);
    for (int i = 0; i < 3; i++) {
        s->val[i] = ops->array(plan, proj[i], CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
        s->hid[i] = ops->array(plan, down[i], CHI_F32, s->rank[i], CHI_PER_ROW, CHI_ARRAY_KEEP);
        s->low[i] = ops->array(plan, up[i], CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    }
    s->read = ops->array(plan, "read", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->z = ops->array(plan, "z", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    ops->scratch(plan, (shape->training ? back_floats(hd) : (VECTORS + 1) * hd) * (int64_t)sizeof(float));
    if (!shape->training) return CHI_OK;

    s->kept = ops->array(plan, "S", CHI_F32, n * hd, CHUNK, CHI_ARRAY_KEEP);
    s->dz = ops->array(plan, "dz", CHI_F32, n, CHI_PER_ROW, 0);
    for (int m = 0; m < MIXES; m++) s->dmix[m] = ops->array(plan, dmu[m], CHI_F32, d, CHI_PER_ROW, 0);
    for (int i = 0; i < 3; i++) {
        s->dval[i] = ops->array(plan, dproj[i], CHI_F32, n, CHI_PER_ROW, 0);
        s->dhid[i] = ops->array(plan, ddown[i], CHI_F32, s->rank[i], CHI_PER_ROW, 0);
        s->dlow[i] = ops->array(plan, dup[i], CHI_F32, n, CHI_PER_ROW, 0);
    }
    s->part = ops->array(plan, "part", CHI_F32, CHANNELS * n, CHI_PER_SEG, 0);
    s->part_mu = ops->array(plan, "part_mu", CHI_F32, MIXES * d, CHI_PER_SEG, 0);
    return CHI_OK;
}

struct job {                                /* what all tasks of a call share           */
    const struct layer *s;
    struct chi_run *r;
    const float *x;
    float *dx, *h;
    int64_t width;
    int which;
};

/* ---- token shift: a task is a segment ---------------------------------------------------- */

static void shift_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct layer *s = j->s;
    const struct chi_segment *g = &j->r->seg[i];
    int64_t d = s->d, at = g->first * d;
    const float *x = j->x + at, *last = CHI_STATE(g, s->last, float);
    (void)scratch;

    for (int m = 0; m < MIXES; m++) {
        const float *mu = CHI_PARAM(j->r, s->mu[m], float);
        float *y = CHI_ARRAY(j->r, s->mix[m], float) + at;
        for (int64_t t = 0; t < g->rows; t++) {
            const float *now = x + t * d, *before = t ? now - d : last;
            for (int64_t c = 0; c < d; c++) y[t * d + c] = now[c] + mu[c] * (before[c] - now[c]);
        }
    }
}

static void shift_back_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct layer *s = j->s;
    const struct chi_segment *g = &j->r->seg[i];
    int64_t d = s->d, at = g->first * d;
    const float *x = j->x + at, *last = CHI_STATE(g, s->last, float);
    float *dx = j->dx + at, *dlast = g->dstate ? CHI_DSTATE(g, s->last, float) : NULL;
    (void)scratch;

    if (dlast)
        for (int64_t c = 0; c < d; c++) {
            dx[(g->rows - 1) * d + c] += dlast[c];
            dlast[c] = 0;
        }
    for (int m = 0; m < MIXES; m++) {
        const float *mu = CHI_PARAM(j->r, s->mu[m], float), *dy = CHI_ARRAY(j->r, s->dmix[m], float) + at;
        float *part = CHI_ARRAY(j->r, s->part_mu, float) + (m * j->r->n_seg + i) * d;
        for (int64_t c = 0; c < d; c++) part[c] = 0;
        for (int64_t t = 0; t < g->rows; t++) {
            const float *now = x + t * d, *before = t ? now - d : last, *e = dy + t * d;
            float *dnow = dx + t * d, *dbefore = t ? dnow - d : dlast;
            for (int64_t c = 0; c < d; c++) {
                part[c] += e[c] * (before[c] - now[c]);
                dnow[c] += (1 - mu[c]) * e[c];
            }
            if (dbefore)
                for (int64_t c = 0; c < d; c++) dbefore[c] += mu[c] * e[c];
        }
    }
}

/* ---- between the two maps of a low rank: a task is ROWS rows ------------------------------ */

static void bend_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t end = (i + 1) * ROWS < j->r->rows ? (i + 1) * ROWS : j->r->rows;
    (void)scratch;

    for (int64_t c = i * ROWS * j->width; c < end * j->width; c++)
        j->h[c] = j->which == GATE_MLP ? chi_sigmoid(j->h[c]) : 2 * chi_sigmoid(2 * j->h[c]) - 1;
}

static void bend(struct job *j, int which)  /* in place: tanh, nothing, sigmoid         */
{
    if (which == RATE_MLP) return;
    j->which = which;
    j->width = j->s->rank[which];
    j->h = CHI_ARRAY(j->r, j->s->hid[which], float);
    j->r->h->parallel(j->r->h, (j->r->rows + ROWS - 1) / ROWS, bend_task, j);
}

static void bend_back(const struct job *j, int which)
{
    const float *h = CHI_ARRAY(j->r, j->s->hid[which], float);
    float *dh = CHI_ARRAY(j->r, j->s->dhid[which], float);
    int64_t n = j->r->rows * j->s->rank[which];

    if (which == DECAY_MLP)
        for (int64_t c = 0; c < n; c++) dh[c] *= 1 - h[c] * h[c];
    else if (which == GATE_MLP)
        for (int64_t c = 0; c < n; c++) dh[c] *= h[c] * (1 - h[c]);
}

/* ---- a row of a head ---------------------------------------------------------------------- */

struct head {                               /* of parameters: those of this head        */
    const float *channel[CHANNELS];
    int64_t hd;
    float norm_eps;
    const struct chi_kernels *k;
};

struct row {                                /* of arrays: this head's part of the row   */
    const float *val[3], *low[3];
};

static struct head get_head(const struct layer *s, const struct chi_run *r, int64_t h)
{
    struct head e = { .hd = s->hd, .norm_eps = (float)s->norm_eps, .k = r->h->k };
    for (int i = 0; i < CHANNELS; i++) e.channel[i] = CHI_PARAM(r, s->channel[i], float) + h * s->hd;
    return e;
}

static struct row get_row(const struct layer *s, const struct chi_run *r, int64_t at)
{
    struct row e;
    for (int i = 0; i < 3; i++) {
        e.val[i] = CHI_ARRAY(r, s->val[i], float) + at;
        e.low[i] = CHI_ARRAY(r, s->low[i], float) + at;
    }
    return e;
}

/* w, a, c, l, b = a c from the row's linears, and p = S c; returns 1 / |k k_k|                */
static float prepare(const struct head *e, const struct row *x, const float *S, float *v)
{
    int64_t n = e->hd;
    float *w = v + V_W * n, *a = v + V_A * n, *c = v + V_C * n, *l = v + V_L * n, *b = v + V_B * n;

    for (int64_t i = 0; i < n; i++) {
        float k = x->val[K][i];
        w[i] = chi_exp(-SLOWEST * chi_sigmoid(e->channel[DECAY][i] + x->low[DECAY_MLP][i]));
        a[i] = chi_sigmoid(e->channel[RATE][i] + x->low[RATE_MLP][i]);
        c[i] = k * e->channel[REMOVE][i];
        l[i] = k * (1 + (a[i] - 1) * e->channel[REPLACE][i]);
    }
    float inverse = 1 / sqrtf(e->k->dot(c, c, n) + 1e-12f);
    for (int64_t i = 0; i < n; i++) {
        c[i] *= inverse;
        b[i] = a[i] * c[i];
    }
    e->k->dots(v + V_P * n, S, n, c, n, n);
    return inverse;
}

/* T = S diag(w) - p' b + v' l; T may be S                                                     */
static void move(const struct head *e, const struct row *x, const float *v, const float *S, float *T)
{
    int64_t n = e->hd;
    const float *w = v + V_W * n, *l = v + V_L * n, *b = v + V_B * n;

    for (int64_t i = 0; i < n; i++) {
        float p = v[V_P * n + i], value = x->val[V][i];
        const float *from = S + i * n;
        float *to = T + i * n;
        for (int64_t c = 0; c < n; c++) to[c] = w[c] * from[c] - p * b[c] + value * l[c];
    }
}

/* Of what was read: its normal form u, the norm's factor, and the strength of the bonus      */
static float normalise(const struct head *e, const float *o, float *u)
{
    int64_t n = e->hd;
    float mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++) mean += o[i];
    mean /= (float)n;
    for (int64_t i = 0; i < n; i++) square += (o[i] - mean) * (o[i] - mean);
    float factor = 1 / sqrtf(square / (float)n + e->norm_eps);
    for (int64_t i = 0; i < n; i++) u[i] = (o[i] - mean) * factor;
    return factor;
}

static float bonus(const struct head *e, const struct row *x, const float *l)
{
    float sum = 0;
    for (int64_t i = 0; i < e->hd; i++) sum += x->val[R][i] * e->channel[BONUS][i] * l[i];
    return sum;
}

/* The first state that is kept of a head of segment i; the next one lies heads * hd * hd behind it */
static float *kept_states(const struct layer *s, const struct chi_run *r, int64_t i, int64_t h)
{
    return CHI_ARRAY(r, s->kept, float) + (chi_first_chunk(r, i, CHUNK) * s->heads + h) * s->hd * s->hd;
}

/* ---- forward ------------------------------------------------------------------------------ */

static void forward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct layer *s = j->s;
    int64_t at = i / s->heads, h = i % s->heads, n = s->hd;
    const struct chi_segment *g = &j->r->seg[at];
    struct head e = get_head(s, j->r, h);
    float *S = CHI_STATE(g, s->S, float) + h * n * n;
    float *kept = j->r->keep ? kept_states(s, j->r, at, h) : NULL;
    float *v = chi_take(scratch, (size_t)(VECTORS + 1) * (size_t)n * sizeof *v), *u = v + VECTORS * n;

    for (int64_t t = 0; t < g->rows; t++) {
        int64_t q = (g->first + t) * s->n + h * n;
        struct row x = get_row(s, j->r, q);
        float *o = CHI_ARRAY(j->r, s->read, float) + q, *z = CHI_ARRAY(j->r, s->z, float) + q;

        if (kept && (!t || (g->pos + t) % CHUNK == 0)) {
            memcpy(kept, S, (size_t)(n * n) * sizeof *S);
            kept += s->n * n;
        }
        prepare(&e, &x, S, v);
        move(&e, &x, v, S, S);
        e.k->dots(o, S, n, x.val[R], n, n);
        normalise(&e, o, u);
        float strength = bonus(&e, &x, v + V_L * n);
        for (int64_t c = 0; c < n; c++)
            z[c] = x.low[GATE_MLP][c]
                 * (u[c] * e.channel[NORM_W][c] + e.channel[NORM_B][c] + strength * x.val[V][c]);
    }
}

static chi_status forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct layer *s = self;
    struct job j = { .s = s, .r = r, .x = x };
    chi_status e;

    r->h->parallel(r->h, r->n_seg, shift_task, &j);
    for (int i = 0; i < 3; i++) {
        float *val = CHI_ARRAY(r, s->val[i], float), *hid = CHI_ARRAY(r, s->hid[i], float);
        float *low = CHI_ARRAY(r, s->low[i], float);
        const float *wide = CHI_ARRAY(r, s->mix[i], float), *narrow = CHI_ARRAY(r, s->mix[W + i], float);
        if ((e = r->h->linears(&s->proj[i], 1, r, wide, r->rows, &val)) != CHI_OK) return e;
        if ((e = r->h->linears(&s->down[i], 1, r, narrow, r->rows, &hid)) != CHI_OK) return e;
        bend(&j, i);
        if ((e = r->h->linears(&s->up[i], 1, r, hid, r->rows, &low)) != CHI_OK) return e;
    }
    r->h->parallel(r->h, r->n_seg * s->heads, forward_task, &j);
    for (int64_t i = 0; i < r->n_seg; i++) {
        const struct chi_segment *g = &r->seg[i];
        memcpy(CHI_STATE(g, s->last, float), x + (g->first + g->rows - 1) * s->d, (size_t)s->d * sizeof *x);
    }
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->z, float), r->rows, &y);
}

/* ---- backward ----------------------------------------------------------------------------- */

/* One row of a head: D goes from behind the row to before it, S is the state before it, T the one
 * behind it, work holds B_VECTORS [hd], sum the head's partial sums of its parameters          */
struct back {
    const struct layer *s;
    struct chi_run *r;
    const struct head *e;
    struct row x;
    int64_t q;                              /* of the row's first number of this head   */
    const float *v, *S, *T;
    float inverse, *D, *work, *const *sum;
};

/* Gate, bonus and norm: the gradients of gate, r, v, l and of what was read                    */
static void back_read(const struct back *j)
{
    const struct head *e = j->e;
    int64_t n = e->hd;
    const float *o = CHI_ARRAY(j->r, j->s->read, float) + j->q, *dz = CHI_ARRAY(j->r, j->s->dz, float) + j->q;
    const float *gate = j->x.low[GATE_MLP], *r = j->x.val[R], *v = j->x.val[V], *l = j->v + V_L * n;
    float *dgate = CHI_ARRAY(j->r, j->s->dlow[GATE_MLP], float) + j->q, *u = j->work + B_U * n;
    float *dr = j->work + B_DR * n, *dv = j->work + B_DV * n, *dl = j->work + B_DL * n;
    float *dread = j->work + B_DO * n;
    float factor = normalise(e, o, u), strength = bonus(e, &j->x, l), dstrength = 0, mean = 0, along = 0;

    for (int64_t i = 0; i < n; i++) {
        float dy = dz[i] * gate[i];
        dgate[i] = dz[i] * (u[i] * e->channel[NORM_W][i] + e->channel[NORM_B][i] + strength * v[i]);
        j->sum[NORM_W][i] += dy * u[i];
        j->sum[NORM_B][i] += dy;
        dstrength += dy * v[i];
        dv[i] = strength * dy;
        dread[i] = dy * e->channel[NORM_W][i];
        mean += dread[i];
        along += dread[i] * u[i];
    }
    mean /= (float)n;
    along /= (float)n;
    for (int64_t i = 0; i < n; i++) {
        float rk = e->channel[BONUS][i];
        dread[i] = factor * (dread[i] - mean - u[i] * along);
        dr[i] = dstrength * rk * l[i];
        dl[i] = dstrength * rk * r[i];
        j->sum[BONUS][i] += dstrength * r[i] * l[i];
    }
}

/* The state: D, and the gradients of r, v, l, w, c, and of b with the other sign               */
static void back_state(const struct back *j)
{
    const struct chi_kernels *k = j->e->k;
    int64_t n = j->e->hd;
    const float *w = j->v + V_W * n, *c = j->v + V_C * n;
    const float *dread = j->work + B_DO * n;
    float *dp = j->work + B_DP * n, *dv = j->work + B_DV * n, *dw = j->work + B_DW * n;

    memset(j->work + B_DB * n, 0, (size_t)n * sizeof(float));
    memset(j->work + B_DC * n, 0, (size_t)n * sizeof(float));
    memset(dw, 0, (size_t)n * sizeof(float));
    k->axpys(j->work + B_DR * n, dread, j->T, n, n, n);
    for (int64_t i = 0; i < n; i++) k->axpy(j->D + i * n, dread[i], j->x.val[R], n);
    k->dots(dp, j->D, n, j->v + V_L * n, n, n);
    for (int64_t i = 0; i < n; i++) dv[i] += dp[i];
    k->axpys(j->work + B_DL * n, j->x.val[V], j->D, n, n, n);
    k->axpys(j->work + B_DB * n, j->v + V_P * n, j->D, n, n, n);
    k->dots(dp, j->D, n, j->v + V_B * n, n, n);
    for (int64_t i = 0; i < n; i++) dp[i] = -dp[i];
    k->axpys(j->work + B_DC * n, dp, j->S, n, n, n);
    for (int64_t i = 0; i < n; i++) {
        const float *from = j->S + i * n;
        float *to = j->D + i * n;
        for (int64_t h = 0; h < n; h++) {
            dw[h] += to[h] * from[h];
            to[h] = w[h] * to[h] + dp[i] * c[h];
        }
    }
}

/* What prepare() did: from w, a, c and l to the row's linears                                  */
static void back_prepare(const struct back *j)
{
    const struct head *e = j->e;
    int64_t n = e->hd;
    const float *w = j->v + V_W * n, *a = j->v + V_A * n, *c = j->v + V_C * n;
    const float *dl = j->work + B_DL * n, *db = j->work + B_DB * n, *dw = j->work + B_DW * n;
    float *dc = j->work + B_DC * n, *dk = CHI_ARRAY(j->r, j->s->dval[K], float) + j->q;
    float *rate = CHI_ARRAY(j->r, j->s->dlow[RATE_MLP], float) + j->q;
    float *decay = CHI_ARRAY(j->r, j->s->dlow[DECAY_MLP], float) + j->q;

    for (int64_t i = 0; i < n; i++) dc[i] -= a[i] * db[i];
    float along = e->k->dot(dc, c, n);
    for (int64_t i = 0; i < n; i++) {
        float k = j->x.val[K][i], ka = e->channel[REPLACE][i], dkk = j->inverse * (dc[i] - along * c[i]);
        float fast = chi_sigmoid(e->channel[DECAY][i] + j->x.low[DECAY_MLP][i]);
        rate[i] = (dl[i] * k * ka - db[i] * c[i]) * a[i] * (1 - a[i]);
        decay[i] = -SLOWEST * dw[i] * w[i] * fast * (1 - fast);
        dk[i] = dl[i] * (1 + (a[i] - 1) * ka) + dkk * e->channel[REMOVE][i];
        j->sum[REPLACE][i] += dl[i] * k * (a[i] - 1);
        j->sum[REMOVE][i] += dkk * k;
        j->sum[RATE][i] += rate[i];
        j->sum[DECAY][i] += decay[i];
    }
    memcpy(CHI_ARRAY(j->r, j->s->dval[R], float) + j->q, j->work + B_DR * n, (size_t)n * sizeof(float));
    memcpy(CHI_ARRAY(j->r, j->s->dval[V], float) + j->q, j->work + B_DV * n, (size_t)n * sizeof(float));
}

static void back_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct layer *s = j->s;
    int64_t at = i / s->heads, h = i % s->heads, n = s->hd, square = n * n;
    const struct chi_segment *g = &j->r->seg[at];
    struct head e = get_head(s, j->r, h);
    const float *kept = kept_states(s, j->r, at, h);
    float *states = chi_take(scratch, (size_t)back_floats(n) * sizeof *states);
    float *D = states + (CHUNK + 1) * square, *v = D + square, *work = v + CHUNK * VECTORS * n;
    float *inverse = work + B_VECTORS * n, *sum[CHANNELS];

    for (int c = 0; c < CHANNELS; c++) {
        sum[c] = CHI_ARRAY(j->r, s->part, float) + (c * j->r->n_seg + at) * s->n + h * n;
        memset(sum[c], 0, (size_t)n * sizeof(float));
    }
    if (g->dstate) D = CHI_DSTATE(g, s->S, float) + h * square;
    else memset(D, 0, (size_t)square * sizeof *D);

    for (int64_t end = g->rows, chunk = chi_chunks(g, CHUNK); chunk--;) {       /* the last first */
        int64_t from = chunk ? (g->pos / CHUNK + chunk) * CHUNK - g->pos : 0;
        memcpy(states, kept + chunk * s->n * n, (size_t)square * sizeof *states);
        for (int64_t t = from; t < end; t++) {
            struct row x = get_row(s, j->r, (g->first + t) * s->n + h * n);
            float *S = states + (t - from) * square, *of = v + (t - from) * VECTORS * n;
            inverse[t - from] = prepare(&e, &x, S, of);
            move(&e, &x, of, S, S + square);
        }
        for (int64_t t = end - 1; t >= from; t--) {
            int64_t q = (g->first + t) * s->n + h * n;
            const float *S = states + (t - from) * square;
            struct back b = { .s = s, .r = j->r, .e = &e, .x = get_row(s, j->r, q), .q = q, .S = S,
                              .T = S + square, .v = v + (t - from) * VECTORS * n,
                              .inverse = inverse[t - from], .D = D, .work = work, .sum = sum };
            back_read(&b);
            back_state(&b);
            back_prepare(&b);
        }
        end = from;
    }
}

/* dx = the gradient of one linear's input, which is written with '='                          */
static chi_status linear_back(const struct chi_linear *l, struct chi_run *r, const float *x, const float *dy,
                              float *dx, int64_t d_in)
{
    memset(dx, 0, (size_t)(r->rows * d_in) * sizeof *dx);
    return r->h->linears_back(&l, 1, r, x, r->rows, &dy, dx);
}

static chi_status backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct layer *s = self;
    struct job j = { .s = s, .r = r, .x = x, .dx = dx };
    chi_status e;

    r->h->parallel(r->h, r->n_seg, shift_task, &j);
    e = linear_back(s->out, r, CHI_ARRAY(r, s->z, float), dy, CHI_ARRAY(r, s->dz, float), s->n);
    if (e != CHI_OK) return e;
    r->h->parallel(r->h, r->n_seg * s->heads, back_task, &j);
    for (int i = 0; i < 3; i++) {
        const float *wide = CHI_ARRAY(r, s->mix[i], float), *narrow = CHI_ARRAY(r, s->mix[W + i], float);
        const float *hid = CHI_ARRAY(r, s->hid[i], float), *dlow = CHI_ARRAY(r, s->dlow[i], float);
        const float *dval = CHI_ARRAY(r, s->dval[i], float);
        float *dhid = CHI_ARRAY(r, s->dhid[i], float), *dwide = CHI_ARRAY(r, s->dmix[i], float);
        float *dnarrow = CHI_ARRAY(r, s->dmix[W + i], float);
        if ((e = linear_back(s->proj[i], r, wide, dval, dwide, s->d)) != CHI_OK) return e;
        if ((e = linear_back(s->up[i], r, hid, dlow, dhid, s->rank[i])) != CHI_OK) return e;
        bend_back(&j, i);
        if ((e = linear_back(s->down[i], r, narrow, dhid, dnarrow, s->d)) != CHI_OK) return e;
    }
    r->h->parallel(r->h, r->n_seg, shift_back_task, &j);
    if (!r->grads) return CHI_OK;
    for (int c = 0; c < CHANNELS; c++)
        r->h->reduce(r->h, CHI_GRAD(r, s->channel[c], float),
                     CHI_ARRAY(r, s->part, float) + c * r->n_seg * s->n, r->n_seg, s->n);
    for (int m = 0; m < MIXES; m++)
        r->h->reduce(r->h, CHI_GRAD(r, s->mu[m], float),
                     CHI_ARRAY(r, s->part_mu, float) + m * r->n_seg * s->d, r->n_seg, s->d);
    return CHI_OK;
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct layer),
    .open = open_layer,
    .forward = forward,
    .backward = backward,
};

static const struct chi_component component = {
    .struct_size = sizeof component,
    .kind = CHI_LAYER,
    .name = "rwkv7",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "RWKV-7 time mixing: generalised delta rule with a decay of each channel",
    .papers = "2503.14456",
    .options = options,
    .conf_size = sizeof(struct conf),
    .ops = &ops,
};

CHI_PLUGIN(rwkv7, .version = "1.0", .license = "MIT",
           .summary = "RWKV-7 time mixing: generalised delta rule with a decay of each channel",
           .components = CHI_COMPONENTS(&component));
