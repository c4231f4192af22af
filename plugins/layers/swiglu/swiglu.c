/* swiglu.c - the gated feed-forward network (arXiv 2002.05202, SwiGLU):
 *
 *     y = W_down (silu(W_gate x) * (W_up x))
 *
 * Rows are alike and nothing is remembered, so segments are not looked at.
 * Forward keeps the outputs of gate and up; their product is made again in
 * backward, which costs a sigmoid per value and saves a third of the memory.   */
#include <chimera/plugin.h>

#include <string.h>

struct swiglu_conf {
    int64_t intermediate_size;
};

static const struct chi_option options[] = {
    { "intermediate_size", CHI_OPT_INT, CHI_FIELD(struct swiglu_conf, intermediate_size, int64_t),
      NULL, 1, 1 << 20, NULL, "width between the up and the down projection",
      CHI_OPT_SHAPE | CHI_OPT_REQUIRED },
    CHI_OPTIONS_END
};

struct swiglu {
    const struct chi_linear *in[2], *down;          /* gate, up                 */
    int64_t width;
    int64_t gate, up, h;                            /* arrays [rows, width]     */
    int64_t dh, dgate, dup;                         /* training only            */
};

enum { BLOCK = 16384 };                             /* values that a task does  */

static chi_status swiglu_open(const struct chi_host *host, void *self, const void *conf,
                              const struct chi_shape *shape, const struct chi_plan_ops *ops,
                              struct chi_plan *plan)
{
    struct swiglu *s = self;
    int64_t n = s->width = ((const struct swiglu_conf *)conf)->intermediate_size;

    (void)host;
    s->in[0] = ops->linear(plan, "gate_proj", n, shape->d_in, 0);
    s->in[1] = ops->linear(plan, "up_proj", n, shape->d_in, 0);
    s->down  = ops->linear(plan, "down_proj", shape->d_out, n, 0);
    s->gate  = ops->array(plan, "gate", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->up    = ops->array(plan, "up", CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->h     = ops->array(plan, "h", CHI_F32, n, CHI_PER_ROW, 0);
    if (!shape->training) return CHI_OK;
    s->dh    = ops->array(plan, "dh", CHI_F32, n, CHI_PER_ROW, 0);
    s->dgate = ops->array(plan, "dgate", CHI_F32, n, CHI_PER_ROW, 0);
    s->dup   = ops->array(plan, "dup", CHI_F32, n, CHI_PER_ROW, 0);
    return CHI_OK;
}

/* The values between the linears, all rows in one run of floats                */
struct job {
    const struct chi_kernels *k;
    int64_t n;
    const float *gate, *up;
    float *h, *dh, *dgate, *dup;
};

static struct job make_job(const struct swiglu *s, const struct chi_run *r)
{
    return (struct job){
        .k = r->h->k, .n = r->rows * s->width,
        .gate = CHI_ARRAY(r, s->gate, float), .up = CHI_ARRAY(r, s->up, float),
        .h = CHI_ARRAY(r, s->h, float),
    };
}

static int64_t block_size(const struct job *j, int64_t i)
{
    int64_t left = j->n - i * BLOCK;
    return left < BLOCK ? left : BLOCK;
}

static void multiply(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t at = i * BLOCK;
    (void)scratch;
    j->k->silu_mul(j->h + at, j->gate + at, j->up + at, block_size(j, i));
}

/* h = silu(g) u:  du = silu(g) dh,  dg = silu'(g) u dh                         */
static void multiply_back(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    int64_t at = i * BLOCK, n = block_size(j, i);
    const float *up = j->up + at, *dh = j->dh + at;
    float *dgate = j->dgate + at;
    (void)scratch;
    for (int64_t c = 0; c < n; c++) dgate[c] = dh[c] * up[c];
    j->k->silu_back(dgate, j->gate + at, dgate, n);
    j->k->silu_mul(j->dup + at, j->gate + at, dh, n);
}

/* multiply() again, and an empty dh for linears_back() to add to               */
static void prepare_back(void *arg, int64_t i, struct chi_scratch *scratch)
{
    const struct job *j = arg;
    multiply(arg, i, scratch);
    memset(j->dh + i * BLOCK, 0, (size_t)block_size(j, i) * sizeof(float));
}

static void for_blocks(const struct chi_run *r, chi_task *task, struct job *j)
{
    r->h->parallel(r->h, (j->n + BLOCK - 1) / BLOCK, task, j);
}

static chi_status swiglu_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct swiglu *s = self;
    struct job j = make_job(s, r);
    float *in[] = { CHI_ARRAY(r, s->gate, float), CHI_ARRAY(r, s->up, float) };

    chi_status e = r->h->linears(s->in, 2, r, x, r->rows, in);
    if (e != CHI_OK) return e;
    for_blocks(r, multiply, &j);
    return r->h->linears(&s->down, 1, r, j.h, r->rows, &y);
}

static chi_status swiglu_backward(const void *self, struct chi_run *r, const float *x,
                                  const float *dy, float *dx)
{
    const struct swiglu *s = self;
    struct job j = make_job(s, r);
    j.dh    = CHI_ARRAY(r, s->dh, float);
    j.dgate = CHI_ARRAY(r, s->dgate, float);
    j.dup   = CHI_ARRAY(r, s->dup, float);

    for_blocks(r, prepare_back, &j);
    chi_status e = r->h->linears_back(&s->down, 1, r, j.h, r->rows, &dy, j.dh);
    if (e != CHI_OK) return e;
    for_blocks(r, multiply_back, &j);
    const float *din[] = { j.dgate, j.dup };
    return r->h->linears_back(s->in, 2, r, x, r->rows, din, dx);
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct swiglu),
    .open = swiglu_open,
    .forward = swiglu_forward,
    .backward = swiglu_backward,
};

static const struct chi_component swiglu = {
    .struct_size = sizeof swiglu,
    .kind = CHI_LAYER,
    .name = "swiglu",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_STATELESS | CHI_LAYER_SPLIT_FREE,
    .summary = "gated feed-forward network, down(silu(gate x) * up x)",
    .papers = "2002.05202",
    .options = options,
    .conf_size = sizeof(struct swiglu_conf),
    .ops = &ops,
};

CHI_PLUGIN(swiglu, .version = "1.0", .license = "MIT",
           .summary = "gated feed-forward network",
           .components = CHI_COMPONENTS(&swiglu));
