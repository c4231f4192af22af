/* plan.c - what a network will take before it takes it, and what it is made of.
 *
 * A looped layer counts once as weights, once a turn as states, as bytes that a decode step
 * reads, and as arrays that backward reads (unless they are computed again).             */
#include <math.h>
#include <stdlib.h>

#include "adapter.h"
#include "core.h"
#include "gradient.h"
#include "network.h"
#include "pool.h"
#include "tune.h"

/* ---- memory ------------------------------------------------------------------------------ */

struct need plan_needs(const struct model *m)
{
    struct need n = { 4096, m->d, 0, 0 };
    int64_t rows = max_i64(m->max_rows, HEAD_ROWS);
    for (int64_t i = 0; i < m->n_all; i++) {
        const struct instance *in = m->all[i];
        n.scratch = max_i64(n.scratch, in->scratch_bytes);
        n.widest = max_i64(n.widest, in->widest);
        n.heaviest = max_i64(n.heaviest, in->heaviest);
        for (int64_t j = 0; j < in->n_param; j++) {
            const struct chi_linear *l = in->param[j].linear;
            if (!l) continue;
            n.scratch = max_i64(n.scratch, linear_scratch(l, rows));
            n.adapters = fmax(n.adapters, adapters_room_bytes(l, rows));
        }
    }
    return n;
}

static int64_t linears_bytes(const struct model *m)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) {
            const struct chi_linear *l = m->all[i]->param[j].linear;
            if (l) sum += linear_bytes(l) + linear_packed_bytes(l);
        }
    return sum;
}

/* The plan is counted in double: sizes that nobody has must not wrap into small ones.       */
enum { SEGMENT = 64 };                       /* rows of a segment, on average              */

static int64_t planned_segs(const struct model *m)
{
    return min_i64(m->max_segs, m->max_rows / SEGMENT + 1);
}

/* Arrays of a training step, or of an inference call                                        */
static double arrays_bytes(const struct model *m)
{
    double most[2] = { 0, 0 }, all = 0;
    bool keep = m->mode != MODEL_INFER && m->spec->train.recompute == RECOMPUTE_NONE;
    for (int64_t l = 0; l < m->layers; l++) {
        const struct instance *in[2] = { &m->block[l].mixer, &m->block[l].ffn };
        for (int s = 0; s < 2; s++) {
            double kept, others;
            instance_array_bytes(in[s], m->max_rows, planned_segs(m), &kept, &others);
            most[s] = fmax(most[s], others + (keep ? 0 : kept));
            all += keep ? kept * (looped(m, l) ? (double)m->loop.slots : 1) : 0;
        }
    }
    double kept = 0, others = 0;
    if (m->loop.length) instance_array_bytes(&m->loop.in, m->max_rows, planned_segs(m), &kept, &others);
    return all + most[0] + most[1] + kept + others;
}

/* Training: states that one layer's segments pass through                                   */
static double states_bytes(const struct model *m)
{
    int64_t most = 0;
    for (int64_t l = 0; m->mode != MODEL_INFER && l < m->layers; l++) {
        const struct instance *in[2] = { &m->block[l].mixer, &m->block[l].ffn };
        for (int s = 0; s < 2; s++)
            if (!(in[s]->part->component->caps & CHI_LAYER_NO_TRAIL)) most = max_i64(most, in[s]->state_bytes);
    }
    return (double)most * (double)planned_segs(m);
}

static double rows_bytes(const struct model *m)
{
    double row = 4.0 * (double)m->max_rows * (double)m->d;
    if (m->mode == MODEL_INFER) return (double)(4 + turns_rows(m)) * row;
    double copies = (double)(copies_of_x(m) + copies_of_mid(m) + turns_rows(m) + 4);
    return (copies + 1.0 / (double)norm_block(m->d)) * row + 4.0 * HEAD_ROWS * (double)m->vocab * (m->spec->model.logit_soft_cap > 0 ? 2 : 1);
}

/* Copies of all parameters: themselves, gradients, moments, sums of micro-batches           */
static double parameter_copies(const struct model *m)
{
    const struct train_options *o = &m->spec->train;
    if (m->mode == MODEL_INFER) return 1;
    int64_t copies = 2, micro = o->micro_batch ? min_i64(o->micro_batch, o->batch_size) : o->batch_size;
    if (m->spec->optimizer.component) {
        copies += ((const struct chi_optimizer_ops *)m->spec->optimizer.component->ops)->moments;
        copies += tree_levels(ceil_div(o->batch_size, max_i64(micro, 1)));
    }
    return (double)copies;
}

/* Of a model at work.  A model that trains is asked, too: bytes of plain linears count.     */
int64_t plan_bytes(const struct model *m)
{
    struct need n = plan_needs(m);
    double room = linear_room_bytes(max_i64(m->max_rows, HEAD_ROWS), n.widest, n.heaviest, m->mode != MODEL_INFER);
    double sum = 4 * parameter_copies(m) * (double)m->n_floats + (double)linears_bytes(m) + arrays_bytes(m)
               + states_bytes(m) + rows_bytes(m) + room + n.adapters + (double)n.scratch * (pool_size() + 1);
    return sum < 0x1p62 ? (int64_t)sum : (int64_t)1 << 62;
}

/* ---- counting -------------------------------------------------------------------------------- */

static int64_t instance_weight_bytes(const struct instance *in)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < in->n_param; i++) sum += weight_bytes(&in->param[i]);
    return sum;
}

bool model_from_memory(const struct model *m)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < m->n_all; i++) sum += instance_weight_bytes(m->all[i]);
    return tune_from_memory(sum);
}

/* By a token, on average                                                                        */
double instance_read_bytes(const struct instance *in)
{
    double sum = 0;
    for (int64_t i = 0; i < in->n_param; i++) sum += in->param[i].share * (double)weight_bytes(&in->param[i]);
    return sum;
}

/* Weights of linear maps that a token meets, on average; an adapter's parameters are nearly all of
 * that kind                                                                                       */
static double instance_products(const struct instance *in)
{
    double sum = 0;
    for (int64_t i = 0; i < in->n_param; i++)
        if (in->param[i].linear || in->param[i].adapter) sum += in->param[i].share * (double)in->param[i].n;
    return sum;
}

struct work instance_work(const struct instance *in, int64_t d, const struct call *c, bool back)
{
    double rows = (double)c->rows, row = 4.0 * (double)d * rows, times = back ? 2 : 1, kept = 0, others = 0;
    struct work w = { 0, times * (2 * instance_products(in) + (double)in->state_bytes) * rows };
    for (int64_t i = 0; i < in->n_param; i++) {
        const struct planned_param *p = &in->param[i];
        double met = fmin(1, p->share * rows), master = 4.0 * (double)p->n;
        bool plain = c->keep && (!p->linear || p->linear->plain);
        w.bytes += met * ((plain ? master : (double)weight_bytes(p)) + (back ? 2 * master : 0));
    }
    if (c->keep) instance_array_bytes(in, c->rows, c->n, &kept, &others);
    w.bytes += kept + 2.0 * (double)in->state_bytes * (double)c->n + (back ? 4 : 2) * row;
    return w;
}

/* Looping does its layers' work turns times; the embedding's is that of the head                 */
static int64_t flops_per_token(const struct model *m)
{
    double weights = 0;
    for (int64_t i = 0; i < m->n_all; i++) weights += instance_products(m->all[i]);
    for (int64_t l = 0; l < m->layers; l++)
        if (looped(m, l))
            weights += (double)(m->loop.turns - 1) * (instance_products(&m->block[l].mixer)
                                                      + instance_products(&m->block[l].ffn));
    return llround(2 * weights + (double)m->state_bytes);
}

void model_count(const struct model *m, struct model_counts *c)
{
    double active = 0, read = (double)m->state_bytes;
    *c = (struct model_counts){ .state_bytes = m->state_bytes };
    for (int64_t i = 0; i < m->n_all; i++)
        for (int64_t j = 0; j < m->all[i]->n_param; j++) {
            const struct planned_param *p = &m->all[i]->param[j];
            c->params += p->n;
            c->linear_params += p->linear ? p->n : 0;
            c->weight_bytes += weight_bytes(p);
            active += p->share * (double)p->n;
        }
    for (int64_t i = 0; i < m->n_all; i++) read += instance_read_bytes(m->all[i]);
    for (int64_t i = 0; i < m->spec->n_declared; i++)
        declared_count(m, m->spec->declared[i].section, &c->declared[i]);
    c->active_params = llround(active);
    c->train_bytes = plan_bytes(m);
    for (int64_t l = 0; l < m->layers; l++) {
        const struct instance *in[] = { &m->block[l].mixer, &m->block[l].ffn, &m->block[l].norms };
        int64_t runs = looped(m, l) ? m->loop.slots : 1;
        for (int s = 0; s < 3; s++) {
            double kept, others;
            instance_array_bytes(in[s], 1024, 1, &kept, &others);
            c->saved_bytes_per_row += runs * ((int64_t)kept / 1024);
            if (looped(m, l)) read += (double)(m->loop.turns - 1) * instance_read_bytes(in[s]);
        }
        c->saved_bytes_per_row += runs * m->d * 4;          /* between mixer and channel mixer */
    }
    c->saved_bytes_per_row += copies_of_x(m) * m->d * 4;
    c->read_bytes_per_token = llround(read);
    c->flops_per_token = flops_per_token(m);
    count_classes(m, c);
    count_turns(m, c);
}

static void describe_instance(const struct instance *in, int64_t turns, FILE *out)
{
    int64_t n = 0;
    char count[32], size[32], state[32], use[48];
    if (turns > 1) snprintf(use, sizeof use, "%s x%lld", in->part->component->name, (long long)turns);
    else snprintf(use, sizeof use, "%s", in->part->component->name);
    for (int64_t i = 0; i < in->n_param; i++) n += in->param[i].n;
    human_count(count, n);
    human_bytes(size, instance_weight_bytes(in));
    human_bytes(state, turns * in->state_bytes);
    fprintf(out, "  %-18s %-18s %10s  %10s  %10s\n", in->name, use, count, size, in->state_bytes ? state : "-");
}

/* Adapters by their sections: how many linears have one, and what it takes altogether         */
static void describe_adapters(const struct model *m, FILE *out)
{
    for (int64_t k = 0; k < m->spec->n_adapter; k++) {
        const struct part *part = m->spec->adapter[k];
        int64_t linears = 0, n = 0;
        char use[48], count[32], size[32];
        for (int64_t i = 0; i < m->n_all; i++)
            for (int64_t j = 0; j < m->all[i]->n_param; j++) {
                const struct chi_linear *l = m->all[i]->param[j].linear;
                for (int64_t a = 0; l && a < l->n_adapter; a++) {
                    if (l->adapter[a].part != part) continue;
                    linears++;
                    for (int64_t p = 0; p < l->adapter[a].n_param; p++) n += m->all[i]->param[l->adapter[a].first + p].n;
                }
            }
        if (!linears) continue;
        snprintf(use, sizeof use, "%s x%lld", part->component->name, (long long)linears);
        human_count(count, n);
        human_bytes(size, 4 * n);
        fprintf(out, "  %-18s %-18s %10s  %10s  %10s  (counted above)\n", part->section, use, count, size, "-");
    }
}

chi_status model_describe(const struct spec *spec, FILE *out, struct model_counts *c)
{
    struct model *m;
    int64_t micro = spec->train.micro_batch ? spec->train.micro_batch : spec->train.batch_size;
    int64_t rows = max_i64(1, micro * spec->train.seq_len);
    TRY(model_open(&m, spec, MODEL_PLAN, rows, rows));
    model_count(m, c);
    if (out) {
        char count[32], size[32];
        fprintf(out, "  %-18s %-18s %10s  %10s  %10s\n", "instance", "component", "parameters", "weights", "state");
        human_count(count, m->embed->d_out * m->d);
        human_bytes(size, linear_bytes(m->embed));
        fprintf(out, "  %-18s %-18s %10s  %10s  %10s\n", m->head == m->embed ? "embed (and head)" : "embed",
                m->embed->rule->quantizer.component->name, count, size, "-");
        human_bytes(size, linear_bytes(m->head));
        if (m->head != m->embed)
            fprintf(out, "  %-18s %-18s %10s  %10s  %10s\n", "lm_head", m->head->rule->quantizer.component->name,
                    count, size, "-");
        for (int64_t l = 0; l < m->layers; l++) {
            int64_t turns = looped(m, l) ? m->loop.turns : 1;
            describe_instance(&m->block[l].mixer, turns, out);
            describe_instance(&m->block[l].ffn, turns, out);
        }
        if (m->loop.length) describe_instance(&m->loop.in, 1, out);
        describe_adapters(m, out);
    }
    model_close(m);
    return CHI_OK;
}
