/* hgf.c - a gated correction of low rank beside a ternary linear (Hybrid Gated Flow, arXiv
 * 2602.05269):
 *
 *     y = W^ x + g B A x~         g = tanh(theta), A[rank, d_in], B[d_out, rank]
 *
 * x~ is the linear's input, normalised if it normalises, but not rounded to int8.  The paper
 * names the gate and its three phases, not their constants; those here are ours:
 *
 *     p < warmup             g stays at its start; A and B learn
 *     warmup <= p < freeze   theta learns with the penalty  penalty g^2  added to the loss
 *     freeze <= p            theta stays
 *
 * with p the share of the steps that is done.  B starts at zero: a model begins as the one
 * without.  tanh(theta) = 2 sigmoid(2 theta) - 1 by the framework's sigmoid, the same bits on
 * every machine.                                                                             */
#include <chimera/plugin.h>
#include <chimera/format.h>
#include <chimera/math.h>

#include "../shared/lowrank.h"

struct conf {
    int64_t rank;
    double  gate, warmup, freeze, penalty;
};

struct hgf {
    struct lowrank l;
    int64_t theta;
    const struct conf *conf;
};

enum { THETA = 2 };                         /* the third parameter that is planned           */

/* 13 % of the bytes of a ternary matrix (2.125 bits a weight), if A and B took 2 bytes a value:
 * a multiple of 8, or, where that is less than 4, 1, 2 or 3                                   */
static int64_t budget(int64_t d_out, int64_t d_in)
{
    double rank = 0.13 * 0.265625 * (double)d_out * (double)d_in / (2 * (double)(d_out + d_in));
    return rank < 3.5 ? (rank < 1.5 ? 1 : (int64_t)(rank + 0.5)) : rank < 12 ? 8 : 8 * (int64_t)(rank / 8 + 0.5);
}

static chi_status check(const struct chi_host *h, const void *conf)
{
    const struct conf *c = conf;
    if (c->warmup <= c->freeze) return CHI_OK;
    return h->fail(h, CHI_ECONF,
                   "warmup = %g is behind freeze = %g: the gate would never learn; set both to 0 for that",
                   c->warmup, c->freeze);
}

static chi_status hgf_open(const struct chi_host *h, void *self, const void *conf, int64_t d_out, int64_t d_in,
                           const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    const struct conf *c = conf;
    struct hgf *a = self;
    (void)h;
    a->conf = c;
    lowrank_plan(&a->l, d_out, d_in, c->rank ? c->rank : budget(d_out, d_in), ops, plan);
    a->theta = ops->param(plan, "theta", (int64_t[]){ 1, 0 }, CHI_INIT_CONST, atanh(c->gate), 0, 0);
    return CHI_OK;
}

static float gate(float theta)
{
    return 2 * chi_sigmoid(2 * theta) - 1;
}

static chi_status hgf_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct hgf *a = self;
    float g = gate(*CHI_PARAM(r, a->theta, float));
    if (r->keep) r->h->meter(r->h, "hgf_gate", (double)g);
    lowrank_forward(&a->l, r, g, x, y);
    return CHI_OK;
}

/* dtheta = (1 - g^2) dg                                                                       */
static chi_status hgf_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct hgf *a = self;
    float g = gate(*CHI_PARAM(r, a->theta, float));
    double dg = lowrank_backward(&a->l, r, g, x, dy, dx);
    if (r->grads) *CHI_GRAD(r, a->theta, float) += (1 - g * g) * (float)dg;
    return CHI_OK;
}

static uint32_t hgf_steer(const void *self, double progress, const unsigned char *params, unsigned char *grads)
{
    const struct hgf *a = self;
    const struct conf *c = a->conf;
    if (progress < c->warmup || progress >= c->freeze) return 1u << THETA;
    float theta, dtheta;
    memcpy(&theta, params + a->theta, sizeof theta);
    memcpy(&dtheta, grads + a->theta, sizeof dtheta);
    float g = gate(theta);
    dtheta += 2 * (float)c->penalty * g * (1 - g * g);
    memcpy(grads + a->theta, &dtheta, sizeof dtheta);
    return 0;
}

static const char *const meters[] = { "hgf_gate", NULL };
static const struct chi_adapter_ops ops = {
    .struct_size = sizeof ops, .self_size = sizeof(struct hgf), .open = hgf_open, .forward = hgf_forward,
    .backward = hgf_backward, .steer = hgf_steer,
};
static const struct chi_option options[] = {
    CHI_INT(struct conf, rank, "0", 0, 4096, "rows of A; 0: about 13 % of the bytes of a ternary matrix in fp16",
            CHI_OPT_SHAPE),
    CHI_FLOAT(struct conf, gate, "0.1", -0.99, 0.99, "the gate at the start", 0),
    CHI_FLOAT(struct conf, warmup, "0.1", 0, 1, "share of the steps before the gate learns", 0),
    CHI_FLOAT(struct conf, freeze, "0.6", 0, 1, "share of the steps after which it stays", 0),
    CHI_FLOAT(struct conf, penalty, "1e-3", 0, 1e3, "of the squared gate, while it learns", 0),
    CHI_OPTIONS_END
};
static const struct chi_component adapter = {
    .struct_size = sizeof adapter, .kind = CHI_ADAPTER, .name = "hgf", .revision = 1,
    .summary = "a gated correction of low rank beside a linear", .papers = "2602.05269", .meters = meters,
    .options = options, .conf_size = sizeof(struct conf), .check = check, .ops = &ops,
};

CHI_PLUGIN(hgf, .version = "1.0", .license = "MIT", .summary = "hybrid gated flow",
           .components = CHI_COMPONENTS(&adapter));
