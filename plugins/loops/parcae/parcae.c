/* parcae.c - looping as a linear system with an input (Parcae, arXiv 2604.12946):
 *
 *     e = rmsnorm(x) * norm;  h_0 = 0
 *     h_{t+1} = layers( Abar h_t + G (B e) ),   y = C h_T
 *     Delta = softplus(dt_bias), a = exp(A_log), Abar = exp(-Delta a)
 *     G = (1 - Abar) / a, the exact hold of zero order, or Delta, Euler's step
 *
 * Abar and G are diagonal, B and C dense.  Every Abar is below 1 by construction, so
 * the loop's linear part contracts whatever the optimizer does.  G (B e) is the same at
 * every turn: enter() makes it once, and a turn costs two operations a channel.
 *
 * Depths in training may be drawn: turns ~ Poisson(loop_default) kept within
 * loop_range, a number for each sequence of each step, by inversion of one uniform
 * number.  With backward_truncation = half the last half of them is differentiated. */
#include <chimera/loop.h>
#include <chimera/math.h>
#include <chimera/plugin.h>

enum { EXACT, EULER };
enum { FIXED, POISSON };
enum { NONE, HALF };

struct parcae_conf {
    int32_t zoh, depth_selection, backward_truncation;
    struct chi_list loop_range;
};

static const struct chi_option options[] = {
    CHI_ENUM(struct parcae_conf, zoh, "exact", "exact|euler", "gain of the input: (1 - Abar) / a, or Delta",
             CHI_OPT_SHAPE),
    CHI_ENUM(struct parcae_conf, depth_selection, "fixed", "fixed|poisson",
             "turns in training: loop_default, or drawn for each sequence with that mean", 0),
    CHI_LIST(struct parcae_conf, loop_range, "1-6", 1, 64, "what drawn turns are kept within", 0),
    CHI_ENUM(struct parcae_conf, backward_truncation, "none", "none|half",
             "differentiate all turns of a sequence, or the last half of them, rounded up", 0),
    CHI_OPTIONS_END
};

struct parcae {
    int64_t d;
    float eps;
    int zoh, selection, truncation;
    int32_t least, most;                            /* drawn turns                   */
    int64_t norm, a_log, dt_bias;                   /* parameters [d]                */
    const struct chi_linear *b, *c;                 /* [d,d]                         */
    int64_t e, u, du, de, scale;                    /* arrays [rows,d], scale [rows] */
};

enum { COLUMNS = 64, ROWS = 8 };                    /* of a task                     */

static chi_status check_conf(const struct chi_host *host, const void *conf)
{
    const struct chi_list *range = &((const struct parcae_conf *)conf)->loop_range;
    for (size_t i = 0; i < range->n; i++)
        if (range->v[i] != (double)(int64_t)range->v[i] || (i && range->v[i] < range->v[i - 1]))
            return host->fail(host, CHI_ECONF, "loop_range must be whole numbers that rise, such as 1-6");
    return range->n ? CHI_OK : host->fail(host, CHI_ECONF, "loop_range is empty: say the least and the most turns, "
                                          "such as 1-6");
}

static chi_status parcae_open(const struct chi_host *host, void *self, const void *conf,
                              const struct chi_shape *shape, const struct chi_plan_ops *ops,
                              struct chi_plan *plan)
{
    struct parcae *s = self;
    const struct parcae_conf *c = conf;
    int64_t d = s->d = shape->d_in, dims[] = { d, 0 };
    double delta = 0.5 * log(5);                    /* Abar = sqrt(1/5) at A_log = 0 */

    (void)host;
    s->eps = (float)shape->rms_norm_eps;
    s->zoh = c->zoh;
    s->selection = c->depth_selection;
    s->truncation = c->backward_truncation;
    s->least = (int32_t)c->loop_range.v[0];
    s->most = (int32_t)c->loop_range.v[c->loop_range.n - 1];
    s->norm = ops->param(plan, "norm.weight", dims, CHI_INIT_CONST, 1, 0, 0);
    s->a_log = ops->param(plan, "A_log", dims, CHI_INIT_ZERO, 0, 0, 0);
    s->dt_bias = ops->param(plan, "dt_bias", dims, CHI_INIT_CONST, log(expm1(delta)), 0, 0);
    s->b = ops->linear(plan, "B", d, d, CHI_LINEAR_F32 | CHI_LINEAR_EYE);
    s->c = ops->linear(plan, "C", d, d, CHI_LINEAR_F32 | CHI_LINEAR_EYE);
    s->e = ops->array(plan, "e", CHI_F32, d, CHI_PER_ROW, 0);
    if (!shape->training) return CHI_OK;
    s->u = ops->array(plan, "u", CHI_F32, d, CHI_PER_ROW, 0);
    s->du = ops->array(plan, "du", CHI_F32, d, CHI_PER_ROW, 0);
    s->de = ops->array(plan, "de", CHI_F32, d, CHI_PER_ROW, 0);
    s->scale = ops->array(plan, "scale", CHI_F32, 1, CHI_PER_ROW, 0);
    ops->scratch(plan, 2 * (d * (int64_t)sizeof(float) + 64));
    return CHI_OK;
}

/* ---- the coefficients of a channel ---------------------------------------------- */

struct channel { float a, delta, abar, gain, slope; };      /* slope = softplus'(dt_bias) */

/* (1 - e^-z) / z; near 0 as 1 - z/2 (1 - z/3 (1 - z/4 (...))), where the difference
 * would lose its digits                                                              */
static float phi(float z, float abar)
{
    if (z >= 0.5f) return (1.0f - abar) / z;
    float p = 1;
    for (int k = 10; k > 1; k--) p = 1.0f - z / (float)k * p;
    return p;
}

static float within(float x, float low, float high)         /* NaN stays NaN          */
{
    return x < low ? low : x > high ? high : x;
}

static struct channel channel_of(const struct parcae *s, const struct chi_run *r, int64_t j)
{
    float dt = within(CHI_PARAM(r, s->dt_bias, float)[j], -60, 1e6f);
    struct channel c = { .a = chi_exp(within(CHI_PARAM(r, s->a_log, float)[j], -60, 60)),
                         .delta = chi_softplus(dt), .slope = chi_sigmoid(dt) };
    float z = c.delta * c.a;
    c.abar = within(chi_exp(-z), 0, 0x1.fffffep-1f);        /* the largest float below 1 */
    c.gain = s->zoh == EXACT ? c.delta * phi(z, c.abar) : c.delta;
    return c;
}

/* ---- forward ---------------------------------------------------------------------- */

struct job {
    const struct parcae *s;
    struct chi_run *r;
    const float *x, *h, *dy;
    float *y, *dh, *e;
};

/* Columns of a slice, all rows: sums over rows have one order                          */
static int64_t slice_end(const struct job *j, int64_t i)
{
    return (i + 1) * COLUMNS < j->s->d ? (i + 1) * COLUMNS : j->s->d;
}

static void by_columns(struct job *j, chi_task *task)
{
    j->r->h->parallel(j->r->h, (j->s->d + COLUMNS - 1) / COLUMNS, task, j);
}

static void by_rows(struct job *j, chi_task *task)
{
    j->r->h->parallel(j->r->h, (j->r->rows + ROWS - 1) / ROWS, task, j);
}

static int64_t block_end(const struct job *j, int64_t i)
{
    return (i + 1) * ROWS < j->r->rows ? (i + 1) * ROWS : j->r->rows;
}

static void norm_rows(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t d = j->s->d;
    (void)scratch;
    for (int64_t row = i * ROWS; row < block_end(j, i); row++)
        j->r->h->k->rmsnorm(j->e + row * d, j->x + row * d, CHI_PARAM(j->r, j->s->norm, float), d, j->s->eps);
}

static void scale_columns(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    float gain[COLUMNS];
    int64_t from = i * COLUMNS, to = slice_end(j, i);
    (void)scratch;
    for (int64_t c = from; c < to; c++) gain[c - from] = channel_of(j->s, j->r, c).gain;
    for (int64_t row = 0; row < j->r->rows; row++)
        for (int64_t c = from; c < to; c++) j->y[row * j->s->d + c] *= gain[c - from];
}

/* y = G (B (rmsnorm(x) * norm))                                                        */
static chi_status enter(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct parcae *s = self;
    struct job j = { .s = s, .r = r, .x = x, .y = y, .e = CHI_ARRAY(r, s->e, float) };
    by_rows(&j, norm_rows);
    chi_status st = r->h->linears(&s->b, 1, r, j.e, r->rows, &y);
    if (st == CHI_OK) by_columns(&j, scale_columns);
    return st;
}

static void inject_columns(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    float abar[COLUMNS];
    int64_t from = i * COLUMNS, to = slice_end(j, i);
    (void)scratch;
    for (int64_t c = from; c < to; c++) abar[c - from] = channel_of(j->s, j->r, c).abar;
    for (int64_t row = 0; row < j->r->rows; row++)
        for (int64_t c = from; c < to; c++) {
            int64_t at = row * j->s->d + c;
            j->y[at] = abar[c - from] * j->h[at] + j->x[at];
        }
}

static chi_status inject(const void *self, struct chi_run *r, const float *e, const float *h, float *y)
{
    struct job j = { .s = self, .r = r, .x = e, .h = h, .y = y };
    by_columns(&j, inject_columns);
    return CHI_OK;
}

static chi_status leave(const void *self, struct chi_run *r, const float *h, float *y)
{
    const struct parcae *s = self;
    return r->h->linears(&s->c, 1, r, h, r->rows, &y);
}

/* ---- backward ----------------------------------------------------------------------- */

static chi_status leave_back(const void *self, struct chi_run *r, const float *h, const float *dy, float *dh)
{
    const struct parcae *s = self;
    return r->h->linears_back(&s->c, 1, r, h, r->rows, &dy, dh);
}

/* dAbar = sum dy h;  dAbar/dA_log = -Delta a Abar,  dAbar/ddt_bias = -a slope Abar     */
static void inject_back_columns(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    struct chi_run *r = j->r;
    float abar[COLUMNS], dabar[COLUMNS] = { 0 };
    int64_t from = i * COLUMNS, to = slice_end(j, i);
    (void)scratch;
    for (int64_t c = from; c < to; c++) abar[c - from] = channel_of(j->s, r, c).abar;
    for (int64_t row = 0; row < r->rows; row++)
        for (int64_t c = from; c < to; c++) {
            int64_t at = row * j->s->d + c;
            dabar[c - from] += j->dy[at] * j->h[at];
            j->dh[at] += abar[c - from] * j->dy[at];
            j->e[at] += j->dy[at];
        }
    for (int64_t c = from; r->grads && c < to; c++) {
        struct channel k = channel_of(j->s, r, c);
        CHI_GRAD(r, j->s->a_log, float)[c] -= dabar[c - from] * (k.delta * k.a * k.abar);
        CHI_GRAD(r, j->s->dt_bias, float)[c] -= dabar[c - from] * (k.a * k.slope * k.abar);
    }
}

static chi_status inject_back(const void *self, struct chi_run *r, const float *e, const float *h,
                              const float *dy, float *de, float *dh)
{
    struct job j = { .s = self, .r = r, .h = h, .dy = dy, .dh = dh, .e = de };
    (void)e;
    by_columns(&j, inject_back_columns);
    return CHI_OK;
}

/* y = G u, u = B e:  du = G dy;  dG = sum dy u;
 * exact:  dG/dA_log = Delta Abar - G,  dG/ddt_bias = slope Abar;  Euler: 0 and slope   */
static void enter_back_columns(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct parcae *s = j->s;
    struct chi_run *r = j->r;
    const float *u = CHI_ARRAY(r, s->u, float);
    float *du = CHI_ARRAY(r, s->du, float), *de = CHI_ARRAY(r, s->de, float);
    (void)scratch;
    for (int64_t c = i * COLUMNS; c < slice_end(j, i); c++) {
        struct channel k = channel_of(s, r, c);
        float dgain = 0;
        for (int64_t at = c; at < r->rows * s->d; at += s->d) {
            dgain += j->dy[at] * u[at];
            du[at] = k.gain * j->dy[at];
            de[at] = 0;
        }
        if (!r->grads) continue;
        CHI_GRAD(r, s->dt_bias, float)[c] += dgain * (s->zoh == EXACT ? k.slope * k.abar : k.slope);
        if (s->zoh == EXACT) CHI_GRAD(r, s->a_log, float)[c] += dgain * (k.delta * k.abar - k.gain);
    }
}

/* e = xh norm with xh = x scale; with g = de norm:  dx += scale (g - xh mean(g xh))    */
static void norm_back_rows(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct parcae *s = j->s;
    const struct chi_kernels *k = j->r->h->k;
    int64_t d = s->d;
    const float *gain = CHI_PARAM(j->r, s->norm, float);
    float *xh = chi_take(scratch, (size_t)d * sizeof *xh), *g = chi_take(scratch, (size_t)d * sizeof *g);
    for (int64_t row = i * ROWS; row < block_end(j, i); row++) {
        const float *de = CHI_ARRAY(j->r, s->de, float) + row * d;
        float *dx = j->y + row * d, scale = k->rmsnorm(xh, j->x + row * d, NULL, d, s->eps);
        CHI_ARRAY(j->r, s->scale, float)[row] = scale;
        for (int64_t c = 0; c < d; c++) g[c] = de[c] * gain[c];
        float mean = k->dot(g, xh, d) / (float)d;
        for (int64_t c = 0; c < d; c++) dx[c] += scale * (g[c] - xh[c] * mean);
    }
}

static void norm_gain_columns(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    const struct parcae *s = j->s;
    const float *de = CHI_ARRAY(j->r, s->de, float), *scale = CHI_ARRAY(j->r, s->scale, float);
    (void)scratch;
    for (int64_t c = i * COLUMNS; c < slice_end(j, i); c++) {
        float sum = 0;
        for (int64_t row = 0; row < j->r->rows; row++)
            sum += de[row * s->d + c] * (j->x[row * s->d + c] * scale[row]);
        CHI_GRAD(j->r, s->norm, float)[c] += sum;
    }
}

static chi_status enter_back(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct parcae *s = self;
    struct job j = { .s = s, .r = r, .x = x, .dy = dy, .y = dx, .e = CHI_ARRAY(r, s->e, float) };
    float *u = CHI_ARRAY(r, s->u, float);
    const float *du = CHI_ARRAY(r, s->du, float);
    by_rows(&j, norm_rows);
    chi_status st = r->h->linears(&s->b, 1, r, j.e, r->rows, &u);
    if (st != CHI_OK) return st;
    by_columns(&j, enter_back_columns);
    st = r->h->linears_back(&s->b, 1, r, j.e, r->rows, &du, CHI_ARRAY(r, s->de, float));
    if (st != CHI_OK) return st;
    by_rows(&j, norm_back_rows);
    if (r->grads) by_columns(&j, norm_gain_columns);
    return CHI_OK;
}

/* ---- how many turns ------------------------------------------------------------------- */

static struct chi_depth depth_of(const struct parcae *s, int32_t turns)
{
    return (struct chi_depth){ turns, s->truncation == HALF ? (turns + 1) / 2 : turns };
}

/* The least k with P(T <= k) > u, kept within the range                                 */
static struct chi_depth depth(const void *self, const struct chi_host *h, int64_t usual, uint64_t sequence,
                              int64_t step)
{
    const struct parcae *s = self;
    if (s->selection == FIXED) return depth_of(s, (int32_t)usual);
    double u = (double)(h->random(h, sequence, (uint64_t)step) >> 11) * 0x1p-53;
    double p = (double)chi_exp(-(float)usual), sum = p;
    int32_t k = 0;
    while (k < s->most && sum <= u) sum += p *= (double)usual / ++k;
    return depth_of(s, k < s->least ? s->least : k);
}

static struct chi_depth deepest(const void *self, int64_t usual)
{
    const struct parcae *s = self;
    return depth_of(s, s->selection == FIXED ? (int32_t)usual : s->most);
}

/* |after - before| / |after|; 0 / 0, which is no move, counts as 0                      */
static double change(const void *self, const struct chi_host *h, const float *before, const float *after,
                     int64_t d)
{
    double moved = 0, size = 0;
    (void)self;
    (void)h;
    for (int64_t c = 0; c < d; c++) {
        double by = (double)after[c] - (double)before[c];
        moved += by * by;
        size += (double)after[c] * (double)after[c];
    }
    return moved > 0 ? sqrt(moved / size) : 0;
}

static const struct chi_loop_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct parcae),
    .open = parcae_open,
    .enter = enter,
    .inject = inject,
    .leave = leave,
    .enter_back = enter_back,
    .inject_back = inject_back,
    .leave_back = leave_back,
    .depth = depth,
    .deepest = deepest,
    .change = change,
};

static const struct chi_component parcae = {
    .struct_size = sizeof parcae,
    .kind = CHI_LOOP,
    .name = "parcae",
    .revision = 1,
    .summary = "turns h = layers(Abar h + G B e) with a spectral radius below 1",
    .papers = "2604.12946",
    .options = options,
    .conf_size = sizeof(struct parcae_conf),
    .check = check_conf,
    .ops = &ops,
};

CHI_PLUGIN(parcae, .version = "1.0", .license = "MIT",
           .summary = "looped layers as a stable linear system",
           .components = CHI_COMPONENTS(&parcae));
