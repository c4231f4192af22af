/* model.c - building a network: instances, parameters, memory, weights; see model.h.      */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#include "adapter.h"
#include "core.h"
#include "crumb.h"
#include "gradient.h"
#include "hosting.h"
#include "network.h"
#include "pool.h"
#include "tune.h"

/* ---- instances ------------------------------------------------------------------------- */

static chi_status open_block(struct model *m, int64_t l)
{
    struct block *b = &m->block[l];
    char name[64];
    int64_t shape[] = { m->d, 0 };
    snprintf(name, sizeof name, "layers.%lld", (long long)l);
    TRY(instance_open(&b->norms, m->spec, name, NULL, m->mode, m->max_rows, m->max_segs));
    b->norm1 = instance_param(&b->norms, "norm1.weight", shape, CHI_INIT_CONST, 1, 0, 0);
    b->norm2 = instance_param(&b->norms, "norm2.weight", shape, CHI_INIT_CONST, 1, 0, 0);
    snprintf(name, sizeof name, "layers.%lld.mixer", (long long)l);
    TRY(instance_open(&b->mixer, m->spec, name, &m->spec->mixer[l], m->mode, m->max_rows, m->max_segs));
    snprintf(name, sizeof name, "layers.%lld.ffn", (long long)l);
    TRY(instance_open(&b->ffn, m->spec, name, &m->spec->ffn[l], m->mode, m->max_rows, m->max_segs));
    b->mixer_state = m->state_bytes;
    b->ffn_state = b->mixer_state + b->mixer.state_bytes;
    m->state_bytes = b->ffn_state + b->ffn.state_bytes;
    return CHI_OK;
}

/* Behind the looped layers' states of turn 0 those of the other turns, and how many tokens each
 * turn did without                                                                           */
static void room_of_turns(struct model *m, int64_t l)
{
    struct turning *t = &m->loop;
    if (!t->length || l != t->prelude + t->length - 1) return;
    t->state_bytes = m->state_bytes - m->block[t->prelude].mixer_state;
    m->state_bytes += (t->turns - 1) * t->state_bytes;
    t->skipped = m->state_bytes;
    m->state_bytes += round_up(t->turns * (int64_t)sizeof(int64_t), 64);
}

static chi_status open_all(struct model *m)
{
    int64_t n = 0;
    TRY(turns_open(m));
    TRY(instance_open(&m->top, m->spec, "", NULL, m->mode, m->max_rows, m->max_segs));
    TRY(instance_linear(&m->top, m->spec, "embed", m->vocab, m->d, 0, &m->embed));
    m->top.param[0].decay = false;
    TRY(instance_open(&m->bottom, m->spec, "", NULL, m->mode, m->max_rows, m->max_segs));
    instance_param(&m->bottom, "final_norm.weight", (int64_t[]){ m->d, 0 }, CHI_INIT_CONST, 1, 0, 0);
    m->head = m->embed;
    if (!m->spec->model.tie_word_embeddings) {
        m->top.param[0].share = 1 / (double)m->vocab;       /* a token looks one row up                    */
        TRY(instance_linear(&m->bottom, m->spec, "lm_head", m->vocab, m->d, 0, &m->head));
        m->bottom.param[1].decay = false;
    }
    m->all = xcalloc((size_t)(3 * m->layers + 3), sizeof *m->all);
    m->all[n++] = &m->top;
    for (int64_t l = 0; l < m->layers; l++) {
        TRY(open_block(m, l));
        room_of_turns(m, l);
        m->all[n++] = &m->block[l].norms;
        m->all[n++] = &m->block[l].mixer;
        m->all[n++] = &m->block[l].ffn;
    }
    if (m->loop.length) m->all[n++] = &m->loop.in;
    m->all[n++] = &m->bottom;
    m->n_all = n;
    return CHI_OK;
}

/* A pattern with a slip in it would leave the weights that it is about as they are          */
static void warn_of_idle_rules(const struct model *m)
{
    for (int64_t r = 2; r < m->spec->n_rule; r++) {     /* behind [linear] and [linear.embed] */
        bool used = false;
        for (int64_t i = 0; i < m->n_all && !used; i++)
            for (int64_t j = 0; j < m->all[i]->n_param && !used; j++) {
                const struct chi_linear *l = m->all[i]->param[j].linear;
                used = l && l->rule == &m->spec->rule[r];
            }
        if (!used)
            warn("[linear.%s] applies to no weights of this model: no name matches, or longer patterns take them all",
                 m->spec->rule[r].pattern);
    }
}

/* Only the portable kernel knows these groups, where others would be fast.  Small matrices do not matter     */
static void warn_of_slow_groups(const struct model *m)
{
    static bool said;                                   /* a verb may open its model twice   */
    const struct chi_linear *slow = NULL;
    int64_t weights = 0;
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) {
            const struct chi_linear *l = m->all[i]->param[j].linear;
            if (!l || l->f32_only || l->kernel != l->encoding->portable || !fast_group(m->spec, l->encoding_name)) continue;
            slow = slow ? slow : l;
            weights += l->d_out * l->d_in;
        }
    if (said || weights < 1 << 20) return;
    long long fast = fast_group(m->spec, slow->encoding_name);
    said = true;
    warn("%.1f M weights (%s is the first) are %s in groups of %lld, which no backend is made for: the portable kernel serves, "
         "tens of times slower; groups of %lld are fast ([linear] group_size = %lld, or a multiple of it)",
         (double)weights / 1e6, slow->name, slow->encoding_name, (long long)slow->group, fast, fast);
}

/* ---- tensors ---------------------------------------------------------------------------- */

static void list_tensors(struct model *m)
{
    for (int64_t i = 0; i < m->n_all; i++) m->n_tensor += m->all[i]->n_param;
    m->tensor = xcalloc((size_t)m->n_tensor + 1, sizeof *m->tensor);
    int64_t t = 0;
    for (int64_t i = 0; i < m->n_all; i++) {
        const struct instance *in = m->all[i];
        for (int64_t j = 0; j < in->n_param; j++, t++) {
            const struct planned_param *p = &in->param[j];
            struct model_tensor *to = &m->tensor[t];
            *to = (struct model_tensor){ .n = p->n, .decay = p->decay, .manual = p->manual, .linear = p->linear,
                                         .held = &p->held };
            memcpy(to->shape, p->shape, sizeof to->shape);
            snprintf(to->name, sizeof to->name, "%s%s%s", in->name, *in->name ? "." : "", p->name);
            if (p->absent || !in->params) continue;
            to->w = (float *)(void *)(in->params + p->offset);
            to->g = in->grads ? (float *)(void *)(in->grads + p->offset) : NULL;
        }
    }
}

const struct model_tensor *model_tensor(const struct model *m, int64_t i)
{
    return i >= 0 && i < m->n_tensor ? &m->tensor[i] : NULL;
}

/* ---- memory ------------------------------------------------------------------------------ */

static float *rows_take(const struct model *m, int64_t copies, const char *what)
{
    return mem_take((size_t)(copies * m->max_rows * m->d) * sizeof(float), what);
}

static chi_status take_rows(struct model *m)
{
    bool train = m->mode == MODEL_TRAIN;
    m->x = rows_take(m, train ? copies_of_x(m) : 1, "the residual stream");
    m->mid = rows_take(m, copies_of_mid(m), "the residual stream");
    m->h = rows_take(m, 1, "normalised rows");
    m->y = rows_take(m, 1, "outputs of a layer");
    m->seg = mem_take((size_t)m->max_segs * sizeof *m->seg, "segments");
    m->stream = mem_take((size_t)m->max_segs * sizeof *m->stream, "segments");
    m->call_scratch = mem_take((size_t)m->scratch_bytes, "scratch");
    if (!m->x || !m->mid || !m->h || !m->y || !m->seg || !m->stream || !m->call_scratch) return CHI_ENOMEM;
    TRY(turns_take(m));
    if (!train) return CHI_OK;
    m->dx = rows_take(m, 1, "gradients of rows");
    m->dh = rows_take(m, 1, "gradients of rows");
    m->logits = mem_take((size_t)(HEAD_ROWS * m->vocab) * sizeof(float), "logits");
    if (!m->dx || !m->dh || !m->logits) return CHI_ENOMEM;
    if (m->spec->model.logit_soft_cap == 0) return CHI_OK;
    m->capped = mem_take((size_t)(HEAD_ROWS * m->vocab) * sizeof(float), "logits");
    return m->capped ? CHI_OK : CHI_ENOMEM;
}

static chi_status take_memory(struct model *m)
{
    struct need n = plan_needs(m);
    int64_t held = (int64_t)(linear_room_held() + adapters_room_held()) + pool_scratch_held();    /* taken over by this model */
    TRY(mem_check(plan_bytes(m) - held, m->mode == MODEL_TRAIN ? "training this model" : "running this model"));
    m->scratch_bytes = n.scratch;
    TRY(pool_scratch(n.scratch));
    TRY(linear_room(max_i64(m->max_rows, HEAD_ROWS), n.widest, n.heaviest, m->mode == MODEL_TRAIN));
    TRY(adapters_room(n.adapters));
    TRY(take_rows(m));
    m->params = mem_take((size_t)max_i64(m->n_floats, 16) * sizeof(float), "parameters");
    if (!m->params) return CHI_ENOMEM;
    if (m->mode == MODEL_TRAIN && !(m->grads = mem_take((size_t)m->n_floats * sizeof(float), "gradients")))
        return CHI_ENOMEM;
    int64_t at = 0;
    for (int64_t i = 0; i < m->n_all; i++) {
        struct instance *in = m->all[i];
        in->params = (unsigned char *)m->params + at;
        in->grads = m->grads ? (unsigned char *)m->grads + at : NULL;
        at += in->param_bytes;
        TRY(instance_ready(in));
    }
    return CHI_OK;
}

/* Weights that no cache holds want the kernels that are best with weights from memory       */
static void choose_by_place(struct model *m)
{
    if (!model_from_memory(m)) return;
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++)
            if (m->all[i]->param[j].linear) linear_from_memory(m->all[i]->param[j].linear, m->spec);
}

chi_status model_open(struct model **out, const struct spec *spec, int mode, int64_t max_rows, int64_t max_segs)
{
    struct model *m = *out = xcalloc(1, sizeof *m);
    *m = (struct model){ .spec = spec, .mode = mode, .max_rows = max_rows, .max_segs = min_i64(max_segs, max_rows),
                         .d = spec->model.hidden_size, .layers = spec->model.num_hidden_layers,
                         .vocab = spec->model.vocab_size };
    m->block = xcalloc((size_t)m->layers, sizeof *m->block);
    m->head_host = host_open(spec, "head");
    m->loss_host = host_open(spec, "objective");
    chi_status st = open_all(m);
    if (st == CHI_OK) choose_by_place(m);
    for (int64_t i = 0; i < m->n_all; i++) m->n_floats += m->all[i]->param_bytes / (int64_t)sizeof(float);
    if (st == CHI_OK && mode == MODEL_INFER) st = budget_check(m);
    if (st == CHI_OK && mode != MODEL_PLAN) st = take_memory(m);
    if (st == CHI_OK) {
        warn_of_idle_rules(m);
        warn_of_slow_groups(m);
        list_tensors(m);
        return CHI_OK;
    }
    model_close(m);
    *out = NULL;
    return st;
}

void model_close(struct model *m)
{
    if (!m) return;
    for (int64_t l = 0; l < m->layers; l++) {
        instance_close(&m->block[l].norms);
        instance_close(&m->block[l].mixer);
        instance_close(&m->block[l].ffn);
    }
    instance_close(&m->top);
    instance_close(&m->bottom);
    turns_close(m);
    void *block[] = { m->params, m->grads, m->x, m->mid, m->h, m->y, m->dx, m->dh, m->logits, m->capped, m->seg, m->stream,
                      m->call_scratch };
    for (int64_t i = 0; i < COUNT(block); i++) mem_free(block[i]);
    workspace_drop(&m->ws[0]);
    workspace_drop(&m->ws[1]);
    workspace_drop(&m->states);
    workspace_drop(&m->partial);
    host_close(m->head_host);
    host_close(m->loss_host);
    free(m->tensor);
    free(m->all);
    free(m->block);
    free(m);
}

const struct spec *model_spec(const struct model *m) { return m->spec; }
int64_t model_state_bytes(const struct model *m) { return m->state_bytes; }
int64_t model_max_rows(const struct model *m) { return m->max_rows; }
int64_t model_max_segs(const struct model *m) { return m->max_segs; }
float  *model_params(struct model *m) { return m->params; }
float  *model_grads(struct model *m) { return m->grads; }
int64_t model_param_floats(const struct model *m) { return m->n_floats; }

/* ---- weights ------------------------------------------------------------------------------- */

/* Linears whose bytes are wanted now: in training those of plain f32 wait for inference.     */
chi_status model_bind(struct model *m, double lambda)
{
    bool train = m->mode == MODEL_TRAIN;
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) {
            struct chi_linear *l = m->all[i]->param[j].linear;
            if (l && l->w && !(train && l->plain)) TRY(linear_bind(l, l->w, lambda));
        }
    m->stale = train;
    return CHI_OK;
}

void model_progress(struct model *m, double progress)
{
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++)
            if (m->all[i]->param[j].linear) linear_progress(m->all[i]->param[j].linear, progress);
}

void model_steer(struct model *m, double progress)
{
    for (int64_t i = 0; i < m->n_all; i++) adapters_steer(m->all[i], progress);
}

/* Values of one tensor to where they belong; w may be the file's own memory                  */
static chi_status set_tensor(struct model *m, int64_t t, const float *w)
{
    for (int64_t i = 0; i < m->n_all; i++) {
        struct instance *in = m->all[i];
        if (t >= in->n_param) {
            t -= in->n_param;
            continue;
        }
        const struct planned_param *p = &in->param[t];
        if (p->absent) return linear_bind(p->linear, w, 1);
        memcpy(in->params + p->offset, w, (size_t)p->n * sizeof *w);
        return CHI_OK;
    }
    return CHI_EBUG;
}

static const struct planned_param *planned(const struct model *m, int64_t t)
{
    int64_t i = 0;
    while (t >= m->all[i]->n_param) t -= m->all[i++]->n_param;
    return &m->all[i]->param[t];
}

chi_status model_init(struct model *m, uint64_t seed)
{
    for (int64_t t = 0; t < m->n_tensor; t++) {
        const struct planned_param *p = planned(m, t);
        if (m->tensor[t].w) {
            init_values(m->tensor[t].w, p, m->tensor[t].name, seed, m->spec->model.initializer_range);
            continue;
        }
        float *w = mem_take((size_t)p->n * sizeof *w, m->tensor[t].name);
        if (!w) return CHI_ENOMEM;
        init_values(w, p, m->tensor[t].name, seed, m->spec->model.initializer_range);
        chi_status st = set_tensor(m, t, w);
        mem_free(w);
        TRY(st);
    }
    return model_bind(m, 1);
}

/* Of the shape that the model wants                                                           */
static chi_status check_shape(const struct model_tensor *want, const char *path, const struct st_tensor *t)
{
    if (!t) return fail(CHI_EDATA, "%s has no tensor %s: it belongs to another model", path, want->name);
    int dims = 0;
    while (dims < 4 && want->shape[dims]) dims++;
    bool same = t->n_dim == dims;
    for (int d = 0; same && d < dims; d++) same = t->dim[d] == want->shape[d];
    if (!same)
        return fail(CHI_EDATA, "%s: %s has %lld values in %d dimensions, this configuration wants [%lld%s%lld]", path,
                    want->name, (long long)t->n, t->n_dim, (long long)want->shape[0], dims > 1 ? ", " : "",
                    (long long)(dims > 1 ? want->shape[1] : 0));
    return CHI_OK;
}

static chi_status load_tensor(struct model *m, int64_t i, const struct st_file *f)
{
    const struct st_tensor *t = st_find(f, m->tensor[i].name);
    const float *w;
    float *own;
    TRY(check_shape(&m->tensor[i], st_path(f), t));
    TRY(st_floats(f, t, &w, &own));
    chi_status st = set_tensor(m, i, w);
    mem_free(own);
    return st;
}

static chi_status known(const struct model *m, const char *path, const char *name)
{
    for (int64_t j = 0; j < m->n_tensor; j++)
        if (!strcmp(m->tensor[j].name, name)) return CHI_OK;
    return fail(CHI_EDATA, "%s: tensor %s is not part of this model", path, name);
}

static chi_status load_packed(struct model *m, int64_t i, const struct packed *p)
{
    const struct planned_param *to = planned(m, i);
    const struct packed_tensor *t = packed_find(p, m->tensor[i].name);
    if (to->absent) return linear_load(to->linear, t, m->spec->run.weights);   /* linear_choose() has found it */
    TRY(check_shape(&m->tensor[i], t ? t->path : packed_path(p), t ? t->t : NULL));
    if (t->t->dtype != ST_F32)
        return fail(CHI_EDATA, "%s: %s is encoded, wanted is F32", t->path, t->t->name);
    return set_tensor(m, i, t->t->data);
}

chi_status model_verify(const struct model *m, int level, bool *looked)
{
    const char **name = xcalloc((size_t)m->n_tensor, sizeof *name);
    for (int64_t i = 0; i < m->n_tensor; i++) name[i] = m->tensor[i].name;
    chi_status s = packed_verify(m->spec->packed, m->spec->registry, level, name, m->n_tensor, looked);
    free(name);
    return s;
}

chi_status model_load_packed(struct model *m)
{
    const struct packed *p = m->spec->packed;
    const struct packed_tensor *t;
    for (int64_t i = 0; (t = packed_at(p, i)); i++) TRY(known(m, t->path, t->t->name));
    TRY(model_verify(m, m->spec->run.verify, NULL));
    for (int64_t i = 0; i < m->n_tensor; i++) TRY(load_packed(m, i, p));
    return model_bind(m, 1);
}

chi_status model_load(struct model *m, const struct st_file *f)
{
    const struct st_tensor *t;
    for (int64_t i = 0; (t = st_at(f, i)); i++) TRY(known(m, st_path(f), t->name));
    for (int64_t i = 0; i < m->n_tensor; i++) TRY(load_tensor(m, i, f));
    return model_bind(m, 1);
}

void model_settle(struct model *m)
{
    for (int64_t i = 0; i < m->n_all; i++) {
        struct instance *in = m->all[i];
        if (!in->ops || !CHI_HAS(struct chi_layer_ops, in->ops, settle)) continue;
        struct crumb crumb = { in->name, in->part->component->name, "settle" };
        const struct crumb *was = crumb_set(&crumb);
        in->ops->settle(in->self, in->params, in->grads);
        crumb_set(was);
    }
}

bool model_meter(const struct model *m, int64_t i, const char **name, double *value)
{
    (void)m;
    return host_meter(i, name, value);
}
