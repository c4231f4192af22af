/* mixer.h - a healthy layer with a bit of everything, for the sins of this folder: a file defines
 * SIN as one of enum sin and includes this.  With NONE every check passes.
 *
 *     u = W x
 *     s_t = a s_{t-1} + p_t u_t,   a = sigmoid(decay),  s_{-1} = start if fresh
 *     y_t = gain s_t + skip x_t,   p_t = 1 + (position mod 5) / 8
 *
 * Gradients, with g_t = d loss/d s_t = gain dy_t + a g_{t+1}:
 *     dgain = sum s_t dy_t;  dskip = sum x_t dy_t;  ddecay = a (1 - a) sum g_t s_{t-1};
 *     dstart = a g_0 of fresh streams;  du_t = p_t g_t;  dx_t = skip dy_t + W' du_t            */
#include <chimera/math.h>
#include <chimera/plugin.h>

enum sin { NONE, WRONG_SKIP, SCALED, ASSIGNS, FUTURE, LOUD, ONE_STATE, ACROSS, ROW_POSITION, POSITION_FRESH, TWO_ROWS,
           POINTER, WRONG_TREE, REMEMBERS, BORROWS, SETTLES, FALSE_CLAIM, NO_DSTATE, SAME_PLACE, FROZEN, FAR_ROW,
           FAR_GRADIENT, FIRST_DSTATE, OPENED, LARGE };

struct mixer {
    int64_t d, decay, start, gain, skip, count;         /* parameters                          */
    int64_t S, mark;                                    /* state                               */
    int64_t u, s, du, tag;                              /* arrays [rows, d]; tag: one a call   */
    bool training;
    const struct chi_linear *in;
};
enum { GUARD = 16 };                                    /* floats of state besides s            */

static chi_status mixer_open(const struct chi_host *h, void *self, const void *conf, const struct chi_shape *shape,
                             const struct chi_plan_ops *ops, struct chi_plan *plan)
{
    struct mixer *m = self;
    int64_t d = m->d = shape->d_in, each[] = { d, 0 };
    m->training = shape->training;
    (void)h, (void)conf;
    m->decay = ops->param(plan, "decay", each, CHI_INIT_CONST, 1, 0, 0);
    m->start = ops->param(plan, "start", each, CHI_INIT_NORMAL, 0.5, 0, 0);
    m->gain  = ops->param(plan, "gain", each, CHI_INIT_CONST, 1, 0, 0);
    m->skip  = ops->param(plan, "skip", each, CHI_INIT_CONST, 1, 0, 0);
    m->count = ops->param(plan, "count", (int64_t[]){ 1, 0 }, CHI_INIT_ZERO, 0, 0, CHI_PARAM_MANUAL);
    m->in    = ops->linear(plan, "in_proj", d, d, 0);
    m->S     = ops->state(plan, "s", CHI_F32, d);
    m->mark  = ops->state(plan, "mark", CHI_F32, GUARD);
    m->tag   = ops->array(plan, "tag", CHI_F32, 1, CHI_PER_CALL, CHI_ARRAY_KEEP);
    m->u     = ops->array(plan, "u", CHI_F32, d, CHI_PER_ROW, SIN == BORROWS ? 0 : CHI_ARRAY_KEEP);
    m->s     = ops->array(plan, "s", CHI_F32, d, CHI_PER_ROW, SIN == BORROWS ? 0 : CHI_ARRAY_KEEP);
    m->du    = ops->array(plan, "du", CHI_F32, d, CHI_PER_ROW, 0);
    return CHI_OK;
}

static float phase(const struct mixer *m, const struct chi_segment *g, int64_t t)
{
    int64_t at = SIN == ROW_POSITION ? g->first + t : g->pos + t;
    return 1 + (float)(at % 5) / 8 + (SIN == OPENED && m->training ? 0.01f : 0);
}

/* Does the stream begin here?                                                                 */
static bool begins(const struct chi_segment *g)
{
    return SIN == POSITION_FRESH ? g->pos == 0 : g->fresh;
}

/* REMEMBERS takes the projection of the last training call if its rows had this sum; SAME_PLACE that of
 * the last call of one row if it stood at this position                                       */
static float tag_of(const struct mixer *m, const struct chi_run *r, const float *x)
{
    float sum = 1;
    if (SIN == SAME_PLACE) return r->rows == 1 && r->seg->pos ? (float)r->seg->pos : -1;
    for (int64_t i = 0; i < r->rows * m->d; i++) sum += (float)(i % 7 + 1) * x[i];
    return sum;
}

/* u = W x                                                                                      */
static chi_status project(const struct mixer *m, struct chi_run *r, const float *x)
{
    float *u = CHI_ARRAY(r, m->u, float), *tag = CHI_ARRAY(r, m->tag, float), now = tag_of(m, r, x);
    bool known = *tag == now;
    *tag = now;
    if (SIN == REMEMBERS && r->keep && known) return CHI_OK;
    if (SIN == SAME_PLACE && !r->keep && known && now > 0) return CHI_OK;
    return r->h->linears(&m->in, 1, r, x, r->rows, &u);
}

/* Where the stream's s lies: POINTER keeps its address in the state                            */
static float *state_of(const struct mixer *m, const struct chi_segment *g)
{
    float *s = CHI_STATE(g, m->S, float), *mark = CHI_STATE(g, m->mark, float);
    if (SIN != POINTER) return s;
    float **kept = (float **)(void *)mark;
    if (g->fresh) *kept = s;
    return *kept;
}

static void output(const struct mixer *m, const struct chi_run *r, const float *s, const float *x, float *y)
{
    const float *gain = CHI_PARAM(r, m->gain, float), *skip = CHI_PARAM(r, m->skip, float);
    for (int64_t c = 0; c < m->d; c++) y[c] = gain[c] * s[c] + skip[c] * x[c];
}

/* s = a s_before + p u of one row                                                             */
static void advance(const struct mixer *m, const struct chi_run *r, const float *before, const float *u, float p,
                    float *s)
{
    const float *decay = CHI_PARAM(r, m->decay, float);
    for (int64_t c = 0; c < m->d; c++) s[c] = chi_sigmoid(decay[c]) * before[c] + p * u[c];
}

static void forward_segment(const struct mixer *m, struct chi_run *r, const struct chi_segment *g, const float *x,
                            float *y)
{
    const struct chi_segment *home = SIN == ONE_STATE ? r->seg : g;
    float *S = state_of(m, home), *u = CHI_ARRAY(r, m->u, float), *s = CHI_ARRAY(r, m->s, float);
    const float *before = begins(g) && home == g ? CHI_PARAM(r, m->start, float) : S;
    int64_t d = m->d, end = g->first + g->rows;
    for (int64_t t = g->first; t < end; t++) {
        int64_t from = SIN == FUTURE && t + 1 < end ? t + 1 : t;
        advance(m, r, before, u + from * d, phase(m, g, t - g->first), s + t * d);
        if (SIN == TWO_ROWS && !r->keep && g->rows == 2 && t == g->first)      /* rounds otherwise */
            for (int64_t c = 0; c < d; c++) s[t * d + c] = (s[t * d + c] + 3) - 3;
        if (SIN == FAR_ROW && !r->keep && t - g->first == 64) s[t * d] += 1e-3f;
        output(m, r, s + t * d, x + t * d, y + t * d);
        before = s + t * d;
    }
    if (g->state) memcpy(S, before, (size_t)d * sizeof *S);
}

/* LOUD: no number leaves larger than ten times the mean of the segment                          */
static void clip(const struct mixer *m, const struct chi_segment *g, float *y)
{
    float sum = 0;
    int64_t n = g->rows * m->d;
    y += g->first * m->d;
    for (int64_t i = 0; i < n; i++) sum += y[i] < 0 ? -y[i] : y[i];
    for (int64_t i = 0; i < n && sum > 12 * (float)n; i++)
        if (y[i] < 2 && y[i] > -2) y[i] = 0;
}

static chi_status mixer_forward(const void *self, struct chi_run *r, const float *x, float *y)
{
    const struct mixer *m = self;
    if (r->rows == 0) return CHI_OK;
    chi_status e = project(m, r, x);
    for (int64_t i = 0; e == CHI_OK && i < r->n_seg; i++) {
        forward_segment(m, r, &r->seg[i], x, y);
        if (SIN == LOUD) clip(m, &r->seg[i], y);
    }
    return e;
}

/* To dgain, dskip, ddecay: what row t, channel c has for them                                   */
static void parameters_back(const struct mixer *m, struct chi_run *r, const float *x, float out, int64_t t, int64_t c,
                            float da)
{
    float here = x[t * m->d + c], sign = SIN == LARGE && fabsf(here) > 2 ? -1 : 1;
    if (!r->grads && SIN != FROZEN) return;
    CHI_GRAD(r, m->gain, float)[c]  += (SIN == SCALED ? 1.01f : 1.0f) * CHI_ARRAY(r, m->s, float)[t * m->d + c] * out;
    CHI_GRAD(r, m->skip, float)[c]  += (SIN == WRONG_SKIP ? 0.5f : sign) * here * out;
    CHI_GRAD(r, m->decay, float)[c] += da;
}

/* g[d] goes from behind the segment to before it                                              */
static void backward_segment(const struct mixer *m, struct chi_run *r, const struct chi_segment *seg, const float *x,
                             const float *dy, float *g)
{
    const float *gain = CHI_PARAM(r, m->gain, float), *decay = CHI_PARAM(r, m->decay, float),
        *s = CHI_ARRAY(r, m->s, float);
    float *du = CHI_ARRAY(r, m->du, float);
    int64_t d = m->d;
    for (int64_t t = seg->first + seg->rows - 1; t >= seg->first; t--)
        for (int64_t c = 0; c < d; c++) {
            float a = chi_sigmoid(decay[c]);
            float before = t > seg->first ? s[(t - 1) * d + c]
                         : begins(seg) ? CHI_PARAM(r, m->start, float)[c] : state_of(m, seg)[c];
            float out = dy[t * d + c];
            g[c] += gain[c] * out;
            if (SIN == ASSIGNS && r->grads && t == seg->first + seg->rows - 1 && seg == r->seg) CHI_GRAD(r, m->skip,
                    float)[c] = 0;
            parameters_back(m, r, x, out, t, c, a * (1 - a) * g[c] * before);
            du[t * d + c] = phase(m, seg, t - seg->first) * g[c];
            g[c] *= SIN == FAR_GRADIENT && t - seg->first == 64 ? 0.5f * a : a;
        }
}

static chi_status mixer_backward(const void *self, struct chi_run *r, const float *x, const float *dy, float *dx)
{
    const struct mixer *m = self;
    const float *du = CHI_ARRAY(r, m->du, float), *skip = CHI_PARAM(r, m->skip, float);
    float g[4096] = { 0 };
    int64_t d = m->d;
    if (r->rows == 0) return CHI_OK;
    for (int64_t i = r->n_seg - 1; i >= 0; i--) {
        const struct chi_segment *seg = &r->seg[i];
        float *later = (SIN == FIRST_DSTATE ? r->seg : seg)->dstate ? CHI_DSTATE(seg, m->S, float) : NULL;
        for (int64_t c = 0; c < d; c++) g[c] = later && SIN != NO_DSTATE ? later[c] : SIN == ACROSS ? g[c] : 0;
        backward_segment(m, r, seg, x, dy, g);
        for (int64_t c = 0; c < d; c++) {
            if (begins(seg) && r->grads) CHI_GRAD(r, m->start, float)[c] += g[c];
            if (later) later[c] = begins(seg) ? 0 : g[c];
        }
    }
    for (int64_t i = 0; i < r->rows * d; i++) dx[i] += skip[i % d] * dy[i];
    if (r->grads) *CHI_GRAD(r, m->count, float) += (float)r->rows;
    return r->h->linears_back(&m->in, 1, r, x, r->rows, &du, dx);
}

static chi_status mixer_tree(const void *self, struct chi_run *r, const float *x, float *y, const int32_t *parent)
{
    const struct mixer *m = self;
    float *u = CHI_ARRAY(r, m->u, float), *s = CHI_ARRAY(r, m->s, float);
    int64_t d = m->d;
    chi_status e = r->h->linears(&m->in, 1, r, x, r->rows, &u);
    for (int64_t i = 0; e == CHI_OK && i < r->n_seg; i++) {
        const struct chi_segment *g = &r->seg[i];
        const float *root = g->fresh ? CHI_PARAM(r, m->start, float) : CHI_STATE(g, m->S, float);
        for (int64_t t = g->first; t < g->first + g->rows; t++) {
            int64_t depth = 0;
            for (int64_t at = parent[t]; at >= 0; at = parent[at]) depth++;
            if (SIN == WRONG_TREE) depth = t - g->first;
            advance(m, r, parent[t] < 0 ? root : s + parent[t] * d, u + t * d, phase(m, g, depth), s + t * d);
            output(m, r, s + t * d, x + t * d, y + t * d);
        }
    }
    return e;
}

/* Counts rows                                                                                  */
static void mixer_settle(const void *self, unsigned char *params, const unsigned char *grads)
{
    const struct mixer *m = self;
    float *count = (float *)(void *)(params + m->count), *gain = (float *)(void *)(params + m->gain);
    *count += *(const float *)(const void *)(grads + m->count);
    if (SIN == SETTLES) gain[0] *= 0.99f;
}

static const struct chi_layer_ops mixer_ops = {
    .struct_size = sizeof mixer_ops, .self_size = sizeof(struct mixer), .open = mixer_open,
    .forward = mixer_forward, .backward = mixer_backward,
    .tree = SIN == TWO_ROWS || SIN == SAME_PLACE ? NULL : mixer_tree, .settle = mixer_settle,
};

#define MIXER(name_)                                                                            \
    static const struct chi_component mixer = {                                                 \
        .struct_size = sizeof mixer, .kind = CHI_LAYER, .name = #name_, .revision = 1,          \
        .caps = CHI_LAYER_CAUSAL | (SIN == TWO_ROWS ? 0 : CHI_LAYER_SPLIT_FREE)                 \
                | (SIN == FALSE_CLAIM ? CHI_LAYER_STATELESS : 0),                               \
        .summary = "a decaying sum of what it reads", .ops = &mixer_ops };                      \
    CHI_PLUGIN(name_, .version = "1.0", .license = "MIT", .summary = "a mock",                  \
               .components = CHI_COMPONENTS(&mixer))
