/* titans_mac.c - Titans' memory as a mixer (arXiv 2501.00663): per head an MLP whose
 * weights are the state, and which learns while it reads.  Per head:
 *
 *     q, k, v    = silu(conv(W x)),  q, k over sqrt(|.|^2 + 1e-6)
 *     alpha, eta = sigmoid(w x + b);  theta = theta_max sigmoid(w x + b) (1 - eta)
 *     memory.c   writes (k, v) and gives r = M(q)
 *     attend.c   o = r + what slots, and a window of tokens, answer to q
 *     y          = W_o (rmsnorm(o; o_norm) * silu(W_g x))
 *
 * Chunks lie on a grid counted from the stream's position 0, so that a call may begin
 * inside one.  A stream starts from parameters (memory.w1 and on), and a memory that
 * blew up starts again.  A task is some heads of one segment.                    */
#include "titans_mac.h"

struct conf {
    int64_t num_heads, head_dim, memory_depth, chunk, persistent_memory_slots, conv_size;
    int64_t local_window_size;
    double  theta_max, max_norm;
    int32_t core;
    bool    semi_exact;
};

enum { GATED, WINDOW };

static const struct chi_option options[] = {
    CHI_INT(struct conf, num_heads, "4", 1, 1024, "number of heads", CHI_OPT_SHAPE),
    CHI_INT(struct conf, head_dim, "64", 1, 256, "channels of a head", CHI_OPT_SHAPE),
    CHI_INT(struct conf, memory_depth, "2", 1, MAX_DEPTH, "matrices of a memory, silu between them",
            CHI_OPT_SHAPE),
    CHI_INT(struct conf, chunk, "16", 1, 256, "tokens whose errors share the old weights", CHI_OPT_SHAPE),
    CHI_BOOL(struct conf, semi_exact, "no",
             "take the last matrix's error at the weights just before the token, not at the chunk's start",
             CHI_OPT_SHAPE),
    CHI_INT(struct conf, persistent_memory_slots, "64", 1, 1024, "learned pairs of key and value",
            CHI_OPT_SHAPE),
    CHI_INT(struct conf, conv_size, "4", 1, 16, "taps of the short causal convolution of q, k and v",
            CHI_OPT_SHAPE),
    CHI_FLOAT(struct conf, theta_max, "0.3", 0, 10, "largest inner step", CHI_OPT_SHAPE),
    CHI_FLOAT(struct conf, max_norm, "1000", 1e-3, 1e15,
              "a memory with a longer matrix at a chunk's end starts again from its parameters",
              CHI_OPT_SHAPE),
    CHI_ENUM(struct conf, core, "gated", "gated|window",
             "what surrounds the memory: learned slots, or they and the last tokens", CHI_OPT_SHAPE),
    CHI_INT(struct conf, local_window_size, "1024", 1, 65536, "tokens that a token sees if core = window",
            CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

enum { TASK_WORK = 1 << 15 };                   /* state values read by a task   */
enum { KEEP_ROWS = 64, MAX_SPAN = 8 };          /* between two kept starts */

/* ---- plan ------------------------------------------------------------------------ */

static void plan_arrays(struct titans *s, const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    static const char *const in[] = { "q", "k", "v", "g", "alpha", "eta", "theta" };
    int64_t n = s->inner;
    for (int i = 0; i < N_IN; i++)
        s->pre[i] = ops->array(plan, in[i], CHI_F32, i < AL ? n : s->H, CHI_PER_ROW, CHI_ARRAY_KEEP);
    for (int i = 0; i < 3; i++) s->y[i] = ops->array(plan, "y", CHI_F32, n, CHI_PER_ROW, 0);
    s->o = ops->array(plan, "o", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->h = ops->array(plan, "h", CHI_F32, n, CHI_PER_ROW, 0);
    if (s->window) s->r = ops->array(plan, "r", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
}

static void plan_training(struct titans *s, const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    int64_t n = s->inner;
    s->start = ops->array(plan, "start", CHI_F32, 2 * s->L * n * s->D, s->C * s->span, CHI_ARRAY_KEEP);
    s->norm  = ops->array(plan, "norm", CHI_F32, s->H, s->C, CHI_ARRAY_KEEP);
    for (int i = 0; i < N_IN; i++)
        s->dpre[i] = ops->array(plan, "d", CHI_F32, i < AL ? n : s->H, CHI_PER_ROW, 0);
    s->dh = s->dr = ops->array(plan, "dh", CHI_F32, n, CHI_PER_ROW, 0);
    if (s->window) s->dr = ops->array(plan, "dr", CHI_F32, n, CHI_PER_ROW, 0);
    for (int i = 0; i < 3; i++) {
        s->part_conv[i] = ops->array(plan, "part_conv", CHI_F32, n * s->W, CHI_PER_SEG, 0);
        s->part_bias[i] = ops->array(plan, "part_bias", CHI_F32, s->H, CHI_PER_SEG, 0);
    }
    for (int64_t l = 0; l < s->L; l++)
        s->part_w[l] = ops->array(plan, "part_w", CHI_F32, n * s->D, CHI_PER_SEG, 0);
    for (int i = 0; i < 2; i++)
        s->part_slot[i] = ops->array(plan, "part_slot", CHI_F32, n * s->P, CHI_PER_SEG, 0);
    s->part_norm = ops->array(plan, "part_norm", CHI_F32, n, CHI_PER_SEG, 0);
}

static void plan_params(struct titans *s, const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    static const char *const conv[] = { "q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight" };
    static const char *const bias[] = { "alpha_proj.bias", "eta_proj.bias", "theta_proj.bias" };
    static const char *const slot[] = { "persistent.k", "persistent.v" };
    int64_t H = s->H, D = s->D;
    double sd = 1 / sqrt((double)D), tap = 1 / sqrt((double)s->W);
    for (int i = 0; i < 3; i++) {
        s->conv[i] = ops->param(plan, conv[i], (int64_t[]){ s->inner, s->W, 0 }, CHI_INIT_UNIFORM,
                                -tap, tap, 0);
        s->bias[i] = ops->param(plan, bias[i], (int64_t[]){ H, 0 }, CHI_INIT_LINEAR, i ? 0 : -9,
                                i ? 0 : -4, 0);
    }
    for (int64_t l = 0; l < s->L; l++) {
        char name[] = "memory.w1";
        name[sizeof name - 2] = (char)('1' + l);
        s->w[l] = ops->param(plan, name, (int64_t[]){ H, D, D, 0 }, CHI_INIT_NORMAL, sd, 0, 0);
    }
    for (int i = 0; i < 2; i++)
        s->slot[i] = ops->param(plan, slot[i], (int64_t[]){ H, s->P, D, 0 }, CHI_INIT_NORMAL, sd, 0, 0);
    s->o_norm = ops->param(plan, "o_norm.weight", (int64_t[]){ D, 0 }, CHI_INIT_CONST, 1, 0, 0);
}

static void plan_state(struct titans *s, const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    int64_t matrices = s->L * s->inner * s->D, rows = s->L * s->C * s->inner;
    s->M    = ops->state(plan, "M", CHI_F32, matrices);
    s->S    = ops->state(plan, "S", CHI_F32, matrices);
    s->A    = ops->state(plan, "rows", CHI_F32, rows);
    s->E    = ops->state(plan, "errors", CHI_F32, rows);
    s->coef = ops->state(plan, "factors", CHI_F32, s->H * coef_size(s));
    if (s->W > 1) s->tail = ops->state(plan, "tail", CHI_F32, 3 * (s->W - 1) * s->inner);
    if (s->window) s->ring = ops->state(plan, "ring", CHI_F32, 3 * s->window * s->inner);
}

/* With room for rounding up each of fewer than 64 takes                         */
static int64_t scratch_bytes(const struct titans *s, bool training)
{
    int64_t n = (3 * s->W + 1 + BLOCK) * s->D + BLOCK * (s->P + 2 * s->window) + titans_memory_floats(s);
    if (training) n += titans_back_floats(s);
    return n * (int64_t)sizeof(float) + 64 * 64;
}

static chi_status check(const struct chi_host *host, const struct conf *c, const struct chi_shape *shape)
{
    if (shape->d_in != shape->d_out)
        return host->fail(host, CHI_ESHAPE, "d_in %lld is not d_out %lld", (long long)shape->d_in,
                          (long long)shape->d_out);
    if (c->theta_max * (double)c->chunk > 100)
        return host->fail(host, CHI_ECONF, "theta_max = %g with chunk = %lld diverges: their product must "
                          "not exceed 100", c->theta_max, (long long)c->chunk);
    return CHI_OK;
}

static chi_status titans_open(const struct chi_host *host, void *self, const void *conf,
                              const struct chi_shape *shape, const struct chi_plan_ops *ops,
                              struct chi_plan *plan)
{
    static const char *const in[] = { "q_proj", "k_proj", "v_proj", "g_proj", "alpha_proj", "eta_proj",
                                      "theta_proj" };
    const struct conf *c = conf;
    struct titans *s = self;
    chi_status e = check(host, c, shape);
    if (e != CHI_OK) return e;

    *s = (struct titans){ .H = c->num_heads, .D = c->head_dim, .L = c->memory_depth, .C = c->chunk,
                          .P = c->persistent_memory_slots, .W = c->conv_size,
                          .inner = c->num_heads * c->head_dim, .semi_exact = c->semi_exact,
                          .window = c->core == WINDOW ? c->local_window_size : 0,
                          .eps = (float)shape->rms_norm_eps, .theta_max = (float)c->theta_max,
                          .scale = (float)(1 / sqrt((double)c->head_dim)), .max_norm = (float)c->max_norm,
                          .span = c->chunk >= KEEP_ROWS ? 1 : least(KEEP_ROWS / c->chunk, MAX_SPAN) };
    for (int i = 0; i < N_IN; i++)
        s->in[i] = ops->linear(plan, in[i], i < AL ? s->inner : s->H, shape->d_in,
                               i < AL ? 0 : CHI_LINEAR_F32);
    s->out = ops->linear(plan, "o_proj", shape->d_out, s->inner, 0);
    plan_params(s, ops, plan);
    plan_state(s, ops, plan);
    plan_arrays(s, ops, plan);
    if (shape->training) plan_training(s, ops, plan);
    ops->scratch(plan, scratch_bytes(s, shape->training));
    return CHI_OK;
}

/* ---- a head ------------------------------------------------------------------------ */

struct head titans_head(const struct titans *s, struct chi_run *r, int64_t seg, struct chi_scratch *scratch)
{
    struct head a = { .s = s, .k = r->h->k, .r = r, .g = &r->seg[seg], .seg = seg, .fast = r->keep };
    for (int i = 0; i < 3; i++) a.taps[i] = take(scratch, s->W * s->D);
    a.row  = take(scratch, s->D);
    a.p    = take(scratch, BLOCK * (s->P + 2 * s->window));
    a.seen = take(scratch, BLOCK * s->D);
    titans_memory_room(&a, scratch);
    return a;
}

void titans_begin_head(struct head *a, int64_t h)
{
    const struct titans *s = a->s;
    a->h = h;
    titans_taps(a);
    a->M = state_of(a, a->g->state, s->M, s->L * s->D * s->D);
    a->S = state_of(a, a->g->state, s->S, s->L * s->D * s->D);
    a->A = state_of(a, a->g->state, s->A, s->L * s->C * s->D);
    a->E = state_of(a, a->g->state, s->E, s->L * s->C * s->D);
}

void titans_gate(const struct head *a, int64_t t)
{
    const struct titans *s = a->s;
    float *h = row_of(a, s->h, t);
    a->k->rmsnorm(h, row_of(a, s->o, t), CHI_PARAM(a->r, s->o_norm, float), s->D, s->eps);
    a->k->silu_mul(h, row_of(a, s->pre[G], t), h, s->D);
}

/* Rows t..t+n-1 of the segment, at..at+n-1 of one chunk                          */
static void forward_rows(struct head *a, int64_t at, int64_t n, int64_t t)
{
    const struct titans *s = a->s;
    const float *r = a->Y + (s->L - 1) * s->C * s->D;

    titans_coefs(a, at, n, t);
    titans_write(a, at, n, t);
    titans_read(a, at, n, t);
    for (int64_t i = 0; i < n; i++) {
        copy(row_of(a, s->o, t + i), r + i * s->D, s->D);
        if (s->window) copy(row_of(a, s->r, t + i), r + i * s->D, s->D);
    }
    titans_attend(a, t, n);
    for (int64_t i = 0; i < n; i++) titans_gate(a, t + i);
}

/* After n rows: at a chunk's end the matrices move and the rows are forgotten.  Returns
 * the matrices' norm then                                                        */
static float end_rows(struct head *a, int64_t n, bool whole)
{
    const struct titans *s = a->s;
    int64_t rows = s->L * s->C * s->D, w = s->C + 1;
    float *coef = state_of(a, a->g->state, s->coef, coef_size(s)), norm = 0;

    if (whole) {
        norm = titans_end_chunk(a, n);
        zero(a->A, rows);
        zero(a->E, rows);
        titans_begin(a, NULL, 0);
        n = 0;
    }
    copy(coef, a->c.P + n * w, w);
    copy(coef + w, a->c.W + n * w, w);
    coef[2 * w] = a->c.B[n];
    return norm;
}

static void forward_head(struct head *a)
{
    const struct titans *s = a->s;
    const struct chi_segment *g = a->g;
    int64_t chunk = chi_first_chunk(a->r, a->seg, s->C), size = s->L * s->D * s->D;
    int64_t kept = chi_first_chunk(a->r, a->seg, s->C * s->span);
    const float *coef = state_of(a, g->state, s->coef, coef_size(s));

    if (g->fresh) titans_fresh(a, a->M);
    titans_shape(a);
    for (int64_t t = 0, n; t < g->rows; t += n, chunk++) {
        int64_t at = (g->pos + t) % s->C;
        n = least(s->C - at, g->rows - t);
        if (a->r->keep && (t == 0 || (g->pos + t) % (s->C * s->span) == 0)) {
            copy(start_of(a, kept), a->M, size);
            copy(start_of(a, kept++) + size, a->S, size);
        }
        titans_begin(a, at > 0 && !(g->fresh && t == 0) ? coef : NULL, at);
        forward_rows(a, at, n, t);
        float norm = end_rows(a, n, at + n == s->C);
        if (a->r->keep) *norm_of(a, chunk) = norm;
    }
    titans_move_tail(a);
    if (s->window) titans_remember(a);
}

/* Short calls put several heads into a task: a head of one row is microseconds.  A
 * head's numbers do not depend on the grouping.                                 */
struct job { struct head like; int64_t group, groups; };

static struct job make_job(const struct titans *s, struct chi_run *r)
{
    int64_t rows = (r->rows + r->n_seg - 1) / r->n_seg;
    int64_t group = TASK_WORK / (rows * 2 * s->L * s->D * s->D);
    if (group < 1) group = 1;
    group = least(group, s->H);
    return (struct job){ { .s = s, .r = r }, group, (s->H + group - 1) / group };
}

/* What a head reads besides its matrices, rows and slots, of which the CPU itself sees the next ones */
static void fetch_head(const struct head *a, int64_t h)
{
    const struct titans *s = a->s;
    struct head at = { .s = s, .r = a->r, .g = a->g, .h = h };
    for (int i = 0; i < 3; i++) {
        fetch(param_of(&at, s->conv[i], s->D * s->W), s->D * s->W);
        for (int64_t j = 0; j < s->W - 1; j++) fetch(tail_of(&at, a->g->state, i, j), s->D);
    }
    fetch(state_of(&at, a->g->state, s->coef, coef_size(s)), coef_size(s));
}

static void forward_task(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t first = i % j->groups * j->group, end = least(first + j->group, j->like.s->H);
    struct head a = titans_head(j->like.s, j->like.r, i / j->groups, scratch);

    for (int64_t h = first; h < end; h++) {
        if (h + 1 < j->like.s->H) fetch_head(&a, h + 1);        /* the next task is likely ours, too */
        titans_begin_head(&a, h);
        forward_head(&a);
    }
}

/* The longest matrix of any memory, and how many started again                  */
static void measure(const struct titans *s, struct chi_run *r)
{
    const float *norm = CHI_ARRAY(r, s->norm, float);
    int64_t n = chi_first_chunk(r, r->n_seg, s->C) * s->H, resets = 0;
    float longest = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!(norm[i] <= s->max_norm)) resets++;
        else if (norm[i] > longest) longest = norm[i];
    }
    r->h->meter(r->h, "memory_norm", (double)longest);
    r->h->meter(r->h, "memory_resets", (double)resets);
}

static chi_status titans_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct titans *s = self;
    float *pre[N_IN];
    if (r->rows == 0) return CHI_OK;

    for (int i = 0; i < N_IN; i++) pre[i] = CHI_ARRAY(r, s->pre[i], float);
    chi_status e = r->h->linears(s->in, N_IN, r, x, r->rows, pre);
    if (e != CHI_OK) return e;
    struct job j = make_job(s, r);
    r->h->parallel(r->h, r->n_seg * j.groups, forward_task, &j);
    if (r->keep) measure(s, r);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct titans),
    .open = titans_open,
    .forward = titans_forward,
    .backward = titans_backward,
};

static const char *const meters[] = { "memory_norm", "memory_resets", NULL };

static const struct chi_component titans_mac = {
    .struct_size = sizeof titans_mac,
    .kind = CHI_LAYER,
    .name = "titans_mac",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL,
    .summary = "a deep memory that learns while it reads, beside learned slots or a window",
    .papers = "2501.00663",
    .options = options,
    .meters = meters,
    .conf_size = sizeof(struct conf),
    .ops = &ops,
};

CHI_PLUGIN(titans_mac, .version = "1.0", .license = "MIT",
           .summary = "deep memory that learns at test time",
           .components = CHI_COMPONENTS(&titans_mac));
