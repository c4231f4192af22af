/* mlstm.c - xLSTM's matrix memory (arXiv 2405.04517) in the block of xLSTM 7B (arXiv
 * 2503.13427): exponential input gate, forget gate, and a sum of the keys that
 * normalises what is read.
 *
 *     q, k, v = W x;   i, f = cap(W_i x + b_i), cap(W_f x + b_f)
 *     y = W_o (sigmoid(W_g x) * norm(cell(q, k, v, i, f)))
 *
 * The cell is in cell.h, the memory itself in shared/hebb.h, the block of the first
 * paper, block = v1, in block_v1.h.                                              */
#include "block_v1.h"

struct mlstm_conf {
    int64_t num_heads, head_dim, head_v_dim, conv_size, qkv_proj_blocksize;
    double  gate_soft_cap, norm_eps, cell_eps;
    int32_t block;
};

static const struct chi_option options[] = {
    CHI_INT(struct mlstm_conf, num_heads, "4", 1, 1024, "number of heads", CHI_OPT_SHAPE),
    CHI_INT(struct mlstm_conf, head_dim, "64", 1, 1024,
            "channels of a head's q and k: one side of its state", CHI_OPT_SHAPE),
    CHI_INT(struct mlstm_conf, head_v_dim, "0", 0, 2048,
            "channels of a head's v and output: the other side; 0: head_dim", CHI_OPT_SHAPE),
    CHI_FLOAT(struct mlstm_conf, gate_soft_cap, "15", 1e-3, 80,
              "the gates' pre-activations stay between this and its negative", CHI_OPT_SHAPE),
    CHI_FLOAT(struct mlstm_conf, norm_eps, "1e-6", 1e-30, 1, "eps of the norm of each head", CHI_OPT_SHAPE),
    CHI_FLOAT(struct mlstm_conf, cell_eps, "1e-6", 0, 1, "eps of the cell's denominator", CHI_OPT_SHAPE),
    CHI_ENUM(struct mlstm_conf, block, "v2", "v2|v1",
             "what stands around the cell: xLSTM 7B's output gate, or the first paper's convolution and skip",
             CHI_OPT_SHAPE),
    CHI_INT(struct mlstm_conf, conv_size, "4", 1, 16, "block v1: taps of the causal convolution", CHI_OPT_SHAPE),
    CHI_INT(struct mlstm_conf, qkv_proj_blocksize, "4", 1, 64,
            "block v1: q, k and v are maps of blocks of so many channels", CHI_OPT_SHAPE),
    CHI_OPTIONS_END
};

/* ---- planning ---------------------------------------------------------------------- */

static void plan_block_v2(struct mlstm *s, const struct chi_shape *shape, const struct chi_plan_ops *ops,
                          struct chi_plan *plan)
{
    static const char *const linear[] = { "q", "k", "v", "ogate_preact", "igate_preact", "fgate_preact" };
    static const char *const name[] = { "q", "k", "v", "ogate", "igate", "fgate" };
    static const char *const dname[] = { "dq", "dk", "dv", "dogate", "digate", "dfgate" };

    for (int i = 0; i < N_IN; i++) {
        int64_t n = i < V ? s->heads * s->dk : i < IGATE ? s->inner : s->heads;
        s->in[i]  = ops->linear(plan, linear[i], n, shape->d_in, i < IGATE ? 0 : CHI_LINEAR_F32);
        s->pre[i] = ops->array(plan, name[i], CHI_F32, n, CHI_PER_ROW, CHI_ARRAY_KEEP);
        if (shape->training) s->dpre[i] = ops->array(plan, dname[i], CHI_F32, n, CHI_PER_ROW, 0);
    }
    for (int i = Q; i <= V; i++) {
        s->qkv[i]    = s->pre[i];
        s->dqkv[i]   = s->dpre[i];
        s->stride[i] = s->heads * width(s, i);
    }
    s->ipre   = s->pre[IGATE];
    s->fpre   = s->pre[FGATE];
    s->dipre  = s->dpre[IGATE];
    s->dfpre  = s->dpre[FGATE];
    s->out    = ops->linear(plan, "out_proj", shape->d_out, s->inner, 0);
}

static void plan_cell(struct mlstm *s, const struct chi_plan_ops *ops, struct chi_plan *plan, bool training)
{
    s->igate_bias = ops->param(plan, "igate_preact.bias", (int64_t[]){ s->heads, 0 },
                               s->v1 ? CHI_INIT_NORMAL : CHI_INIT_CONST, s->v1 ? 0.1 : -10, 0, 0);
    s->fgate_bias = ops->param(plan, "fgate_preact.bias", (int64_t[]){ s->heads, 0 }, CHI_INIT_LINEAR, 3, 6, 0);
    s->norm = ops->param(plan, "multihead_norm.weight", (int64_t[]){ s->inner, 0 }, CHI_INIT_CONST, 1, 0, 0);
    hebb_open(&s->memory, ops, plan, training);
    s->m          = ops->state(plan, "m", CHI_F32, s->heads);
    s->stabiliser = ops->array(plan, "m", CHI_F32, s->heads, CHI_PER_ROW, CHI_ARRAY_KEEP);
    s->h          = ops->array(plan, "h", CHI_F32, s->inner, CHI_PER_ROW, 0);
    if (!training) return;
    s->dh         = ops->array(plan, "dh", CHI_F32, s->inner, CHI_PER_ROW, 0);
    s->part_gate  = ops->array(plan, "part_gate", CHI_F32, 2 * s->heads, CHI_PER_SEG, 0);
    s->part_norm  = ops->array(plan, "part_norm", CHI_F32, s->inner, CHI_PER_SEG, 0);
}

/* ---- block v2: the output gate ------------------------------------------------------- */

static void gate_finish(struct hebb_chunk *c)
{
    const struct mlstm *s = c->layer;
    const float *gain = CHI_PARAM(c->r, s->norm, float) + c->head * s->dim;
    float *x = own_row(c, OWN_NORMAL);

    ones(c);
    for (int64_t t = 0; t < c->n; t++) {
        const float *g = hebb_at(c, s->pre[OGATE], t, s->dim);
        float *h = hebb_at(c, s->h, t, s->dim);
        cell_normal(c, t, x);
        for (int64_t j = 0; j < s->dim; j++) h[j] = x[j] * gain[j] * chi_sigmoid(g[j]);
    }
}

static void gate_finish_back(struct hebb_chunk *c)
{
    const struct mlstm *s = c->layer;
    const float *gain = CHI_PARAM(c->r, s->norm, float) + c->head * s->dim;
    float *x = own_row(c, OWN_NORMAL), *d = own_row(c, OWN_T), *dgain = own_row(c, OWN_DNORM);

    for (int64_t t = 0; t < c->n; t++) {
        const float *g = hebb_at(c, s->pre[OGATE], t, s->dim), *dh = hebb_at(c, s->dh, t, s->dim);
        float *dg = hebb_at(c, s->dpre[OGATE], t, s->dim);
        struct normal w = cell_normal(c, t, x);
        for (int64_t j = 0; j < s->dim; j++) {
            float open = chi_sigmoid(g[j]), dy = dh[j] * open;
            dg[j]     = dy * (1 - open) * x[j] * gain[j];
            dgain[j] += dy * x[j];
            d[j]      = dy * gain[j];
        }
        cell_out_back(c, t, x, w, d);
    }
}

static const struct hebb_ops block_v2 = {
    .prepare = cell_prepare, .finish = gate_finish, .finish_back = gate_finish_back,
    .prepare_back = cell_prepare_back, .begin = cell_begin, .end = cell_end,
};

/* ---- the layer --------------------------------------------------------------------------- */

static chi_status mlstm_open(const struct chi_host *host, void *self, const void *conf,
                             const struct chi_shape *shape, const struct chi_plan_ops *ops,
                             struct chi_plan *plan)
{
    const struct mlstm_conf *c = conf;
    struct mlstm *s = self;

    s->heads    = c->num_heads;
    s->dk       = c->head_dim;
    s->dim      = c->head_v_dim ? c->head_v_dim : c->head_dim;
    s->inner    = s->heads * s->dim;
    s->cap      = (float)c->gate_soft_cap;
    s->norm_eps = (float)c->norm_eps;
    s->cell_eps = (float)c->cell_eps;
    s->scale    = (float)(1 / sqrt((double)s->dk));
    s->v1       = c->block == 1;
    s->block    = c->qkv_proj_blocksize;
    s->conv     = (struct causal){ .channels = s->inner, .taps = c->conv_size };
    if (s->v1 && s->dk != s->dim)
        return host->fail(host, CHI_ESHAPE,
                          "block = v1 makes q, k and v of the same channels: head_v_dim = %lld must be "
                          "head_dim = %lld, or 0",
                          (long long)s->dim, (long long)s->dk);
    if (s->v1 && s->inner % s->block)
        return host->fail(host, CHI_ESHAPE, "num_heads x head_dim is %lld, which qkv_proj_blocksize = %lld does not "
                          "divide", (long long)s->inner, (long long)s->block);
    s->memory   = (struct hebb){ .ops = s->v1 ? &block_v1 : &block_v2, .heads = s->heads, .dk = s->dk,
                                 .dv = s->dim + 1, .own = 16 + OWN_ROWS * s->dim };
    if (s->v1) plan_block_v1(s, shape, ops, plan);
    else plan_block_v2(s, shape, ops, plan);
    plan_cell(s, ops, plan, shape->training);
    return CHI_OK;
}

static chi_status v2_in(const struct mlstm *s, struct chi_run *r, const float *x)
{
    float *pre[N_IN];
    for (int i = 0; i < N_IN; i++) pre[i] = CHI_ARRAY(r, s->pre[i], float);
    return r->h->linears(s->in, N_IN, r, x, r->rows, pre);
}

static chi_status v2_in_back(const struct mlstm *s, struct chi_run *r, const float *x, float *dx)
{
    const float *dpre[N_IN];
    for (int i = 0; i < N_IN; i++) dpre[i] = CHI_ARRAY(r, s->dpre[i], float);
    return r->h->linears_back(s->in, N_IN, r, x, r->rows, dpre, dx);
}

static chi_status mlstm_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct mlstm *s = self;
    if (r->rows == 0) return CHI_OK;

    chi_status e = s->v1 ? v1_in(s, r, x) : v2_in(s, r, x);
    if (e != CHI_OK) return e;
    hebb_forward(&s->memory, s, r);
    return r->h->linears(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &y);
}

static void reduce_partials(const struct mlstm *s, struct chi_run *r)
{
    const float *gate = CHI_ARRAY(r, s->part_gate, float);
    float *di = CHI_GRAD(r, s->igate_bias, float), *df = CHI_GRAD(r, s->fgate_bias, float);

    r->h->reduce(r->h, CHI_GRAD(r, s->norm, float), CHI_ARRAY(r, s->part_norm, float), r->n_seg, s->inner);
    for (int64_t i = 0; i < r->n_seg; i++, gate += 2 * s->heads)
        for (int64_t c = 0; c < s->heads; c++) {
            di[c] += gate[c];
            df[c] += gate[s->heads + c];
        }
}

static chi_status mlstm_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct mlstm *s = self;
    if (r->rows == 0) return CHI_OK;

    hebb_finish_again(&s->memory, s, r);
    zero(CHI_ARRAY(r, s->dh, float), r->rows * s->inner);
    chi_status e = r->h->linears_back(&s->out, 1, r, CHI_ARRAY(r, s->h, float), r->rows, &dy,
                                      CHI_ARRAY(r, s->dh, float));
    if (e != CHI_OK) return e;
    hebb_backward(&s->memory, s, r);
    e = s->v1 ? v1_in_back(s, r, x, dx) : v2_in_back(s, r, x, dx);
    if (e == CHI_OK && r->grads) reduce_partials(s, r);
    return e;
}

static const struct chi_layer_ops ops = {
    .struct_size = sizeof ops,
    .self_size = sizeof(struct mlstm),
    .open = mlstm_open,
    .forward = mlstm_forward,
    .backward = mlstm_backward,
};

static const struct chi_component mlstm = {
    .struct_size = sizeof mlstm,
    .kind = CHI_LAYER,
    .name = "mlstm",
    .revision = 1,
    .caps = CHI_LAYER_CAUSAL | CHI_LAYER_SPLIT_FREE,
    .summary = "xLSTM's matrix memory with exponential gates",
    .papers = "2405.04517 2503.13427",
    .options = options,
    .conf_size = sizeof(struct mlstm_conf),
    .ops = &ops,
};

CHI_PLUGIN(mlstm, .version = "1.0", .license = "MIT",
           .summary = "xLSTM's matrix memory",
           .components = CHI_COMPONENTS(&mlstm));
